//! One output with everything that decides its next token.

use super::logprobs::RawRow;
use super::output::Output;
use super::union::Union;
use super::{Plan, TokenMask};
use crate::error::Error;
use crate::steering::Watching;
use crate::trace::{
    DraftRound, LAW_TOKENS, Likely, Probe, SteeringNorm, TokenSource, TraceStep, Vote,
};
use mx_runtime::hooks::{Captured, HookPlan};
use mx_runtime::tokenizer::Tokenizer;
use mx_sampling::strategy::SparseLaw;
use mx_sampling::strategy::determinantal::{AdsOptions, MAX_POOL};
use mx_sampling::{Sampler, Step};
use std::sync::Arc;
use std::time::Instant;

/// One output: its sampler chain, its constraint, its text.
pub(crate) struct Lane {
    pub(crate) sampler: Sampler,
    pub(crate) mask: Option<Box<dyn TokenMask>>,
    pub(crate) hooks: Option<Arc<HookPlan>>,
    pub(crate) output: Output,
    model: super::Loaded,
    tokenizer: Option<Arc<dyn Tokenizer>>,
    union: Option<Arc<Union>>,
    ads: Option<AdsOptions>,
    /// Log-probabilities to report; `None` where nobody needs the model's own law.
    report: Option<usize>,
    keep_logprobs: bool,
    /// The last tokens of the output, as many as are forced and have no logits yet where log-probabilities are wanted.
    owed: usize,
    trace: bool,
    raw: RawRow,
    /// Whether the model's own law is wanted for nothing but the rank of the output, for which it is enough what the
    /// sampler knows of the token that it drew.
    only_ranked: bool,
    /// Log-probability under the model's own law of the token drawn last, where the row was not kept.
    drawn: Option<f64>,
    /// What the next step of the trace is to say beside the token.
    pub(crate) about: About,
    /// One step that is looked at closely.
    pub(crate) probe: Option<Probe>,
    /// Behaviours that are watched for.
    pub(crate) watching: Option<Watching>,
    /// The mask in its first state, for a text that may be begun again.
    first_mask: Option<Box<dyn TokenMask>>,
}

/// What the decoder knows of a step and the lane does not.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) votes: Vec<Vote>,
    pub(crate) steering: Vec<SteeringNorm>,
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
    /// The rest is for a trace.
    law: Vec<Likely>,
    uniform: Option<f64>,
    micros: u64,
}

impl Decision {
    /// The same decision for a token that is known to have come.
    pub(crate) fn replace(&mut self, token: u32) {
        if self.token != token {
            self.token = token;
            let named = self.law.iter().find(|likely| likely.token == token);
            self.logprob = named.map_or(f64::NEG_INFINITY, |likely| likely.logprob);
        }
    }

    fn new(token: u32, logprob: f64, source: TokenSource) -> Self {
        Decision {
            token,
            accepted: source == TokenSource::Drafted,
            logprob,
            source,
            law: Vec::new(),
            uniform: None,
            micros: 0,
        }
    }
}

impl Lane {
    /// # Errors
    /// [`Error::Sampling`] for a parameter out of range, [`Error::Unsupported`] for stop texts without a tokenizer.
    pub(crate) fn new(plan: &Plan, index: usize) -> Result<Self, Error> {
        let settings = &plan.settings;
        let vocab = plan.vocab();
        let options = &plan.chain;
        let mut sampler = Sampler::new(options, vocab, settings.seed, index as u64)?;
        sampler.observe_prompt(&plan.prompt);
        sampler.set_explain(settings.include_trace);
        let strategy = &settings.strategy;
        let ranked = strategy.candidates > strategy.n;
        let only_ranked = ranked && !settings.include_trace && strategy.logprobs.is_none();
        sampler.report_logprobs(
            only_ranked.then_some(0),
            settings.include_trace.then_some(LAW_TOKENS),
        );
        let needed = ranked || settings.include_trace;
        Ok(Lane {
            sampler,
            mask: None,
            hooks: plan.hooks.clone(),
            output: Output::new(plan, index)?,
            model: plan.model.clone(),
            tokenizer: plan.tokenizer(),
            union: plan.union.clone(),
            ads: match &strategy.decoding {
                crate::request::Decoding::Rows { ads, .. } => *ads,
                crate::request::Decoding::Beam(_) => None,
            },
            report: strategy.logprobs.or(needed.then_some(0)),
            keep_logprobs: strategy.logprobs.is_some(),
            owed: 0,
            trace: settings.include_trace,
            raw: RawRow::default(),
            only_ranked,
            drawn: None,
            about: About::default(),
            probe: None,
            watching: plan.watching.clone(),
            first_mask: None,
        })
    }

