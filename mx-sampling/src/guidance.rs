//! Two rows of logits combined into one: classifier-free guidance and contrastive decoding.

use crate::error::SamplingError;
use crate::math;
use crate::row::{Row, Scratch};
use crate::simd::Backend;

/// `ln softmax(logits)` into `out`; −inf stays −inf.
///
/// # Errors
///
/// Different lengths, an invalid logit, or no live token.
pub fn log_softmax(logits: &[f32], out: &mut [f64]) -> Result<(), SamplingError> {
    same_length("out", logits.len(), out.len())?;
    let lse = log_sum_exp(logits)?;
    for (slot, &logit) in out.iter_mut().zip(logits) {
        *slot = f64::from(logit) - lse;
    }
    Ok(())
}

/// `ln Σ e^l`, in double precision.
///
/// # Errors
///
/// An invalid logit, or no live token.
pub fn log_sum_exp(logits: &[f32]) -> Result<f64, SamplingError> {
    let mut max = f32::NEG_INFINITY;
    for (token, &value) in logits.iter().enumerate() {
        if value.is_nan() || value == f32::INFINITY {
            return Err(SamplingError::InvalidLogits {
                token: token as u32,
                value,
            });
        }
        max = max.max(value);
    }
    if max == f32::NEG_INFINITY {
        return Err(SamplingError::NoCandidates {
            vocab: logits.len(),
            after: "the model",
        });
    }
    let sum: f64 = logits
        .iter()
        .map(|&logit| math::exp(f64::from(logit) - f64::from(max)))
        .sum();
    Ok(f64::from(max) + math::ln(sum))
}

/// Classifier-free guidance (Sanchez 2023): `ln p_u + g·(ln p_c − ln p_u)`, written over `conditional`.
///
/// `g = 1` is off (the conditional law), `g = 0` the unconditional law, `g > 1` moves away from the
/// unconditional law. A token that the conditional law excludes stays out at every `g`. One that only the unconditional
/// law excludes is out for `g < 1`, where the law is `p_u^(1−g)·p_c^g`, and keeps `ln p_c` otherwise, where the
/// unconditional law has nothing to move away from. At the extremes see the [rounding](contrastive_logits#rounding).
///
/// # Errors
///
/// `scale` negative or not finite, different lengths, an invalid logit, or no live token, also when the two laws have
/// none in common: the row is then −inf throughout.
///
/// ```
/// use mx_sampling::classifier_free_guidance;
///
/// let mut conditional = [1.0, 0.0];
/// classifier_free_guidance(&mut conditional, &[0.0, 0.0], 2.0)?;
/// assert!((conditional[0] - conditional[1] - 2.0).abs() < 1e-6);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
pub fn classifier_free_guidance(
    conditional: &mut [f32],
    unconditional: &[f32],
    scale: f64,
) -> Result<(), SamplingError> {
    SamplingError::check(
        scale >= 0.0 && scale.is_finite(),
        "guidance_scale",
        scale,
        "a finite number >= 0 (1 is off)",
    )?;
    same_length("unconditional", conditional.len(), unconditional.len())?;
    let (lse_c, lse_u) = (log_sum_exp(conditional)?, log_sum_exp(unconditional)?);
    let mut live = false;
    for (logit, &other) in conditional.iter_mut().zip(unconditional) {
        if *logit == f32::NEG_INFINITY {
            continue;
        }
        let (c, u) = (f64::from(*logit) - lse_c, f64::from(other) - lse_u);
        let guided = if u > f64::NEG_INFINITY {
            u + scale * (c - u)
        } else if scale < 1.0 {
            f64::NEG_INFINITY
        } else {
            c
        };
        *logit = guided.min(f64::from(f32::MAX)) as f32;
        live |= *logit > f32::NEG_INFINITY;
    }
    if live {
        Ok(())
    } else {
        Err(SamplingError::NoCandidates {
            vocab: conditional.len(),
            after: "the guidance",
        })
    }
}

/// The tokens that the expert finds plausible: `l >= max l + ln α`; everything else becomes −inf.
fn keep_plausible(expert: &mut [f32], alpha: f64) -> Result<(), SamplingError> {
    SamplingError::check(
        alpha > 0.0 && alpha <= 1.0,
        "contrastive_alpha",
        alpha,
        "in (0, 1]",
    )?;
    let mut scratch = Scratch::default();
    let mut row = Row::new(expert, &mut scratch, Backend::detect());
    row.scan(None, "the model")?;
    row.keep_min_p(alpha);
    row.write_back();
    Ok(())
}

/// Contrastive decoding, original form (Li 2022): `ln p_expert − ln p_amateur` on the plausible set, −inf
/// elsewhere, written over `expert`. Meant to be followed by greedy. At the extremes see the
/// [rounding](contrastive_logits#rounding).
///
/// # Errors
///
/// `alpha` outside `(0, 1]`, different lengths, an invalid logit, or no live token.
pub fn contrastive_scores(
    expert: &mut [f32],
    amateur: &[f32],
    alpha: f64,
) -> Result<(), SamplingError> {
    same_length("amateur", expert.len(), amateur.len())?;
    let (lse_e, lse_a) = (log_sum_exp(expert)?, log_sum_exp(amateur)?);
    keep_plausible(expert, alpha)?;
    for (logit, &other) in expert.iter_mut().zip(amateur) {
        if *logit > f32::NEG_INFINITY {
            let a = f64::from(other) - lse_a;
            let difference = f64::from(*logit) - lse_e - a;
            // An amateur without any mass there would give +inf.
            *logit = difference.min(f64::from(f32::MAX)) as f32;
        }
    }
    Ok(())
}

/// Contrastive decoding for sampling (O'Brien & Lewis 2023): `(1 + β)·l_expert − β·l_amateur` on the plausible
/// set, −inf elsewhere, written over `expert`.
///
/// # Rounding
///
/// Computed in `f64` and rounded to `f32`: above `f32::MAX` it becomes `f32::MAX`, so that tokens there may tie, and
/// below `f32::MIN` −inf, so that the token is out.
///
/// # Errors
///
/// `alpha` outside `(0, 1]`, `beta` negative, different lengths, an invalid logit, or no live token.
pub fn contrastive_logits(
    expert: &mut [f32],
    amateur: &[f32],
    alpha: f64,
    beta: f64,
) -> Result<(), SamplingError> {
    SamplingError::check(
        beta >= 0.0 && beta.is_finite(),
        "contrastive_beta",
        beta,
        "a finite number >= 0",
    )?;
    same_length("amateur", expert.len(), amateur.len())?;
    log_sum_exp(amateur)?;
    keep_plausible(expert, alpha)?;
    for (logit, &other) in expert.iter_mut().zip(amateur) {
        if *logit > f32::NEG_INFINITY {
            let (e, a) = (
                f64::from(*logit),
                f64::from(other).max(-f64::from(f32::MAX)),
            );
            let mut value = (1.0 + beta) * e - beta * a;
            // Both products beyond the range of f64: the form that has only one.
            if value.is_nan() {
                value = e + beta * (e - a);
            }
            *logit = value.min(f64::from(f32::MAX)) as f32;
        }
    }
    Ok(())
}

fn same_length(name: &'static str, wanted: usize, given: usize) -> Result<(), SamplingError> {
    if given == wanted {
        Ok(())
    } else {
        Err(SamplingError::Length {
            name,
            given,
            wanted,
        })
    }
}
