//! What the two folders of hostile files share: the index and the verdict.

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// What a reader must do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Expect {
    Refuse,
    Load,
    RefuseOrLoad,
}

#[derive(Deserialize)]
struct Index<C> {
    format: String,
    files: Vec<C>,
}

/// The cases that `index.json` in a folder lists.
///
/// # Errors
/// An index that is missing or not of this format.
pub(super) fn cases<C: DeserializeOwned>(folder: &Path, format: &str) -> anyhow::Result<Vec<C>> {
    let path = folder.join("index.json");
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let index: Index<C> =
        serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    ensure!(
        index.format == format,
        "{}: format is {:?}, wanted {format:?}",
        path.display(),
        index.format
    );
    Ok(index.files)
}

/// Whether a reader did what it must.
pub(super) fn judge(expect: Expect, given: Result<(), String>) -> Result<(), String> {
    match (expect, given) {
        (Expect::Refuse, Ok(())) => Err("loaded, wanted a refusal".to_owned()),
        (Expect::Load, Err(error)) => Err(format!("refused, wanted it to load: {error}")),
        _ => Ok(()),
    }
}

/// A panic is a failed case, not the end of the run.
pub(super) fn without_panic<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| Err("panicked".to_owned()))
}
