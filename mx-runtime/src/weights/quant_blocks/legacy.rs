//! The block types of 32 values with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! In the 4- and 5-bit types byte `j` of `qs` holds value `j` in its low and value `j + 16` in its high nibble.

use super::{field, scale};

const HALF: usize = 16;

/// `d: f16, qs: [u8; 16]`: `(q - 8) * d`.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = scale::<0, 18>(block);
    let qs = field::<2, 16, 18>(block);
    let (low, high) = halves(out);
    for j in 0..HALF {
        low[j] = (i32::from(qs[j] & 0xf) - 8) as f32 * d;
        high[j] = (i32::from(qs[j] >> 4) - 8) as f32 * d;
    }
}

/// `d: f16, m: f16, qs: [u8; 16]`: `q * d + m`.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let d = scale::<0, 20>(block);
    let m = scale::<2, 20>(block);
    let qs = field::<4, 16, 20>(block);
    let (low, high) = halves(out);
    for j in 0..HALF {
        low[j] = f32::from(qs[j] & 0xf) * d + m;
        high[j] = f32::from(qs[j] >> 4) * d + m;
    }
}

/// `d: f16, qh: u32, qs: [u8; 16]`: `(q - 16) * d`, bit `i` of `qh` is the fifth bit of value `i`.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = scale::<0, 22>(block);
    let qh = u32::from_le_bytes(*field::<2, 4, 22>(block));
    let qs = field::<6, 16, 22>(block);
    let (low, high) = halves(out);
    for j in 0..HALF {
        low[j] = (fifth_bit(qh, j) | i32::from(qs[j] & 0xf)).wrapping_sub(16) as f32 * d;
        high[j] = (fifth_bit(qh, j + HALF) | i32::from(qs[j] >> 4)).wrapping_sub(16) as f32 * d;
    }
}

/// `d: f16, m: f16, qh: u32, qs: [u8; 16]`: `q * d + m`, bit `i` of `qh` is the fifth bit of value `i`.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let d = scale::<0, 24>(block);
    let m = scale::<2, 24>(block);
    let qh = u32::from_le_bytes(*field::<4, 4, 24>(block));
    let qs = field::<8, 16, 24>(block);
    let (low, high) = halves(out);
    for j in 0..HALF {
        low[j] = (fifth_bit(qh, j) | i32::from(qs[j] & 0xf)) as f32 * d + m;
        high[j] = (fifth_bit(qh, j + HALF) | i32::from(qs[j] >> 4)) as f32 * d + m;
    }
}

/// `d: f16, qs: [i8; 32]`: `q * d`.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = scale::<0, 34>(block);
    for (value, &q) in out.iter_mut().zip(field::<2, 32, 34>(block)) {
        *value = f32::from(q as i8) * d;
    }
}

fn fifth_bit(qh: u32, index: usize) -> i32 {
    ((qh >> index & 1) << 4) as i32
}

fn halves(out: &mut [f32; 32]) -> (&mut [f32], &mut [f32]) {
    out.split_at_mut(HALF)
}
