//! Whole GGUF models: logits, greedy runs, tokenizer, and the golden of the checkpoint they were made from.

use super::compare::{Tolerance, argmax, count, ids, number, same_tokens};
use super::tiny_model::{check_engine, folder_name, read_json};
use super::{Tally, engines, tokenizer};
use anyhow::Context;
use base64::Engine as _;
use mx_runtime::config::ConfigError;
use mx_runtime::device::DeviceId;
use mx_runtime::engine::{Engine, Want};
use mx_runtime::error::LoadError;
use mx_runtime::files::ModelFiles;
use mx_runtime::session::{Cancel, Session};
use mx_runtime::tokenizer::{Specials, Tokenizer};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Runs the golden of one folder.
///
/// # Errors
/// When the golden itself cannot be read.
pub(super) fn run(folder: &Path, device: DeviceId) -> anyhow::Result<Vec<Tally>> {
    let mut tally = Tally::new("gguf_models");
    let name = folder_name(folder);
    let golden = read_json(&folder.join("golden.json"))?;
    let path = folder.join("model.gguf");
    check_tokenizer(&path, &golden, &name, &mut tally)?;
    let files = match ModelFiles::open(&path) {
        Ok(files) => files,
        Err(LoadError::Config(ConfigError::Architecture { given, .. })) => {
            tally.skip(&name, &format!("architecture {given} is not built yet"));
            return Ok(vec![tally]);
        }
        Err(error) => {
            tally.check(&name, Err(error.to_string()));
            return Ok(vec![tally]);
        }
    };
    for (engine_name, engine) in engines::of(&files, device) {
        let name = format!("{engine_name} {name}");
        match engine {
            Err(error) => tally.check(&name, Err(error)),
            Ok(engine) => {
                check_logits(&engine, &golden, &name, &mut tally)?;
                check_origin(&engine, &golden, folder, &name, &mut tally)?;
            }
        }
    }
    Ok(vec![tally])
}

/// The tokenizer rebuilt from the metadata; it does not depend on the architecture.
fn check_tokenizer(
    path: &Path,
    golden: &Value,
    name: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let Some(cases) = golden["tokenizer"].get("cases").and_then(Value::as_array) else {
        return Ok(());
    };
    let loaded = tokenizer::load(path);
    for case in cases {
        let text = case["text"].as_str().context("a case without text")?;
        let expected = ids(&case["ids"])?;
        let result = match &loaded {
            Ok(tokenizer) => tokenizer
                .encode(text, Specials::AsText)
                .map_err(|e| e.to_string())
                .and_then(|ids| same_tokens(&ids, &expected)),
            Err(error) => Err(format!("{error:#}")),
        };
        tally.check(&format!("{name}/tokens of {text:?}"), result);
    }
    Ok(())
}

fn check_logits(
    engine: &Arc<dyn Engine>,
    golden: &Value,
    name: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let input = ids(&golden["ids"])?;
    let vocab = count(golden, "vocab")?;
    let expected = base64_floats(&golden["logits"])?;
    let tolerance = Tolerance {
        abs: number(&golden["tolerance"], "f32_abs")?,
        rel: number(&golden["tolerance"], "f32_rel")?,
    };
    let mut session = Session::new(Arc::clone(engine));
    let output = session.step(&input, Want::All);
    for (index, position) in ids(&golden["positions"])?.into_iter().enumerate() {
        let expected = &expected[index * vocab..(index + 1) * vocab];
        let result = match &output {
            Err(error) => Err(error.to_string()),
            Ok(output) => {
                let line = output.logits(0).get(position as usize).unwrap_or_default();
                tolerance.check(line, expected)
            }
        };
        tally.check(&format!("{name}/logits at {position}"), result);
    }
    if let Ok(output) = &output {
        let best: Vec<u32> = output.logits(0).iter().map(argmax).collect();
        let gaps: Vec<f32> = super::compare::floats(&golden["top2_gap_all"])?;
        let expected = ids(&golden["argmax_all"])?;
        let differs = (0..expected.len()).find(|&i| gaps[i] > 1e-3 && best[i] != expected[i]);
        let result = match differs {
            None => Ok(()),
            Some(i) => Err(format!(
                "position {i}: {}, expected {}",
                best[i], expected[i]
            )),
        };
        tally.check(&format!("{name}/arg-max of every position"), result);
    }
    if let Some(greedy) = golden.get("greedy").filter(|greedy| greedy.is_object()) {
        let expected = ids(&greedy["tokens"])?;
        let result = greedy_tokens(engine, &ids(&greedy["prompt_ids"])?, expected.len())
            .and_then(|tokens| same_tokens(&tokens, &expected));
        tally.check(&format!("{name}/greedy"), result);
    }
    Ok(())
}

fn greedy_tokens(
    engine: &Arc<dyn Engine>,
    prompt: &[u32],
    count: usize,
) -> Result<Vec<u32>, String> {
    let mut session = Session::new(Arc::clone(engine));
    let mut tokens = Vec::new();
    let output = session
        .prefill(prompt, &Cancel::new())
        .map_err(|e| e.to_string())?;
    let mut next = argmax(output.logits(0).last().ok_or("no logits")?);
    while tokens.len() < count {
        tokens.push(next);
        let output = session
            .step(&[next], Want::Last)
            .map_err(|e| e.to_string())?;
        next = argmax(output.logits(0).last().ok_or("no logits")?);
    }
    Ok(tokens)
}

/// The golden of the checkpoint with the same weights holds here too, unless the file has lost something.
fn check_origin(
    engine: &Arc<dyn Engine>,
    golden: &Value,
    folder: &Path,
    name: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let Some(origin) = golden.get("weights_of").and_then(Value::as_str) else {
        return Ok(());
    };
    let case = format!("{name}/golden of {origin}");
    if golden
        .get("logits_alternative")
        .is_some_and(|alternative| !alternative.is_null())
    {
        tally.skip(
            &case,
            "the GGUF describes another model than the checkpoint",
        );
        return Ok(());
    }
    // gguf/NAME/golden.json names a folder beside gguf/.
    let root = folder
        .parent()
        .and_then(Path::parent)
        .context("no folder above")?;
    let path = root.join(origin).join("golden.json");
    if !path.exists() {
        tally.skip(&case, "not in this folder");
        return Ok(());
    }
    check_engine(Arc::clone(engine), &read_json(&path)?, &case, tally)
}

/// Little-endian f32 in base64.
fn base64_floats(value: &Value) -> anyhow::Result<Vec<f32>> {
    let text = value.as_str().context("base64 text")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text)?;
    Ok(bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect())
}
