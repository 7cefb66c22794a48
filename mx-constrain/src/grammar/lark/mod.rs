//! Lark, the notation of the Python parsing library, with the additions of llguidance that describe text.
//!
//! ```text
//! start: (assign ";")+                  // the start rule is called start
//! assign: NAME "=" _sum                 // lower case: a rule; upper case: a terminal
//! _sum: sep{product, "+"}               // templates
//! sep{item, by}: item (by item)*
//! product.2: NUMBER ("*" NUMBER)~0..3 -> times
//! NAME.3: /[a-z]+/i                     // regular expressions with the flags i m s u x
//! %import common.NUMBER
//! %ignore /[ \t]+/                      // may stand before every terminal and at the end
//! ```
//!
//! # Which texts are accepted
//! A text is accepted when it can be cut into terminals, with ignored ones between them, such that the start rule
//! derives the sequence. Terminals that the rules do not allow at a place are not looked for there. **Each terminal
//! takes the longest match** that the text offers from where the terminal begins: `NAME NAME` does not accept `ab`,
//! and `/[0-9]+/ /[0-9]/` accepts nothing. This is Lark's default (the Earley parser with the dynamic lexer). A regular
//! expression with lazy quantifiers takes the match that Python would prefer. Where the longest match cannot be decided
//! yet, the text goes on and the longer match is held against it later.
//!
//! Single strings and characters have one match only, so `"a"*` in a rule is free. A terminal that also matches nothing
//! (Lark refuses it) may be left out. Terminals are looked for one by one: with `"if"` and `/[a-z]+/` both allowed,
//! `ifx` may be the word as well as the keyword and `x`; separate them by the grammar where that matters.
//!
//! # Differences
//! - *From Lark* (10 000 random cases were compared, one differed, for the first reason): of alternatives inside a
//!   regular expression the longest match counts, not the first that fits (`/ab|abc/` can be `abc`). Aliases, priorities, `?`, `!` and `_` do not change the language and have no effect. Regular expressions
//!   are those of the `regex` crate: no look-around, no back-references. Only `common` can be imported. `%declare` is
//!   read, but using a declared terminal is an error, for it has no pattern. Statements may go on over lines wherever no
//!   new statement begins.
//! - *From llguidance:* terminals are matched one by one and a longest match may be found late (its lexer runs all
//!   terminals together and never goes back); ignored text may stand at the very beginning; templates, `%override`,
//!   `%extend` and lazy quantifiers are supported. `[lazy]`, `[suffix=…]`, `[capture]`, `{m,n}`, `&`, `~`, `%json {…}` and
//!   `%regex {"substring_…": …}` mean what they mean there: a lazy terminal wins over everything else the text could be
//!   as soon as it matches. Refused: `stop`, `max_tokens`, `temperature`, token references (`<…>`), `@name`, parametric
//!   rules, settings other than `no_forcing` and `allow_initial_skip: true`.
//! - `%json` takes the default options of this crate. `&` and `~` (over valid UTF-8) can stand alone or in alternatives
//!   of a terminal, not inside sequences or repetitions.

mod ast;
mod common;
mod expression;
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