    /// Keeps what a text needs that is begun again.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a mask that cannot be copied.
    pub(crate) fn prepare_to_begin_again(&mut self) -> Result<(), Error> {
        let may = self
            .watching
            .as_ref()
            .is_some_and(Watching::may_begin_again);
        if let Some(mask) = self.mask.as_ref().filter(|_| may) {
            self.first_mask = Some(mask.fork()?);
        }
        Ok(())
    }

    /// Looks at the rows of the tokens just computed. Whether the text is to be begun again.
    pub(crate) fn watch(&mut self, captured: &[Captured], row: usize) -> Result<bool, Error> {
        let Some(watching) = &mut self.watching else {
            return Ok(false);
        };
        let again = watching.observe(captured, row)?;
        self.hooks = Some(watching.plan()?);
        Ok(again)
    }

    /// The lane before its first token, its behaviours corrected.
    pub(crate) fn begin_again(&mut self, plan: &Plan) -> Result<(), Error> {
        let mut fresh = Lane::new(plan, self.output.index)?;
        fresh.mask = self
            .first_mask
            .as_ref()
            .map(|mask| mask.fork())
            .transpose()?;
        fresh.first_mask = self.first_mask.take();
        fresh.probe = self.probe.take();
        if let Some(mut watching) = self.watching.take() {
            watching.restart(self.output.tokens.len());
            fresh.hooks = Some(watching.plan()?);
            fresh.watching = Some(watching);
        }
        *self = fresh;
        Ok(())
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
        let started = self.trace.then(Instant::now);
        self.drawn = None;
        let by_sampler = self.only_ranked && draft.is_none() && self.ads.is_none();
        if self.report.is_some() && !by_sampler {
            self.raw.keep(line);
        }
        self.look(line)?;
        let mut decision = self.choose(line, draft)?;
        if let Some(started) = started {
            decision.micros = started.elapsed().as_micros() as u64;
        }
        if let Some(seen) = self.probe.as_mut().and_then(|probe| probe.seen.as_mut()) {
            seen.uniform = seen.uniform.or(decision.uniform);
        }
        Ok(decision)
    }

    fn choose(&mut self, line: &mut [f32], draft: Option<&Draft>) -> Result<Decision, Error> {
        let allowed = match &mut self.mask {
            Some(mask) => mask.mask()?,
            None => None,
        };
        if draft.is_none() && self.ads.is_none() {
            let draw = self.sampler.sample(line, allowed)?;
            let mut decision = Decision::new(draw.token, draw.logprob, TokenSource::Sampled);
            if self.only_ranked {
                let raw = self.sampler.logprobs().and_then(|both| both.raw.as_ref());
                self.drawn = raw.map(|raw| raw.chosen.logprob);
            }
            if self.trace {
                decision.law = self.processed();
                decision.uniform = self.last_uniform();
            }
            return Ok(decision);
        }
        let law = SparseLaw::of(&self.sampler.law(line, allowed)?);
        let law = match self.ads {
            Some(options) => determinantal(&self.model, self.union.as_deref(), &law, options)?,
            None => law,
        };
        let uniforms = self.sampler.stream_mut();
        let mut uniform = uniforms.unit();
        let (token, source) = match draft {
            None => (law.draw(uniform).token, TokenSource::Sampled),
            Some(draft) => match uniform < law.accept_probability(&draft.law, draft.token) {
                true => (draft.token, TokenSource::Drafted),
                false => {
                    uniform = uniforms.unit();
                    let rest = law.residual(&draft.law);
                    (rest.draw(uniform).token, TokenSource::Corrected)
                }
            },
        };
        let mut decision = Decision::new(token, law.probability(token).ln(), source);
        if self.trace {
            decision.law = likely(&law);
            decision.uniform = Some(uniform);
        }
        Ok(decision)
    }

    /// Looks closely at a row of logits, if this is the step that was asked for.
    fn look(&mut self, line: &[f32]) -> Result<(), Error> {
        let at = self.output.tokens.len();
        let Some(probe) = self.probe.as_mut().filter(|probe| probe.step == at) else {
            return Ok(());
        };
        let (model, union, ads) = (&self.model, self.union.as_deref(), self.ads);
        let last = |law: &SparseLaw| match ads {
            Some(options) => determinantal(model, union, law, options),
            None => Ok(law.clone()),
        };
        probe.look(&self.sampler, line, self.mask.as_mut(), &last)
    }

