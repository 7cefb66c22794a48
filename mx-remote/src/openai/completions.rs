//! Completions of bare texts.

use super::body::{Builder, Plan};
use super::chat::{Usage, set_stream};
use super::kind::{Endpoint, ServerKind};
use super::logprobs::Logprobs;
use super::params::Params;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A text to be continued.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CompletionRequest {
    /// The model's name at the server. Empty where the server has one only.
    #[serde(default)]
    pub model: String,
    /// The text.
    pub prompt: CompletionPrompt,
    /// How the continuation is generated.
    #[serde(flatten)]
    pub params: Params,
    /// What comes after the continuation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// Whether the answer begins with the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// Continuations of which the most likely are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_of: Option<u32>,
}

impl CompletionRequest {
    /// A request with everything left to the server.
    pub fn new(model: impl Into<String>, prompt: impl Into<CompletionPrompt>) -> Self {
        CompletionRequest {
            model: model.into(),
            prompt: prompt.into(),
            ..CompletionRequest::default()
        }
    }
}

/// What is to be continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CompletionPrompt {
    /// A text.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
    /// Several texts, each with choices of its own.
    Texts(Vec<String>),
}

impl Default for CompletionPrompt {
    fn default() -> Self {
        CompletionPrompt::Text(String::new())
    }
}

impl From<&str> for CompletionPrompt {
    fn from(text: &str) -> Self {
        CompletionPrompt::Text(text.to_owned())
    }
}

impl From<String> for CompletionPrompt {
    fn from(text: String) -> Self {
        CompletionPrompt::Text(text)
    }
}

impl From<Vec<u32>> for CompletionPrompt {
    fn from(tokens: Vec<u32>) -> Self {
        CompletionPrompt::Tokens(tokens)
    }
}

/// The answer to a completion, or a piece of a streamed one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CompletionAnswer {
    /// The server's name of it.
    #[serde(default)]
    pub id: String,
    /// The model that answered.
    #[serde(default)]
    pub model: String,
    /// The choices.
    pub choices: Vec<CompletionChoice>,
    /// Tokens read and written; of a streamed one in the last piece.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Whatever else the server says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl CompletionAnswer {
    /// The text of the first choice; empty when there is none.
    pub fn text(&self) -> &str {
        let first = self.choices.iter().find(|choice| choice.index == 0);
        first.map(|choice| choice.text.as_str()).unwrap_or_default()
    }
}

/// One choice of an answer, or what is new in it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CompletionChoice {
    /// Its number.
    #[serde(default)]
    pub index: u32,
    /// The text.
    pub text: String,
    /// Why it ended: `stop`, `length`, or the server's own word.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Log-probabilities, if they were asked for.
    #[serde(default)]
    pub logprobs: Option<Logprobs>,
    /// Whatever else the server says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The body of a completion for a kind of server.
pub(super) fn plan(kind: ServerKind, request: &CompletionRequest, stream: bool) -> Result<Plan> {
    let mut builder = Builder::new(kind, Endpoint::Completions);
    if !request.model.is_empty() {
        builder.set("model", request.model.as_str());
    }
    match &request.prompt {
        CompletionPrompt::Text(text) => builder.set("prompt", text.as_str()),
        CompletionPrompt::Tokens(tokens) if tokens.is_empty() => {
            return Err(Error::bad_request(
                "prompt",
                "no tokens",
                "one token or more",
            ));
        }
        CompletionPrompt::Tokens(tokens) => {
            builder.check("prompt_tokens")?;
            builder.set("prompt", tokens.as_slice());
        }
        CompletionPrompt::Texts(texts) if texts.is_empty() => {
            return Err(Error::bad_request("prompt", "no texts", "one text or more"));
        }
        CompletionPrompt::Texts(texts) => {
            if texts.len() > 1 {
                builder.check("several_prompts")?;
            }
            builder.set("prompt", texts.as_slice());
        }
    }
    builder.params(&request.params)?;
    if let Some(suffix) = &request.suffix {
        builder.field("suffix", suffix.as_str())?;
    }
    if request.echo == Some(true) {
        builder.field("echo", true)?;
    }
    if let Some(best_of) = request.best_of.filter(|n| *n != 1) {
        builder.field("best_of", best_of)?;
    }
    builder.extra(&request.params.extra)?;
    set_stream(&mut builder, kind, stream);
    Ok(builder.finish())
}
