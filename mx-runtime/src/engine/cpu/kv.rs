//! The cache of keys and values: blocks of 64 positions, shared between forks until written.
//!
//! A block holds all layers and heads of its positions. For each (layer, kv head) lie first the
//! keys, then the values:
//!
//! | formats | keys | values |
//! |---|---|---|
//! | F32, F16 | `[head_dim][position]` | `[position][head_dim]` |
//! | Fixed16, Fixed8 | `[head_dim / 2][position][2]` | `[position / 2][head_dim][2]` |
//!
//! so that scores come out lane = position and outputs lane = dimension, and the fixed-point
//! formats feed pairs to integer dot products. A fixed-point row has one f32 scale for its key
//! and one for its value.

mod pieces;

use std::ops::Range;
use std::sync::Arc;

use super::error::CpuError;
use super::kernels::{Kernels, LANES, Simd, Task};
use bytemuck::{cast_slice, cast_slice_mut};
use pieces::{Piece, PieceSource};

/// Positions of a block.
pub const KV_BLOCK: usize = 64;

/// The largest head dimension that the fixed-point sums allow.
pub const MAX_HEAD_DIM: usize = 512;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KvFormat {
    /// 4 bytes a value: the exact mode.
    F32,
    /// 2 bytes a value, f32 arithmetic.
    F16,
    /// 2 bytes a value, 13-bit integers under one scale a row, integer arithmetic: as accurate
    /// as F16 on rows without outliers, and about twice as fast where attention dominates.
    Fixed16,
    /// 1 byte a value, 8-bit integers under one scale a row, integer arithmetic.
    Fixed8,
}

/// Dimensions of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KvShape {
    /// Decoder layers.
    pub layers: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Storage.
    pub format: KvFormat,
}

impl KvShape {
    /// Bytes that one position takes.
    pub fn bytes_per_position(&self) -> usize {
        let scale = match self.format {
            KvFormat::F32 | KvFormat::F16 => 0,
            KvFormat::Fixed16 | KvFormat::Fixed8 => size_of::<f32>(),
        };
        2 * self.layers * self.kv_heads * (self.head_dim * self.value_bytes() + scale)
    }

    fn value_bytes(&self) -> usize {
        match self.format {
            KvFormat::F32 => 4,
            KvFormat::F16 | KvFormat::Fixed16 => 2,
            KvFormat::Fixed8 => 1,
        }
    }

    /// Bytes of the keys and values of a block: whole cache lines.
    fn values_bytes(&self) -> usize {
        2 * self.layers * self.kv_heads * self.half_slab() * self.value_bytes()
    }

    /// Bytes of the scales of a block.
    fn scales_bytes(&self) -> usize {
        KV_BLOCK * self.bytes_per_position() - self.values_bytes()
    }

    fn half_slab(&self) -> usize {
        KV_BLOCK * self.head_dim
    }
}

/// Keys and values of one sequence. Cloning is a fork: blocks are shared until one side writes.
#[derive(Debug, Clone)]
pub struct KvCache {
    shape: KvShape,
    blocks: Vec<Arc<Block>>,
    len: usize,
    /// Memory of the blocks; forks share it.
    source: PieceSource,
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Errors
    ///
    /// [`CpuError::Multiple`] when the head dimension is no multiple of 16, [`CpuError::Limit`]
    /// above [`MAX_HEAD_DIM`], [`CpuError::TooLarge`] when a block does not fit the address space.
    pub fn new(shape: KvShape) -> Result<Self, CpuError> {
        if shape.head_dim == 0 || !shape.head_dim.is_multiple_of(LANES) {
            return Err(CpuError::Multiple {
                what: "head_dim",
                given: shape.head_dim,
                multiple_of: LANES,
            });
        }
        if shape.head_dim > MAX_HEAD_DIM {
            return Err(CpuError::Limit {
                what: "head_dim",
                given: shape.head_dim,
                limit: MAX_HEAD_DIM,
            });
        }
        let bytes = shape
            .layers
            .checked_mul(shape.kv_heads)
            .and_then(|n| n.checked_mul(2 * 4 * KV_BLOCK * (MAX_HEAD_DIM + 1)));
        if bytes.is_none_or(|n| n > isize::MAX as usize) {
            return Err(CpuError::TooLarge {
                what: "a block of the key-value cache",
                rows: shape.layers,
                cols: shape.kv_heads,
            });
        }
        Ok(Self {
            shape,
            blocks: Vec::new(),
            len: 0,
            source: PieceSource::new(KV_BLOCK * shape.bytes_per_position()),
        })
    }

