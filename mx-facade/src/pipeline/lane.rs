//! One output with everything that decides its next token.

use super::logprobs::RawRow;
use super::output::Output;
use super::{Plan, TokenMask};
use crate::error::Error;
use crate::trace::{TokenSource, TraceStep};
use mx_runtime::hooks::HookPlan;
use mx_sampling::Sampler;
use mx_sampling::strategy::SparseLaw;
use mx_sampling::strategy::determinantal::{AdsOptions, MAX_POOL};
use std::sync::Arc;

/// One output: its sampler chain, its constraint, its text.
pub(crate) struct Lane {
    pub(crate) sampler: Sampler,
    pub(crate) mask: Option<Box<dyn TokenMask>>,
    pub(crate) hooks: Option<Arc<HookPlan>>,
    pub(crate) output: Output,
    model: super::Loaded,
    ads: Option<AdsOptions>,
    /// Log-probabilities to report; `None` where nobody needs the model's own law.
    report: Option<usize>,
    keep_logprobs: bool,
    trace: bool,
    raw: RawRow,
}

/// A token that was proposed before its logits were known.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) token: u32,
    /// The law it was drawn from; certain for one that was looked up.
    pub(crate) law: SparseLaw,
}

/// A token that was chosen.
pub(crate) struct Decision {
    pub(crate) token: u32,
    /// Whether the draft stands.
    pub(crate) accepted: bool,
    logprob: f64,
    source: TokenSource,
}

impl Lane {
    /// # Errors
    /// [`Error::Sampling`] for a parameter out of range, [`Error::Unsupported`] for stop texts without a tokenizer.
    pub(crate) fn new(plan: &Plan, index: usize) -> Result<Self, Error> {
        let settings = &plan.settings;
        let vocab = plan.model.config().vocab;
        let options = &plan.chain;
        let mut sampler = Sampler::new(options, vocab, settings.seed, index as u64)?;
        sampler.observe_prompt(&plan.prompt);
        sampler.set_explain(settings.include_trace);
        let strategy = &settings.strategy;
        let ranked = strategy.candidates > strategy.n;
        let needed = ranked || settings.include_trace;
        Ok(Lane {
            sampler,
            mask: None,
            hooks: plan.hooks.clone(),
            output: Output::new(plan, index)?,
            model: plan.model.clone(),
            ads: match &strategy.decoding {
                crate::request::Decoding::Rows { ads, .. } => *ads,
                crate::request::Decoding::Beam(_) => None,
            },
            report: strategy.logprobs.or(needed.then_some(0)),
            keep_logprobs: strategy.logprobs.is_some(),
            trace: settings.include_trace,
            raw: RawRow::default(),
        })
    }

    /// The tokens allowed next, for an ensemble that votes.
    pub(crate) fn voting_mask(&mut self) -> Result<Option<&[u32]>, Error> {
        match &mut self.mask {
            Some(mask) => mask.mask(),
            None => Ok(None),
        }
    }

    /// Chooses the next token from its logits, which are changed on the way. A draft stands or falls by them without
    /// changing the law of what comes out (see [`mx_sampling::strategy::speculative`]).
    pub(crate) fn decide(
        &mut self,
        line: &mut [f32],
        draft: Option<&Draft>,
    ) -> Result<Decision, Error> {
        if self.report.is_some() {
            self.raw.keep(line);
        }
        let allowed = match &mut self.mask {
            Some(mask) => mask.mask()?,
            None => None,
        };
        if draft.is_none() && self.ads.is_none() {
            let draw = self.sampler.sample(line, allowed)?;
            return Ok(Decision {
                token: draw.token,
                accepted: false,
                logprob: draw.logprob,
                source: TokenSource::Sampled,
            });
        }
        let law = SparseLaw::of(&self.sampler.law(line, allowed)?);
        let law = match self.ads {
            Some(options) => determinantal(&self.model, &law, options)?,
            None => law,
        };
        let uniforms = self.sampler.stream_mut();
        let (draw, source) = match draft {
            None => (law.draw(uniforms.unit()), TokenSource::Sampled),
            Some(draft) => {
                let p = law.accept_probability(&draft.law, draft.token);
                if uniforms.unit() < p {
                    return Ok(Decision {
                        token: draft.token,
                        accepted: true,
                        logprob: law.probability(draft.token).ln(),
                        source: TokenSource::Drafted,
                    });
                }
                let rest = law.residual(&draft.law);
                (rest.draw(uniforms.unit()), TokenSource::Corrected)
            }
        };
        Ok(Decision {
            token: draw.token,
            accepted: false,
            logprob: law.probability(draw.token).ln(),
            source,
        })
    }

