//! Logit shift: how the model's belief in the answers follows the strength.

use super::stats::{mean, slope, spearman};
use super::{Estimate, Table};
use crate::error::SteeringError;
use serde::{Deserialize, Serialize};

/// Sums of log-probabilities of both answers of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AnswerSums {
    /// Σ ln p of the wanted answer's tokens.
    pub positive: f64,
    /// Σ ln p of the unwanted answer's tokens.
    pub negative: f64,
}

impl AnswerSums {
    /// How much more the wanted answer is believed.
    pub fn gap(self) -> f64 {
        self.positive - self.negative
    }
}

/// All pairs at one strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShiftPoint {
    /// The strength.
    pub strength: f32,
    /// Each pair's sums.
    pub pairs: Vec<AnswerSums>,
    /// Change of the mean gap against strength 0.
    pub shift: Estimate,
}

/// How belief follows the strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogitShift {
    /// The strengths in rising order, 0 among them.
    pub points: Vec<ShiftPoint>,
    /// Change of the gap for each unit of strength, mean over pairs.
    pub slope: f64,
    /// Spearman's correlation between strength and gap, mean over pairs: 1 where every step up raises it.
    pub monotonicity: f64,
    /// Share of pairs whose gap falls with the strength: those that steer the wrong way (Tan 2024).
    pub anti_steerable: f64,
}

impl LogitShift {
    /// Measures at several strengths; 0 is added. `score` gives the sums of a pair at a strength.
    ///
    /// # Errors
    /// [`SteeringError`] where there are no pairs, a strength is not finite, or the model fails.
    pub fn measure(
        strengths: &[f32],
        pairs: usize,
        seed: u64,
        score: &mut dyn FnMut(f32, usize) -> Result<AnswerSums, SteeringError>,
    ) -> Result<Self, SteeringError> {
        if pairs == 0 {
            return Err(SteeringError::Empty {
                what: "list of pairs",
                wanted: "at least one pair",
            });
        }
        if let Some(&given) = strengths.iter().find(|s| !s.is_finite()) {
            let what = "strength".to_owned();
            return Err(SteeringError::NotFinite { what, given });
        }
        let mut sorted: Vec<f32> = strengths
            .iter()
            .copied()
            .chain([0.0])
            .map(|s| s + 0.0)
            .collect();
        sorted.sort_by(f32::total_cmp);
        sorted.dedup();
        let mut sums: Vec<Vec<AnswerSums>> = Vec::with_capacity(sorted.len());
        for &strength in &sorted {
            sums.push(
                (0..pairs)
                    .map(|pair| score(strength, pair))
                    .collect::<Result<_, _>>()?,
            );
        }
        let base = sorted.iter().position(|s| *s == 0.0).unwrap_or_default();
        let gaps_at = |at: usize| -> Vec<f64> { sums[at].iter().map(|sums| sums.gap()).collect() };
        let base_gaps = gaps_at(base);
        let x: Vec<f64> = sorted.iter().map(|s| f64::from(*s)).collect();
        let of_pair =
            |pair: usize| -> Vec<f64> { sums.iter().map(|all| all[pair].gap()).collect() };
        let slopes: Vec<f64> = (0..pairs).map(|pair| slope(&x, &of_pair(pair))).collect();
        let ranks: Vec<f64> = (0..pairs)
            .map(|pair| spearman(&x, &of_pair(pair)))
            .collect();
        Ok(LogitShift {
            slope: mean(&slopes),
            monotonicity: mean(&ranks),
            anti_steerable: slopes.iter().filter(|s| **s < 0.0).count() as f64 / pairs as f64,
            points: sorted
                .iter()
                .enumerate()
                .map(|(at, &strength)| ShiftPoint {
                    strength,
                    shift: Estimate::of_difference(&base_gaps, &gaps_at(at), seed),
                    pairs: sums[at].clone(),
                })
                .collect(),
        })
    }

    /// A table with one line a strength.
    pub fn table(&self) -> Table {
        let mut table = Table::new(["strength", "mean gap", "shift", "low", "high"]);
        for point in &self.points {
            let gaps: Vec<f64> = point.pairs.iter().map(|sums| sums.gap()).collect();
            let Estimate {
                mean: shift,
                low,
                high,
                ..
            } = point.shift;
            table.push([f64::from(point.strength), mean(&gaps), shift, low, high]);
        }
        table
    }
}

/// Σ ln p(token) of an answer: `logits` has one row of the vocabulary for each of its tokens, the one that predicts it.
///
/// # Errors
/// [`SteeringError`] where the numbers of rows and tokens differ or a token is not in the vocabulary.
pub fn answer_log_probability(logits: &[f32], tokens: &[u32]) -> Result<f64, SteeringError> {
    if tokens.is_empty() {
        return Ok(0.0);
    }
    let vocab = logits.len() / tokens.len();
    if vocab == 0 || vocab * tokens.len() != logits.len() {
        return Err(SteeringError::Closure {
            what: "logits for an answer",
            given: logits.len(),
            wanted: vocab.max(1) * tokens.len(),
        });
    }
    let mut total = 0.0;
    for (row, &token) in logits.chunks_exact(vocab).zip(tokens) {
        let logit = row.get(token as usize).ok_or(SteeringError::OutOfRange {
            name: "token",
            given: f64::from(token),
            range: "below the vocabulary's size",
        })?;
        total += f64::from(*logit) - log_sum_exp(row);
    }
    Ok(total)
}

/// ln Σ exp.
pub(crate) fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return f64::from(max);
    }
    let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
    f64::from(max) + sum.ln()
}
