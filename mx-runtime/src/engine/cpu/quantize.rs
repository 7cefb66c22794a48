//! Activations rounded to 8 bits, block by block, as the integer kernels take them.
//!
//! A block of 32 values x becomes `d = max|x| / 127` and `q = round(x · 127 / max|x|)`. Blocks
//! whose largest magnitude is below [`TINY`] become zero; a block that holds an infinity or a NaN
//! gets `d = NaN`, so that such values never disappear.
//!
//! A few values of a row are often far larger than the others, and the step of their block is what
//! the row's error comes from. So each row's [`REMAINDERS`] blocks with the largest scales are
//! kept in 16 bits: what rounding left of them is quantised again, as further blocks.

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

/// Blocks of a row that are kept in 16 bits: those with the largest scales, the first among equals.
pub const REMAINDERS: usize = 2;

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

/// What rounding left of one block of each row of a tile.
#[derive(Debug, Clone, Copy)]
pub struct Remainder {
    /// The remainders, quantised as any block.
    pub(crate) acts: [ActBlock; ROW_TILE],
    /// Which block of its row each belongs to.
    pub(crate) of: [u32; ROW_TILE],
}

impl Remainder {
    const ZERO: Self = Self {
        acts: [ActBlock::ZERO; ROW_TILE],
        of: [0; ROW_TILE],
    };
}

/// The remainders of a tile.
pub type Remainders = [Remainder; REMAINDERS];

/// Quantised activations `[rows, cols]`; a last block beyond `cols` is filled with zeros.
///
/// Rows lie in tiles of [`ROW_TILE`]: `[tile][block][row in tile]`, with `stride` rows a tile
/// (fewer than [`ROW_TILE`] when there are fewer rows in all).
#[derive(Debug, Clone)]
pub struct QuantizedRows {
    blocks: Vec<ActBlock>,
    /// One of each tile.
    remainders: Vec<Remainders>,
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
            remainders: Vec::new(),
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
        let tiles = rows.div_ceil(ROW_TILE);
        self.remainders.resize(tiles, [Remainder::ZERO; REMAINDERS]);
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

    /// Blocks of a tile.
    fn tile_blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK) * self.stride
    }

    /// Cuts the rows into tiles of [`ROW_TILE`], one a unit; fill a part with [`write_tiles`].
    pub fn by_tile(&mut self) -> (Rows<'_, ActBlock>, Rows<'_, Remainders>) {
        let width = self.tile_blocks();
        (
            Rows::new(&mut self.blocks, width),
            Rows::new(&mut self.remainders, 1),
        )
    }

    /// The blocks, and their remainders cut into tiles, one a unit; fill a part with
    /// [`write_remainders`].
    pub fn remainders_by_tile(&mut self) -> (&[ActBlock], Rows<'_, Remainders>) {
        (&self.blocks, Rows::new(&mut self.remainders, 1))
    }

    /// Cuts all rows into ranges of `values` columns (a multiple of [`BLOCK`]), one a unit; fill
    /// a part with [`write_columns`], and then the remainders.
    pub fn by_columns(&mut self, values: usize) -> Columns<'_, ActBlock> {
        let width = self.tile_blocks();
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
        write_tiles(
            kernels,
            &mut self.blocks,
            &mut self.remainders,
            x,
            self.cols,
        );
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
        for remainder in self
            .remainders
            .iter()
            .skip(row / ROW_TILE)
            .take(1)
            .flatten()
        {
            let lane = row % ROW_TILE;
            let block = &remainder.acts[lane];
            let values = values.iter_mut().skip(remainder.of[lane] as usize * BLOCK);
            for (value, &q) in values.zip(block.q.as_flattened()) {
                *value += f32::from(q) * block.d;
            }
        }
        values.truncate(self.cols);
        values
    }

    /// (blocks of the tile that starts at row `tile * ROW_TILE`, distance of its blocks).
    pub(crate) fn tile(&self, tile: usize) -> (&[ActBlock], usize) {
        let width = self.tile_blocks();
        let tile = self.blocks.get(tile * width..(tile + 1) * width);
        (tile.unwrap_or_default(), self.stride)
    }

    /// The remainders of the tile that starts at row `tile * ROW_TILE`.
    pub(crate) fn remainders(&self, tile: usize) -> &[Remainder] {
        self.remainders.get(tile).map_or(&[], |tile| tile)
    }
}

/// Quantises whole rows `x` (`[rows, cols]`) into the parts of their tiles.
pub fn write_tiles(
    kernels: Kernels,
    blocks: &mut [ActBlock],
    remainders: &mut [Remainders],
    x: &[f32],
    cols: usize,
) {
    let width = blocks.len() / remainders.len().max(1);
    let stride = width / cols.div_ceil(BLOCK).max(1);
    if stride == 0 {
        return;
    }
    let tiles = blocks.chunks_exact_mut(width);
    for (tile, x) in tiles.zip(x.chunks(ROW_TILE * cols)) {
        for (row, x) in x.chunks_exact(cols).take(stride).enumerate() {
            kernels.run(QuantizeRow {
                x,
                out: tile.get_mut(row..).unwrap_or_default(),
                stride,
            });
        }
    }
    write_remainders(kernels, blocks, remainders, x, cols);
}

