//! Tiny models: logits of prefixes, hidden states, greedy runs, ragged batches and steering through the hooks.

use super::compare::{Tolerance, argmax, count, floats, ids, list, number, same_tokens};
use super::{Tally, engines};
use anyhow::Context;
use mx_runtime::config::ConfigError;
use mx_runtime::device::DeviceId;
use mx_runtime::engine::{Engine, Row, StepOutput, Want};
use mx_runtime::error::LoadError;
use mx_runtime::files::ModelFiles;
use mx_runtime::hooks::{Capture, Captured, Edit, HookPlan, HookPoint, TokenClass};
use mx_runtime::session::{Cancel, Session};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Runs the golden of one folder.
///
/// # Errors
/// When the golden itself cannot be read.
pub(super) fn run(folder: &Path, device: DeviceId) -> anyhow::Result<Vec<Tally>> {
    let mut tally = Tally::new("tiny_models");
    let name = folder_name(folder);
    let golden = read_json(&folder.join("golden.json"))?;
    match ModelFiles::open(folder) {
        Err(LoadError::Config(ConfigError::Architecture { given, .. })) => {
            tally.skip(&name, &format!("architecture {given} is not built yet"));
        }
        Err(error) => tally.check(&name, Err(error.to_string())),
        Ok(files) => {
            check_newer_dialect(folder, &files, &name, &mut tally);
            for (engine_name, engine) in engines::of(&files, device) {
                let name = format!("{engine_name} {name}");
                match engine {
                    Ok(engine) => check_engine(engine, &golden, &name, &mut tally)?,
                    Err(error) => tally.check(&name, Err(error)),
                }
            }
        }
    }
    Ok(vec![tally])
}

/// `config_v5.json` describes the same model.
fn check_newer_dialect(folder: &Path, files: &ModelFiles, name: &str, tally: &mut Tally) {
    let Ok(text) = std::fs::read_to_string(folder.join("config_v5.json")) else {
        return;
    };
    let result = match mx_runtime::config::from_json(&text, "config_v5.json") {
        Ok(newer) if newer == *files.config() => Ok(()),
        Ok(newer) => Err(format!("{newer:?}, config.json gives {:?}", files.config())),
        Err(error) => Err(error.to_string()),
    };
    tally.check(&format!("{name}/config_v5"), result);
}

/// Logits after the prompt, the tokens that follow, and the logits after the last of them.
type Generated = (Vec<f32>, Vec<u32>, Vec<f32>);

/// Every case of a golden on one engine.
pub(super) fn check_engine(
    engine: Arc<dyn Engine>,
    golden: &Value,
    name: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let run = Run {
        engine,
        tolerance: Tolerance {
            abs: 1e-4,
            rel: 1e-4,
        },
        name,
    };
    run.prefixes(golden, tally)?;
    run.greedy(golden, tally)?;
    run.hidden(golden, tally)?;
    run.ragged_batch(golden, tally)?;
    run.steering(golden, tally)
}

struct Run<'a> {
    engine: Arc<dyn Engine>,
    tolerance: Tolerance,
    name: &'a str,
}

