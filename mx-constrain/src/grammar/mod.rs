//! Context-free grammars as machines over bytes: GBNF, Lark and plain EBNF.
//!
//! ```text
//! text ── gbnf, lark, ebnf ──► rules ── draft ──► automata with calls ── rtn ──► no empty edges, no left recursion
//!                                                                                          │
//!        Machine ◄── recogniser ◄── sets of (state, return stacks), cut into frames ◄── automaton
//! ```
//!
//! # Which language is accepted
//! Exactly the texts that the start rule derives, as valid UTF-8. Ambiguity, left recursion (also hidden and indirect),
//! right recursion, rules that derive nothing and loops over nothing are all fine: only *whether* there is a derivation
//! counts, so that aliases, priorities and tree shaping have no effect. Rules and alternatives that derive no text, or
//! none that the vocabulary's bytes can write, are left out beforehand: from every state the text can be completed.
//! A start rule that derives nothing is an error.
//!
//! # Dialects
//! Each notation has its page, which lists what is taken, what is refused, and where it differs from its origin:
//! GBNF (llama.cpp) in `gbnf`, Lark in `lark`, the two EBNF standards in `ebnf`. In short:
//!
//! | | start rule | terminals | beyond the origin | refused |
//! |---|---|---|---|---|
//! | GBNF | `root` | none: characters | left recursion, `_` in names, `{,n}` | token references, a rule defined twice |
//! | Lark | `start` | longest match, between them what is ignored | `{m,n}`, `&`, `~`, `[lazy]`, `%json`, `%regex` | look-around, imports of files, token references |
//! | EBNF | `root`, `start`, or the first | none: characters | `?`, `*`, `+`, `{m,n}` in ISO notation | special sequences, differences of what is not regular |
//!
//! # How it recognises
//! A rule is an automaton over bytes whose edges may call rules. Left recursion is taken out beforehand: where a rule
//! ends, an edge leads behind each call by which it could have begun ([`rtn`]). A call behind which nothing follows
//! keeps no return, and a return to a loop from within the same loop is kept once, so lists of any length need no
//! stack however they are written.
//!
//! The machine follows all derivations at once. A state is the set of places in the automata, each with the set of its
//! return stacks, shared and hash-consed ([`stacks`]); equal sets are one number, and a byte is one look-up in a table
//! that is filled while text is read. Where all stacks end alike, the state is cut in two frames ([`recogniser`]): what
//! is inside a pair of parentheses is the same state wherever the pair stands, so that token masks are computed once.
//!
//! # Costs and limits
//! Compiling is linear in the grammar, with counted repetitions written out (`max_nodes`, `max_compile_steps`); left
//! recursion through k rules may copy them k times. A byte that was read in a state before costs a table look-up; a new
//! one costs time in the number of alternatives and returns (`max_alternatives`). Grammars that need a stack which is
//! not cut (the dangling else) pay for its depth with every new byte. Everything that grows is counted
//! (`max_states`, `max_table_bytes`), and a limit is an error that names it, never a wrong answer.

mod automaton;
mod draft;
mod ebnf;
mod explain;
mod foreign;
mod gbnf;
#[cfg(test)]
mod grammar_tests;
mod ir;
mod lark;
mod left_recursion;
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

use crate::{ByteSet, ConstrainError, Exactness, Limits, Restriction, machine::Machine, schema};

