//! `y[row, out] = Σ_k x[row, k] · w[out, k]` over packed panels.
//!
//! **Integer path** (block formats, 8-bit activations). For each block of 32 in order: an exact
//! integer dot product i, then `acc = fma(i, d_w · d_x, acc)`, and for Q4_1 further
//! `acc = fma(m_w, d_x·Σq, acc)`.
//!
//! **Float path** (exact mode, dense formats). The weights of 64 `k` are expanded to f32; four
//! chains c₀..c₃ take the `k` with remainder 0..3 by fma, `(c₀ + c₁) + (c₂ + c₃)` is added to the
//! result of the 64 before.
//!
//! Both orders depend on nothing but `k`, so a result does not change with its neighbours.

mod formats;

use std::ops::Range;

use super::super::error::{CpuError, check_size};
use super::super::pack::{Format, PackedMatrix};
use super::super::quantize::{ActBlock, BLOCK, QuantizedRows, ROW_TILE, Remainder};
use super::super::threads::TileMut;
use super::{Kernels, LANES, Lane, Simd, Task};
use formats::{JoinedQ4_1, Q4_0, Q4_1, Q8_0};

/// The activations of a matrix product.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// 8-bit blocks: the fast path of block formats.
    Quantized(&'a QuantizedRows),
    /// f32 `[rows, cols]`: dense formats, and the exact path of block formats.
    Float(&'a [f32]),
}

impl Kernels {
    /// Multiplies the rows of `x` with the weight rows of the panels `panels`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[rows, w.cols()]`
    /// - `y`: `[rows, n]`, where n counts the weight rows of the panels: 16 a panel, fewer in the
    ///   last panel of the matrix. [`Columns`](super::super::threads::Columns) with a width of
    ///   [`LANES`] cuts a whole output into such parts.
    ///
    /// # Errors
    ///
    /// [`CpuError::Size`] when the shapes do not fit together, [`CpuError::DenseNeedsFloat`] for
    /// quantised activations and dense weights.
    pub fn matmul(
        self,
        w: &PackedMatrix,
        panels: Range<usize>,
        x: Input<'_>,
        y: &mut TileMut<'_, f32>,
    ) -> Result<(), CpuError> {
        if panels.end > w.panels() || panels.start > panels.end {
            return Err(CpuError::Limit {
                what: "panel",
                given: panels.end.max(panels.start),
                limit: w.panels(),
            });
        }
        let columns = (panels.end * LANES).min(w.rows()) - (panels.start * LANES).min(w.rows());
        check_size("columns of the output", y.cols(), columns)?;
        match x {
            Input::Quantized(x) => {
                if !w.format().is_quantized() {
                    return Err(CpuError::DenseNeedsFloat {
                        format: w.format().name(),
                    });
                }
                check_size("columns of the activations", x.cols(), w.cols())?;
                check_size("rows of the output", y.rows(), x.rows())?;
                self.run(Quantized { w, panels, x, y });
            }
            Input::Float(x) => {
                check_size("activations", x.len(), y.rows() * w.cols())?;
                self.run(Float { w, panels, x, y });
            }
        }
        Ok(())
    }
}

/// Bytes of activations that should stay in the second-level cache while panels pass.
const CACHED_ACTIVATIONS: usize = 384 * 1024;

/// How far ahead of the block in use weights are asked for.
const PREFETCH: usize = 4096;

/// A block format as the integer kernel reads it.
trait BlockFormat {
    /// The block of a panel: chunks of 64 bytes, then vectors of f16 scales.
    type Block: Copy;
    /// Whether a minimum follows the scale.
    const MIN: bool;
    /// Whether scale and minimum are joined, see [`super::super::pack`].
    const JOINED: bool = false;

    fn blocks(panel: &[u8]) -> &[Self::Block];
    fn chunks(block: &Self::Block) -> &[[u8; 64]];
    fn scales(block: &Self::Block) -> &[[u8; 32]];
    fn load<S: Simd>(s: S, chunks: &[[u8; 64]]) -> [S::W; 8];
    fn dots<S: Simd, const R: usize>(s: S, w: &[S::W; 8], acts: &[ActBlock; R]) -> [S::I; R];

    /// Adds the products of a block with R rows.
    #[inline(always)]
    fn add<S: Simd, const R: usize>(
        s: S,
        w: &[S::W; 8],
        scales: &[[u8; 32]],
        acts: &[ActBlock; R],
        acc: &mut [S::F; R],
    ) {
        let dots = Self::dots::<S, R>(s, w, acts);
        let d = s.load_f16_bytes(&scales[0]);
        for r in 0..R {
            let scale = s.mul(d, s.splat(acts[r].d));
            acc[r] = s.fma(s.to_f32(dots[r]), scale, acc[r]);
        }
        if Self::MIN {
            let m = s.load_f16_bytes(&scales[1]);
            for r in 0..R {
                acc[r] = s.fma(m, s.splat(acts[r].d_sum), acc[r]);
            }
        }
    }
    /// Scale and minimum of all rows, whose joined units are `unit`; zero without a minimum.
    #[inline(always)]
    fn scale_and_min<S: Simd>(s: S, scales: &[[u8; 32]], _unit: &[u8; 64]) -> (S::F, S::F) {
        let min = if Self::MIN {
            s.load_f16_bytes(&scales[1])
        } else {
            s.splat(0.0)
        };
        (s.load_f16_bytes(&scales[0]), min)
    }

    /// The quantised values of one `k` of all rows, without offset.
    fn value<S: Simd>(s: S, chunks: &[[u8; 64]], k: usize) -> S::F;
}

struct Quantized<'a, 'y> {
    w: &'a PackedMatrix,
    panels: Range<usize>,
    x: &'a QuantizedRows,
    y: &'a mut TileMut<'y, f32>,
}

impl Task for Quantized<'_, '_> {
    type Output = ();

    const BYTE_DOTS: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.w.format() {
            Format::Q8_0 => quantized::<S, Q8_0>(s, self),
            Format::Q4_0 => quantized::<S, Q4_0>(s, self),
            Format::Q4_1 if self.w.is_joined() => quantized::<S, JoinedQ4_1>(s, self),
            Format::Q4_1 => quantized::<S, Q4_1>(s, self),
            Format::F16 | Format::BF16 | Format::F32 => {}
        }
    }
}

