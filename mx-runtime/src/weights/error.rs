//! [`WeightsError`]: what a weight file can be refused for.

use std::path::PathBuf;

use super::TensorType;

/// Why a weight file, or one tensor of it, was refused.
///
/// Every variant that concerns a file names it and says which value stands where and what was wanted there. Offsets
/// are bytes from the start of the file. [`WeightsError::kind`] gives a short stable word per class.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system refused to open, read or map the file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: `open`, `map`, …
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The path leads to something that is no regular file.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The path given.
        path: PathBuf,
    },
    /// A folder holds neither `model.safetensors` nor its index.
    #[error("{}: the folder holds neither {single} nor {index}", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// Name of the single file looked for.
        single: &'static str,
        /// Name of the index looked for.
        index: &'static str,
    },
    /// The file ends inside a field.
    #[error("{}: file ends inside {field} at byte {offset}: {wanted} bytes wanted, {left} left", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where the field starts.
        offset: u64,
        /// The field.
        field: String,
        /// Bytes that the field needs.
        wanted: u64,
        /// Bytes that the file still has.
        left: u64,
    },
    /// The file does not begin with `GGUF`.
    #[error("{}: first bytes are {found:02x?}, a GGUF file begins with 47 47 55 46 (\"GGUF\")", path.display())]
    BadMagic {
        /// The file.
        path: PathBuf,
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// A GGUF version other than 2 and 3.
    #[error("{}: GGUF version {found}{}, supported are 2 and 3", path.display(), swapped_note(*found))]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The version field, read in little-endian order.
        found: u32,
    },
    /// A count announces more entries than the file has room for.
    #[error("{}: {field} at byte {offset} is {count}, the rest of the file has room for at most {most}", path.display())]
    CountExceedsFile {
        /// The file.
        path: PathBuf,
        /// Where the count stands.
        offset: u64,
        /// What is counted.
        field: String,
        /// The count.
        count: u64,
        /// What would fit.
        most: u64,
    },
    /// A string or array is longer than the rest of the file.
    #[error("{}: {field} at byte {offset} is {length}, the rest of the file has room for at most {most}", path.display())]
    LengthExceedsFile {
        /// The file.
        path: PathBuf,
        /// Where the length stands.
        offset: u64,
        /// What it is the length of.
        field: String,
        /// The length: bytes of a string, values of an array.
        length: u64,
        /// What would fit.
        most: u64,
    },
    /// A value is above a configurable limit.
    #[error("{}: {field} at byte {offset} is {given}, above the limit {limit} = {most}", path.display())]
    LimitExceeded {
        /// The file.
        path: PathBuf,
        /// Where the value stands.
        offset: u64,
        /// The field.
        field: String,
        /// Name of the limit, a field of `GgufLimits` or `SafetensorsLimits`.
        limit: &'static str,
        /// The value found.
        given: u64,
        /// The value allowed.
        most: u64,
    },
    /// Arrays in arrays go deeper than the limit `max_array_nesting` allows.
    #[error("{}: {field} at byte {offset} is nested deeper than max_array_nesting = {most}", path.display())]
    NestingTooDeep {
        /// The file.
        path: PathBuf,
        /// Where the array that is too deep starts.
        offset: u64,
        /// The field.
        field: String,
        /// Levels allowed.
        most: u64,
    },
    /// The header of a safetensors file is announced longer than the limit `max_header_bytes`.
    #[error("{}: the header length is {length}, above the limit max_header_bytes = {most}", path.display())]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// The length announced.
        length: u64,
        /// The length allowed.
        most: u64,
    },
    /// Text that is not UTF-8.
    #[error("{}: {field} at byte {offset} is not valid UTF-8", path.display())]
    InvalidUtf8 {
        /// The file.
        path: PathBuf,
        /// Where the text starts.
        offset: u64,
        /// The field.
        field: String,
    },
    /// A metadata value type that the format does not know.
    #[error("{}: {field} at byte {offset} is {found}, known are 0 to 12", path.display())]
    UnknownMetadataType {
        /// The file.
        path: PathBuf,
        /// Where the type stands.
        offset: u64,
        /// The field.
        field: String,
        /// The type id.
        found: u32,
    },
    /// A bool that is stored as neither 0 nor 1.
    #[error("{}: {field} at byte {offset} is a bool stored as {found}, wanted 0 or 1", path.display())]
    InvalidBool {
        /// The file.
        path: PathBuf,
        /// Where the byte stands.
        offset: u64,
        /// The field.
        field: String,
        /// The byte.
        found: u8,
    },
    /// A name that may occur once occurs twice: a metadata key, or an entry of a safetensors index.
    #[error("{}: {what} {key:?} occurs twice", path.display())]
    DuplicateKey {
        /// The file.
        path: PathBuf,
        /// What kind of name it is.
        what: &'static str,
        /// The name.
        key: String,
    },
    /// Two tensors have one name.
    #[error("{}: tensor {tensor:?} occurs twice", path.display())]
    DuplicateTensor {
        /// The file.
        path: PathBuf,
        /// The name.
        tensor: String,
    },
    /// `general.alignment` is no power of two.
    #[error("{}: general.alignment is {found}, wanted a power of two", path.display())]
    BadAlignment {
        /// The file.
        path: PathBuf,
        /// The value found.
        found: u32,
    },
    /// Dimensions that no tensor can have.
    #[error("{}: tensor {tensor:?} has dimensions {dims:?}: {reason}", path.display())]
    BadDimension {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its dimensions in the order of the file.
        dims: Vec<u64>,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// A tensor has more dimensions than allowed.
    #[error("{}: tensor {tensor:?} has {found} dimensions, above {limit} = {most}", path.display())]
    TooManyDimensions {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// How many it has.
        found: u64,
        /// What bounds them: a field of `SafetensorsLimits`, or the format itself.
        limit: &'static str,
        /// How many it may have.
        most: u64,
    },
    /// The rows of a tensor are no whole number of blocks.
    #[error(
        "{}: tensor {tensor:?} has rows of {row} values, {dtype} stores whole blocks of {block}",
        path.display()
    )]
    RowNotWholeBlocks {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// How its values are stored.
        dtype: &'static str,
        /// Values in one row.
        row: u64,
        /// Values in one block.
        block: u64,
    },
    /// A GGUF tensor type id that is not in use.
    #[error("{}: tensor {tensor:?} has type id {found}, which is unknown or withdrawn from the format", path.display())]
    UnknownTensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The id.
        found: u32,
    },
    /// A safetensors dtype that the format does not know.
    #[error("{}: tensor {tensor:?} has the unknown dtype {found:?}", path.display())]
    UnknownDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The dtype.
        found: String,
    },
    /// The tensor is well-formed, but its values cannot be used as weights here.
    #[error(
        "{}: tensor {tensor:?} is stored as {dtype}, which cannot be used as weights; supported are {}",
        path.display(),
        TensorType::names()
    )]
    UnsupportedDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// How its values are stored.
        dtype: &'static str,
    },
    /// A tensor does not start at a multiple of the alignment.
    #[error("{}: tensor {tensor:?} has offset {offset}, wanted a multiple of {alignment}", path.display())]
    Misaligned {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its offset from the data start.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// A tensor reaches beyond the file.
    #[error(
        "{}: tensor {tensor:?} wants {bytes} bytes at offset {offset}, but the data section has {available} bytes",
        path.display()
    )]
    OutOfBounds {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its offset from the data start.
        offset: u64,
        /// Its size.
        bytes: u64,
        /// Size of the data section.
        available: u64,
    },
    /// Two tensors share bytes.
    #[error("{}: tensor {second:?} starts at offset {offset}, inside tensor {first:?}", path.display())]
    Overlap {
        /// The file.
        path: PathBuf,
        /// The tensor that starts first.
        first: String,
        /// The tensor that starts inside it.
        second: String,
        /// Where the second one starts, from the data start.
        offset: u64,
    },
    /// Bytes of a safetensors file belong to no tensor.
    #[error("{}: {bytes} bytes at offset {offset} of the data belong to no tensor", path.display())]
    Gap {
        /// The file.
        path: PathBuf,
        /// Where they start, from the data start.
        offset: u64,
        /// How many they are.
        bytes: u64,
    },
    /// `data_offsets` of a safetensors entry end before they begin.
    #[error("{}: tensor {tensor:?} has data_offsets [{begin}, {end}], the end is before the begin", path.display())]
    BadOffsets {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// First byte.
        begin: u64,
        /// Byte after the last.
        end: u64,
    },
    /// `data_offsets` of a safetensors entry do not span what shape and dtype need.
    #[error(
        "{}: tensor {tensor:?} of shape {shape:?} and dtype {dtype} spans {given} bytes, {}",
        path.display(),
        wanted_bytes(*wanted)
    )]
    SizeMismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its dtype.
        dtype: &'static str,
        /// Bytes that the offsets span.
        given: u64,
        /// Bytes needed; none if the product of the shape overflows or is no whole number of bytes.
        wanted: Option<u64>,
    },
    /// The header of a safetensors file does not begin with `{`, as the format demands.
    #[error("{}: the header begins with byte {found:#04x}, wanted 0x7b ('{{')", path.display())]
    HeaderStart {
        /// The file.
        path: PathBuf,
        /// The first byte of the header.
        found: u8,
    },
    /// The JSON of a safetensors header or index is not as the format wants it.
    #[error("{}: invalid {what}: {source}", path.display())]
    InvalidHeader {
        /// The file.
        path: PathBuf,
        /// `safetensors header` or `safetensors index`.
        what: &'static str,
        /// What the JSON reader found, with line and column.
        source: serde_json::Error,
    },
    /// An index names a shard that is not a plain path inside its own folder.
    #[error("{}: tensor {tensor:?} is placed in {shard:?}, wanted a file inside the folder of the index", path.display())]
    ShardOutsideFolder {
        /// The index.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shard named.
        shard: String,
    },
    /// An index names a shard that does not exist.
    #[error("{}: shard {shard:?} does not exist, tensor {tensor:?} is placed in it", path.display())]
    MissingShard {
        /// The index.
        path: PathBuf,
        /// A tensor that should be in it.
        tensor: String,
        /// The shard named.
        shard: String,
    },
    /// A shard lacks a tensor that the index places there.
    #[error("{}: tensor {tensor:?} is not in shard {shard:?}, where the index places it", path.display())]
    MissingFromShard {
        /// The index.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shard.
        shard: String,
    },
    /// A metadata value has another type than asked for.
    #[error("{}: metadata key {key:?} holds {found}, wanted {wanted}", path.display())]
    WrongMetadataType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type found.
        found: &'static str,
        /// The type wanted.
        wanted: &'static str,
    },
    /// A metadata number does not fit the type asked for.
    #[error("{}: metadata key {key:?} holds {given}, which is no {wanted}", path.display())]
    MetadataOutOfRange {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The value found.
        given: String,
        /// The type wanted.
        wanted: &'static str,
    },
    /// A metadata key that is needed is absent.
    #[error("{}: metadata key {key:?} is missing", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// Bytes and values handed to a dequantiser do not belong together. The caller's mistake, so no file is named.
    #[error("{bytes} bytes of {dtype} do not hold {values} values: {}", block_note(*dtype))]
    BlockLength {
        /// How the values are stored.
        dtype: TensorType,
        /// Bytes given.
        bytes: usize,
        /// Values wanted.
        values: usize,
    },
}

