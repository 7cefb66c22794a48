//! What happened during a generation, token by token.

use crate::request::Setting;
use serde::{Deserialize, Serialize};

/// Version of the trace format, counted up when a field changes its meaning.
pub const TRACE_VERSION: u32 = 1;

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
    /// Natural logarithm of its probability under the law that was drawn from.
    pub logprob: f64,
    /// Time of the step that gave its logits, in microseconds; 0 for the first token, whose logits the prompt gave.
    pub step_micros: u64,
}