/// Notation of a grammar.
///
/// ```
/// use mx_constrain::{Constraint, GrammarSyntax, Vocabulary};
///
/// let tokens = ["(", ")", "1", "+", "x", "1+", "))"];
/// let vocabulary = Vocabulary::new(tokens.map(Some), &[])?;
/// let sums = "root ::= sum\nsum ::= sum \"+\" part | part\npart ::= \"1\" | \"(\" sum \")\"";
/// let mut matcher = Constraint::grammar(&vocabulary, GrammarSyntax::Gbnf, sums)?.matcher()?;
/// matcher.commit_bytes(b"(1+(1")?;
/// let allowed: Vec<&str> = matcher.mask()?.iter().map(|token| tokens[token as usize]).collect();
/// assert_eq!(allowed, [")", "+", "))"]);
/// # Ok::<(), mx_constrain::ConstrainError>(())
/// ```
///
/// In every notation the accepted texts are exactly those that the start rule derives. Left recursion, ambiguity and
/// loops over nothing are fine. What cannot be read is a [`ConstrainError::Grammar`] with line, column and excerpt; a
/// start rule that derives nothing is [`ConstrainError::Unsatisfiable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GrammarSyntax {
    /// GBNF, the notation of llama.cpp, with the start rule `root`.
    ///
    /// Literals and classes with `\n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH`, `.`, groups, `|`, `? * + {m} {m,} {m,n}`,
    /// comments from `#` on. Beyond llama.cpp: left recursion, `_` in names, `{,n}`, alternatives that go on in the next
    /// line. Refused: token references, a rule defined twice.
    Gbnf,
    /// Lark's notation, with the start rule `start`.
    ///
    /// Rules and terminals, templates, `? * + ~n ~n..m`, ranges `"a".."z"`, strings and regular expressions with the
    /// flags `i m s u x`, `%ignore`, `%import common.…`, `%override`, `%extend`. Each terminal takes the longest match
    /// that the text offers, as with Lark's Earley parser and dynamic lexer: `NAME NAME` does not accept `ab`. Ignored
    /// text may stand before every terminal and at the end. Aliases and priorities shape trees, not texts, and have no
    /// effect.
    ///
    /// Of llguidance's additions: `{m,n}`, `&` and `~` in terminals, `[lazy]` and `[suffix="…"]` (the shortest match,
    /// which wins over everything else the text could be), `%json {…}`, `%regex {"substring_words": "…"}`. Refused:
    /// look-around, other imports, token references, `stop`, `max_tokens`, `temperature`.
    Lark,
    /// Plain EBNF; the start rule is `root`, else `start`, else the first.
    ///
    /// With `::=` the notation of the W3C: `'a' "b" #x41 [a-z#x30-#x39] [^<]`, `? * +`, differences `a - b` of regular
    /// expressions, comments `/* … */`. With `=` that of ISO 14977: `[optional]`, `{repeated}`, `3 * x`, `a - b`, `,` and
    /// `;`, comments `(* … *)`; special sequences are refused.
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
    let (machine, exactness) = compile(&grammar, alphabet, limits)?;
    Ok((Box::new(machine), exactness))
}

fn compile(
    grammar: &ir::Grammar,
    alphabet: &ByteSet,
    limits: &Limits,
) -> Result<(recogniser::Recogniser, Exactness), ConstrainError> {
    let mut context = ir::Context::new(alphabet, limits);
    let mut exactness = Exactness::default();
    let mut machines = Vec::with_capacity(grammar.schemas.len());
    for value in &grammar.schemas {
        let (machine, restricted) =
            schema::machine(value, &schema::SchemaOptions::default(), alphabet, limits)?;
        exactness.restrictions.extend(restricted.restrictions);
        machines.push(machine);
    }
    let draft = draft::draft(grammar, &mut context)?;
    let rtn = rtn::build(draft, &mut context)?;
    for &rule in &rtn.barren {
        exactness.restrictions.push(Restriction::new(
            grammar.rules[rule as usize].name.as_str(),
            "",
            "derives no text that the vocabulary can write; what needs it is left out",
        ));
    }
    let automaton = automaton::build(&rtn, foreign::Foreign::new(machines), &mut context)?;
    if !automaton.nullable && automaton.ends(automaton.start).is_empty() {
        return Err(ConstrainError::Unsatisfiable {
            place: grammar.rules[grammar.start].name.clone(),
            reason: "the start rule derives no text that the vocabulary can write".to_owned(),
        });
    }
    let machine = recogniser::Recogniser::new(automaton, alphabet, limits)?;
    Ok((machine, exactness))
}
