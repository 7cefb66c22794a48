//! The loop.

use super::lane::Lane;
use super::{Chunk, Plan, TokenMask};
use crate::error::Error;
use crate::generation::{Choice, FinishReason, Generation, Route, Usage, Warning};
use crate::steering::Watching;
use crate::strategy::{Decoder, Round};
use crate::trace::{
    ModelRecord, Named, Probe, Seen, TRACE_VERSION, TokenSource, Trace, TraceError, TracedOutput,
};
use mx_runtime::engine::EngineError;
use mx_runtime::session::{Cancel, Session};
use mx_sampling::strategy::best_of::{Candidate, select};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// A generation in progress: an iterator over [`Chunk`]s.
///
/// It ends after the chunks whose `finish_reason` is set, one an output, or after an error;
/// [`into_generation`](Run::into_generation) then gives the answer, or what there is of it.
///
/// With `best_of_n` the chunks come at the end, once it is known which candidates are returned; a beam search gives its
/// outputs at the end too.
pub struct Run {
    plan: Plan,
    lanes: Vec<Lane>,
    decoder: Box<dyn Decoder>,
    cancel: Cancel,
    /// Moment at which the outputs end as they are, and whether it came.
    deadline: Option<Instant>,
    late: bool,
    /// Tokens of the prompt that the session held already.
    cached: usize,
    prefill_micros: Option<u64>,
    /// Chunks on their way out.
    chunks: VecDeque<Chunk>,
    /// The lanes that are returned, best first, once that is known.
    chosen: Option<Vec<usize>>,
    /// An error of the setting up, to come out first.
    refused: Option<Error>,
    failed: bool,
    /// Time spent in rounds.
    total_micros: u64,
    /// Whether the caller put a mask of its own in place.
    own_mask: bool,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tokens: Vec<&[u32]> = self
            .lanes
            .iter()
            .map(|lane| &lane.output.tokens[..])
            .collect();
        f.debug_struct("Run")
            .field("tokens", &tokens)
            .field("finished", &self.chosen.is_some())
            .finish_non_exhaustive()
    }
}

impl Run {
    /// A run of `plan`; nothing is computed before the first [`next`](Iterator::next).
    ///
    /// # Errors
    /// [`Error::Sampling`] for a parameter out of range, [`Error::Request`] for stop texts without a tokenizer.
    pub fn new(plan: Plan) -> Result<Self, Error> {
        let candidates = plan.settings.strategy.candidates;
        let mut lanes = (0..candidates)
            .map(|index| Lane::new(&plan, index))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(mask) = plan.mask()? {
            for lane in &mut lanes {
                lane.mask = Some(mask.fork()?);
            }
        }
        let decoder = crate::strategy::decoder(&plan)?;
        Ok(Run {
            lanes,
            decoder,
            cancel: Cancel::new(),
            deadline: None,
            late: false,
            cached: 0,
            prefill_micros: None,
            chunks: VecDeque::new(),
            chosen: None,
            refused: None,
            failed: false,
            total_micros: 0,
            own_mask: false,
            plan,
        })
    }

    /// Restricts the tokens of every step, in place of the request's own constraint. With several outputs the mask must
    /// be one that can be [forked](TokenMask::fork).
    pub fn with_mask(mut self, mask: Box<dyn TokenMask>) -> Self {
        self.own_mask = true;
        let (first, others) = match self.lanes.split_first_mut() {
            Some(lanes) => lanes,
            None => return self,
        };
        for lane in others {
            match mask.fork() {
                Ok(mask) => lane.mask = Some(mask),
                Err(error) => self.refused = Some(error),
            }
        }
        first.mask = Some(mask);
        self
    }

    /// Goes on in a session of the same engine: what its tokens and the prompt have in common from the start is not
    /// computed again.
    pub fn with_session(mut self, session: Session) -> Self {
        if session.engine().info().id != self.plan.model.engine().info().id {
            self.refused = Some(EngineError::ForeignSequence { row: 0 }.into());
            return self;
        }
        self.decoder.resume(session);
        self
    }

