//! The steps that change single logits.

use crate::error::SamplingError;
use crate::explain::Explanation;
use crate::history::History;
use crate::penalties::{self, DryScratch, WindowCounts};
use crate::plan::{Op, Plan};
use crate::processor::{Context, LogitsProcessor};
use crate::row::Row;

/// What the edits of single logits need.
pub(super) struct Edit<'a> {
    pub(super) plan: &'a Plan,
    pub(super) history: &'a History,
    pub(super) processors: &'a mut [Box<dyn LogitsProcessor>],
    pub(super) dry: &'a mut DryScratch,
    pub(super) mask: Option<&'a [u32]>,
}

impl Edit<'_> {
    pub(super) fn apply(
        &mut self,
        op: &Op,
        row: &mut Row<'_>,
        mut explain: Option<&mut Explanation>,
    ) -> Result<(), SamplingError> {
        let history = self.history;
        let generated = history.generated();
        let sanitize = self.plan.sanitize;
        let logits = &mut *row.logits;
        match op {
            Op::LogitBias(biases) => {
                biases
                    .iter()
                    .for_each(|&(token, bias)| shift(logits, token, bias, sanitize));
            }
            Op::SequenceBias(table) | Op::BadWords(table) => {
                table
                    .matching(&history.tokens)
                    .for_each(|(token, bias)| shift(logits, token, bias, sanitize));
            }
            Op::Repetition(penalty) => {
                for (token, _) in history.repetition.iter().flat_map(WindowCounts::iter) {
                    change(logits, token, |x| penalties::repeat_penalised(x, *penalty));
                }
            }
            Op::Frequency(penalty) => {
                for (token, count) in history.frequency.iter().flat_map(WindowCounts::iter) {
                    change(logits, token, |x| {
                        penalties::count_penalised(x, count, *penalty, 0.0)
                    });
                }
            }
            Op::Presence(penalty) => {
                for (token, count) in history.frequency.iter().flat_map(WindowCounts::iter) {
                    change(logits, token, |x| {
                        penalties::count_penalised(x, count, 0.0, *penalty)
                    });
                }
            }
            Op::Dry(dry) => dry.visit(&history.tokens, self.dry, |token, penalty| {
                shift(logits, token, -penalty, sanitize);
            }),
            Op::NoRepeatNgram => {
                let banned = history
                    .ngram
                    .iter()
                    .flat_map(|ngram| ngram.banned(&history.tokens));
                banned.for_each(|token| shift(logits, token, f64::NEG_INFINITY, sanitize));
            }
            Op::ExponentialDecay { start, factor } => {
                for &token in &self.plan.eos {
                    change(logits, token, |x| {
                        penalties::exponential_decay(x, generated, *start, *factor)
                    });
                }
            }
            Op::Processors => {
                let context = Context {
                    tokens: &history.tokens,
                    prompt_len: history.prompt_len,
                };
                for processor in self.processors.iter_mut() {
                    processor.process(context, row.logits)?;
                    if let Some(explain) = explain.as_deref_mut() {
                        explain.note(processor.name(), row);
                    }
                }
            }
            Op::Suppress { always, first } => {
                always
                    .iter()
                    .for_each(|&token| shift(logits, token, f64::NEG_INFINITY, sanitize));
                if generated == 0 {
                    first
                        .iter()
                        .for_each(|&token| shift(logits, token, f64::NEG_INFINITY, sanitize));
                }
            }
            Op::MinNewTokens(least) => {
                let early = generated < *least;
                self.plan
                    .eos
                    .iter()
                    .filter(|_| early)
                    .for_each(|&token| shift(logits, token, f64::NEG_INFINITY, sanitize));
            }
            Op::Forced { at, eos_at } => self.force(at, *eos_at, logits)?,
            _ => {}
        }
        Ok(())
    }

    /// Leaves only the forced tokens of this position, if it has any.
    fn force(
        &self,
        at: &[(usize, u32)],
        eos_at: Option<usize>,
        logits: &mut [f32],
    ) -> Result<(), SamplingError> {
        let generated = self.history.generated();
        let listed = at
            .iter()
            .find(|(position, _)| *position == generated)
            .map(|(_, token)| *token);
        let single = listed.map(|token| [token]);
        let forced = match &single {
            Some(token) => &token[..],
            None if eos_at == Some(generated + 1) => &self.plan.eos,
            None => return Ok(()),
        };
        let allowed = |token: u32| {
            self.mask
                .is_none_or(|mask| (mask[token as usize / 32] >> (token % 32)) & 1 == 1)
        };
        let out = |token: u32| logits[token as usize] == f32::NEG_INFINITY;
        if let Some(&token) = forced
            .first()
            .filter(|_| forced.iter().all(|&token| out(token) || !allowed(token)))
        {
            let by = if out(token) {
                "an earlier step"
            } else {
                "the mask"
            };
            return Err(SamplingError::ForcedTokenForbidden { token, by });
        }
        for token in (0..logits.len() as u32).filter(|token| !forced.contains(token)) {
            shift(logits, token, f64::NEG_INFINITY, self.plan.sanitize);
        }
        Ok(())
    }
}

/// Changes one logit. Ids beyond the vocabulary, which a history may hold, are passed over.
fn change(logits: &mut [f32], token: u32, edit: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.get_mut(token as usize) {
        *logit = edit(*logit);
    }
}

/// Adds a bias, −inf to remove the token. The sum of finite numbers stays finite above. NaN and +inf stay, to
/// be found by the scan, unless they are taken for good (`sanitize`): then a removal removes them too.
fn shift(logits: &mut [f32], token: u32, bias: f64, sanitize: bool) {
    change(logits, token, |x| {
        if x.is_finite() {
            (f64::from(x) + bias).min(f64::from(f32::MAX)) as f32
        } else if sanitize && bias == f64::NEG_INFINITY {
            f32::NEG_INFINITY
        } else {
            x
        }
    });
}
