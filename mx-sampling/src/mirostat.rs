//! Mirostat 1 and 2: truncations that steer the surprise of the text (Basu 2020).

use std::f64::consts::LN_2;

use crate::math;
use crate::row::{Row, key_value};

/// Tokens from which version 1 estimates the Zipf exponent.
const ZIPF_TOKENS: usize = 100;

/// Version, target and rate of mirostat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mirostat {
    pub(crate) version: u8,
    pub(crate) tau: f64,
    pub(crate) eta: f64,
}

impl Mirostat {
    /// The state before the first token: `μ₀ = 2τ`.
    pub(crate) fn start(&self) -> f64 {
        2.0 * self.tau
    }

    /// `μ − η(s − τ)` for a token of renormalised probability `p`, `s = −log2 p`.
    ///
    /// A token that was taken against the law may have weight 0. Its surprise counts as that of the smallest normal
    /// `f32`, 126 bits: with an infinite one the state would never come back.
    pub(crate) fn update(&self, mu: f64, p: f64) -> f64 {
        let p = p.max(f64::from(f32::MIN_POSITIVE));
        mu - self.eta * (-math::ln(p) / LN_2 - self.tau)
    }

    /// Truncates for the state `mu`.
    pub(crate) fn cut(&self, row: &mut Row<'_>, mu: f64) {
        if self.version == 1 {
            let k = zipf_k(row, mu);
            row.keep_top(k.max(row.min_keep));
        } else {
            row.keep_probability(math::exp(-mu * LN_2));
        }
    }
}

/// `k = (ε·2^μ / (1 − V^−ε))^(1/ŝ)` with `ε = ŝ − 1`, at least 1 and at most the number of tokens.
fn zipf_k(row: &mut Row<'_>, mu: f64) -> usize {
    let vocab = row.logits.len() as f64;
    let live = row.live();
    let n = row.sort_top(ZIPF_TOKENS);
    let inv_t = 1.0 / row.t;
    let (mut tb, mut tt) = (0.0, 0.0);
    for (i, pair) in row.s.keys[..n].windows(2).enumerate() {
        let t = math::ln((i as f64 + 2.0) / (i as f64 + 1.0));
        // ln(p_i / p_{i+1}) is the difference of the logits.
        let b = (f64::from(key_value(pair[0])) - f64::from(key_value(pair[1]))) * inv_t;
        tb += t * b;
        tt += t * t;
    }
    if tt == 0.0 {
        return 1;
    }
    let s = tb / tt;
    let epsilon = s - 1.0;
    let scale = 1.0 - math::pow(vocab, -epsilon);
    let k = math::pow(epsilon * math::pow(2.0, mu) / scale, 1.0 / s);
    if k.is_nan() {
        live
    } else {
        (k.floor().max(1.0) as usize).min(live)
    }
}
