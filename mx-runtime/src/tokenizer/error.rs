//! What can go wrong while a tokenizer is read or used.

use std::path::PathBuf;

/// Error of reading or using a tokenizer.
///
/// Every variant names the field or value at fault, so that a caller can show it as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the JSON that a tokenizer file should be.
    #[error("{file} is not a valid tokenizer file: {source}")]
    Json {
        /// Which of the two files: `tokenizer.json` or `tokenizer_config.json`.
        file: &'static str,
        /// Position and cause.
        source: serde_json::Error,
    },
    /// A key of a GGUF file has a value of the wrong type.
    #[error(transparent)]
    Metadata(#[from] crate::weights::WeightsError),
    /// A value exceeds one of [`TokenizerLimits`](super::TokenizerLimits).
    #[error("{what}: {given} exceeds the limit {limit_name} = {limit}")]
    LimitExceeded {
        /// What was too large.
        what: &'static str,
        /// The value found.
        given: u64,
        /// The field of `TokenizerLimits`.
        limit_name: &'static str,
        /// Its value.
        limit: u64,
    },
    /// A required field is missing.
    #[error("missing field {field}")]
    MissingField {
        /// Path of the field.
        field: &'static str,
    },
    /// An array has not one entry per token.
    #[error("{field} has {given} entries, wanted {wanted} (one per token)")]
    WrongLength {
        /// Path of the field.
        field: &'static str,
        /// Entries found.
        given: usize,
        /// Entries wanted.
        wanted: usize,
    },
    /// The file says that it carries no vocabulary.
    #[error("the file carries no tokenizer ({field} = {given:?})")]
    NoVocabulary {
        /// Path of the field that says so.
        field: &'static str,
        /// Its value.
        given: String,
    },
    /// The kind of tokenizer is not one of those implemented.
    #[error("{field} = {given:?} is not supported, known: {}", known.join(", "))]
    UnknownModel {
        /// Path of the field.
        field: &'static str,
        /// The value found.
        given: String,
        /// The values supported.
        known: &'static [&'static str],
    },
    /// The name of the pre-tokenizer is not in the table.
    #[error("tokenizer.ggml.pre = {given:?} is not a known pre-tokenizer, known: {}", known.join(", "))]
    UnknownPreTokenizer {
        /// The name found.
        given: String,
        /// The names in the table.
        known: Vec<&'static str>,
    },
    /// A component or setting is known and not supported.
    #[error("{field} = {given} is not supported: {reason}")]
    Unsupported {
        /// Path of the field.
        field: &'static str,
        /// The value found.
        given: String,
        /// Why not.
        reason: &'static str,
    },
    /// A merge cannot be used.
    #[error("merge {index} ({merge:?}): {reason}")]
    BadMerge {
        /// Position in the list of merges.
        index: usize,
        /// The merge as written.
        merge: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two ids have the same text.
    #[error("token {text:?} occurs twice, as id {first} and as id {second}")]
    DuplicateToken {
        /// The text.
        text: String,
        /// The id that had it first.
        first: u32,
        /// The id that repeats it.
        second: u32,
    },
    /// Two texts have the same id.
    #[error("id {id} is given to {first:?} and to {second:?}")]
    DuplicateId {
        /// The id.
        id: u32,
        /// The text that had it first.
        first: String,
        /// The text that repeats it.
        second: String,
    },
    /// A field names an id that the vocabulary does not have.
    #[error("{field} = {given} lies outside the vocabulary of {vocab_size} tokens")]
    IdOutOfRange {
        /// Path of the field.
        field: &'static str,
        /// The id found.
        given: u64,
        /// Number of ids.
        vocab_size: usize,
    },
    /// A field names a token that the vocabulary does not have.
    #[error("{field} = {given:?} is not a token of the vocabulary")]
    UnknownSpecialToken {
        /// Path of the field.
        field: &'static str,
        /// The text found.
        given: String,
    },
    /// A field has a value of the wrong kind.
    #[error("{field}: {given}, wanted {wanted}")]
    WrongValue {
        /// Path of the field.
        field: &'static str,
        /// The value found, shortened.
        given: String,
        /// What was wanted.
        wanted: &'static str,
    },
    /// An id handed in for decoding is not an id of this tokenizer.
    #[error("token id {id} lies outside the vocabulary of {vocab_size} tokens")]
    UnknownId {
        /// The id.
        id: u32,
        /// Number of ids.
        vocab_size: usize,
    },
    /// The vocabulary has no token for a piece of the text and no token for unknown text.
    #[error("the vocabulary cannot express {piece:?} and has no token for unknown text")]
    Unencodable {
        /// The character, in the alphabet of the vocabulary.
        piece: char,
    },
    /// A normaliser, pre-tokenizer or matcher refused its definition or its input.
    #[error("{part}: {source}")]
    Component {
        /// Which part.
        part: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl TokenizerError {
    pub(crate) fn component(
        part: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Component {
            part,
            source: source.into(),
        }
    }

    pub(crate) fn limit(
        what: &'static str,
        given: usize,
        limit_name: &'static str,
        limit: usize,
    ) -> Self {
        Self::LimitExceeded {
            what,
            given: given as u64,
            limit_name,
            limit: limit as u64,
        }
    }
}

/// A value shortened for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
