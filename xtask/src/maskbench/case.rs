//! Schemas with instances, and the file they come in: one JSON object a line.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// A schema with instances that it must accept or refuse.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    /// Name, unique in its file.
    pub id: String,
    /// The set it belongs to.
    pub dataset: String,
    /// Keywords that the schema uses.
    #[serde(default)]
    pub features: Vec<String>,
    /// The schema, with its keys in the order of the file.
    pub schema: Value,
    /// The instances.
    pub tests: Vec<Instance>,
    /// What the caller decides for this schema.
    #[serde(default)]
    pub rules: Rules,
}

/// An instance and whether it is valid.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instance {
    /// Whether the schema accepts it.
    pub valid: bool,
    /// The JSON text.
    pub text: String,
    /// Why a validator refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What a schema leaves to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rules {
    /// The draft of schemas that name none; `None` leaves it to the engine.
    #[serde(default)]
    pub draft: Option<Draft>,
    /// What `format` does.
    #[serde(default)]
    pub formats: Formats,
}

/// A version of JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Draft {
    /// Draft 4.
    #[serde(rename = "draft4")]
    D4,
    /// Draft 6.
    #[serde(rename = "draft6")]
    D6,
    /// Draft 7.
    #[serde(rename = "draft7")]
    D7,
    /// Draft 2019-09.
    #[serde(rename = "draft2019-09")]
    D201909,
    /// Draft 2020-12.
    #[serde(rename = "draft2020-12")]
    D202012,
}

/// What the keyword `format` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Formats {
    /// Known formats are asserted.
    #[default]
    Assert,
    /// Formats say nothing about validity.
    Annotate,
}

/// Reads the cases of a file, the first `limit` of them.
///
/// # Errors
/// For a file that cannot be read, and for a line that is not a case; the error names the line.
pub fn read(path: &Path, limit: Option<usize>) -> anyhow::Result<Vec<Case>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .take(limit.unwrap_or(usize::MAX))
        .map(|(number, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}: line {}", path.display(), number + 1))
        })
        .collect()
}
