//! The law of one step: which tokens are left, and how likely each is.

use crate::math;
use crate::row::{Row, Shape};

/// The token that was drawn, with the law it was drawn from in brief.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// The token id.
    pub token: u32,
    /// Natural logarithm of its probability under the law that was sampled; 0 for greedy.
    pub logprob: f64,
}

/// The distribution over the next token after the whole chain.
///
/// ```
/// use mx_sampling::{Sampler, SamplingOptions};
///
/// let options = SamplingOptions { top_k: Some(2), ..Default::default() };
/// let mut sampler = Sampler::new(&options, 4, 0, 0)?;
/// let mut logits = [0.0, 2.0, 1.0, 2.0];
/// let mut law = sampler.law(&mut logits, None)?;
/// assert_eq!(law.iter().collect::<Vec<_>>(), [(1, 0.5), (3, 0.5)]);
/// assert_eq!(law.draw(0.5).token, 3);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
pub struct Law<'a> {
    pub(crate) row: Row<'a>,
    greedy: bool,
    z: f64,
}

impl<'a> Law<'a> {
    pub(crate) fn new(mut row: Row<'a>, greedy: bool) -> Self {
        let z = if greedy { 1.0 } else { row.total() };
        Self { row, greedy, z }
    }

    /// How many tokens are left.
    #[must_use]
    pub fn kept(&self) -> usize {
        if self.greedy { 1 } else { self.row.live() }
    }

    /// The tokens that are left with their probabilities, ids ascending.
    ///
    /// A token stays in the law even when its probability is too small for an `f32` weight (below e⁻⁸⁷ of
    /// the largest): it is given as 0 then and never drawn.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        let argmax = if self.greedy {
            Some(self.row.argmax())
        } else {
            None
        };
        let all = if self.greedy { 0 } else { self.row.len() };
        let listed = (0..all).filter_map(|at| {
            let live = self.row.values()[at] > f32::NEG_INFINITY;
            live.then(|| (self.row.id(at), f64::from(self.row.weight(at)) / self.z))
        });
        argmax.map(|token| (token, 1.0)).into_iter().chain(listed)
    }

    /// The probability of one token; 0 for what was removed.
    #[must_use]
    pub fn probability(&self, token: u32) -> f64 {
        if self.greedy {
            return if token == self.row.argmax() { 1.0 } else { 0.0 };
        }
        let at = match self.row.shape {
            Shape::List(n) => self.row.s.ids[..n].binary_search(&token).ok(),
            _ => Some(token as usize).filter(|at| *at < self.row.len()),
        };
        at.map_or(0.0, |at| f64::from(self.row.weight(at)) / self.z)
    }

    /// Keeps only the first `n` tokens of the total order (at least one) and renormalises: the pool of `ads`,
    /// the candidates of a trace.
    pub fn keep_top(&mut self, n: usize) {
        if !self.greedy {
            self.row.keep_top(n.max(1));
            self.z = self.row.total();
        }
    }

    /// Writes the law as a dense row: `law[token]` becomes the probability of the token.
    pub fn write_to(&self, law: &mut [f64]) {
        law.fill(0.0);
        for (token, p) in self.iter() {
            if let Some(slot) = law.get_mut(token as usize) {
                *slot = p;
            }
        }
    }

    /// Entropy in nats.
    pub fn entropy(&mut self) -> f64 {
        if self.greedy { 0.0 } else { self.row.entropy() }
    }

    /// The first token of the total order: largest probability, lowest id.
    #[must_use]
    pub fn argmax(&self) -> u32 {
        self.row.argmax()
    }

    /// Draws by inverse CDF: the smallest id whose cumulative probability exceeds `u`, strictly.
    pub fn draw(&mut self, u: f64) -> Draw {
        if self.greedy {
            return Draw {
                token: self.row.argmax(),
                logprob: 0.0,
            };
        }
        let (token, weight) = self.row.draw(u);
        Draw {
            token,
            logprob: math::ln(weight / self.z),
        }
    }
}

impl std::fmt::Debug for Law<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Law")
            .field("kept", &self.kept())
            .finish_non_exhaustive()
    }
}
