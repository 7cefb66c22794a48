//! XTC: exclude top choices.

use crate::error::SamplingError;
use crate::math;
use crate::row::{Row, Scratch, Shape, order_key};
use crate::simd::Backend;

/// Exclude top choices (llama.cpp): with some probability drops every token that is likely enough, except
/// the least likely of them.
///
/// ```
/// use mx_sampling::Xtc;
///
/// let xtc = Xtc { threshold: 0.1, probability: 0.5 };
/// let mut logits = [2.0, 3.0, -9.0, 1.5];
/// xtc.apply(0.7, &mut logits)?; // u >= probability: nothing happens
/// assert_eq!(logits, [2.0, 3.0, -9.0, 1.5]);
/// xtc.apply(0.3, &mut logits)?;
/// assert_eq!(logits, [f32::NEG_INFINITY, f32::NEG_INFINITY, -9.0, 1.5]);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xtc {
    /// Probability from which a token is a top choice; `(0, 0.5]`.
    pub threshold: f64,
    /// Probability that anything happens; `[0, 1]`, off 0.
    pub probability: f64,
}

impl Xtc {
    /// Acts iff `u < probability`.
    ///
    /// # Errors
    ///
    /// A parameter out of range, an invalid logit, or no live token.
    pub fn apply(&self, u: f64, logits: &mut [f32]) -> Result<(), SamplingError> {
        self.check()?;
        let mut scratch = Scratch::default();
        let mut row = Row::new(logits, &mut scratch, Backend::detect());
        row.scan(None, "the model")?;
        if u < self.probability {
            row.exclude_top_choices(self.threshold);
            row.write_back();
        }
        Ok(())
    }

    /// Checks the parameters.
    pub(crate) fn check(&self) -> Result<(), SamplingError> {
        let Self {
            threshold,
            probability,
        } = *self;
        SamplingError::check(
            threshold > 0.0 && threshold <= 0.5,
            "xtc_threshold",
            threshold,
            "in (0, 0.5]",
        )?;
        SamplingError::check(
            (0.0..=1.0).contains(&probability),
            "xtc_probability",
            probability,
            "in [0, 1]",
        )
    }
}

impl Row<'_> {
    /// Of the tokens with `p >= threshold` drops all but the least likely, when there are at least two and
    /// `min_keep` tokens remain.
    pub(crate) fn exclude_top_choices(&mut self, threshold: f64) {
        let z = self.total();
        let limit = math::round_up_to_f32(f64::from(self.max) + self.t * math::ln(threshold * z));
        let mut tops = 0usize;
        let mut least = 0u64;
        for (at, &value) in self.values().iter().enumerate() {
            if value >= limit {
                tops += 1;
                least = least.max(order_key(value, at));
            }
        }
        if tops < 2 || self.live() - (tops - 1) < self.min_keep {
            return;
        }
        if self.shape == Shape::Dense {
            self.make_list();
            least = 0;
            for (at, &value) in self.values().iter().enumerate() {
                if value >= limit {
                    least = least.max(order_key(value, at));
                }
            }
        }
        self.retain(|at, value| value < limit || order_key(value, at) == least);
        self.refresh_max();
    }
}
