//! Autoencoders small enough to compute by hand.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::apply::TokenClass;
use crate::error::ModelError;
use crate::format::{Limits, safetensors};
use crate::make::{TokenPair, unwatched};
use crate::point::{Point, Site};
use std::collections::BTreeMap;
use std::sync::Arc;

const POINT: Point = Point {
    layer: 2,
    site: Site::ResidPre,
};

/// Width 2, three features: +x, +y, −x; decoder is the encoder's transpose.
fn parts() -> SaeParts {
    SaeParts {
        w_enc: vec![1.0, 0.0, -1.0, 0.0, 1.0, 0.0],
        b_enc: vec![0.0, -0.5, 0.0],
        w_dec: vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0],
        b_dec: vec![0.5, 0.0],
        ..SaeParts::default()
    }
}

fn sae(architecture: Architecture) -> Sae {
    let mut parts = parts();
    match architecture {
        Architecture::JumpRelu => parts.threshold = vec![1.0, 0.1, 0.1],
        Architecture::Gated => {
            parts.r_mag = vec![0.0, 2.0f32.ln(), 0.0];
            parts.b_mag = vec![0.0, 0.25, 0.0];
        }
        _ => {}
    }
    let mut sae = Sae::new(architecture, 2, 3, parts).unwrap();
    sae.point = Some(POINT);
    sae
}

#[test]
fn codes_of_every_architecture() {
    // x − b_dec = (1, 2); p = (1, 1.5, −1)
    let row = [1.5, 2.0];
    assert_eq!(
        sae(Architecture::Standard).encode(&row).unwrap(),
        [1.0, 1.5, 0.0]
    );
    assert_eq!(
        sae(Architecture::TopK { k: 1 }).encode(&row).unwrap(),
        [0.0, 1.5, 0.0]
    );
    assert_eq!(
        sae(Architecture::TopK { k: 3 }).encode(&row).unwrap(),
        [1.0, 1.5, 0.0]
    );
    // the first feature is at its threshold, not above it
    assert_eq!(
        sae(Architecture::JumpRelu).encode(&row).unwrap(),
        [0.0, 1.5, 0.0]
    );
    // products (1, 2, −1): gates p > 0; magnitudes 1·1, 2·2 + 0.25
    let gated = sae(Architecture::Gated).encode(&row).unwrap();
    assert!((gated[0] - 1.0).abs() < 1e-6 && (gated[1] - 4.25).abs() < 1e-5 && gated[2] == 0.0);
    let mut raw = sae(Architecture::Standard);
    raw.subtract_decoder_bias = false;
    assert_eq!(raw.encode(&row).unwrap(), [1.5, 1.5, 0.0]);
    assert!(raw.encode(&[1.0]).is_err());
}

#[test]
fn decoding_and_error_preserving_steering() {
    let sae = sae(Architecture::Standard);
    assert_eq!(sae.decode(&[1.0, 1.5, 0.0]).unwrap(), [1.5, 1.5]);
    let mut row = [1.5, 2.0];
    sae.clamp(&mut row, 1, 4.0).unwrap();
    // the reconstruction error (0, 0.5) stays
    assert_eq!(row, [1.5, 4.5]);
    let mut unchanged = [1.5, 2.0];
    sae.steer(&mut unchanged, |_| {}).unwrap();
    assert_eq!(unchanged, [1.5, 2.0]);
    let mut row = [1.5, 2.0];
    sae.steer_code(&mut row, &[-3.0, 1.0, 0.0], 1.0).unwrap();
    assert_eq!(row, [0.5, 3.0]);
    assert!(sae.clamp(&mut row, 3, 0.0).is_err());
    let mut edited = [1.5, 2.0];
    sae.feature_edit(2, 2.0).unwrap().apply(&mut edited);
    assert_eq!(edited, [-0.5, 2.0]);
}

