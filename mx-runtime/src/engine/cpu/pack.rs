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
//! | F16, BF16, F32 | `[k][row]` | |
//!
//! Scales lie with their block, so that a pass over a panel is one stream through memory. Rows
//! beyond the last are zero; panels start at cache lines.

use half::f16;

use super::buffer::Aligned;
use super::error::{CpuError, check_size};
use super::kernels::LANES;
use super::quantize::BLOCK;
use super::threads::{Region, Rows};

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

/// A matrix `[out, in]` packed for [`Kernels::matmul`](super::Kernels::matmul).
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    data: Aligned<u8>,
    format: Format,
    rows: usize,
    cols: usize,
    panel_bytes: usize,
}

impl PackedMatrix {
    /// Packs the rows of a file: `bytes` holds `rows` rows of `cols` values in `format`.
    ///
    /// Row `r` of the result is row `row_order(r)` of the file, so that files which store the
    /// rows of q and k permuted can be put right without dequantising. Pass `|r| r` otherwise.
    /// The panels are packed in parallel.
    ///
    /// # Errors
    ///
    /// [`CpuError::Multiple`] when a block format does not fill its last block,
    /// [`CpuError::Size`] when `bytes` has the wrong length, [`CpuError::RowOrder`] when the order
    /// leaves the matrix, [`CpuError::TooLarge`].
    pub fn from_file_rows(
        region: &mut Region<'_>,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
        row_order: impl Fn(usize) -> usize + Sync,
    ) -> Result<Self, CpuError> {
        if format.is_quantized() && !cols.is_multiple_of(BLOCK) {
            return Err(CpuError::Multiple {
                what: "values a row",
                given: cols,
                multiple_of: BLOCK,
            });
        }
        let too_large = CpuError::TooLarge {
            what: "matrix",
            rows,
            cols,
        };
        let row_bytes = if format.is_quantized() {
            cols / BLOCK * format.bytes_per_32()
        } else {
            match cols.checked_mul(format.value_bytes()) {
                Some(n) => n,
                None => return Err(too_large),
            }
        };
        let Some(total) = rows.checked_mul(row_bytes) else {
            return Err(too_large);
        };
        check_size("bytes of the matrix", bytes.len(), total)?;
        for row in 0..rows {
            let given = row_order(row);
            if given >= rows {
                return Err(CpuError::RowOrder { row, given, rows });
            }
        }
        let mut this = Self::zeros(format, rows, cols)?;
        let width = this.panel_bytes;
        region.stage(
            Rows::new(this.data.as_mut_slice(), width),
            |panels, part| {
                for (panel, out) in panels.zip(part.chunks_exact_mut(width)) {
                    for lane in 0..LANES.min(rows - panel * LANES) {
                        let row = row_order(panel * LANES + lane) * row_bytes;
                        pack_row(format, out, lane, &bytes[row..row + row_bytes]);
                    }
                }
            },
        );
        Ok(this)
    }

    /// Packs rows given as f32, quantising them for block formats.
    ///
    /// `fill(r, row)` writes the `cols` values of row `r`; it is called once for each row, on any
    /// thread. A last block beyond `cols` is filled with zeros. The quantisers round as ggml's
    /// reference quantisers do; blocks with an infinity or a NaN get the scale NaN.
    ///
    /// # Errors
    ///
    /// [`CpuError::TooLarge`].
    pub fn from_f32_rows(
        region: &mut Region<'_>,
        format: Format,
        rows: usize,
        cols: usize,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Self, CpuError> {
        let mut this = Self::zeros(format, rows, cols)?;
        let width = this.panel_bytes;
        let padded = if format.is_quantized() {
            cols.next_multiple_of(BLOCK)
        } else {
            cols
        };
        region.stage(
            Rows::new(this.data.as_mut_slice(), width),
            |panels, part| {
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
            },
        );
        Ok(this)
    }

    /// The storage format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Output rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input values of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Panels of 16 output rows; the last may be partly empty.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Bytes of memory that one pass over the matrix reads.
    pub fn bytes(&self) -> usize {
        self.data.as_slice().len()
    }

    /// Writes row `row` as f32, exactly as ggml dequantises it: an embedding lookup.
    ///
    /// # Errors
    ///
    /// [`CpuError::Limit`] when the row does not exist, [`CpuError::Size`] when `to` does not have
    /// [`cols`](Self::cols) values.
    pub fn row_into(&self, row: usize, to: &mut [f32]) -> Result<(), CpuError> {
        if row >= self.rows {
            return Err(CpuError::Limit {
                what: "row",
                given: row,
                limit: self.rows.saturating_sub(1),
            });
        }
        check_size("row buffer", to.len(), self.cols)?;
        let panel = self.panel(row / LANES);
        let lane = row % LANES;
        match self.format {
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
                    let (d, min) = (scale(scales, lane), scale(scales, LANES + lane));
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
        &self.data.as_slice()[index * self.panel_bytes..(index + 1) * self.panel_bytes]
    }

    /// The blocks of a panel of a block format.
    fn blocks<'a>(&self, panel: &'a [u8]) -> std::slice::ChunksExact<'a, u8> {
        panel.chunks_exact(self.format.block_bytes())
    }

    fn zeros(format: Format, rows: usize, cols: usize) -> Result<Self, CpuError> {
        let panel_bytes = if format.is_quantized() {
            cols.div_ceil(BLOCK)
                .checked_mul(format.block_bytes())
        } else {
            cols.checked_mul(LANES * format.value_bytes())
        };
        // Room for `Aligned` to reach the next line.
        let fits = |n: &usize| *n <= isize::MAX as usize / 2;
        let sizes = panel_bytes
            .and_then(|n| n.checked_next_multiple_of(64))
            .and_then(|n| Some((n, n.checked_mul(rows.div_ceil(LANES))?)))
            .filter(|(_, total)| fits(total));
        let Some((panel_bytes, total)) = sizes else {
            return Err(CpuError::TooLarge {
                what: "packed matrix",
                rows,
                cols,
            });
        };
        Ok(Self {
            data: Aligned::new(total),
            format,
            rows,
            cols,
            panel_bytes: panel_bytes.max(1),
        })
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
            to.extend(row.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()));
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
