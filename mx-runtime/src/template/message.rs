//! Messages, and the variables that a template sees.

use minijinja::Value;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{RenderOptions, TemplateError, TemplateLimits, TemplateTokens};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// What is said. `None` is `none` in the template.
    #[serde(default)]
    pub content: Option<Content>,
    /// Other fields: `tool_calls`, `name`, `reasoning_content`.
    #[serde(flatten)]
    pub extra: Map<String, Json>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text.
    Text(String),
    /// Parts, such as `{"type": "text", "text": …}`.
    Parts(Vec<Json>),
}

impl Message {
    /// A message of text.
    #[must_use]
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Some(Content::Text(text.into())),
            extra: Map::new(),
        }
    }
}

/// Variables that every template gets.
const FIXED: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// All that a user hands to a template, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Context {
    messages: Json,
    tools: Json,
    documents: Json,
    extra: Map<String, Json>,
    add_generation_prompt: bool,
}

impl Context {
    pub(super) fn new(
        messages: &[Message],
        options: &RenderOptions,
        limits: &TemplateLimits,
    ) -> Result<Self, TemplateError> {
        if let Some(name) = options
            .extra
            .keys()
            .find(|name| FIXED.contains(&name.as_str()))
        {
            return Err(TemplateError::ReservedVariable { name: name.clone() });
        }
        let json = |list: &Option<Vec<Json>>| list.clone().map_or(Json::Null, Json::Array);
        let context = Self {
            messages: Json::Array(messages.iter().map(Message::to_json).collect()),
            tools: json(&options.tools),
            documents: json(&options.documents),
            extra: options.extra.clone(),
            add_generation_prompt: options.add_generation_prompt,
        };
        for value in context.values() {
            check_nesting(value, limits.nesting)?;
        }
        Ok(context)
    }

    fn values(&self) -> impl Iterator<Item = &Json> {
        [&self.messages, &self.tools, &self.documents]
            .into_iter()
            .chain(self.extra.values())
    }

    /// Calls `look` with every text in the context.
    pub(super) fn each_text(&self, look: &mut impl FnMut(&str)) {
        self.values().for_each(|value| each_text(value, look));
    }

    /// The context with every text replaced.
    pub(super) fn map_texts(&self, change: &impl Fn(&str) -> String) -> Self {
        let map = |value: &Json| map_texts(value, change);
        Self {
            messages: map(&self.messages),
            tools: map(&self.tools),
            documents: map(&self.documents),
            // The names of variables are the template's, not text.
            extra: self
                .extra
                .iter()
                .map(|(name, value)| (name.clone(), map(value)))
                .collect(),
            add_generation_prompt: self.add_generation_prompt,
        }
    }

    pub(super) fn variables(
        &self,
        tokens: &TemplateTokens,
        strftime_now: Value,
    ) -> Vec<(String, Value)> {
        let tokens = [
            ("bos_token", &tokens.bos),
            ("eos_token", &tokens.eos),
            ("unk_token", &tokens.unk),
            ("pad_token", &tokens.pad),
        ];
        let mut variables = vec![("strftime_now".to_owned(), strftime_now)];
        let mut set = |name: &str, value: Value| {
            variables.retain(|(known, _)| known != name);
            variables.push((name.to_owned(), value));
        };
        for (name, token) in tokens {
            if let Some(token) = token {
                set(name, Value::from(token.as_str()));
            }
        }
        for (name, value) in &self.extra {
            set(name, Value::from(Serde(value)));
        }
        set("messages", Value::from(Serde(&self.messages)));
        set("tools", Value::from(Serde(&self.tools)));
        set("documents", Value::from(Serde(&self.documents)));
        set(
            "add_generation_prompt",
            Value::from(self.add_generation_prompt),
        );
        variables
    }
}

impl Message {
    fn to_json(&self) -> Json {
        let mut fields = Map::new();
        fields.insert("role".to_owned(), Json::String(self.role.clone()));
        let content = match &self.content {
            None => Json::Null,
            Some(Content::Text(text)) => Json::String(text.clone()),
            Some(Content::Parts(parts)) => Json::Array(parts.clone()),
        };
        fields.insert("content".to_owned(), content);
        for (name, value) in &self.extra {
            fields.entry(name.as_str()).or_insert_with(|| value.clone());
        }
        Json::Object(fields)
    }
}

fn check_nesting(value: &Json, left: usize) -> Result<(), TemplateError> {
    let too_deep = || TemplateError::LimitExceeded {
        what: "nesting of a value",
        limit_name: "nesting",
        limit: left as u64,
        given: None,
    };
    let mut level: Vec<&Json> = vec![value];
    for _ in 0..=left {
        level = level
            .into_iter()
            .flat_map(|value| match value {
                Json::Array(items) => items.iter().collect(),
                Json::Object(fields) => fields.values().collect(),
                _ => Vec::new(),
            })
            .collect();
        if level.is_empty() {
            return Ok(());
        }
    }
    Err(too_deep())
}

fn each_text(value: &Json, look: &mut impl FnMut(&str)) {
    match value {
        Json::String(text) => look(text),
        Json::Array(items) => items.iter().for_each(|item| each_text(item, look)),
        Json::Object(fields) => {
            for (name, value) in fields {
                look(name);
                each_text(value, look);
            }
        }
        _ => {}
    }
}

fn map_texts(value: &Json, change: &impl Fn(&str) -> String) -> Json {
    match value {
        Json::String(text) => Json::String(change(text)),
        Json::Array(items) => items.iter().map(|item| map_texts(item, change)).collect(),
        Json::Object(fields) => {
            let field = |(name, value): (&String, &Json)| (change(name), map_texts(value, change));
            Json::Object(fields.iter().map(field).collect())
        }
        other => other.clone(),
    }
}
