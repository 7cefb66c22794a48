//! Turns of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One turn of a conversation, in OpenAI's form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, or what else the model's template or the server knows.
    pub role: String,
    /// What is said.
    #[serde(default)]
    pub content: Option<Content>,
    /// Other fields: `tool_calls`, `name`, `reasoning_content`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text.
    Text(String),
    /// Parts, such as `{"type": "text", "text": …}`.
    Parts(Vec<Value>),
}

impl Message {
    /// A message of text.
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Message {
            role: role.into(),
            content: Some(Content::Text(text.into())),
            extra: Map::new(),
        }
    }
}

#[cfg(feature = "local")]
impl From<&Message> for mx_runtime::template::Message {
    fn from(message: &Message) -> Self {
        use mx_runtime::template::Content as Theirs;
        let content = message.content.as_ref().map(|content| match content {
            Content::Text(text) => Theirs::Text(text.clone()),
            Content::Parts(parts) => Theirs::Parts(parts.clone()),
        });
        let extra = message.extra.clone();
        mx_runtime::template::Message {
            role: message.role.clone(),
            content,
            extra,
        }
    }
}
