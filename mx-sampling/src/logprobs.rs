//! Log-probabilities of a step: raw and processed.

use crate::math;
use crate::row::{Row, key_position, key_value};
use crate::simd::{self, BLOCK, Backend};

/// A token with the natural logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token id.
    pub token: u32,
    /// `ln p`; −inf for what was removed.
    pub logprob: f64,
}

/// `ln Σ eˣ` of a row of logits: what a logit is less this is the logarithm of its probability. One pass for the largest
/// and one for the sum, with the same bits on every instruction set; within 1e-7. NaN or +∞ for a row that has such, −∞ for
/// one that leaves nothing.
///
/// ```
/// let normaliser = mx_sampling::log_normaliser(&[0.0, 0.0, f32::NEG_INFINITY]);
/// assert!((normaliser - 2f64.ln()).abs() < 1e-7);
/// ```
#[must_use]
pub fn log_normaliser(row: &[f32]) -> f64 {
    let (max, block_max) = scanned(row);
    normalised(row, &block_max, max)
}

/// The largest value of a row, NaN if any may be, and that of every block.
pub(crate) fn scanned(row: &[f32]) -> (f32, Vec<f32>) {
    let mut block_max = vec![0.0; row.len().div_ceil(BLOCK)];
    let max = simd::scan(Backend::detect(), row, &mut block_max);
    (max, block_max)
}

/// [`log_normaliser`] of a row that was scanned.
pub(crate) fn normalised(row: &[f32], block_max: &[f32], max: f32) -> f64 {
    if !max.is_finite() {
        return f64::from(max);
    }
    let mut block_sum = vec![0.0; block_max.len()];
    let total = simd::exp_total(Backend::detect(), row, block_max, max, 1.0, &mut block_sum);
    f64::from(max) + math::ln(total)
}

/// The chosen token and the most likely ones under one law.
///
/// The chosen token is always there, so a report on the top n names up to n + 1 tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct LogprobSide {
    /// The token that was drawn.
    pub chosen: TokenLogprob,
    /// The most likely tokens, in the total order. The raw side fills up with tokens of −inf, ids
    /// ascending; the processed side has fewer entries than asked for when fewer are left.
    pub top: Vec<TokenLogprob>,
}

impl Default for LogprobSide {
    fn default() -> Self {
        let chosen = TokenLogprob {
            token: 0,
            logprob: f64::NEG_INFINITY,
        };
        Self {
            chosen,
            top: Vec::new(),
        }
    }
}

/// The log-probabilities of one step; see [`Sampler::report_logprobs`](crate::Sampler::report_logprobs).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Logprobs {
    /// Log-softmax of the logits as they came from the model.
    pub raw: Option<LogprobSide>,
    /// The law that was sampled, after penalties, masks, temperature and truncations.
    pub processed: Option<LogprobSide>,
}

/// Which reports were asked for, and their buffers.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogprobReport {
    pub(crate) raw: Option<usize>,
    pub(crate) processed: Option<usize>,
    pub(crate) result: Logprobs,
    /// `ln Z` of the raw logits, relative to nothing.
    raw_lse: f64,
    /// The raw logits, when edits are about to change them.
    copy: Vec<f32>,
}

impl LogprobReport {
    pub(crate) fn new(raw: Option<usize>, processed: Option<usize>) -> Self {
        let side = |wanted: Option<usize>| {
            wanted.map(|n| LogprobSide {
                top: Vec::with_capacity(n),
                ..LogprobSide::default()
            })
        };
        let result = Logprobs {
            raw: side(raw),
            processed: side(processed),
        };
        Self {
            raw,
            processed,
            result,
            ..Self::default()
        }
    }

    /// Reads the raw law off a row that was scanned and not changed yet.
    pub(crate) fn read_raw(&mut self, row: &mut Row<'_>, edits_follow: bool) {
        let (Some(n), Some(side)) = (self.raw, &mut self.result.raw) else {
            return;
        };
        self.raw_lse = f64::from(row.max) + math::ln(row.total());
        read_top(row, n, self.raw_lse, &mut side.top);
        let out = row
            .logits
            .iter()
            .enumerate()
            .filter(|(_, x)| **x == f32::NEG_INFINITY);
        let missing = n - side.top.len();
        side.top
            .extend(out.take(missing).map(|(token, _)| TokenLogprob {
                token: token as u32,
                logprob: f64::NEG_INFINITY,
            }));
        self.copy.clear();
        if edits_follow {
            self.copy.extend_from_slice(row.logits);
        }
    }

    /// Completes the report for the token that was chosen.
    pub(crate) fn finish(&mut self, row: &mut Row<'_>, token: u32, logprob: f64, greedy: bool) {
        if let Some(side) = &mut self.result.raw {
            let raw = if self.copy.is_empty() {
                &*row.logits
            } else {
                &self.copy
            };
            let logit = raw
                .get(token as usize)
                .copied()
                .unwrap_or(f32::NEG_INFINITY);
            side.chosen = TokenLogprob {
                token,
                logprob: f64::from(logit) - self.raw_lse,
            };
        }
        if let (Some(n), Some(side)) = (self.processed, &mut self.result.processed) {
            side.chosen = TokenLogprob { token, logprob };
            side.top.clear();
            if greedy {
                side.top.extend((n > 0).then_some(side.chosen));
            } else {
                // In units of the scaled logits, as the keys are scaled below.
                let lse = f64::from(row.max) / row.t + math::ln(row.total());
                read_top(row, n, lse, &mut side.top);
            }
        }
    }
}

fn read_top(row: &mut Row<'_>, n: usize, lse: f64, top: &mut Vec<TokenLogprob>) {
    top.clear();
    let found = if n == 0 { 0 } else { row.sort_top(n) };
    for i in 0..found {
        let key = row.s.keys[i];
        let logprob = f64::from(key_value(key)) / row.t - lse;
        top.push(TokenLogprob {
            token: row.id(key_position(key)),
            logprob,
        });
    }
}
