//! `tokenizer_config.json`: roles of tokens and the chat template.

use serde::Deserialize;
use serde_json::Value;

use crate::template::named_templates;
use crate::tokenizer::SpecialTokens;
use crate::tokenizer::error::{TokenizerError, excerpt};
use crate::tokenizer::vocabulary::Vocabulary;

#[derive(Default, Deserialize)]
pub(super) struct ConfigJson {
    #[serde(default)]
    bos_token: Value,
    #[serde(default)]
    eos_token: Value,
    #[serde(default)]
    pad_token: Value,
    #[serde(default)]
    unk_token: Value,
    #[serde(default)]
    add_bos_token: Option<bool>,
    #[serde(default)]
    chat_template: Value,
}

impl ConfigJson {
    pub(super) fn special_tokens(
        &self,
        vocabulary: &Vocabulary,
        post_processor: &Value,
    ) -> Result<SpecialTokens, TokenizerError> {
        let first = first_of_template(post_processor, vocabulary)?;
        let bos = role("bos_token", &self.bos_token, vocabulary)?;
        Ok(SpecialTokens {
            bos: bos.or(first),
            eos: role("eos_token", &self.eos_token, vocabulary)?
                .into_iter()
                .collect(),
            pad: optional_role("pad_token", &self.pad_token, vocabulary)?,
            unk: optional_role("unk_token", &self.unk_token, vocabulary)?,
            add_bos: self.add_bos_token.unwrap_or(first.is_some()),
        })
    }

    /// The template named `default`, or the only one.
    pub(super) fn chat_template(&self) -> Option<String> {
        named_templates(&self.chat_template)
            .into_iter()
            .next()
            .map(|(_, source)| source)
    }
}

fn role(
    field: &'static str,
    value: &Value,
    vocabulary: &Vocabulary,
) -> Result<Option<u32>, TokenizerError> {
    match text(field, value)? {
        None => Ok(None),
        Some(text) => match vocabulary.id(text) {
            Some(id) => Ok(Some(id)),
            None => Err(TokenizerError::UnknownSpecialToken {
                field,
                given: excerpt(text),
            }),
        },
    }
}

/// A role that generation can do without.
fn optional_role(
    field: &'static str,
    value: &Value,
    vocabulary: &Vocabulary,
) -> Result<Option<u32>, TokenizerError> {
    let text = text(field, value)?;
    let id = text.and_then(|text| vocabulary.id(text));
    if let (Some(text), None) = (text, id) {
        tracing::warn!("{field} = {text:?} is not a token of the vocabulary and is ignored");
    }
    Ok(id)
}

/// A token is written as its text or as an object that holds it.
fn text<'a>(field: &'static str, value: &'a Value) -> Result<Option<&'a str>, TokenizerError> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::Object(token) => token.get("content").and_then(Value::as_str),
        other => other.as_str(),
    };
    text.map(Some).ok_or_else(|| TokenizerError::WrongValue {
        field,
        given: excerpt(&value.to_string()),
        wanted: "a text, or an object with the text as content",
    })
}

/// The token that the post-processor puts before a sequence, if it is a template that does so.
fn first_of_template(
    post_processor: &Value,
    vocabulary: &Vocabulary,
) -> Result<Option<u32>, TokenizerError> {
    const FIELD: &str = "post_processor";
    let is_template = |part: &&Value| part["type"] == "TemplateProcessing";
    let parts = post_processor["processors"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let template = parts.iter().chain([post_processor]).find(is_template);
    let first = template.map_or(&Value::Null, |template| {
        &template["single"][0]["SpecialToken"]["id"]
    });
    role(FIELD, first, vocabulary)
}
