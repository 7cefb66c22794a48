//! Activations rounded to 8 bits, block by block, as the integer kernels take them.
//!
//! A block of 32 values x becomes `d = max|x| / 127` and `q = round(x · 127 / max|x|)`. Blocks
//! whose largest magnitude is below [`TINY`] become zero; a block that holds an infinity or a NaN
//! gets `d = NaN`, so that such values never disappear.

use std::ops::Range;

use super::error::{CpuError, check_size};
use super::kernels::{Kernels, LANES, Lane, Simd, Task};
use super::threads::{Columns, Rows, TileMut};

/// Values that share one scale.
pub const BLOCK: usize = 32;

/// Rows that lie interleaved, so that a kernel finds a block of all of them side by side.
pub const ROW_TILE: usize = 8;

/// Blocks without a larger magnitude are taken for zero (the reciprocal would overflow).
pub const TINY: f32 = 1e-30;

const Q_MAX: f32 = 127.0;

/// One block of quantised activations with what the kernels would otherwise compute again.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct ActBlock {
    /// Values within -127..=127, in groups of four.
    pub(crate) q: [[i8; 4]; 8],
    /// Scale.
    pub(crate) d: f32,
    /// `d · Σ q`: what a constant offset of the weights contributes.
    pub(crate) d_sum: f32,
    /// `-8 · Σ q`: takes the offset out of 4-bit weights stored plus 8.
    pub(crate) minus_8_sum: i32,
    /// `-128 · Σ q`: takes the offset out of 8-bit weights stored plus 128.
    pub(crate) minus_128_sum: i32,
    /// Where the sum of a block with joined scales starts, see [`Self::joined_start`].
    pub(crate) joined: i32,
}

impl ActBlock {
    const ZERO: Self = Self {
        q: [[0; 4]; 8],
        d: 0.0,
        d_sum: 0.0,
        minus_8_sum: 0,
        minus_128_sum: 0,
        joined: Self::joined_start(0),
    };

    /// `Σ q` in the high half; in the low half `Σ q·w` for weights minus 8, plus 2¹⁵, so that the
    /// products of a block (at most 32 · 127 · 8 in magnitude) never reach the high half.
    const fn joined_start(sum: i32) -> i32 {
        (sum << 16) + (1 << 15) - 8 * sum
    }
}

/// Quantised activations `[rows, cols]`; a last block beyond `cols` is filled with zeros.
///
/// Rows lie in tiles of [`ROW_TILE`]: `[tile][block][row in tile]`, with `stride` rows a tile
/// (fewer than [`ROW_TILE`] when there are fewer rows in all).
#[derive(Debug, Clone)]
pub struct QuantizedRows {
    blocks: Vec<ActBlock>,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl QuantizedRows {
    /// Zeros of shape `[rows, cols]`.
    ///
    /// # Errors
    ///
    /// [`CpuError::TooLarge`] when the size does not fit the address space.
    pub fn new(rows: usize, cols: usize) -> Result<Self, CpuError> {
        let mut this = Self {
            blocks: Vec::new(),
            rows: 0,
            cols: 0,
            stride: 1,
        };
        this.reshape(rows, cols)?;
        Ok(this)
    }

    /// Takes another shape, reusing the memory. The contents are unspecified.
    ///
    /// # Errors
    ///
    /// [`CpuError::TooLarge`] when the size does not fit the address space.
    pub fn reshape(&mut self, rows: usize, cols: usize) -> Result<(), CpuError> {
        let stride = rows.clamp(1, ROW_TILE);
        let count = rows
            .div_ceil(ROW_TILE)
            .checked_mul(cols.div_ceil(BLOCK))
            .and_then(|n| n.checked_mul(stride))
            .filter(|n| n.checked_mul(size_of::<ActBlock>()).is_some())
            .ok_or(CpuError::TooLarge {
                what: "quantised activations",
                rows,
                cols,
            })?;
        self.blocks.resize(count, ActBlock::ZERO);
        (self.rows, self.cols, self.stride) = (rows, cols, stride);
        Ok(())
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Cuts the rows into tiles of [`ROW_TILE`], one a unit; fill a part with [`write_tile`].
    pub fn by_tile(&mut self) -> Rows<'_, ActBlock> {
        let width = self.cols.div_ceil(BLOCK) * self.stride;
        Rows::new(&mut self.blocks, width)
    }

    /// Cuts all rows into ranges of `values` columns (a multiple of [`BLOCK`]), one a unit; fill
    /// a part with [`write_columns`].
    pub fn by_columns(&mut self, values: usize) -> Columns<'_, ActBlock> {
        let width = self.cols.div_ceil(BLOCK) * self.stride;
        let unit = (values / BLOCK).max(1) * self.stride;
        Columns::new(&mut self.blocks, width, unit)
    }

