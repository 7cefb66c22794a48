//! Files of steering vectors and of the pairs they are made from.
//!
//! | format | read | write | what it holds |
//! |---|---|---|---|
//! | [`native`] safetensors | yes | yes | everything |
//! | [`mechanex`] JSON | yes | yes | layers and numbers; acts at `resid_pre` |
//! | [`gguf`] of llama.cpp and repeng | yes | yes | layers from 1 on, at `resid_post` |
//! | [`svec`] JSON of IBM's activation-steering | yes | no | layers and numbers; acts at `resid_post` |
//! | [`pairs`] JSONL | yes | yes | contrastive pairs |
//!
//! Pickled files are never read. Nothing in a file is trusted: every count is bounded by what the file holds or by a
//! field of [`Limits`], which the error names.

pub mod gguf;
pub mod mechanex;
pub mod native;
pub mod pairs;
pub mod safetensors;
pub mod svec;

use crate::error::SteeringError;
use crate::model::Warning;
use crate::vector::SteeringVector;
use std::io::Read;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bounds on files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes of a file.
    pub file_bytes: u64,
    /// Most bytes of the header of a safetensors file.
    pub header_bytes: u64,
    /// Most tensors, metadata keys or layers of a file.
    pub entries: usize,
    /// Most bytes of a string in a GGUF file.
    pub string_bytes: usize,
    /// Most bytes of a line of a JSONL file.
    pub line_bytes: usize,
    /// Most pairs of a JSONL file.
    pub pairs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            file_bytes: 4 << 30,
            header_bytes: 16 << 20,
            entries: 16_384,
            string_bytes: 1 << 20,
            line_bytes: 4 << 20,
            pairs: 1_000_000,
        }
    }
}

/// Why a file cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are none of the formats.
    #[error(
        "the file is no steering vector: it begins with {given:?}; wanted GGUF, safetensors or JSON"
    )]
    Unrecognised {
        /// The first bytes.
        given: String,
    },
    /// A limit was exceeded.
    #[error("{what} is {given}, the limit {limit_name} is {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// How large it is.
        given: u64,
        /// The field of [`Limits`].
        limit_name: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The file ends too early.
    #[error("the file ends in {what}: {given} bytes are left, {wanted} are needed")]
    Truncated {
        /// Where it ends.
        what: String,
        /// Bytes left.
        given: u64,
        /// Bytes needed.
        wanted: u64,
    },
    /// A field has a value that cannot be.
    #[error("{field} is {given}, wanted {wanted}")]
    Field {
        /// The field, with the tensor's name where it belongs to one.
        field: String,
        /// The value given.
        given: String,
        /// The value wanted.
        wanted: String,
    },
    /// A key stands twice.
    #[error("{what} {name:?} stands twice")]
    Twice {
        /// What kind of key.
        what: &'static str,
        /// The key.
        name: String,
    },
    /// The text is no JSON.
    #[error("{what}, line {line}, column {column}: {reason}")]
    Json {
        /// Which text.
        what: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser met.
        reason: String,
    },
    /// A line of a JSONL file is no pair.
    #[error("line {line}: {reason}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// The format cannot hold the vector.
    #[error("a {format} file cannot hold {what}: {reason}")]
    CannotHold {
        /// The format.
        format: &'static str,
        /// What it cannot hold.
        what: String,
        /// Why.
        reason: &'static str,
    },
    /// The numbers make no vector.
    #[error(transparent)]
    Vector(#[from] Box<SteeringError>),
}

impl From<SteeringError> for FormatError {
    fn from(error: SteeringError) -> Self {
        FormatError::Vector(Box::new(error))
    }
}

impl FormatError {
    /// Whether the file system failed, rather than the content.
    pub fn is_io(&self) -> bool {
        matches!(self, FormatError::Io { .. })
    }

    pub(crate) fn field(
        field: impl Into<String>,
        given: impl ToString,
        wanted: impl ToString,
    ) -> Self {
        FormatError::Field {
            field: field.into(),
            given: excerpt(&given.to_string()),
            wanted: wanted.to_string(),
        }
    }

    pub(crate) fn json(what: impl Into<String>, error: &serde_json::Error) -> Self {
        FormatError::Json {
            what: what.into(),
            line: error.line(),
            column: error.column(),
            reason: excerpt(&error.to_string()),
        }
    }
}