#[test]
fn normalisations_are_undone() {
    for normalisation in [Normalisation::ConstantNorm, Normalisation::LayerNorm] {
        // features ±x, ±y without biases reconstruct any row exactly
        let parts = SaeParts {
            w_enc: vec![1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0, -1.0],
            b_enc: vec![0.0; 4],
            w_dec: vec![1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0],
            b_dec: vec![0.0; 2],
            ..SaeParts::default()
        };
        let mut sae = Sae::new(Architecture::Standard, 2, 4, parts).unwrap();
        sae.normalisation = normalisation;
        let got = sae.reconstruct(&[30.0, -12.0]).unwrap();
        assert!(
            (got[0] - 30.0).abs() < 1e-2 && (got[1] + 12.0).abs() < 1e-2,
            "{normalisation:?} {got:?}"
        );
        assert!(sae.explained(&[30.0, -12.0]).unwrap() > 0.999);
        assert!(
            sae.encode(&[0.0, 0.0])
                .unwrap()
                .iter()
                .all(|z| z.is_finite())
        );
    }
}

fn file(extra: &[(&str, Vec<usize>, Vec<f32>)], without: &str) -> Vec<u8> {
    let SaeParts {
        w_enc,
        b_enc,
        w_dec,
        b_dec,
        ..
    } = parts();
    let mut tensors = vec![
        ("W_enc", vec![2, 3], w_enc),
        ("b_enc", vec![3], b_enc),
        ("W_dec", vec![3, 2], w_dec),
        ("b_dec", vec![2], b_dec),
    ];
    tensors.extend(extra.iter().cloned());
    tensors.retain(|(name, _, _)| *name != without);
    let borrowed: Vec<(String, Vec<usize>, &[f32])> = tensors
        .iter()
        .map(|(name, shape, values)| ((*name).to_owned(), shape.clone(), values.as_slice()))
        .collect();
    safetensors::write(&BTreeMap::new(), &borrowed).unwrap()
}

