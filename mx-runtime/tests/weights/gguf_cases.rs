//! Single rules of the GGUF reader, each on a file written for it.

use mx_runtime::weights::{
    Gguf, GgufArray, GgufLimits, GgufValue, StoredType, TensorStore, TensorType,
};

use crate::allocation::peak;
use crate::gguf_writer::GgufFile;

const F32: u32 = 0;
const Q4_0: u32 = 2;

fn open(file: &GgufFile) -> Result<Gguf, (&'static str, String)> {
    Gguf::from_bytes(file.write(), "case.gguf").map_err(|error| (error.kind(), error.to_string()))
}

fn kind(file: &GgufFile) -> &'static str {
    open(file).map_or_else(|(kind, _)| kind, |_| "opened")
}

fn nested(levels: usize) -> GgufValue {
    let inner = GgufArray::U8(vec![7]);
    GgufValue::Array((1..levels).fold(inner, |array, _| GgufArray::Array(vec![array])))
}

#[test]
fn a_file_may_be_empty_of_everything() {
    let gguf = open(&GgufFile::new()).unwrap();
    assert!(gguf.names().is_empty() && gguf.metadata().is_empty());
}

#[test]
fn shapes_are_outermost_first() {
    let file = GgufFile::new().tensor("w", &[2, 3], F32, &[0; 24]).tensor(
        "s",
        &[],
        F32,
        &1.5f32.to_le_bytes(),
    );
    let gguf = open(&file).unwrap();
    assert_eq!(gguf.entry("w").unwrap().shape, [2, 3]);
    let scalar = gguf.tensor("s").unwrap().unwrap();
    assert_eq!(
        (scalar.shape.len(), scalar.to_f32().unwrap()),
        (0, vec![1.5])
    );
    assert!(gguf.tensor("absent").unwrap().is_none());
}

#[test]
fn types_that_are_no_weights_are_listed_and_refused_when_used() {
    let file =
        GgufFile::new()
            .tensor("ids", &[2], 26, &[0; 8])
            .tensor("rare", &[256], 16, &[0; 66]);
    let gguf = open(&file).unwrap();
    assert_eq!(gguf.names(), ["ids", "rare"]);
    assert_eq!(
        gguf.entry("rare").unwrap().dtype,
        StoredType::Other("iq2_xxs")
    );
    let error = gguf.tensor("rare").unwrap_err();
    assert_eq!(error.kind(), "unsupported_dtype");
    for part in ["case.gguf", "\"rare\"", "iq2_xxs", "q4_1"] {
        assert!(
            error.to_string().contains(part),
            "{part} is not in: {error}"
        );
    }
}

#[test]
fn gaps_and_any_order_are_allowed_in_the_data() {
    let mut file =
        GgufFile::new()
            .tensor("a", &[8], F32, &[1; 32])
            .tensor("b", &[8], F32, &[2; 32]);
    let mut bytes = file.write();
    bytes.extend([0; 100]);
    assert!(Gguf::from_bytes(bytes, "trailing").is_ok());
    file.tensors.push(file.tensors[0].clone());
    file.tensors[0].name = "late".to_owned();
    file.tensors[0].offset = Some(96);
    // The data section holds b, 32 bytes, a at 32; `late` would start behind them.
    assert_eq!(kind(&file), "out_of_bounds");
    file.tensors[0].offset = Some(32);
    assert_eq!(kind(&file), "overlap");
    file.tensors.truncate(2);
    file.tensors[0].shape = vec![4];
    file.tensors[0].offset = Some(0);
    assert_eq!(kind(&file), "overlap", "the same start");
}

#[test]
fn nesting_is_bounded_by_the_limit_and_a_ceiling() {
    assert_eq!(kind(&GgufFile::new().pair("a", nested(4))), "opened");
    assert_eq!(
        kind(&GgufFile::new().pair("a", nested(5))),
        "nesting_too_deep"
    );
    let deep = GgufFile::new().pair("a", nested(1000)).write();
    let mut limits = GgufLimits::default();
    limits.max_array_nesting = u64::MAX;
    let error = Gguf::from_bytes_with(deep, "deep", &limits).unwrap_err();
    assert!(error.to_string().contains("64"), "{error}");
}

#[test]
fn every_limit_is_named() {
    let file = GgufFile::new()
        .pair("key", GgufValue::String("text".to_owned()))
        .pair("list", GgufValue::Array(GgufArray::U8(vec![1, 2, 3])))
        .tensor("one", &[1], F32, &[0; 4])
        .tensor("two", &[1], F32, &[0; 4])
        .write();
    let check = |name: &str, change: fn(&mut GgufLimits)| {
        let mut limits = GgufLimits::default();
        change(&mut limits);
        let error = Gguf::from_bytes_with(file.clone(), "f", &limits)
            .unwrap_err()
            .to_string();
        assert!(error.contains(name), "{name}: {error}");
    };
    check("max_metadata_pairs = 1", |limits| {
        limits.max_metadata_pairs = 1
    });
    check("max_tensors = 1", |limits| limits.max_tensors = 1);
    check("max_key_bytes = 3", |limits| limits.max_key_bytes = 3);
    check("max_tensor_name_bytes = 2", |limits| {
        limits.max_tensor_name_bytes = 2
    });
    check("max_string_bytes = 3", |limits| limits.max_string_bytes = 3);
    check("max_array_values = 2", |limits| limits.max_array_values = 2);
    check("max_array_nesting = 0", |limits| {
        limits.max_array_nesting = 0
    });
}

