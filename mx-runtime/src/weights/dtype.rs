//! [`TensorType`]: how the values of a weight tensor are stored, and [`StoredType`]: the same for any tensor of a file.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the values of a weight tensor are stored.
///
/// Three plain float types and the block-quantised types of GGUF. A block holds [`block_values`](Self::block_values)
/// values in [`block_bytes`](Self::block_bytes) bytes; the plain types are blocks of one value. Serialised as the lower
/// case name: `"q4_1"`.
#[allow(non_camel_case_types)] // the names the formats use
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TensorType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    BF16,
    /// 4 bits and an f16 scale per 32 values.
    Q4_0,
    /// 4 bits, an f16 scale and an f16 minimum per 32 values.
    Q4_1,
    /// 5 bits and an f16 scale per 32 values.
    Q5_0,
    /// 5 bits, an f16 scale and an f16 minimum per 32 values.
    Q5_1,
    /// 8 bits and an f16 scale per 32 values.
    Q8_0,
    /// 2 bits in super-blocks of 256, a 4-bit scale and minimum per 16 values.
    Q2_K,
    /// 3 bits in super-blocks of 256, a 6-bit scale per 16 values.
    Q3_K,
    /// 4 bits in super-blocks of 256, a 6-bit scale and minimum per 32 values.
    Q4_K,
    /// 5 bits in super-blocks of 256, a 6-bit scale and minimum per 32 values.
    Q5_K,
    /// 6 bits in super-blocks of 256, an 8-bit scale per 16 values.
    Q6_K,
    /// 4-bit indices into a non-linear table, an f16 scale per 32 values.
    IQ4_NL,
    /// The table of `IQ4_NL` in super-blocks of 256, a 6-bit scale per 32 values.
    IQ4_XS,
    /// 4-bit floats (E2M1) with a power of two as scale per 32 values.
    MXFP4,
}