    /// The dimensions.
    pub fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets the positions from `len` on: O(1) apart from freeing blocks.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.blocks.truncate(self.len.div_ceil(KV_BLOCK));
    }

    /// A second sequence with the same contents; blocks are copied only when one of them writes.
    pub fn fork(&self) -> Self {
        self.clone()
    }

    /// Bytes of the blocks that this sequence refers to, shared ones included.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * KV_BLOCK * self.shape.bytes_per_position()
    }

    /// Makes `count` further positions writable: allocates blocks, and copies the last one when
    /// another fork shares it.
    pub fn reserve(&mut self, count: usize) {
        let used = self.len % KV_BLOCK;
        if used > 0
            && count > 0
            && let Some(last) = self.blocks.get_mut(self.len / KV_BLOCK)
            && Arc::get_mut(last).is_none()
        {
            *last = Arc::new(last.copy(&self.shape, &self.source, used));
        }
        let wanted = self.len.saturating_add(count).div_ceil(KV_BLOCK);
        while self.blocks.len() < wanted {
            self.blocks.push(Arc::new(Block(self.source.take())));
        }
    }

    /// One writer for each kv head of `layer`, for the `count` positions behind the end, which
    /// [`reserve`](Self::reserve) has made writable. Empty when it has not.
    pub fn writers(&mut self, layer: usize, count: usize) -> Vec<HeadWriter<'_>> {
        let (shape, len) = (self.shape, self.len);
        let blocks = len / KV_BLOCK..(len + count).div_ceil(KV_BLOCK);
        let mut writers: Vec<HeadWriter<'_>> = (0..shape.kv_heads)
            .map(|_| HeadWriter {
                slabs: Vec::with_capacity(blocks.len()),
                first: len % KV_BLOCK,
                head_dim: shape.head_dim,
            })
            .collect();
        let Some(blocks) = self.blocks.get_mut(blocks) else {
            return Vec::new();
        };
        for block in blocks {
            let Some(block) = Arc::get_mut(block) else {
                return Vec::new();
            };
            let slabs = layer * shape.kv_heads..(layer + 1) * shape.kv_heads;
            block.slabs_mut(&shape, slabs, &mut writers);
        }
        writers
    }

    /// Takes the `count` positions behind the end, written in every layer, as held.
    pub fn advance(&mut self, count: usize) {
        self.len = (self.len + count).min(self.blocks.len() * KV_BLOCK);
    }

    /// The slab of (layer, kv head) in block `block`, if the block exists.
    pub(crate) fn slab(&self, layer: usize, kv_head: usize, block: usize) -> Option<Slab<'_>> {
        let slab = layer * self.shape.kv_heads + kv_head;
        self.blocks.get(block)?.slab(&self.shape, slab)
    }
}

/// Writes new positions of one (layer, kv head).
#[derive(Debug)]
pub struct HeadWriter<'a> {
    slabs: Vec<SlabMut<'a>>,
    /// Position in the first slab of the first new position.
    first: usize,
    head_dim: usize,
}

impl HeadWriter<'_> {
    /// Stores key and value of the new position `index` (0 is the first behind the old end).
    /// Values beyond the head dimension, and positions that are not writable, are ignored.
    ///
    /// # Shapes
    ///
    /// `key`, `value`: `[head_dim]`.
    pub fn write(&mut self, kernels: Kernels, index: usize, key: &[f32], value: &[f32]) {
        let (at, hd) = (self.first + index, self.head_dim);
        let position = at % KV_BLOCK;
        let Some(slab) = self.slabs.get_mut(at / KV_BLOCK) else {
            return;
        };
        match slab {
            SlabMut::F32(data) => store_float(data, position, hd, key, value),
            SlabMut::F16(data) => {
                let (keys, values) = data.split_at_mut(KV_BLOCK * hd);
                kernels.run(StoreHalf {
                    key,
                    value,
                    keys: &mut keys[position..],
                    values: &mut values[position * hd..],
                });
            }
            SlabMut::Fixed16(data, scales) => {
                store_fixed::<i16>(data, scales, position, hd, key, value);
            }
            SlabMut::Fixed8(data, scales) => {
                store_fixed::<i8>(data, scales, position, hd, key, value);
            }
        }
    }
}

