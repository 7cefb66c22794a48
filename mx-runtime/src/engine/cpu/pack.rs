//! Weight matrices in the layout that the kernels stream: panels of 16 output rows.
//!
//! A vector of a panel holds the same `k` (or four of them) of all 16 rows, so a dot product
//! accumulates lane = row and never sums across lanes. The block formats keep the bits of their
//! GGUF blocks, only in another order:
//!
//! | format | a panel | bytes a block of 16 x 32 values |
//! |---|---|---|
//! | Q8_0 | blocks of `[k / 4][row][k % 4]` bytes plus 128, then `[row]` f16 d | 512 + 32 |
//! | Q4_0 | blocks of `[k / 4][row][k % 4]` nibbles (low: k < 16), then `[row]` d | 256 + 32 |
//! | Q4_1 | the same, then `[row]` d and `[row]` m | 256 + 64 |
//! | Q4_1, joined | the same with `[row]` i16 pairs for d and m + 8d; after all blocks `[row]` f32 units | 256 + 64 |
//! | F16, BF16, F32 | `[k][row]` | |
//!
//! Scales lie with their block, so that a pass over a panel is one stream through memory. Rows
//! beyond the last are zero; panels start at cache lines.

mod encode;
mod joined;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use half::f16;

use super::buffer::Pages;
use super::error::{CpuError, check_size};
use super::kernels::LANES;
use super::quantize::BLOCK;
use super::threads::{Region, Rows};

pub use encode::encode_row;

/// How the values of a packed matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Blocks of 32: f16 scale, 8-bit values.
    Q8_0,
    /// Blocks of 32: f16 scale, 4-bit values minus 8.
    Q4_0,
    /// Blocks of 32: f16 scale, f16 minimum, 4-bit values.
    Q4_1,
    /// Half precision.
    F16,
    /// bfloat16.
    BF16,
    /// Single precision.
    F32,
}

impl Format {
    /// The name used by GGUF.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F32 => "F32",
        }
    }

    /// Whether values are quantised in blocks.
    pub fn is_quantized(self) -> bool {
        self.quant_bytes() > 0
    }

    /// Bytes of 32 values in a file.
    pub fn bytes_per_32(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::F16 | Self::BF16 => 64,
            Self::F32 => 128,
        }
    }

    /// Bytes of the quantised values of one block of a panel; 0 for dense formats.
    pub(crate) fn quant_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 512,
            Self::Q4_0 | Self::Q4_1 => 256,
            Self::F16 | Self::BF16 | Self::F32 => 0,
        }
    }

    /// Bytes of one block of a panel.
    fn block_bytes(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 => self.quant_bytes() + 2 * LANES,
            Self::Q4_1 => self.quant_bytes() + 4 * LANES,
            Self::F16 | Self::BF16 | Self::F32 => 0,
        }
    }

    fn value_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            _ => 2,
        }
    }
}

/// A matrix `[out, in]` packed for [`Kernels::matmul`](super::Kernels::matmul). Clones share the
/// memory.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    pages: Arc<Pages>,
    layout: Layout,
}

/// Where a matrix lies, and how.
#[derive(Debug, Clone, Copy)]
struct Layout {
    format: Format,
    rows: usize,
    cols: usize,
    start: usize,
    panel_bytes: usize,
    /// Whether the scales are joined: 16-bit integers in units of their row.
    joined: bool,
}

/// Packs the matrices of a model into few large pieces of memory, so that huge pages can back
/// them.
#[derive(Debug, Default)]
pub struct WeightPacker {
    pieces: Vec<Piece>,
    /// (piece, layout) in the order of packing.
    matrices: Vec<(usize, Layout)>,
    piece_bytes: usize,
    join: bool,
}

#[derive(Debug)]
struct Piece {
    pages: Pages,
    used: usize,
}

/// Bytes that a packer allocates at a time, unless a matrix needs more.
const PIECE_BYTES: usize = 32 << 20;

impl WeightPacker {
    /// An empty packer.
    pub fn new() -> Self {
        Self {
            piece_bytes: PIECE_BYTES,
            ..Self::default()
        }
    }