/// Finds the remainders of tiles whose blocks are written; `x` are the rows (`[rows, cols]`).
pub fn write_remainders(
    kernels: Kernels,
    blocks: &[ActBlock],
    remainders: &mut [Remainders],
    x: &[f32],
    cols: usize,
) {
    let width = blocks.len() / remainders.len().max(1);
    if width == 0 {
        return;
    }
    let stride = width / cols.div_ceil(BLOCK).max(1);
    let tiles = blocks.chunks_exact(width).zip(remainders);
    for ((blocks, remainders), x) in tiles.zip(x.chunks(ROW_TILE * cols)) {
        for (row, x) in x.chunks_exact(cols).take(stride).enumerate() {
            kernels.run(Remains {
                blocks: &blocks[row..],
                stride,
                x,
                row,
                out: remainders,
            });
        }
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

/// The remainders of one row.
struct Remains<'a> {
    /// The row's blocks, one every `stride`.
    blocks: &'a [ActBlock],
    stride: usize,
    x: &'a [f32],
    /// Its place in the tile.
    row: usize,
    out: &'a mut Remainders,
}

impl Task for Remains<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut best = [(0.0, 0); REMAINDERS];
        for (index, block) in self.blocks.iter().step_by(self.stride).enumerate() {
            // A NaN is larger than nothing.
            let mut candidate = (block.d, index);
            for best in &mut best {
                if candidate.0 > best.0 {
                    std::mem::swap(best, &mut candidate);
                }
            }
        }
        for (out, (d, index)) in self.out.iter_mut().zip(best) {
            out.of[self.row] = index as u32;
            let out = &mut out.acts[self.row];
            if d == 0.0 {
                *out = ActBlock::ZERO;
                continue;
            }
            let x = &self.x[index * BLOCK..];
            match x.first_chunk() {
                Some(x) => quantize_remainder(s, x, d, out),
                None => {
                    let mut whole = [0.0; BLOCK];
                    whole[..x.len()].copy_from_slice(x);
                    quantize_remainder(s, &whole, d, out);
                }
            }
        }
    }
}

#[inline(always)]
fn peak<S: Simd>(s: S, a: S::F, b: S::F) -> f32 {
    f32::from_bits(s.largest_i(s.max_i(s.abs_bits(a), s.abs_bits(b))) as u32)
}

#[inline(always)]
fn quantize_block<S: Simd>(s: S, x: &[f32; BLOCK], out: &mut ActBlock) {
    let (lanes, _) = x.as_chunks::<LANES>();
    let (a, b) = (s.load(&lanes[0]), s.load(&lanes[1]));
    let peak = peak(s, a, b);
    if peak < TINY {
        *out = ActBlock::ZERO;
    } else if !peak.is_finite() {
        *out = ActBlock {
            d: f32::NAN,
            d_sum: f32::NAN,
            ..ActBlock::ZERO
        };
    } else {
        round(s, [a, b], peak, 1.0, out);
    }
}

/// What rounding left of the block `x`, in units of its scale before it is rounded itself: the
/// scale times a rounded value may be beyond the largest float.
#[inline(always)]
fn quantize_remainder<S: Simd>(s: S, x: &[f32; BLOCK], scale: f32, out: &mut ActBlock) {
    let (lanes, _) = x.as_chunks::<LANES>();
    let (a, b) = (s.load(&lanes[0]), s.load(&lanes[1]));
    let inverse = s.splat(Q_MAX / peak(s, a, b));
    let (a, b) = (s.mul(a, inverse), s.mul(b, inverse));
    let (a, b) = (
        s.sub(a, s.to_f32(s.to_i32(a))),
        s.sub(b, s.to_f32(s.to_i32(b))),
    );
    let peak = peak(s, a, b);
    if peak < TINY {
        *out = ActBlock::ZERO;
    } else {
        round(s, [a, b], peak, scale, out);
    }
}

/// `[a, b]` times `scale` as a block; their largest magnitude is `peak`.
#[inline(always)]
fn round<S: Simd>(s: S, [a, b]: [S::F; 2], peak: f32, scale: f32, out: &mut ActBlock) {
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
    out.d = peak / Q_MAX * scale;
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
    fn the_blocks_with_the_largest_scales_are_kept_in_16_bits() {
        let mut random = Random::new(4);
        for (rows, cols) in [(1, 32), (3, 70), (11, 576)] {
            let mut x = random.gauss(rows * cols);
            for (r, x) in x.chunks_mut(cols).enumerate() {
                x[(7 * r + cols / 2) % cols] *= 50.0;
            }
            let mut q = QuantizedRows::new(rows, cols).unwrap();
            q.quantize(Kernels::best(), &x).unwrap();
            for (r, x) in x.chunks(cols).enumerate() {
                let row = q.row(r);
                let peaks = x
                    .chunks(BLOCK)
                    .map(|x| x.iter().fold(0f32, |m, x| m.max(x.abs())));
                let mut peaks: Vec<(usize, f32)> = peaks.enumerate().collect();
                peaks.sort_by(|a, b| b.1.total_cmp(&a.1));
                for (place, (block, peak)) in peaks.into_iter().enumerate() {
                    let step = if place < REMAINDERS {
                        peak / 127.0 / 254.0
                    } else {
                        peak / 127.0
                    };
                    let part = block * BLOCK..(block * BLOCK + BLOCK).min(cols);
                    for (x, got) in x[part.clone()].iter().zip(&row[part]) {
                        assert!((x - got).abs() <= step * 0.51, "{x} {got} {step}");
                    }
                }
            }
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
            let tile = got.tile_blocks();
            let (blocks, remainders) = got.remainders_by_tile();
            region.stage(remainders, |units, part| {
                let blocks = &blocks[units.start * tile..units.end * tile];
                let x = &x[units.start * ROW_TILE * cols..];
                write_remainders(k, blocks, part, x, cols);
            });
        });
        for r in 0..rows {
            assert_eq!(want.row(r), got.row(r));
        }
    }
}