/// A text cut to a length fit for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 120;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The kinds of vector files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Our own safetensors.
    Native,
    /// Mechanex JSON.
    Mechanex,
    /// Control-vector GGUF.
    Gguf,
    /// IBM's JSON; read only.
    Svec,
}

impl Format {
    /// The format that a file name asks for: `.safetensors`, `.json`, `.gguf` or `.svec`.
    pub fn of_path(path: &Path) -> Option<Format> {
        Some(
            match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
                "safetensors" => Format::Native,
                "json" => Format::Mechanex,
                "gguf" => Format::Gguf,
                "svec" => Format::Svec,
                _ => return None,
            },
        )
    }

    /// The format of a file's bytes.
    fn of_bytes(bytes: &[u8]) -> Option<Format> {
        if bytes.starts_with(gguf::MAGIC) {
            return Some(Format::Gguf);
        }
        // a safetensors file begins with the header's length, so its ninth byte opens the JSON
        if bytes.get(8) == Some(&b'{') && bytes.get(7) == Some(&0) {
            return Some(Format::Native);
        }
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
        (*first == b'{').then_some(Format::Mechanex)
    }
}

/// Reads a vector, whatever its format.
///
/// # Errors
/// [`FormatError`].
pub fn read(bytes: &[u8], limits: &Limits) -> Result<SteeringVector, FormatError> {
    let unrecognised = || FormatError::Unrecognised {
        given: String::from_utf8_lossy(&bytes[..bytes.len().min(16)]).into_owned(),
    };
    match Format::of_bytes(bytes).ok_or_else(unrecognised)? {
        Format::Gguf => gguf::read(bytes, limits),
        Format::Native => native::read(bytes, limits),
        Format::Mechanex | Format::Svec if svec::looks_like(bytes) => svec::read(bytes, limits),
        Format::Mechanex | Format::Svec => mechanex::read(bytes, limits),
    }
}

/// Reads a vector's file; a vector without a name gets that of the file.
///
/// # Errors
/// [`FormatError`].
pub fn load(path: &Path, limits: &Limits) -> Result<SteeringVector, FormatError> {
    let mut vector = read(&read_bytes(path, limits)?, limits)?;
    if vector.name.is_empty() {
        vector.name = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
    }
    Ok(vector)
}

/// The bytes of a vector in a format, and what the format lost of it.
///
/// # Errors
/// [`FormatError::CannotHold`] where nothing of it can be kept.
pub fn write(
    vector: &SteeringVector,
    format: Format,
) -> Result<(Vec<u8>, Vec<Warning>), FormatError> {
    match format {
        Format::Native => native::write(vector).map(|bytes| (bytes, Vec::new())),
        Format::Mechanex => mechanex::write(vector),
        Format::Gguf => gguf::write(vector),
        Format::Svec => Err(FormatError::CannotHold {
            format: "svec",
            what: vector.display_name(),
            reason: "this format is only read",
        }),
    }
}

/// Writes a vector to a file, in the format that the file's name asks for.
///
/// # Errors
/// [`FormatError`]; the file is then as it was before.
pub fn save(vector: &SteeringVector, path: &Path) -> Result<Vec<Warning>, FormatError> {
    let format = Format::of_path(path).ok_or_else(|| {
        FormatError::field(
            "file name",
            path.display(),
            "one that ends in .safetensors, .json or .gguf",
        )
    })?;
    let (bytes, warnings) = write(vector, format)?;
    crate::store::write_atomically(path, &bytes).map_err(|source| FormatError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(warnings)
}

/// A whole file, if it is not too long.
pub(crate) fn read_bytes(path: &Path, limits: &Limits) -> Result<Vec<u8>, FormatError> {
    let io = |source| FormatError::Io {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(limits.file_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    let given = bytes.len() as u64;
    if given > limits.file_bytes {
        return Err(FormatError::Limit {
            what: format!("length of {}", path.display()),
            given,
            limit_name: "file_bytes",
            limit: limits.file_bytes,
        });
    }
    Ok(bytes)
}

/// Bytes that are read from front to back, never past their end.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], FormatError> {
        let truncated = FormatError::Truncated {
            what: what.to_owned(),
            given: self.rest.len() as u64,
            wanted: count,
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, FormatError> {
        let bytes = self.take(4, what)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, FormatError> {
        let bytes = self.take(8, what)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }
}

/// Little-endian f32 numbers.
pub(crate) fn f32_values(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
