//! The answer to a request.

use crate::policy::PolicyRun;
use crate::request::{Method, Setting};
use crate::trace::Trace;
use mx_remote::openai::TokenLogprob;
use mx_steering::behaviour::Drift;
use serde::Serialize;

/// What was generated, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Generation {
    /// The generated text, without the prompt and without the stop text that ended it.
    pub text: String,
    /// The generated tokens, those included that ended the generation or were cut with a stop text.
    pub tokens: Vec<u32>,
    /// Why the generation ended.
    pub finish_reason: FinishReason,
    /// The stop text that ended it, where [`FinishReason::Stop`] came from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_text: Option<String>,
    /// Log-probabilities of the tokens, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogprobs>,
    /// Log-probabilities as a server gave them, if they were asked for: by text, as few servers name ids. By which law,
    /// before or after temperature and truncation, is the server's own choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub served_logprobs: Vec<TokenLogprob>,
    /// Scores of the behaviours that were watched for, token by token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behaviors: Vec<BehaviorReport>,
    /// All outputs, best or first first, where more than one was asked for; the fields above are those of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// Tokens read and written.
    pub usage: Usage,
    /// The seed used. The same request with this seed gives the same tokens on the same engine.
    pub seed: u64,
    /// The sampling method used.
    pub method: Method,
    /// Where it ran.
    pub route: Route,
    /// The model.
    pub model: String,
    /// What ran it.
    pub engine: EngineInfo,
    /// What was ignored, replaced or cut.
    pub warnings: Vec<Warning>,
    /// Every value used, with its origin.
    pub settings: Vec<Setting>,
    /// What happened token by token, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// How the output was judged, if a [policy](crate::policy) ran the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<PolicyRun>>,
}

/// One of several outputs.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Choice {
    /// The random stream that it was drawn from.
    pub stream: usize,
    /// The text.
    pub text: String,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The stop text that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_text: Option<String>,
    /// Log-probabilities of its tokens, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogprobs>,
    /// The same as a server gave them; see [`Generation::served_logprobs`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub served_logprobs: Vec<TokenLogprob>,
    /// Scores of the behaviours that were watched for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behaviors: Vec<BehaviorReport>,
    /// What the choice among candidates went by: the mean log-probability a token under the model's own law, or the
    /// score of a beam search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

impl Choice {
    /// An output of which only the text is known.
    pub(crate) fn of_text(text: String) -> Self {
        Choice {
            text,
            finish_reason: FinishReason::Stop,
            ..Choice::default()
        }
    }
}

/// The output of an answer that has only one.
impl From<&Generation> for Choice {
    fn from(answer: &Generation) -> Self {
        Choice {
            stream: 0,
            text: answer.text.clone(),
            tokens: answer.tokens.clone(),
            finish_reason: answer.finish_reason,
            stop_text: answer.stop_text.clone(),
            logprobs: answer.logprobs.clone(),
            served_logprobs: answer.served_logprobs.clone(),
            behaviors: answer.behaviors.clone(),
            score: None,
        }
    }
}

/// The log-probabilities of one generated token.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct TokenLogprobs {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability under the model's own law: the softmax of the logits as they came.
    pub logprob: f64,
    /// The most likely tokens with theirs, most likely first, lower ids first on ties.
    pub top: Vec<(u32, f64)>,
}

/// What ran a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct EngineInfo {
    /// `burn` or `cpu`; on the remote route the protocol.
    pub engine: String,
    /// The device, for example `flex` or `cuda:0`; on the remote route the address.
    pub device: String,
    /// How weights are held, for example `f32`; on the remote route `remote`.
    pub weights: String,
}

#[cfg(feature = "local")]
impl From<&mx_runtime::engine::EngineInfo> for EngineInfo {
    fn from(info: &mx_runtime::engine::EngineInfo) -> Self {
        EngineInfo {
            engine: info.engine.to_owned(),
            device: info.device.clone(),
            weights: info.weights.clone(),
        }
    }
}

/// What was seen of one behaviour in one output.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct BehaviorReport {
    /// The behaviour.
    pub behavior: String,
    /// Scores of the tokens that the model went on from; the last token of an output has none.
    pub scores: Vec<Drift>,
    /// Tokens that were chosen under the correction.
    pub steered_tokens: usize,
    /// How often the text was begun again.
    pub regenerations: usize,
    /// Tokens of the texts that were given up.
    pub discarded_tokens: usize,
}

/// What one step added to an output.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Chunk {
    /// Which of the request's outputs, from 0.
    pub index: usize,
    /// The token; `None` in a last chunk that only ends the generation, and from a server.
    pub token: Option<u32>,
    /// Text that became certain. Never part of a character, never part of a stop text.
    pub text: String,
    /// Set in the last chunk.
    pub finish_reason: Option<FinishReason>,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended the text, or a stop text was met.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The model's context is full.
    ContextFull,
    /// The caller asked to stop; the text is what there was.
    #[default]
    Cancelled,
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated.
    pub completion_tokens: usize,
    /// Tokens of the prompt that did not have to be computed again.
    pub cached_tokens: usize,
}

/// Where a request ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Route {
    /// On this machine.
    Local,
    /// On a server.
    Remote,
    /// On this machine, after the server failed; a warning says how.
    Fallback,
}

/// Something that was ignored, replaced or cut. Nothing of the kind goes unreported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Warning {
    /// A stable name, for programs.
    pub code: String,
    /// What happened, for people.
    pub message: String,
}

impl Warning {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Warning {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}
