//! How close the accepted language is to what was asked for.

use serde::{Deserialize, Serialize};

/// How the language that a constraint accepts relates to the language that was asked for.
///
/// A constraint never accepts more than was asked for. Where it accepts less, each restriction is listed with the place
/// it comes from:
///
/// | where | what is left out |
/// |---|---|
/// | `format`: `time`, `date-time` | leap seconds at another offset than zero |
/// | a grammar rule | texts that need a rule which derives nothing that the vocabulary can write |
/// | `%json {…}` in a grammar | what is listed for its schema |
///
/// What the caller chose in [`SchemaOptions`](crate::SchemaOptions) is not listed, as each choice says what it costs:
///
/// - [`Lexical::Canonical`](crate::Lexical::Canonical), the default, leaves out other spellings of the same values:
///   `1.0` for an integer (draft 4 knows it as no integer; later drafts do), exponents on bounded numbers, needless
///   escapes in names and listed strings. With [`Lexical::Full`](crate::Lexical::Full) they are produced, exponents on
///   bounded numbers up to 20 characters.
/// - [`PropertyOrder::Declared`](crate::PropertyOrder::Declared) leaves out objects in another order.
/// - [`Whitespace`](crate::Whitespace) bounds blanks between the parts; the default allows 16 in one place.
///
/// Nor are texts that this vocabulary has no bytes for. A mask, finally, may lack a token that
/// [`Matcher::allows`](crate::Matcher::allows) takes: one that holds the end of one property name and the whole of
/// another where names are free, or the end of one string and the whole of another where items must differ. The same
/// text can be written with shorter tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exactness {
    /// What is left out. Empty when exactly the asked-for texts are accepted.
    pub restrictions: Vec<Restriction>,
}

impl Exactness {
    /// Whether exactly the asked-for texts are accepted.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.restrictions.is_empty()
    }
}

/// A part of the asked-for language that is never produced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Restriction {
    /// JSON pointer or rule name; empty for the whole constraint.
    pub place: String,
    /// Keyword or terminal, or empty.
    pub keyword: String,
    /// What is left out, in words.
    pub reason: String,
}

impl Restriction {
    /// A restriction at a place.
    pub(crate) fn new(
        place: impl Into<String>,
        keyword: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            place: place.into(),
            keyword: keyword.into(),
            reason: reason.into(),
        }
    }
}