    /// Joins the scales and minima of Q4_1 from now on: products with 8-bit activations become faster, the scales are
    /// rounded to 15 bits of the largest of their row. Matrices that would lose precision stay as they are.
    pub fn joining_scales(mut self) -> Self {
        self.join = true;
        self
    }

    /// Packs the rows of a file: `bytes` holds `rows` rows of `cols` values in `format`. Returns
    /// the index of the matrix in what [`finish`](Self::finish) gives.
    ///
    /// Row `r` of the result is row `row_order(r)` of the file, so that files which store the
    /// rows of q and k permuted can be put right, or several matrices be put into one, without
    /// dequantising. Pass `|r| r` otherwise. The panels are packed in parallel.
    ///
    /// # Errors
    ///
    /// [`CpuError::Multiple`] when a block format does not fill its last block,
    /// [`CpuError::Size`] when `bytes` has the wrong length, [`CpuError::RowOrder`] when the order
    /// leaves the matrix, [`CpuError::TooLarge`].
    pub fn add_file_rows(
        &mut self,
        region: &mut Region<'_>,
        format: Format,
        [rows, cols]: [usize; 2],
        bytes: &[u8],
        row_order: impl Fn(usize) -> usize + Sync,
    ) -> Result<usize, CpuError> {
        let row_bytes = file_row_bytes(format, cols)?;
        let total = rows.checked_mul(row_bytes).ok_or(CpuError::TooLarge {
            what: "matrix",
            rows,
            cols,
        })?;
        check_size("bytes of the matrix", bytes.len(), total)?;
        for row in 0..rows {
            let given = row_order(row);
            if given >= rows {
                return Err(CpuError::RowOrder { row, given, rows });
            }
        }
        let (layout, data) = self.allocate(format, rows, cols)?;
        let width = layout.panel_bytes;
        region.stage(Rows::new(data, width), |panels, part| {
            for (panel, out) in panels.zip(part.chunks_exact_mut(width)) {
                for lane in 0..LANES.min(rows - panel * LANES) {
                    let row = row_order(panel * LANES + lane) * row_bytes;
                    pack_row(format, out, lane, &bytes[row..row + row_bytes]);
                }
            }
        });
        self.join_last(region);
        Ok(self.matrices.len() - 1)
    }

