//! GGUF files at random: written and read back, damaged, cut short.

use std::collections::BTreeMap;
use std::sync::Arc;

use mx_runtime::weights::{Gguf, GgufArray, GgufValue, TensorStore, TensorType};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::allocation::peak;
use crate::data;
use crate::gguf_writer::{GgufFile, WrittenTensor};

fn array() -> impl Strategy<Value = GgufArray> {
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(GgufArray::U8),
        vec(any::<i8>(), 0..9).prop_map(GgufArray::I8),
        vec(any::<u16>(), 0..9).prop_map(GgufArray::U16),
        vec(any::<i16>(), 0..9).prop_map(GgufArray::I16),
        vec(any::<u32>(), 0..9).prop_map(GgufArray::U32),
        vec(any::<i32>(), 0..9).prop_map(GgufArray::I32),
        vec(any::<u64>(), 0..9).prop_map(GgufArray::U64),
        vec(any::<i64>(), 0..9).prop_map(GgufArray::I64),
        vec(any::<f32>(), 0..9).prop_map(GgufArray::F32),
        vec(any::<f64>(), 0..9).prop_map(GgufArray::F64),
        vec(any::<bool>(), 0..9).prop_map(GgufArray::Bool),
        vec(any::<String>(), 0..9)
            .prop_map(|strings| GgufArray::String(strings.iter().map(String::as_str).collect())),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        vec(inner, 0..3).prop_map(GgufArray::Array)
    })
}

fn value() -> impl Strategy<Value = GgufValue> {
    prop_oneof![
        any::<u8>().prop_map(GgufValue::U8),
        any::<i8>().prop_map(GgufValue::I8),
        any::<u16>().prop_map(GgufValue::U16),
        any::<i16>().prop_map(GgufValue::I16),
        any::<u32>().prop_map(GgufValue::U32),
        any::<i32>().prop_map(GgufValue::I32),
        any::<u64>().prop_map(GgufValue::U64),
        any::<i64>().prop_map(GgufValue::I64),
        any::<f32>().prop_map(GgufValue::F32),
        any::<f64>().prop_map(GgufValue::F64),
        any::<bool>().prop_map(GgufValue::Bool),
        any::<String>().prop_map(GgufValue::String),
        array().prop_map(GgufValue::Array),
    ]
}

fn tensors() -> impl Strategy<Value = Vec<WrittenTensor>> {
    let dtype = prop::sample::select(&TensorType::ALL[..]);
    let one = (dtype, vec(1usize..4, 0..4), any::<u8>()).prop_map(|(dtype, mut shape, fill)| {
        if shape.is_empty() && dtype.block_values() > 1 {
            shape.push(1);
        }
        if let Some(row) = shape.last_mut() {
            *row *= dtype.block_values();
        }
        let size = dtype.bytes_for(shape.iter().product()).unwrap();
        let bytes = (0..size).map(|at| fill.wrapping_add(at as u8)).collect();
        WrittenTensor {
            name: String::new(),
            shape,
            ggml_id: dtype.ggml_id(),
            bytes,
            offset: None,
        }
    });
    btree_map("[a-z.]{0,12}", one, 0..6).prop_map(|tensors: BTreeMap<String, WrittenTensor>| {
        tensors
            .into_iter()
            .map(|(name, tensor)| WrittenTensor { name, ..tensor })
            .collect()
    })
}

fn file() -> impl Strategy<Value = GgufFile> {
    let pairs =
        btree_map("[a-z]{0,8}", value(), 0..8).prop_map(|pairs| pairs.into_iter().collect());
    let alignment = prop::sample::select(vec![1u64, 8, 32, 64, 4096]);
    (2u32..=3, alignment, pairs, tensors()).prop_map(|(version, alignment, pairs, tensors)| {
        GgufFile {
            version,
            alignment,
            pairs,
            tensors,
        }
    })
}

/// Opens, and if that succeeds reads every tensor. The memory of the header is bounded.
fn read_all(bytes: &Arc<[u8]>) {
    let (result, held) = peak(|| Gguf::from_bytes(bytes.clone(), "random.gguf"));
    assert!(
        held < 16 * bytes.len() + 4096,
        "{held} bytes for a file of {}",
        bytes.len()
    );
    if let Ok(gguf) = result {
        for name in gguf.names() {
            let _ = gguf
                .tensor(name)
                .map(|tensor| tensor.unwrap().to_f32().unwrap());
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
}

fn real_file() -> impl Strategy<Value = Vec<u8>> {
    const NAMES: [&str; 4] = [
        "valid_minimal",
        "valid_all_metadata_types",
        "valid_with_tokenizer",
        "valid_alignment_64",
    ];
    prop::sample::select(&NAMES[..])
        .prop_map(|name| std::fs::read(data("gguf/hostile").join(format!("{name}.gguf"))).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn what_is_written_is_read_back(file in file()) {
        let gguf = Gguf::from_bytes(file.write(), "random.gguf").unwrap();
        prop_assert_eq!(gguf.version(), file.version);
        for (key, value) in &file.pairs {
            let read = gguf.metadata().get(key).unwrap();
            // As text, because NaN differs from itself.
            prop_assert_eq!(format!("{read:?}"), format!("{value:?}"), "{}", key);
        }
        let names: Vec<&str> = file.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        prop_assert_eq!(gguf.names(), names);
        for tensor in &file.tensors {
            let read = gguf.tensor(&tensor.name).unwrap().unwrap();
            prop_assert_eq!(read.dtype.ggml_id(), tensor.ggml_id);
            prop_assert_eq!(&read.shape, &tensor.shape);
            prop_assert_eq!(read.bytes, tensor.bytes.as_slice());
            prop_assert_eq!(read.to_f32().unwrap().len(), read.len());
        }
    }

    #[test]
    fn a_cut_file_is_refused(file in file(), at in any::<prop::sample::Index>()) {
        let bytes = file.write();
        let cut = bytes[..at.index(bytes.len())].to_vec();
        // Only the padding that follows the list of no or empty data may go missing.
        prop_assert!(Gguf::from_bytes(cut, "cut.gguf").is_err());
    }

    #[test]
    fn damage_never_panics(file in file(), changes in changes()) {
        let mut bytes = file.write();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(&bytes.into());
    }

    #[test]
    fn damage_to_a_model_never_panics(mut bytes in real_file(), changes in changes(), cut in any::<prop::sample::Index>()) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(&bytes.clone().into());
        bytes.truncate(cut.index(bytes.len()));
        read_all(&bytes.into());
    }

    #[test]
    fn large_numbers_in_any_place_never_panic(mut bytes in real_file(), at in any::<prop::sample::Index>(), bit in 0u32..64) {
        let at = at.index(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&(1u64 << bit).wrapping_sub(1).to_le_bytes());
        read_all(&bytes.clone().into());
        bytes[at..at + 8].copy_from_slice(&(u64::MAX - (1u64 << bit)).to_le_bytes());
        read_all(&bytes.into());
    }

    #[test]
    fn noise_after_the_magic_never_panics(noise in vec(any::<u8>(), 0..200), version in 2u32..=3) {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(noise);
        read_all(&bytes.into());
    }
}
