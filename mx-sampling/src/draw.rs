//! Draws from laws and logits that the caller holds.

use crate::error::SamplingError;
use crate::math;

/// Inverse CDF over weights: the smallest index with `Σ_{j<=i} w_j > u·Σ w`, strictly.
///
/// The weights need not sum to 1. An index of weight 0 is never chosen, also not for `u = 0`.
///
/// ```
/// use mx_sampling::draw_from_law;
///
/// assert_eq!(draw_from_law(&[0.0, 0.5, 0.0, 0.5], 0.0)?, 1);
/// assert_eq!(draw_from_law(&[0.0, 0.5, 0.0, 0.5], 0.5)?, 3);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
///
/// # Errors
///
/// [`SamplingError::InvalidLaw`] when a weight is negative, NaN or infinite, when none is positive, or when their sum is
/// infinite.
pub fn draw_from_law(weights: &[f64], u: f64) -> Result<usize, SamplingError> {
    let total = check_law("weights", weights)?;
    Ok(inverse_cdf(weights, u * total))
}

/// Checks that weights are finite, not negative and not all 0, and that their sum is finite; returns the sum.
pub(crate) fn check_law(name: &'static str, weights: &[f64]) -> Result<f64, SamplingError> {
    let mut total = 0.0;
    for (index, &given) in weights.iter().enumerate() {
        if !(0.0..f64::INFINITY).contains(&given) {
            return Err(SamplingError::InvalidLaw {
                name,
                index,
                given,
                range: "a finite number >= 0",
            });
        }
        total += given;
    }
    if total == f64::INFINITY {
        return Err(SamplingError::InvalidLaw {
            name,
            index: weights.len() - 1,
            given: total,
            range: "finite when summed up to there",
        });
    }
    if total > 0.0 {
        return Ok(total);
    }
    Err(SamplingError::InvalidLaw {
        name,
        index: 0,
        given: 0.0,
        range: "positive somewhere",
    })
}

/// The first index whose cumulative weight exceeds `target`; the last positive one when rounding keeps the
/// sum from it.
pub(crate) fn inverse_cdf(weights: &[f64], target: f64) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (index, &weight) in weights.iter().enumerate() {
        if weight > 0.0 {
            sum += weight;
            last = index;
            if sum > target {
                break;
            }
        }
    }
    last
}

/// Gumbel-max: `argmax_i l_i − ln(−ln u_i)`, lowest index on ties. The law is `softmax(logits)`.
///
/// An entry of −inf is never chosen. `u = 0` gives its token the score −inf; it can still win when every
/// other one has it too.
///
/// # Errors
///
/// A different number of uniforms, an invalid logit, or no live token.
pub fn gumbel_max(logits: &[f32], uniforms: &[f64]) -> Result<u32, SamplingError> {
    if logits.len() != uniforms.len() {
        return Err(SamplingError::Length {
            name: "uniforms",
            given: uniforms.len(),
            wanted: logits.len(),
        });
    }
    let mut best: Option<(u32, f64)> = None;
    for (token, (&logit, &u)) in logits.iter().zip(uniforms).enumerate() {
        if logit.is_nan() || logit == f32::INFINITY {
            return Err(SamplingError::InvalidLogits {
                token: token as u32,
                value: logit,
            });
        }
        if logit == f32::NEG_INFINITY {
            continue;
        }
        let score = f64::from(logit) - math::ln(-math::ln(u));
        if best.is_none_or(|(_, other)| score > other) {
            best = Some((token as u32, score));
        }
    }
    best.map(|(token, _)| token)
        .ok_or(SamplingError::NoCandidates {
            vocab: logits.len(),
            after: "the model",
        })
}
