//! The loop.

use super::{Plan, StopDetector, TokenMask};
use crate::error::Error;
use crate::generation::{FinishReason, Generation, Route, Usage, Warning};
use crate::trace::{TRACE_VERSION, Trace, TraceStep};
use mx_runtime::engine::{EngineError, StepOutput, Want};
use mx_runtime::session::{Cancel, Session};
use mx_runtime::tokenizer::{TextStream, Tokenizer};
use mx_sampling::Sampler;
use std::sync::Arc;
use std::time::Instant;

/// A generation in progress: an iterator over [`Chunk`]s.
///
/// It ends after the chunk whose `finish_reason` is set, or after an error; [`into_generation`](Run::into_generation)
/// then gives the answer, or what there is of it.
pub struct Run {
    plan: Plan,
    session: Session,
    sampler: Sampler,
    mask: Option<Box<dyn TokenMask>>,
    /// `None` for a model without a tokenizer, which generates tokens only.
    stream: Option<TextStream>,
    stop: StopDetector,
    cancel: Cancel,
    /// Tokens of the prompt that the session held already.
    cached: usize,
    tokens: Vec<u32>,
    text: String,
    stop_text: Option<String>,
    finish: Option<FinishReason>,
    failed: bool,
    trace: Option<Trace>,
}

/// What one token added.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Chunk {
    /// The token; `None` in a last chunk that only ends the generation.
    pub token: Option<u32>,
    /// Text that became certain. Never part of a character, never part of a stop text.
    pub text: String,
    /// Set in the last chunk.
    pub finish_reason: Option<FinishReason>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("tokens", &self.tokens)
            .field("finish", &self.finish)
            .finish_non_exhaustive()
    }
}

impl Run {
    /// A run of `plan`; nothing is computed before the first [`next`](Iterator::next).
    ///
    /// # Errors
    /// [`Error::Sampling`] for a parameter out of range, [`Error::Request`] for stop texts without a tokenizer.
    pub fn new(plan: Plan) -> Result<Self, Error> {
        let settings = &plan.settings;
        let vocab = plan.model.config().vocab;
        let mut sampler = Sampler::new(&settings.sampling, vocab, settings.seed, 0)?;
        sampler.observe_prompt(&plan.prompt);
        let stream = plan.model.tokenizer();
        let stream = stream
            .map(|tokenizer| text_stream(&plan, tokenizer))
            .transpose()?;
        if stream.is_none() && !settings.stop.is_empty() {
            return Err(Error::unsupported("stop", "the model has no tokenizer"));
        }
        let trace = settings.include_trace.then(|| Trace {
            version: TRACE_VERSION,
            settings: settings.origins.clone(),
            prompt_tokens: plan.prompt.clone(),
            prefill_micros: 0,
            steps: Vec::new(),
        });
        Ok(Run {
            session: Session::new(Arc::clone(plan.model.engine())),
            sampler,
            mask: None,
            stream,
            stop: StopDetector::new(settings.stop.clone())?,
            cancel: Cancel::new(),
            cached: 0,
            tokens: Vec::new(),
            text: String::new(),
            stop_text: None,
            finish: None,
            failed: false,
            trace,
            plan,
        })
    }

    /// Restricts the tokens of every step.
    pub fn with_mask(mut self, mask: Box<dyn TokenMask>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Goes on in a session of the same engine: what its tokens and the prompt have in common from the start is not
    /// computed again.
    pub fn with_session(mut self, session: Session) -> Self {
        self.session = session;
        self
    }

    /// Watches this flag instead of one of its own.
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
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
        if self.finish.is_none() {
            let rest = self.rest_of_text();
            self.text += &rest;
        }
        let info = self.plan.model.engine().info().clone();
        let generation = Generation {
            text: self.text,
            finish_reason: self.finish.unwrap_or(FinishReason::Cancelled),
            stop_text: self.stop_text,
            usage: Usage {
                prompt_tokens: self.plan.prompt.len(),
                completion_tokens: self.tokens.len(),
                cached_tokens: self.cached,
            },
            tokens: self.tokens,
            seed: self.plan.settings.seed,
            method: self.plan.settings.method,
            route: Route::Local,
            model: self.plan.model.name().to_owned(),
            engine: info,
            warnings: self.plan.warnings,
            settings: self.plan.settings.origins,
            trace: self.trace,
        };
        (generation, self.session)
    }

