//! Safetensors files at random: written by the reference crate and read back, damaged, cut short.

use std::collections::{BTreeMap, HashMap};

use mx_runtime::weights::Safetensors;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::allocation::peak;
use crate::safetensors_hostile::{bytes, check_against_the_reference};

const DTYPES: [Dtype; 8] = [
    Dtype::F32,
    Dtype::F16,
    Dtype::BF16,
    Dtype::I64,
    Dtype::BOOL,
    Dtype::U8,
    Dtype::F8_E4M3,
    Dtype::F64,
];

/// A file as the reference crate writes it.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let one = (
        prop::sample::select(&DTYPES[..]),
        vec(0usize..4, 0..4),
        any::<u8>(),
    );
    // The reference crate writes broken JSON for metadata without tensors.
    let tensors = btree_map("[^_].{0,12}", one, 1..6);
    (
        tensors,
        prop::option::of(btree_map("[a-z]{0,5}", ".{0,5}", 0..3)),
    )
        .prop_map(|(tensors, metadata)| {
            let filled: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = tensors
                .into_iter()
                .map(|(name, (dtype, shape, fill))| {
                    let size = shape.iter().product::<usize>() * dtype.bitsize() / 8;
                    (name, (dtype, shape, vec![fill; size]))
                })
                .collect();
            let views = filled.iter().map(|(name, (dtype, shape, data))| {
                (
                    name.clone(),
                    TensorView::new(*dtype, shape.clone(), data).unwrap(),
                )
            });
            safetensors::serialize(views, metadata.map(HashMap::from_iter)).unwrap()
        })
}

fn open(bytes: &[u8]) -> Option<Safetensors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("random.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let (result, held) = peak(|| Safetensors::open(&path));
    assert!(
        held < 16 * bytes.len() + 8192,
        "{held} bytes for a file of {}",
        bytes.len()
    );
    result.ok()
}

/// Never panics, and what is read is what the reference crate reads.
fn read_all(bytes: &[u8]) {
    if let Some(store) = open(bytes) {
        check_against_the_reference(&store, bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn what_the_reference_writes_is_read(bytes in file()) {
        check_against_the_reference(&open(&bytes).unwrap(), &bytes);
    }

    #[test]
    fn a_cut_file_is_refused(bytes in file(), at in any::<prop::sample::Index>()) {
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(open(cut).is_none());
    }

    #[test]
    fn damage_never_panics(mut bytes in file(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(&bytes);
    }

    #[test]
    fn changed_digits_never_panic(mut bytes in file(), changes in vec((any::<prop::sample::Index>(), b'0'..=b'9'), 1..4)) {
        let digits: Vec<usize> =
            (8..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
        for (at, digit) in changes {
            if !digits.is_empty() {
                bytes[digits[at.index(digits.len())]] = digit;
            }
        }
        read_all(&bytes);
    }
}

#[test]
fn headers_full_of_small_things_cost_a_few_times_their_size() {
    let entry =
        |id: usize| format!(r#""{id:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let many: Vec<String> = (0..20_000).map(entry).collect();
    let shape = vec!["1"; 100_000].join(",");
    let pairs: Vec<String> = (0..20_000).map(|id| format!("\"{id:x}\":\"\"")).collect();
    for (name, header) in [
        ("tensors", format!("{{{}}}", many.join(","))),
        (
            "dimensions",
            format!(r#"{{"a":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,0]}}}}"#),
        ),
        (
            "metadata",
            format!(r#"{{"__metadata__":{{{}}}}}"#, pairs.join(",")),
        ),
    ] {
        let file = bytes(&header, &[]);
        let opened = open(&file);
        assert_eq!(opened.is_some(), name != "dimensions", "{name}");
    }
}
