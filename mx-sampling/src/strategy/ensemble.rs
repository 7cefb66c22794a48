//! Several models, one law.
//!
//! For models of one vocabulary: [`average`], [`product`], [`majority`]. For different vocabularies:
//! [`UnionVocabulary`] adds up the probabilities of equal byte strings (GaC 2024), and [`ByteTrie`] gives the
//! exact marginal of the next byte, so that models are combined byte by byte.
//!
//! Each law is that of one model at its temperature; penalties and masks apply once, to the combined law,
//! truncations after combining.

mod bytes;

pub use bytes::{ByteMarginal, ByteTrie, UnionVocabulary};

use crate::draw::check_law;
use crate::error::SamplingError;
use crate::math;
use crate::strategy::speculative::normalise;

/// `Σ w_m p_m`, normalised.
///
/// ```
/// use mx_sampling::strategy::ensemble::average;
///
/// assert_eq!(average(&[&[1.0, 0.0], &[0.0, 1.0]], &[0.75, 0.25])?, [0.75, 0.25]);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
///
/// # Errors
///
/// No law, laws of different lengths, or weights that do not fit.
pub fn average(laws: &[&[f64]], weights: &[f64]) -> Result<Vec<f64>, SamplingError> {
    let vocab = check(laws, weights)?;
    let mut sum = vec![0.0; vocab];
    for (law, weight) in laws.iter().zip(weights) {
        sum.iter_mut()
            .zip(*law)
            .for_each(|(slot, p)| *slot += weight * p);
    }
    normalise(&mut sum);
    Ok(sum)
}

/// `∝ Π p_m^{w_m}`, the weights normalised to sum 1: the average of the logits. A single 0 vetoes, unless its
/// weight is 0.
///
/// # Errors
///
/// As [`average`], and [`SamplingError::NoCandidates`] when every token is vetoed.
pub fn product(laws: &[&[f64]], weights: &[f64]) -> Result<Vec<f64>, SamplingError> {
    let vocab = check(laws, weights)?;
    let total: f64 = weights.iter().sum();
    let logs: Vec<f64> = (0..vocab)
        .map(|token| {
            laws.iter()
                .zip(weights)
                .filter(|(_, weight)| **weight > 0.0)
                .map(|(law, weight)| weight / total * math::ln(law[token]))
                .sum()
        })
        .collect();
    let max = logs
        .iter()
        .fold(f64::NEG_INFINITY, |max, &x| if x > max { x } else { max });
    if max == f64::NEG_INFINITY {
        return Err(SamplingError::NoCandidates {
            vocab,
            after: "the product of the models",
        });
    }
    let mut law: Vec<f64> = logs.iter().map(|log| math::exp(log - max)).collect();
    normalise(&mut law);
    Ok(law)
}

/// The votes of an ensemble.
#[derive(Debug, Clone, PartialEq)]
pub struct Majority {
    /// Share of the votes of every token; may be sampled as a law.
    pub votes: Vec<f64>,
    /// The winner.
    pub token: u32,
}

/// Weighted votes of each model's argmax; ties go to the larger average probability, then to the lower id.
///
/// # Errors
///
/// As [`average`].
pub fn majority(laws: &[&[f64]], weights: &[f64]) -> Result<Majority, SamplingError> {
    let mean = average(laws, weights)?;
    let mut votes = vec![0.0; mean.len()];
    for (law, weight) in laws.iter().zip(weights) {
        votes[argmax(law.iter().copied())] += weight;
    }
    normalise(&mut votes);
    let mut token = 0;
    for other in 1..votes.len() {
        if (votes[other], mean[other]) > (votes[token], mean[token]) {
            token = other;
        }
    }
    Ok(Majority {
        votes,
        token: token as u32,
    })
}

/// Index of the largest value, the lowest on ties.
pub(crate) fn argmax(values: impl IntoIterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, value) in values.into_iter().enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}

fn check(laws: &[&[f64]], weights: &[f64]) -> Result<usize, SamplingError> {
    let Some(first) = laws.first() else {
        return Err(SamplingError::Empty { name: "laws" });
    };
    if weights.len() != laws.len() {
        return Err(SamplingError::Length {
            name: "weights",
            given: weights.len(),
            wanted: laws.len(),
        });
    }
    check_law("weights", weights)?;
    for law in laws {
        if law.len() != first.len() {
            return Err(SamplingError::Length {
                name: "law",
                given: law.len(),
                wanted: first.len(),
            });
        }
        check_law("law", law)?;
    }
    Ok(first.len())
}
