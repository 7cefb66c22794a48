//! The fields of a request that constrain its output.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the output must look like; at most one of these is given. In JSON they stand beside the other fields of a
/// [`GenerateRequest`](super::GenerateRequest).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Constraints {
    /// A JSON Schema that the output, a JSON text, validates against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
    /// `true`: the output is a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_mode: Option<bool>,
    /// An ECMA-262 regular expression that the whole output matches.
    #[serde(skip_serializing_if = "Option::is_none", alias = "regex")]
    pub regex_pattern: Option<String>,
    /// A grammar whose language the output belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grammar: Option<String>,
    /// The notation of `grammar`; GBNF unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grammar_syntax: Option<GrammarSyntax>,
    /// Texts of which the output is one.
    #[serde(skip_serializing_if = "Vec::is_empty", alias = "choice")]
    pub choices: Vec<String>,
}

/// The notation of a grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GrammarSyntax {
    /// llama.cpp's notation; the rule `root` is the start.
    #[default]
    Gbnf,
    /// Lark's notation; the rule `start` is the start.
    Lark,
    /// EBNF; the first rule is the start.
    Ebnf,
}

impl Constraints {
    /// The names of the constraints given.
    pub fn names(&self) -> Vec<&'static str> {
        [
            ("json_schema", self.json_schema.is_some()),
            (
                "json_mode",
                self.json_mode == Some(true) && self.json_schema.is_none(),
            ),
            ("regex_pattern", self.regex_pattern.is_some()),
            ("grammar", self.grammar.is_some()),
            ("choices", !self.choices.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }

    /// Refuses more than one constraint, and a syntax without a grammar.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let [first, second, ..] = self.names()[..] {
            let wanted = format!("absent beside {first}: one constraint a request");
            return Err(Error::request(second, "given", wanted));
        }
        if self.grammar_syntax.is_some() && self.grammar.is_none() {
            return Err(Error::request(
                "grammar_syntax",
                "given",
                "a grammar beside it",
            ));
        }
        Ok(())
    }
}
