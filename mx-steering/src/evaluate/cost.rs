//! What steering breaks: distance from the plain model, perplexity, repetition.

use super::shift::log_sum_exp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// KL(p ‖ q) in nats between the distributions of two rows of logits, for example steered against plain. Rows of
/// different lengths are compared where both have values.
pub fn kl_divergence(p: &[f32], q: &[f32]) -> f64 {
    let (zp, zq) = (log_sum_exp(p), log_sum_exp(q));
    let term = |(p, q): (&f32, &f32)| {
        let (lp, lq) = (f64::from(*p) - zp, f64::from(*q) - zq);
        if lp == f64::NEG_INFINITY {
            0.0
        } else {
            lp.exp() * (lp - lq)
        }
    };
    p.iter().zip(q).map(term).sum::<f64>().max(0.0)
}

/// Perplexity of a text under the plain and the steered model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Perplexity {
    /// exp of the mean negative log-likelihood a token, plain.
    pub base: f64,
    /// The same, steered.
    pub steered: f64,
    /// Steered over plain: 1 is no damage.
    pub ratio: f64,
    /// Tokens counted.
    pub tokens: usize,
}

impl Perplexity {
    /// From the negative log-likelihoods of all tokens; `None` where there are none or their numbers differ.
    pub fn of(base: &[f64], steered: &[f64]) -> Option<Self> {
        if base.is_empty() || base.len() != steered.len() {
            return None;
        }
        let (b, s) = (super::stats::mean(base), super::stats::mean(steered));
        Some(Perplexity {
            base: b.exp(),
            steered: s.exp(),
            ratio: (s - b).exp(),
            tokens: base.len(),
        })
    }
}

/// The share of n-grams of a text that are different: 1 where nothing repeats, near 0 in a loop; 1 for texts shorter
/// than `n`.
pub fn distinct_n(tokens: &[u32], n: usize) -> f64 {
    let grams: Vec<&[u32]> = tokens.windows(n.max(1)).collect();
    if grams.is_empty() {
        return 1.0;
    }
    let different: BTreeSet<&[u32]> = grams.iter().copied().collect();
    different.len() as f64 / grams.len() as f64
}
