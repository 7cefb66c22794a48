//! DRY: a penalty for continuing a repetition, growing with the length of what is repeated.

use crate::error::SamplingError;
use crate::math;
use crate::options::SamplingOptions;

const DEFAULT_BASE: f64 = 1.75;
const DEFAULT_ALLOWED: u32 = 2;

/// The settings of DRY (by p-e-w; llama.cpp).
///
/// The window is the last `last_n` tokens. For every earlier position the longest common suffix `n` of the
/// text up to there and the whole window is taken, but not beyond the most recent breaker. The token that
/// followed that position gets `l − multiplier · base^(n − allowed)` when `n >= allowed`, with the largest
/// `n` per token. Single-token breakers are never penalised.
///
/// ```
/// use mx_sampling::DryOptions;
///
/// let dry = DryOptions { multiplier: 0.8, ..DryOptions::default() };
/// // "a b c a b": c would continue the repetition of "a b", whose length 2 is the allowed one.
/// assert_eq!(dry.penalties(&[0, 1, 2, 0, 1]), [(2, 0.8)]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DryOptions {
    /// Strength; 0 is off.
    pub multiplier: f64,
    /// Growth per repeated token; at least 1.
    pub base: f64,
    /// Longest repetition that is not penalised more than once by `multiplier`.
    pub allowed_length: usize,
    /// Size of the window; `None` is the whole history.
    pub last_n: Option<usize>,
    /// Token sequences that end the look back.
    pub breakers: Vec<Vec<u32>>,
}

impl Default for DryOptions {
    fn default() -> Self {
        Self {
            multiplier: 0.0,
            base: DEFAULT_BASE,
            allowed_length: DEFAULT_ALLOWED as usize,
            last_n: None,
            breakers: Vec::new(),
        }
    }
}

/// Buffers of [`DryOptions::visit`].
#[derive(Debug, Clone, Default)]
pub(crate) struct DryScratch {
    /// Length of the common suffix per distance from the end.
    suffix: Vec<u32>,
    /// Token and length of the repetition it would continue.
    found: Vec<(u32, u32)>,
}

impl DryScratch {
    pub(crate) fn reserve(&mut self, tokens: usize) {
        self.suffix
            .reserve(tokens.saturating_sub(self.suffix.len()));
        self.found.reserve(tokens.saturating_sub(self.found.len()));
    }
}

impl DryOptions {
    /// Reads the `dry_*` knobs; `None` when DRY is off.
    pub(crate) fn from_options(
        options: &SamplingOptions,
        llama: bool,
    ) -> Result<Option<Self>, SamplingError> {
        let multiplier = options.dry_multiplier.unwrap_or(0.0);
        SamplingError::check(
            multiplier >= 0.0 && multiplier.is_finite(),
            "dry_multiplier",
            multiplier,
            "a finite number >= 0",
        )?;
        let base = options.dry_base.unwrap_or(DEFAULT_BASE);
        SamplingError::check(
            base >= 1.0 && base.is_finite(),
            "dry_base",
            base,
            "a finite number >= 1",
        )?;
        let default_window = if llama { crate::plan::LLAMA_WINDOW } else { -1 };
        let window = options.dry_last_n.unwrap_or(default_window);
        SamplingError::check(
            window >= -1,
            "dry_last_n",
            window as f64,
            ">= -1 (-1 is the whole history)",
        )?;
        let breakers = options.dry_breakers.clone().unwrap_or_default();
        if breakers.iter().any(Vec::is_empty) {
            return Err(SamplingError::Empty {
                name: "dry_breakers entry",
            });
        }
        Ok((multiplier > 0.0).then(|| Self {
            multiplier,
            base,
            allowed_length: options.dry_allowed_length.unwrap_or(DEFAULT_ALLOWED) as usize,
            last_n: usize::try_from(window).ok(),
            breakers,
        }))
    }

    /// What is subtracted from which token after `tokens`, ids ascending.
    #[must_use]
    pub fn penalties(&self, tokens: &[u32]) -> Vec<(u32, f64)> {
        let mut list = Vec::new();
        self.visit(tokens, &mut DryScratch::default(), |token, penalty| {
            list.push((token, penalty))
        });
        list
    }

