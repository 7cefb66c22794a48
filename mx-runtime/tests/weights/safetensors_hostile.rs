//! The hostile safetensors files, and single rules on headers written for them.

use mx_runtime::weights::{Safetensors, SafetensorsLimits, StoredType, TensorStore, WeightsError};

use crate::allocation::peak;
use crate::{data, json};

/// Opens a file with this header and data.
pub(crate) fn open(header: &str, data: &[u8]) -> Result<Safetensors, WeightsError> {
    open_with(header, data, &SafetensorsLimits::default())
}

fn open_with(
    header: &str,
    data: &[u8],
    limits: &SafetensorsLimits,
) -> Result<Safetensors, WeightsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    std::fs::write(&path, bytes(header, data)).unwrap();
    Safetensors::open_with(&path, limits)
}

/// The bytes of a file with this header and data.
pub(crate) fn bytes(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn kind(header: &str, data: &[u8]) -> &'static str {
    open(header, data).map_or_else(|error| error.kind(), |_| "opened")
}

#[test]
fn each_file_is_refused_for_its_reason_or_loads() {
    let index = json("safetensors_hostile/index.json");
    assert_eq!(index["format"], "mx-safetensors-hostile/1");
    let mut refused = 0;
    for case in index["files"].as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let path = data("safetensors_hostile").join(file);
        let (result, held) = peak(|| Safetensors::open(&path));
        assert!(held < 500_000, "{file}: {held} bytes held");
        if case["expect"] == "refuse" {
            let error = result.expect_err(file);
            // Bad UTF-8 has a kind of its own here.
            let wanted = if file.starts_with("invalid_utf8") {
                "invalid_utf8"
            } else {
                case["kind"].as_str().unwrap()
            };
            assert_eq!(error.kind(), wanted, "{file}: {error}");
            assert!(
                error.to_string().contains(file),
                "{file} is not named in: {error}"
            );
            refused += 1;
        } else {
            let store = result.unwrap_or_else(|error| panic!("{file}: {error}"));
            let reference = std::fs::read(&path).unwrap();
            check_against_the_reference(&store, &reference);
        }
    }
    assert!(refused >= 17, "{refused} refused");
}

/// Names, shapes and bytes agree with what the reference crate reads.
pub(crate) fn check_against_the_reference(store: &Safetensors, bytes: &[u8]) {
    let reference = safetensors::SafeTensors::deserialize(bytes).unwrap();
    assert_eq!(store.names().len(), reference.len());
    for (name, view) in reference.tensors() {
        let entry = store.entry(&name).unwrap();
        assert_eq!(entry.shape, view.shape());
        assert_eq!(entry.dtype.name(), view.dtype().to_string().to_lowercase());
        assert_eq!(entry.bytes, view.data().len());
        match entry.dtype {
            StoredType::Weights(_) => {
                let tensor = store.tensor(&name).unwrap().unwrap();
                assert_eq!(tensor.bytes, view.data());
                assert_eq!(
                    tensor.to_f32().unwrap().len(),
                    view.shape().iter().product::<usize>()
                );
            }
            _ => assert_eq!(store.tensor(&name).unwrap_err().kind(), "unsupported_dtype"),
        }
    }
}

#[test]
fn buffers_that_are_no_weights_do_not_spoil_the_file() {
    let header = r#"{"bias":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]},"ids":{"dtype":"I64","shape":[1],"data_offsets":[3,11]},"w":{"dtype":"BF16","shape":[1],"data_offsets":[11,13]}}"#;
    let store = open(header, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3f]).unwrap();
    assert_eq!(store.names(), ["bias", "ids", "w"]);
    assert_eq!(store.tensor("w").unwrap().unwrap().to_f32().unwrap(), [1.0]);
    assert_eq!(store.entry("ids").unwrap().dtype, StoredType::Other("i64"));
    let error = store.tensor("ids").unwrap_err().to_string();
    for part in ["case.safetensors", "\"ids\"", "i64", "bf16"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert!(store.tensor("absent").unwrap().is_none());
}

#[test]
fn names_occur_once_everywhere_in_a_header() {
    let tensor = r#"{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#;
    let escaped = format!(r#"{{"a":{tensor},"\u0061":{tensor}}}"#);
    assert_eq!(kind(&escaped, &[]), "duplicate_tensor");
    assert_eq!(
        kind(r#"{"__metadata__":{"k":"1","k":"2"}}"#, &[]),
        "duplicate_key"
    );
    assert_eq!(
        kind(r#"{"__metadata__":{},"__metadata__":{}}"#, &[]),
        "duplicate_key"
    );
    let field = r#"{"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
    assert_eq!(kind(field, &[]), "invalid_header");
}

#[test]
fn metadata_is_kept() {
    let store = open(r#"{"__metadata__":{"format":"pt","b":"2"}}"#, &[]).unwrap();
    assert_eq!(
        store.metadata().collect::<Vec<_>>(),
        [("format", "pt"), ("b", "2")]
    );
    assert!(store.names().is_empty());
}

#[test]
fn headers_that_are_not_as_the_format_wants_are_refused() {
    for header in [
        "",
        "null",
        "[]",
        "{} x",
        " {}",
        r#"{"__metadata__":null}"#,
        "{\"a\":",
        r#"{"a":null}"#,
        r#"{"a":{"dtype":"F32","shape":[0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[0.0],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,0]}}"#,
        r#"{"__metadata__":[]}"#,
    ] {
        assert_eq!(kind(header, &[]), "invalid_header", "{header}");
    }
    let nested = format!(r#"{{"a":{{"x":{}}}}}"#, "[".repeat(1_000_000));
    assert_eq!(kind(&nested, &[]), "invalid_header");
    let nested = format!("{{\"a\":{}", "{\"a\":".repeat(1_000_000));
    assert_eq!(kind(&nested, &[]), "invalid_header");
}

#[test]
fn sizes_are_compared_without_wrapping() {
    let one = |dtype: &str, shape: &str, end: u64| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    assert_eq!(
        kind(&one("F32", "[4611686018427387904]", 0), &[]),
        "size_mismatch"
    );
    assert_eq!(
        kind(&one("F64", "[4294967296,4294967296]", 0), &[]),
        "size_mismatch"
    );
    assert_eq!(
        kind(&one("F4", "[3]", 2), &[0; 2]),
        "size_mismatch",
        "12 bits"
    );
    assert_eq!(kind(&one("F4", "[4]", 2), &[0; 2]), "opened");
    assert_eq!(kind(&one("F32", "[0]", 0), &[]), "opened");
    assert_eq!(kind(&one("f32", "[1]", 4), &[0; 4]), "unknown_dtype");
    let far = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551611,18446744073709551615]}}"#;
    assert_eq!(kind(far, &[0; 4]), "out_of_bounds");
}

#[test]
fn every_limit_is_named() {
    let header = r#"{"a":{"dtype":"U8","shape":[1,1,2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[],"data_offsets":[2,3]}}"#;
    let check = |name: &str, change: fn(&mut SafetensorsLimits)| {
        let mut limits = SafetensorsLimits::default();
        change(&mut limits);
        let error = open_with(header, &[0; 3], &limits).unwrap_err().to_string();
        assert!(error.contains(name), "{name}: {error}");
    };
    check("max_header_bytes = 10", |limits| {
        limits.max_header_bytes = 10
    });
    check("max_tensors = 1", |limits| limits.max_tensors = 1);
    check("max_dimensions = 2", |limits| limits.max_dimensions = 2);
}