#[test]
fn bools_are_zero_or_one() {
    for value in [
        GgufValue::Bool(true),
        GgufValue::Array(GgufArray::Bool(vec![false, true])),
    ] {
        let mut bytes = GgufFile::new().pair("flag", value).write();
        *bytes.last_mut().unwrap() = 2;
        let offset = bytes.len() - 1;
        let error = Gguf::from_bytes(bytes, "f").unwrap_err();
        assert_eq!(error.kind(), "invalid_bool");
        assert!(
            error.to_string().contains(&format!("byte {offset}")),
            "{error}"
        );
    }
}

#[test]
fn text_is_utf_8_everywhere() {
    let file = GgufFile::new()
        .pair("kkkk", GgufValue::String("ssss".to_owned()))
        .pair(
            "l",
            GgufValue::Array(GgufArray::String(["ok", "aaaa"].into_iter().collect())),
        )
        .tensor("nnnn", &[1], F32, &[0; 4])
        .write();
    for text in ["kkkk", "ssss", "aaaa", "nnnn"] {
        let mut bytes = file.clone();
        let at = bytes
            .windows(4)
            .position(|window| window == text.as_bytes())
            .unwrap();
        bytes[at + 1] = 0xff;
        assert_eq!(
            Gguf::from_bytes(bytes, "f").unwrap_err().kind(),
            "invalid_utf8",
            "{text}"
        );
    }
}

#[test]
fn the_alignment_is_a_power_of_two_in_a_u32() {
    let aligned = |value| GgufFile::new().pair("general.alignment", value);
    assert_eq!(kind(&aligned(GgufValue::U32(48))), "bad_alignment");
    assert_eq!(
        kind(&aligned(GgufValue::String("32".to_owned()))),
        "wrong_metadata_type"
    );
    assert_eq!(kind(&aligned(GgufValue::U64(32))), "wrong_metadata_type");
    assert_eq!(
        kind(&aligned(GgufValue::U32(1 << 31))),
        "opened",
        "no tensors, so no data section"
    );
    let beyond = aligned(GgufValue::U32(1 << 31)).tensor("w", &[1], F32, &[0; 4]);
    assert_eq!(kind(&beyond), "out_of_bounds");
}

#[test]
fn rows_are_whole_blocks() {
    let file = GgufFile::new().tensor("w", &[2, 48], Q4_0, &[0; 54]);
    let (kind, text) = open(&file).unwrap_err();
    assert_eq!(kind, "bad_dimension");
    for part in ["48", "q4_0", "32", "\"w\""] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert_eq!(
        self::kind(&GgufFile::new().tensor("w", &[], Q4_0, &[0; 18])),
        "bad_dimension"
    );
}

#[test]
fn large_string_arrays_load_at_once() {
    let tokens: Vec<String> = (0..300_000).map(|id| format!("token {id}")).collect();
    let file = GgufFile::new()
        .pair(
            "tokens",
            GgufValue::Array(GgufArray::String(
                tokens.iter().map(String::as_str).collect(),
            )),
        )
        .write();
    let bytes: std::sync::Arc<[u8]> = file.into();
    let (gguf, held) = peak(|| Gguf::from_bytes(bytes.clone(), "large").unwrap());
    assert!(
        held < 3 * bytes.len(),
        "{held} bytes for a file of {}",
        bytes.len()
    );
    let strings = gguf.metadata().strings("tokens").unwrap().unwrap();
    assert!(strings.iter().eq(tokens.iter().map(String::as_str)));
    assert_eq!(strings.get(299_999), Some("token 299999"));
}

#[test]
fn files_full_of_small_things_cost_a_few_times_their_size() {
    let many_pairs = (0..60_000).fold(GgufFile::new(), |file, id| {
        file.pair(&format!("{id:x}"), GgufValue::U8(0))
    });
    let arrays = (0..50_000).map(|_| GgufArray::U8(Vec::new())).collect();
    let many_arrays = GgufFile::new().pair("a", GgufValue::Array(GgufArray::Array(arrays)));
    let many_strings = (0..50_000).map(|_| "").collect();
    let many_strings = GgufFile::new().pair("a", GgufValue::Array(GgufArray::String(many_strings)));
    let many_tensors = (0..60_000).fold(GgufFile::new(), |mut file, id| {
        file.alignment = 1;
        file.tensor(&format!("{id:x}"), &[], 24, &[0])
    });
    for (file, name) in [
        (many_pairs, "pairs"),
        (many_arrays, "arrays"),
        (many_strings, "strings"),
        (many_tensors, "tensors"),
    ] {
        let bytes: std::sync::Arc<[u8]> = file.write().into();
        let (result, held) = peak(|| Gguf::from_bytes(bytes.clone(), name).map(drop));
        assert!(
            held < 16 * bytes.len(),
            "{name}: {held} bytes for a file of {}",
            bytes.len()
        );
        result.unwrap();
    }
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Gguf::open(folder.path()).unwrap_err().kind(), "not_a_file");
    assert_eq!(
        Gguf::open(folder.path().join("absent")).unwrap_err().kind(),
        "io"
    );
}

#[test]
fn mapped_and_read_files_are_the_same() {
    let bytes: Vec<u8> = (0..64u8).collect();
    let file = GgufFile::new().tensor("w", &[2, 8], F32, &bytes).write();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.gguf");
    std::fs::write(&path, file).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!((gguf.path(), gguf.version()), (path.as_path(), 3));
    let tensor = gguf.tensor("w").unwrap().unwrap();
    assert_eq!(
        (tensor.dtype, tensor.bytes),
        (TensorType::F32, bytes.as_slice())
    );
    assert_eq!(tensor.row(1), Some(&bytes[32..]));
}
