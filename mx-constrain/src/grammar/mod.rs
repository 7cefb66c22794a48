//! Context-free grammars as machines over bytes.

mod automaton;
mod draft;
mod ebnf;
mod explain;
mod gbnf;
#[cfg(test)]
mod grammar_tests;
mod ir;
mod lark;
mod lexeme;
mod names;
#[cfg(test)]
mod oracle;
mod plain;
#[cfg(test)]
mod property_tests;
mod recogniser;
mod rtn;
mod settle;
mod source;
mod stacks;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::{ByteSet, ConstrainError, Exactness, Limits, machine::Machine};

/// Notation of a grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GrammarSyntax {
    /// The dialect of llama.cpp, with the start rule `root`.
    Gbnf,
    /// Lark's notation, with the start rule `start`.
    Lark,
    /// Plain EBNF.
    Ebnf,
}

/// Compiles a grammar for an alphabet.
///
/// # Errors
/// What the grammar says wrongly; a limit.
pub(crate) fn machine(
    syntax: GrammarSyntax,
    text: &str,
    alphabet: &ByteSet,
    limits: &Limits,
) -> Result<(Box<dyn Machine>, Exactness), ConstrainError> {
    let grammar = match syntax {
        GrammarSyntax::Gbnf => gbnf::parse(text, limits)?,
        GrammarSyntax::Lark => lark::parse(text, limits)?,
        GrammarSyntax::Ebnf => ebnf::parse(text, limits)?,
    };
    let machine = compile(&grammar, alphabet, limits)?;
    Ok((Box::new(machine), Exactness::default()))
}

fn compile(
    grammar: &ir::Grammar,
    alphabet: &ByteSet,
    limits: &Limits,
) -> Result<recogniser::Recogniser, ConstrainError> {
    let mut context = ir::Context::new(alphabet, limits);
    let draft = draft::draft(grammar, &mut context)?;
    let rtn = rtn::build(draft, &mut context)?;
    let automaton = automaton::build(&rtn, &mut context)?;
    if !automaton.nullable && automaton.states[automaton.start as usize].ends.is_empty() {
        return Err(ConstrainError::Unsatisfiable {
            place: grammar.rules[grammar.start].name.clone(),
            reason: "the start rule derives no text that the vocabulary can write".to_owned(),
        });
    }
    recogniser::Recogniser::new(automaton, alphabet, limits)
}
