//! Expressions of a Lark file: alternatives, sequences, repetitions, strings and regular expressions.

use crate::ConstrainError;

use super::{
    super::names::MOST_REPETITIONS,
    ast::Ast,
    parser::{Parser, is_name},
};

impl Parser<'_> {
    /// What stands right of a colon or inside parentheses.
    pub(super) fn alternatives(&mut self) -> Result<Ast, ConstrainError> {
        self.cursor.enter()?;
        let mut alternatives = vec![self.conjunction()?];
        while self.cursor.eat("|") {
            alternatives.push(self.conjunction()?);
        }
        self.cursor.leave();
        Ok(match alternatives.len() {
            1 => alternatives.swap_remove(0),
            _ => Ast::Alt(alternatives),
        })
    }

    /// Sequences joined by `&`, and an alias behind them, which names a node of a tree that nobody builds here.
    fn conjunction(&mut self) -> Result<Ast, ConstrainError> {
        let mut parts = vec![self.sequence()?];
        let at = self.cursor.at();
        while self.cursor.eat("&") {
            parts.push(self.sequence()?);
        }
        if self.cursor.eat("->") {
            self.space();
            self.name()
                .ok_or_else(|| self.cursor.expected("the name of an alias"))?;
            self.blank();
        }
        Ok(match parts.len() {
            1 => parts.swap_remove(0),
            _ => Ast::And(parts, at),
        })
    }

    fn sequence(&mut self) -> Result<Ast, ConstrainError> {
        let mut parts = Vec::new();
        loop {
            self.space();
            // A new line goes on with the expression unless a statement begins there.
            if self
                .cursor
                .peek()
                .is_none_or(|c| matches!(c, '\n' | '\r' | '#'))
                || self.cursor.sees("//")
            {
                self.blank();
                if self.sees_statement() {
                    break;
                }
            }
            match self.cursor.peek() {
                None | Some('|' | ')' | ']' | '&') => break,
                Some('-') if self.cursor.sees("->") => break,
                Some(_) => {}
            }
            let atom = self.atom()?;
            parts.push(self.quantified(atom)?);
        }
        Ok(match parts.len() {
            0 => Ast::Empty,
            1 => parts.swap_remove(0),
            _ => Ast::Seq(parts),
        })
    }

    fn quantified(&mut self, atom: Ast) -> Result<Ast, ConstrainError> {
        let mut atom = atom;
        loop {
            let here = self.cursor.at();
            self.space();
            let at = self.cursor.at();
            let (min, max) = match self.cursor.peek() {
                Some('?') => (0, Some(1)),
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('~') => {
                    self.cursor.bump();
                    self.space();
                    if !self.cursor.peek().is_some_and(|c| c.is_ascii_digit()) {
                        // A complement begins the next part.
                        self.cursor.seek(here);
                        return Ok(atom);
                    }
                    let min = self.cursor.count()?;
                    let max = if self.cursor.eat("..") {
                        self.cursor.count()?
                    } else {
                        min
                    };
                    atom = self.repeat(at, atom, min, Some(max))?;
                    continue;
                }
                Some('{') => {
                    self.cursor.bump();
                    self.space();
                    let min = if self.cursor.sees(",") {
                        0
                    } else {
                        self.cursor.count()?
                    };
                    self.space();
                    let mut max = Some(min);
                    if self.cursor.eat(",") {
                        self.space();
                        max = if self.cursor.sees("}") {
                            None
                        } else {
                            Some(self.cursor.count()?)
                        };
                        self.space();
                    }
                    self.expect("}")?;
                    atom = self.repeat(at, atom, min, max)?;
                    continue;
                }
                _ => {
                    self.cursor.seek(here);
                    return Ok(atom);
                }
            };
            self.cursor.bump();
            atom = self.repeat(at, atom, min, max)?;
        }
    }

    fn repeat(
        &self,
        at: usize,
        of: Ast,
        min: u32,
        max: Option<u32>,
    ) -> Result<Ast, ConstrainError> {
        if let Some(max) = max
            && max < min
        {
            let reason = format!("repetition of at least {min} and at most {max} times");
            return Err(self.cursor.error_at(at, reason));
        }
        match (of, min, max) {
            // Repetitions of repetitions by `?`, `*` and `+` are one.
            (
                Ast::Repeat {
                    of,
                    min: inner_min @ 0..=1,
                    max: inner_max @ (None | Some(1)),
                },
                0..=1,
                None | Some(1),
            ) => {
                let max = if max.is_none() || inner_max.is_none() {
                    None
                } else {
                    Some(1)
                };
                Ok(Ast::Repeat {
                    of,
                    min: min.min(inner_min),
                    max,
                })
            }
            (of, min, max) if depth(&of) < MOST_REPETITIONS => Ok(Ast::Repeat {
                of: Box::new(of),
                min,
                max,
            }),
            _ => {
                let reason = format!("more than {MOST_REPETITIONS} repetitions on one another");
                Err(self.cursor.error_at(at, reason))
            }
        }
    }

    /// One thing, without what repeats it.
    pub(super) fn atom(&mut self) -> Result<Ast, ConstrainError> {
        let at = self.cursor.at();
        match self.cursor.peek() {
            Some(open @ ('(' | '[')) => {
                self.cursor.bump();
                let inner = self.alternatives()?;
                self.blank();
                self.expect(if open == '(' { ")" } else { "]" })?;
                Ok(match open {
                    '(' => inner,
                    _ => Ast::Repeat {
                        of: Box::new(inner),
                        min: 0,
                        max: Some(1),
                    },
                })
            }
            Some('"') => self.text_or_range(),
            Some('/') => self.regex(),
            Some('~') => {
                self.cursor.bump();
                self.cursor.enter()?;
                self.space();
                let inner = self.atom()?;
                self.cursor.leave();
                Ok(Ast::Not(Box::new(inner), at))
            }
            Some('%') if self.cursor.eat("%json") => {
                let (schema, at) = self.json()?;
                Ok(Ast::Json { schema, at })
            }
            Some('%') if self.cursor.eat("%regex") => self.substring(),
            Some('<') => Err(self
                .cursor
                .error("token references are not supported: the grammar describes text")),
            Some('@') => Err(self
                .cursor
                .error("references to other grammars are not supported")),
            Some(_) => match self.name() {
                Some((name, at)) => {
                    let arguments = self.arguments()?;
                    Ok(Ast::Name {
                        name,
                        arguments,
                        at,
                    })
                }
                None => Err(self
                    .cursor
                    .expected("a string, a regular expression, a name or a group")),
            },
            None => Err(self.cursor.expected("an expression")),
        }
    }

    /// `{a, b}` directly behind the name of a template; `{2,3}` is a repetition instead.
    fn arguments(&mut self) -> Result<Vec<Ast>, ConstrainError> {
        let Some(inner) = self.cursor.rest().strip_prefix('{') else {
            return Ok(Vec::new());
        };
        if inner
            .trim_start()
            .starts_with(|c: char| c.is_ascii_digit() || c == ',')
        {
            return Ok(Vec::new());
        }
        self.cursor.bump();
        let mut arguments = Vec::new();
        loop {
            self.blank();
            self.cursor.enter()?;
            let atom = self.atom()?;
            arguments.push(self.quantified(atom)?);
            self.cursor.leave();
            self.blank();
            if !self.cursor.eat(",") {
                self.expect("}")?;
                return Ok(arguments);
            }
        }
    }

    fn text_or_range(&mut self) -> Result<Ast, ConstrainError> {
        let at = self.cursor.at();
        let low = self.text()?;
        let here = self.cursor.at();
        self.space();
        if self.cursor.eat("..") {
            self.space();
            let high = self.text()?;
            let mut ends = (low.chars(), high.chars());
            return match (ends.0.next(), ends.0.next(), ends.1.next(), ends.1.next()) {
                (Some(low), None, Some(high), None) if low <= high => Ok(Ast::Range(low, high)),
                _ => Err(self.cursor.error_at(
                    at,
                    "a range wants one character on each side, the lower first",
                )),
            };
        }
        self.cursor.seek(here);
        let ignore_case = self.cursor.sees("i")
            && !self.cursor.rest()[1..].starts_with(is_name)
            && self.cursor.eat("i");
        Ok(Ast::Text {
            text: low,
            ignore_case,
        })
    }

    fn text(&mut self) -> Result<String, ConstrainError> {
        let start = self.cursor.at();
        self.expect("\"")?;
        let mut text = String::new();
        loop {
            let at = self.cursor.at();
            match self.cursor.bump() {
                Some('"') => return Ok(text),
                None | Some('\n') => {
                    return Err(self
                        .cursor
                        .error_at(start, "the string is not closed by `\"`"));
                }
                Some('\\') => {}
                Some(c) => {
                    text.push(c);
                    continue;
                }
            }
            text.push(match self.cursor.bump() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('f') => '\u{c}',
                Some('v') => '\u{b}',
                Some('b') => '\u{8}',
                Some('a') => '\u{7}',
                Some('0') => '\0',
                Some('x') => self.cursor.hex(2)?,
                Some('u') => self.cursor.hex(4)?,
                Some('U') => self.cursor.hex(8)?,
                Some(c) if c.is_ascii_punctuation() => c,
                Some(c) => {
                    return Err(self
                        .cursor
                        .error_at(at, format!("unknown escape `\\{}`", c.escape_debug())));
                }
                None => {
                    return Err(self
                        .cursor
                        .error_at(start, "the string is not closed by `\"`"));
                }
            });
        }
    }

    fn regex(&mut self) -> Result<Ast, ConstrainError> {
        self.cursor.bump();
        let at = self.cursor.at();
        let mut is_escaped = false;
        let pattern = self.cursor.eat_while(|c| {
            let keep = is_escaped || c != '/';
            is_escaped = !is_escaped && c == '\\';
            keep
        });
        let pattern = pattern.to_owned();
        if !self.cursor.eat("/") {
            return Err(self
                .cursor
                .error_at(at, "the regular expression is not closed by `/`"));
        }
        let flags_at = self.cursor.at();
        let flags = self
            .cursor
            .eat_while(|c| c.is_ascii_alphabetic())
            .to_owned();
        if let Some(flag) = flags.chars().find(|flag| !"imsux".contains(*flag)) {
            return Err(self.cursor.error_at(
                flags_at,
                format!("the flag `{flag}` of a regular expression is unknown"),
            ));
        }
        Ok(Ast::Regex { pattern, flags, at })
    }

    /// `{"substring_chunks": […]}`, `{"substring_words": "…"}` or `{"substring_chars": "…"}`.
    fn substring(&mut self) -> Result<Ast, ConstrainError> {
        let (value, at) = self.json()?;
        let mut entries = value.as_object().into_iter().flatten();
        let chunks = match (entries.next(), entries.next()) {
            (Some((key, value)), None) => match (key.as_str(), value) {
                ("substring_chunks", serde_json::Value::Array(chunks)) => chunks
                    .iter()
                    .map(|chunk| chunk.as_str().map(str::to_owned))
                    .collect(),
                ("substring_chars", serde_json::Value::String(text)) => {
                    Some(text.chars().map(String::from).collect())
                }
                ("substring_words", serde_json::Value::String(text)) => Some(words(text)),
                _ => None,
            },
            _ => None,
        };
        match chunks {
            Some(chunks) => Ok(Ast::Substring(chunks)),
            None => Err(self.cursor.error_at(
                at,
                "`%regex` wants one of `substring_chunks`, `substring_words` and `substring_chars`",
            )),
        }
    }
}

/// Levels of repetition at the top of an expression.
fn depth(ast: &Ast) -> usize {
    let (mut depth, mut at) = (0, ast);
    while let Ast::Repeat { of, .. } = at {
        depth += 1;
        at = of;
    }
    depth
}

/// Runs of word characters, and every other character by itself.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.chars() {
        let is_word = c.is_alphanumeric() || c == '_';
        match words.last_mut() {
            Some(last) if is_word && in_word => last.push(c),
            _ => words.push(c.to_string()),
        }
        in_word = is_word;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{super::ast::is_terminal, *};

    #[test]
    fn words_are_runs() {
        assert_eq!(words("foo bar. baz"), ["foo", " ", "bar", ".", " ", "baz"]);
        assert!(is_terminal("_NL") && is_terminal("A") && !is_terminal("_sep"));
    }
}
