//! Sampling methods by name.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the next token is chosen.
///
/// A method activates only its own truncation; others act when their parameter is given explicitly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Method {
    /// The most likely token.
    Greedy,
    /// Draw among the `top_k` most likely tokens (50 unless given). The default.
    #[default]
    TopK,
    /// Draw among the smallest set of tokens with mass `top_p` (0.9 unless given).
    TopP,
    /// Draw among tokens at least `min_p` times as likely as the best (0.05 unless given).
    MinP,
    /// Locally typical sampling with mass `typical_p` (0.95 unless given).
    Typical,
}

/// The methods that are built, by name.
const BUILT: [(&str, Method); 5] = [
    ("greedy", Method::Greedy),
    ("top-k", Method::TopK),
    ("top-p", Method::TopP),
    ("min-p", Method::MinP),
    ("typical", Method::Typical),
];

/// Names of methods that exist but are not built yet.
const PLANNED: [&str; 7] = [
    "ads",
    "adaptive-determinantal-sampling",
    "guided-generation",
    "constrained-beam-search",
    "speculative-decoding",
    "ssd",
    "ensemble-sampling",
];

impl Method {
    /// The names of all methods that can be chosen.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT.iter().map(|(name, _)| *name)
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let name = text.replace('_', "-");
        if let Some((_, method)) = BUILT.iter().find(|(known, _)| *known == name) {
            return Ok(*method);
        }
        if PLANNED.contains(&name.as_str()) {
            let what = format!("sampling method {name}");
            return Err(Error::unsupported(what, "it is not built yet"));
        }
        let known: Vec<&str> = Method::names().collect();
        Err(Error::request(
            "sampling_method",
            text,
            format!("one of {}", known.join(", ")),
        ))
    }
}

impl TryFrom<String> for Method {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> String {
        method.to_string()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = BUILT
            .iter()
            .find(|(_, method)| method == self)
            .map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_others_are_refused_by_name() {
        for name in Method::names() {
            assert_eq!(
                name.parse::<Method>()
                    .map(|m| m.to_string())
                    .ok()
                    .as_deref(),
                Some(name)
            );
        }
        assert_eq!("top_p".parse::<Method>().ok(), Some(Method::TopP));
        for (name, expected) in [
            (
                "ssd",
                "sampling method ssd is not supported: it is not built yet",
            ),
            (
                "best",
                "sampling_method is best, wanted one of greedy, top-k, top-p, min-p, typical",
            ),
        ] {
            let message = name.parse::<Method>().err().map(|error| error.to_string());
            assert_eq!(message.as_deref(), Some(expected));
        }
    }
}