    /// Goes on behind tokens that an earlier run of the same request gave, as if it had never stopped: the tokens to come
    /// are those of the uninterrupted run, and so are text, log-probabilities and trace at the end; the chunks begin
    /// behind what is known. Penalties, constraint, stop texts, steering and the random stream stand where they stood.
    /// With the earlier run's [session](Run::with_session) little is computed again.
    ///
    /// With drafts the random stream goes on elsewhere, since tokens do not tell how many words their rounds took: the
    /// law is the same, and under greedy the tokens are too.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with several outputs, under a beam search, which has no tokens before its end, and for an
    /// ensemble of different vocabularies, whose tokens do not tell which entries were drawn; [`Error::Request`] for a
    /// token outside the vocabulary.
    pub fn behind(mut self, tokens: &[u32]) -> Result<Self, Error> {
        let vocab = self.plan.model.config().vocab;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
            let wanted = format!("token ids below {vocab}");
            return Err(Error::request("tokens to go on behind", token, wanted));
        }
        let what = "going on behind tokens";
        if self.lanes.len() != 1 {
            return Err(Error::unsupported(
                what,
                "there are several outputs; go on with each alone",
            ));
        }
        if self.plan.union.is_some() {
            let reason =
                "models of different vocabularies draw entries that their tokens do not tell";
            return Err(Error::unsupported(what, reason));
        }
        self.decoder.begin_behind(tokens.to_vec())?;
        Ok(self)
    }

    /// Watches this flag instead of one of its own.
    pub fn with_cancel(mut self, cancel: impl Into<Cancel>) -> Self {
        self.cancel = cancel.into();
        self
    }

    /// Ends the outputs as they are at the first step after this moment.
    pub(crate) fn with_deadline(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Whether the deadline ended an output.
    pub(crate) fn is_late(&self) -> bool {
        self.late
    }

    /// The flag that stops the run before its next step.
    pub fn cancel_handle(&self) -> Cancel {
        self.cancel.clone()
    }

    /// The plan being carried out.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first error of the run.
    pub fn complete(mut self) -> Result<Generation, Error> {
        for chunk in self.by_ref() {
            chunk?;
        }
        Ok(self.into_generation())
    }

    /// The answer; for a run that has not ended, what there is of it, as [`FinishReason::Cancelled`].
    pub fn into_generation(self) -> Generation {
        self.into_parts().0
    }

    /// The answer, and the session for a next run that begins with the same tokens.
    pub fn into_parts(mut self) -> (Generation, Session) {
        self.stop_all();
        let settled = match self.failed {
            true => Ok(()),
            false => self.decoder.settle(&mut self.lanes),
        };
        let chosen = match self.chosen.take() {
            Some(chosen) => chosen,
            None => (0..self.plan.settings.strategy.n).collect(),
        };
        let info = self.plan.model.engine().info().clone();
        let generated = self.lanes.iter().map(|lane| lane.output.tokens.len()).sum();
        let mut warnings = std::mem::take(&mut self.plan.warnings);
        self.decoder.report(&mut warnings);
        if let Err(error) = settled {
            let message = format!("the last tokens have no log-probabilities: {error}");
            warnings.push(Warning::new("logprobs_unfinished", message));
        }
        let limit = self.plan.model.config().max_context;
        let full = |lane: &Lane| lane.output.finish == Some(FinishReason::ContextFull);
        if self.lanes.iter().any(full) {
            warnings.push(Warning::new(
                "context_full",
                format!("the model's context of {limit} tokens is full"),
            ));
        }
        warnings.extend(self.lanes.iter_mut().find_map(unfinished));
        let session = self
            .decoder
            .into_session(Arc::clone(self.plan.model.engine()));
        let mut lanes: Vec<Option<Lane>> = self.lanes.into_iter().map(Some).collect();
        let mut choices: Vec<Choice> = Vec::with_capacity(chosen.len());
        let mut steps = Vec::new();
        for index in chosen {
            let Some(mut lane) = lanes.get_mut(index).and_then(Option::take) else {
                continue;
            };
            steps.push(std::mem::take(&mut lane.output.steps));
            let behaviors = lane.watching.as_ref().map(Watching::reports);
            let mut choice = lane.output.into_choice(index);
            // Entries that the model lacks are none of its tokens, and a caller may want to go on from these.
            if let Some(Ok(own)) = self
                .plan
                .union
                .as_ref()
                .map(|union| union.main_tokens(&choice.tokens))
            {
                choice.tokens = own;
            }
            choice.behaviors = behaviors.unwrap_or_default();
            choices.push(choice);
        }
        let settings = &self.plan.settings;
        let trace = self.plan.traced.take().map(|traced| {
            let mut outputs = choices
                .iter()
                .zip(steps)
                .map(|(choice, steps)| TracedOutput {
                    stream: choice.stream,
                    text: choice.text.clone(),
                    finish_reason: choice.finish_reason,
                    steps,
                });
            let first = outputs.next();
            let first = first.unwrap_or_else(TracedOutput::empty);
            Trace {
                version: TRACE_VERSION,
                writer: concat!("mx ", env!("CARGO_PKG_VERSION")).to_owned(),
                request: traced.request,
                moment: traced.moment,
                own_mask: self.own_mask,
                route: Route::Local,
                fallback: None,
                seed: settings.seed,
                model: ModelRecord::of(&self.plan.model),
                others: traced.others,
                steering: traced.steering,
                settings: settings.origins.clone(),
                warnings: warnings.clone(),
                prompt_tokens: self.plan.prompt.clone(),
                cached_tokens: self.cached,
                prefill_micros: self.prefill_micros.unwrap_or(0),
                total_micros: self.total_micros,
                stream: first.stream,
                text: first.text,
                finish_reason: first.finish_reason,
                steps: first.steps,
                further: outputs.collect(),
            }
        });
        let first = choices.first().cloned().unwrap_or_default();
        let generation = Generation {
            text: first.text,
            tokens: first.tokens,
            finish_reason: first.finish_reason,
            stop_text: first.stop_text,
            logprobs: first.logprobs,
            served_logprobs: Vec::new(),
            behaviors: first.behaviors,
            choices: match choices.len() {
                0 | 1 => Vec::new(),
                _ => choices,
            },
            usage: Usage {
                prompt_tokens: self.plan.prompt.len(),
                completion_tokens: generated,
                cached_tokens: self.cached,
            },
            seed: settings.seed,
            method: settings.method,
            route: Route::Local,
            model: self.plan.model.name().to_owned(),
            engine: (&info).into(),
            warnings,
            settings: self.plan.settings.origins,
            trace,
            policy: None,
        };
        (generation, session)
    }

    /// Looks closely at one step of the output that draws from a random stream.
    pub(crate) fn probe(&mut self, stream: usize, probe: Probe) {
        if let Some(lane) = self.lanes.get_mut(stream) {
            lane.probe = Some(probe);
        }
    }

    /// What the probe saw, with the token that came and how; `None` before its step.
    pub(crate) fn probed(&self) -> Option<(&Seen, u32, TokenSource)> {
        self.lanes.iter().find_map(|lane| {
            let probe = lane.probe.as_ref()?;
            let step = lane.output.steps.get(probe.step)?;
            Some((probe.seen.as_ref()?, step.token, step.source))
        })
    }

    /// A token by its id, or by a text that is one token.
    pub(crate) fn named(&self, given: &str) -> Result<Named, Error> {
        let vocab = self.plan.vocab() as u32;
        let missing = |wanted: String| {
            let given = given.to_owned();
            Err(TraceError::NoSuchToken { given, wanted }.into())
        };
        if let Ok(id) = given.parse::<u32>() {
            return match id < vocab {
                true => Ok(self.plan.name(id)),
                false => missing(format!("an id below {vocab}")),
            };
        }
        let tokenizer = self.plan.tokenizer();
        let bytes = |id: &u32| {
            tokenizer
                .as_ref()
                .and_then(|tokenizer| tokenizer.token_bytes(*id))
        };
        match (0..vocab).find(|id| bytes(id) == Some(given.as_bytes())) {
            Some(id) => Ok(self.plan.name(id)),
            None => missing("an id, or a text that is one token, with its space".to_owned()),
        }
    }

    /// Ends the outputs that go on, but for the `count` with the largest mean log-probability a token; returns the
    /// places of those it ended.
    pub(crate) fn keep_best(&mut self, count: usize) -> Vec<usize> {
        let mean = |lane: &Lane| {
            let sum: f64 = lane.output.logprobs.iter().map(|token| token.logprob).sum();
            sum / lane.output.logprobs.len().max(1) as f64
        };
        let mut order: Vec<usize> = (0..self.lanes.len()).collect();
        order.sort_by(|a, b| mean(&self.lanes[*b]).total_cmp(&mean(&self.lanes[*a])));
        let mut ended: Vec<usize> = order.split_off(count.min(order.len()));
        ended.retain(|index| self.lanes[*index].output.goes_on());
        for index in &ended {
            self.lanes[*index].output.end(None, FinishReason::Cancelled);
        }
        ended
    }

    /// Ends every output that goes on.
    fn stop_all(&mut self) {
        for lane in &mut self.lanes {
            lane.output.end(None, FinishReason::Cancelled);
        }
    }

    /// One round of the decoder.
    fn advance(&mut self) -> Result<(), Error> {
        let late = self.deadline.is_some_and(|moment| Instant::now() >= moment);
        self.late |= late;
        if late || self.cancel.is_cancelled() {
            self.stop_all();
            self.decoder.settle(&mut self.lanes)?;
        } else {
            let started = Instant::now();
            let round = Round {
                plan: &self.plan,
                prompt: &self.plan.prompt,
                cancel: &self.cancel,
            };
            match self.decoder.round(&mut self.lanes, &round) {
                Ok(cached) => self.cached = cached.unwrap_or(self.cached),
                Err(Error::Engine(EngineError::Cancelled)) => self.stop_all(),
                Err(error) => return Err(error),
            }
            let micros = started.elapsed().as_micros() as u64;
            self.prefill_micros.get_or_insert(micros);
            self.total_micros += micros;
        }
        let strategy = &self.plan.settings.strategy;
        let done = self.lanes.iter().all(|lane| !lane.output.goes_on());
        if done {
            self.chosen = Some(match strategy.candidates > strategy.n {
                true => self.best(strategy.n),
                false => (0..strategy.n).collect(),
            });
        }
        let held_back = self
            .plan
            .watching
            .as_ref()
            .is_some_and(Watching::may_begin_again);
        if strategy.candidates == strategy.n {
            for lane in self.lanes.iter_mut().filter(|_| done || !held_back) {
                self.chunks.append(&mut lane.output.chunks);
            }
        } else if let Some(chosen) = &self.chosen {
            for (rank, index) in chosen.iter().enumerate() {
                let chunks = self.lanes[*index].output.chunks.drain(..);
                self.chunks.extend(chunks.map(|mut chunk| {
                    chunk.index = rank;
                    chunk
                }));
            }
        }
        Ok(())
    }

    /// The best `count` lanes, best first.
    fn best(&self, count: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..self.lanes.len()).collect();
        let mut best = Vec::with_capacity(count);
        while best.len() < count {
            let candidates: Vec<Candidate> = left
                .iter()
                .map(|index| Candidate {
                    mean_logprob: self.lanes[*index].output.mean_logprob(),
                    ..Candidate::default()
                })
                .collect();
            let Some(at) = select(&candidates) else { break };
            best.push(left.remove(at));
        }
        best
    }
}

/// An output that ended before it satisfied its constraint.
fn unfinished(lane: &mut Lane) -> Option<Warning> {
    let mask = lane.mask.as_mut()?;
    if mask.is_accepting().unwrap_or(true) {
        return None;
    }
    let by = match lane.output.finish? {
        FinishReason::Length => "max_tokens",
        FinishReason::Stop => "a stop text",
        FinishReason::ContextFull => "the model's context",
        FinishReason::Cancelled => "the caller",
    };
    let message = format!("the output was cut by {by} before it satisfied its constraint");
    Some(Warning::new("constraint_unfinished", message))
}

impl Iterator for Run {
    type Item = Result<Chunk, Error>;

    fn next(&mut self) -> Option<Result<Chunk, Error>> {
        if let Some(error) = self.refused.take() {
            self.failed = true;
            return Some(Err(error));
        }
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Some(Ok(chunk));
            }
            if self.chosen.is_some() || self.failed {
                return None;
            }
            if let Err(error) = self.advance() {
                self.failed = true;
                return Some(Err(error));
            }
        }
    }
}