    /// The same where there is no row, or one that nothing was drawn from.
    fn look_without_draw(&mut self, line: Option<&[f32]>) -> Result<(), Error> {
        let at = self.output.tokens.len();
        match self.probe.as_mut().filter(|probe| probe.step == at) {
            Some(probe) => probe.look_without_logits(line, self.mask.as_mut()),
            None => Ok(()),
        }
    }

    /// The most likely tokens of the law that was sampled last.
    fn processed(&self) -> Vec<Likely> {
        let report = self.sampler.logprobs();
        let side = report.and_then(|report| report.processed.as_ref());
        let likely = |at: &mx_sampling::TokenLogprob| Likely {
            token: at.token,
            logprob: at.logprob,
        };
        side.map_or_else(Vec::new, |side| side.top.iter().map(likely).collect())
    }

    /// The random number that was drawn last; `None` where the draw was for the count's sake only.
    fn last_uniform(&mut self) -> Option<f64> {
        if self.sampler.is_greedy() {
            return None;
        }
        let mut stream = self.sampler.stream_mut().clone();
        stream.seek(stream.position().checked_sub(1)?);
        Some(stream.unit())
    }

    /// Whether a trace is kept.
    pub(crate) fn is_traced(&self) -> bool {
        self.trace
    }

    /// Notes the drafts that were verified from step `first` on.
    pub(crate) fn note_drafts(&mut self, first: usize, drafts: &[Draft], accepted: usize) {
        if let Some(step) = self
            .output
            .steps
            .get_mut(first)
            .filter(|_| !drafts.is_empty())
        {
            step.draft = Some(DraftRound {
                tokens: drafts.iter().map(|draft| draft.token).collect(),
                accepted,
            });
        }
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
        self.record(decision, raw, micros);
        self.take(token, full)
    }

    /// Takes a token that is the only one possible, for which no logits were computed. Where log-probabilities are
    /// wanted of every token, they are [owed](Lane::owed).
    pub(crate) fn accept_forced(&mut self, token: u32, full: bool) -> Result<(), Error> {
        self.take_forced(token, None, full)?;
        self.owed += usize::from(self.counts_forced());
        Ok(())
    }

    /// The same where the logits are there.
    pub(crate) fn accept_forced_by(
        &mut self,
        token: u32,
        line: &[f32],
        full: bool,
    ) -> Result<(), Error> {
        let mut raw = None;
        if self.counts_forced() {
            self.raw.keep(line);
            raw = self.report(token);
        }
        self.take_forced(token, raw, full)
    }

    fn take_forced(&mut self, token: u32, raw: Option<f64>, full: bool) -> Result<(), Error> {
        self.look_without_draw(None)?;
        self.record(&Decision::new(token, 0.0, TokenSource::Forced), raw, 0);
        // A draw would have taken a word of the stream; what follows must not depend on whether there was one.
        self.sampler.stream_mut().word();
        self.take(token, full)
    }

    /// Whether forced tokens need their logits too.
    fn counts_forced(&self) -> bool {
        self.keep_logprobs || self.output.ranked
    }

    /// How many of the last tokens were forced and still lack the logits that their log-probabilities come from.
    pub(crate) fn owed(&self) -> usize {
        self.owed
    }

    /// The first token whose logits are owed.
    pub(crate) fn first_owed(&self) -> Option<u32> {
        let at = self.output.tokens.len().checked_sub(self.owed)?;
        self.output.tokens.get(at).copied()
    }

    /// Takes the logits of the first token that lacks them.
    pub(crate) fn pay(&mut self, line: &[f32]) {
        let Some(token) = self.first_owed() else {
            return;
        };
        let at = self.output.tokens.len() - self.owed;
        self.owed -= 1;
        self.raw.keep(line);
        let raw = self.report(token);
        let likely = self.trace.then(|| self.raw.likely(LAW_TOKENS));
        if let (Some(step), Some(likely)) = (self.output.steps.get_mut(at), likely) {
            step.raw_logprob = raw;
            step.raw_law = likely;
        }
    }

    /// Takes a token that an earlier run drew, whose logits nobody needs any more.
    pub(crate) fn accept_known(&mut self, token: u32, full: bool) -> Result<(), Error> {
        self.sampler.stream_mut().word();
        self.take(token, full)
    }

    /// Whether what comes later depends on the logits of every token, not on the tokens alone.
    pub(crate) fn needs_rows(&self) -> bool {
        let remembers = |step| matches!(step, Step::Xtc | Step::Mirostat | Step::AdaptiveP);
        self.wants_raw() || self.sampler.active_steps().any(remembers)
    }

