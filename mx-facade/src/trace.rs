//! What happened during a generation, token by token.

use crate::request::Setting;
use serde::{Deserialize, Serialize};

/// Version of the trace format, counted up when a field changes its meaning.
pub const TRACE_VERSION: u32 = 2;

/// A record of one generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trace {
    /// [`TRACE_VERSION`] of the writer.
    pub version: u32,
    /// Every value used, with its origin.
    pub settings: Vec<Setting>,
    /// The prompt as the model saw it.
    pub prompt_tokens: Vec<u32>,
    /// Time to compute the prompt, in microseconds.
    pub prefill_micros: u64,
    /// One entry a generated token.
    pub steps: Vec<TraceStep>,
}

/// How one token came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TraceStep {
    /// The token.
    pub token: u32,
    /// Its text; a token that is only part of a character gives U+FFFD.
    pub text: String,
    /// How it was found.
    pub source: TokenSource,
    /// Natural logarithm of its probability under the law that was drawn from; 0 for a forced token.
    pub logprob: f64,
    /// The same under the model's own law; `None` where no logits were computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_logprob: Option<f64>,
    /// What every stage of the chain took away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Time of the step that gave its logits, in microseconds; 0 for the first token, whose logits the prompt gave.
    pub step_micros: u64,
}

/// How a token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenSource {
    /// Drawn from the law of its step.
    Sampled,
    /// Drafted, and accepted by the model.
    Drafted,
    /// Drawn in place of a draft that was rejected.
    Corrected,
    /// The only one that the constraint allowed; the model was not asked.
    Forced,
    /// Part of the best hypothesis of a search.
    Searched,
}

/// What one stage of the sampler chain took away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stage {
    /// The stage, for example `mask` or `top_k`.
    pub name: String,
    /// Tokens left before and after it.
    pub tokens: [usize; 2],
    /// Share of the probability that went, under the law before it.
    pub mass_removed: f64,
    /// Entropy before and after it, in nats.
    pub entropy: [f64; 2],
}

impl From<&mx_sampling::StepReport> for Stage {
    fn from(report: &mx_sampling::StepReport) -> Self {
        Stage {
            name: report.name.to_owned(),
            tokens: [report.tokens_before, report.tokens_after],
            mass_removed: report.mass_removed,
            entropy: [report.entropy_before, report.entropy_after],
        }
    }
}
