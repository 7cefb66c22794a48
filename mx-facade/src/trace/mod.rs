//! What happened during a generation, token by token; and what to do with the record.
//!
//! A [`Trace`] holds the request, so it can be carried out again: [`read`] reads one from a file, [`diff`] finds where two
//! part, [`replay()`] repeats one and compares, [`why()`] asks what became of one token at one step.

mod diff;
mod error;
#[cfg(feature = "local")]
mod fingerprint;
mod identity;
mod read;
#[cfg(feature = "local")]
mod replay;
#[cfg(feature = "local")]
mod why;

pub use diff::{Diff, Difference, Divergence, diff};
pub use error::TraceError;
#[cfg(feature = "local")]
pub(crate) use fingerprint::{fingerprint, of_edits};
pub use identity::{EngineRecord, ModelRecord, NamedModel};
pub use read::{Limits, parse, read};
#[cfg(feature = "local")]
pub use replay::{Replay, replay};
#[cfg(feature = "local")]
pub use why::{CutBy, Named, Standing, Verdict, Why, why};
#[cfg(feature = "local")]
pub(crate) use why::{Probe, Seen};

use crate::generation::{FinishReason, Route, Warning};
use crate::request::{GenerateRequest, Setting};
use serde::{Deserialize, Serialize};

/// Version of the trace format, counted up when a field changes its meaning.
pub const TRACE_VERSION: u32 = 3;
/// Tokens of each law that a step names.
#[cfg(feature = "local")]
pub(crate) const LAW_TOKENS: usize = 5;

/// A record of one generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trace {
    /// [`TRACE_VERSION`] of the writer.
    pub version: u32,
    /// The writer, for example `mx 0.1.0`.
    pub writer: String,
    /// The request, with the seed that was used.
    pub request: GenerateRequest,
    /// Seconds since 1970 that the chat template was told, for templates that print the date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<u64>,
    /// Whether the caller restricted the tokens by a mask of its own, which a trace cannot hold.
    #[serde(default)]
    pub own_mask: bool,
    /// Where it ran.
    pub route: Route,
    /// Why it ran here after all, for [`Route::Fallback`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// The seed.
    pub seed: u64,
    /// The model and what ran it.
    pub model: ModelRecord,
    /// The models that drafted or decided together with it, by the names of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<NamedModel>,
    /// Fingerprint of the edits that steered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steering: Option<String>,
    /// Every value used, with its origin.
    pub settings: Vec<Setting>,
    /// What was ignored, replaced or cut.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// The prompt as the model saw it.
    pub prompt_tokens: Vec<u32>,
    /// Tokens of the prompt that a session held already.
    #[serde(default)]
    pub cached_tokens: usize,
    /// Time to compute the prompt, in microseconds.
    pub prefill_micros: u64,
    /// Time from the first step to the last, in microseconds.
    #[serde(default)]
    pub total_micros: u64,
    /// The random stream of the first output.
    #[serde(default)]
    pub stream: usize,
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// One entry a generated token.
    pub steps: Vec<TraceStep>,
    /// The further outputs that were returned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<TracedOutput>,
}

impl Trace {
    /// Makes the output of a row the first one, and that which was first one of the others.
    pub(crate) fn lead(&mut self, row: usize) {
        let Some(other) = row.checked_sub(1).and_then(|at| self.further.get_mut(at)) else {
            return;
        };
        std::mem::swap(&mut self.stream, &mut other.stream);
        std::mem::swap(&mut self.text, &mut other.text);
        std::mem::swap(&mut self.finish_reason, &mut other.finish_reason);
        std::mem::swap(&mut self.steps, &mut other.steps);
    }
}

/// One of several outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TracedOutput {
    /// The random stream that it was drawn from.
    pub stream: usize,
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
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
    #[serde(with = "logarithm")]
    pub logprob: f64,
    /// The same under the model's own law; `None` where no logits were computed.
    #[serde(
        default,
        with = "logarithm::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub raw_logprob: Option<f64>,
    /// The most likely tokens of the law that was drawn from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub law: Vec<Likely>,
    /// The most likely tokens of the model's own law.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw_law: Vec<Likely>,
    /// The random number that decided, in 0 to 1; `None` where nothing was left to chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uniform: Option<f64>,
    /// What every stage of the chain took away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// The draft whose verification began with this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<DraftRound>,
    /// What each model of an ensemble voted for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<Vote>,
    /// What steering changed at the position whose logits chose the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steering: Vec<SteeringNorm>,
    /// Time of the step that gave its logits, in microseconds; 0 for the first token, whose logits the prompt gave.
    pub step_micros: u64,
    /// Time of mask, chain and draw, in microseconds.
    #[serde(default)]
    pub choose_micros: u64,
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

/// A token of a law.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Likely {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability; `null` in JSON where that is 0.
    #[serde(with = "logarithm")]
    pub logprob: f64,
}

/// Tokens that were drafted together, and how many of them the model accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftRound {
    /// The drafted tokens.
    pub tokens: Vec<u32>,
    /// How many stood; the first one after them was rejected, those behind it were not looked at.
    pub accepted: usize,
}

/// What one model of an ensemble held likely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// The model.
    pub model: String,
    /// Its weight.
    pub weight: f64,
    /// Its most likely token among those allowed.
    pub token: u32,
    /// Probability of that token, at the temperature.
    pub probability: f64,
    /// Probability of the token that was chosen.
    pub of_chosen: f64,
}

/// How much steering changed a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SteeringNorm {
    /// The place in the forward pass, for example `resid_pre.12`.
    pub point: String,
    /// Euclidean norm of the row before.
    pub row: f64,
    /// Euclidean norm of what was added to it.
    pub change: f64,
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

#[cfg(feature = "local")]
impl TracedOutput {
    /// An output that never began.
    pub(crate) fn empty() -> Self {
        TracedOutput {
            stream: 0,
            text: String::new(),
            finish_reason: FinishReason::default(),
            steps: Vec::new(),
        }
    }
}

impl Trace {
    /// The tokens of the first output.
    pub fn tokens(&self) -> Vec<u32> {
        self.steps.iter().map(|step| step.token).collect()
    }

    /// Drafted tokens, and how many of them were accepted.
    pub fn drafts(&self) -> (usize, usize) {
        let rounds = self.steps.iter().filter_map(|step| step.draft.as_ref());
        rounds.fold((0, 0), |(drafted, accepted), round| {
            (drafted + round.tokens.len(), accepted + round.accepted)
        })
    }
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

/// Logarithms in JSON, which has no −∞: `null` stands for it.
mod logarithm {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::NEG_INFINITY))
    }

    /// A logarithm that may be absent: the field is left out then.
    pub(super) mod optional {
        use serde::{Deserializer, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            value: &Option<f64>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            super::serialize(&value.unwrap_or(f64::NEG_INFINITY), to)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<f64>, D::Error> {
            super::deserialize(from).map(Some)
        }
    }
}