#[inline(always)]
fn quantized<S: Simd, B: BlockFormat>(s: S, t: Quantized<'_, '_>) {
    let rows = t.x.rows();
    let tiles = rows.div_ceil(ROW_TILE);
    let tile_bytes = t.w.cols().div_ceil(BLOCK) * ROW_TILE * size_of::<ActBlock>();
    let group = (CACHED_ACTIVATIONS / tile_bytes.max(1)).max(1);
    for first in (0..tiles).step_by(group) {
        for (index, panel) in t.panels.clone().enumerate() {
            // A panel ends in less than a block of padding.
            let panel = t.w.panel(panel);
            let blocks = B::blocks(panel);
            let unit = panel.last_chunk().unwrap_or(&[0; 64]);
            for tile in first..(first + group).min(tiles) {
                let (acts, stride) = t.x.tile(tile);
                let operands = Operands {
                    blocks,
                    acts,
                    stride,
                    remainders: t.x.remainders(tile),
                    unit,
                };
                let mut out = [[0.0; LANES]; ROW_TILE];
                let count = ROW_TILE.min(rows - tile * ROW_TILE);
                match count {
                    1 => tile_rows::<S, B, 1>(s, &operands, &mut out),
                    2 => tile_rows::<S, B, 2>(s, &operands, &mut out),
                    3 => tile_rows::<S, B, 3>(s, &operands, &mut out),
                    4 => tile_rows::<S, B, 4>(s, &operands, &mut out),
                    5 => tile_rows::<S, B, 5>(s, &operands, &mut out),
                    6 => tile_rows::<S, B, 6>(s, &operands, &mut out),
                    7 => tile_rows::<S, B, 7>(s, &operands, &mut out),
                    _ => tile_rows::<S, B, 8>(s, &operands, &mut out),
                }
                for (r, out) in out[..count].iter().enumerate() {
                    let y = t.y.row(tile * ROW_TILE + r);
                    let y = &mut y[index * LANES..];
                    match y.first_chunk_mut() {
                        // By the vector: copying arrays or slices of floats becomes a call.
                        Some(y) => s.store(s.load(out), y),
                        None => y.copy_from_slice(&out[..y.len()]),
                    }
                }
            }
        }
    }
}

