//! Adaptive-p: prefers tokens whose probability is near a target that follows the text.

use crate::error::SamplingError;
use crate::math;
use crate::row::{Row, Scratch};
use crate::simd::Backend;

const WIDTH: f64 = 0.3;
const PEAK: f64 = 5.0;
const SHARPNESS: f64 = 10.0;

/// Target and memory of adaptive-p (llama.cpp, pull request 17927).
///
/// With `d = |p − a|/0.3` the new logit is `5 − 10·d²/(1 + d)`, where the adapted target is
/// `a = clamp(2·target − ws/tw, 0, 1)`. Put min-p before it: the transform lifts what had no mass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveP {
    /// Wanted average probability of the tokens taken; `[0, 1]`.
    pub target: f64,
    /// Memory; `[0, 0.99]`.
    pub decay: f64,
}

/// Decayed sum of the probabilities that were taken, and its weight.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AdaptiveState {
    /// `ws ← p + decay·ws`.
    pub sum: f64,
    /// `tw ← 1 + decay·tw`.
    pub weight: f64,
}

impl AdaptiveP {
    /// The target of this step: `clamp(2·target − ws/tw, 0, 1)`, at first the target itself.
    #[must_use]
    pub fn adapted(&self, state: AdaptiveState) -> f64 {
        if state.weight == 0.0 {
            return self.target.clamp(0.0, 1.0);
        }
        (2.0 * self.target - state.sum / state.weight).clamp(0.0, 1.0)
    }

    /// The state after a token of probability `p` (before the transform) was taken.
    #[must_use]
    pub fn update(&self, state: AdaptiveState, p: f64) -> AdaptiveState {
        AdaptiveState {
            sum: p + self.decay * state.sum,
            weight: 1.0 + self.decay * state.weight,
        }
    }

    /// Transforms the logits of a row for this state.
    ///
    /// # Errors
    ///
    /// An invalid logit, or no live token.
    pub fn apply(&self, state: AdaptiveState, logits: &mut [f32]) -> Result<(), SamplingError> {
        let mut scratch = Scratch::default();
        let mut row = Row::new(logits, &mut scratch, Backend::detect());
        row.scan(None, "the model")?;
        self.transform(&mut row, state, &mut Vec::new());
        row.write_back();
        Ok(())
    }

    /// Replaces every logit by `5 − 10·d²/(1 + d)` with `d = |p − a|/0.3`; the probabilities before go to
    /// `originals`, in list order.
    pub(crate) fn transform(
        &self,
        row: &mut Row<'_>,
        state: AdaptiveState,
        originals: &mut Vec<f32>,
    ) {
        let target = self.adapted(state);
        let n = row.make_list();
        let z = row.total();
        originals.clear();
        for at in 0..n {
            let a = (f64::from(row.s.values[at]) - f64::from(row.max)) / row.t;
            let p = math::exp(a) / z;
            originals.push(p as f32);
            let d = (p - target).abs() / WIDTH;
            row.s.values[at] = (PEAK - SHARPNESS * d * d / (1.0 + d)) as f32;
        }
        row.t = 1.0;
        row.refresh_max();
    }
}
