//! Everything that can go wrong, with the place, the value given and the value wanted.

use thiserror::Error;

use crate::Refusal;

/// Why a constraint could not be compiled or a matcher could not go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConstrainError {
    /// A JSON Schema says something that cannot be read or cannot be honoured exactly.
    #[error("schema at `{pointer}`: `{keyword}` {reason}")]
    Schema {
        /// JSON pointer to the schema object, as a URI fragment without `#`; empty for the root.
        pointer: String,
        /// The keyword.
        keyword: String,
        /// What is wrong with it, as the rest of a sentence that begins with the keyword.
        reason: String,
    },
    /// No text satisfies the constraint.
    #[error("no text satisfies the constraint{}: {reason}", at(place))]
    Unsatisfiable {
        /// Where the contradiction was seen: a JSON pointer, a rule name, or empty.
        place: String,
        /// The contradiction in words.
        reason: String,
    },
    /// A regular expression cannot be read or is not regular.
    #[error("pattern `{}` at byte {position}: {reason}", excerpt(pattern))]
    Pattern {
        /// The whole pattern.
        pattern: String,
        /// Byte offset into it.
        position: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A grammar cannot be read or names what it does not define.
    #[error("grammar at line {line}, column {column}: {reason}")]
    Grammar {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
        /// The text of that line, cut to a readable length.
        excerpt: String,
    },
    /// A constraint would cost more than it may.
    #[error("the limit {limit} = {max} is exceeded")]
    Limit {
        /// Field of [`Limits`](crate::Limits).
        limit: &'static str,
        /// Its value.
        max: u64,
    },
    /// A vocabulary cannot be built from what was given.
    #[error("vocabulary: {reason}")]
    Vocabulary {
        /// What is wrong.
        reason: &'static str,
        /// The token or count that shows it.
        given: u64,
    },
    /// A token id lies outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab} tokens")]
    NoSuchToken {
        /// The id that was given.
        token: u32,
        /// Number of ids.
        vocab: usize,
    },
    /// A token was committed that the constraint does not allow there.
    #[error("token {token} is not allowed here: {refusal}")]
    TokenRefused {
        /// The id that was given.
        token: u32,
        /// Which part of the constraint refuses it.
        refusal: Refusal,
    },
    /// More tokens were to be taken back than were committed.
    #[error("cannot take back {given} tokens: {committed} were committed")]
    RollbackTooFar {
        /// Tokens to take back.
        given: usize,
        /// Tokens that were committed.
        committed: usize,
    },
    /// A row of logits or mask words has the wrong length.
    #[error("{what} has {given} elements, but the vocabulary wants {wanted}")]
    Length {
        /// What was given.
        what: &'static str,
        /// Its length.
        given: usize,
        /// The length wanted.
        wanted: usize,
    },
}

impl ConstrainError {
    /// Whether the constraint itself is at fault (it cannot be read, honoured or satisfied), as opposed to a limit or
    /// to how a matcher was used.
    #[must_use]
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Self::Schema { .. }
                | Self::Unsatisfiable { .. }
                | Self::Pattern { .. }
                | Self::Grammar { .. }
        )
    }

    /// Whether a limit was exceeded. A higher one may help.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Limit { .. })
    }
}

fn at(place: &str) -> String {
    match place.is_empty() {
        true => String::new(),
        false => format!(" at `{place}`"),
    }
}

/// Longest part of a pattern that a message repeats, in characters.
const EXCERPT: usize = 80;

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