struct Operands<'a, B> {
    blocks: &'a [B],
    acts: &'a [ActBlock],
    stride: usize,
    remainders: &'a [Remainder],
    /// The end of the panel: units of joined scales, where there are any.
    unit: &'a [u8; 64],
}

/// One panel times the first R rows of one tile.
#[inline(always)]
fn tile_rows<S: Simd, B: BlockFormat, const R: usize>(
    s: S,
    operands: &Operands<'_, B::Block>,
    out: &mut [Lane<f32>; ROW_TILE],
) {
    let mut acc = [s.splat(0.0); R];
    let acts = operands.acts.chunks_exact(operands.stride);
    for (block, acts) in operands.blocks.iter().zip(acts) {
        let Some(acts) = acts.first_chunk::<R>() else {
            return;
        };
        let (chunks, scales) = (B::chunks(block), B::scales(block));
        for chunk in chunks {
            s.prefetch(chunk, PREFETCH);
        }
        let w = B::load(s, chunks);
        B::add(s, &w, scales, acts, &mut acc);
    }
    for remainder in operands.remainders {
        let of = &remainder.of;
        let together = of[1..R].iter().all(|other| *other == of[0]);
        for r in 0..R {
            let Some(block) = operands.blocks.get(of[r] as usize) else {
                return;
            };
            let (w, scales) = (B::load(s, B::chunks(block)), B::scales(block));
            if together {
                if let Some(acts) = remainder.acts.first_chunk::<R>() {
                    B::add(s, &w, scales, acts, &mut acc);
                }
                break;
            }
            let mut one = [acc[r]];
            B::add(
                s,
                &w,
                scales,
                std::array::from_ref(&remainder.acts[r]),
                &mut one,
            );
            [acc[r]] = one;
        }
    }
    if B::JOINED {
        let unit = s.load_f32_bytes(operands.unit);
        for acc in &mut acc {
            *acc = s.mul(*acc, unit);
        }
    }
    for r in 0..R {
        s.store(acc[r], &mut out[r]);
    }
}

/// `k` that are expanded to f32 at a time on the float path.
const CHUNK: usize = 2 * BLOCK;

/// Chains of a sum on the float path.
const CHAINS: usize = 4;

/// Rows that pass an expanded chunk together.
const FLOAT_ROWS: usize = 6;

struct Float<'a, 'y> {
    w: &'a PackedMatrix,
    panels: Range<usize>,
    x: &'a [f32],
    y: &'a mut TileMut<'y, f32>,
}

impl Task for Float<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (rows, cols) = (self.y.rows(), self.w.cols());
        let mut weights = [[0.0; LANES]; CHUNK];
        for (index, panel) in self.panels.clone().enumerate() {
            let panel = self.w.panel(panel);
            for start in (0..cols.max(1)).step_by(CHUNK) {
                expand(s, self.w, panel, start, &mut weights);
                let mut row = 0;
                while row < rows {
                    let count = (rows - row).min(S::FLOAT_ROWS.min(FLOAT_ROWS));
                    let mut out = [[0.0; LANES]; FLOAT_ROWS];
                    let x = &self.x[row * cols..(row + count) * cols];
                    match count {
                        1 => float_rows::<S, 1>(s, &weights, x, cols, start, &mut out),
                        2 => float_rows::<S, 2>(s, &weights, x, cols, start, &mut out),
                        3 => float_rows::<S, 3>(s, &weights, x, cols, start, &mut out),
                        4 => float_rows::<S, 4>(s, &weights, x, cols, start, &mut out),
                        5 => float_rows::<S, 5>(s, &weights, x, cols, start, &mut out),
                        _ => float_rows::<S, 6>(s, &weights, x, cols, start, &mut out),
                    }
                    for (r, out) in out[..count].iter().enumerate() {
                        let y = &mut self.y.row(row + r)[index * LANES..];
                        for (y, out) in y.iter_mut().zip(out) {
                            *y = if start == 0 { *out } else { *y + *out };
                        }
                    }
                    row += count;
                }
            }
        }
    }
}

