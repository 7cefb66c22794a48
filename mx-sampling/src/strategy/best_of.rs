//! Choosing among finished candidates.

use crate::math;

/// Likelihood figures of one sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceScore {
    /// `Σ ln p`.
    pub sum: f64,
    /// `Σ ln p / n`; 0 for an empty sequence.
    pub mean: f64,
    /// `e^−mean`.
    pub perplexity: f64,
}

impl SequenceScore {
    /// The figures of these token log-probabilities.
    ///
    /// ```
    /// use mx_sampling::strategy::best_of::SequenceScore;
    ///
    /// let score = SequenceScore::new(&[-1.0, -3.0]);
    /// assert_eq!((score.sum, score.mean), (-4.0, -2.0));
    /// ```
    #[must_use]
    pub fn new(logprobs: &[f64]) -> Self {
        let sum: f64 = logprobs.iter().sum();
        let mean = if logprobs.is_empty() {
            0.0
        } else {
            sum / logprobs.len() as f64
        };
        Self {
            sum,
            mean,
            perplexity: math::exp(-mean),
        }
    }
}

/// A finished candidate.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Candidate {
    /// Whether the verifiers accepted it; `None` when nothing was verified.
    pub accepted: Option<bool>,
    /// Score of the caller, larger is better.
    pub score: Option<f64>,
    /// Mean token log-probability.
    pub mean_logprob: f64,
}

/// The best candidate: accepted before not accepted, then the larger score, then the larger mean
/// log-probability, then the lower index. `None` when there are no candidates.
///
/// A missing score counts as the smallest, and so does NaN.
///
/// ```
/// use mx_sampling::strategy::best_of::{Candidate, select};
///
/// let candidates = [
///     Candidate { accepted: Some(false), mean_logprob: -0.1, ..Default::default() },
///     Candidate { accepted: Some(true), mean_logprob: -0.9, ..Default::default() },
///     Candidate { accepted: Some(true), mean_logprob: -0.9, ..Default::default() },
/// ];
/// assert_eq!(select(&candidates), Some(1));
/// ```
#[must_use]
pub fn select(candidates: &[Candidate]) -> Option<usize> {
    let number = |x: f64| if x.is_nan() { f64::NEG_INFINITY } else { x };
    let key = |candidate: &Candidate| {
        let accepted = candidate.accepted.unwrap_or(true);
        (
            accepted,
            number(candidate.score.unwrap_or(f64::NEG_INFINITY)),
            number(candidate.mean_logprob),
        )
    };
    let mut best: Option<usize> = None;
    for (index, candidate) in candidates.iter().enumerate() {
        let better = best.is_none_or(|other| {
            let (new, old) = (key(candidate), key(&candidates[other]));
            let order = new
                .0
                .cmp(&old.0)
                .then(new.1.total_cmp(&old.1))
                .then(new.2.total_cmp(&old.2));
            order.is_gt()
        });
        if better {
            best = Some(index);
        }
    }
    best
}
