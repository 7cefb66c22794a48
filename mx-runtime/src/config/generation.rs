//! `generation_config.json`: the sampling settings that a model's authors recommend.

use super::ConfigError;
use serde::{Deserialize, Serialize};

/// What a model's own files say about sampling. Everything is optional; unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationDefaults {
    /// Softmax temperature.
    pub temperature: Option<f32>,
    /// Keep the `top_k` most likely tokens.
    pub top_k: Option<i64>,
    /// Keep the smallest set of tokens with this mass.
    pub top_p: Option<f32>,
    /// Keep tokens at least this fraction as likely as the best.
    pub min_p: Option<f32>,
    /// Divisor on the logits of tokens that occurred before.
    pub repetition_penalty: Option<f32>,
    /// Tokens that end a generation.
    pub eos_token_id: Tokens,
    /// First token of a sequence.
    pub bos_token_id: Option<u32>,
}

/// One token id or a list of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tokens {
    /// A single id.
    One(u32),
    /// Several.
    Many(Vec<u32>),
}

impl Default for Tokens {
    fn default() -> Self {
        Tokens::Many(Vec::new())
    }
}

impl Tokens {
    /// The ids.
    pub fn ids(&self) -> &[u32] {
        match self {
            Tokens::One(id) => std::slice::from_ref(id),
            Tokens::Many(ids) => ids,
        }
    }
}

impl GenerationDefaults {
    /// Reads a `generation_config.json`. `file` names it in errors.
    ///
    /// # Errors
    /// [`ConfigError::Json`] when the text is no JSON object or a field has the wrong type.
    pub fn from_json(text: &str, file: &str) -> Result<Self, ConfigError> {
        // null stands for "not given" in files of older versions, also where serde wants a list
        let reason = |e: serde_json::Error| ConfigError::Json {
            file: file.to_owned(),
            reason: e.to_string(),
        };
        let mut map: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).map_err(reason)?;
        map.retain(|_, value| !value.is_null());
        serde_json::from_value(serde_json::Value::Object(map)).map_err(reason)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_ids_in_both_forms_and_skips_nulls() {
        let read = |text: &str| GenerationDefaults::from_json(text, "g").unwrap();
        assert_eq!(
            read(r#"{"eos_token_id":[1,2],"top_k":null}"#)
                .eos_token_id
                .ids(),
            [1, 2]
        );
        assert_eq!(
            read(r#"{"eos_token_id":7,"temperature":0.6}"#)
                .eos_token_id
                .ids(),
            [7]
        );
        assert!(GenerationDefaults::from_json("[]", "g").is_err());
    }
}
