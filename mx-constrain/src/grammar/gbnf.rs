//! GBNF, the notation of llama.cpp.
//!
//! ```text
//! root  ::= (expr "=" ws num "\n")+      # the start rule is called root
//! expr  ::= num ([-+*/] num){0,3}        # classes, ? * + {m} {m,} {m,n} {,n}
//! num   ::= [0-9]+ ws
//! ws    ::= | [ \t]*                     # an alternative may be empty
//! ```
//!
//! Literals and classes know the escapes `\n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH` (and `\- \^ \'`); `\xHH` is a
//! code point, as in llama.cpp. `.` is any character. Names consist of ASCII letters, digits, `-` and `_`.
//!
//! Accepted beyond llama.cpp: left recursion, `_` in names, `{,n}`, and alternatives that go on in the next line
//! without a parenthesis (a line that begins with `name ::=` begins a rule). Refused: token references (`<[7]>`,
//! `<think>`, `!<…>`), because a grammar here speaks about bytes; a rule that is defined twice (llama.cpp silently
//! takes the last one).

use crate::{ConstrainError, Limits};

use super::{
    ir::{Body, Expr, Grammar},
    names::{Names, repeat_last},
    source::Cursor,
};

/// Reads a grammar.
pub(super) fn parse(text: &str, limits: &Limits) -> Result<Grammar, ConstrainError> {
    let mut parser = Parser {
        cursor: Cursor::new(text, limits)?,
        names: Names::default(),
    };
    parser.blank();
    while !parser.cursor.is_end() {
        parser.rule()?;
    }
    match parser.names.start(&["root"]) {
        Some(start) => parser.names.finish(&parser.cursor, start),
        None => Err(parser
            .cursor
            .error_at(0, "the start rule `root` is not defined")),
    }
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    names: Names,
}

