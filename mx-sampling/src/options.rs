//! The knobs: plain serde data, everything optional.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::SamplingError;
use crate::order::Order;
use crate::plan::Plan;

/// Everything that shapes the choice of the next token.
///
/// A knob that is `None` is off; nothing else switches it on. With nothing set the sampler is greedy.
/// The crate page lists every knob with its neutral value, its range and its source.
///
/// **Temperature.** `None` means 1 when any knob is set that only makes sense while sampling (a truncation,
/// `dynatemp_range`, `xtc_probability`, `mirostat`, `adaptive_p_target`), and greedy otherwise.
///
/// ```
/// use mx_sampling::SamplingOptions;
///
/// let request = SamplingOptions { temperature: Some(0.7), ..Default::default() };
/// let model = SamplingOptions { temperature: Some(1.0), top_k: Some(64), ..Default::default() };
/// let merged = request.or(&model);
/// assert_eq!((merged.temperature, merged.top_k), (Some(0.7), Some(64)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingOptions {
    /// Order of the chain; [`Order::Hf`] when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Divides the logits; `>= 0`, neutral 1. Values below 1e-5 mean greedy.
    #[serde(skip_serializing_if = "Option::is_none", alias = "temp")]
    pub temperature: Option<f64>,
    /// Half width of dynamic temperature; `>= 0`, off 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynatemp_range: Option<f64>,
    /// Exponent of dynamic temperature; `> 0`, default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynatemp_exponent: Option<f64>,
    /// Keeps the k most likely tokens, exactly k; off 0 and −1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// Keeps the shortest prefix with at least this mass; `[0, 1]`, off 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Keeps tokens with at least this fraction of the largest probability; `[0, 1]`, off 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Mass of locally typical sampling; `(0, 1]`, off 1.
    #[serde(
        skip_serializing_if = "Option::is_none",
        alias = "typ_p",
        alias = "typical"
    )]
    pub typical_p: Option<f64>,
    /// Keeps tokens with at least this probability; `[0, 1)`, off 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon_cutoff: Option<f64>,
    /// Entropy-dependent probability cutoff; `[0, 1)`, off 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_cutoff: Option<f64>,
    /// Keeps logits within n standard deviations of the largest; off when `<= 0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_n_sigma: Option<f64>,
    /// Share of the entropy of the top 100 that is kept; `(0, 1]`, off when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_h: Option<f64>,
    /// Tail-free sampling; `(0, 1]`, off 1.
    #[serde(skip_serializing_if = "Option::is_none", alias = "tfs_z")]
    pub tail_free: Option<f64>,
    /// Probability from which XTC counts a token as a top choice; `(0, 0.5]`, default 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xtc_threshold: Option<f64>,
    /// Probability that XTC acts on a token; `[0, 1]`, off 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xtc_probability: Option<f64>,
    /// Mirostat version: 0 off, 1 or 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirostat: Option<u8>,
    /// Target surprise of mirostat in bits; `> 0`, default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirostat_tau: Option<f64>,
    /// Learning rate of mirostat; `> 0`, default 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirostat_eta: Option<f64>,
    /// Target probability of adaptive-p; `[0, 1]`, off when negative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_p_target: Option<f64>,
    /// Memory of adaptive-p; `[0, 0.99]`, default 0.9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_p_decay: Option<f64>,
    /// Least number of tokens every truncation keeps; `>= 1`, default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tokens_to_keep: Option<u32>,

    /// Divides (or multiplies) the logits of seen tokens; `> 0`, off 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Subtracted once per occurrence; `[-2, 2]`, off 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Subtracted once when the token occurred; `[-2, 2]`, off 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Window of the three penalties above: the last n tokens, prompt included; 0 none, −1 all.
    ///
    /// Not given: repetition looks at prompt and output, frequency and presence at the output, except in
    /// the order `llama`, where all three look at the last 64 tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty_last_n: Option<i64>,
    /// Strength of DRY; `>= 0`, off 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_multiplier: Option<f64>,
    /// Base of DRY; `>= 1`, default 1.75.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_base: Option<f64>,
    /// Longest repetition DRY leaves alone, default 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_allowed_length: Option<u32>,
    /// Window of DRY: 0 none, −1 all (default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_last_n: Option<i64>,
    /// Token sequences that DRY does not look across.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_breakers: Option<Vec<Vec<u32>>>,
    /// Forbids every n-gram to occur twice; off 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_repeat_ngram_size: Option<u32>,
    /// Token sequences that must not be completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_words: Option<Vec<Vec<u32>>>,
    /// Added to the logit of a token; −inf allowed, written as `"-inf"` where the format has no infinity.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "crate::ids::token_biases"
    )]
    pub logit_bias: Option<BTreeMap<u32, f64>>,
    /// Added to the last token of a sequence when the tokens before it match; −inf as for `logit_bias`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "crate::ids::sequence_biases"
    )]
    pub sequence_bias: Option<Vec<(Vec<u32>, f64)>>,
    /// Tokens that end a sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_tokens: Option<Vec<u32>>,
    /// The end tokens are out until this many tokens were generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_new_tokens: Option<u32>,
    /// Tokens that are always out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppress_tokens: Option<Vec<u32>>,
    /// Tokens that are out at the first generated position only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin_suppress_tokens: Option<Vec<u32>>,
    /// The token that must stand at a generated position (0 is the first).
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::ids::read_positions"
    )]
    pub forced_tokens: Option<BTreeMap<u32, u32>>,
    /// Only end tokens are allowed once this many tokens, less one, were generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_eos_at: Option<u32>,
    /// Raises the end tokens exponentially: after `.0` generated tokens, with factor `.1`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        alias = "exponential_decay_length_penalty"
    )]
    pub exponential_decay: Option<(u32, f64)>,
    /// Treats NaN as −inf instead of refusing the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sanitize: Option<bool>,
}

