//! Every format, right and wrong.
#![allow(clippy::unwrap_used)]

use super::pairs::{Negatives, Pair};
use super::*;
use crate::point::Site;
use crate::vector::{Method, Units};
use std::collections::BTreeMap;

fn sample(layers: &[usize], site: Site) -> SteeringVector {
    let directions = layers
        .iter()
        .map(|&l| {
            (
                site.at(l),
                (0..6).map(|i| (0.37 * i as f32 + l as f32).sin()).collect(),
            )
        })
        .collect();
    let mut vector = SteeringVector::new(Method::Caa, directions)
        .unwrap()
        .named("sample");
    vector.label = "test".to_owned();
    vector.model.architecture = Some("llama".to_owned());
    vector.model.layers = Some(9);
    vector.provenance.pairs = Some(3);
    vector.stream_norms = [(site.at(layers[0]), 12.5)].into();
    vector
}

fn limits() -> Limits {
    Limits::default()
}

#[test]
fn native_files_keep_everything() {
    let mut vector = sample(&[1, 4], Site::ResidPost);
    vector.units = Units::Relative { rho: 0.2 };
    assert_eq!(
        read(&native::write(&vector).unwrap(), &limits()).unwrap(),
        vector
    );
    let mixed = vector.plus(&sample(&[2], Site::MlpOut)).unwrap();
    assert_eq!(
        read(&native::write(&mixed).unwrap(), &limits()).unwrap(),
        mixed
    );
    let directions = [(Site::ResidPre.at(0), vec![0.5; 6])].into();
    let rows = SteeringVector::with_rows(Method::ActAdd, 3, directions).unwrap();
    assert_eq!(
        read(&native::write(&rows).unwrap(), &limits()).unwrap(),
        rows
    );
}