#[test]
fn files_of_every_architecture() {
    let read = |config: &str, extra: &[(&str, Vec<usize>, Vec<f32>)], without: &str| {
        Sae::read(config.as_bytes(), &file(extra, without), &Limits::default())
            .map_err(|e| e.to_string())
    };
    let old = r#"{"architecture": "standard", "d_in": 2, "d_sae": 3, "hook_name": "blocks.2.hook_resid_pre",
        "normalize_activations": "none", "apply_b_dec_to_input": true, "activation_fn_str": "relu"}"#;
    let expected = sae(Architecture::Standard);
    assert_eq!(read(old, &[], "").unwrap(), expected);
    let new =
        r#"{"architecture": "topk", "k": 1, "metadata": {"hook_name": "blocks.2.hook_resid_pre"}}"#;
    assert_eq!(
        read(new, &[], "").unwrap(),
        sae(Architecture::TopK { k: 1 })
    );
    let older_topk = r#"{"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 1}, "hook_point": "blocks.2.hook_resid_pre"}"#;
    assert_eq!(
        read(older_topk, &[], "").unwrap(),
        sae(Architecture::TopK { k: 1 })
    );
    let threshold = ("threshold", vec![3], vec![1.0, 0.1, 0.1]);
    let jump = r#"{"architecture": "jumprelu", "hook_name": "blocks.2.hook_resid_pre"}"#;
    assert_eq!(
        read(jump, &[threshold], "").unwrap(),
        sae(Architecture::JumpRelu)
    );
    let gate = [
        ("b_gate", vec![3], vec![0.0, -0.5, 0.0]),
        ("r_mag", vec![3], vec![0.0, 2.0f32.ln(), 0.0]),
        ("b_mag", vec![3], vec![0.0, 0.25, 0.0]),
    ];
    let gated = r#"{"architecture": "gated", "hook_name": "blocks.2.hook_resid_pre"}"#;
    assert_eq!(
        read(gated, &gate, "b_enc").unwrap(),
        sae(Architecture::Gated)
    );

    for (config, extra, without, part) in [
        (
            r#"{"architecture": "crosscoder"}"#,
            vec![],
            "",
            "crosscoder",
        ),
        (r#"{"architecture": "topk"}"#, vec![], "", "k is not there"),
        (r#"{"architecture": "topk", "k": 9}"#, vec![], "", "k is 9"),
        (r#"{"d_in": 7}"#, vec![], "", "d_in is 7, wanted 2"),
        ("{}", vec![], "b_dec", "b_dec"),
        (r#"{"architecture": "jumprelu"}"#, vec![], "", "threshold"),
        (r#"{"normalize_activations": "odd"}"#, vec![], "", "odd"),
        (r#"{"reshape_activations": "hook_z"}"#, vec![], "", "hook_z"),
        (
            "{}",
            vec![("scaling_factor", vec![3], vec![1.0; 3])],
            "",
            "scaling_factor",
        ),
        ("[", vec![], "", "cfg.json"),
    ] {
        let error = read(config, &extra, without).unwrap_err();
        assert!(error.contains(part), "{config}: {error}");
    }
}

/// A model whose row is (token, 1), except for a huge first row.
fn reader(tokens: &[u32], points: &[Point]) -> Result<Vec<Vec<f32>>, ModelError> {
    let mut rows: Vec<f32> = tokens
        .iter()
        .flat_map(|&t| [t as f32 - 10.0, 1.0])
        .collect();
    rows[0] = 1e4;
    Ok(vec![rows; points.len()])
}

fn behaviour(sae: &Sae) -> Behaviour {
    // positives end in 14 (x = 4), negatives in 6 (x = −4)
    let pair = TokenPair {
        prompt_len: 1,
        positive: vec![10, 14],
        negative: Some(vec![10, 6]),
    };
    create_behaviour(
        "rightness",
        &[pair.clone(), pair],
        sae,
        &mut reader,
        &mut unwatched,
    )
    .unwrap()
}

#[test]
fn a_behaviour_is_the_difference_of_means() {
    let sae = sae(Architecture::Standard);
    let behaviour = behaviour(&sae);
    // codes: (3.5, 0.5, 0) and (0, 0.5, 4.5)
    assert_eq!(behaviour.baseline, BTreeMap::from([(0, 3.5), (2, -4.5)]));
    assert_eq!(behaviour.direction, [8.0, 0.0]);
    assert_eq!(behaviour.vector().unwrap().points().next(), Some(POINT));
    let json = serde_json::to_string(&behaviour).unwrap();
    assert_eq!(serde_json::from_str::<Behaviour>(&json).unwrap(), behaviour);
}

#[test]
fn drift_is_scored_and_corrected() {
    let sae = sae(Architecture::Standard);
    let behaviour = behaviour(&sae);
    let mut monitor = Monitor::new(
        &Arc::new(behaviour.clone()),
        &Arc::new(sae.clone()),
        MonitorOptions::default(),
    )
    .unwrap();
    assert!(!monitor.is_steering());
    assert_eq!(monitor.observe(&[-3.0, 0.0]).unwrap(), Decision::Continue);
    assert_eq!(monitor.observe(&[4.0, 0.0]).unwrap(), Decision::Steer);
    assert_eq!(monitor.observe(&[-3.0, 0.0]).unwrap(), Decision::Continue);
    let scores: Vec<f64> = monitor.history().iter().map(|d| d.score).collect();
    // code (0, 0, 3.5) against (3.5, 0, −4.5), and (3.5, 0, 0)
    let length = (3.5f64 * 3.5 + 4.5 * 4.5).sqrt();
    assert!((scores[0] - (1.0 - 4.5 / length) / 2.0).abs() < 1e-6);
    assert!((scores[1] - (1.0 + 3.5 / length) / 2.0).abs() < 1e-6);
    assert_eq!(monitor.score(&[0.5, 0.0]).unwrap(), 0.5);
    let mut row = [4.0, 1.0];
    monitor.edit(TokenClass::All).apply(&mut row);
    assert_eq!(row, [-4.0, 1.0]);
}

#[test]
fn regeneration_force_and_polarity() {
    let sae = sae(Architecture::Standard);
    let behaviour = behaviour(&sae);
    let monitor = |options| {
        Monitor::new(
            &Arc::new(behaviour.clone()),
            &Arc::new(sae.clone()),
            options,
        )
        .unwrap()
    };
    let again = MonitorOptions {
        correction: Correction::Regenerate,
        patience: 2,
        ..Default::default()
    };
    let mut m = monitor(again);
    assert_eq!(m.observe(&[4.0, 0.0]).unwrap(), Decision::Continue);
    assert_eq!(m.observe(&[4.0, 0.0]).unwrap(), Decision::Regenerate);
    m.restart();
    assert!(m.is_steering() && m.history().is_empty());
    // the second text stays steered and is not begun a third time
    assert_eq!(m.observe(&[4.0, 0.0]).unwrap(), Decision::Steer);
    assert_eq!(m.observe(&[4.0, 0.0]).unwrap(), Decision::Steer);
    let mut m = monitor(MonitorOptions {
        force_steering: true,
        ..Default::default()
    });
    assert!(m.is_steering());
    assert_eq!(m.observe(&[-3.0, 0.0]).unwrap(), Decision::Steer);
    let mut m = monitor(MonitorOptions {
        polarity: Polarity::Maintain,
        ..Default::default()
    });
    assert_eq!(m.observe(&[-3.0, 0.0]).unwrap(), Decision::Steer);
    let mut row = [0.0, 0.0];
    m.edit(TokenClass::All).apply(&mut row);
    assert_eq!(row, [8.0, 0.0]);
    let mut m = monitor(MonitorOptions {
        correction: Correction::Report,
        ..Default::default()
    });
    assert_eq!(m.observe(&[4.0, 0.0]).unwrap(), Decision::Continue);
    assert!(m.history()[0].drifts);
    let wrong = MonitorOptions {
        threshold: 1.5,
        ..Default::default()
    };
    assert!(Monitor::new(&Arc::new(behaviour.clone()), &Arc::new(sae.clone()), wrong).is_err());
}

#[test]
fn written_files_are_read_again() {
    for architecture in [
        Architecture::Standard,
        Architecture::TopK { k: 2 },
        Architecture::JumpRelu,
        Architecture::Gated,
    ] {
        let mut sae = sae(architecture);
        sae.normalisation = Normalisation::LayerNorm;
        let (config, weights) = sae.write().unwrap();
        assert_eq!(
            Sae::read(&config, &weights, &Limits::default()).unwrap(),
            sae
        );
    }
}

/// Rows that are sums of two of eight known directions, about a mean.
fn sparse_rows(count: usize) -> (Vec<f32>, Vec<Vec<f32>>) {
    const D: usize = 16;
    let axis = |i: usize| {
        (0..D)
            .map(|j| f32::from(u8::from(j == 2 * i)))
            .collect::<Vec<f32>>()
    };
    let directions: Vec<Vec<f32>> = (0..8).map(axis).collect();
    let mut rows = Vec::new();
    for i in 0..count {
        let (a, b) = (i % 8, (i / 8 * 3 + i + 1) % 8);
        let row = (0..D).map(|j| 5.0 + 4.0 * directions[a][j] + 3.0 * directions[b][j]);
        rows.extend(row);
    }
    (rows, directions)
}

#[test]
fn training_finds_the_directions_that_rows_are_made_of() {
    let (rows, directions) = sparse_rows(512);
    let options = TrainOptions {
        features: 24,
        k: 3,
        epochs: 60,
        ..TrainOptions::default()
    };
    let (sae, unexplained) = train(&rows, 16, &options, &mut unwatched).unwrap();
    let last = unexplained[unexplained.len() - 1];
    assert!(last < 0.1 && last < unexplained[0], "{unexplained:?}");
    let found = directions
        .iter()
        .filter(|wanted| {
            (0..24).any(|f| crate::linalg::cosine(sae.feature(f).unwrap(), wanted) > 0.9)
        })
        .count();
    assert!(found >= 4, "{found} of 8");
    // in the rows' own units, and only the code's part of a row
    let code = sae.encode(&rows[..16]).unwrap();
    assert!(code.iter().filter(|z| **z > 0.0).count() <= 3);
    assert!(sae.explained(&rows[..16]).unwrap() > 0.9);
    assert_eq!(train(&rows, 16, &options, &mut unwatched).unwrap().0, sae);
    assert!(train(&rows, 15, &options, &mut unwatched).is_err());
    assert!(train(&rows, 16, &TrainOptions { k: 0, ..options }, &mut unwatched).is_err());
}
