//! The hostile GGUF files at the container stage.

use mx_runtime::weights::{Gguf, GgufArray, GgufValue, TensorStore};
use serde_json::Value;

use crate::allocation::peak;
use crate::{data, json};

#[test]
fn each_file_is_refused_for_its_reason_or_loads() {
    let index = json("gguf/hostile/index.json");
    assert_eq!(index["format"], "mx-gguf-hostile/1");
    let mut refused = 0;
    for case in index["files"].as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let path = data("gguf/hostile").join(file);
        let (result, bytes) = peak(|| Gguf::open(&path));
        assert!(bytes < 500_000, "{file}: {bytes} bytes held");
        if case["expect"] == "refuse" && case["stage"] == "container" {
            let error = result.expect_err(file);
            // A cut shows as soon as any count or length no longer fits.
            let cut = ["truncated", "count_exceeds_file", "length_exceeds_file"];
            let same = case["kind"] == error.kind()
                || (case["kind"] == "truncated" && cut.contains(&error.kind()));
            assert!(
                same,
                "{file}: {} instead of {}: {error}",
                error.kind(),
                case["kind"]
            );
            assert!(
                error.to_string().contains(file),
                "{file} is not named in: {error}"
            );
            refused += 1;
        } else {
            let gguf = result.unwrap_or_else(|error| panic!("{file}: {error}"));
            for name in gguf.names() {
                assert!(
                    !gguf
                        .tensor(name)
                        .unwrap()
                        .unwrap()
                        .to_f32()
                        .unwrap()
                        .is_empty()
                );
            }
            if let Some(metadata) = case["metadata"].as_object() {
                check_metadata(&gguf, metadata);
            }
        }
    }
    assert!(refused >= 28, "{refused} refused");
}

fn check_metadata(gguf: &Gguf, wanted: &serde_json::Map<String, Value>) {
    for (key, wanted) in wanted {
        let value = gguf
            .metadata()
            .get(key)
            .unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!(&to_json(value), wanted, "{key}");
        assert!(
            key.starts_with("test.arr") || key[5..] == *short_type(value),
            "{key}: {}",
            value.type_name()
        );
    }
}

fn short_type(value: &GgufValue) -> &'static str {
    match value {
        GgufValue::String(text) if text.is_empty() => "empty",
        GgufValue::String(_) => "str",
        other => other.type_name(),
    }
}

/// As in the index: 64-bit integers are strings.
fn to_json(value: &GgufValue) -> Value {
    match value {
        GgufValue::U64(value) => value.to_string().into(),
        GgufValue::I64(value) => value.to_string().into(),
        GgufValue::F32(value) => (*value).into(),
        GgufValue::F64(value) => (*value).into(),
        GgufValue::Bool(value) => (*value).into(),
        GgufValue::String(value) => value.as_str().into(),
        GgufValue::Array(GgufArray::String(values)) => values.iter().collect(),
        GgufValue::Array(GgufArray::Bool(values)) => values.clone().into(),
        GgufValue::Array(GgufArray::I64(values)) => values.iter().map(i64::to_string).collect(),
        GgufValue::Array(values) if values.is_empty() => Value::Array(Vec::new()),
        other => i64::try_from(other.as_integer().expect("another type"))
            .unwrap()
            .into(),
    }
}
