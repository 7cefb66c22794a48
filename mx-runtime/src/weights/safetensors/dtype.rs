//! The dtypes of the safetensors format.

use super::super::{StoredType, TensorType};

/// Name in the file, bits of a value, and what it is to us.
const DTYPES: [(&str, u64, StoredType); 22] = [
    ("F32", 32, StoredType::Weights(TensorType::F32)),
    ("F16", 16, StoredType::Weights(TensorType::F16)),
    ("BF16", 16, StoredType::Weights(TensorType::BF16)),
    ("BOOL", 8, StoredType::Other("bool")),
    ("F4", 4, StoredType::Other("f4")),
    ("F6_E2M3", 6, StoredType::Other("f6_e2m3")),
    ("F6_E3M2", 6, StoredType::Other("f6_e3m2")),
    ("U8", 8, StoredType::Other("u8")),
    ("I8", 8, StoredType::Other("i8")),
    ("F8_E5M2", 8, StoredType::Other("f8_e5m2")),
    ("F8_E4M3", 8, StoredType::Other("f8_e4m3")),
    ("F8_E8M0", 8, StoredType::Other("f8_e8m0")),
    ("F8_E4M3FNUZ", 8, StoredType::Other("f8_e4m3fnuz")),
    ("F8_E5M2FNUZ", 8, StoredType::Other("f8_e5m2fnuz")),
    ("I16", 16, StoredType::Other("i16")),
    ("U16", 16, StoredType::Other("u16")),
    ("I32", 32, StoredType::Other("i32")),
    ("U32", 32, StoredType::Other("u32")),
    ("C64", 64, StoredType::Other("c64")),
    ("F64", 64, StoredType::Other("f64")),
    ("I64", 64, StoredType::Other("i64")),
    ("U64", 64, StoredType::Other("u64")),
];

/// Type and bits per value of a dtype by its name in the file.
pub(super) fn dtype(name: &str) -> Option<(StoredType, u64)> {
    let &(_, bits, dtype) = DTYPES.iter().find(|(known, ..)| *known == name)?;
    Some((dtype, bits))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn agrees_with_the_reference_crate() {
        for (name, bits, dtype) in DTYPES {
            let reference: safetensors::Dtype =
                serde_json::from_str(&format!("\"{name}\"")).unwrap();
            assert_eq!(reference.bitsize() as u64, bits, "{name}");
            assert_eq!(dtype.name(), name.to_lowercase());
        }
    }
}
