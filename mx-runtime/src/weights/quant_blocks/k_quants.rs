//! The super-blocks of 256 values: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K.
//!
//! A super-block has one f16 scale (and one f16 minimum), and small integer scales per 16 or 32 values.

use super::{field, scale};

/// `scales: [u8; 16], qs: [u8; 64], d: f16, dmin: f16`: `(d * scale) * q - dmin * min` with scale in the low and min in
/// the high nibble of `scales[i]`.
///
/// Each half of 128 values takes 32 bytes of `qs`; group `i` of 32 values sits at bit `2i` of them.
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let scales = field::<0, 16, 84>(block);
    let (qs, _) = field::<16, 64, 84>(block).as_chunks::<16>();
    let d = scale::<80, 84>(block);
    let dmin = scale::<82, 84>(block);
    let (runs, _) = out.as_chunks_mut::<16>();
    for (i, values) in runs.iter_mut().enumerate() {
        let step = d * f32::from(scales[i] & 0xf);
        let min = dmin * f32::from(scales[i] >> 4);
        let shift = i % 8 / 2 * 2;
        for (value, &q) in values.iter_mut().zip(&qs[i / 8 * 2 + i % 2]) {
            *value = step * f32::from(q >> shift & 3) - min;
        }
    }
}

/// `hmask: [u8; 32], qs: [u8; 64], scales: [u8; 12], d: f16`: `(d * (scale - 32)) * q` with `q` from -4 to 3.
///
/// Laid out as in [`q2_k`]; bit `i / 2` of `hmask` is the third bit of run `i` of 16 values.
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (hmask, _) = field::<0, 32, 110>(block).as_chunks::<16>();
    let (qs, _) = field::<32, 64, 110>(block).as_chunks::<16>();
    let scales = q3_k_scales(field::<96, 12, 110>(block));
    let d = scale::<108, 110>(block);
    let (runs, _) = out.as_chunks_mut::<16>();
    for (i, values) in runs.iter_mut().enumerate() {
        let step = d * f32::from(scales[i] as i8 - 32);
        let shift = i % 8 / 2 * 2;
        let third = i / 2;
        let low = &qs[i / 8 * 2 + i % 2];
        let high = &hmask[i % 2];
        for j in 0..16 {
            let q = (low[j] >> shift & 3) | ((high[j] >> third & 1) << 2);
            values[j] = step * f32::from(q as i8 - 4);
        }
    }
}

/// Sixteen 6-bit scales: four low bits in the nibbles of the first eight bytes, two high bits in the last four.
fn q3_k_scales(packed: &[u8; 12]) -> [u8; 16] {
    std::array::from_fn(|i| {
        let low = packed[i % 8] >> (i / 8 * 4) & 0xf;
        let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
        low | high << 4
    })
}

/// `d: f16, dmin: f16, scales: [u8; 12], qs: [u8; 128]`: `(d * scale) * q - dmin * min`.
///
/// Each 32 bytes of `qs` hold 32 values in their low and the next 32 in their high nibbles.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let d = scale::<0, 144>(block);
    let dmin = scale::<2, 144>(block);
    let scales = field::<4, 12, 144>(block);
    let (qs, _) = field::<16, 128, 144>(block).as_chunks::<32>();
    let (runs, _) = out.as_chunks_mut::<32>();
    for (i, values) in runs.iter_mut().enumerate() {
        let (sub_scale, sub_min) = scale_and_min(scales, i);
        let step = d * f32::from(sub_scale);
        let min = dmin * f32::from(sub_min);
        let shift = i % 2 * 4;
        for (value, &q) in values.iter_mut().zip(&qs[i / 2]) {
            *value = step * f32::from(q >> shift & 0xf) - min;
        }
    }
}

/// `d: f16, dmin: f16, scales: [u8; 12], qh: [u8; 32], qs: [u8; 128]`: `(d * scale) * q - dmin * min`.
///
/// Laid out as in [`q4_k`]; bit `i` of `qh` is the fifth bit of run `i` of 32 values.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let d = scale::<0, 176>(block);
    let dmin = scale::<2, 176>(block);
    let scales = field::<4, 12, 176>(block);
    let qh = field::<16, 32, 176>(block);
    let (qs, _) = field::<48, 128, 176>(block).as_chunks::<32>();
    let (runs, _) = out.as_chunks_mut::<32>();
    for (i, values) in runs.iter_mut().enumerate() {
        let (sub_scale, sub_min) = scale_and_min(scales, i);
        let step = d * f32::from(sub_scale);
        let min = dmin * f32::from(sub_min);
        let shift = i % 2 * 4;
        let low = &qs[i / 2];
        for j in 0..32 {
            let q = (low[j] >> shift & 0xf) | ((qh[j] >> i & 1) << 4);
            values[j] = step * f32::from(q) - min;
        }
    }
}

/// Scale and minimum number `i` of eight, 6 bits each: the first four whole, the rest split into nibbles and the two
/// high bits of the first ones.
fn scale_and_min(packed: &[u8; 12], i: usize) -> (u8, u8) {
    if i < 4 {
        (packed[i] & 63, packed[i + 4] & 63)
    } else {
        let low = packed[i + 4];
        (
            (low & 0xf) | (packed[i - 4] >> 6) << 4,
            (low >> 4) | (packed[i] >> 6) << 4,
        )
    }
}

/// `ql: [u8; 128], qh: [u8; 64], scales: [i8; 16], d: f16`: `(d * scale) * (q - 32)`.
///
/// Each half of 128 values takes 64 bytes of `ql` and 32 of `qh`: its four runs of 32 values are low nibbles of the
/// first and second 32 bytes, then high nibbles of the same, and sit at bits 0, 2, 4, 6 of `qh`.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (ql, _) = field::<0, 128, 210>(block).as_chunks::<16>();
    let (qh, _) = field::<128, 64, 210>(block).as_chunks::<16>();
    let scales = field::<192, 16, 210>(block);
    let d = scale::<208, 210>(block);
    let (runs, _) = out.as_chunks_mut::<16>();
    for (i, values) in runs.iter_mut().enumerate() {
        let (half, in_half) = (i / 8, i % 8);
        let step = d * f32::from(scales[i] as i8);
        let low = &ql[half * 4 + in_half % 4];
        let high = &qh[half * 2 + in_half % 2];
        let (low_shift, high_shift) = (in_half / 4 * 4, in_half / 2 * 2);
        for j in 0..16 {
            let q = (low[j] >> low_shift & 0xf) | ((high[j] >> high_shift & 3) << 4);
            values[j] = step * f32::from(q as i8 - 32);
        }
    }
}
