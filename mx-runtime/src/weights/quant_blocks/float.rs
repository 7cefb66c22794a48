//! Half-precision floats, written so that loops over them vectorise.

/// Exact value of an IEEE half.
///
/// The exponent is moved into place and corrected by one multiplication with 2^112, which also turns subnormal halves
/// into normal singles. Infinities and NaN (payload kept) end at 2^16 or above, where their exponent is set to all ones.
pub(super) fn f16_to_f32(bits: u16) -> f32 {
    const EXPONENT_SHIFT: f32 = f32::from_bits((127 + 112) << 23);
    const EXPONENT_ALL_ONES: u32 = 0xff << 23;
    const FIRST_NOT_FINITE: f32 = 65536.0;
    let sign = u32::from(bits & 0x8000) << 16;
    let scaled = f32::from_bits(u32::from(bits & 0x7fff) << 13) * EXPONENT_SHIFT;
    let exponent = if scaled >= FIRST_NOT_FINITE {
        EXPONENT_ALL_ONES
    } else {
        0
    };
    f32::from_bits(scaled.to_bits() | exponent | sign)
}

/// Exact value of a bfloat16.
pub(super) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Half of the power of two that an E8M0 byte stands for: 2^(bits-128). The tables it scales are doubled.
pub(super) fn e8m0_half_to_f32(bits: u8) -> f32 {
    match bits {
        0 | 1 => f32::from_bits(0x0020_0000 << bits), // subnormal
        _ => f32::from_bits((u32::from(bits) - 1) << 23),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_halves_agree_with_the_half_crate() {
        for bits in 0..=u16::MAX {
            for (ours, theirs) in [
                (f16_to_f32(bits), half::f16::from_bits(bits).to_f32()),
                (bf16_to_f32(bits), half::bf16::from_bits(bits).to_f32()),
            ] {
                if theirs.is_nan() {
                    assert!(ours.is_nan(), "{bits:#06x}");
                } else {
                    assert_eq!(ours.to_bits(), theirs.to_bits(), "{bits:#06x}");
                }
            }
        }
    }

    #[test]
    fn block_exponents_are_powers_of_two() {
        for bits in 0..=u8::MAX {
            let wanted = 2f64.powi(i32::from(bits) - 128);
            assert_eq!(f64::from(e8m0_half_to_f32(bits)), wanted, "{bits}");
        }
    }
}