    /// Packs rows given as f32, quantising them for block formats. Returns the index of the
    /// matrix in what [`finish`](Self::finish) gives.
    ///
    /// `fill(r, row)` writes the `cols` values of row `r`; it is called once for each row, on any
    /// thread. A last block beyond `cols` is filled with zeros. The quantisers round as ggml's
    /// reference quantisers do; blocks with an infinity or a NaN get the scale NaN.
    ///
    /// # Errors
    ///
    /// [`CpuError::TooLarge`].
    pub fn add_f32_rows(
        &mut self,
        region: &mut Region<'_>,
        format: Format,
        [rows, cols]: [usize; 2],
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<usize, CpuError> {
        let (layout, data) = self.allocate(format, rows, cols)?;
        let width = layout.panel_bytes;
        let padded = if format.is_quantized() {
            cols.next_multiple_of(BLOCK)
        } else {
            cols
        };
        region.stage(Rows::new(data, width), |panels, part| {
            let mut row = vec![0.0; padded];
            let mut bytes = Vec::new();
            for (panel, out) in panels.zip(part.chunks_exact_mut(width)) {
                for lane in 0..LANES.min(rows - panel * LANES) {
                    fill(panel * LANES + lane, &mut row[..cols]);
                    bytes.clear();
                    encode_row(format, &row, &mut bytes);
                    pack_row(format, out, lane, &bytes);
                }
            }
        });
        self.join_last(region);
        Ok(self.matrices.len() - 1)
    }

    /// The packed matrices, in the order in which they were added.
    pub fn finish(self) -> Vec<PackedMatrix> {
        let pieces = self.pieces.into_iter().map(|piece| Arc::new(piece.pages));
        let pieces: Vec<Arc<Pages>> = pieces.collect();
        let matrices = self.matrices.into_iter();
        matrices
            .map(|(piece, layout)| PackedMatrix {
                pages: Arc::clone(&pieces[piece]),
                layout,
            })
            .collect()
    }

    /// Joins the scales of the matrix packed last, if that is wanted and keeps their precision.
    fn join_last(&mut self, region: &mut Region<'_>) {
        let (Some((piece, layout)), true) = (self.matrices.last_mut(), self.join) else {
            return;
        };
        if layout.format != Format::Q4_1 {
            return;
        }
        let (start, width) = (layout.start, layout.panel_bytes);
        let end = start + width * layout.rows.div_ceil(LANES);
        let data = &mut self.pieces[*piece].pages.as_mut_slice()[start..end];
        let suitable = AtomicBool::new(true);
        region.stage(Rows::new(data, width), |_, part| {
            if !part.chunks_exact(width).all(joined::is_suitable) {
                suitable.store(false, Ordering::Relaxed);
            }
        });
        layout.joined = suitable.into_inner();
        if layout.joined {
            region.stage(Rows::new(data, width), |_, part| {
                part.chunks_exact_mut(width).for_each(joined::join);
            });
        }
    }

    /// Room for a matrix, all zeros.
    fn allocate(
        &mut self,
        format: Format,
        rows: usize,
        cols: usize,
    ) -> Result<(Layout, &mut [u8]), CpuError> {
        let panel_bytes = if format.is_quantized() {
            let blocks = cols.div_ceil(BLOCK).checked_mul(format.block_bytes());
            match format {
                Format::Q4_1 if self.join => blocks.and_then(|n| n.checked_add(joined::UNIT_BYTES)),
                _ => blocks,
            }
        } else {
            cols.checked_mul(LANES * format.value_bytes())
        };
        let sizes = panel_bytes
            .and_then(|n| n.checked_next_multiple_of(LINE))
            .and_then(|n| Some((n, n.checked_mul(rows.div_ceil(LANES))?)))
            .filter(|(_, total)| *total <= isize::MAX as usize / 2);
        let Some((panel_bytes, total)) = sizes else {
            return Err(CpuError::TooLarge {
                what: "packed matrix",
                rows,
                cols,
            });
        };
        let fits = |piece: &Piece| piece.pages.as_slice().len() - piece.used >= total;
        if !self.pieces.last().is_some_and(fits) {
            self.pieces.push(Piece {
                pages: Pages::new(total.max(self.piece_bytes)),
                used: 0,
            });
        }
        let last = self.pieces.len() - 1;
        let piece = &mut self.pieces[last];
        let layout = Layout {
            format,
            rows,
            cols,
            start: piece.used,
            panel_bytes: panel_bytes.max(1),
            joined: false,
        };
        piece.used += total;
        self.matrices.push((last, layout));
        let data = &mut piece.pages.as_mut_slice()[layout.start..layout.start + total];
        Ok((layout, data))
    }
}

/// Bytes of a cache line; panels are a multiple of it.
const LINE: usize = 64;

fn file_row_bytes(format: Format, cols: usize) -> Result<usize, CpuError> {
    if format.is_quantized() && !cols.is_multiple_of(BLOCK) {
        return Err(CpuError::Multiple {
            what: "values a row",
            given: cols,
            multiple_of: BLOCK,
        });
    }
    let bytes = if format.is_quantized() {
        (cols / BLOCK).checked_mul(format.bytes_per_32())
    } else {
        cols.checked_mul(format.value_bytes())
    };
    bytes.ok_or(CpuError::TooLarge {
        what: "row",
        rows: 1,
        cols,
    })
}

impl PackedMatrix {
    /// Packs one matrix by itself, see [`WeightPacker::add_file_rows`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_file_rows(
        region: &mut Region<'_>,
        format: Format,
        shape: [usize; 2],
        bytes: &[u8],
        row_order: impl Fn(usize) -> usize + Sync,
    ) -> Result<Self, CpuError> {
        let mut packer = WeightPacker::default();
        let index = packer.add_file_rows(region, format, shape, bytes, row_order)?;
        Ok(packer.finish().swap_remove(index))
    }

