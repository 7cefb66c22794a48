//! Constraints as plain data, for requests and files.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{GrammarSyntax, RegexMode, RegexSyntax, SchemaOptions};

/// A constraint as plain data: what a request carries and [`Constraint::compile`](crate::Constraint::compile) reads.
///
/// In JSON the kind is the only key:
///
/// ```
/// use mx_constrain::ConstraintSpec;
///
/// let spec: ConstraintSpec = serde_json::from_str(r#"{"regex": {"pattern": "[0-9]{3}-[0-9]{4}"}}"#)?;
/// assert_eq!(spec, ConstraintSpec::regex("[0-9]{3}-[0-9]{4}"));
/// let spec: ConstraintSpec = serde_json::from_str(r#"{"json_schema": {"schema": {"type": "integer"}}}"#)?;
/// assert!(matches!(spec, ConstraintSpec::JsonSchema { .. }));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ConstraintSpec {
    /// JSON text whose value satisfies a schema.
    JsonSchema {
        /// The schema: an object or a boolean.
        schema: Value,
        /// How it is read.
        #[serde(default)]
        options: SchemaOptions,
    },
    /// Text that matches a regular expression.
    Regex {
        /// The pattern.
        pattern: String,
        /// Its syntax.
        #[serde(default)]
        syntax: RegexSyntax,
        /// Whether the whole text must match or some part of it.
        #[serde(default)]
        mode: RegexMode,
    },
    /// Text that a grammar derives.
    Grammar {
        /// Its notation.
        syntax: GrammarSyntax,
        /// The grammar.
        text: String,
    },
    /// One of some texts.
    Choice {
        /// The texts.
        choices: Vec<String>,
    },
    /// Any JSON object.
    JsonObject {
        /// How blanks and numbers are written.
        #[serde(default)]
        options: SchemaOptions,
    },
}

impl ConstraintSpec {
    /// JSON text whose value satisfies a schema, with default options.
    #[must_use]
    pub fn json_schema(schema: Value) -> Self {
        Self::JsonSchema {
            schema,
            options: SchemaOptions::default(),
        }
    }

    /// Text that matches a pattern (ECMA-262) as a whole.
    #[must_use]
    pub fn regex(pattern: impl Into<String>) -> Self {
        Self::Regex {
            pattern: pattern.into(),
            syntax: RegexSyntax::default(),
            mode: RegexMode::default(),
        }
    }

    /// Text that a grammar derives.
    #[must_use]
    pub fn grammar(syntax: GrammarSyntax, text: impl Into<String>) -> Self {
        Self::Grammar {
            syntax,
            text: text.into(),
        }
    }

    /// One of some texts.
    #[must_use]
    pub fn choices<S: Into<String>>(choices: impl IntoIterator<Item = S>) -> Self {
        Self::Choice {
            choices: choices.into_iter().map(Into::into).collect(),
        }
    }

    /// Any JSON object.
    #[must_use]
    pub fn json_object() -> Self {
        Self::JsonObject {
            options: SchemaOptions::default(),
        }
    }
}