    /// One token: its logits, the mask, the chain and the draw.
    fn advance(&mut self) -> Result<Chunk, Error> {
        if self.cancel.is_cancelled() {
            return Ok(self.ended(None, FinishReason::Cancelled));
        }
        let started = Instant::now();
        let first = self.tokens.is_empty();
        if first && self.session.engine().info().id != self.plan.model.engine().info().id {
            return Err(EngineError::ForeignSequence { row: 0 }.into());
        }
        let stepped = match self.tokens.last() {
            None => prefill(
                &mut self.session,
                &self.plan.prompt,
                &mut self.cached,
                &self.cancel,
            ),
            Some(&token) => self.session.step(&[token], Want::Last),
        };
        let output = match stepped {
            Err(EngineError::Cancelled) => return Ok(self.ended(None, FinishReason::Cancelled)),
            other => other?,
        };
        let micros = started.elapsed().as_micros() as u64;
        let logits = output.last_mut(0).unwrap_or_default();
        let allowed = match &mut self.mask {
            Some(mask) => mask.mask()?,
            None => None,
        };
        let draw = self.sampler.sample(logits, allowed)?;
        self.sampler.commit(draw.token);
        if let Some(mask) = &mut self.mask {
            mask.commit(draw.token)?;
        }
        self.tokens.push(draw.token);
        self.record(draw.token, draw.logprob, micros, first);
        self.emit(draw.token)
    }

    /// The text of a new token, and whether it ends the generation.
    fn emit(&mut self, token: u32) -> Result<Chunk, Error> {
        if self.plan.eos_tokens.contains(&token) {
            return Ok(self.ended(Some(token), FinishReason::Stop));
        }
        let piece = match &mut self.stream {
            Some(stream) => stream.push(token)?,
            None => String::new(),
        };
        let step = self.stop.push(&piece);
        self.text += &step.text;
        if let Some(stop) = step.stopped {
            self.stop_text = self.stop.stop(stop).map(str::to_owned);
            self.finish = Some(FinishReason::Stop);
            return Ok(Chunk {
                token: Some(token),
                text: step.text,
                finish_reason: self.finish,
            });
        }
        let finish = if self.tokens.len() >= self.plan.settings.max_tokens {
            Some(FinishReason::Length)
        } else if self.session.room() == 0 {
            let limit = self.plan.model.config().max_context;
            let message = format!("the model's context of {limit} tokens is full");
            self.plan
                .warnings
                .push(Warning::new("context_full", message));
            Some(FinishReason::ContextFull)
        } else {
            None
        };
        Ok(match finish {
            None => Chunk {
                token: Some(token),
                text: step.text,
                finish_reason: None,
            },
            Some(reason) => {
                let mut chunk = self.ended(Some(token), reason);
                chunk.text.insert_str(0, &step.text);
                chunk
            }
        })
    }

    /// The last chunk: what was held back comes out now.
    fn ended(&mut self, token: Option<u32>, reason: FinishReason) -> Chunk {
        let text = self.rest_of_text();
        self.text += &text;
        self.finish = Some(reason);
        Chunk {
            token,
            text,
            finish_reason: Some(reason),
        }
    }

    /// Text held back by the character and stop detectors.
    fn rest_of_text(&mut self) -> String {
        let tail = self
            .stream
            .as_mut()
            .map(TextStream::finish)
            .unwrap_or_default();
        let step = self.stop.push(&tail);
        match step.stopped {
            Some(stop) => {
                self.stop_text = self.stop.stop(stop).map(str::to_owned);
                step.text
            }
            None => step.text + &self.stop.finish(),
        }
    }

    fn record(&mut self, token: u32, logprob: f64, micros: u64, first: bool) {
        let Some(trace) = &mut self.trace else { return };
        if first {
            trace.prefill_micros = micros;
        }
        let text = self
            .plan
            .model
            .tokenizer()
            .and_then(|tokenizer| tokenizer.token_bytes(token))
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default();
        let step_micros = if first { 0 } else { micros };
        trace.steps.push(TraceStep {
            token,
            text,
            logprob,
            step_micros,
        });
    }
}

/// A stream of the text to come. Where that goes on with the prompt, a first space belongs to it, and so do the bytes
/// that finish a character.
fn text_stream(plan: &Plan, tokenizer: &Arc<dyn Tokenizer>) -> Result<TextStream, Error> {
    let stream = TextStream::new(Arc::clone(tokenizer));
    let is_text =
        |token: &u32| (*token as usize) < tokenizer.vocab_size() && !tokenizer.is_special(*token);
    let context: Vec<u32> = plan.prompt.iter().copied().filter(is_text).collect();
    Ok(match plan.continued && !context.is_empty() {
        true => stream.with_context(&context)?,
        false => stream,
    })
}

/// Computes a prompt as far as the session does not hold it; its last token always, for its logits.
fn prefill<'s>(
    session: &'s mut Session,
    prompt: &[u32],
    cached: &mut usize,
    cancel: &Cancel,
) -> Result<&'s mut StepOutput, EngineError> {
    let common = session
        .tokens()
        .iter()
        .zip(prompt)
        .take_while(|(a, b)| a == b)
        .count();
    *cached = common.min(prompt.len() - 1);
    session.truncate(*cached);
    session.prefill(&prompt[*cached..], cancel)
}

impl Iterator for Run {
    type Item = Result<Chunk, Error>;

    fn next(&mut self) -> Option<Result<Chunk, Error>> {
        if self.finish.is_some() || self.failed {
            return None;
        }
        let result = self.advance();
        self.failed = result.is_err();
        Some(result)
    }
}
