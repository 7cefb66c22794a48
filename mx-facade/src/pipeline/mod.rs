//! A request on a loaded model: the plan, and the loop that carries it out.
//!
//! ```text
//! session step → mask → sampler chain → draw → stop detector → incremental text
//! ```
//!
//! The plan is compiled once ([`Plan::new`]); [`Run`] is the loop, an iterator that owns all its state. Cancelling is
//! dropping it or setting its [`Cancel`](mx_runtime::session::Cancel) flag.

mod clock;
mod prompt;
mod run;
mod stop;

pub use run::{Chunk, Run};
pub use stop::{StopDetector, StopStep};

use crate::error::Error;
use crate::generation::Warning;
use crate::request::{GenerateRequest, Overflow, Settings};
use mx_runtime::model::Model;
use std::sync::Arc;

/// Allows or forbids tokens at each step; where constraints plug in.
pub trait TokenMask: Send {
    /// The tokens allowed next, as bit words over the vocabulary (least significant bit first, 1 = allowed);
    /// `None` allows all.
    ///
    /// # Errors
    /// Whatever keeps the constraint from going on.
    fn mask(&mut self) -> Result<Option<&[u32]>, Error>;

    /// Records the token that was chosen.
    ///
    /// # Errors
    /// When the token is not allowed.
    fn commit(&mut self, token: u32) -> Result<(), Error>;
}

/// Everything that a generation needs, worked out before the first step.
#[derive(Debug)]
pub struct Plan {
    pub(crate) model: Arc<Model>,
    pub(crate) settings: Settings,
    pub(crate) prompt: Vec<u32>,
    /// Whether the text to come goes on where the prompt stops.
    pub(crate) continued: bool,
    pub(crate) eos_tokens: Vec<u32>,
    pub(crate) warnings: Vec<Warning>,
}

impl Plan {
    /// Resolves the settings, turns the prompt into tokens and checks that it fits.
    ///
    /// # Errors
    /// [`Error`] for anything in the request that cannot be carried out.
    pub fn new(
        model: Arc<Model>,
        request: &GenerateRequest,
        seed: impl FnOnce() -> u64,
    ) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let mut settings = Settings::resolve(request, model.generation(), seed, &mut warnings)?;
        let mut prompt = prompt::tokens(&model, request, &mut warnings)?;
        fit(&model, &settings, &mut prompt, &mut warnings)?;
        let eos_tokens = model.eos_tokens();
        if settings.sampling.eos_tokens.is_none() {
            settings.sampling.eos_tokens = Some(eos_tokens.clone());
        }
        if settings.ignore_eos {
            let suppressed = settings.sampling.suppress_tokens.get_or_insert_default();
            suppressed.extend(&eos_tokens);
        }
        // A head padded beyond the tokenizer has rows that stand for no text.
        let vocab = model.config().vocab as u32;
        let known = model
            .tokenizer()
            .map_or(vocab, |tokenizer| tokenizer.vocab_size() as u32);
        if known < vocab {
            let suppressed = settings.sampling.suppress_tokens.get_or_insert_default();
            suppressed.extend(known..vocab);
        }
        let continued = prompt::is_continued(&model, request);
        Ok(Plan {
            model,
            continued,
            settings,
            prompt,
            eos_tokens,
            warnings,
        })
    }

    /// The prompt as the model sees it.
    pub fn prompt_tokens(&self) -> &[u32] {
        &self.prompt
    }

    /// The settings and their origins.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was ignored, replaced or cut so far.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Refuses a prompt that leaves no room for a token, or drops its beginning if the request says so.
fn fit(
    model: &Model,
    settings: &Settings,
    prompt: &mut Vec<u32>,
    warnings: &mut Vec<Warning>,
) -> Result<(), Error> {
    let limit = model.config().max_context;
    let tokens = prompt.len();
    match settings.on_overflow {
        Overflow::Error if tokens >= limit => Err(Error::PromptTooLong { tokens, limit }),
        Overflow::TruncatePrompt if tokens + settings.max_tokens > limit => {
            let keep = limit.saturating_sub(settings.max_tokens).max(1);
            let dropped = tokens.saturating_sub(keep);
            if dropped > 0 {
                prompt.drain(..dropped);
                warnings.push(Warning::new(
                    "prompt_truncated",
                    format!("dropped the first {dropped} of {tokens} prompt tokens to fit {limit}"),
                ));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
