//! Chats.

use super::body::{Builder, Plan};
use super::kind::{Endpoint, ServerKind};
use super::logprobs::Logprobs;
use super::params::Params;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A conversation to be continued.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The model's name at the server. Empty where the server has one only.
    #[serde(default)]
    pub model: String,
    /// The messages so far.
    pub messages: Vec<ChatMessage>,
    /// How the answer is generated.
    #[serde(flatten)]
    pub params: Params,
    /// Functions that the model may call, in OpenAI's form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// Which of them it must call, in OpenAI's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<Value>,
}

impl ChatRequest {
    /// A request of one message by the user.
    pub fn new(model: impl Into<String>, text: impl Into<String>) -> Self {
        ChatRequest {
            model: model.into(),
            messages: vec![ChatMessage::user(text)],
            ..ChatRequest::default()
        }
    }
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`.
    #[serde(default)]
    pub role: String,
    /// What it says. A message that only calls functions may say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<MessageContent>,
    /// Calls of functions, in OpenAI's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<Value>>,
    /// Other fields: `name`, `tool_call_id`, `reasoning_content` and whatever else a server says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MessageContent {
    /// A text.
    Text(String),
    /// Texts, images and more, in OpenAI's form.
    Parts(Vec<Map<String, Value>>),
}

impl ChatMessage {
    /// A message of some role.
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        ChatMessage {
            role: role.into(),
            content: Some(MessageContent::Text(text.into())),
            ..ChatMessage::default()
        }
    }

    /// A message of the user.
    pub fn user(text: impl Into<String>) -> Self {
        ChatMessage::new("user", text)
    }

    /// A message that sets the tone.
    pub fn system(text: impl Into<String>) -> Self {
        ChatMessage::new("system", text)
    }

    /// The texts in it, joined.
    pub fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(MessageContent::Text(text)) => text.clone(),
            Some(MessageContent::Parts(parts)) => parts
                .iter()
                .filter_map(|part| part.get("text")?.as_str())
                .collect(),
        }
    }
}

/// The answer to a chat.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChatAnswer {
    /// The server's name of it.
    #[serde(default)]
    pub id: String,
    /// The model that answered.
    #[serde(default)]
    pub model: String,
    /// The choices.
    pub choices: Vec<ChatChoice>,
    /// Tokens read and written.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Whatever else the server says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ChatAnswer {
    /// The text of the first choice; empty when there is none.
    pub fn text(&self) -> String {
        self.choices
            .first()
            .map(|choice| choice.message.text())
            .unwrap_or_default()
    }
}

/// One choice of an answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChatChoice {
    /// Its number.
    #[serde(default)]
    pub index: u32,
    /// The message.
    pub message: ChatMessage,
    /// Why it ended: `stop`, `length`, `tool_calls`, or the server's own word.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Log-probabilities, if they were asked for.
    #[serde(default)]
    pub logprobs: Option<Logprobs>,
    /// Whatever else the server says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A piece of a streamed chat.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChatChunk {
    /// The server's name of the answer.
    #[serde(default)]
    pub id: String,
    /// The model that answers.
    #[serde(default)]
    pub model: String,
    /// What is new, choice by choice.
    #[serde(default)]
    pub choices: Vec<ChatChunkChoice>,
    /// Tokens read and written; in the last piece.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Whatever else the server says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ChatChunk {
    /// The new text of the first choice.
    pub fn text(&self) -> &str {
        let first = self.choices.iter().find(|choice| choice.index == 0);
        first
            .and_then(|choice| choice.delta.content.as_deref())
            .unwrap_or_default()
    }
}

/// What is new in one choice.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChatChunkChoice {
    /// Its number.
    #[serde(default)]
    pub index: u32,
    /// What is new in the message.
    #[serde(default)]
    pub delta: ChatDelta,
    /// Why it ended, once it has.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Log-probabilities of what is new.
    #[serde(default)]
    pub logprobs: Option<Logprobs>,
    /// Whatever else the server says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What is new in a message.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChatDelta {
    /// The role; in the first piece.
    #[serde(default)]
    pub role: Option<String>,
    /// More text.
    #[serde(default)]
    pub content: Option<String>,
    /// More of the calls of functions, in OpenAI's form.
    #[serde(default)]
    pub tool_calls: Option<Vec<Map<String, Value>>>,
    /// Whatever else the server says; texts are continuations.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Tokens read and written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    #[serde(default)]
    pub prompt_tokens: Option<u64>,
    /// Tokens generated.
    #[serde(default)]
    pub completion_tokens: Option<u64>,
    /// Both.
    #[serde(default)]
    pub total_tokens: Option<u64>,
    /// Whatever else the server says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The body of a chat for a kind of server.
pub(super) fn plan(kind: ServerKind, request: &ChatRequest, stream: bool) -> Result<Plan> {
    let mut builder = Builder::new(kind, Endpoint::Chat);
    if request.messages.is_empty() {
        return Err(Error::bad_request(
            "messages",
            "empty",
            "one message or more",
        ));
    }
    let mut parts_somewhere = false;
    for message in &request.messages {
        let parts = matches!(message.content, Some(MessageContent::Parts(_)));
        if parts || (message.content.is_none() && kind == ServerKind::Axionic) {
            builder.check("content_parts")?;
            parts_somewhere |= parts;
        }
    }
    if parts_somewhere && kind == ServerKind::LlamaCppPython {
        builder.note(
            "messages",
            "with parts are understood only by a server with a multimodal handler",
        );
    }
    if !request.model.is_empty() {
        builder.set("model", request.model.as_str());
    }
    let messages = serde_json::to_value(&request.messages)
        .map_err(|e| Error::bad_request("messages", e, "data that JSON can hold"))?;
    builder.set("messages", messages);
    builder.params(&request.params)?;
    if !request.tools.is_empty() {
        builder.field("tools", request.tools.clone())?;
    }
    if let Some(choice) = &request.tool_choice {
        builder.check("tools")?;
        builder.set("tool_choice", choice.clone());
    }
    builder.extra(&request.params.extra)?;
    set_stream(&mut builder, kind, stream);
    Ok(builder.finish())
}

pub(super) fn set_stream(builder: &mut Builder, kind: ServerKind, stream: bool) {
    if stream {
        builder.set("stream", true);
        if kind.streams_usage() {
            builder.set("stream_options", json!({"include_usage": true}));
        }
    }
}
