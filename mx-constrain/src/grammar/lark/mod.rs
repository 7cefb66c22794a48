//! Lark.

mod ast;
mod common;
mod parser;
mod resolve;
mod terminal;

use crate::{ConstrainError, Limits};

use super::ir::Grammar;

/// Reads a grammar.
pub(super) fn parse(text: &str, limits: &Limits) -> Result<Grammar, ConstrainError> {
    let (file, cursor) = parser::parse(text, limits)?;
    resolve::resolve(file, &cursor, limits)
}
