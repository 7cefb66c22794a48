//! Choices that a JSON Schema leaves to its reader.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Choices that a JSON Schema leaves to its reader.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchemaOptions {
    /// Draft to read by where the schema names none in `$schema`. Without one, 2020-12 is read, and keywords of
    /// older drafts that it dropped (`dependencies`, `items` as an array, boolean `exclusiveMinimum`) beside it.
    pub draft: Option<Draft>,
    /// Order of properties in objects. `Declared` leaves fewer choices and so more text that needs no model, but
    /// refuses valid objects in another order.
    pub property_order: PropertyOrder,
    /// Blanks between the parts of the text. A weak model may write blanks for ever where they are not bounded.
    pub whitespace: Whitespace,
    /// What `format` does. By the standard it is an annotation from draft 2019-09 on; most users mean an assertion.
    pub formats: Formats,
    /// Which spellings of a value are produced. All of them mean the same value to a reader of JSON.
    pub lexical: Lexical,
    /// Documents that `$ref` may name, by URI. Nothing is ever fetched; the metaschemas of all drafts are built in.
    pub documents: BTreeMap<String, Value>,
}

/// A draft of JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Draft {
    /// Draft 4.
    #[serde(rename = "draft-04")]
    Draft4,
    /// Draft 6.
    #[serde(rename = "draft-06")]
    Draft6,
    /// Draft 7.
    #[serde(rename = "draft-07")]
    Draft7,
    /// Draft 2019-09.
    #[serde(rename = "2019-09")]
    Draft201909,
    /// Draft 2020-12.
    #[serde(rename = "2020-12")]
    Draft202012,
}

/// Order of properties in objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PropertyOrder {
    /// Any order, as JSON has it.
    #[default]
    Any,
    /// Declared properties in the order of the schema, others after them.
    Declared,
}

/// Blanks between the parts of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Whitespace {
    /// None.
    Compact,
    /// One space after `,` and `:`, as Python's `json.dumps` writes.
    PythonLike,
    /// As many as one likes.
    Flexible,
    /// At most so many in one place, and none around the document.
    Bounded(u32),
}

impl Default for Whitespace {
    fn default() -> Self {
        Self::Bounded(16)
    }
}

/// What `format` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Formats {
    /// Known formats are asserted, unknown ones ignored.
    #[default]
    Assert,
    /// All are ignored.
    Annotate,
    /// Known formats are asserted, unknown ones refused at compile time.
    Strict,
}

/// Which spellings of a value are produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Lexical {
    /// Integers as digits, bounded numbers without exponent, and no needless escapes in property names and in
    /// strings that the schema lists.
    #[default]
    Canonical,
    /// Every spelling: `1.0` for an integer (from draft 6 on), exponents (on bounded numbers up to 20 characters),
    /// `\u0061` for `a` anywhere.
    Full,
}