    /// Forgets the chunks of tokens that the caller has; the last one stays where it ends the output.
    pub(crate) fn forget_chunks(&mut self) {
        let kept = usize::from(!self.output.goes_on());
        let known = self.output.chunks.len().saturating_sub(kept);
        self.output.chunks.drain(..known);
    }

    /// Takes a token that a search found. `line` holds its logits as they came, where they are wanted; `full` as in
    /// [`accept`](Self::accept).
    pub(crate) fn accept_searched(
        &mut self,
        token: u32,
        line: Option<&[f32]>,
        full: bool,
    ) -> Result<(), Error> {
        self.look_without_draw(line)?;
        let raw = match line {
            Some(line) => {
                self.raw.keep(line);
                self.report(token)
            }
            None => None,
        };
        let decision = Decision::new(token, raw.unwrap_or(0.0), TokenSource::Searched);
        self.record(&decision, raw, 0);
        self.take(token, full)
    }

    /// The token's log-probability under the model's own law, by the row that was kept; `None` where nobody wants it.
    fn report(&mut self, token: u32) -> Option<f64> {
        let wanted = self.report?;
        if let Some(logprob) = self.drawn.take() {
            self.output.logprob_sum += logprob;
            return Some(logprob);
        }
        let report = self.raw.report(token, wanted);
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

    /// The tokens that the constraint leaves no choice about, to be taken without waiting for logits. They are the same
    /// whether log-probabilities are wanted or not, and so is the output.
    pub(crate) fn forced(&mut self) -> Result<Vec<u32>, Error> {
        match &mut self.mask {
            Some(mask) => mask.forced(),
            None => Ok(Vec::new()),
        }
    }

    fn record(&mut self, decision: &Decision, raw_logprob: Option<f64>, step_micros: u64) {
        if !self.trace {
            return;
        }
        let (token, source) = (decision.token, decision.source);
        let text = self
            .tokenizer
            .as_ref()
            .and_then(|tokenizer| tokenizer.token_bytes(token))
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default();
        let drawn = !matches!(source, TokenSource::Forced | TokenSource::Searched);
        let explained = self.sampler.explanation().filter(|_| drawn);
        let stages = explained.map_or_else(Vec::new, |explanation| {
            explanation.steps.iter().map(Into::into).collect()
        });
        let about = std::mem::take(&mut self.about);
        self.output.steps.push(TraceStep {
            token,
            text,
            source,
            logprob: decision.logprob,
            raw_logprob,
            law: decision.law.clone(),
            raw_law: match raw_logprob {
                Some(_) => self.raw.likely(LAW_TOKENS),
                None => Vec::new(),
            },
            uniform: decision.uniform,
            stages,
            draft: None,
            votes: about.votes,
            steering: about.steering,
            step_micros,
            choose_micros: decision.micros,
        });
    }
}

/// The most likely tokens of a law, most likely first.
fn likely(law: &SparseLaw) -> Vec<Likely> {
    let mut top: Vec<(u32, f64)> = law.top(LAW_TOKENS).iter().collect();
    top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    top.iter()
        .map(|(token, _)| Likely {
            token: *token,
            logprob: law.probability(*token).ln(),
        })
        .collect()
}

/// The law of `ads` on the most likely tokens of a law.
fn determinantal(
    model: &super::Loaded,
    union: Option<&Union>,
    law: &SparseLaw,
    options: AdsOptions,
) -> Result<SparseLaw, Error> {
    let pool = law.top(MAX_POOL);
    if pool.kept() < 2 {
        return Ok(pool);
    }
    let width = model.config().d_model;
    let embeddings = match union {
        None => model.centred_embeddings(pool.tokens())?,
        Some(union) => {
            let mut means = Vec::with_capacity(pool.kept() * width);
            for entry in pool.tokens() {
                // An entry that the model lacks lies in the middle of the tokens that it would take.
                let own = union.main_tokens(std::slice::from_ref(entry))?;
                let rows = model.centred_embeddings(&own)?;
                let mean = |at: usize| {
                    let column = rows.iter().skip(at).step_by(width);
                    column.sum::<f32>() / own.len().max(1) as f32
                };
                means.extend((0..width).map(mean));
            }
            means
        }
    };
    let rows: Vec<&[f32]> = embeddings.chunks_exact(width).collect();
    Ok(pool.determinantal(&rows, options)?)
}
