//! Folders, indexes and shards.

use std::path::Path;

use mx_runtime::weights::{Safetensors, SafetensorsLimits, TensorStore};

use crate::safetensors_hostile::bytes;

const INDEX: &str = "model.safetensors.index.json";

/// A shard with one f32 per name, counted from `first`.
fn shard(folder: &Path, file: &str, names: &[&str], first: f32) {
    let entry = |(at, name): (usize, &&str)| {
        format!(
            r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}"#,
            4 * at,
            4 * at + 4
        )
    };
    let entries: Vec<String> = names.iter().enumerate().map(entry).collect();
    let data: Vec<u8> = (0..names.len())
        .flat_map(|at| (first + at as f32).to_le_bytes())
        .collect();
    std::fs::write(
        folder.join(file),
        bytes(&format!("{{{}}}", entries.join(",")), &data),
    )
    .unwrap();
}

fn index(folder: &Path, weight_map: &str) {
    let text = format!(r#"{{"metadata":{{"total_size":12}},"weight_map":{{{weight_map}}}}}"#);
    std::fs::write(folder.join(INDEX), text).unwrap();
}

fn value(store: &Safetensors, name: &str) -> f32 {
    store.tensor(name).unwrap().unwrap().to_f32().unwrap()[0]
}

fn two_shards() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    shard(folder.path(), "one.safetensors", &["a", "b"], 1.0);
    shard(folder.path(), "two.safetensors", &["c", "a"], 3.0);
    folder
}

#[test]
fn the_index_decides_what_is_taken_from_where() {
    let folder = two_shards();
    index(
        folder.path(),
        r#""c":"two.safetensors","b":"one.safetensors","a":"two.safetensors""#,
    );
    for path in [folder.path().to_owned(), folder.path().join(INDEX)] {
        let store = Safetensors::open(&path).unwrap();
        assert_eq!(store.path(), path);
        assert_eq!(store.names(), ["c", "b", "a"]);
        assert_eq!(
            [value(&store, "a"), value(&store, "b"), value(&store, "c")],
            [4.0, 2.0, 3.0]
        );
    }
}

#[test]
fn a_single_file_comes_before_an_index() {
    let folder = two_shards();
    index(folder.path(), r#""c":"two.safetensors""#);
    shard(folder.path(), "model.safetensors", &["only"], 9.0);
    let store = Safetensors::open(folder.path()).unwrap();
    assert_eq!((store.names(), value(&store, "only")), (vec!["only"], 9.0));
}

#[test]
fn bad_indexes_are_refused_for_their_reason() {
    for (weight_map, kind, parts) in [
        (
            r#""c":"../two.safetensors""#,
            "shard_outside_folder",
            ["../two", "\"c\""],
        ),
        (
            r#""c":"/two.safetensors""#,
            "shard_outside_folder",
            ["/two", "\"c\""],
        ),
        (
            r#""c":"three.safetensors""#,
            "missing_shard",
            ["three", "\"c\""],
        ),
        (
            r#""c":"one.safetensors""#,
            "missing_from_shard",
            ["one", "\"c\""],
        ),
        (
            r#""c":"two.safetensors","c":"two.safetensors""#,
            "duplicate_key",
            ["occurs twice", "\"c\""],
        ),
        (r#""c":7"#, "invalid_header", ["index", "string"]),
    ] {
        let folder = two_shards();
        index(folder.path(), weight_map);
        let error = Safetensors::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), kind, "{weight_map}: {error}");
        for part in parts.into_iter().chain([INDEX]) {
            assert!(
                error.to_string().contains(part),
                "{part} is not in: {error}"
            );
        }
    }
}

#[test]
fn a_bad_shard_is_named_itself() {
    let folder = two_shards();
    std::fs::write(folder.path().join("two.safetensors"), [0; 7]).unwrap();
    index(folder.path(), r#""c":"two.safetensors""#);
    let error = Safetensors::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), "truncated");
    assert!(error.to_string().contains("two.safetensors"), "{error}");
}

#[test]
fn indexes_are_bounded() {
    let folder = two_shards();
    index(
        folder.path(),
        r#""c":"two.safetensors","b":"one.safetensors""#,
    );
    let check = |name: &str, change: fn(&mut SafetensorsLimits)| {
        let mut limits = SafetensorsLimits::default();
        change(&mut limits);
        let error = Safetensors::open_with(folder.path(), &limits)
            .unwrap_err()
            .to_string();
        assert!(error.contains(name), "{name}: {error}");
    };
    check("max_header_bytes = 20", |limits| {
        limits.max_header_bytes = 20
    });
    check("max_tensors = 1", |limits| limits.max_tensors = 1);
    check("max_shards = 1", |limits| limits.max_shards = 1);
    std::fs::write(
        folder.path().join(INDEX),
        format!("{{\"weight_map\":{}", "{\"a\":".repeat(500_000)),
    )
    .unwrap();
    assert_eq!(
        Safetensors::open(folder.path()).unwrap_err().kind(),
        "invalid_header"
    );
}

#[test]
fn a_folder_without_weights_says_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let error = Safetensors::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), "no_weights");
    assert!(error.to_string().contains(INDEX), "{error}");
}