    /// Calls `apply` with every penalised token, ids ascending, and what is subtracted from it.
    pub(crate) fn visit(
        &self,
        tokens: &[u32],
        scratch: &mut DryScratch,
        mut apply: impl FnMut(u32, f64),
    ) {
        let window = &tokens[tokens.len() - self.last_n.unwrap_or(usize::MAX).min(tokens.len())..];
        let limit = self.breaker_distance(window);
        if window.len() <= self.allowed_length || limit < self.allowed_length {
            return;
        }
        common_suffixes(window, &mut scratch.suffix);
        scratch.found.clear();
        for (distance, &suffix) in scratch.suffix.iter().enumerate().skip(1) {
            let repeated = (suffix as usize).min(limit);
            let token = window[window.len() - distance];
            let single_breaker = || self.breakers.iter().any(|breaker| breaker[..] == [token]);
            if repeated >= self.allowed_length && !single_breaker() {
                scratch.found.push((token, repeated as u32));
            }
        }
        // The longest repetition of each token comes last.
        scratch.found.sort_unstable();
        let largest_exponent = self.largest_exponent();
        for (at, &(token, repeated)) in scratch.found.iter().enumerate() {
            if scratch
                .found
                .get(at + 1)
                .is_some_and(|next| next.0 == token)
            {
                continue;
            }
            let exponent = (f64::from(repeated) - self.allowed_length as f64).min(largest_exponent);
            apply(token, self.multiplier * math::pow(self.base, exponent));
        }
    }

    /// Number of tokens after the most recent breaker.
    fn breaker_distance(&self, window: &[u32]) -> usize {
        for distance in 0..window.len() {
            let start = window.len() - 1 - distance;
            let longest = self
                .breakers
                .iter()
                .filter(|breaker| window[start..].starts_with(breaker))
                .map(Vec::len)
                .max();
            if let Some(length) = longest {
                return distance + 1 - length;
            }
        }
        window.len()
    }

    /// The exponent at which the power reaches the largest `f32`.
    fn largest_exponent(&self) -> f64 {
        if self.base <= 1.000_001 {
            return f64::INFINITY;
        }
        (math::ln(f64::from(f32::MAX)) / math::ln(self.base)).floor()
    }
}

/// `suffix[d]` = length of the longest common suffix of the window and the window without its last `d`
/// tokens, by the Z algorithm on the reversed window.
fn common_suffixes(window: &[u32], suffix: &mut Vec<u32>) {
    let n = window.len();
    let reversed = |at: usize| window[n - 1 - at];
    suffix.clear();
    suffix.resize(n, 0);
    let (mut left, mut right) = (0, 0);
    for d in 1..n {
        let mut length = if d < right {
            (suffix[d - left] as usize).min(right - d)
        } else {
            0
        };
        while d + length < n && reversed(length) == reversed(d + length) {
            length += 1;
        }
        suffix[d] = length as u32;
        if d + length > right {
            (left, right) = (d, d + length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breakers_limit_the_look_back_and_are_not_penalised() {
        let dry = DryOptions {
            multiplier: 1.0,
            base: 2.0,
            allowed_length: 1,
            ..DryOptions::default()
        };
        // 1 2 3 4 | 1 2 3: continuing with 4 repeats three tokens.
        assert_eq!(dry.penalties(&[1, 2, 3, 4, 1, 2, 3]), [(4, 4.0)]);
        let cut = DryOptions {
            breakers: vec![vec![1]],
            ..dry.clone()
        };
        assert_eq!(cut.penalties(&[1, 2, 3, 4, 1, 2, 3]), [(4, 2.0)]);
        let sequence = DryOptions {
            breakers: vec![vec![1, 2]],
            ..dry.clone()
        };
        assert_eq!(sequence.penalties(&[1, 2, 3, 4, 1, 2, 3]), [(4, 1.0)]);
        let end = DryOptions {
            breakers: vec![vec![4]],
            ..dry
        };
        assert_eq!(end.penalties(&[1, 2, 3, 4, 1, 2, 3]), []);
    }

    #[test]
    fn the_exponent_is_clamped() {
        let dry = DryOptions {
            multiplier: 1.0,
            base: 10.0,
            allowed_length: 1,
            ..DryOptions::default()
        };
        let penalties = dry.penalties(&[7; 200]);
        assert_eq!(penalties.len(), 1);
        assert!(penalties[0].1 <= f64::from(f32::MAX) && penalties[0].1 > 1e37);
    }
}