impl TensorType {
    /// Every type, in the order of declaration.
    pub const ALL: [Self; 16] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::MXFP4,
    ];

    /// The type with this id in a GGUF file, if it is one whose values can be used as weights.
    pub fn from_ggml(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.ggml_id() == id)
    }

    /// The id of this type in a GGUF file.
    pub const fn ggml_id(self) -> u32 {
        self.layout().ggml_id
    }

    /// Values in one block.
    pub const fn block_values(self) -> usize {
        self.layout().block_values
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        self.layout().block_bytes
    }

    /// Bytes that hold `values` values; none if they are no whole number of blocks or the size overflows.
    ///
    /// ```
    /// use mx_runtime::weights::TensorType;
    ///
    /// assert_eq!(TensorType::Q4_1.bytes_for(64), Some(40));
    /// assert_eq!(TensorType::Q4_1.bytes_for(33), None);
    /// ```
    pub const fn bytes_for(self, values: usize) -> Option<usize> {
        if !values.is_multiple_of(self.block_values()) {
            return None;
        }
        (values / self.block_values()).checked_mul(self.block_bytes())
    }

    /// The lower case name, as it is serialised: `q4_1`.
    pub const fn name(self) -> &'static str {
        self.layout().name
    }

    /// All names separated by commas, for messages.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    const fn layout(self) -> Layout {
        match self {
            Self::F32 => Layout::new(0, 1, 4, "f32"),
            Self::F16 => Layout::new(1, 1, 2, "f16"),
            Self::BF16 => Layout::new(30, 1, 2, "bf16"),
            Self::Q4_0 => Layout::new(2, 32, 18, "q4_0"),
            Self::Q4_1 => Layout::new(3, 32, 20, "q4_1"),
            Self::Q5_0 => Layout::new(6, 32, 22, "q5_0"),
            Self::Q5_1 => Layout::new(7, 32, 24, "q5_1"),
            Self::Q8_0 => Layout::new(8, 32, 34, "q8_0"),
            Self::Q2_K => Layout::new(10, 256, 84, "q2_k"),
            Self::Q3_K => Layout::new(11, 256, 110, "q3_k"),
            Self::Q4_K => Layout::new(12, 256, 144, "q4_k"),
            Self::Q5_K => Layout::new(13, 256, 176, "q5_k"),
            Self::Q6_K => Layout::new(14, 256, 210, "q6_k"),
            Self::IQ4_NL => Layout::new(20, 32, 18, "iq4_nl"),
            Self::IQ4_XS => Layout::new(23, 256, 136, "iq4_xs"),
            Self::MXFP4 => Layout::new(39, 32, 17, "mxfp4"),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// How any tensor of a file is stored, whether or not it can be used as weights.
///
/// Checkpoints hold mask buffers and index tables beside their weights, and GGUF knows rare block types. Such tensors
/// do not make a file unreadable: they are listed, and only asking for their values is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoredType {
    /// Values that can be used as weights.
    Weights(TensorType),
    /// Anything else, by its name in the format: `i64`, `bool`, `iq2_xxs`, …
    Other(&'static str),
}

impl StoredType {
    /// The lower case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Weights(dtype) => dtype.name(),
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// The four facts about a block type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) ggml_id: u32,
    pub(super) block_values: usize,
    pub(super) block_bytes: usize,
    pub(super) name: &'static str,
}

impl Layout {
    pub(super) const fn new(
        ggml_id: u32,
        block_values: usize,
        block_bytes: usize,
        name: &'static str,
    ) -> Self {
        Self {
            ggml_id,
            block_values,
            block_bytes,
            name,
        }
    }
}

/// GGUF types whose size is known, so that a file that holds them can be checked and listed, but whose values cannot
/// be used as weights here.
const OTHER_GGML_TYPES: [Layout; 19] = [
    Layout::new(9, 32, 36, "q8_1"),
    Layout::new(15, 256, 292, "q8_k"),
    Layout::new(16, 256, 66, "iq2_xxs"),
    Layout::new(17, 256, 74, "iq2_xs"),
    Layout::new(18, 256, 98, "iq3_xxs"),
    Layout::new(19, 256, 50, "iq1_s"),
    Layout::new(21, 256, 110, "iq3_s"),
    Layout::new(22, 256, 82, "iq2_s"),
    Layout::new(24, 1, 1, "i8"),
    Layout::new(25, 1, 2, "i16"),
    Layout::new(26, 1, 4, "i32"),
    Layout::new(27, 1, 8, "i64"),
    Layout::new(28, 1, 8, "f64"),
    Layout::new(29, 256, 56, "iq1_m"),
    Layout::new(34, 256, 54, "tq1_0"),
    Layout::new(35, 256, 66, "tq2_0"),
    Layout::new(40, 64, 36, "nvfp4"),
    Layout::new(41, 128, 18, "q1_0"),
    Layout::new(42, 64, 18, "q2_0"),
];

/// Type and layout for a type id of GGUF; none for ids that are unknown or withdrawn.
pub(super) fn stored_ggml_type(id: u32) -> Option<(StoredType, Layout)> {
    if let Some(dtype) = TensorType::from_ggml(id) {
        return Some((StoredType::Weights(dtype), dtype.layout()));
    }
    let layout = OTHER_GGML_TYPES
        .into_iter()
        .find(|layout| layout.ggml_id == id)?;
    Some((StoredType::Other(layout.name), layout))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ids_and_names_are_unique_and_lead_back() {
        let mut ids: Vec<u32> = OTHER_GGML_TYPES
            .iter()
            .map(|layout| layout.ggml_id)
            .collect();
        for dtype in TensorType::ALL {
            assert_eq!(TensorType::from_ggml(dtype.ggml_id()), Some(dtype));
            let json = serde_json::to_string(&dtype).unwrap();
            assert_eq!(json, format!("\"{dtype}\""));
            assert_eq!(serde_json::from_str::<TensorType>(&json).unwrap(), dtype);
            ids.push(dtype.ggml_id());
        }
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn withdrawn_ids_are_unknown() {
        for id in [4, 5, 31, 32, 33, 36, 37, 38, 77, u32::MAX] {
            assert!(stored_ggml_type(id).is_none(), "{id}");
        }
    }

    #[test]
    fn sizes_that_overflow_are_none() {
        assert_eq!(TensorType::F32.bytes_for(usize::MAX / 2), None);
        assert_eq!(TensorType::F32.bytes_for(0), Some(0));
    }
}