    /// Packs one matrix by itself, see [`WeightPacker::add_f32_rows`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_f32_rows(
        region: &mut Region<'_>,
        format: Format,
        shape: [usize; 2],
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Self, CpuError> {
        let mut packer = WeightPacker::default();
        let index = packer.add_f32_rows(region, format, shape, fill)?;
        Ok(packer.finish().swap_remove(index))
    }

    /// The storage format.
    pub fn format(&self) -> Format {
        self.layout.format
    }

    /// Output rows.
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// Input values of a row.
    pub fn cols(&self) -> usize {
        self.layout.cols
    }

    /// Panels of 16 output rows; the last may be partly empty.
    pub fn panels(&self) -> usize {
        self.layout.rows.div_ceil(LANES)
    }

    /// Bytes of memory that one pass over the matrix reads.
    pub fn bytes(&self) -> usize {
        self.panels() * self.layout.panel_bytes
    }

    /// Whether the scales are joined, see [`WeightPacker::joining_scales`].
    pub(crate) fn is_joined(&self) -> bool {
        self.layout.joined
    }

    /// Writes row `row` as f32, exactly as ggml dequantises it unless scales are joined: an
    /// embedding lookup.
    ///
    /// # Errors
    ///
    /// [`CpuError::Limit`] when the row does not exist, [`CpuError::Size`] when `to` does not have
    /// [`cols`](Self::cols) values.
    pub fn row_into(&self, row: usize, to: &mut [f32]) -> Result<(), CpuError> {
        if row >= self.layout.rows {
            return Err(CpuError::Limit {
                what: "row",
                given: row,
                limit: self.layout.rows.saturating_sub(1),
            });
        }
        check_size("row buffer", to.len(), self.layout.cols)?;
        let panel = self.panel(row / LANES);
        let lane = row % LANES;
        match self.layout.format {
            Format::Q8_0 => {
                for (block, to) in self.blocks(panel).zip(to.chunks_mut(BLOCK)) {
                    let (quants, scales) = block.split_at(Format::Q8_0.quant_bytes());
                    let d = scale(scales, lane);
                    for (k, to) in to.iter_mut().enumerate() {
                        let at = k / 4 * 64 + lane * 4 + k % 4;
                        *to = d * f32::from((quants[at] ^ 0x80) as i8);
                    }
                }
            }
            Format::Q4_0 => {
                for (block, to) in self.blocks(panel).zip(to.chunks_mut(BLOCK)) {
                    let (quants, scales) = block.split_at(Format::Q4_0.quant_bytes());
                    let d = scale(scales, lane);
                    for (k, to) in to.iter_mut().enumerate() {
                        *to = d * f32::from(nibble(quants, lane, k) as i8 - 8);
                    }
                }
            }
            Format::Q4_1 => {
                for (block, to) in self.blocks(panel).zip(to.chunks_mut(BLOCK)) {
                    let (quants, scales) = block.split_at(Format::Q4_1.quant_bytes());
                    let (d, min) = match self.layout.joined {
                        true => joined::scale_and_min(panel, block, lane),
                        false => (scale(scales, lane), scale(scales, LANES + lane)),
                    };
                    for (k, to) in to.iter_mut().enumerate() {
                        *to = d * f32::from(nibble(quants, lane, k)) + min;
                    }
                }
            }
            Format::F16 => {
                for (k, to) in to.iter_mut().enumerate() {
                    *to = scale(panel, k * LANES + lane);
                }
            }
            Format::BF16 => {
                let values = panel.as_chunks::<2>().0;
                for (k, to) in to.iter_mut().enumerate() {
                    *to = half::bf16::from_le_bytes(values[k * LANES + lane]).to_f32();
                }
            }
            Format::F32 => {
                let values = panel.as_chunks::<4>().0;
                for (k, to) in to.iter_mut().enumerate() {
                    *to = f32::from_le_bytes(values[k * LANES + lane]);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn panel(&self, index: usize) -> &[u8] {
        let start = self.layout.start + index * self.layout.panel_bytes;
        &self.pages.as_slice()[start..start + self.layout.panel_bytes]
    }

    /// The blocks of a panel of a block format.
    fn blocks<'a>(&self, panel: &'a [u8]) -> std::slice::ChunksExact<'a, u8> {
        panel.chunks_exact(self.layout.format.block_bytes())
    }
}

fn scale(bytes: &[u8], index: usize) -> f32 {
    let at = 2 * index;
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn nibble(quants: &[u8], lane: usize, k: usize) -> u8 {
    let byte = quants[k % 16 / 4 * 64 + lane * 4 + k % 4];
    if k < 16 { byte & 15 } else { byte >> 4 }
}

/// Moves the bytes of one row of a file into lane `lane` of a panel.
fn pack_row(format: Format, panel: &mut [u8], lane: usize, row: &[u8]) {
    match format {
        Format::Q8_0 => pack_blocks::<34, 2>(format, panel, lane, row, 0x80),
        Format::Q4_0 => pack_blocks::<18, 2>(format, panel, lane, row, 0),
        Format::Q4_1 => pack_blocks::<20, 4>(format, panel, lane, row, 0),
        Format::F16 | Format::BF16 => {
            let out = panel.as_chunks_mut::<2>().0;
            for (k, value) in row.as_chunks::<2>().0.iter().enumerate() {
                out[k * LANES + lane] = *value;
            }
        }
        Format::F32 => {
            let out = panel.as_chunks_mut::<4>().0;
            for (k, value) in row.as_chunks::<4>().0.iter().enumerate() {
                out[k * LANES + lane] = *value;
            }
        }
    }
}

/// The same for blocks of `BYTES` bytes that start with `SCALES` bytes of scales; the bytes of the
/// values are combined with `flip` by exclusive or.
fn pack_blocks<const BYTES: usize, const SCALES: usize>(
    format: Format,
    panel: &mut [u8],
    lane: usize,
    row: &[u8],
    flip: u8,
) {
    let (sources, _) = row.as_chunks::<BYTES>();
    for (source, out) in sources
        .iter()
        .zip(panel.chunks_exact_mut(format.block_bytes()))
    {
        let (quants, scales) = out.split_at_mut(format.quant_bytes());
        let (source_scales, source_quants) = source.split_at(SCALES);
        let source_scales = source_scales.as_chunks::<2>().0;
        let scales = scales.as_chunks_mut::<2>().0;
        for (i, value) in source_scales.iter().enumerate() {
            scales[i * LANES + lane] = *value;
        }
        let source_quants = source_quants.as_chunks::<4>().0;
        let quants = quants.as_chunks_mut::<4>().0;
        for (g, q) in source_quants.iter().enumerate() {
            quants[g * LANES + lane] = q.map(|q| q ^ flip);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::threads::ThreadPool;
    use super::*;

    const VECTORS: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/gguf/quant_blocks.json"
    );

    fn base64(text: &str) -> Vec<u8> {
        let digit = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let mut bytes = Vec::new();
        for group in text.trim_end_matches('=').as_bytes().chunks(4) {
            let word = group
                .iter()
                .fold(0u32, |word, c| word << 6 | u32::from(digit(*c)));
            let word = word << (6 * (4 - group.len()) + 8);
            bytes.extend(&word.to_be_bytes()[..group.len() * 6 / 8]);
        }
        bytes
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        let words = bytes.as_chunks::<4>().0;
        words.iter().map(|w| f32::from_le_bytes(*w)).collect()
    }

    #[test]
    fn dequantises_and_quantises_as_ggml() {
        let text = std::fs::read_to_string(VECTORS).unwrap();
        let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
        let sources = vectors["types"]["F32"]["rows"].as_array().unwrap();
        let mut pool = ThreadPool::new(1).unwrap();
        let (mut decoded, mut encoded) = (0, 0);
        for format in [
            Format::Q8_0,
            Format::Q4_0,
            Format::Q4_1,
            Format::F16,
            Format::BF16,
        ] {
            for row in vectors["types"][format.name()]["rows"].as_array().unwrap() {
                let raw = base64(row["raw"].as_str().unwrap());
                let want = floats(&base64(row["f32"].as_str().unwrap()));
                let matrix = pool.region(|region| {
                    let n = want.len();
                    PackedMatrix::from_file_rows(region, format, [1, n], &raw, |r| r).unwrap()
                });
                let mut got = vec![0.0; want.len()];
                matrix.row_into(0, &mut got).unwrap();
                for (got, want) in got.iter().zip(&want) {
                    assert!(got.to_bits() == want.to_bits() || got == want, "{format:?}");
                }
                decoded += 1;

                let source = sources.iter().find(|s| s["row"] == row["row"]);
                let Some(source) = source.filter(|s| s["n"] == row["n"]) else {
                    continue;
                };
                let source = floats(&base64(source["raw"].as_str().unwrap()));
                if !source.iter().all(|x| x.is_finite()) {
                    continue;
                }
                let mut bytes = Vec::new();
                encode_row(format, &source, &mut bytes);
                assert!(bytes == raw, "{format:?} {}", row["row"]);
                encoded += 1;
            }
        }
        assert!(decoded >= 40 && encoded >= 20, "{decoded} {encoded}");
    }

    #[test]
    fn matrices_share_pieces() {
        let mut pool = ThreadPool::new(2).unwrap();
        let mut packer = WeightPacker {
            piece_bytes: 10_000,
            ..WeightPacker::new()
        };
        let shapes = [[16, 64], [40, 32], [1, 7], [300, 64], [3, 3]];
        pool.region(|region| {
            for (index, [rows, cols]) in shapes.into_iter().enumerate() {
                let value = |r: usize, c: usize| (index * 1000 + r * cols + c) as f32;
                let added = packer.add_f32_rows(region, Format::F32, [rows, cols], |r, row| {
                    for (c, x) in row.iter_mut().enumerate() {
                        *x = value(r, c);
                    }
                });
                assert_eq!(added.unwrap(), index);
            }
        });
        assert_eq!(packer.pieces.len(), 4);
        let matrices = packer.finish();
        for (index, ([rows, cols], matrix)) in shapes.iter().zip(&matrices).enumerate() {
            let mut row = vec![0.0; *cols];
            for r in 0..*rows {
                matrix.row_into(r, &mut row).unwrap();
                let first = (index * 1000 + r * cols) as f32;
                assert!((0..*cols).all(|c| row[c] == first + c as f32));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut pool = ThreadPool::new(1).unwrap();
        pool.region(|region| {
            let mut pack = |format, rows, cols, bytes: &[u8], shift: usize| {
                PackedMatrix::from_file_rows(region, format, [rows, cols], bytes, |r| r + shift)
            };
            assert!(matches!(
                pack(Format::Q8_0, 1, 33, &[0; 34], 0),
                Err(CpuError::Multiple { .. })
            ));
            assert!(matches!(
                pack(Format::Q8_0, 1, 32, &[0; 33], 0),
                Err(CpuError::Size { .. })
            ));
            assert!(matches!(
                pack(Format::Q8_0, 1, 32, &[0; 34], 1),
                Err(CpuError::RowOrder { .. })
            ));
            assert!(matches!(
                pack(Format::F32, usize::MAX, 32, &[], 0),
                Err(CpuError::TooLarge { .. })
            ));
            let empty = pack(Format::Q8_0, 0, 32, &[], 0).unwrap();
            assert_eq!(empty.panels(), 0);
        });
    }

    #[test]
    fn blocks_that_are_not_finite_stay_visible() {
        let mut pool = ThreadPool::new(1).unwrap();
        for format in [Format::Q8_0, Format::Q4_0, Format::Q4_1] {
            let matrix = pool.region(|region| {
                PackedMatrix::from_f32_rows(region, format, [1, 40], |_, row| {
                    row.fill(1.0);
                    row[35] = f32::INFINITY;
                })
                .unwrap()
            });
            let mut row = [0.0; 40];
            matrix.row_into(0, &mut row).unwrap();
            assert!(row[..32].iter().all(|x| (x - 1.0).abs() < 0.1));
            assert!(row[32..].iter().all(|x| x.is_nan()));
        }
    }
}