impl Parser<'_> {
    /// Skips blanks, line ends and comments.
    fn blank(&mut self) {
        loop {
            self.cursor
                .eat_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{feff}'));
            if !self.cursor.sees("#") {
                return;
            }
            self.cursor.eat_while(|c| c != '\n' && c != '\r');
        }
    }

    fn name(&mut self) -> Option<(&str, usize)> {
        let at = self.cursor.at();
        let name = self.cursor.eat_while(is_name);
        (!name.is_empty()).then_some((name, at))
    }

    /// Whether a definition begins here.
    fn sees_rule(&self) -> bool {
        let after = self.cursor.rest().trim_start_matches(is_name);
        after.len() < self.cursor.rest().len()
            && after.trim_start_matches([' ', '\t']).starts_with("::=")
    }

    fn rule(&mut self) -> Result<(), ConstrainError> {
        let Some((name, at)) = self.name().map(|(name, at)| (name.to_owned(), at)) else {
            return Err(self.cursor.expected("the name of a rule"));
        };
        self.blank();
        if !self.cursor.eat("::=") {
            return Err(self.cursor.expected("`::=`"));
        }
        let body = self.alternatives()?;
        if !self.cursor.is_end() && !self.sees_rule() {
            return Err(self
                .cursor
                .expected("a literal, a class, a name, an operator or the next rule"));
        }
        self.names
            .define(&self.cursor, &name, at, Body::Expr(body))?;
        Ok(())
    }

    fn alternatives(&mut self) -> Result<Expr, ConstrainError> {
        self.cursor.enter()?;
        let mut alternatives = vec![self.sequence()?];
        while self.cursor.eat("|") {
            alternatives.push(self.sequence()?);
        }
        self.cursor.leave();
        Ok(Expr::alt(alternatives))
    }

    fn sequence(&mut self) -> Result<Expr, ConstrainError> {
        let mut parts = Vec::new();
        loop {
            self.blank();
            let at = self.cursor.at();
            let Some(next) = self.cursor.peek() else {
                return Ok(Expr::seq(parts));
            };
            match next {
                '"' => {
                    self.cursor.bump();
                    parts.push(self.literal()?);
                }
                '[' => {
                    self.cursor.bump();
                    parts.push(self.class()?);
                }
                '.' => {
                    self.cursor.bump();
                    parts.push(Expr::any_char());
                }
                '(' => {
                    self.cursor.bump();
                    let group = self.alternatives()?;
                    if !self.cursor.eat(")") {
                        return Err(self.cursor.expected("`)`"));
                    }
                    parts.push(group);
                }
                '*' | '+' | '?' => {
                    self.cursor.bump();
                    let (min, max) = match next {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    repeat_last(&self.cursor, at, &mut parts, min, max)?;
                }
                '{' => {
                    self.cursor.bump();
                    let (min, max) = self.counts()?;
                    repeat_last(&self.cursor, at, &mut parts, min, max)?;
                }
                '<' | '!' => {
                    return Err(self
                        .cursor
                        .error("token references are not supported: the grammar describes text"));
                }
                c if is_name(c) && !self.sees_rule() => {
                    if let Some((name, at)) = self.name().map(|(name, at)| (name.to_owned(), at)) {
                        parts.push(Expr::Rule(self.names.refer(&name, at)));
                    }
                }
                _ => return Ok(Expr::seq(parts)),
            }
        }
    }

    /// `m}`, `m,}`, `m,n}` or `,n}`.
    fn counts(&mut self) -> Result<(u32, Option<u32>), ConstrainError> {
        self.blank();
        let min = if self.cursor.sees(",") {
            0
        } else {
            self.cursor.count()?
        };
        self.blank();
        let mut max = Some(min);
        if self.cursor.eat(",") {
            self.blank();
            max = if self.cursor.sees("}") {
                None
            } else {
                Some(self.cursor.count()?)
            };
            self.blank();
        }
        if !self.cursor.eat("}") {
            return Err(self.cursor.expected("`}`"));
        }
        Ok((min, max))
    }

    fn literal(&mut self) -> Result<Expr, ConstrainError> {
        let start = self.cursor.at();
        let mut text = String::new();
        loop {
            match self.cursor.peek() {
                Some('"') => {
                    self.cursor.bump();
                    return Ok(Expr::Bytes(text.into_bytes()));
                }
                None => {
                    return Err(self
                        .cursor
                        .error_at(start, "the literal is not closed by `\"`"));
                }
                Some(_) => text.push(self.character()?),
            }
        }
    }

    fn class(&mut self) -> Result<Expr, ConstrainError> {
        let start = self.cursor.at();
        let negated = self.cursor.eat("^");
        let mut ranges = Vec::new();
        loop {
            let at = self.cursor.at();
            match self.cursor.peek() {
                Some(']') => {
                    self.cursor.bump();
                    return Ok(Expr::class(ranges, negated));
                }
                None => {
                    return Err(self
                        .cursor
                        .error_at(start, "the class is not closed by `]`"));
                }
                Some(_) => {}
            }
            let low = self.character()?;
            let is_range = self.cursor.sees("-") && !self.cursor.sees("-]");
            let high = match is_range {
                true => {
                    self.cursor.bump();
                    self.character()?
                }
                false => low,
            };
            if high < low {
                let reason = format!(
                    "the range {}-{} is backwards",
                    low.escape_debug(),
                    high.escape_debug()
                );
                return Err(self.cursor.error_at(at, reason));
            }
            ranges.push((low, high));
        }
    }

    /// One character of a literal or class, escapes resolved.
    fn character(&mut self) -> Result<char, ConstrainError> {
        let at = self.cursor.at();
        match self.cursor.bump() {
            Some('\\') => {}
            Some(c) => return Ok(c),
            None => return Err(self.cursor.expected("a character")),
        }
        match self.cursor.bump() {
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('x') => self.cursor.hex(2),
            Some('u') => self.cursor.hex(4),
            Some('U') => self.cursor.hex(8),
            Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^' | '\'')) => Ok(c),
            Some(c) => Err(self
                .cursor
                .error_at(at, format!("unknown escape `\\{}`", c.escape_debug()))),
            None => Err(self.cursor.expected("an escape")),
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}
