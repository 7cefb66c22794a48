//! Truncations that are defined on the sorted distribution.

use crate::math;
use crate::row::{Row, key_value};

/// Tokens that top-h looks at.
const TOP_H_TOKENS: usize = 100;

/// A sum of second differences below this counts as a flat distribution.
const FLAT: f64 = 1e-6;

impl Row<'_> {
    /// Among the first 100 tokens, renormalised: the prefix whose terms `−p ln p` sum to at most `h·H`.
    pub(crate) fn keep_top_h(&mut self, h: f64) {
        let n = self.sort_top(TOP_H_TOKENS);
        let (max, inv_t) = (f64::from(self.max), 1.0 / self.t);
        let weights: [f64; TOP_H_TOKENS] = std::array::from_fn(|i| {
            self.s.keys.get(i).map_or(0.0, |&key| {
                math::exp((f64::from(key_value(key)) - max) * inv_t)
            })
        });
        let z: f64 = weights.iter().sum();
        let term = |weight: f64| {
            let p = weight / z;
            if p > 0.0 { -p * math::ln(p) } else { 0.0 }
        };
        let entropy: f64 = weights.iter().map(|&weight| term(weight)).sum();
        let mut sum = 0.0;
        let mut kept = 0;
        for &weight in &weights[..n] {
            sum += term(weight);
            if sum > h * entropy {
                break;
            }
            kept += 1;
        }
        self.keep_top(kept.max(self.min_keep));
    }

    /// Cuts at the first i whose cumulative normalised second difference exceeds `z`, keeping i tokens.
    pub(crate) fn keep_tail_free(&mut self, z: f64) {
        if z >= 1.0 {
            return;
        }
        let live = self.sort_top(usize::MAX);
        // Tokens that the model or a mask excludes are part of the sorted law, with probability 0: two of
        // them see every second difference that is not 0.
        let n = self.len();
        let padded = n.min(live + 2);
        if n <= 2 {
            return;
        }
        let (max, inv_t) = (f64::from(self.max), 1.0 / self.t);
        // The bins are free here and hold the weights of the sorted tokens.
        let mut weights = std::mem::take(&mut self.s.bins);
        weights.clear();
        weights.extend(
            self.s
                .keys
                .iter()
                .map(|&key| math::exp((f64::from(key_value(key)) - max) * inv_t)),
        );
        weights.resize(padded, 0.0);
        let total: f64 = weights.iter().sum();
        let second =
            |i: usize| ((weights[i] - 2.0 * weights[i + 1] + weights[i + 2]) / total).abs();
        let sum: f64 = (0..padded - 2).map(second).sum();
        let mut cumulative = 0.0;
        let mut kept = live;
        for i in 0..n - 2 {
            cumulative += match (sum > FLAT, i < padded - 2) {
                (true, true) => second(i) / sum,
                (true, false) => break,
                (false, _) => 1.0 / (n - 2) as f64,
            };
            if cumulative > z && i >= self.min_keep {
                kept = i.min(live);
                break;
            }
        }
        weights.clear();
        weights.resize(crate::select::BINS, 0.0);
        self.s.bins = weights;
        self.keep_top(kept.max(self.min_keep));
    }
}
