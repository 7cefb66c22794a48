//! Logits processors of the caller.

use std::fmt::Debug;

use crate::error::SamplingError;

/// What a processor may look at besides the logits.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Prompt and generated tokens.
    pub tokens: &'a [u32],
    /// How many of `tokens` are the prompt.
    pub prompt_len: usize,
}

impl<'a> Context<'a> {
    /// The generated tokens.
    #[must_use]
    pub fn generated(&self) -> &'a [u32] {
        &self.tokens[self.prompt_len.min(self.tokens.len())..]
    }
}

/// Changes the logits of a step before masks and truncations.
///
/// A processor runs at the step `processors` of the chain, after the built-in penalties. Setting a logit to
/// `-inf` removes the token. Every truncation of this crate is a processor too ([`Truncation`]), for those
/// who want to place it in a pipeline of their own.
///
/// ```
/// use mx_sampling::{Context, LogitsProcessor, Sampler, SamplingError, SamplingOptions};
///
/// /// Only even token ids.
/// #[derive(Debug, Clone)]
/// struct Even;
///
/// impl LogitsProcessor for Even {
///     fn name(&self) -> &'static str {
///         "even"
///     }
///     fn process(&mut self, _: Context<'_>, logits: &mut [f32]) -> Result<(), SamplingError> {
///         logits.iter_mut().skip(1).step_by(2).for_each(|logit| *logit = f32::NEG_INFINITY);
///         Ok(())
///     }
///     fn boxed_clone(&self) -> Box<dyn LogitsProcessor> {
///         Box::new(self.clone())
///     }
/// }
///
/// let mut sampler = Sampler::new(&SamplingOptions::default(), 4, 0, 0)?;
/// sampler.add_processor(Box::new(Even))?;
/// assert_eq!(sampler.sample(&mut [0.0, 9.0, 1.0, 8.0], None)?.token, 2);
/// # Ok::<(), SamplingError>(())
/// ```
///
/// [`Truncation`]: crate::Truncation
pub trait LogitsProcessor: Debug + Send + Sync {
    /// A short name, for traces.
    fn name(&self) -> &'static str;

    /// Changes the logits.
    ///
    /// # Errors
    ///
    /// Whatever keeps the processor from working; the step fails with it.
    fn process(&mut self, context: Context<'_>, logits: &mut [f32]) -> Result<(), SamplingError>;

    /// Takes note of a token that was taken.
    fn commit(&mut self, token: u32) {
        let _ = token;
    }

    /// Takes note that the tokens after the first `length` (prompt included) were taken back.
    fn rollback(&mut self, length: usize) {
        let _ = length;
    }

    /// A copy for a fork of the sampler.
    fn boxed_clone(&self) -> Box<dyn LogitsProcessor>;
}

impl Clone for Box<dyn LogitsProcessor> {
    fn clone(&self) -> Self {
        self.boxed_clone()
    }
}
