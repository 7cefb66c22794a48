//! Patterns as trees, before they become automata.

use regex_syntax::hir::{self, Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

use crate::ConstrainError;

/// A pattern.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// The empty text.
    Empty,
    /// One character of the class. An empty class matches nothing.
    Class(ClassUnicode),
    /// One after the other.
    Concat(Vec<Node>),
    /// Any of them.
    Alternation(Vec<Node>),
    /// From `min` to `max` times.
    Repeat {
        min: u32,
        max: Option<u32>,
        of: Box<Node>,
    },
    /// A condition on the place.
    Look(Look),
    /// What follows does (or does not) begin with a match.
    Ahead { negative: bool, of: Box<Node> },
}

/// A condition on the place between two characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Look {
    /// Start of the text.
    Start,
    /// End of the text.
    End,
    /// Start of the text or after a line feed.
    LineStart,
    /// End of the text or before a line feed.
    LineEnd,
    /// Between a word character (ASCII) and something else.
    Word,
    /// Not a word boundary.
    NotWord,
}

impl Node {
    /// Any character.
    pub(super) fn any() -> Self {
        Self::Class(ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]))
    }

    /// One character.
    pub(super) fn char(c: char) -> Self {
        Self::Class(ClassUnicode::new([ClassUnicodeRange::new(c, c)]))
    }

    /// These characters in a row.
    pub(super) fn text(text: &str) -> Self {
        Self::Concat(text.chars().map(Self::char).collect())
    }

    /// Reads a pattern in the syntax of Rust's `regex` crate.
    pub(super) fn from_rust(pattern: &str, nesting: usize) -> Result<Self, ConstrainError> {
        let refuse = |position: usize, reason: String| ConstrainError::Pattern {
            pattern: pattern.to_owned(),
            position,
            reason,
        };
        let mut parser = regex_syntax::ParserBuilder::new()
            .nest_limit(u32::try_from(nesting).unwrap_or(u32::MAX))
            .utf8(true)
            .build();
        let hir = parser.parse(pattern).map_err(|error| match error {
            regex_syntax::Error::Parse(e) => refuse(e.span().start.offset, e.kind().to_string()),
            regex_syntax::Error::Translate(e) => {
                refuse(e.span().start.offset, e.kind().to_string())
            }
            other => refuse(0, other.to_string()),
        })?;
        Self::from_hir(&hir).map_err(|reason| refuse(0, reason.to_owned()))
    }

    fn from_hir(hir: &Hir) -> Result<Self, &'static str> {
        Ok(match hir.kind() {
            HirKind::Empty => Self::Empty,
            HirKind::Literal(literal) => Self::text(
                std::str::from_utf8(&literal.0)
                    .map_err(|_| "bytes that are no text cannot be matched")?,
            ),
            HirKind::Class(Class::Unicode(class)) => Self::Class(class.clone()),
            HirKind::Class(Class::Bytes(class)) => Self::Class(
                class
                    .to_unicode_class()
                    .ok_or("bytes that are no text cannot be matched")?,
            ),
            HirKind::Look(look) => Self::Look(Look::from_hir(*look)?),
            HirKind::Repetition(repetition) => Self::Repeat {
                min: repetition.min,
                max: repetition.max,
                of: Box::new(Self::from_hir(&repetition.sub)?),
            },
            HirKind::Capture(capture) => Self::from_hir(&capture.sub)?,
            HirKind::Concat(parts) => {
                Self::Concat(parts.iter().map(Self::from_hir).collect::<Result<_, _>>()?)
            }
            HirKind::Alternation(parts) => {
                Self::Alternation(parts.iter().map(Self::from_hir).collect::<Result<_, _>>()?)
            }
        })
    }
}

impl Look {
    fn from_hir(look: hir::Look) -> Result<Self, &'static str> {
        Ok(match look {
            hir::Look::Start => Self::Start,
            hir::Look::End => Self::End,
            hir::Look::StartLF => Self::LineStart,
            hir::Look::EndLF => Self::LineEnd,
            hir::Look::WordAscii => Self::Word,
            hir::Look::WordAsciiNegate => Self::NotWord,
            hir::Look::WordUnicode | hir::Look::WordUnicodeNegate => {
                return Err("word boundaries are supported in ASCII only: write (?-u:\\b)");
            }
            _ => return Err("this kind of boundary is not supported"),
        })
    }
}
