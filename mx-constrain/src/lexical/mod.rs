//! Regular languages over bytes: patterns as deterministic automata that are built while text visits them.

mod classes;
mod dfa;
mod ecma;
mod nfa;
mod node;
mod reach;
mod subset;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
pub(crate) mod utf8;

pub(crate) use classes::{Characters, Chars, Groups, claim};
pub(crate) use dfa::{DEAD, Dfa};

use serde::{Deserialize, Serialize};

/// Syntax of a regular expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RegexSyntax {
    /// ECMA-262 with the `u` flag: what JSON Schema's `pattern` means. `\d` and `\w` are ASCII, `\s` is Unicode.
    #[default]
    Ecma262,
    /// The syntax of Rust's `regex` crate.
    Rust,
}

/// Which part of the text a regular expression must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RegexMode {
    /// The whole text.
    #[default]
    Full,
    /// Some part of it, as JSON Schema's `pattern` means.
    Search,
}