fn store_float<E: Copy>(data: &mut [E], position: usize, head_dim: usize, key: &[E], value: &[E]) {
    let (keys, values) = data.split_at_mut(KV_BLOCK * head_dim);
    let columns = keys.chunks_exact_mut(KV_BLOCK);
    for (column, &x) in columns.zip(key) {
        column[position] = x;
    }
    let row = &mut values[position * head_dim..(position + 1) * head_dim];
    for (to, &x) in row.iter_mut().zip(value) {
        *to = x;
    }
}

/// Stores the whole vectors of a key and a value in half precision.
struct StoreHalf<'a> {
    key: &'a [f32],
    value: &'a [f32],
    /// From the position on: every [`KV_BLOCK`]th value is its own.
    keys: &'a mut [u16],
    /// From the row of the position on.
    values: &'a mut [u16],
}

impl Task for StoreHalf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let columns = self.keys.chunks_mut(KV_BLOCK * LANES);
        for (from, columns) in self.key.as_chunks::<LANES>().0.iter().zip(columns) {
            let mut halves = [0; LANES];
            s.store_f16(s.load(from), &mut halves);
            for (to, half) in columns.iter_mut().step_by(KV_BLOCK).zip(halves) {
                *to = half;
            }
        }
        let (to, _) = self.values.as_chunks_mut::<LANES>();
        for (from, to) in self.value.as_chunks::<LANES>().0.iter().zip(to) {
            s.store_f16(s.load(from), to);
        }
    }
}

/// A stored integer of a fixed-point format.
pub(crate) trait Fixed: Copy + Default {
    /// Largest magnitude in use. For 16 bits it is 12 bits, so that products of 15-bit weights
    /// summed over [`Fixed::KEYS`] positions stay within i32.
    const MAX: i32;
    /// Positions whose weighted values are summed as integers.
    const KEYS: usize;

    fn from_i32(x: i32) -> Self;
}

impl Fixed for i16 {
    const MAX: i32 = 4095;
    const KEYS: usize = 16;

    fn from_i32(x: i32) -> Self {
        x as i16
    }
}

impl Fixed for i8 {
    const MAX: i32 = 127;
    const KEYS: usize = 256;

    fn from_i32(x: i32) -> Self {
        x as i8
    }
}

/// (scale, factor) that map values up to `peak` to integers up to `max`; NaN as scale when the
/// peak is not finite.
pub(crate) fn fixed_scale(peak: f32, max: f32) -> (f32, f32) {
    if !peak.is_finite() {
        return (f32::NAN, 0.0);
    }
    if peak < super::quantize::TINY {
        return (0.0, 0.0);
    }
    (peak / max, max / peak)
}

/// The largest magnitude; NaN if there is one.
fn peak(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0, |m: u32, x| m.max(x.abs().to_bits())))
}

fn store_fixed<E: Fixed>(
    data: &mut [E],
    scales: &mut [f32],
    position: usize,
    head_dim: usize,
    key: &[f32],
    value: &[f32],
) {
    let (keys, values) = data.split_at_mut(KV_BLOCK * head_dim);
    let (key_scales, value_scales) = scales.split_at_mut(KV_BLOCK);
    let (scale, factor) = fixed_scale(peak(key), E::MAX as f32);
    key_scales[position] = scale;
    for (d, &x) in key.iter().take(head_dim).enumerate() {
        keys[d / 2 * 2 * KV_BLOCK + 2 * position + d % 2] = to_fixed(x, factor);
    }
    let (scale, factor) = fixed_scale(peak(value), E::MAX as f32);
    value_scales[position] = scale;
    let base = position / 2 * head_dim * 2 + position % 2;
    for (d, &x) in value.iter().take(head_dim).enumerate() {
        values[base + 2 * d] = to_fixed(x, factor);
    }
}

