//! Small tokenizers read from `tokenizer.json`.

use super::Tally;
use super::tokenizer::round_trip;
use anyhow::Context;
use mx_runtime::tokenizer::{BpeTokenizer, Tokenizer};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Golden {
    vocab_size: usize,
    strings: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
    #[serde(default)]
    ids_specials_as_text: Option<Vec<u32>>,
}

/// Runs the golden of one folder, which holds `golden.json` beside the tokenizer's files.
///
/// # Errors
/// When the golden or the tokenizer cannot be read.
pub(super) fn run(folder: &Path) -> anyhow::Result<Tally> {
    let path = folder.join("golden.json");
    let file = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let golden: Golden = serde_json::from_slice(&file)?;
    let tokenizer = BpeTokenizer::from_dir(folder)?;
    let mut tally = Tally::new("tiny_tokenizers");
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let size = match tokenizer.vocab_size() == golden.vocab_size {
        true => Ok(()),
        false => Err(format!(
            "found {}, wanted {}",
            tokenizer.vocab_size(),
            golden.vocab_size
        )),
    };
    tally.check(&format!("{name}: vocabulary size"), size);
    for Case {
        text,
        ids,
        decoded,
        ids_specials_as_text,
    } in &golden.strings
    {
        let as_text = ids_specials_as_text.as_ref().unwrap_or(ids);
        let result = round_trip(&tokenizer, text, ids, as_text, decoded);
        tally.check(&format!("{name}: {text:?}"), result);
    }
    Ok(tally)
}
