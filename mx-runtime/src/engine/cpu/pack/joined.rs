//! Scales and minima of Q4_1 joined for the integer kernel.
//!
//! With activations `d_x·q` a block contributes `d_x · (d·Σ q(w - 8) + (m + 8d)·Σ q)`. Both sums are integers of 16 bits,
//! so if `d` and `m + 8d` are too, in units of their row, one integer product of pairs replaces three float operations.
//! The pairs take the place of the f16 scales; the units of the 16 rows (f32) follow the blocks of a panel. Rounding to
//! 15 bits of the largest scale of a row is far below what rounding the activations to 8 bits costs.

use half::f16;

use super::super::kernels::LANES;

/// Largest magnitude of a joined value. A block's sum stays below 32767 · (32 · 127 · 8 + 32 · 127) < 2³¹.
const MAX: f32 = 32767.0;

/// Rows whose largest offset is more than this many of their largest scale would leave too few bits to the scale.
const OFFSET_LIMIT: f32 = 64.0;

/// Bytes of a block of a panel, and of its quantised values.
const BLOCK_BYTES: usize = 320;
const QUANT_BYTES: usize = 256;

/// Bytes of the units of a panel.
pub(super) const UNIT_BYTES: usize = size_of::<f32>() * LANES;

/// Largest `|d|` and `|m + 8d|` of every row of a panel in its plain layout; NaN where there is one.
fn peaks(panel: &[u8]) -> [(f32, f32); LANES] {
    let mut peaks = [(0u32, 0u32); LANES];
    for block in panel.chunks_exact(BLOCK_BYTES) {
        for (lane, peak) in peaks.iter_mut().enumerate() {
            let (d, offset) = plain(block, lane);
            // As integers, NaN is the largest magnitude and is not lost.
            peak.0 = peak.0.max(d.abs().to_bits());
            peak.1 = peak.1.max(offset.abs().to_bits());
        }
    }
    peaks.map(|(d, offset)| (f32::from_bits(d), f32::from_bits(offset)))
}

/// `d` and `m + 8d` of a row of a block in its plain layout.
fn plain(block: &[u8], lane: usize) -> (f32, f32) {
    let (scales, _) = block[QUANT_BYTES..].as_chunks::<2>();
    let value = |index: usize| f16::from_le_bytes(scales[index]).to_f32();
    let (d, m) = (value(lane), value(LANES + lane));
    (d, m + 8.0 * d)
}

/// Whether the scales of a panel in its plain layout keep their precision when they are joined.
pub(super) fn is_suitable(panel: &[u8]) -> bool {
    peaks(panel)
        .iter()
        .all(|&(d, offset)| d == 0.0 || !d.is_finite() || offset <= OFFSET_LIMIT * d)
}

/// Turns a panel from its plain layout into the joined one.
pub(super) fn join(panel: &mut [u8]) {
    let peaks = peaks(panel);
    let mut units = [0.0; LANES];
    let mut factors = [0.0; LANES];
    for (lane, (d, offset)) in peaks.into_iter().enumerate() {
        let peak = if d.is_finite() { d.max(offset) } else { d };
        (units[lane], factors[lane]) = if !peak.is_finite() || !offset.is_finite() {
            (f32::NAN, 0.0)
        } else if peak > 0.0 {
            (peak / MAX, MAX / peak)
        } else {
            (0.0, 0.0)
        };
    }
    for block in panel.chunks_exact_mut(BLOCK_BYTES) {
        let values: [(f32, f32); LANES] = std::array::from_fn(|lane| plain(block, lane));
        let (pairs, _) = block[QUANT_BYTES..].as_chunks_mut::<4>();
        for ((pair, (d, offset)), factor) in pairs.iter_mut().zip(values).zip(factors) {
            let round = |x: f32| ((x * factor).round_ties_even() as i16).to_le_bytes();
            let ([a, b], [c, d]) = (round(d), round(offset));
            *pair = [a, b, c, d];
        }
    }
    let start = panel.len() - UNIT_BYTES;
    for (to, unit) in panel[start..].as_chunks_mut::<4>().0.iter_mut().zip(units) {
        *to = unit.to_le_bytes();
    }
}

/// Scale and minimum of a row of a block in a joined panel.
pub(super) fn scale_and_min(panel: &[u8], block: &[u8], lane: usize) -> (f32, f32) {
    let [a, b, c, d] = block[QUANT_BYTES..].as_chunks::<4>().0[lane];
    let units = panel[panel.len() - UNIT_BYTES..].as_chunks::<4>().0;
    let unit = f32::from_le_bytes(units[lane]);
    let value = |bytes| unit * f32::from(i16::from_le_bytes(bytes));
    let (d, offset) = (value([a, b]), value([c, d]));
    (d, offset - 8.0 * d)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::pack::{Format, WeightPacker};
    use super::super::super::testing::Random;
    use super::super::super::threads::ThreadPool;

    /// The rows of a matrix as plain and as joined weights; whether the latter are joined.
    fn both(rows: usize, cols: usize, w: &[f32]) -> (Vec<[Vec<f32>; 2]>, bool) {
        let mut pool = ThreadPool::new(2).unwrap();
        let pack = |pool: &mut ThreadPool, mut packer: WeightPacker| {
            pool.region(|region| {
                let fill = |r: usize, row: &mut [f32]| {
                    row.copy_from_slice(&w[r * cols..(r + 1) * cols]);
                };
                packer
                    .add_f32_rows(region, Format::Q4_1, [rows, cols], fill)
                    .unwrap();
            });
            packer.finish().swap_remove(0)
        };
        let plain = pack(&mut pool, WeightPacker::new());
        let joined = pack(&mut pool, WeightPacker::new().joining_scales());
        let values = (0..rows).map(|row| {
            [&plain, &joined].map(|matrix| {
                let mut values = vec![0.0; cols];
                matrix.row_into(row, &mut values).unwrap();
                values
            })
        });
        (values.collect(), joined.is_joined())
    }

    #[test]
    fn joined_values_are_close_to_those_of_the_file() {
        let (rows, cols) = (37, 160);
        let mut w = Random::new(31).gauss(rows * cols);
        for (index, x) in w.iter_mut().enumerate() {
            // Rows of other sizes, blocks of other sizes, an offset, a row of zeros.
            *x *= 2f32.powi((index / cols % 9) as i32 - 4) * (1.0 + (index / 32 % 5) as f32);
            *x += [0.0, 3.0][index / cols % 2];
            if index / cols == 5 {
                *x = 0.0;
            }
        }
        let (values, joined) = both(rows, cols, &w);
        assert!(joined);
        for [plain, joined] in values {
            let peak = plain.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (a, b) in plain.iter().zip(&joined) {
                // Scale times at most 8, and offset, are each off by half a unit at most.
                assert!((a - b).abs() <= 5.0 * peak / 32767.0, "{a} {b} of {peak}");
            }
        }
    }

    #[test]
    fn what_would_lose_precision_stays_plain_and_nan_stays_visible() {
        let mut w = Random::new(32).gauss(20 * 32);
        w[40] = f32::NAN;
        let (values, joined) = both(20, 32, &w);
        assert!(joined);
        for (row, [plain, joined]) in values.iter().enumerate() {
            assert_eq!(plain[0].is_nan(), row == 1);
            assert_eq!(joined[0].is_nan(), row == 1);
        }
        w[40] = 0.0;
        w[64..96].iter_mut().for_each(|x| *x = 100.0 + 0.1 * *x);
        let (values, joined) = both(20, 32, &w);
        assert!(!joined);
        assert!(values.iter().all(|[plain, joined]| plain == joined));
    }
}