/// Adding 1.5 · 2^23 rounds to an integer, ties to even, and leaves it in the low bits; the
/// arguments stay far below 2^22.
const ROUND_MAGIC: f32 = 12_582_912.0;

fn to_fixed<E: Fixed>(x: f32, factor: f32) -> E {
    E::from_i32((x * factor + ROUND_MAGIC).to_bits() as i32 - ROUND_MAGIC.to_bits() as i32)
}

/// A slab to read: keys then values of one (layer, kv head), with the scales of both.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slab<'a> {
    F32(&'a [f32]),
    F16(&'a [u16]),
    Fixed16(&'a [i16], &'a [f32]),
    Fixed8(&'a [i8], &'a [f32]),
}

#[derive(Debug)]
enum SlabMut<'a> {
    F32(&'a mut [f32]),
    F16(&'a mut [u16]),
    Fixed16(&'a mut [i16], &'a mut [f32]),
    Fixed8(&'a mut [i8], &'a mut [f32]),
}

/// The memory of a block: the slabs of all layers and heads, then, in the fixed-point formats,
/// the scales in the same order.
#[derive(Debug)]
struct Block(Piece);

impl Block {
    /// A copy of the first `used` positions.
    fn copy(&self, shape: &KvShape, source: &PieceSource, used: usize) -> Self {
        let mut copy = Self(source.take());
        let (values, scales) = self.0.as_slice().split_at(shape.values_bytes());
        let (to_values, to_scales) = copy.0.as_mut_slice().split_at_mut(shape.values_bytes());
        to_scales.copy_from_slice(scales);
        let half = shape.half_slab() * shape.value_bytes();
        // The keys of all positions are interleaved, values come in pairs of positions.
        let used = [half, used.div_ceil(2) * 2 * (half / KV_BLOCK)];
        let halves = values.chunks_exact(half);
        for (index, (from, to)) in halves.zip(to_values.chunks_exact_mut(half)).enumerate() {
            let n = used[index % 2];
            to[..n].copy_from_slice(&from[..n]);
        }
        copy
    }

    fn slab(&self, shape: &KvShape, index: usize) -> Option<Slab<'_>> {
        let (values, scales) = self.0.as_slice().split_at(shape.values_bytes());
        let size = 2 * shape.half_slab() * shape.value_bytes();
        let values = values.get(index * size..(index + 1) * size)?;
        let scales = || {
            let scales: &[f32] = cast_slice(scales.get(..shape.scales_bytes())?);
            scales.get(index * 2 * KV_BLOCK..(index + 1) * 2 * KV_BLOCK)
        };
        Some(match shape.format {
            KvFormat::F32 => Slab::F32(cast_slice(values)),
            KvFormat::F16 => Slab::F16(cast_slice(values)),
            KvFormat::Fixed16 => Slab::Fixed16(cast_slice(values), scales()?),
            KvFormat::Fixed8 => Slab::Fixed8(cast_slice(values), scales()?),
        })
    }

    /// Adds the slabs `slabs` to the writers, one each.
    fn slabs_mut<'a>(
        &'a mut self,
        shape: &KvShape,
        slabs: Range<usize>,
        writers: &mut [HeadWriter<'a>],
    ) {
        let size = 2 * shape.half_slab() * shape.value_bytes();
        let (values, scales) = self.0.as_mut_slice().split_at_mut(shape.values_bytes());
        let scales: &mut [f32] = cast_slice_mut(&mut scales[..shape.scales_bytes()]);
        let values = values.chunks_exact_mut(size).skip(slabs.start);
        let mut scales = scales.chunks_exact_mut(2 * KV_BLOCK).skip(slabs.start);
        for (writer, values) in writers.iter_mut().zip(values.take(slabs.len())) {
            let mut scales = || scales.next().unwrap_or_default();
            writer.slabs.push(match shape.format {
                KvFormat::F32 => SlabMut::F32(cast_slice_mut(values)),
                KvFormat::F16 => SlabMut::F16(cast_slice_mut(values)),
                KvFormat::Fixed16 => SlabMut::Fixed16(cast_slice_mut(values), scales()),
                KvFormat::Fixed8 => SlabMut::Fixed8(cast_slice_mut(values), scales()),
            });
        }
    }
}