/// Expands to a merge that takes every listed field of `self` where set and of `other` otherwise.
macro_rules! merge {
    ($self:ident, $other:ident, $($field:ident),+ $(,)?) => {
        SamplingOptions { $($field: $self.$field.clone().or_else(|| $other.$field.clone()),)+ }
    };
}

/// A vocabulary larger than every token id, for checks before the real one is known.
const ANY_VOCAB: usize = u32::MAX as usize + 1;

impl SamplingOptions {
    /// Checks everything that does not depend on the vocabulary and its end tokens: ranges, exclusive combinations, the
    /// order.
    ///
    /// ```
    /// use mx_sampling::SamplingOptions;
    ///
    /// let options = SamplingOptions { temperature: Some(-1.0), ..Default::default() };
    /// assert!(options.check().unwrap_err().is_parameter());
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Sampler::new`](crate::Sampler::new).
    pub fn check(&self) -> Result<(), SamplingError> {
        let mut options = self.clone();
        options.eos_tokens.get_or_insert_with(|| vec![0]);
        Plan::new(&options, ANY_VOCAB).map(|_| ())
    }

    /// These options, with everything that is not set taken from `other`.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        merge!(
            self,
            other,
            order,
            temperature,
            dynatemp_range,
            dynatemp_exponent,
            top_k,
            top_p,
            min_p,
            typical_p,
            epsilon_cutoff,
            eta_cutoff,
            top_n_sigma,
            top_h,
            tail_free,
            xtc_threshold,
            xtc_probability,
            mirostat,
            mirostat_tau,
            mirostat_eta,
            adaptive_p_target,
            adaptive_p_decay,
            min_tokens_to_keep,
            repetition_penalty,
            frequency_penalty,
            presence_penalty,
            penalty_last_n,
            dry_multiplier,
            dry_base,
            dry_allowed_length,
            dry_last_n,
            dry_breakers,
            no_repeat_ngram_size,
            bad_words,
            logit_bias,
            sequence_bias,
            eos_tokens,
            min_new_tokens,
            suppress_tokens,
            begin_suppress_tokens,
            forced_tokens,
            forced_eos_at,
            exponential_decay,
            sanitize,
        )
    }
}