#[inline(always)]
fn float_rows<S: Simd, const R: usize>(
    s: S,
    weights: &[Lane<f32>; CHUNK],
    x: &[f32],
    cols: usize,
    start: usize,
    out: &mut [Lane<f32>; FLOAT_ROWS],
) {
    // A short last chunk is filled up with zeros, on both sides.
    let mut short = [[0.0; CHUNK]; R];
    let mut rows = [&[0.0; CHUNK]; R];
    if start + CHUNK <= cols {
        for r in 0..R {
            if let Some(chunk) = x[r * cols + start..].first_chunk() {
                rows[r] = chunk;
            }
        }
    } else {
        for r in 0..R {
            let rest = &x[r * cols + start..(r + 1) * cols];
            short[r][..rest.len()].copy_from_slice(rest);
        }
        for r in 0..R {
            rows[r] = &short[r];
        }
    }
    let mut acc = [[s.splat(0.0); CHAINS]; R];
    for k in 0..CHUNK / CHAINS {
        for c in 0..CHAINS {
            let w = s.load(&weights[k * CHAINS + c]);
            for r in 0..R {
                acc[r][c] = s.fma(w, s.splat(rows[r][k * CHAINS + c]), acc[r][c]);
            }
        }
    }
    for r in 0..R {
        let sum = s.add(s.add(acc[r][0], acc[r][1]), s.add(acc[r][2], acc[r][3]));
        s.store(sum, &mut out[r]);
    }
}

/// The weights `start..start + CHUNK` of a panel as f32, zeros beyond the last.
#[inline(always)]
fn expand<S: Simd>(
    s: S,
    w: &PackedMatrix,
    panel: &[u8],
    start: usize,
    to: &mut [Lane<f32>; CHUNK],
) {
    let count = w.cols().saturating_sub(start).min(CHUNK);
    match w.format() {
        Format::Q8_0 => expand_blocks::<S, Q8_0>(s, panel, start, count, to),
        Format::Q4_0 => expand_blocks::<S, Q4_0>(s, panel, start, count, to),
        Format::Q4_1 if w.is_joined() => {
            expand_blocks::<S, JoinedQ4_1>(s, panel, start, count, to);
        }
        Format::Q4_1 => expand_blocks::<S, Q4_1>(s, panel, start, count, to),
        Format::F16 => {
            let values: &[[u8; 32]] = panel.as_chunks().0;
            for (to, from) in to.iter_mut().zip(&values[start..start + count]) {
                s.prefetch(from, PREFETCH);
                s.store(s.load_f16_bytes(from), to);
            }
            to[count..].fill([0.0; LANES]);
        }
        Format::BF16 => {
            let values: &[[u8; 32]] = panel.as_chunks().0;
            for (to, from) in to.iter_mut().zip(&values[start..start + count]) {
                s.prefetch(from, PREFETCH);
                s.store(s.load_bf16_bytes(from), to);
            }
            to[count..].fill([0.0; LANES]);
        }
        Format::F32 => {
            let values: &[[u8; 64]] = panel.as_chunks().0;
            for (to, from) in to.iter_mut().zip(&values[start..start + count]) {
                s.prefetch(from, PREFETCH);
                s.store(s.load_f32_bytes(from), to);
            }
            to[count..].fill([0.0; LANES]);
        }
    }
}

