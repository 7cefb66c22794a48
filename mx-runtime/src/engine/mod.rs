//! The one interface to a running model: a step over a ragged batch of rows.
//!
//! A [`Sequence`] is a list of tokens together with the engine's keys and values for them. [`Engine::step`] takes
//! any number of [`Row`]s, each a sequence and the tokens to append to it: whole prompts, chunks of prompts, single
//! tokens and drafts of several may stand in one step, each at its own position. Speculative verification is a row
//! with several tokens and [`Want::All`] logits; beams and best-of-n are [forks](Sequence::fork) stepped together.

pub mod burn;
pub mod cpu;
mod error;
mod output;

pub use error::EngineError;
pub use output::{LogitRows, StepOutput};

use crate::config::ModelConfig;
use crate::hooks::HookPlan;
use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// A model that can be stepped.
///
/// Engines are shared by reference between threads; what changes during generation lives in the sequences.
pub trait Engine: Send + Sync + Debug {
    /// What the model is.
    fn config(&self) -> &ModelConfig;

    /// What runs it.
    fn info(&self) -> &EngineInfo;

    /// An empty sequence of this engine.
    fn new_sequence(&self) -> Sequence;

    /// Appends each row's tokens to its sequence and computes the wanted logits and captures into `output`.
    ///
    /// What `output` held before is dropped, its memory reused. A row's result does not depend on the other rows.
    ///
    /// # Errors
    /// [`EngineError`] for a token outside the vocabulary, an empty row, a sequence of another engine, or a
    /// sequence that would become longer than the model's context. On an error no sequence has changed.
    fn step(&self, rows: &mut [Row<'_>], output: &mut StepOutput) -> Result<(), EngineError>;

    /// Rows of the input embedding, `[tokens, d_model]` one after the other.
    ///
    /// # Errors
    /// [`EngineError::TokenOutOfRange`], or [`EngineError::Device`] when the device fails.
    fn embedding(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError>;

    /// The model that its first `layers` blocks make with the final norm and the head: an early exit. It shares the
    /// weights, has sequences of its own and drafts for the whole model (self-speculation). `None` for no layer, for more
    /// than there are, and for engines that cannot share their weights.
    fn early_exit(&self, layers: usize) -> Option<Arc<dyn Engine>> {
        let _ = layers;
        None
    }

    /// The engine's own type, for interfaces that only one engine has.
    fn as_any(&self) -> &dyn Any;
}

/// What runs a model, for people and traces.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct EngineInfo {
    /// `burn` or `cpu`.
    pub engine: &'static str,
    /// The device, for example `flex` or `cuda:0`.
    pub device: String,
    /// How weights are held, for example `f32`.
    pub weights: String,
    /// Identity of this engine; sequences carry it.
    #[serde(skip)]
    pub id: EngineId,
}

impl EngineInfo {
    /// A description with a fresh identity.
    pub fn new(engine: &'static str, device: String, weights: String) -> Self {
        EngineInfo {
            engine,
            device,
            weights,
            id: EngineId::default(),
        }
    }
}

/// Tells engines apart: equal only to its own clones.
#[derive(Debug, Clone, Default)]
pub struct EngineId(Arc<()>);

impl PartialEq for EngineId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for EngineId {}

/// One row of a step.
#[derive(Debug)]
pub struct Row<'a> {
    /// The sequence that grows.
    pub sequence: &'a mut Sequence,
    /// The tokens appended to it, at least one.
    pub tokens: &'a [u32],
    /// Which logits to compute.
    pub want: Want,
    /// What happens inside the forward pass.
    pub hooks: Option<RowHooks<'a>>,
}

/// The hooks of one row.
#[derive(Debug, Clone, Copy)]
pub struct RowHooks<'a> {
    /// Edits and captures.
    pub plan: &'a HookPlan,
    /// Tokens of the prompt, by which [`TokenClass`](crate::hooks::TokenClass)es are told apart.
    pub prompt_len: usize,
}

/// Which logits of a row are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Want {
    /// None: a chunk of a prompt.
    None,
    /// Those after the last token.
    #[default]
    Last,
    /// Those after every token.
    All,
}

