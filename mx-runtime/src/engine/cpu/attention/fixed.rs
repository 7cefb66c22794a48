//! Attention over fixed-point caches: integer dot products of pairs.
//!
//! Every product that lies outside of a row's range has the weight zero, and integer sums are
//! exact, so rows with different ranges can go together.

use std::marker::PhantomData;
use std::ops::Range;

use super::super::kernels::{LANES, Lane, Simd, Task};
use super::super::kv::{Fixed, KV_BLOCK, Slab, fixed_scale};
use super::super::quantize::TINY;
use super::{AttentionScratch, BLOCKS, LINE, Plan, SPAN, Slabs, record_len, soften};

/// Weights are rounded to this many steps.
const WEIGHT_MAX: f32 = 32767.0;

/// A stored integer, as the kernels load it.
pub(super) trait Stored: Fixed + 'static {
    fn slab(slab: Slab<'_>) -> (&[Self], &[f32]);
    fn load<S: Simd>(s: S, from: &[Self; 32]) -> S::H;
}

impl Stored for i16 {
    #[inline(always)]
    fn slab(slab: Slab<'_>) -> (&[i16], &[f32]) {
        match slab {
            Slab::Fixed16(data, scales) => (data, scales),
            _ => (&[], &[]),
        }
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[i16; 32]) -> S::H {
        s.pairs_i16(from)
    }
}

impl Stored for i8 {
    #[inline(always)]
    fn slab(slab: Slab<'_>) -> (&[i8], &[f32]) {
        match slab {
            Slab::Fixed8(data, scales) => (data, scales),
            _ => (&[], &[]),
        }
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[i8; 32]) -> S::H {
        s.pairs_i8(from)
    }
}

#[inline(always)]
fn pair([low, high]: [i16; 2]) -> i32 {
    i32::from(low as u16) | i32::from(high) << 16
}

/// The largest magnitude of a query so that a score of `head_dim` products fits i32.
fn query_max<E: Fixed>(head_dim: usize) -> i32 {
    (i32::MAX / (E::MAX * head_dim as i32)).min(i32::from(i16::MAX))
}

/// Rounds the queries; scores come out in units of log2.
pub(super) struct Prepare<'a, E> {
    plan: &'a Plan<'a>,
    scratch: &'a mut AttentionScratch,
    stored: PhantomData<E>,
}

impl<'a, E> Prepare<'a, E> {
    pub(super) fn new(plan: &'a Plan<'a>, scratch: &'a mut AttentionScratch) -> Self {
        Self {
            plan,
            scratch,
            stored: PhantomData,
        }
    }
}

impl<E: Fixed> Task for Prepare<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { plan, scratch, .. } = self;
        let (rows, hd) = (plan.rows(), plan.head_dim);
        let scale = plan.params.scale * std::f32::consts::LOG2_E;
        let max = query_max::<E>(hd) as f32;
        scratch.factors.resize(rows, 0.0);
        scratch.rounded.resize(rows * hd, 0);
        scratch.weights.resize(rows * SPAN, 0);
        scratch.weight_scales.resize(rows, 0.0);
        for (row, to) in scratch.rounded.chunks_exact_mut(hd).enumerate() {
            let (from, _) = plan.query(row).as_chunks::<LANES>();
            let mut peak = s.splat_i(0);
            for x in from {
                peak = s.max_i(peak, s.abs_bits(s.load(x)));
            }
            let peak = f32::from_bits(s.largest_i(peak) as u32);
            let (unit, factor) = fixed_scale(peak, max);
            scratch.factors[row] = unit * scale;
            for (from, to) in from.iter().zip(to.as_chunks_mut::<LANES>().0) {
                s.store_i16(s.to_i32(s.mul(s.load(from), s.splat(factor))), to);
            }
        }
    }
}

/// All rows of a tile over one span.
pub(super) struct Span<'a, E> {
    plan: &'a Plan<'a>,
    scratch: &'a mut AttentionScratch,
    start: usize,
    slabs: &'a Slabs<'a>,
    next: &'a Slabs<'a>,
    records: &'a mut [f32],
    stored: PhantomData<E>,
}

