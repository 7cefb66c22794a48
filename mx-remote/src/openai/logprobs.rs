//! Log-probabilities, in whichever form a server gives them.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

const TOKEN_ID_PREFIX: &str = "token_id:";

/// Log-probabilities of a text's tokens. Chats give them as a list of objects, completions as parallel lists, and some
/// servers the one where the other is due; both are read.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Logprobs {
    /// Token by token.
    pub tokens: Vec<TokenLogprob>,
}

/// One token of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token as text. A token that is part of a character is shown by a stand-in; see `bytes`.
    pub token: String,
    /// Its id, where the server gives it.
    pub id: Option<u32>,
    /// Its bytes, where the server gives them.
    pub bytes: Option<Vec<u8>>,
    /// Its log-probability; none for a token that was not predicted, such as the first of a prompt.
    pub logprob: Option<f64>,
    /// The best tokens at its place.
    pub top: Vec<TokenLogprob>,
}

impl<'de> Deserialize<'de> for Logprobs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Map::<String, Value>::deserialize(deserializer)?;
        read(&object).map_err(serde::de::Error::custom)
    }
}

fn read(object: &Map<String, Value>) -> Result<Logprobs, String> {
    if let Some(content) = object.get("content") {
        let Some(entries) = list(content, "content")? else {
            return Ok(Logprobs::default());
        };
        let tokens = entries.iter().map(entry).collect::<Result<_, _>>()?;
        return Ok(Logprobs { tokens });
    }
    parallel(object)
}

/// An element of the list form. llama-server names its alternatives by `top_logprobs`, older ones by `top_probs`.
fn entry(value: &Value) -> Result<TokenLogprob, String> {
    let Some(object) = value.as_object() else {
        return Err(format!(
            "a log-probability is {}, wanted an object",
            kind(value)
        ));
    };
    let Some(token) = object.get("token").and_then(Value::as_str) else {
        return Err("a log-probability without its token".into());
    };
    let top = match object.get("top_logprobs") {
        Some(top) => list(top, "top_logprobs")?.unwrap_or_default(),
        None => &[],
    };
    Ok(TokenLogprob {
        id: object
            .get("id")
            .and_then(Value::as_u64)
            .and_then(|id| id.try_into().ok())
            .or_else(|| id_of(token)),
        token: token.to_owned(),
        bytes: object.get("bytes").and_then(bytes),
        logprob: object.get("logprob").and_then(Value::as_f64),
        top: top.iter().map(alternative).collect::<Result<_, _>>()?,
    })
}

/// An alternative has no alternatives of its own; whatever depth a server makes up, one level is read.
fn alternative(value: &Value) -> Result<TokenLogprob, String> {
    match value.as_object() {
        Some(object) if object.contains_key("top_logprobs") => {
            let mut object = object.clone();
            object.remove("top_logprobs");
            entry(&Value::Object(object))
        }
        _ => entry(value),
    }
}

fn parallel(object: &Map<String, Value>) -> Result<Logprobs, String> {
    let of = |name| object.get(name).map_or(Ok(None), |value| list(value, name));
    let Some(tokens) = of("tokens")? else {
        return Ok(Logprobs::default());
    };
    let logprobs = of("token_logprobs")?.unwrap_or_default();
    let tops = of("top_logprobs")?.unwrap_or_default();
    if (!logprobs.is_empty() && logprobs.len() != tokens.len())
        || (!tops.is_empty() && tops.len() != tokens.len())
    {
        let (a, b, c) = (tokens.len(), logprobs.len(), tops.len());
        return Err(format!(
            "{a} tokens with {b} log-probabilities and {c} lists of the best"
        ));
    }
    let mut all = Vec::with_capacity(tokens.len());
    for (index, token) in tokens.iter().enumerate() {
        let Some(token) = token.as_str() else {
            return Err(format!("a token is {}, wanted a text", kind(token)));
        };
        let top = tops.get(index).and_then(Value::as_object);
        let top = top
            .into_iter()
            .flatten()
            .map(|(token, logprob)| plain(token, logprob.as_f64()));
        all.push(TokenLogprob {
            top: top.collect(),
            ..plain(token, logprobs.get(index).and_then(Value::as_f64))
        });
    }
    Ok(Logprobs { tokens: all })
}

fn plain(token: &str, logprob: Option<f64>) -> TokenLogprob {
    TokenLogprob {
        token: token.to_owned(),
        id: id_of(token),
        bytes: None,
        logprob,
        top: Vec::new(),
    }
}

fn list<'a>(value: &'a Value, name: &str) -> Result<Option<&'a [Value]>, String> {
    match value {
        Value::Array(list) => Ok(Some(list)),
        Value::Null => Ok(None),
        other => Err(format!("{name} is {}, wanted a list", kind(other))),
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    let list = value.as_array()?;
    list.iter()
        .map(|b| b.as_u64().and_then(|b| b.try_into().ok()))
        .collect()
}

/// vLLM can give tokens as `token_id:123`.
fn id_of(token: &str) -> Option<u32> {
    token.strip_prefix(TOKEN_ID_PREFIX)?.parse().ok()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Logprobs, String> {
        serde_json::from_str(text).map_err(|e: serde_json::Error| e.to_string())
    }

    #[test]
    fn both_forms_are_the_same() {
        let list = read(
            r#"{"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "id": 7,
                "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": null}, {"token": "b", "logprob": -1}]}]}"#,
        )
        .unwrap();
        let parallel = read(
            r#"{"tokens": ["a"], "token_logprobs": [-0.5], "text_offset": [0], "top_logprobs": [{"a": -0.5, "b": -1}]}"#,
        )
        .unwrap();
        let token = &list.tokens[0];
        assert_eq!(
            (token.id, token.bytes.as_deref()),
            (Some(7), Some(&b"a"[..]))
        );
        let values = |l: &Logprobs| {
            let pair = |t: &TokenLogprob| (t.token.clone(), t.logprob);
            l.tokens
                .iter()
                .map(|t| (pair(t), t.top.iter().map(pair).collect::<Vec<_>>()))
                .collect::<Vec<_>>()
        };
        assert_eq!(values(&list), values(&parallel));
    }

    #[test]
    fn gaps_are_gaps_and_nonsense_is_an_error() {
        assert_eq!(read("{}").unwrap(), Logprobs::default());
        assert_eq!(read(r#"{"content": null}"#).unwrap(), Logprobs::default());
        let echo = read(r#"{"tokens": ["a", "token_id:9"], "token_logprobs": [null, -1.5], "top_logprobs": null}"#).unwrap();
        assert_eq!(
            (
                echo.tokens[0].logprob,
                echo.tokens[1].logprob,
                echo.tokens[1].id
            ),
            (None, Some(-1.5), Some(9))
        );
        for bad in [
            "[]",
            "7",
            r#"{"content": 7}"#,
            r#"{"content": [7]}"#,
            r#"{"content": [{"logprob": 1}]}"#,
            r#"{"tokens": "a"}"#,
            r#"{"tokens": ["a"], "token_logprobs": [1, 2]}"#,
            r#"{"tokens": [7]}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
