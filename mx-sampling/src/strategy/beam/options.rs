//! Settings of a beam search.

use super::MAX_WIDTH;
use crate::error::SamplingError;
use crate::penalties::check_tokens;

/// When a search ends before every beam has reached its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EarlyStopping {
    /// When the best running beam, at its present length, is not better than the worst finished one. With a
    /// positive length penalty this can stop before the optimum.
    #[default]
    Heuristic,
    /// As soon as `width` hypotheses are finished.
    Yes,
    /// When no running beam can become better than the worst finished one any more, at the largest length.
    Never,
}

/// How the length enters the score of a finished hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LengthNorm {
    /// `length^α` (transformers).
    #[default]
    Power,
    /// `((5 + length)/6)^α` (Wu 2016).
    Gnmt,
}

/// Settings of a beam search.
#[derive(Debug, Clone, PartialEq)]
pub struct BeamOptions {
    /// Number of beams, over all groups; 1 to [`MAX_WIDTH`].
    pub width: usize,
    /// Exponent α of the length; 0 ranks by the plain sum.
    pub length_penalty: f64,
    /// What is raised to α.
    pub length_norm: LengthNorm,
    /// When to stop early.
    pub early_stopping: EarlyStopping,
    /// Largest number of generated tokens; at least 1.
    pub max_new_tokens: usize,
    /// Tokens that end a hypothesis.
    pub eos_tokens: Vec<u32>,
    /// Groups of a diverse search (Vijayakumar 2016); must divide the width; 1 is a plain search.
    pub groups: usize,
    /// What a token loses per earlier group that chose it in the same round; `>= 0`.
    pub diversity_penalty: f64,
    /// Draws the continuations without replacement, from `softmax(accumulated)`, instead of taking the best.
    pub sampled: Option<(u64, u64)>,
    /// Phrases that every hypothesis must contain; none may hold an end token, after which nothing is said.
    pub must_include: Vec<Vec<u32>>,
}

impl Default for BeamOptions {
    fn default() -> Self {
        Self {
            width: 4,
            length_penalty: 1.0,
            length_norm: LengthNorm::default(),
            early_stopping: EarlyStopping::default(),
            max_new_tokens: 128,
            eos_tokens: Vec::new(),
            groups: 1,
            diversity_penalty: 0.0,
            sampled: None,
            must_include: Vec::new(),
        }
    }
}

impl BeamOptions {
    pub(super) fn check(&self, vocab: usize) -> Result<(), SamplingError> {
        let Self {
            width,
            groups,
            diversity_penalty,
            length_penalty,
            ..
        } = *self;
        SamplingError::check(
            (1..=MAX_WIDTH).contains(&width),
            "beam_width",
            width as f64,
            "in 1..=65536",
        )?;
        SamplingError::check(
            self.max_new_tokens >= 1,
            "max_new_tokens",
            self.max_new_tokens as f64,
            ">= 1",
        )?;
        let divides = groups >= 1 && width.is_multiple_of(groups);
        SamplingError::check(
            divides,
            "beam_groups",
            groups as f64,
            "a divisor of beam_width",
        )?;
        let accepted = diversity_penalty >= 0.0 && diversity_penalty.is_finite();
        SamplingError::check(
            accepted,
            "diversity_penalty",
            diversity_penalty,
            "a finite number >= 0",
        )?;
        SamplingError::check(
            length_penalty.is_finite(),
            "length_penalty",
            length_penalty,
            "a finite number",
        )?;
        check_tokens("eos_tokens", &self.eos_tokens, vocab)?;
        for phrase in &self.must_include {
            check_tokens("must_include", phrase, vocab)?;
            if phrase.iter().any(|token| self.eos_tokens.contains(token)) {
                return Err(SamplingError::Exclusive {
                    first: "must_include",
                    second: "eos_tokens",
                    reason: "a phrase holds an end token, after which nothing is said",
                });
            }
        }
        Ok(())
    }

    pub(super) fn normalised(&self, score: f64, length: usize) -> f64 {
        let base = match self.length_norm {
            LengthNorm::Power => length as f64,
            LengthNorm::Gnmt => (5.0 + length as f64) / 6.0,
        };
        score / crate::math::pow(base, self.length_penalty)
    }
}