    /// Quantises all rows of `x` (`[rows, cols]`).
    ///
    /// # Errors
    ///
    /// [`CpuError::Size`] when `x` has another size.
    pub fn quantize(&mut self, kernels: Kernels, x: &[f32]) -> Result<(), CpuError> {
        check_size("activations", x.len(), self.rows * self.cols)?;
        if self.cols == 0 {
            return Ok(());
        }
        let width = self.cols.div_ceil(BLOCK) * self.stride;
        for (tile, x) in self
            .blocks
            .chunks_mut(width)
            .zip(x.chunks(ROW_TILE * self.cols))
        {
            write_tile(kernels, tile, x, self.cols);
        }
        Ok(())
    }

    /// The dequantised values of a row, for tests and inspection.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let blocks = self.cols.div_ceil(BLOCK);
        let start = row / ROW_TILE * blocks * self.stride + row % ROW_TILE;
        let mut values: Vec<f32> = (0..blocks)
            .filter_map(|b| self.blocks.get(start + b * self.stride))
            .flat_map(|block| block.q.iter().flatten().map(|&q| f32::from(q) * block.d))
            .collect();
        values.truncate(self.cols);
        values
    }

    /// (blocks of the tile that starts at row `tile * ROW_TILE`, distance of its blocks).
    pub(crate) fn tile(&self, tile: usize) -> (&[ActBlock], usize) {
        let width = self.cols.div_ceil(BLOCK) * self.stride;
        let tile = self.blocks.get(tile * width..(tile + 1) * width);
        (tile.unwrap_or_default(), self.stride)
    }
}

/// Quantises up to [`ROW_TILE`] whole rows `x` (`[rows, cols]`) into the part of one tile.
pub fn write_tile(kernels: Kernels, tile: &mut [ActBlock], x: &[f32], cols: usize) {
    let blocks = cols.div_ceil(BLOCK);
    let Some(stride) = tile.len().checked_div(blocks) else {
        return;
    };
    for (row, x) in x.chunks_exact(cols).take(stride).enumerate() {
        kernels.run(QuantizeRow {
            x,
            out: tile.get_mut(row..).unwrap_or_default(),
            stride,
        });
    }
}

/// Quantises the values `x` of row `row` that belong to the columns of `part`, a part of
/// [`QuantizedRows::by_columns`] of an activation with `rows` rows.
pub fn write_columns(
    kernels: Kernels,
    part: &mut TileMut<'_, ActBlock>,
    rows: usize,
    row: usize,
    x: &[f32],
) {
    let stride = rows.clamp(1, ROW_TILE);
    let out = part.row(row / ROW_TILE);
    kernels.run(QuantizeRow {
        x,
        out: out.get_mut(row % ROW_TILE..).unwrap_or_default(),
        stride,
    });
}

/// The columns that `units` of [`QuantizedRows::by_columns`] with `values` cover.
pub fn unit_columns(units: Range<usize>, values: usize, cols: usize) -> Range<usize> {
    let values = (values / BLOCK).max(1) * BLOCK;
    (units.start * values).min(cols)..(units.end * values).min(cols)
}

struct QuantizeRow<'a> {
    x: &'a [f32],
    out: &'a mut [ActBlock],
    stride: usize,
}

impl Task for QuantizeRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (whole, rest) = self.x.as_chunks::<BLOCK>();
        let mut out = self.out.iter_mut().step_by(self.stride);
        for (x, out) in whole.iter().zip(&mut out) {
            quantize_block(s, x, out);
        }
        if let Some(out) = out.next()
            && !rest.is_empty()
        {
            let mut x = [0.0; BLOCK];
            x[..rest.len()].copy_from_slice(rest);
            quantize_block(s, &x, out);
        }
    }
}