impl WeightsError {
    /// A short stable word for the class of the error, for logs and machine-readable output.
    ///
    /// ```
    /// use mx_runtime::weights::{Gguf, WeightsError};
    ///
    /// let error: WeightsError = Gguf::from_bytes(Vec::new(), "empty.gguf").unwrap_err();
    /// assert_eq!(error.kind(), "truncated");
    /// ```
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::NotAFile { .. } => "not_a_file",
            Self::NoWeights { .. } => "no_weights",
            Self::Truncated { .. } => "truncated",
            Self::BadMagic { .. } => "bad_magic",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::CountExceedsFile { .. } => "count_exceeds_file",
            Self::LengthExceedsFile { .. } => "length_exceeds_file",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::NestingTooDeep { .. } => "nesting_too_deep",
            Self::HeaderTooLarge { .. } => "header_too_large",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::UnknownMetadataType { .. } => "unknown_metadata_type",
            Self::InvalidBool { .. } => "invalid_bool",
            Self::DuplicateKey { .. } => "duplicate_key",
            Self::DuplicateTensor { .. } => "duplicate_tensor",
            Self::BadAlignment { .. } => "bad_alignment",
            Self::BadDimension { .. }
            | Self::TooManyDimensions { .. }
            | Self::RowNotWholeBlocks { .. } => "bad_dimension",
            Self::UnknownTensorType { .. } => "unknown_tensor_type",
            Self::UnknownDtype { .. } => "unknown_dtype",
            Self::UnsupportedDtype { .. } => "unsupported_dtype",
            Self::Misaligned { .. } => "misaligned",
            Self::OutOfBounds { .. } => "out_of_bounds",
            Self::Overlap { .. } => "overlap",
            Self::Gap { .. } => "gap",
            Self::BadOffsets { .. } => "bad_offsets",
            Self::SizeMismatch { .. } => "size_mismatch",
            Self::HeaderStart { .. } | Self::InvalidHeader { .. } => "invalid_header",
            Self::ShardOutsideFolder { .. } => "shard_outside_folder",
            Self::MissingShard { .. } => "missing_shard",
            Self::MissingFromShard { .. } => "missing_from_shard",
            Self::WrongMetadataType { .. } => "wrong_metadata_type",
            Self::MetadataOutOfRange { .. } => "metadata_out_of_range",
            Self::MissingKey { .. } => "missing_key",
            Self::BlockLength { .. } => "block_length",
        }
    }
}

fn swapped_note(found: u32) -> &'static str {
    match found.swap_bytes() {
        2 | 3 => " (a big-endian file)",
        _ => "",
    }
}

fn wanted_bytes(wanted: Option<u64>) -> String {
    match wanted {
        Some(bytes) => format!("wanted {bytes}"),
        None => "wanted a whole number of bytes below 2^64".to_owned(),
    }
}

fn block_note(dtype: TensorType) -> String {
    format!(
        "{} values take {} bytes",
        dtype.block_values(),
        dtype.block_bytes()
    )
}