impl Want {
    /// The tokens whose logits are wanted, of those that a row has in a packed batch.
    pub(crate) fn lines(self, tokens: Range<usize>) -> Range<usize> {
        match self {
            Want::None => tokens.end..tokens.end,
            Want::Last => tokens.end - 1..tokens.end,
            Want::All => tokens,
        }
    }
}

/// A list of tokens and an engine's keys and values for them.
#[derive(Debug)]
pub struct Sequence {
    tokens: Vec<u32>,
    kv: Box<dyn KvState>,
    engine: EngineId,
}

/// An engine's keys and values of one sequence.
pub trait KvState: Any + Send + Sync + Debug {
    /// An independent copy that shares memory until one of the two is written.
    fn fork(&self) -> Box<dyn KvState>;

    /// Forgets all positions from `len` on, in constant time.
    fn truncate(&mut self, len: usize);

    /// Bytes held, shared ones included.
    fn bytes(&self) -> usize;

    /// For the engine that made it.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl Sequence {
    /// A sequence without tokens; for engines.
    pub fn new(kv: Box<dyn KvState>, engine: EngineId) -> Self {
        Sequence {
            tokens: Vec::new(),
            kv,
            engine,
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token yet.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Forgets all tokens from `len` on, in constant time; nothing when it is shorter.
    pub fn truncate(&mut self, len: usize) {
        if len < self.tokens.len() {
            self.tokens.truncate(len);
            self.kv.truncate(len);
        }
    }

    /// An independent copy; keys and values stay shared until one of the two grows.
    pub fn fork(&self) -> Sequence {
        Sequence {
            tokens: self.tokens.clone(),
            kv: self.kv.fork(),
            engine: self.engine.clone(),
        }
    }

    /// Bytes of keys and values, shared ones included.
    pub fn kv_bytes(&self) -> usize {
        self.kv.bytes()
    }

    /// For engines: the state, if `engine` made this sequence.
    pub fn kv_mut(&mut self, engine: &EngineId) -> Option<&mut dyn KvState> {
        (self.engine == *engine).then_some(self.kv.as_mut())
    }

    /// For engines: records that the state now covers `tokens` too.
    pub fn grown_by(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

/// The first token outside the vocabulary is an error.
pub(crate) fn check_tokens(tokens: &[u32], config: &ModelConfig) -> Result<(), EngineError> {
    match tokens.iter().find(|&&token| token as usize >= config.vocab) {
        Some(&token) => Err(EngineError::TokenOutOfRange {
            token,
            vocab: config.vocab,
        }),
        None => Ok(()),
    }
}

/// The checks that every engine makes before a step.
pub(crate) fn check_rows(
    rows: &[Row<'_>],
    config: &ModelConfig,
    engine: &EngineId,
) -> Result<(), EngineError> {
    for (index, row) in rows.iter().enumerate() {
        check_row(index, row, config, engine)?;
    }
    Ok(())
}

fn check_row(
    row: usize,
    Row {
        sequence,
        tokens,
        hooks,
        ..
    }: &Row<'_>,
    config: &ModelConfig,
    engine: &EngineId,
) -> Result<(), EngineError> {
    if let Some(hooks) = hooks {
        hooks.plan.check(config)?;
    }
    if sequence.engine != *engine {
        return Err(EngineError::ForeignSequence { row });
    }
    if tokens.is_empty() {
        return Err(EngineError::EmptyRow { row });
    }
    check_tokens(tokens, config)?;
    if sequence.len() + tokens.len() > config.max_context {
        return Err(EngineError::ContextFull {
            used: sequence.len(),
            wanted: tokens.len(),
            limit: config.max_context,
        });
    }
    Ok(())
}

/// The configuration of the first `layers` blocks; `None` where there are not so many.
pub(crate) fn early_exit_config(config: &ModelConfig, layers: usize) -> Option<ModelConfig> {
    if layers == 0 || layers > config.layers {
        return None;
    }
    let mut shorter = config.clone();
    shorter.layers = layers;
    shorter.spans.truncate(layers);
    Some(shorter)
}