#[inline(always)]
fn quantize_block<S: Simd>(s: S, x: &[f32; BLOCK], out: &mut ActBlock) {
    let (lanes, _) = x.as_chunks::<LANES>();
    let (a, b) = (s.load(&lanes[0]), s.load(&lanes[1]));
    let peak = s.largest_i(s.max_i(s.abs_bits(a), s.abs_bits(b)));
    let peak = f32::from_bits(peak as u32);
    if peak < TINY {
        *out = ActBlock::ZERO;
        return;
    }
    if !peak.is_finite() {
        *out = ActBlock {
            d: f32::NAN,
            d_sum: f32::NAN,
            ..ActBlock::ZERO
        };
        return;
    }
    let inverse = s.splat(Q_MAX / peak);
    let (mut low, mut high): (Lane<i8>, Lane<i8>) = ([0; LANES], [0; LANES]);
    s.store_i8(s.to_i32(s.mul(a, inverse)), &mut low);
    s.store_i8(s.to_i32(s.mul(b, inverse)), &mut high);
    let mut sum = 0i32;
    for i in 0..LANES {
        sum += i32::from(low[i]) + i32::from(high[i]);
    }
    for g in 0..4 {
        for j in 0..4 {
            out.q[g][j] = low[4 * g + j];
            out.q[4 + g][j] = high[4 * g + j];
        }
    }
    out.d = peak / Q_MAX;
    out.d_sum = out.d * sum as f32;
    out.minus_8_sum = -8 * sum;
    out.minus_128_sum = -128 * sum;
    out.joined = ActBlock::joined_start(sum);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::kernels::Isa;
    use super::super::testing::{Random, extremes, kernels};
    use super::*;

    #[test]
    fn error_is_at_most_half_a_step() {
        let mut random = Random::new(1);
        for cols in [1, 31, 32, 33, 100, 576] {
            let rows = 11;
            let x = random.gauss(rows * cols);
            let mut q = QuantizedRows::new(rows, cols).unwrap();
            q.quantize(Kernels::best(), &x).unwrap();
            for (r, x) in x.chunks(cols).enumerate() {
                let got = q.row(r);
                for (x, got) in x.chunks(BLOCK).zip(got.chunks(BLOCK)) {
                    let peak = x.iter().fold(0f32, |m, x| m.max(x.abs()));
                    for (x, got) in x.iter().zip(got) {
                        assert!((x - got).abs() <= peak / 127.0 * 0.5001, "{x} {got}");
                    }
                }
            }
        }
    }

    #[test]
    fn all_instruction_sets_agree_on_extremes() {
        let mut random = Random::new(2);
        let mut x = extremes();
        x.extend(random.gauss(BLOCK * 40));
        x.resize(x.len().next_multiple_of(BLOCK), 0.0);
        let cols = x.len();
        let mut want = QuantizedRows::new(1, cols).unwrap();
        want.quantize(Kernels::with(Isa::Scalar).unwrap(), &x)
            .unwrap();
        for k in kernels() {
            let mut got = QuantizedRows::new(1, cols).unwrap();
            got.quantize(k, &x).unwrap();
            assert_eq!(
                format!("{:?}", want.blocks),
                format!("{:?}", got.blocks),
                "{}",
                k.isa()
            );
        }
    }

    #[test]
    fn what_is_not_finite_stays_visible() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 64];
            x[40] = bad;
            let mut q = QuantizedRows::new(1, 64).unwrap();
            q.quantize(Kernels::best(), &x).unwrap();
            let row = q.row(0);
            assert!(row[..32].iter().all(|x| x.is_finite()));
            assert!(row[32..].iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn parts_give_the_same_blocks() {
        let (rows, cols, unit) = (19, 200, 64);
        let x = Random::new(3).gauss(rows * cols);
        let k = Kernels::best();
        let mut want = QuantizedRows::new(rows, cols).unwrap();
        want.quantize(k, &x).unwrap();

        let mut got = QuantizedRows::new(rows, cols).unwrap();
        let mut pool = super::super::threads::ThreadPool::new(3).unwrap();
        pool.region(|region| {
            region.stage(got.by_columns(unit), |units, mut part| {
                let range = unit_columns(units, unit, cols);
                for (r, x) in x.chunks(cols).enumerate() {
                    write_columns(k, &mut part, rows, r, &x[range.clone()]);
                }
            });
        });
        for r in 0..rows {
            assert_eq!(want.row(r), got.row(r));
        }
    }
}