impl<'a, E> Span<'a, E> {
    pub(super) fn new(
        plan: &'a Plan<'a>,
        scratch: &'a mut AttentionScratch,
        start: usize,
        slabs: &'a Slabs<'a>,
        next: &'a Slabs<'a>,
        records: &'a mut [f32],
    ) -> Self {
        Self {
            plan,
            scratch,
            start,
            slabs,
            next,
            records,
            stored: PhantomData,
        }
    }
}

impl<E: Stored> Task for Span<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            plan,
            scratch,
            start,
            slabs,
            next,
            records,
            ..
        } = self;
        let (rows, hd) = (plan.rows(), plan.head_dim);
        let half = KV_BLOCK * hd;
        let mut data: [&[E]; BLOCKS] = [&[]; BLOCKS];
        let mut value_scales = [0.0; SPAN];
        let mut key_scales = [0.0; SPAN];
        for (block, slab) in slabs.iter().enumerate() {
            let Some(slab) = *slab else { continue };
            let (values, scales) = E::slab(slab);
            data[block] = &values[..2 * half];
            let own = block * KV_BLOCK..(block + 1) * KV_BLOCK;
            key_scales[own.clone()].copy_from_slice(&scales[..KV_BLOCK]);
            value_scales[own].copy_from_slice(&scales[KV_BLOCK..2 * KV_BLOCK]);
        }
        let mut ahead: [&[E]; BLOCKS] = [&[]; BLOCKS];
        for (ahead, slab) in ahead.iter_mut().zip(next) {
            if let Some(slab) = *slab {
                let (values, scales) = E::slab(slab);
                for line in (0..size_of_val(scales)).step_by(LINE) {
                    s.prefetch_later(&scales[0], line);
                }
                *ahead = values;
            }
        }
        let all = plan.all_keys(start);
        for (block, slab) in data.iter().enumerate() {
            if slab.is_empty() {
                continue;
            }
            // Scores beyond the last key are not read.
            let needed = all.end.saturating_sub(block * KV_BLOCK).min(KV_BLOCK);
            let needed = needed.div_ceil(LANES);
            let few = needed <= 2;
            let mut keys = Keys {
                needed,
                keys: slab[..half].as_chunks().0,
                scales: key_scales[block * KV_BLOCK..(block + 1) * KV_BLOCK]
                    .as_chunks()
                    .0,
                values: &slab[half],
                fetch: true,
                hd,
            };
            let mut row = 0;
            while row < rows {
                let queries = &scratch.rounded[row * hd..];
                let factors = &scratch.factors[row..];
                let out = &mut scratch.scores[row * SPAN + block * KV_BLOCK..];
                row += match (rows - row, few) {
                    (1, true) => scores::<S, E, 1, 2>(s, &keys, queries, factors, out),
                    (1, false) => scores::<S, E, 1, 4>(s, &keys, queries, factors, out),
                    (2, true) => scores::<S, E, 2, 2>(s, &keys, queries, factors, out),
                    (2, false) => scores::<S, E, 2, 4>(s, &keys, queries, factors, out),
                    (3, true) => scores::<S, E, 3, 2>(s, &keys, queries, factors, out),
                    (3, false) => scores::<S, E, 3, 4>(s, &keys, queries, factors, out),
                    (4 | 5, true) => scores::<S, E, 4, 2>(s, &keys, queries, factors, out),
                    (4 | 5, false) => scores::<S, E, 4, 4>(s, &keys, queries, factors, out),
                    (_, true) => scores::<S, E, 6, 2>(s, &keys, queries, factors, out),
                    (_, false) => scores::<S, E, 6, 4>(s, &keys, queries, factors, out),
                };
                keys.fetch = false;
            }
        }
        let len = record_len(hd);
        for row in 0..rows {
            let own = plan.keys(row, start);
            let weights = &mut scratch.scores[row * SPAN..(row + 1) * SPAN];
            let cap = plan.params.softcap;
            let softened = soften::<S, true>(s, cap, weights, &value_scales, &all, &own);
            let record = &mut records[row * len..(row + 1) * len];
            (record[hd], record[hd + 1]) = (softened.peak, softened.sum);
            let rounded = &mut scratch.weights[row * SPAN..(row + 1) * SPAN];
            scratch.weight_scales[row] = softened.weight / WEIGHT_MAX;
            round_weights(s, weights, softened.weight, &all, rounded);
        }
        // Whole vectors of positions: weights beyond the range of a row are zero.
        let first = all.start / LANES;
        let end = all.end.div_ceil(LANES);
        let mut row = 0;
        while row < rows {
            let operands = Values {
                fetch: row == 0,
                weights: &scratch.weights[row * SPAN..],
                scales: &scratch.weight_scales[row..],
                lanes: first..end,
                hd,
            };
            let out = &mut records[row * len..];
            row += match rows - row {
                1 => values::<S, E, 1>(s, [&data, &ahead], &operands, out),
                2 => values::<S, E, 2>(s, [&data, &ahead], &operands, out),
                3 => values::<S, E, 3>(s, [&data, &ahead], &operands, out),
                4 => values::<S, E, 4>(s, [&data, &ahead], &operands, out),
                5 => values::<S, E, 5>(s, [&data, &ahead], &operands, out),
                _ => values::<S, E, 6>(s, [&data, &ahead], &operands, out),
            };
        }
    }
}

