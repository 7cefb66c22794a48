//! Rows in the layout of a file, quantised where the format is a block format.

use half::f16;

use super::super::quantize::BLOCK;
use super::Format;

/// Appends `row` in the layout of a file, rounded as ggml's reference quantisers round.
///
/// Block formats take a whole number of blocks; what is left over is ignored.
pub fn encode_row(format: Format, row: &[f32], to: &mut Vec<u8>) {
    match format {
        Format::Q8_0 => row.as_chunks().0.iter().for_each(|x| encode_q8_0(x, to)),
        Format::Q4_0 => row.as_chunks().0.iter().for_each(|x| encode_q4_0(x, to)),
        Format::Q4_1 => row.as_chunks().0.iter().for_each(|x| encode_q4_1(x, to)),
        Format::F16 => to.extend(row.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes())),
        Format::BF16 => {
            to.extend(
                row.iter()
                    .flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()),
            );
        }
        Format::F32 => to.extend(row.iter().flat_map(|x| x.to_le_bytes())),
    }
}

/// `1 / d`, or 0 for d = 0; NaN when the block holds what is not finite.
fn scale_and_inverse(x: &[f32; BLOCK], d: f32) -> (f32, f32) {
    if !x.iter().all(|x| x.is_finite()) {
        return (f32::NAN, 0.0);
    }
    (d, if d == 0.0 { 0.0 } else { 1.0 / d })
}

fn encode_q8_0(x: &[f32; BLOCK], to: &mut Vec<u8>) {
    let peak = x.iter().fold(0f32, |m, x| m.max(x.abs()));
    let (d, inverse) = scale_and_inverse(x, peak / 127.0);
    to.extend(f16::from_f32(d).to_le_bytes());
    to.extend(x.iter().map(|x| (x * inverse).round() as i8 as u8));
}

fn encode_q4_0(x: &[f32; BLOCK], to: &mut Vec<u8>) {
    let mut peak = 0f32;
    for &x in x {
        if x.abs() > peak.abs() {
            peak = x;
        }
    }
    let (d, inverse) = scale_and_inverse(x, peak / -8.0);
    to.extend(f16::from_f32(d).to_le_bytes());
    let q = |x: f32| ((x * inverse + 8.5) as i8 as u8).min(15);
    to.extend((0..16).map(|j| q(x[j]) | q(x[j + 16]) << 4));
}

fn encode_q4_1(x: &[f32; BLOCK], to: &mut Vec<u8>) {
    let min = x.iter().fold(f32::MAX, |m, &x| if x < m { x } else { m });
    let max = x.iter().fold(-f32::MAX, |m, &x| if x > m { x } else { m });
    let (d, inverse) = scale_and_inverse(x, (max - min) / 15.0);
    to.extend(f16::from_f32(d).to_le_bytes());
    to.extend(f16::from_f32(min).to_le_bytes());
    let q = |x: f32| (((x - min) * inverse + 0.5) as i8 as u8).min(15);
    to.extend((0..16).map(|j| q(x[j]) | q(x[j + 16]) << 4));
}
