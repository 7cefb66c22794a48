//! Plain EBNF, in the two notations that standards define. The first definition decides which one a grammar is in.
//!
//! **W3C** (as in the XML specification), when definitions say `::=`:
//! ```text
//! list  ::= '[' (item (',' item)*)? ']'     /* comment */
//! item  ::= [a-zA-Z_] [a-z#x30-#x39]* | #x41+ | (Name - 'xml')
//! ```
//! Classes `[…]` and `[^…]` hold characters, ranges and `#xN`; strings stand in either quote and know no escapes.
//!
//! **ISO 14977**, when definitions say `=` (or `:=`):
//! ```text
//! list = "[", [ item, { ",", item } ], "]" ;  (* comment *)
//! item = 3 * digit - "000" | letter ;
//! ```
//! `[…]` is optional, `{…}` is any number of times, `3 * x` is three times. Definitions end with `;` or `.`. Commas may
//! be left out, so names cannot contain blanks. Special sequences (`? … ?`) are refused.
//!
//! In both, `x?`, `x*`, `x+` and counts (`x{2,3}` with digits directly behind the brace) are taken. `a - b` is what `a`
//! derives and `b` does not; both must be regular (no recursion), since a complement of more is not context-free.
//!
//! The start rule is `root`, else `start`, else the first rule.

use std::collections::HashSet;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, Repetition};

use crate::{ConstrainError, Limits, lexical::Dfa};

use super::{
    ir::{Body, Expr, Grammar, RuleId},
    lexeme::{Take, from_dfa, pattern_dfa},
    names::{Names, repeat_last},
    source::Cursor,
};

/// Reads a grammar.
pub(super) fn parse(text: &str, limits: &Limits) -> Result<Grammar, ConstrainError> {
    let cursor = Cursor::new(text, limits)?;
    let mut parser = Parser {
        cursor,
        names: Names::default(),
        is_iso: false,
        differences: Vec::new(),
    };
    parser.blank()?;
    let mut first = None;
    while !parser.cursor.is_end() {
        let rule = parser.rule(first.is_none())?;
        first.get_or_insert(rule);
    }
    let Some(first) = first else {
        return Err(parser
            .cursor
            .error_at(0, "a grammar needs at least one rule"));
    };
    let start = parser.names.start(&["root", "start"]).unwrap_or(first);
    parser.subtract(limits)?;
    parser.names.finish(&parser.cursor, start)
}

/// `from - minus`, as the rule that will hold the result.
struct Difference {
    rule: RuleId,
    from: Expr,
    minus: Expr,
    at: usize,
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    names: Names,
    is_iso: bool,
    differences: Vec<Difference>,
}

