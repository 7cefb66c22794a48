//! A conversation with an engine: prompt in, logits out.

use crate::engine::{Engine, EngineError, Row, RowHooks, Sequence, StepOutput, Want};
use crate::hooks::HookPlan;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tokens of a prompt that are computed in one step unless the caller asks for another number.
pub const DEFAULT_PREFILL_CHUNK: usize = 256;

/// A flag that asks long work to stop; cheap to clone and to look at.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Cancel::default()
    }

    /// Sets the flag.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<Arc<AtomicBool>> for Cancel {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Cancel(flag)
    }
}

impl From<Cancel> for Arc<AtomicBool> {
    fn from(cancel: Cancel) -> Self {
        cancel.0
    }
}

/// One sequence on one engine, with its hooks.
///
/// The plain way to drive an engine when one sequence is enough; strategies that step many rows at once use
/// [`Engine::step`] themselves.
#[derive(Debug)]
pub struct Session {
    engine: Arc<dyn Engine>,
    sequence: Sequence,
    output: StepOutput,
    hooks: Arc<HookPlan>,
    prompt_len: usize,
    chunk: usize,
}

impl Session {
    /// An empty session.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        let sequence = engine.new_sequence();
        Session {
            engine,
            sequence,
            output: StepOutput::new(),
            hooks: Arc::default(),
            prompt_len: 0,
            chunk: DEFAULT_PREFILL_CHUNK,
        }
    }

    /// A session that goes on with this sequence of the same engine; its tokens count as the prompt.
    pub fn with_sequence(mut self, sequence: Sequence) -> Self {
        self.prompt_len = sequence.len();
        self.sequence = sequence;
        self
    }

    /// The sequence alone.
    pub fn into_sequence(self) -> Sequence {
        self.sequence
    }

    /// Edits and captures of all further steps.
    pub fn with_hooks(mut self, hooks: Arc<HookPlan>) -> Self {
        self.hooks = hooks;
        self
    }

    /// Tokens of a prompt computed in one step, at least 1. Smaller chunks use less memory and can be cancelled
    /// sooner; the result does not depend on it beyond rounding.
    pub fn with_prefill_chunk(mut self, tokens: usize) -> Self {
        self.chunk = tokens.max(1);
        self
    }

    /// Tokens of a prompt computed in one step.
    pub fn prefill_chunk(&self) -> usize {
        self.chunk
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The tokens so far.
    pub fn tokens(&self) -> &[u32] {
        self.sequence.tokens()
    }

    /// Number of tokens so far.
    pub fn len(&self) -> usize {
        self.sequence.len()
    }

    /// Whether there is no token yet.
    pub fn is_empty(&self) -> bool {
        self.sequence.is_empty()
    }

    /// Number of tokens that fit behind those there.
    pub fn room(&self) -> usize {
        self.engine.config().max_context - self.sequence.len()
    }

    /// Appends a prompt in chunks and returns what the last step gave: the logits after its last token, and the
    /// captures of all its tokens. From here on token classes count these tokens, and those before, as the prompt.
    ///
    /// # Errors
    /// [`EngineError`]; on [`EngineError::Cancelled`] and device errors the session is as it was before.
    pub fn prefill(
        &mut self,
        prompt: &[u32],
        cancel: &Cancel,
    ) -> Result<&mut StepOutput, EngineError> {
        let before = self.sequence.len();
        let limit = self.engine.config().max_context;
        if before + prompt.len() > limit {
            return Err(EngineError::ContextFull {
                used: before,
                wanted: prompt.len(),
                limit,
            });
        }
        let old_prompt_len = std::mem::replace(&mut self.prompt_len, before + prompt.len());
        let mut captures = Vec::new();
        let chunks = prompt.len().div_ceil(self.chunk).max(1);
        for index in 0..chunks {
            let chunk = &prompt[index * self.chunk..prompt.len().min((index + 1) * self.chunk)];
            let want = if index + 1 == chunks {
                Want::Last
            } else {
                Want::None
            };
            let result = if cancel.is_cancelled() {
                Err(EngineError::Cancelled)
            } else {
                self.step(chunk, want)
                    .map(|output| captures.append(&mut output.take_captures()))
            };
            if let Err(error) = result {
                self.sequence.truncate(before);
                self.prompt_len = old_prompt_len;
                return Err(error);
            }
        }
        captures
            .into_iter()
            .for_each(|captured| self.output.push_capture(captured));
        Ok(&mut self.output)
    }

    /// Appends tokens in one step.
    ///
    /// # Errors
    /// [`EngineError`]; the session is then as it was before.
    pub fn step(&mut self, tokens: &[u32], want: Want) -> Result<&mut StepOutput, EngineError> {
        let hooks = (!self.hooks.is_empty()).then_some(RowHooks {
            plan: &self.hooks,
            prompt_len: self.prompt_len,
        });
        let row = Row {
            sequence: &mut self.sequence,
            tokens,
            want,
            hooks,
        };
        self.engine.step(&mut [row], &mut self.output)?;
        Ok(&mut self.output)
    }

    /// Forgets all tokens from `len` on, in constant time.
    pub fn truncate(&mut self, len: usize) {
        self.sequence.truncate(len);
        self.prompt_len = self.prompt_len.min(len);
    }

    /// An independent copy that shares keys and values until one of the two grows.
    pub fn fork(&self) -> Session {
        Session {
            engine: Arc::clone(&self.engine),
            sequence: self.sequence.fork(),
            output: StepOutput::new(),
            hooks: Arc::clone(&self.hooks),
            prompt_len: self.prompt_len,
            chunk: self.chunk,
        }
    }
}
