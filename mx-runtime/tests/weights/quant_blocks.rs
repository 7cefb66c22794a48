//! Dequantisation against ggml's values, bit for bit.

use mx_runtime::weights::{TensorType, dequantize_into};

use crate::{base64, json};

#[test]
fn every_required_row_is_equal_to_the_last_bit() {
    let file = json("gguf/quant_blocks.json");
    let mut rows = 0;
    for (name, facts) in file["types"].as_object().unwrap() {
        let dtype = TensorType::from_ggml(facts["ggml_type"].as_u64().unwrap() as u32);
        let Some(dtype) = dtype else {
            assert_eq!(facts["required"], false, "{name} is required");
            continue;
        };
        assert_eq!(dtype.name(), name.to_lowercase());
        assert_eq!(facts["block_values"], dtype.block_values());
        assert_eq!(facts["block_bytes"], dtype.block_bytes());
        for row in facts["rows"].as_array().unwrap() {
            check_row(dtype, row);
            rows += 1;
        }
    }
    assert!(rows >= 16 * 8, "{rows} rows");
}

fn check_row(dtype: TensorType, row: &serde_json::Value) {
    let raw = base64::decode(row["raw"].as_str().unwrap());
    let wanted = base64::decode(row["f32"].as_str().unwrap());
    let mut out = vec![f32::NAN; row["n"].as_u64().unwrap() as usize];
    dequantize_into(dtype, &raw, &mut out).unwrap();
    assert_eq!(wanted.len(), 4 * out.len());
    for (index, (given, wanted)) in out.iter().zip(wanted.as_chunks().0).enumerate() {
        let wanted = f32::from_le_bytes(*wanted);
        let same = given.to_bits() == wanted.to_bits() || (*given == 0.0 && wanted == 0.0);
        assert!(
            same,
            "{dtype} {} value {index}: {given:e}, wanted {wanted:e}",
            row["row"]
        );
    }
}