/// Blocks of 32, dequantised as ggml does it (no fused multiply-add).
#[inline(always)]
fn expand_blocks<S: Simd, B: BlockFormat>(
    s: S,
    panel: &[u8],
    start: usize,
    count: usize,
    to: &mut [Lane<f32>; CHUNK],
) {
    let first = start / BLOCK;
    let blocks = &B::blocks(panel)[first..first + count.div_ceil(BLOCK)];
    let unit = panel.last_chunk().unwrap_or(&[0; 64]);
    let (tos, _) = to.as_chunks_mut::<BLOCK>();
    for (block, to) in blocks.iter().zip(tos.iter_mut()) {
        let (d, min) = B::scale_and_min(s, B::scales(block), unit);
        for (k, to) in to.iter_mut().enumerate() {
            let q = B::value(s, B::chunks(block), k);
            let mut value = s.mul(d, q);
            if B::MIN {
                value = s.add(value, min);
            }
            s.store(value, to);
        }
    }
    for to in &mut tos[blocks.len()..] {
        to.fill([0.0; LANES]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::pack::{WeightPacker, encode_row};
    use super::super::super::testing::{Random, kernels};
    use super::super::super::threads::{Columns, ThreadPool};
    use super::super::Isa;
    use super::*;
    use half::f16;

    const FORMATS: [Format; 6] = [
        Format::Q8_0,
        Format::Q4_0,
        Format::Q4_1,
        Format::F16,
        Format::BF16,
        Format::F32,
    ];

    fn packed(format: Format, rows: usize, cols: usize, w: &[f32]) -> PackedMatrix {
        let mut pool = ThreadPool::new(1).unwrap();
        pool.region(|region| {
            PackedMatrix::from_f32_rows(region, format, [rows, cols], |r, row| {
                row.copy_from_slice(&w[r * cols..(r + 1) * cols]);
            })
            .unwrap()
        })
    }

    /// The same with joined scales, where the format has minima.
    fn joined(format: Format, rows: usize, cols: usize, w: &[f32]) -> PackedMatrix {
        let mut packer = WeightPacker::new().joining_scales();
        let mut pool = ThreadPool::new(1).unwrap();
        pool.region(|region| {
            let fill = |r: usize, row: &mut [f32]| {
                row.copy_from_slice(&w[r * cols..(r + 1) * cols]);
            };
            packer
                .add_f32_rows(region, format, [rows, cols], fill)
                .unwrap();
        });
        let matrix = packer.finish().swap_remove(0);
        assert_eq!(matrix.is_joined(), format == Format::Q4_1);
        matrix
    }

    fn product(k: Kernels, w: &PackedMatrix, x: Input<'_>, rows: usize) -> Vec<f32> {
        let mut y = vec![f32::NAN; rows * w.rows()];
        k.matmul(w, 0..w.panels(), x, &mut TileMut::new(&mut y, w.rows()))
            .unwrap();
        y
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        let canonical = |x: &f32| if x.is_nan() { f32::NAN } else { *x }.to_bits();
        x.iter().map(canonical).collect()
    }

    /// Compares with f64 sums over the values as the kernel sees them.
    fn check_against_f64(w: &PackedMatrix, x: &[f32], rows: usize, y: &[f32], what: &str) {
        let cols = w.cols();
        let mut weights = vec![0.0; cols];
        for out in 0..w.rows() {
            w.row_into(out, &mut weights).unwrap();
            for row in 0..rows {
                let terms = weights.iter().zip(&x[row * cols..(row + 1) * cols]);
                let terms = terms.map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (sum, size) = terms.fold((0.0, 0.0), |(s, a), t| (s + t, a + t.abs()));
                let got = f64::from(y[row * w.rows() + out]);
                assert!(
                    (got - sum).abs() <= 4e-6 * size + 1e-30,
                    "{what}: row {row} out {out}: {got} instead of {sum}"
                );
            }
        }
    }

    #[test]
    fn products_are_right_and_the_same_everywhere() {
        let mut random = Random::new(11);
        for format in FORMATS {
            for (out, cols, rows) in [
                (1, 32, 1),
                (16, 64, 3),
                (40, 96, 9),
                (33, 576, 18),
                (17, 70, 5),
            ] {
                if cols % BLOCK != 0 && format.is_quantized() {
                    continue;
                }
                let (weights, x) = (random.gauss(out * cols), random.gauss(rows * cols));
                let mut q = QuantizedRows::new(rows, cols).unwrap();
                q.quantize(Kernels::best(), &x).unwrap();
                let rounded: Vec<f32> = (0..rows).flat_map(|r| q.row(r)).collect();
                let mut inputs = vec![(Input::Float(&x), &x)];
                if format.is_quantized() {
                    inputs.push((Input::Quantized(&q), &rounded));
                }
                let matrices = [
                    packed(format, out, cols, &weights),
                    joined(format, out, cols, &weights),
                ];
                for (w, (input, seen)) in matrices
                    .iter()
                    .flat_map(|w| inputs.iter().map(move |i| (w, *i)))
                {
                    let want = product(Kernels::with(Isa::Scalar).unwrap(), w, input, rows);
                    let what = format!("{format:?} {out}x{cols} rows {rows}");
                    check_against_f64(w, seen, rows, &want, &what);
                    for k in kernels() {
                        let got = product(k, w, input, rows);
                        assert_eq!(bits(&want), bits(&got), "{what} {}", k.isa());
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours_or_on_threads() {
        let (out, cols, rows) = (100, 160, 21);
        let mut random = Random::new(12);
        let (weights, x) = (random.gauss(out * cols), random.gauss(rows * cols));
        for k in kernels() {
            for format in FORMATS {
                let w = joined(format, out, cols, &weights);
                let mut q = QuantizedRows::new(rows, cols).unwrap();
                q.quantize(k, &x).unwrap();
                let mut one = QuantizedRows::new(1, cols).unwrap();
                let quantized = format.is_quantized();
                let all = if quantized {
                    Input::Quantized(&q)
                } else {
                    Input::Float(&x)
                };
                let want = product(k, &w, all, rows);
                for (r, x) in x.chunks(cols).enumerate() {
                    one.quantize(k, x).unwrap();
                    let input = if quantized {
                        Input::Quantized(&one)
                    } else {
                        Input::Float(x)
                    };
                    let got = product(k, &w, input, 1);
                    assert_eq!(
                        bits(&want[r * out..(r + 1) * out]),
                        bits(&got),
                        "{format:?}"
                    );
                }
                let mut pool = ThreadPool::new(3).unwrap();
                let mut got = vec![0.0; rows * out];
                pool.region(|region| {
                    region.stage(Columns::new(&mut got, out, LANES), |panels, mut y| {
                        k.matmul(&w, panels, all, &mut y).unwrap();
                    });
                });
                assert_eq!(bits(&want), bits(&got), "{format:?}");
            }
        }
    }

    /// Rows of one block each, with chosen scales and all quantised values alike or alternating.
    fn extreme_blocks(format: Format) -> (usize, Vec<u8>) {
        let scales = [0x7bff_u16, 0xfbff, 0x0001, 0x8001, 0x0400, 0x0000, 0x3c00];
        let quants = [0x00_u8, 0x80, 0x7f, 0xff, 0x88, 0xf0, 0x0f];
        let mut bytes = Vec::new();
        for d in scales {
            for (i, a) in quants.iter().enumerate() {
                for b in [a, &quants[(i + 1) % quants.len()]] {
                    bytes.extend(d.to_le_bytes());
                    if format == Format::Q4_1 {
                        bytes.extend((d ^ 0x8000).to_le_bytes());
                    }
                    let count = if format == Format::Q8_0 { 32 } else { 16 };
                    bytes.extend((0..count).map(|k| if k % 2 == 0 { *a } else { *b }));
                }
            }
        }
        (scales.len() * quants.len() * 2, bytes)
    }

    #[test]
    fn extreme_weights_and_activations_agree() {
        let mut pool = ThreadPool::new(1).unwrap();
        let mut x = vec![1.0; 32];
        x.extend([-1.0; 32]);
        x.extend((0..32).map(|i| if i % 2 == 0 { 1e30 } else { -1e30 }));
        x.extend([0.0; 32]);
        x.extend([1e-30; 32]);
        x.extend((0..32).map(|i| i as f32 - 15.5));
        x.extend([f32::MAX; 32]);
        x.extend((0..32).map(|i| if i == 7 { f32::NAN } else { 1.0 }));
        let rows = x.len() / BLOCK;
        for format in [Format::Q8_0, Format::Q4_0, Format::Q4_1] {
            let (out, bytes) = extreme_blocks(format);
            let w = pool.region(|region| {
                PackedMatrix::from_file_rows(region, format, [out, BLOCK], &bytes, |r| r).unwrap()
            });
            let mut q = QuantizedRows::new(rows, BLOCK).unwrap();
            q.quantize(Kernels::best(), &x).unwrap();
            for input in [Input::Quantized(&q), Input::Float(&x)] {
                let want = product(Kernels::with(Isa::Scalar).unwrap(), &w, input, rows);
                assert!(want[(rows - 1) * out..].iter().all(|y| y.is_nan()));
                for k in kernels() {
                    let got = product(k, &w, input, rows);
                    assert_eq!(bits(&want), bits(&got), "{format:?} {}", k.isa());
                }
            }
            // Exact integers: Σ q of the first row times the scale, in f64.
            let mut values = vec![0.0; BLOCK];
            let y = product(Kernels::best(), &w, Input::Quantized(&q), rows);
            for (r, y) in y[..out].iter().enumerate() {
                w.row_into(r, &mut values).unwrap();
                let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
                let size: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
                assert!((f64::from(*y) - sum).abs() <= 1e-6 * size, "{r}: {y} {sum}");
            }
        }
    }

    #[test]
    fn extreme_joined_weights_agree() {
        let mut pool = ThreadPool::new(1).unwrap();
        let x = super::super::super::testing::extremes();
        let rows = x.len() / BLOCK;
        let (out, mut bytes) = extreme_blocks(Format::Q4_1);
        // Minima of -15 d and of 0, whose offsets are as large as they can be.
        for (index, block) in bytes.chunks_exact_mut(20).enumerate() {
            let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
            let m = [-15.0 * d, 0.0, -7.0 * d][index % 3].clamp(-65504.0, 65504.0);
            block[2..4].copy_from_slice(&f16::from_f32(m).to_le_bytes());
        }
        let mut packer = WeightPacker::new().joining_scales();
        pool.region(|region| {
            let shape = [out, BLOCK];
            packer
                .add_file_rows(region, Format::Q4_1, shape, &bytes, |r| r)
                .unwrap();
        });
        let w = packer.finish().swap_remove(0);
        assert!(w.is_joined());
        let mut q = QuantizedRows::new(rows, BLOCK).unwrap();
        q.quantize(Kernels::best(), &x).unwrap();
        for input in [Input::Quantized(&q), Input::Float(&x)] {
            let want = product(Kernels::with(Isa::Scalar).unwrap(), &w, input, rows);
            for k in kernels() {
                let got = product(k, &w, input, rows);
                assert_eq!(bits(&want), bits(&got), "{}", k.isa());
            }
        }
        let y = product(Kernels::best(), &w, Input::Quantized(&q), rows);
        let mut values = vec![0.0; BLOCK];
        for r in 0..rows {
            let x = q.row(r);
            if x.iter().any(|x| x.abs() > 1e30) {
                continue;
            }
            for o in 0..out {
                w.row_into(o, &mut values).unwrap();
                let terms = values
                    .iter()
                    .zip(&x)
                    .map(|(w, x)| f64::from(*w) * f64::from(*x));
                // A weight is the difference of terms as large as scale and minimum.
                let file = |at| f16::from_le_bytes([bytes[20 * o + at], bytes[20 * o + at + 1]]);
                let largest = 15.0 * file(0).to_f64().abs() + file(2).to_f64().abs();
                let size = largest * x.iter().map(|x| f64::from(x.abs())).sum::<f64>();
                let (got, sum) = (f64::from(y[r * out + o]), terms.sum::<f64>());
                assert!(
                    (got - sum).abs() <= 1e-6 * size + 1e-30,
                    "{r} {o}: {got} {sum}"
                );
            }
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let k = Kernels::best();
        let w = packed(Format::F32, 20, 8, &[0.5; 160]);
        let (x, q) = ([0.0; 16], QuantizedRows::new(2, 8).unwrap());
        let mut y = vec![0.0; 40];
        let mut tile = TileMut::new(&mut y, 20);
        assert!(matches!(
            k.matmul(&w, 0..2, Input::Quantized(&q), &mut tile),
            Err(CpuError::DenseNeedsFloat { .. })
        ));
        assert!(matches!(
            k.matmul(&w, 0..3, Input::Float(&x), &mut tile),
            Err(CpuError::Limit { .. })
        ));
        assert!(matches!(
            k.matmul(&w, 0..1, Input::Float(&x), &mut tile),
            Err(CpuError::Size { .. })
        ));
        assert!(matches!(
            k.matmul(&w, 0..2, Input::Float(&x[1..]), &mut tile),
            Err(CpuError::Size { .. })
        ));
        k.matmul(&w, 0..2, Input::Float(&x), &mut tile).unwrap();
    }

    #[test]
    fn encoded_rows_survive_packing() {
        let w = Random::new(13).gauss(3 * 64);
        for format in FORMATS {
            let packed = packed(format, 3, 64, &w);
            let mut bytes = Vec::new();
            encode_row(format, &w, &mut bytes);
            let mut pool = ThreadPool::new(2).unwrap();
            let turned = pool.region(|region| {
                PackedMatrix::from_file_rows(region, format, [3, 64], &bytes, |r| 2 - r).unwrap()
            });
            let (mut a, mut b) = ([0.0; 64], [0.0; 64]);
            for r in 0..3 {
                packed.row_into(r, &mut a).unwrap();
                turned.row_into(2 - r, &mut b).unwrap();
                assert_eq!(a, b, "{format:?}");
            }
        }
    }
}
