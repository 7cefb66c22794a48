//! `mx-safetensors-hostile/1`: safetensors files that must be refused, and controls that must load.

use std::path::Path;

use mx_runtime::weights::{Safetensors, TensorStore};
use serde::Deserialize;

use super::Tally;
use super::hostile::{self, Expect, judge, without_panic};

const FORMAT: &str = "mx-safetensors-hostile/1";

#[derive(Deserialize)]
struct Case {
    file: String,
    expect: Expect,
}

/// Checks every file that `index.json` in the folder `path` lists.
///
/// # Errors
/// An index that is missing or not of this format.
pub(super) fn run(path: &Path) -> anyhow::Result<Tally> {
    let mut tally = Tally::new("safetensors_hostile");
    for case in &hostile::cases::<Case>(path, FORMAT)? {
        let file = path.join(&case.file);
        let opened = without_panic(|| Ok(open(&file)));
        let result = opened.and_then(|opened| judge(case.expect, opened));
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
