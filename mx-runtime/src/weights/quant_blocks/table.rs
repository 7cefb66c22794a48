//! Block types whose 4-bit quants index a table: IQ4_NL, IQ4_XS, MXFP4.
//!
//! As in the plain 4-bit types, byte `j` of 16 holds value `j` in its low and value `j + 16` in its high nibble.

use super::float::e8m0_half_to_f32;
use super::{field, scale};

const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Twice the values of E2M1.
const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// `d: f16, qs: [u8; 16]`: `d * table[q]`.
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    look_up(
        &IQ4_VALUES,
        scale::<0, 18>(block),
        field::<2, 16, 18>(block),
        out,
    );
}

/// `d: f16, scales_h: u16, scales_l: [u8; 4], qs: [u8; 128]`: `(d * (scale - 32)) * table[q]` with eight 6-bit scales,
/// four low bits in the nibbles of `scales_l` and two high bits in `scales_h`.
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = scale::<0, 136>(block);
    let scales_h = u16::from_le_bytes(*field::<2, 2, 136>(block));
    let scales_l = field::<4, 4, 136>(block);
    let (qs, _) = field::<8, 128, 136>(block).as_chunks::<16>();
    let (runs, _) = out.as_chunks_mut::<32>();
    for (i, (qs, values)) in qs.iter().zip(runs).enumerate() {
        let low = scales_l[i / 2] >> (i % 2 * 4) & 0xf;
        let high = (scales_h >> (i * 2) & 3) as u8;
        let step = d * f32::from((low | high << 4) as i8 - 32);
        look_up(&IQ4_VALUES, step, qs, values);
    }
}

/// `e: u8, qs: [u8; 16]`: `2^(e-128) * table[q]` with the doubled table.
pub(super) fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    look_up(
        &E2M1_DOUBLED,
        e8m0_half_to_f32(block[0]),
        field::<1, 16, 17>(block),
        out,
    );
}

fn look_up(table: &[i8; 16], step: f32, qs: &[u8; 16], out: &mut [f32; 32]) {
    for (j, &q) in qs.iter().enumerate() {
        out[j] = step * f32::from(table[usize::from(q & 0xf)]);
        out[j + 16] = step * f32::from(table[usize::from(q >> 4)]);
    }
}