/// The keys of a block with their scales, and what will be read after them.
struct Keys<'a, E> {
    keys: &'a [[E; 32]],
    scales: &'a [Lane<f32>],
    /// Groups of 16 positions that hold a key.
    needed: usize,
    /// The values of the block, which are read later.
    values: &'a E,
    /// Whether to ask for them: the first rows do it for all.
    fetch: bool,
    hd: usize,
}

/// Scores of R rows against the keys of a block, G groups of 16 at a time. Returns R.
#[inline(always)]
fn scores<S: Simd, E: Stored, const R: usize, const G: usize>(
    s: S,
    keys: &Keys<'_, E>,
    queries: &[i16],
    factors: &[f32],
    out: &mut [f32],
) -> usize {
    let Keys {
        keys,
        scales,
        needed,
        values,
        fetch,
        hd,
    } = *keys;
    let half = hd / 2;
    let groups = KV_BLOCK / LANES;
    let mut rows = [queries.as_chunks::<2>().0; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = queries[r * hd..(r + 1) * hd].as_chunks().0;
    }
    for first in (0..needed).step_by(G) {
        let mut acc = [[s.splat_i(0); G]; R];
        for d in 0..half {
            let Some(keys) = keys[d * groups + first..].first_chunk::<G>() else {
                return R;
            };
            if fetch {
                for line in (0..size_of_val(keys)).step_by(LINE) {
                    s.prefetch_later(values, (d * groups + first) * size_of_val(&keys[0]) + line);
                }
            }
            for g in 0..G {
                let key = E::load(s, &keys[g]);
                for r in 0..R {
                    acc[r][g] = s.dot_pairs(acc[r][g], key, pair(rows[r][d]));
                }
            }
        }
        for r in 0..R {
            let factor = s.splat(factors[r]);
            let (lanes, _) = out[r * SPAN..][..KV_BLOCK].as_chunks_mut::<LANES>();
            for g in 0..G {
                let score = s.mul(s.to_f32(acc[r][g]), s.load(&scales[first + g]));
                s.store(s.mul(score, factor), &mut lanes[first + g]);
            }
        }
    }
    R
}

