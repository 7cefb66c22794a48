//! [`dequantize_into`]: from stored blocks to f32, bit for bit as ggml does it.
//!
//! The result of a block type is fixed to the last bit by the order of its operations: scales are multiplied with each
//! other first, then with the quant, then the minimum is added or subtracted, each step rounded to f32. Rust never
//! fuses a multiplication and an addition by itself, so the plain expressions below are exact.
//!
//! All block types are little-endian. Every loop works on arrays of fixed size, which lets the compiler vectorise it
//! without bounds checks.

use self::float::{bf16_to_f32, f16_to_f32};
use super::{TensorType, WeightsError};

mod float;
mod k_quants;
mod legacy;
mod table;

/// Writes the values of `bytes`, stored as `dtype`, to `out`.
///
/// ```
/// use mx_runtime::weights::{TensorType, dequantize_into};
///
/// let mut out = [0.0; 2];
/// dequantize_into(TensorType::BF16, &[0x80, 0x3f, 0x00, 0x40], &mut out)?;
/// assert_eq!(out, [1.0, 2.0]);
/// # Ok::<(), mx_runtime::weights::WeightsError>(())
/// ```
///
/// # Errors
/// [`WeightsError::BlockLength`] unless `bytes` is exactly what `out.len()` values take; `out` is then untouched.
pub fn dequantize_into(
    dtype: TensorType,
    bytes: &[u8],
    out: &mut [f32],
) -> Result<(), WeightsError> {
    if dtype.bytes_for(out.len()) != Some(bytes.len()) {
        return Err(WeightsError::BlockLength {
            dtype,
            bytes: bytes.len(),
            values: out.len(),
        });
    }
    match dtype {
        TensorType::F32 => each_block(bytes, out, |block: &[u8; 4], [value]| {
            *value = f32::from_le_bytes(*block)
        }),
        TensorType::F16 => each_block(bytes, out, |block: &[u8; 2], [value]| {
            *value = f16_to_f32(u16::from_le_bytes(*block));
        }),
        TensorType::BF16 => each_block(bytes, out, |block: &[u8; 2], [value]| {
            *value = bf16_to_f32(u16::from_le_bytes(*block));
        }),
        TensorType::Q4_0 => each_block(bytes, out, legacy::q4_0),
        TensorType::Q4_1 => each_block(bytes, out, legacy::q4_1),
        TensorType::Q5_0 => each_block(bytes, out, legacy::q5_0),
        TensorType::Q5_1 => each_block(bytes, out, legacy::q5_1),
        TensorType::Q8_0 => each_block(bytes, out, legacy::q8_0),
        TensorType::Q2_K => each_block(bytes, out, k_quants::q2_k),
        TensorType::Q3_K => each_block(bytes, out, k_quants::q3_k),
        TensorType::Q4_K => each_block(bytes, out, k_quants::q4_k),
        TensorType::Q5_K => each_block(bytes, out, k_quants::q5_k),
        TensorType::Q6_K => each_block(bytes, out, k_quants::q6_k),
        TensorType::IQ4_NL => each_block(bytes, out, table::iq4_nl),
        TensorType::IQ4_XS => each_block(bytes, out, table::iq4_xs),
        TensorType::MXFP4 => each_block(bytes, out, table::mxfp4),
    }
    Ok(())
}

fn each_block<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    dequantize: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (values, _) = out.as_chunks_mut::<VALUES>();
    for (block, values) in blocks.iter().zip(values) {
        dequantize(block, values);
    }
}

/// The `N` bytes at `AT` of a block; both are constants, so the check is made when compiling.
fn field<const AT: usize, const N: usize, const BYTES: usize>(block: &[u8; BYTES]) -> &[u8; N] {
    const { assert!(AT + N <= BYTES) }
    block[AT..]
        .first_chunk()
        .expect("checked above when compiling")
}

/// The f16 at `AT` of a block.
fn scale<const AT: usize, const BYTES: usize>(block: &[u8; BYTES]) -> f32 {
    f16_to_f32(u16::from_le_bytes(*field::<AT, 2, BYTES>(block)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for dtype in TensorType::ALL {
            let bytes = vec![0; 2 * dtype.block_bytes()];
            let mut out = vec![1.0; 2 * dtype.block_values()];
            dequantize_into(dtype, &bytes, &mut out).unwrap();
            assert!(
                out.iter().all(|&value| value == 0.0),
                "{dtype}: zero bytes are zeros"
            );
            assert!(
                dequantize_into(dtype, &bytes[1..], &mut out).is_err(),
                "{dtype}"
            );
            assert!(
                dequantize_into(dtype, &bytes, &mut out[1..]).is_err(),
                "{dtype}"
            );
            assert!(dequantize_into(dtype, &[], &mut []).is_ok(), "{dtype}");
        }
    }
}
