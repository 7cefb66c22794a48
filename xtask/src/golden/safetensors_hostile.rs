//! `mx-safetensors-hostile/1`: safetensors files that must be refused, and controls that must load.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, ensure};
use mx_runtime::weights::{Safetensors, TensorStore};
use serde::Deserialize;

use super::Tally;

const FORMAT: &str = "mx-safetensors-hostile/1";

#[derive(Deserialize)]
struct Index {
    format: String,
    files: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    expect: Expect,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Refuse,
    Load,
    RefuseOrLoad,
}

/// Checks every file that `index.json` in the folder `path` lists.
///
/// # Errors
/// An index that is missing or not of this format.
pub(super) fn run(path: &Path) -> anyhow::Result<Tally> {
    let index_path = path.join("index.json");
    let text = std::fs::read(&index_path).with_context(|| index_path.display().to_string())?;
    let index: Index =
        serde_json::from_slice(&text).with_context(|| index_path.display().to_string())?;
    ensure!(
        index.format == FORMAT,
        "{}: format is {:?}, wanted {FORMAT:?}",
        index_path.display(),
        index.format
    );
    let mut tally = Tally::new("safetensors_hostile");
    for case in &index.files {
        let file = path.join(&case.file);
        let opened = catch_unwind(AssertUnwindSafe(|| open(&file)));
        let result = match opened {
            Ok(opened) => judge(case.expect, opened),
            Err(_) => Err("panicked".to_owned()),
        };
        tally.check(&case.file, result);
    }
    Ok(tally)
}

/// Opens the file and reads every tensor of it.
fn open(file: &Path) -> Result<(), String> {
    let store = Safetensors::open(file).map_err(|error| error.to_string())?;
    for name in store.names() {
        // A dtype that cannot be used as weights is a typed error, which is fine here; a panic is not.
        let _ = store
            .tensor(name)
            .map(|tensor| tensor.map(|tensor| tensor.to_f32()));
    }
    Ok(())
}

fn judge(expect: Expect, given: Result<(), String>) -> Result<(), String> {
    match (expect, given) {
        (Expect::Refuse, Ok(())) => Err("loaded, wanted a refusal".to_owned()),
        (Expect::Load, Err(error)) => Err(format!("refused, wanted it to load: {error}")),
        _ => Ok(()),
    }
}