/// Rounds the weights in the vectors of `all` to i16, the largest to [`WEIGHT_MAX`].
#[inline(always)]
fn round_weights<S: Simd>(
    s: S,
    weights: &[f32],
    largest: f32,
    all: &Range<usize>,
    out: &mut [i16],
) {
    let lanes = all.start / LANES..all.end.div_ceil(LANES);
    let (weights, _) = weights.as_chunks::<LANES>();
    let (out, _) = out.as_chunks_mut::<LANES>();
    let factor = s.splat(if largest > TINY {
        WEIGHT_MAX / largest
    } else {
        0.0
    });
    for (weight, out) in weights[lanes.clone()].iter().zip(&mut out[lanes]) {
        s.store_i16(s.to_i32(s.mul(s.load(weight), factor)), out);
    }
}

struct Values<'a> {
    /// Whether to ask for what follows: the first rows do it for all.
    fetch: bool,
    weights: &'a [i16],
    scales: &'a [f32],
    lanes: Range<usize>,
    hd: usize,
}

/// Weighted values of R rows. Returns R.
#[inline(always)]
fn values<S: Simd, E: Stored, const R: usize>(
    s: S,
    [data, ahead]: [&[&[E]; BLOCKS]; 2],
    operands: &Values<'_>,
    out: &mut [f32],
) -> usize {
    let mut first = 0;
    while first < operands.hd {
        first += if operands.hd - first >= 4 * LANES {
            value_lanes::<S, E, R, 4>(s, [data, ahead], operands, first, out)
        } else {
            value_lanes::<S, E, R, 1>(s, [data, ahead], operands, first, out)
        };
    }
    R
}

#[inline(always)]
fn value_lanes<S: Simd, E: Stored, const R: usize, const D: usize>(
    s: S,
    [data, ahead]: [&[&[E]; BLOCKS]; 2],
    operands: &Values<'_>,
    first: usize,
    out: &mut [f32],
) -> usize {
    let (hd, fetch) = (operands.hd, operands.fetch);
    let len = record_len(hd);
    let mut rows = [operands.weights.as_chunks::<LANES>().0; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = operands.weights[r * SPAN..(r + 1) * SPAN].as_chunks().0;
    }
    let mut sums = [[s.splat(0.0); D]; R];
    let mut acc = [[s.splat_i(0); D]; R];
    let per_block = KV_BLOCK / LANES;
    for lane in operands.lanes.clone() {
        let block = data[lane / per_block];
        let start = KV_BLOCK * hd + lane % per_block * LANES * hd;
        let Some(values) = block.get(start..start + LANES * hd) else {
            continue;
        };
        let next = ahead[lane / per_block].first().unwrap_or(&values[0]);
        for (j, values) in values.chunks_exact(2 * hd).enumerate() {
            let (chunks, _) = values[2 * first..].as_chunks::<32>();
            if fetch {
                let at = lane % per_block * LANES * hd + 2 * (j * hd + first);
                for line in (0..D * size_of::<[E; 32]>()).step_by(LINE) {
                    s.prefetch_later(next, at * size_of::<E>() + line);
                }
            }
            let mut pairs = [0; R];
            for r in 0..R {
                let w = &rows[r][lane];
                pairs[r] = pair([w[2 * j], w[2 * j + 1]]);
            }
            for d in 0..D {
                let value = E::load(s, &chunks[d]);
                for r in 0..R {
                    acc[r][d] = s.dot_pairs(acc[r][d], value, pairs[r]);
                }
            }
        }
        if E::KEYS == LANES {
            for r in 0..R {
                for d in 0..D {
                    sums[r][d] = s.add(sums[r][d], s.to_f32(acc[r][d]));
                    acc[r][d] = s.splat_i(0);
                }
            }
        }
    }
    for r in 0..R {
        let scale = s.splat(operands.scales[r]);
        let (lanes, _) = out[r * len + first..][..D * LANES].as_chunks_mut::<LANES>();
        for d in 0..D {
            let sum = if E::KEYS == LANES {
                sums[r][d]
            } else {
                s.to_f32(acc[r][d])
            };
            s.store(s.mul(sum, scale), &mut lanes[d]);
        }
    }
    D * LANES
}
