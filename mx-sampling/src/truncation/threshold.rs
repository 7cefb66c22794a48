//! Truncations by a threshold on the logit or the probability.

use crate::math;
use crate::row::Row;
use crate::simd;

impl Row<'_> {
    /// `l >= max + t·ln(min_p)`, which is `p >= min_p·p_max` without any exponential.
    pub(crate) fn keep_min_p(&mut self, min_p: f64) {
        if min_p > 0.0 {
            self.keep_at_least(f64::from(self.max) + self.t * math::ln(min_p));
        }
    }

    /// `p >= epsilon`, as a threshold on the logit.
    pub(crate) fn keep_probability(&mut self, epsilon: f64) {
        if epsilon > 0.0 {
            let z = self.total();
            self.keep_at_least(f64::from(self.max) + self.t * math::ln(epsilon * z));
        }
    }

    /// `p >= min(ε, √ε·e^−H)`.
    pub(crate) fn keep_eta(&mut self, epsilon: f64) {
        if epsilon > 0.0 {
            let entropy = self.entropy();
            self.keep_probability(epsilon.min(epsilon.sqrt() * math::exp(-entropy)));
        }
    }

    /// `l >= max − n·σ`; the temperature cancels.
    pub(crate) fn keep_sigma(&mut self, n: f64) {
        let moments = simd::moments(self.backend, self.values(), self.max);
        let count = moments.count.max(1) as f64;
        let mean = moments.sum / count;
        let variance = (moments.squares / count - mean * mean).max(0.0);
        self.keep_at_least(f64::from(self.max) - n * variance.sqrt());
    }
}