    /// Takes a token that was decided into the history, the constraint and the text. `full` says that the model has no
    /// room for another one; `micros` is the time of the step that gave its logits.
    pub(crate) fn accept(
        &mut self,
        decision: &Decision,
        full: bool,
        micros: u64,
    ) -> Result<(), Error> {
        let token = decision.token;
        let raw = self.report(token);
        self.record(token, decision.source, decision.logprob, raw, micros);
        self.take(token, full)
    }

    /// Takes a token that is the only one possible, for which no logits were computed.
    pub(crate) fn accept_forced(&mut self, token: u32, full: bool) -> Result<(), Error> {
        self.record(token, TokenSource::Forced, 0.0, None, 0);
        // A draw would have taken a word of the stream; what follows must not depend on whether there was one.
        self.sampler.stream_mut().word();
        self.take(token, full)
    }

    /// Takes a token that a search found. `line` holds its logits as they came, where they are wanted.
    pub(crate) fn accept_searched(
        &mut self,
        token: u32,
        line: Option<&[f32]>,
    ) -> Result<(), Error> {
        let raw = match line {
            Some(line) => {
                self.raw.keep(line);
                self.report(token)
            }
            None => None,
        };
        self.record(token, TokenSource::Searched, raw.unwrap_or(0.0), raw, 0);
        self.take(token, false)
    }

    /// The token's log-probability under the model's own law, by the row that was kept; `None` where nobody wants it.
    fn report(&mut self, token: u32) -> Option<f64> {
        let report = self.raw.report(token, self.report?);
        let logprob = report.logprob;
        self.output.logprob_sum += logprob;
        if self.keep_logprobs {
            self.output.logprobs.push(report);
        }
        Some(logprob)
    }

    /// Whether the model's own law is wanted for every token.
    pub(crate) fn wants_raw(&self) -> bool {
        self.report.is_some()
    }

    fn take(&mut self, token: u32, full: bool) -> Result<(), Error> {
        self.sampler.commit(token);
        let mut complete = false;
        if let Some(mask) = &mut self.mask {
            mask.commit(token)?;
            complete = mask.is_complete()?;
        }
        self.output.push(token, complete, full)
    }

    /// The tokens that the constraint leaves no choice about, to be taken without computing logits. Where the caller
    /// wants log-probabilities of every token there are none.
    pub(crate) fn forced(&mut self) -> Result<Vec<u32>, Error> {
        if self.keep_logprobs || self.output.ranked {
            return Ok(Vec::new());
        }
        match &mut self.mask {
            Some(mask) => mask.forced(),
            None => Ok(Vec::new()),
        }
    }

    fn record(
        &mut self,
        token: u32,
        source: TokenSource,
        logprob: f64,
        raw_logprob: Option<f64>,
        step_micros: u64,
    ) {
        if !self.trace {
            return;
        }
        let text = self
            .model
            .tokenizer()
            .and_then(|tokenizer| tokenizer.token_bytes(token))
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default();
        let explained = self
            .sampler
            .explanation()
            .filter(|_| source != TokenSource::Forced);
        let stages = explained.map_or_else(Vec::new, |explanation| {
            explanation.steps.iter().map(Into::into).collect()
        });
        self.output.steps.push(TraceStep {
            token,
            text,
            source,
            logprob,
            raw_logprob,
            stages,
            step_micros,
        });
    }
}

/// The law of `ads` on the most likely tokens of a law.
fn determinantal(
    model: &super::Loaded,
    law: &SparseLaw,
    options: AdsOptions,
) -> Result<SparseLaw, Error> {
    let pool = law.top(MAX_POOL);
    if pool.kept() < 2 {
        return Ok(pool);
    }
    let embeddings = model.centred_embeddings(pool.tokens())?;
    let width = model.config().d_model;
    let rows: Vec<&[f32]> = embeddings.chunks_exact(width).collect();
    Ok(pool.determinantal(&rows, options)?)
}
