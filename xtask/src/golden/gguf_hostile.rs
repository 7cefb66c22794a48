//! `mx-gguf-hostile/1`: GGUF files that a reader or a model loader must refuse, and controls that must load.

use std::path::Path;

use mx_runtime::model::{LoadOptions, Model};
use mx_runtime::weights::{Gguf, GgufArray, GgufValue, TensorStore};
use serde::Deserialize;
use serde_json::Value;

use super::Tally;
use super::hostile::{self, Expect, judge, without_panic};

const FORMAT: &str = "mx-gguf-hostile/1";

#[derive(Deserialize)]
struct Case {
    file: String,
    expect: Expect,
    stage: Option<Stage>,
    metadata: Option<serde_json::Map<String, Value>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Container,
    Model,
}

/// Checks every file that `index.json` in the folder `path` lists.
///
/// # Errors
/// An index that is missing or not of this format.
pub(super) fn run(path: &Path) -> anyhow::Result<Tally> {
    let mut tally = Tally::new("gguf_hostile");
    for case in &hostile::cases::<Case>(path, FORMAT)? {
        let file = path.join(&case.file);
        // The container stage of a file that only the model loader must refuse: it opens.
        let container = match (case.expect, case.stage) {
            (Expect::Refuse, Some(Stage::Model)) => Expect::Load,
            (expect, _) => expect,
        };
        let opened = without_panic(|| open_container(&file, case));
        tally.check(
            &case.file,
            opened.and_then(|opened| judge(container, opened)),
        );
        let at_model_stage = container != Expect::Refuse;
        if at_model_stage {
            let name = format!("{} (model)", case.file);
            let loaded = without_panic(|| Ok(load_model(&file)));
            tally.check(&name, loaded.and_then(|loaded| judge(case.expect, loaded)));
        }
    }
    Ok(tally)
}

/// The model stage: loads the file as a model, weights, tokenizer and chat template.
fn load_model(file: &Path) -> Result<(), String> {
    Model::load(file, &LoadOptions::default())
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// The container stage: opens the file and reads all of it. The inner result is what the reader says.
fn open_container(file: &Path, case: &Case) -> Result<Result<(), String>, String> {
    let gguf = match Gguf::open(file) {
        Ok(gguf) => gguf,
        Err(error) => return Ok(Err(error.to_string())),
    };
    for name in gguf.names() {
        // A type that cannot be used as weights is a typed error, which is fine here; a panic is not.
        let _ = gguf
            .tensor(name)
            .map(|tensor| tensor.map(|tensor| tensor.to_f32()));
    }
    for (key, wanted) in case.metadata.iter().flatten() {
        let given = gguf.metadata().get(key).map(to_json);
        if given.as_ref() != Some(wanted) {
            return Err(format!("metadata {key:?} is {given:?}, wanted {wanted}"));
        }
    }
    Ok(Ok(()))
}

/// As the index writes values: 64-bit integers are strings.
fn to_json(value: &GgufValue) -> Value {
    match value {
        GgufValue::U64(value) => value.to_string().into(),
        GgufValue::I64(value) => value.to_string().into(),
        GgufValue::F32(value) => (*value).into(),
        GgufValue::F64(value) => (*value).into(),
        GgufValue::Bool(value) => (*value).into(),
        GgufValue::String(value) => value.as_str().into(),
        GgufValue::Array(array) => array_to_json(array),
        other => other
            .as_integer()
            .and_then(|value| i64::try_from(value).ok())
            .into(),
    }
}

fn array_to_json(array: &GgufArray) -> Value {
    match array {
        GgufArray::U64(values) => values.iter().map(u64::to_string).collect(),
        GgufArray::I64(values) => values.iter().map(i64::to_string).collect(),
        GgufArray::F32(values) => values.iter().copied().collect(),
        GgufArray::F64(values) => values.iter().copied().collect(),
        GgufArray::Bool(values) => values.iter().copied().collect(),
        GgufArray::String(values) => values.iter().collect(),
        GgufArray::Array(arrays) => arrays.iter().map(array_to_json).collect(),
        other => {
            let narrow =
                |values: Vec<i128>| values.into_iter().map(|value| i64::try_from(value).ok());
            other
                .to_integers()
                .map(narrow)
                .into_iter()
                .flatten()
                .collect()
        }
    }
}
