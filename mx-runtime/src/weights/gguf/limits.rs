//! [`GgufLimits`].

/// Bounds on what a GGUF header may announce, beyond those that the file's own size sets.
///
/// The defaults leave room for every published model. Start from [`GgufLimits::default`] and change single fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GgufLimits {
    /// Metadata pairs. Default 65 536; published files have some dozens.
    pub max_metadata_pairs: u64,
    /// Tensors. Default 65 536; the largest published files have some thousands.
    pub max_tensors: u64,
    /// Bytes of a metadata key. Default 65 535, as the format says.
    pub max_key_bytes: u64,
    /// Bytes of a tensor name. Default 64, as the format says.
    pub max_tensor_name_bytes: u64,
    /// Bytes of one string in the metadata. Default 16 MiB.
    pub max_string_bytes: u64,
    /// Values in one metadata array. Default 16 777 216.
    pub max_array_values: u64,
    /// Levels of arrays in arrays: 1 allows plain arrays only. Default 4, and never more than 64, which bounds the
    /// depth of the reader's recursion.
    pub max_array_nesting: u64,
}

impl Default for GgufLimits {
    fn default() -> Self {
        Self {
            max_metadata_pairs: 1 << 16,
            max_tensors: 1 << 16,
            max_key_bytes: u16::MAX.into(),
            max_tensor_name_bytes: 64,
            max_string_bytes: 16 << 20,
            max_array_values: 1 << 24,
            max_array_nesting: 4,
        }
    }
}
