//! The measures on numbers that can be checked by hand.
#![allow(clippy::unwrap_used)]

use super::stats::{auc, d_prime, slope, spearman};
use super::*;
use crate::error::{ModelError, SteeringError};
use crate::make::unwatched;
use crate::point::{Point, Site};
use crate::vector::{Method, SteeringVector};

#[test]
fn statistics() {
    assert!((d_prime(&[2.0, 4.0], &[0.0, 2.0]) - 2.0 / 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(d_prime(&[1.0], &[1.0]), 0.0);
    assert_eq!(auc(&[1.0, 2.0], &[0.0, 1.0]), 3.5 / 4.0);
    assert_eq!(spearman(&[1.0, 2.0, 3.0], &[1.0, 10.0, 100.0]), 1.0);
    assert_eq!(spearman(&[1.0, 2.0, 3.0], &[5.0, 5.0, 5.0]), 0.0);
    assert!((spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 1.0, 2.0, 0.0]) + 0.316).abs() < 1e-3);
    assert_eq!(slope(&[0.0, 1.0, 2.0], &[1.0, 3.0, 5.0]), 2.0);
    assert_eq!(slope(&[1.0, 1.0], &[1.0, 3.0]), 0.0);
}

#[test]
fn intervals_cover_the_mean_and_are_reproducible() {
    let values: Vec<f64> = (0..40).map(|i| f64::from(i % 7)).collect();
    let estimate = Estimate::of(&values, 1);
    assert!(estimate.low < estimate.mean && estimate.mean < estimate.high);
    // the normal interval is mean ± 1.96·2.0/√40
    assert!(
        (estimate.high - estimate.low - 1.25).abs() < 0.25,
        "{estimate:?}"
    );
    assert_eq!(estimate, Estimate::of(&values, 1));
    assert!(!estimate.includes_zero());
    let nothing = Estimate::of_difference(&values, &values, 1);
    assert!(nothing.includes_zero() && nothing.mean == 0.0);
    assert_eq!(Estimate::of(&[], 1).n, 0);
}

#[test]
fn separation_with_and_without_the_sink() {
    let mut reader = |tokens: &[u32], points: &[Point]| -> Result<Vec<Vec<f32>>, ModelError> {
        assert_eq!(points, [Site::ResidPost.at(1)]);
        let row = |(t, &token): (usize, &u32)| {
            if t == 0 {
                [1000.0, 0.0]
            } else {
                [0.0, token as f32 - 5.0]
            }
        };
        Ok(vec![tokens.iter().enumerate().flat_map(row).collect()])
    };
    let mut vector =
        SteeringVector::new(Method::Caa, [(Site::ResidPre.at(1), vec![0.0, 2.0])].into()).unwrap();
    vector.provenance.read_at = Some(Site::ResidPost);
    let (positive, negative) = (vec![vec![9, 9], vec![9, 8]], vec![vec![9, 1]]);
    let one = |rule, reader: &mut dyn crate::make::Reader| {
        separation(&vector, &positive, &negative, rule, reader)
            .unwrap()
            .remove(0)
    };
    let without = one(SinkRule::SkipFirst, &mut reader);
    assert_eq!((without.gap, without.auc), (2.0, 1.0));
    let with = one(SinkRule::WithFirst, &mut reader);
    assert!(with.gap < 0.02 && with.gap > 0.0);
    assert!(separation(&vector, &[], &negative, SinkRule::SkipFirst, &mut reader).is_err());
}

#[test]
fn shift_over_strengths() {
    let mut score = |strength: f32, pair: usize| -> Result<AnswerSums, SteeringError> {
        let turn = if pair == 3 { -1.0 } else { 1.0 };
        Ok(AnswerSums {
            positive: -3.0 + turn * f64::from(strength),
            negative: -2.0,
        })
    };
    let shift = LogitShift::measure(&[2.0, -1.0, 1.0], 4, 7, &mut score).unwrap();
    let strengths: Vec<f32> = shift.points.iter().map(|p| p.strength).collect();
    assert_eq!(strengths, [-1.0, 0.0, 1.0, 2.0]);
    assert_eq!(
        (shift.slope, shift.monotonicity, shift.anti_steerable),
        (0.5, 0.5, 0.25)
    );
    assert_eq!(shift.points[3].shift.mean, 1.0);
    assert_eq!(shift.points[1].shift.mean, 0.0);
    assert!(shift.table().to_string().starts_with("| strength |"));
    assert!(LogitShift::measure(&[1.0], 0, 0, &mut score).is_err());
    assert!(LogitShift::measure(&[f32::NAN], 1, 0, &mut score).is_err());
}

#[test]
fn log_probabilities_divergence_and_perplexity() {
    let ln = |p: f32| p.ln();
    let logits = [ln(0.5), ln(0.25), ln(0.25), ln(0.1), ln(0.8), ln(0.1)];
    let got = answer_log_probability(&logits, &[0, 1]).unwrap();
    assert!((got - (0.5f64 * 0.8).ln()).abs() < 1e-6);
    assert!(answer_log_probability(&logits, &[0, 3]).is_err());
    assert!(answer_log_probability(&logits[..5], &[0, 1]).is_err());
    assert_eq!(answer_log_probability(&[], &[]).unwrap(), 0.0);
    let kl = kl_divergence(&logits[..3], &logits[3..]);
    let expected = 0.5f64 * 5f64.ln() + 0.25 * (0.25f64 / 0.8).ln() + 0.25 * 2.5f64.ln();
    assert!((kl - expected).abs() < 1e-6);
    assert_eq!(kl_divergence(&logits[..3], &logits[..3]), 0.0);
    let perplexity = Perplexity::of(&[1.0, 2.0], &[1.5, 2.5]).unwrap();
    assert!((perplexity.ratio - 0.5f64.exp()).abs() < 1e-12 && perplexity.tokens == 2);
    assert!(Perplexity::of(&[], &[]).is_none());
    assert_eq!(distinct_n(&[1, 2, 1, 2, 1], 2), 0.5);
    assert_eq!(distinct_n(&[1], 3), 1.0);
}

#[test]
fn sweeps_find_what_is_bearable() {
    let points = [Site::ResidPost.at(1), Site::ResidPost.at(2)];
    let mut measure =
        |point: Point, s: f32| Ok((f64::from(s) * point.layer as f64, f64::from(s * s)));
    let sweep = sweep(&points, &[1.0, 2.0, 3.0], &mut measure, &mut unwatched).unwrap();
    assert_eq!(sweep.cells.len(), 6);
    let best = sweep.best(4.0).unwrap();
    assert_eq!((best.point.layer, best.strength), (2, 2.0));
    assert!(sweep.best(0.5).is_none());
    let json = serde_json::to_string(&sweep).unwrap();
    assert_eq!(serde_json::from_str::<Sweep>(&json).unwrap(), sweep);
    assert_eq!(sweep.table().rows.len(), 6);
}