#[test]
fn mechanex_files_act_at_resid_pre() {
    let json = br#"{"3": [1, 2.5], "blocks.1.hook_resid_post": [3, 4]}"#;
    let vector = read(json, &limits()).unwrap();
    assert_eq!(
        vector.direction(Site::ResidPre.at(3)),
        Some(&[1.0, 2.5][..])
    );
    assert_eq!(
        vector.direction(Site::ResidPost.at(1)),
        Some(&[3.0, 4.0][..])
    );
    let (bytes, _) = mechanex::write(&vector).unwrap();
    let again = read(&bytes, &limits()).unwrap();
    assert_eq!(
        again.directions().collect::<Vec<_>>(),
        vector.directions().collect::<Vec<_>>()
    );
    let nested = read(br#"{"0": [[1, 2], [3, 4]]}"#, &limits()).unwrap();
    assert_eq!((nested.rows(), nested.d_model()), (2, 2));
    for (json, part) in [
        (r#"{"1": [1], "2": [1, 2]}"#, "resid_pre.2"),
        (r#"{"1": [1], "1": [2]}"#, "twice"),
        (r#"{"1": [1], "blocks.1.hook_resid_pre": [2]}"#, "twice"),
        (r#"{"-1": [1]}"#, "-1"),
        (r#"{"blocks.3.attn.hook_z": [1]}"#, "hook_z"),
        (r#"{"1": "x"}"#, "vector, line 1"),
        (r#"{"1": [1e39]}"#, "resid_pre.1"),
        (r#"{"1": []}"#, "empty"),
        ("{}", "empty"),
        ("[1]", "no steering vector"),
        (r#"{"1": [[1, 2], [3]]}"#, "1 numbers"),
    ] {
        let error = read(json.as_bytes(), &limits()).unwrap_err().to_string();
        assert!(error.contains(part), "{json}: {error}");
    }
}

#[test]
fn gguf_files_hold_blocks_from_one_on() {
    let vector = sample(&[1, 4], Site::ResidPost);
    let (bytes, warnings) = gguf::write(&vector).unwrap();
    assert!(warnings.is_empty());
    let again = read(&bytes, &limits()).unwrap();
    assert_eq!(
        again.directions().collect::<Vec<_>>(),
        vector.directions().collect::<Vec<_>>()
    );
    assert_eq!(
        (again.method, again.name),
        (Method::Caa, "sample".to_owned())
    );
    assert_eq!(again.model.architecture.as_deref(), Some("llama"));

    let (bytes, warnings) = gguf::write(&sample(&[0, 2], Site::ResidPost)).unwrap();
    assert!(matches!(&warnings[..], [Warning::Lost { point, .. }] if point.layer == 0));
    assert_eq!(read(&bytes, &limits()).unwrap().layers(), [2]);
    // resid_pre.2 is resid_post.1
    let (bytes, warnings) = gguf::write(&sample(&[1, 2], Site::ResidPre)).unwrap();
    assert_eq!(
        (warnings.len(), read(&bytes, &limits()).unwrap().layers()),
        (1, vec![1])
    );
    assert!(gguf::write(&sample(&[0], Site::ResidPost)).is_err());
    assert!(gguf::write(&sample(&[3], Site::AttnOut)).is_err());

    let mut unit = sample(&[3], Site::ResidPost).scaled(5.0).unwrap();
    unit.units = Units::Unit;
    let (bytes, _) = gguf::write(&unit).unwrap();
    let norm = read(&bytes, &limits()).unwrap().norms()[&Site::ResidPost.at(3)];
    assert!((norm - 1.0).abs() < 1e-6);
}

#[test]
fn svec_files_are_read() {
    let json = br#"{"model_type": "llama", "directions": {"2": [3, 4]}, "explained_variances": {"2": 0.5}}"#;
    let vector = read(json, &limits()).unwrap();
    assert_eq!(
        vector.direction(Site::ResidPost.at(2)),
        Some(&[3.0, 4.0][..])
    );
    assert_eq!(vector.model.architecture.as_deref(), Some("llama"));
    assert!(
        read(br#"{"directions": {"x": [1]}}"#, &limits())
            .unwrap_err()
            .to_string()
            .contains("directions")
    );
}

/// Every cut and every changed byte of a file either reads or is refused; nothing panics.
#[test]
fn damaged_files_are_refused() {
    let vector = sample(&[1, 2], Site::ResidPost);
    for bytes in [
        native::write(&vector).unwrap(),
        gguf::write(&vector).unwrap().0,
    ] {
        for end in 0..bytes.len() {
            // a GGUF file may lose padding behind its last tensor
            if let Ok(read) = read(&bytes[..end], &limits()) {
                assert_eq!(read.d_model(), 6, "cut at {end}");
                assert!(bytes.len() - end < 32);
            }
        }
        for index in 0..bytes.len().min(700) {
            for value in [0, 1, 0x7f, 0xff, bytes[index] ^ 0x20] {
                let mut changed = bytes.clone();
                changed[index] = value;
                let _ = read(&changed, &limits());
            }
        }
    }
}

#[test]
fn counts_of_a_hostile_header_are_not_believed() {
    let mut gguf = b"GGUF".to_vec();
    gguf.extend(3u32.to_le_bytes());
    gguf.extend(u64::MAX.to_le_bytes());
    gguf.extend(1u64.to_le_bytes());
    assert!(
        read(&gguf, &limits())
            .unwrap_err()
            .to_string()
            .contains("limit entries")
    );
    let mut header = u64::MAX.to_le_bytes().to_vec();
    header[7] = 0;
    header.extend(b"{}");
    assert!(
        read(&header, &limits())
            .unwrap_err()
            .to_string()
            .contains("limit header_bytes")
    );
    // an array of arrays of arrays … in the metadata
    let mut deep = b"GGUF".to_vec();
    deep.extend(3u32.to_le_bytes());
    deep.extend(0u64.to_le_bytes());
    deep.extend(1u64.to_le_bytes());
    deep.extend(1u64.to_le_bytes());
    deep.push(b'k');
    deep.extend(9u32.to_le_bytes());
    for _ in 0..100_000 {
        deep.extend(9u32.to_le_bytes());
        deep.extend(1u64.to_le_bytes());
    }
    assert!(read(&deep, &limits()).is_err());
    let mut small = limits();
    small.entries = 1;
    let two = native::write(&sample(&[1, 2], Site::ResidPost)).unwrap();
    assert!(
        read(&two, &small)
            .unwrap_err()
            .to_string()
            .contains("limit entries is 1")
    );
}

#[test]
fn native_headers_must_be_right() {
    let values = [1.0f32, 2.0];
    let write = |metadata: &[(&str, &str)], name: &str, shape: Vec<usize>| {
        let metadata: BTreeMap<String, String> = metadata
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        safetensors::write(&metadata, &[(name.to_owned(), shape, &values[..])]).unwrap()
    };
    let format = ("format", native::FORMAT);
    assert!(read(&write(&[format], "direction.1", vec![2]), &limits()).is_ok());
    for (bytes, part) in [
        (write(&[], "direction.1", vec![2]), "metadata format"),
        (
            write(&[("format", "other/1")], "direction.1", vec![2]),
            "other/1",
        ),
        (write(&[format], "direction.x", vec![2]), "direction.x"),
        (write(&[format], "final.1", vec![2]), "final.1"),
        (write(&[format], "direction.1", vec![1, 1, 2]), "shape"),
        (
            write(&[format, ("hidden_size", "3")], "direction.1", vec![2]),
            "hidden_size",
        ),
        (
            write(&[format, ("site", "resid_up")], "direction.1", vec![2]),
            "resid_up",
        ),
        (
            write(&[format, ("normalisation", "odd")], "direction.1", vec![2]),
            "odd",
        ),
        (
            write(&[format, ("mx", "{")], "direction.1", vec![2]),
            "metadata mx",
        ),
    ] {
        let error = read(&bytes, &limits()).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn pairs_in_every_spelling() {
    let text = concat!(
        "\u{feff}{\"prompt\": \"a\", \"positive_answer\": \"b\", \"negative_answer\": \"c\"}\n",
        "\n  \n",
        "{\"positive\": \"d\", \"negative\": \"e\", \"topic\": \"ignored\"}\r\n",
        "{\"question\": \"q\", \"answer_matching_behavior\": \" (A)\", \"answer_not_matching_behavior\": \" (B)\"}\n",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"positive\": \"x\", \"negative\": \"y\"}",
    );
    let pairs = pairs::read(text, Negatives::Required, &limits()).unwrap();
    assert_eq!(pairs.len(), 4);
    assert_eq!(pairs[0], Pair::new("a", "b", "c"));
    assert_eq!(pairs[1], Pair::new("", "d", "e"));
    assert_eq!(pairs[2], Pair::new("q", " (A)", " (B)"));
    assert_eq!(pairs[3].messages[0].content, "hi");
    let again = pairs::read(&pairs::write(&pairs[..3]), Negatives::Required, &limits()).unwrap();
    assert_eq!(again, pairs[..3]);
    assert_eq!(pairs::digest(&pairs).len(), 64);
}

#[test]
fn a_bad_line_is_named() {
    let good = r#"{"prompt": "a", "positive_answer": "b", "negative_answer": "c"}"#;
    for (bad, part) in [
        (
            r#"{"prompt": "a", "positive_answer": "b"}"#,
            "negative_answer is missing",
        ),
        (
            r#"{"prompt": "a", "negative_answer": "b"}"#,
            "positive_answer is missing",
        ),
        (
            r#"{"positive_answer": "b", "negative_answer": "c"}"#,
            "prompt is missing",
        ),
        (
            r#"{"prompt": 3, "positive": "b", "negative": "c"}"#,
            "prompt is 3",
        ),
        (r#"{"prompt": "a"}"#, "no answers"),
        ("[]", "wanted a JSON object"),
        ("{", "no JSON"),
        (
            r#"{"messages": [{"role": "user"}], "positive": "b", "negative": "c"}"#,
            "messages",
        ),
        (
            r#"{"messages": [{"role": "u", "content": "x"}], "prompt": "a", "positive": "b", "negative": "c"}"#,
            "exclude",
        ),
    ] {
        let text = format!("{good}\n\n{bad}\n{good}");
        let error = pairs::read(&text, Negatives::Required, &limits()).unwrap_err();
        assert!(
            matches!(error, FormatError::Line { line: 3, .. }),
            "{bad}: {error}"
        );
        assert!(error.to_string().contains(part), "{bad}: {error}");
    }
    let without = r#"{"prompt": "a", "positive_answer": "b"}"#;
    assert_eq!(
        pairs::read(without, Negatives::Optional, &limits()).unwrap()[0].negative,
        None
    );
    let lists = |n: usize| vec![String::from("x"); n];
    assert_eq!(Pair::zip(&lists(2), &lists(2), None).unwrap().len(), 2);
    let error = Pair::zip(&lists(2), &lists(2), Some(&lists(1)))
        .unwrap_err()
        .to_string();
    assert!(error.contains("negative_answers is 1"), "{error}");
}

#[test]
fn files_are_saved_by_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let vector = sample(&[2], Site::ResidPost);
    for name in ["v.safetensors", "v.json", "v.gguf"] {
        let path = folder.path().join(name);
        save(&vector, &path).unwrap();
        let again = load(&path, &limits()).unwrap();
        assert_eq!(
            again.direction(Site::ResidPost.at(2)),
            vector.direction(Site::ResidPost.at(2)),
            "{name}"
        );
    }
    assert!(save(&vector, &folder.path().join("v.pt")).is_err());
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        3,
        "no temporary file is left"
    );
    assert!(
        load(&folder.path().join("none.json"), &limits())
            .unwrap_err()
            .is_io()
    );
    let mut small = limits();
    small.file_bytes = 10;
    assert!(
        load(&folder.path().join("v.gguf"), &small)
            .unwrap_err()
            .to_string()
            .contains("file_bytes is 10")
    );
}
