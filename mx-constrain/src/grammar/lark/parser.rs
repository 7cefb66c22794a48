//! Reads the text of a Lark file.

use crate::{ConstrainError, Limits};

use super::{
    super::source::Cursor,
    ast::{Definition, File, Import, Kind, Options},
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

/// A reader of Lark files.
pub(super) struct Parser<'t> {
    pub(super) cursor: Cursor<'t>,
    file: File,
}

impl Parser<'_> {
    /// Skips blanks, line ends and comments.
    pub(super) fn blank(&mut self) {
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
    pub(super) fn space(&mut self) {
        self.cursor.eat_while(|c| c == ' ' || c == '\t');
    }

    pub(super) fn name(&mut self) -> Option<(String, usize)> {
        let at = self.cursor.at();
        let rest = self.cursor.rest();
        let name = &rest[..name_length(rest)];
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return None;
        }
        self.cursor.seek(at + name.len());
        Some((name.to_owned(), at))
    }

    pub(super) fn expect(&mut self, what: &str) -> Result<(), ConstrainError> {
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
        let without_effect = |key: &str, value: &serde_json::Value| match key {
            "no_forcing" => true,
            "allow_initial_skip" => value.as_bool() == Some(true),
            _ => false,
        };
        match settings
            .iter()
            .find(|(key, value)| !without_effect(key, value))
        {
            Some((key, _)) => Err(self
                .cursor
                .error_at(at, format!("the setting `{key}` is not supported"))),
            None => Ok(()),
        }
    }

    pub(super) fn json(&mut self) -> Result<(serde_json::Value, usize), ConstrainError> {
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
    pub(super) fn sees_statement(&self) -> bool {
        let rest = self.cursor.rest();
        if rest.is_empty()
            || (rest.starts_with('%') && !rest.starts_with("%json") && !rest.starts_with("%regex"))
        {
            return true;
        }
        let rest = rest.trim_start_matches(['!', '?']);
        let mut after = &rest[name_length(rest)..];
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
}

/// Length of the name at the beginning of a text. A minus belongs to it when the name goes on behind.
fn name_length(text: &str) -> usize {
    let mut end = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let goes_on = c == '-' && at > 0 && characters.peek().is_some_and(|next| is_name(next.1));
        if !is_name(c) && !goes_on {
            break;
        }
        end = at + c.len_utf8();
    }
    end
}

pub(super) fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