impl Parser<'_> {
    /// Skips blanks, line ends and comments.
    fn blank(&mut self) -> Result<(), ConstrainError> {
        loop {
            self.cursor
                .eat_while(|c| c.is_whitespace() || c == '\u{feff}');
            let at = self.cursor.at();
            let end = match () {
                () if self.cursor.eat("/*") => "*/",
                () if self.cursor.eat("(*") => "*)",
                () => return Ok(()),
            };
            if self.cursor.eat_past(end).is_none() {
                return Err(self
                    .cursor
                    .error_at(at, format!("the comment is not closed by `{end}`")));
            }
        }
    }

    fn name(&mut self) -> Option<(String, usize)> {
        let at = self.cursor.at();
        if self.cursor.eat("<") {
            // The brackets of older notations are no part of the name.
            let name = self.cursor.eat_while(|c| is_name(c) || c == ' ').to_owned();
            if !name.is_empty() && self.cursor.eat(">") {
                return Some((name, at));
            }
            self.cursor.seek(at);
            return None;
        }
        if !self
            .cursor
            .peek()
            .is_some_and(|c| c.is_alphabetic() || c == '_')
        {
            return None;
        }
        let mut name = self.cursor.eat_while(is_name);
        // A minus at the end is the operator.
        let kept = name.trim_end_matches('-');
        self.cursor.seek(at + kept.len());
        name = kept;
        Some((name.to_owned(), at))
    }

    /// The sign of a definition, if one stands here.
    fn sign(&self) -> Option<&'static str> {
        ["::=", ":=", "="]
            .into_iter()
            .find(|sign| self.cursor.sees(sign))
    }

    /// Whether a definition begins here.
    fn sees_rule(&mut self) -> Result<bool, ConstrainError> {
        let at = self.cursor.at();
        let named = self.name().is_some();
        if named {
            self.blank()?;
        }
        let found = named && self.sign().is_some();
        self.cursor.seek(at);
        Ok(found)
    }

    fn rule(&mut self, is_first: bool) -> Result<RuleId, ConstrainError> {
        let Some((name, at)) = self.name() else {
            return Err(self.cursor.expected("the name of a rule"));
        };
        self.blank()?;
        let Some(sign) = self.sign() else {
            return Err(self.cursor.expected("`::=` or `=`"));
        };
        if is_first {
            self.is_iso = sign != "::=";
        } else if self.is_iso == (sign == "::=") {
            return Err(self
                .cursor
                .error("definitions say either `::=` or `=`, not both in one grammar"));
        }
        self.cursor.eat(sign);
        let body = self.alternatives()?;
        let is_closed = self.cursor.eat(";") || (self.is_iso && self.cursor.eat("."));
        self.blank()?;
        if !is_closed && !self.cursor.is_end() && !self.sees_rule()? {
            return Err(self
                .cursor
                .expected("a part of an expression or the next rule"));
        }
        self.names.define(&self.cursor, &name, at, Body::Expr(body))
    }

    fn alternatives(&mut self) -> Result<Expr, ConstrainError> {
        self.cursor.enter()?;
        let mut alternatives = vec![self.sequence()?];
        while self.cursor.eat("|")
            || (self.is_iso && (self.cursor.eat("/") || self.cursor.eat("!")))
        {
            alternatives.push(self.sequence()?);
        }
        self.cursor.leave();
        Ok(Expr::alt(alternatives))
    }

    fn sequence(&mut self) -> Result<Expr, ConstrainError> {
        let mut parts = Vec::new();
        loop {
            self.blank()?;
            let at = self.cursor.at();
            let Some(next) = self.cursor.peek() else {
                return Ok(Expr::seq(parts));
            };
            match next {
                ',' if self.is_iso => {
                    self.cursor.bump();
                }
                '-' if !parts.is_empty() => {
                    self.cursor.bump();
                    self.difference(at, &mut parts)?;
                }
                '*' | '+' | '?' => {
                    if next == '?' && self.is_iso && !self.touches() {
                        return Err(self
                            .cursor
                            .error("special sequences `? … ?` are not supported"));
                    }
                    self.cursor.bump();
                    let (min, max) = match next {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    repeat_last(&self.cursor, at, &mut parts, min, max)?;
                }
                '{' if self.cursor.rest()[1..]
                    .starts_with(|c: char| c.is_ascii_digit() || c == ',') =>
                {
                    self.cursor.bump();
                    let (min, max) = self.counts()?;
                    repeat_last(&self.cursor, at, &mut parts, min, max)?;
                }
                _ => match self.operand()? {
                    Some(part) => parts.push(part),
                    None => return Ok(Expr::seq(parts)),
                },
            }
        }
    }

    /// Whether what was read before ends directly here.
    fn touches(&self) -> bool {
        let before = self.cursor.slice(0, self.cursor.at());
        before.ends_with(|c: char| is_name(c) || matches!(c, '"' | '\'' | ')' | ']' | '}'))
    }

    fn counts(&mut self) -> Result<(u32, Option<u32>), ConstrainError> {
        let min = if self.cursor.sees(",") {
            0
        } else {
            self.cursor.count()?
        };
        let mut max = Some(min);
        if self.cursor.eat(",") {
            self.blank()?;
            max = if self.cursor.sees("}") {
                None
            } else {
                Some(self.cursor.count()?)
            };
        }
        match self.cursor.eat("}") {
            true => Ok((min, max)),
            false => Err(self.cursor.expected("`}`")),
        }
    }

    /// One thing; `None` where the sequence ends.
    fn operand(&mut self) -> Result<Option<Expr>, ConstrainError> {
        let at = self.cursor.at();
        match self.cursor.peek() {
            Some('"' | '\'') => self.literal().map(Some),
            Some('#') if self.cursor.sees("#x") => {
                let c = self.code_point()?;
                Ok(Some(Expr::Bytes(c.to_string().into_bytes())))
            }
            Some('(') => self.group(")").map(Some),
            Some('[') if self.is_iso => Ok(Some(Expr::repeat(self.group("]")?, 0, Some(1)))),
            Some('[') => self.class().map(Some),
            Some('{') => Ok(Some(Expr::repeat(self.group("}")?, 0, None))),
            Some('0'..='9') if self.is_iso => {
                let count = self.cursor.count()?;
                self.blank()?;
                if !self.cursor.eat("*") {
                    return Err(self.cursor.expected("`*` behind a count"));
                }
                self.blank()?;
                let at = self.cursor.at();
                match self.operand_of_count()? {
                    Some(part) => {
                        let mut part = [part];
                        repeat_last(&self.cursor, at, &mut part, count, Some(count))?;
                        let [part] = part;
                        Ok(Some(part))
                    }
                    None => Err(self.cursor.expected("what is counted")),
                }
            }
            _ => {
                if self.sees_rule()? {
                    return Ok(None);
                }
                match self.name() {
                    Some((name, _)) => Ok(Some(Expr::Rule(self.names.refer(&name, at)))),
                    None => Ok(None),
                }
            }
        }
    }

    /// What a count applies to; counts of counts nest.
    fn operand_of_count(&mut self) -> Result<Option<Expr>, ConstrainError> {
        self.cursor.enter()?;
        let part = self.operand()?;
        self.cursor.leave();
        Ok(part)
    }

    fn group(&mut self, close: &str) -> Result<Expr, ConstrainError> {
        self.cursor.bump();
        let inner = self.alternatives()?;
        match self.cursor.eat(close) {
            true => Ok(inner),
            false => Err(self.cursor.expected(&format!("`{close}`"))),
        }
    }

    fn literal(&mut self) -> Result<Expr, ConstrainError> {
        let start = self.cursor.at();
        let quote = if self.cursor.eat("\"") { "\"" } else { "'" };
        if quote == "'" {
            self.cursor.bump();
        }
        match self.cursor.eat_past(quote) {
            Some(text) if !text.contains('\n') => Ok(Expr::Bytes(text.as_bytes().to_vec())),
            _ => Err(self
                .cursor
                .error_at(start, format!("the string is not closed by `{quote}`"))),
        }
    }

    /// `#xN`.
    fn code_point(&mut self) -> Result<char, ConstrainError> {
        let at = self.cursor.at();
        self.cursor.eat("#x");
        let digits = self.cursor.eat_while(|c| c.is_ascii_hexdigit());
        match digits.is_empty() {
            true => Err(self.cursor.expected("hexadecimal digits")),
            false => self.cursor.code_point(at, digits),
        }
    }

    fn class(&mut self) -> Result<Expr, ConstrainError> {
        let start = self.cursor.at();
        self.cursor.bump();
        let negated = self.cursor.eat("^");
        let mut ranges = Vec::new();
        loop {
            let at = self.cursor.at();
            let low = match self.cursor.peek() {
                Some(']') => {
                    self.cursor.bump();
                    return Ok(Expr::class(ranges, negated));
                }
                Some('\n') | None => {
                    return Err(self
                        .cursor
                        .error_at(start, "the class is not closed by `]`"));
                }
                Some(_) => self.class_character()?,
            };
            let is_range = self.cursor.sees("-") && !self.cursor.sees("-]");
            let high = match is_range {
                true => {
                    self.cursor.bump();
                    self.class_character()?
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

    fn class_character(&mut self) -> Result<char, ConstrainError> {
        match self.cursor.sees("#x") {
            true => self.code_point(),
            false => self
                .cursor
                .bump()
                .ok_or_else(|| self.cursor.expected("a character")),
        }
    }

    fn difference(&mut self, at: usize, parts: &mut [Expr]) -> Result<(), ConstrainError> {
        self.blank()?;
        let Some(minus) = self.operand()? else {
            return Err(self.cursor.expected("what is taken away"));
        };
        if let Some(last) = parts.last_mut() {
            let rule = self.names.reserve("difference".to_owned());
            self.names.fill(rule, Body::Expr(Expr::Alt(Vec::new())));
            let from = std::mem::replace(last, Expr::Rule(rule));
            self.differences.push(Difference {
                rule,
                from,
                minus,
                at,
            });
        }
        Ok(())
    }

    /// Computes the differences, now that all names are known.
    fn subtract(&mut self, limits: &Limits) -> Result<(), ConstrainError> {
        let differences = std::mem::take(&mut self.differences);
        let pending: HashSet<RuleId> = differences
            .iter()
            .map(|difference| difference.rule)
            .collect();
        let mut results = Vec::new();
        for Difference {
            rule,
            from,
            minus,
            at,
        } in &differences
        {
            let regular = Regular {
                names: &self.names,
                cursor: &self.cursor,
                limits,
                pending: &pending,
                at: *at,
            };
            let mut size = 0;
            let from = regular.hir(from, &mut Vec::new(), &mut size)?;
            let minus = regular.hir(minus, &mut Vec::new(), &mut size)?;
            // Without anchors in the notation there is nothing to look around for.
            let (Some(from), Some(minus)) =
                (pattern_dfa(&from, limits)?, pattern_dfa(&minus, limits)?)
            else {
                continue;
            };
            let mut dfa = Dfa::and(vec![from, minus.not(limits)?], limits)?;
            let mut lexeme = from_dfa(&mut dfa, Take::Longest, limits)?;
            lexeme.longest = false;
            results.push((*rule, lexeme));
        }
        for (rule, lexeme) in results {
            self.names.fill(rule, Body::Lexeme(lexeme));
        }
        Ok(())
    }
}

/// Turns expressions without recursion into regular expressions.
struct Regular<'a> {
    names: &'a Names,
    cursor: &'a Cursor<'a>,
    limits: &'a Limits,
    pending: &'a HashSet<RuleId>,
    at: usize,
}

impl Regular<'_> {
    fn hir(
        &self,
        expr: &Expr,
        open: &mut Vec<RuleId>,
        size: &mut usize,
    ) -> Result<Hir, ConstrainError> {
        *size += 1;
        Limits::check("max_nodes", *size, self.limits.max_nodes)?;
        Ok(match expr {
            Expr::Empty => Hir::empty(),
            Expr::Bytes(bytes) => {
                *size += bytes.len();
                Hir::literal(bytes.clone())
            }
            Expr::Chars(ranges) => {
                let ranges = ranges
                    .iter()
                    .map(|&(low, high)| ClassUnicodeRange::new(low, high));
                Hir::class(Class::Unicode(ClassUnicode::new(ranges)))
            }
            Expr::Seq(parts) => Hir::concat(self.all(parts, open, size)?),
            Expr::Alt(parts) => Hir::alternation(self.all(parts, open, size)?),
            Expr::Repeat { of, min, max } => {
                let sub = Box::new(self.hir(of, open, size)?);
                Hir::repetition(Repetition {
                    min: *min,
                    max: *max,
                    greedy: true,
                    sub,
                })
            }
            Expr::Rule(rule) => {
                if open.contains(rule) || self.pending.contains(rule) {
                    let reason = "both sides of `-` must be regular: without recursion and without another `-`";
                    return Err(self.cursor.error_at(self.at, reason));
                }
                open.push(*rule);
                Limits::check(
                    "max_nesting",
                    open.len(),
                    self.limits.max_nesting.min(DEEPEST),
                )?;
                let hir = match self.names.body(*rule) {
                    Some(Body::Expr(body)) => self.hir(body, open, size)?,
                    // What is not defined is reported when all rules are.
                    _ => Hir::fail(),
                };
                open.pop();
                hir
            }
        })
    }

    fn all(
        &self,
        parts: &[Expr],
        open: &mut Vec<RuleId>,
        size: &mut usize,
    ) -> Result<Vec<Hir>, ConstrainError> {
        parts
            .iter()
            .map(|part| self.hir(part, open, size))
            .collect()
    }
}

/// Deepest chain of rules in a difference, whatever the limits say.
const DEEPEST: usize = 64;

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}
