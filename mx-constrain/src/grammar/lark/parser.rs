//! Reads the text of a Lark file.

use crate::{ConstrainError, Limits};

use super::{
    super::{names::MOST_REPETITIONS, source::Cursor},
    ast::{Ast, Definition, File, Import, Kind, Options},
};

/// Reads a file.
pub(super) fn parse<'t>(
    text: &'t str,
    limits: &Limits,
) -> Result<(File, Cursor<'t>), ConstrainError> {
    let mut parser = Parser {
        cursor: Cursor::new(text, limits)?,
        file: File::default(),
    };
    parser.blank();
    while !parser.cursor.is_end() {
        parser.statement()?;
        parser.blank();
    }
    Ok((parser.file, parser.cursor))
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    file: File,
}

impl Parser<'_> {
    /// Skips blanks, line ends and comments.
    fn blank(&mut self) {
        loop {
            self.cursor
                .eat_while(|c| c.is_whitespace() || c == '\u{feff}');
            if !self.cursor.sees("//") && !self.cursor.sees("#") {
                return;
            }
            self.cursor.eat_while(|c| c != '\n');
        }
    }

    /// Skips blanks within a line.
    fn space(&mut self) {
        self.cursor.eat_while(|c| c == ' ' || c == '\t');
    }

    fn name(&mut self) -> Option<(String, usize)> {
        let at = self.cursor.at();
        let name = self.cursor.eat_while(is_name);
        match name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            true => Some((name.to_owned(), at)),
            false => {
                self.cursor.seek(at);
                None
            }
        }
    }

    fn expect(&mut self, what: &str) -> Result<(), ConstrainError> {
        match self.cursor.eat(what) {
            true => Ok(()),
            false => Err(self.cursor.expected(&format!("`{what}`"))),
        }
    }

    fn statement(&mut self) -> Result<(), ConstrainError> {
        let at = self.cursor.at();
        if !self.cursor.eat("%") {
            let definition = self.definition(Kind::First)?;
            self.file.definitions.push(definition);
            return Ok(());
        }
        let directive = self.cursor.eat_while(|c| c.is_ascii_alphabetic());
        match directive {
            "ignore" => {
                let ignored = self.alternatives()?;
                self.file.ignored.push(ignored);
                Ok(())
            }
            "import" => self.import(),
            "override" | "extend" => {
                let kind = if directive == "override" {
                    Kind::Override
                } else {
                    Kind::Extend
                };
                self.space();
                let definition = self.definition(kind)?;
                self.file.definitions.push(definition);
                Ok(())
            }
            "declare" => {
                self.space();
                while let Some(declared) = self.name() {
                    self.file.declared.push(declared);
                    self.space();
                }
                Ok(())
            }
            "llguidance" => self.settings(),
            _ => Err(self
                .cursor
                .error_at(at, format!("unknown directive `%{directive}`"))),
        }
    }

    /// `common.NAME`, `common.NAME -> alias` or `common (A, B)`.
    fn import(&mut self) -> Result<(), ConstrainError> {
        self.space();
        let at = self.cursor.at();
        let path = self.cursor.eat_while(|c| is_name(c) || c == '.').to_owned();
        self.space();
        let (library, only) = match path.rsplit_once('.') {
            Some((library, name)) if !self.cursor.sees("(") => (library, Some(name.to_owned())),
            _ => (path.as_str(), None),
        };
        if library != "common" {
            let reason = format!(
                "`{path}` cannot be imported: only the library `common` is known, and no file is read"
            );
            return Err(self.cursor.error_at(at, reason));
        }
        if let Some(name) = only {
            let mut alias = name.clone();
            if self.cursor.eat("->") {
                self.space();
                alias = self.name().ok_or_else(|| self.cursor.expected("a name"))?.0;
            }
            self.file.imports.push(Import { name, alias, at });
            return Ok(());
        }
        self.expect("(")?;
        loop {
            self.blank();
            let (name, at) = self.name().ok_or_else(|| self.cursor.expected("a name"))?;
            self.file.imports.push(Import {
                alias: name.clone(),
                name,
                at,
            });
            self.blank();
            if !self.cursor.eat(",") {
                return self.expect(")");
            }
        }
    }

    /// Settings of llguidance, of which only those are taken that do not change the language.
    fn settings(&mut self) -> Result<(), ConstrainError> {
        let (settings, at) = self.json()?;
        let Some(settings) = settings.as_object() else {
            return Err(self
                .cursor
                .error_at(at, "`%llguidance` wants a JSON object"));
        };
        match settings
            .keys()
            .find(|key| !WITHOUT_EFFECT.contains(&key.as_str()))
        {
            Some(key) => Err(self
                .cursor
                .error_at(at, format!("the setting `{key}` is not supported"))),
            None => Ok(()),
        }
    }

    fn json(&mut self) -> Result<(serde_json::Value, usize), ConstrainError> {
        self.blank();
        let at = self.cursor.at();
        let mut values = serde_json::Deserializer::from_str(self.cursor.rest()).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                self.cursor.seek(at + values.byte_offset());
                Ok((value, at))
            }
            Some(Err(error)) => Err(self
                .cursor
                .error_at(at, format!("the JSON here cannot be read: {error}"))),
            None => Err(self.cursor.expected("JSON")),
        }
    }

    /// Whether a definition or a directive begins here, rather than another part of an expression.
    fn sees_statement(&self) -> bool {
        let rest = self.cursor.rest();
        if rest.is_empty()
            || (rest.starts_with('%') && !rest.starts_with("%json") && !rest.starts_with("%regex"))
        {
            return true;
        }
        let rest = rest.trim_start_matches(['!', '?']);
        let mut after = rest.trim_start_matches(is_name);
        if after.len() == rest.len() {
            return false;
        }
        for (open, close) in [('{', '}'), ('[', ']')] {
            after = after.trim_start_matches([' ', '\t']);
            if let Some(inner) = after.strip_prefix(open)
                && let Some(end) = inner.find([close, '\n'])
                && inner[end..].starts_with(close)
            {
                after = &inner[end + 1..];
            }
        }
        after = after.trim_start_matches([' ', '\t']);
        if let Some(priority) = after.strip_prefix('.') {
            after = priority
                .trim_start_matches(['-', ' '])
                .trim_start_matches(|c: char| c.is_ascii_digit());
        }
        after.trim_start_matches([' ', '\t']).starts_with(':')
    }

    fn definition(&mut self, kind: Kind) -> Result<Definition, ConstrainError> {
        self.cursor.eat_while(|c| c == '!' || c == '?');
        let Some((name, at)) = self.name() else {
            return Err(self
                .cursor
                .expected("the name of a rule or terminal, or a directive"));
        };
        let mut parameters = Vec::new();
        if self.cursor.eat("{") {
            loop {
                self.space();
                parameters.push(
                    self.name()
                        .ok_or_else(|| self.cursor.expected("the name of a parameter"))?
                        .0,
                );
                self.space();
                if !self.cursor.eat(",") {
                    self.expect("}")?;
                    break;
                }
            }
        }
        self.space();
        let options = match self.cursor.eat("[") {
            true => self.options()?,
            false => Options::default(),
        };
        self.space();
        if self.cursor.eat(".") {
            // Priorities choose between parses of one text; whether there is one does not depend on them.
            self.space();
            self.cursor.eat("-");
            self.cursor.count()?;
        }
        self.space();
        self.expect(":")?;
        let body = self.alternatives()?;
        if !self.sees_statement() {
            return Err(self
                .cursor
                .expected("a part of an expression or the next definition"));
        }
        Ok(Definition {
            name,
            at,
            parameters,
            options,
            body,
            kind,
        })
    }

    /// `lazy`, `suffix="…"`, `capture`, `capture="…"` of llguidance.
    fn options(&mut self) -> Result<Options, ConstrainError> {
        let mut options = Options::default();
        loop {
            self.blank();
            let Some((name, at)) = self.name() else {
                return Err(self.cursor.expected("an option"));
            };
            self.blank();
            let value = match self.cursor.eat("=") {
                true => {
                    self.blank();
                    Some(self.atom()?)
                }
                false => None,
            };
            match (name.as_str(), value) {
                ("lazy", None) => options.lazy = true,
                ("suffix", Some(value)) => options.suffix = Some(value),
                // Captures are for reading a finished text; they leave the language as it is.
                ("capture", _) => {}
                _ => {
                    return Err(self
                        .cursor
                        .error_at(at, format!("the option `{name}` is not supported")));
                }
            }
            self.blank();
            if !self.cursor.eat(",") {
                self.expect("]")?;
                return Ok(options);
            }
        }
    }

    fn alternatives(&mut self) -> Result<Ast, ConstrainError> {
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

    fn atom(&mut self) -> Result<Ast, ConstrainError> {
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

/// Settings of llguidance that change speed or defaults that are the same here.
const WITHOUT_EFFECT: [&str; 1] = ["no_forcing"];

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

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
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
