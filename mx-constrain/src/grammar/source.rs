//! The text of a grammar while it is read: a cursor, and errors with line, column and excerpt.

use crate::{ConstrainError, Limits};

/// Longest part of a line that an error repeats, in characters.
const EXCERPT: usize = 80;

/// Deepest nesting that is read, whatever the limits say: parsers call themselves, and stacks are small.
const DEEPEST: usize = 128;

/// An error at a byte offset of `text`.
pub(super) fn error_at(text: &str, offset: usize, reason: impl Into<String>) -> ConstrainError {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = text[line_start..offset].chars().count() + 1;
    let line = text[line_start..]
        .split(['\n', '\r'])
        .next()
        .unwrap_or_default();
    let skipped = column.saturating_sub(EXCERPT / 2);
    let shown = if line.chars().count() > EXCERPT {
        skipped
    } else {
        0
    };
    ConstrainError::Grammar {
        line: before.matches('\n').count() + 1,
        column,
        reason: reason.into(),
        excerpt: line.chars().skip(shown).take(EXCERPT).collect(),
    }
}

/// A reader of grammar text that knows where it is and how deep it is nested.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    max_depth: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str, limits: &Limits) -> Result<Self, ConstrainError> {
        Limits::check("max_input_bytes", text.len(), limits.max_input_bytes)?;
        Ok(Self {
            text,
            at: 0,
            depth: 0,
            max_depth: limits.max_nesting.min(DEEPEST),
        })
    }

    /// Byte offset of the next character.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes back (or forward) to an offset that [`Cursor::at`] gave.
    pub(super) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The text between two offsets that [`Cursor::at`] gave.
    pub(super) fn slice(&self, from: usize, to: usize) -> &'t str {
        &self.text[from..to]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    pub(super) fn is_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn sees(&self, what: &str) -> bool {
        self.rest().starts_with(what)
    }

    /// Takes `what` if it stands here.
    pub(super) fn eat(&mut self, what: &str) -> bool {
        let found = self.sees(what);
        if found {
            self.at += what.len();
        }
        found
    }

    pub(super) fn eat_while(&mut self, mut keep: impl FnMut(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Takes everything up to and including `end`; `None` (and nothing taken) when `end` does not follow.
    pub(super) fn eat_past(&mut self, end: &str) -> Option<&'t str> {
        let rest = self.rest();
        let length = rest.find(end)?;
        self.at += length + end.len();
        Some(&rest[..length])
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> ConstrainError {
        error_at(self.text, self.at, reason)
    }

    pub(super) fn error_at(&self, offset: usize, reason: impl Into<String>) -> ConstrainError {
        error_at(self.text, offset, reason)
    }

    /// An error saying what was wanted and what stands here.
    pub(super) fn expected(&self, what: &str) -> ConstrainError {
        let found = match self.peek() {
            None => "the end of the grammar".to_owned(),
            Some('\n' | '\r') => "the end of the line".to_owned(),
            Some(c) => format!("`{}`", c.escape_debug()),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    /// Enters a group; every parser that calls itself goes through here.
    pub(super) fn enter(&mut self) -> Result<(), ConstrainError> {
        self.depth += 1;
        Limits::check("max_nesting", self.depth, self.max_depth)
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// A decimal number that fits a repetition count.
    pub(super) fn count(&mut self) -> Result<u32, ConstrainError> {
        let start = self.at;
        let digits = self.eat_while(|c| c.is_ascii_digit());
        if digits.is_empty() {
            return Err(self.expected("a number"));
        }
        digits
            .parse()
            .map_err(|_| self.error_at(start, format!("{digits} is larger than a count may be")))
    }

    /// Exactly `digits` hexadecimal digits as a character.
    pub(super) fn hex(&mut self, digits: usize) -> Result<char, ConstrainError> {
        let start = self.at;
        let mut left = digits;
        let text = self.eat_while(|c| {
            let keep = left > 0 && c.is_ascii_hexdigit();
            left -= usize::from(keep);
            keep
        });
        if text.len() != digits {
            return Err(self.error_at(start, format!("expected {digits} hexadecimal digits")));
        }
        self.code_point(start, text)
    }

    /// Hexadecimal digits that were read from `start` on, as a character.
    pub(super) fn code_point(&self, start: usize, digits: &str) -> Result<char, ConstrainError> {
        u32::from_str_radix(digits, 16)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| self.error_at(start, format!("{digits} is no Unicode scalar value")))
    }
}
