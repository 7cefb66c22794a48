//! A law as a list of the tokens that are left.

use crate::error::SamplingError;
use crate::law::{Draw, Law};
use crate::math;
use crate::strategy::determinantal::{Ads, AdsOptions};

/// A distribution over the next token that names only the tokens that are left, ids ascending.
///
/// What strategies pass around: it outlives the sampler's buffers, costs as much as tokens were kept, and knows the
/// operations that [speculative decoding](crate::strategy::speculative) and `ads` need. The dense functions of those
/// modules are its definition.
///
/// ```
/// use mx_sampling::strategy::SparseLaw;
///
/// let p = SparseLaw::new(vec![(3, 0.5), (1, 0.5)])?;
/// let q = SparseLaw::certain(3);
/// assert_eq!(p.accept_probability(&q, 3), 0.5);
/// assert_eq!(p.residual(&q), SparseLaw::certain(1));
/// assert_eq!(p.draw(0.5).token, 3);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SparseLaw {
    tokens: Vec<u32>,
    probabilities: Vec<f64>,
}

impl SparseLaw {
    /// A law of these tokens with these weights, normalised here.
    ///
    /// # Errors
    ///
    /// [`SamplingError::TokenTwice`] for a token that is named twice, and [`SamplingError::InvalidLaw`] for a weight that
    /// is negative or no number, and when no weight is positive.
    pub fn new(mut pairs: Vec<(u32, f64)>) -> Result<Self, SamplingError> {
        pairs.sort_unstable_by_key(|(token, _)| *token);
        if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(SamplingError::TokenTwice {
                name: "law",
                token: pair[0].0,
            });
        }
        let (tokens, mut probabilities): (Vec<u32>, Vec<f64>) = pairs.into_iter().unzip();
        crate::draw::check_law("law", &probabilities)?;
        crate::strategy::speculative::normalise(&mut probabilities);
        Ok(Self {
            tokens,
            probabilities,
        })
    }

    /// The law of one step of a sampler.
    #[must_use]
    pub fn of(law: &Law<'_>) -> Self {
        let (tokens, probabilities) = law.iter().unzip();
        Self {
            tokens,
            probabilities,
        }
    }

    /// All mass on one token.
    #[must_use]
    pub fn certain(token: u32) -> Self {
        Self {
            tokens: vec![token],
            probabilities: vec![1.0],
        }
    }

    /// How many tokens are left.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens with their probabilities, ids ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.tokens
            .iter()
            .copied()
            .zip(self.probabilities.iter().copied())
    }

    /// The probability of one token.
    #[must_use]
    pub fn probability(&self, token: u32) -> f64 {
        self.tokens
            .binary_search(&token)
            .map_or(0.0, |at| self.probabilities[at])
    }

    /// The chance that this law, as the target, accepts `token` drawn from `draft`: `min(1, p/q)`, 0 where the target
    /// excludes it.
    #[must_use]
    pub fn accept_probability(&self, draft: &Self, token: u32) -> f64 {
        let (p, q) = (self.probability(token), draft.probability(token));
        if p <= 0.0 {
            0.0
        } else if q <= 0.0 {
            1.0
        } else {
            (p / q).min(1.0)
        }
    }

    /// The law after a token drawn from `draft` was rejected: `max(p − q, 0)`, normalised; `p` where nothing is left.
    #[must_use]
    pub fn residual(&self, draft: &Self) -> Self {
        let rest: Vec<(u32, f64)> = self
            .iter()
            .map(|(token, p)| (token, (p - draft.probability(token)).max(0.0)))
            .filter(|(_, rest)| *rest > 0.0)
            .collect();
        Self::new(rest).unwrap_or_else(|_| self.clone())
    }

    /// Draws by inverse CDF: the smallest id whose cumulative probability exceeds `u`, strictly.
    #[must_use]
    pub fn draw(&self, u: f64) -> Draw {
        let total: f64 = self.probabilities.iter().sum();
        let (target, mut cumulative) = (u * total, 0.0);
        let mut last = 0;
        for (at, p) in self.probabilities.iter().enumerate() {
            cumulative += p;
            if *p > 0.0 {
                last = at;
                if cumulative > target {
                    break;
                }
            }
        }
        Draw {
            token: self.tokens.get(last).copied().unwrap_or(0),
            logprob: self.probabilities.get(last).map_or(0.0, |p| math::ln(*p)),
        }
    }

    /// The `n` most likely tokens, renormalised; lower ids first on ties.
    #[must_use]
    pub fn top(&self, n: usize) -> Self {
        if self.kept() <= n {
            return self.clone();
        }
        let mut pairs: Vec<(u32, f64)> = self.iter().collect();
        pairs.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        pairs.truncate(n.max(1));
        Self::new(pairs).unwrap_or_else(|_| self.clone())
    }

    /// The law of [`ads`](crate::strategy::determinantal) over this pool; `rows` gives the embedding of a token, centred
    /// by the vocabulary's mean.
    ///
    /// # Errors
    ///
    /// As [`Ads::new`]; take the [`top`](Self::top) first.
    pub fn determinantal(
        &self,
        rows: &[&[f32]],
        options: AdsOptions,
    ) -> Result<Self, SamplingError> {
        let ads = Ads::new(&self.probabilities, rows, options)?;
        Ok(Self {
            tokens: self.tokens.clone(),
            probabilities: ads.law().to_vec(),
        })
    }

    /// The tokens, ids ascending.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::strategy::speculative::{DraftLaw, accept_probability, residual};
    use proptest::prelude::*;

    fn dense(weights: &[u8]) -> Option<Vec<f64>> {
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        (total > 0.0).then(|| weights.iter().map(|w| f64::from(*w) / total).collect())
    }

    fn sparse(law: &[f64]) -> SparseLaw {
        let pairs = law.iter().enumerate().filter(|(_, p)| **p > 0.0);
        SparseLaw::new(pairs.map(|(token, p)| (token as u32, *p)).collect()).unwrap()
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_dense_functions(
            p in proptest::collection::vec(0u8..6, 7),
            q in proptest::collection::vec(0u8..6, 7),
            token in 0u32..7,
            u in 0.0f64..1.0,
        ) {
            let (Some(p), Some(q)) = (dense(&p), dense(&q)) else { return Ok(()) };
            let (a, b) = (sparse(&p), sparse(&q));
            let wanted = accept_probability(&p, DraftLaw::Drawn(&q), token);
            prop_assert!((a.accept_probability(&b, token) - wanted).abs() < 1e-12);
            let wanted = residual(&p, DraftLaw::Drawn(&q), token);
            let rest = a.residual(&b);
            for (token, p) in wanted.iter().enumerate() {
                prop_assert!((rest.probability(token as u32) - p).abs() < 1e-9);
            }
            let certain = SparseLaw::certain(token);
            let wanted = residual(&p, DraftLaw::Certain, token);
            let rest = a.residual(&certain);
            for (token, p) in wanted.iter().enumerate() {
                prop_assert!((rest.probability(token as u32) - p).abs() < 1e-9);
            }
            let drawn = crate::draw_from_law(&p, u).unwrap() as u32;
            let ours = a.draw(u).token;
            let below: f64 = p[..ours.max(drawn) as usize].iter().sum();
            prop_assert!(ours == drawn || (below - u).abs() < 1e-9);
        }
    }

    #[test]
    fn the_top_is_by_probability_then_id() {
        let law = SparseLaw::new(vec![(9, 1.0), (2, 2.0), (5, 1.0)]).unwrap();
        assert_eq!(law.top(2).tokens(), [2, 5]);
        assert!((law.top(2).probability(2) - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn zero_never_comes_out() {
        let law = SparseLaw::new(vec![(0, 0.0), (1, 1.0), (2, 0.0)]).unwrap();
        for u in [0.0, 0.5, 1.0 - f64::EPSILON] {
            assert_eq!(law.draw(u).token, 1);
        }
    }
}