impl Run<'_> {
    fn session(&self, plan: HookPlan) -> Session {
        Session::new(Arc::clone(&self.engine)).with_hooks(Arc::new(plan))
    }

    fn plan(&self, edits: Vec<Edit>, captures: Vec<Capture>) -> Result<HookPlan, String> {
        HookPlan::new(edits, captures, self.engine.config()).map_err(|e| e.to_string())
    }

    /// Logits after a prefill, and `steps` greedy tokens with the logits after the last of them.
    fn generate(&self, plan: HookPlan, prompt: &[u32], steps: usize) -> Result<Generated, String> {
        let text = |e: mx_runtime::engine::EngineError| e.to_string();
        let mut session = self.session(plan);
        let output = session.prefill(prompt, &Cancel::new()).map_err(text)?;
        let first = output.logits(0).last().ok_or("no logits")?.to_vec();
        let (mut tokens, mut logits) = (Vec::new(), first.clone());
        for _ in 0..steps {
            let token = argmax(&logits);
            tokens.push(token);
            let output = session.step(&[token], Want::Last).map_err(text)?;
            logits = output.logits(0).last().ok_or("no logits")?.to_vec();
        }
        Ok((first, tokens, logits))
    }

    /// One forward pass over the whole prompt, and a separate prefill of each prefix in uneven chunks.
    fn prefixes(&self, golden: &Value, tally: &mut Tally) -> anyhow::Result<()> {
        for (p, prompt) in list(golden, "prompts")?.iter().enumerate() {
            let input = ids(&prompt["input_ids"])?;
            let mut sequence = self.engine.new_sequence();
            let mut output = StepOutput::new();
            let row = Row {
                sequence: &mut sequence,
                tokens: &input,
                want: Want::All,
                hooks: None,
            };
            let whole = self
                .engine
                .step(&mut [row], &mut output)
                .map_err(|e| e.to_string());
            for (length, expected) in list(prompt, "prefix_lengths")?
                .iter()
                .zip(list(prompt, "logits")?)
            {
                let length = length.as_u64().context("prefix length")? as usize;
                let expected = floats(expected)?;
                let case = |how: &str| format!("{}/prompt {p}/{length} tokens/{how}", self.name);
                let line = output.logits(0).get(length - 1).unwrap_or_default();
                let result = whole
                    .clone()
                    .and_then(|()| self.tolerance.check(line, &expected));
                tally.check(&case("one pass"), result);
                for chunk in [1, 3, 256] {
                    let mut session = self.session(HookPlan::default()).with_prefill_chunk(chunk);
                    let result = session
                        .prefill(&input[..length], &Cancel::new())
                        .map_err(|e| e.to_string())
                        .and_then(|output| {
                            let line = output.logits(0).last().unwrap_or_default();
                            self.tolerance.check(line, &expected)
                        });
                    tally.check(&case(&format!("chunks of {chunk}")), result);
                }
            }
        }
        Ok(())
    }

    fn greedy(&self, golden: &Value, tally: &mut Tally) -> anyhow::Result<()> {
        for (p, prompt) in list(golden, "prompts")?.iter().enumerate() {
            let expected = ids(&prompt["greedy"])?;
            let result = self
                .generate(
                    HookPlan::default(),
                    &ids(&prompt["input_ids"])?,
                    expected.len(),
                )
                .and_then(|(_, tokens, _)| same_tokens(&tokens, &expected));
            tally.check(&format!("{}/prompt {p}/greedy", self.name), result);
        }
        let after = &golden["after_greedy"];
        let prompt = &list(golden, "prompts")?[count(after, "prompt")?];
        let input = ids(&prompt["input_ids"])?;
        let steps = count(after, "consumed")? - input.len();
        let expected = floats(&after["logits"])?;
        let result = self
            .generate(HookPlan::default(), &input, steps)
            .and_then(|(_, _, logits)| self.tolerance.check(&logits, &expected));
        tally.check(&format!("{}/after greedy", self.name), result);
        Ok(())
    }

    /// Hidden states by captures; the prompt goes in two chunks, so captures are joined over steps too.
    fn hidden(&self, golden: &Value, tally: &mut Tally) -> anyhow::Result<()> {
        let hidden = &golden["hidden"];
        let prompt = &list(golden, "prompts")?[count(hidden, "prompt")?];
        let input = ids(&prompt["input_ids"])?;
        let layers = self.engine.config().layers;
        let mut wanted: Vec<(HookPoint, &Value)> = list(hidden, "resid_pre")?
            .iter()
            .enumerate()
            .map(|(layer, rows)| (HookPoint::ResidPre(layer), rows))
            .collect();
        wanted.push((HookPoint::ResidPost(layers - 1), &hidden["resid_post_last"]));
        wanted.push((HookPoint::Final, &hidden["final_norm"]));
        let captures = wanted
            .iter()
            .map(|&(point, _)| Capture {
                point,
                tokens: TokenClass::All,
            })
            .collect();
        let captured = self.plan(vec![], captures).and_then(|plan| {
            let mut session = self.session(plan).with_prefill_chunk(input.len() / 2 + 1);
            let output = session
                .prefill(&input, &Cancel::new())
                .map_err(|e| e.to_string())?;
            Ok(output.take_captures())
        });
        for (point, rows) in wanted {
            let expected = rows
                .as_array()
                .context("rows of a hidden state")?
                .iter()
                .map(floats)
                .collect::<anyhow::Result<Vec<_>>>()?
                .concat();
            let result = captured
                .clone()
                .and_then(|captured| self.tolerance.check(&joined(&captured, point), &expected));
            tally.check(&format!("{}/{point}", self.name), result);
        }
        Ok(())
    }

    /// The rows of a left-padded batch, as the ragged batch that they are here.
    fn ragged_batch(&self, golden: &Value, tally: &mut Tally) -> anyhow::Result<()> {
        let batch = &golden["left_padded_batch"];
        let mut rows = Vec::new();
        for (tokens, mask) in list(batch, "input_ids")?
            .iter()
            .zip(list(batch, "attention_mask")?)
        {
            let keep = ids(mask)?;
            let tokens = ids(tokens)?.into_iter().zip(keep);
            rows.push(
                tokens
                    .filter(|(_, keep)| *keep == 1)
                    .map(|(t, _)| t)
                    .collect::<Vec<_>>(),
            );
        }
        let mut sequences: Vec<_> = rows.iter().map(|_| self.engine.new_sequence()).collect();
        let mut output = StepOutput::new();
        let mut step: Vec<Row<'_>> = sequences
            .iter_mut()
            .zip(&rows)
            .map(|(sequence, tokens)| Row {
                sequence,
                tokens,
                want: Want::Last,
                hooks: None,
            })
            .collect();
        let stepped = self
            .engine
            .step(&mut step, &mut output)
            .map_err(|e| e.to_string());
        for (row, expected) in list(batch, "last_logits")?.iter().enumerate() {
            let expected = floats(expected)?;
            let line = output.logits(row).last().unwrap_or_default();
            let result = stepped
                .clone()
                .and_then(|()| self.tolerance.check(line, &expected));
            tally.check(&format!("{}/ragged batch/row {row}", self.name), result);
        }
        Ok(())
    }

    fn steering(&self, golden: &Value, tally: &mut Tally) -> anyhow::Result<()> {
        let steering = &golden["steering"];
        let prompt = &list(golden, "prompts")?[count(steering, "prompt")?];
        let input = ids(&prompt["input_ids"])?;
        let layer = count(steering, "layer")?;
        let strength = number(steering, "strength")?;
        let vector = floats(&steering["vector"])?;
        let point_of = |site: &str| match site {
            "resid_pre" => Ok(HookPoint::ResidPre(layer)),
            "resid_mid" => Ok(HookPoint::ResidMid(layer)),
            "resid_post" => Ok(HookPoint::ResidPost(layer)),
            other => anyhow::bail!("steering site {other}"),
        };
        for case in list(steering, "cases")? {
            let site = case["site"].as_str().context("site")?;
            let class = case["tokens"].as_str().context("token class")?;
            let tokens: TokenClass = serde_json::from_value(case["tokens"].clone())?;
            let edit = Edit::add(point_of(site)?, vector.clone(), strength).at(tokens);
            let name = format!("{}/steering {site} {class}", self.name);
            let greedy = ids(&case["greedy"])?;
            self.steered(
                edit,
                &input,
                &floats(&case["next_logits"])?,
                &greedy,
                &name,
                tally,
            );
        }
        let operators = &steering["operators"];
        let point = HookPoint::ResidPre(layer);
        let clamp_value = number(operators, "clamp_value")?;
        for (name, edit) in [
            ("ablate", Edit::ablate(point, &vector)),
            ("clamp", Edit::clamp(point, &vector, clamp_value)),
            (
                "add_renorm",
                Edit::add(point, vector.clone(), strength).keeping_norm(),
            ),
        ] {
            let expected = floats(&operators[name])?;
            let name = format!("{}/operator {name}", self.name);
            self.steered(edit, &input, &expected, &[], &name, tally);
        }
        Ok(())
    }

    /// A steered run, alone and beside an unsteered neighbour in the same batch.
    fn steered(
        &self,
        edit: Edit,
        input: &[u32],
        expected: &[f32],
        greedy: &[u32],
        name: &str,
        tally: &mut Tally,
    ) {
        let result = self
            .plan(vec![edit], vec![])
            .and_then(|plan| self.generate(plan, input, greedy.len()));
        let logits = result
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|(first, _, _)| self.tolerance.check(first, expected));
        tally.check(&format!("{name}/logits"), logits);
        if !greedy.is_empty() {
            let tokens = result.and_then(|(_, tokens, _)| same_tokens(&tokens, greedy));
            tally.check(&format!("{name}/greedy"), tokens);
        }
    }
}

/// The rows captured at `point`, in the order of their positions.
pub(super) fn joined(captured: &[Captured], point: HookPoint) -> Vec<f32> {
    let mut parts: Vec<&Captured> = captured.iter().filter(|c| c.point == point).collect();
    parts.sort_by_key(|c| c.first_position);
    parts
        .iter()
        .flat_map(|c| c.values.iter().copied())
        .collect()
}

/// A JSON file.
pub(super) fn read_json(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// The last part of a path, for reports.
pub(super) fn folder_name(folder: &Path) -> String {
    folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
