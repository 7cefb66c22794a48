//! How close the accepted language is to what was asked for.

use serde::{Deserialize, Serialize};

/// How the language that a constraint accepts relates to the language that was asked for.
///
/// A constraint never accepts more than was asked for. Where it accepts less, each restriction is listed with the place
/// it comes from.
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
