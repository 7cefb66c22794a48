//! Causal attention of query tiles over a key-value cache, with grouped heads.
//!
//! For a query at position p and keys at positions j in its range (`j <= p`, and `j > p - window`
//! if there is a window):
//!
//! ```text
//! s_j = scale · ⟨q, k_j⟩        out = Σ_j e^(s_j) v_j / Σ_j e^(s_j)
//! ```
//!
//! The keys are taken in *spans* of [`SPAN`] absolute positions. Within a span the largest score
//! is known before any exponential; spans are merged in order by the usual rescaling. The result
//! of a query depends on its own range of absolute positions only: computing it in a long prefill,
//! token by token, with other sequences beside it, or with spans on different threads gives the
//! same bits.
//!
//! Fixed-point caches multiply integers: the query is rounded to 13 to 15 bits, the weights
//! `e^(s - max)` times the value scales to 15 bits a span.

mod fixed;
mod float;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::error::{CpuError, check_size};
use super::kernels::{Kernels, LANES, Simd, Task};
use super::kv::{KV_BLOCK, KvCache, KvFormat, Slab};
use super::ops::{exp, exp2};
use super::threads::TileMut;

/// Positions of a span, the unit in which keys are taken and can be spread over threads.
pub const SPAN: usize = 256;

const BLOCKS: usize = SPAN / KV_BLOCK;

/// Bytes of a cache line: the step in which memory is asked for ahead.
const LINE: usize = 64;

/// What stays the same for all attention of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionParams {
    /// Query heads; a multiple of the cache's kv heads.
    pub heads: usize,
    /// Factor of the scores, commonly 1 / sqrt(head_dim).
    pub scale: f32,
    /// Keys that a query sees, itself included; all if `None`.
    pub window: Option<usize>,
    /// `s = cap · tanh(s / cap)`, if given.
    pub softcap: Option<f32>,
}

/// Queries of one sequence at consecutive positions, all heads of one kv head.
#[derive(Debug, Clone, Copy)]
pub struct QueryTile<'a> {
    /// Queries after rope: `[rows, stride]`, the rows of this tile only, each beginning with its
    /// `heads · head_dim` values. What lies behind them in a row is not read.
    pub queries: &'a [f32],
    /// Values from one row of the queries to the next.
    pub stride: usize,
    /// Position of the first row.
    pub first_position: usize,
    /// Layer of the cache to read.
    pub layer: usize,
    /// The kv head; its query heads are `kv_head · group ..`, with group = heads / kv_heads.
    pub kv_head: usize,
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    /// Scaled queries, `[rows][head_dim]`, as f32 or rounded to integers.
    queries: Vec<f32>,
    rounded: Vec<i16>,
    /// Keys of a block as f32, `[head_dim][position]`.
    keys: Vec<f32>,
    /// Factor that undoes the rounding of the queries, by row.
    factors: Vec<f32>,
    /// `[rows][SPAN]`: scores, then weights.
    scores: Vec<f32>,
    weights: Vec<i16>,
    weight_scales: Vec<f32>,
    /// Results of a span and of the spans before: `[rows]` records.
    span: Vec<f32>,
    total: Vec<f32>,
}

/// Values of the record of one query and head: the weighted values, the largest score in units of
/// log2, the sum of the weights.
pub fn record_len(head_dim: usize) -> usize {
    head_dim + 2
}

/// The spans that hold the keys of the rows at `positions`.
pub fn spans(positions: Range<usize>, window: Option<usize>) -> Range<usize> {
    let first = key_range(positions.start, window).start / SPAN;
    first..positions.end.div_ceil(SPAN)
}

fn key_range(position: usize, window: Option<usize>) -> Range<usize> {
    let end = position + 1;
    end - window.unwrap_or(end).clamp(1, end)..end
}

impl Kernels {
    /// Attention of a tile over all its keys.
    ///
    /// The cache must hold the keys of the tile's own positions (written, if not yet advanced).
    ///
    /// # Shapes
    ///
    /// `out`: `[rows, group · head_dim]`.
    ///
    /// # Errors
    ///
    /// [`CpuError::Size`], [`CpuError::Multiple`] or [`CpuError::Limit`] when tile, cache and
    /// output do not fit together.
    pub fn attend(
        self,
        params: &AttentionParams,
        cache: &KvCache,
        tile: QueryTile<'_>,
        scratch: &mut AttentionScratch,
        out: &mut TileMut<'_, f32>,
    ) -> Result<(), CpuError> {
        let plan = Plan::new(params, cache, tile)?;
        check_size("rows of the attention output", out.rows(), plan.positions)?;
        check_size(
            "columns of the attention output",
            out.cols(),
            plan.group * plan.head_dim,
        )?;
        let (rows, len) = (plan.rows(), record_len(plan.head_dim));
        self.prepare(&plan, scratch);
        let mut total = std::mem::take(&mut scratch.total);
        let mut records = std::mem::take(&mut scratch.span);
        total.resize(rows * len, 0.0);
        records.resize(rows * len, 0.0);
        let first = tile.first_position;
        let spans = spans(first..first + plan.positions, params.window);
        for (index, span) in spans.enumerate() {
            let to = if index == 0 { &mut total } else { &mut records };
            self.span_records(&plan, scratch, span, to);
            if index > 0 {
                self.run(Merge {
                    total: &mut total,
                    records: &records,
                    len,
                });
            }
        }
        self.run(Finish {
            plan: &plan,
            total: &total,
            out,
        });
        (scratch.total, scratch.span) = (total, records);
        Ok(())
    }

    /// Attention of a tile over one span, as records for [`merge_spans`](Self::merge_spans): the
    /// way to spread one long row over threads.
    ///
    /// # Shapes
    ///
    /// `out`: `[rows · group, record_len(head_dim)]`.
    ///
    /// # Errors
    ///
    /// As [`attend`](Self::attend).
    pub fn attend_span(
        self,
        params: &AttentionParams,
        cache: &KvCache,
        tile: QueryTile<'_>,
        span: usize,
        scratch: &mut AttentionScratch,
        out: &mut [f32],
    ) -> Result<(), CpuError> {
        let plan = Plan::new(params, cache, tile)?;
        check_size(
            "attention records",
            out.len(),
            plan.rows() * record_len(plan.head_dim),
        )?;
        self.prepare(&plan, scratch);
        self.span_records(&plan, scratch, span, out);
        Ok(())
    }

    /// Merges the records of one query and head over its spans, in order, into its output.
    ///
    /// # Shapes
    ///
    /// `records`: `[spans, stride]`, the record of the query at the start of each row of `stride`
    /// values; `out`: `[head_dim]`.
    pub fn merge_spans(self, records: &[f32], stride: usize, out: &mut [f32]) {
        self.run(MergeSpans {
            records,
            stride,
            out,
        });
    }

    fn prepare(self, plan: &Plan<'_>, scratch: &mut AttentionScratch) {
        scratch.scores.resize(plan.rows() * SPAN, 0.0);
        match plan.cache.shape().format {
            KvFormat::F32 | KvFormat::F16 => self.run(float::Prepare { plan, scratch }),
            KvFormat::Fixed16 => self.run(fixed::Prepare::<i16>::new(plan, scratch)),
            KvFormat::Fixed8 => self.run(fixed::Prepare::<i8>::new(plan, scratch)),
        }
    }

    /// All rows over one span, into records.
    fn span_records(
        self,
        plan: &Plan<'_>,
        scratch: &mut AttentionScratch,
        span: usize,
        records: &mut [f32],
    ) {
        let start = span.saturating_mul(SPAN);
        let keys = plan.all_keys(start);
        if keys.is_empty() {
            for record in records.chunks_exact_mut(record_len(plan.head_dim)) {
                clear(record);
            }
            return;
        }
        let slabs = &plan.slabs(span, plan.tile.kv_head);
        let next = &plan.next_slabs(span);
        match plan.cache.shape().format {
            KvFormat::F32 => {
                self.run(float::Span::<f32>::new(
                    plan, scratch, start, slabs, next, records,
                ));
            }
            KvFormat::F16 => {
                self.run(float::Span::<u16>::new(
                    plan, scratch, start, slabs, next, records,
                ));
            }
            KvFormat::Fixed16 => {
                self.run(fixed::Span::<i16>::new(
                    plan, scratch, start, slabs, next, records,
                ));
            }
            KvFormat::Fixed8 => {
                self.run(fixed::Span::<i8>::new(
                    plan, scratch, start, slabs, next, records,
                ));
            }
        }
    }
}

/// A checked tile.
struct Plan<'a> {
    params: &'a AttentionParams,
    cache: &'a KvCache,
    tile: QueryTile<'a>,
    positions: usize,
    group: usize,
    head_dim: usize,
}

impl<'a> Plan<'a> {
    fn new(
        params: &'a AttentionParams,
        cache: &'a KvCache,
        tile: QueryTile<'a>,
    ) -> Result<Self, CpuError> {
        let shape = cache.shape();
        if shape.kv_heads == 0 || params.heads == 0 || !params.heads.is_multiple_of(shape.kv_heads)
        {
            return Err(CpuError::Multiple {
                what: "heads",
                given: params.heads,
                multiple_of: shape.kv_heads,
            });
        }
        for (what, given, limit) in [
            ("layer", tile.layer, shape.layers),
            ("kv_head", tile.kv_head, shape.kv_heads),
        ] {
            if given >= limit {
                return Err(CpuError::Limit {
                    what,
                    given,
                    limit: limit.saturating_sub(1),
                });
            }
        }
        let width = params.heads.saturating_mul(shape.head_dim);
        if tile.stride < width {
            return Err(CpuError::Size {
                what: "stride of the queries",
                given: tile.stride,
                wanted: width,
            });
        }
        let positions = tile.queries.len() / tile.stride;
        check_size("queries", tile.queries.len(), positions * tile.stride)?;
        let end = tile.first_position.saturating_add(positions);
        if positions > 0 && cache.slab(0, 0, (end - 1) / KV_BLOCK).is_none() {
            return Err(CpuError::Limit {
                what: "position",
                given: end - 1,
                limit: cache.len(),
            });
        }
        Ok(Self {
            params,
            cache,
            tile,
            positions,
            group: params.heads / shape.kv_heads,
            head_dim: shape.head_dim,
        })
    }

    /// Rows of the tile: position-major, query head minor.
    fn rows(&self) -> usize {
        self.positions * self.group
    }

    fn query(&self, row: usize) -> &[f32] {
        let head = self.tile.kv_head * self.group + row % self.group;
        let start = row / self.group * self.tile.stride + head * self.head_dim;
        &self.tile.queries[start..start + self.head_dim]
    }

    /// Keys of `row` within the span that starts at `start`, counted from there.
    fn keys(&self, row: usize, start: usize) -> Range<usize> {
        let position = self.tile.first_position + row / self.group;
        let keys = key_range(position, self.params.window);
        let clip = |x: usize| x.saturating_sub(start).min(SPAN);
        clip(keys.start)..clip(keys.end)
    }

    /// Keys of all rows within the span.
    fn all_keys(&self, start: usize) -> Range<usize> {
        let last = self.rows().saturating_sub(1);
        self.keys(0, start).start..self.keys(last, start).end
    }

    /// The blocks of a span that hold keys of the tile, for any kv head.
    fn slabs(&self, span: usize, kv_head: usize) -> Slabs<'a> {
        let keys = self.all_keys(span.saturating_mul(SPAN));
        let mut slabs = [None; BLOCKS];
        for (block, slab) in slabs.iter_mut().enumerate() {
            if block * KV_BLOCK < keys.end && (block + 1) * KV_BLOCK > keys.start {
                *slab = self
                    .cache
                    .slab(self.tile.layer, kv_head, span * BLOCKS + block);
            }
        }
        slabs
    }

    /// What will probably be read after a span: the next one, or the first one of the next head.
    fn next_slabs(&self, span: usize) -> Slabs<'a> {
        let first = self.tile.first_position;
        let spans = spans(first..first + self.positions, self.params.window);
        if span + 1 < spans.end {
            self.slabs(span + 1, self.tile.kv_head)
        } else if self.tile.kv_head + 1 < self.cache.shape().kv_heads {
            self.slabs(spans.start, self.tile.kv_head + 1)
        } else {
            [None; BLOCKS]
        }
    }
}

/// The slabs of a span, one a block; `None` where no key is needed.
type Slabs<'a> = [Option<Slab<'a>>; BLOCKS];

/// What [`soften`] found out about a row.
struct Softened {
    /// The largest score.
    peak: f32,
    /// The sum of `e^(s - peak)`.
    sum: f32,
    /// The largest weight, which includes the scale of its value; NaN if there is one.
    weight: f32,
}

/// Turns the scores of one row, in units of log2, into weights `e^(s - peak)`, with `SCALED`
/// times the scales of the values.
///
/// Only the vectors that hold positions of `all` are touched; outside of `own` weights are zero.
#[inline(always)]
fn soften<S: Simd, const SCALED: bool>(
    s: S,
    softcap: Option<f32>,
    scores: &mut [f32],
    scales: &[f32; SPAN],
    all: &Range<usize>,
    own: &Range<usize>,
) -> Softened {
    let (lanes, _) = scores.as_chunks_mut::<LANES>();
    let (scales, _) = scales.as_chunks::<LANES>();
    let (first, end) = (own.start / LANES, own.end.div_ceil(LANES));
    for (index, lane) in lanes.iter_mut().enumerate() {
        if index >= all.start / LANES && index * LANES < all.end && !(first..end).contains(&index) {
            *lane = [0.0; LANES];
        }
    }
    if own.is_empty() {
        return Softened {
            peak: f32::NEG_INFINITY,
            sum: 0.0,
            weight: 0.0,
        };
    }
    let (lanes, scales) = (&mut lanes[first..end], &scales[first..end]);
    if let Some(cap) = softcap {
        for lane in lanes.iter_mut() {
            s.store(soft_cap(s, s.load(lane), cap), lane);
        }
    }
    let outside = s.splat(f32::NEG_INFINITY);
    for index in [first, end - 1] {
        let (from, to) = lanes_within(index, own);
        let lane = &mut lanes[index - first];
        s.store(s.select(s.load(lane), from, to, outside), lane);
    }
    let mut peak = outside;
    for lane in lanes.iter() {
        peak = s.max(peak, s.load(lane));
    }
    let peak = s.largest(peak);
    let shift = s.splat(peak);
    let mut sum = s.splat(0.0);
    // As integers, NaN is the largest magnitude and is not lost.
    let mut largest = s.splat_i(0);
    let count = lanes.len();
    for (index, (lane, scale)) in lanes.iter_mut().zip(scales).enumerate() {
        let mut weight = exp2(s, s.sub(s.load(lane), shift));
        sum = s.add(sum, weight);
        if SCALED {
            weight = s.mul(weight, s.load(scale));
            if index == 0 || index + 1 == count {
                // A position outside of the range may hold any scale.
                let (from, to) = lanes_within(first + index, own);
                weight = s.select(weight, from, to, s.splat(0.0));
            }
            largest = s.max_i(largest, s.abs_bits(weight));
        }
        s.store(weight, lane);
    }
    Softened {
        peak,
        sum: s.sum(sum),
        weight: f32::from_bits(s.largest_i(largest) as u32),
    }
}

/// The lanes of vector `index` of a span whose positions lie in `own`.
#[inline(always)]
fn lanes_within(index: usize, own: &Range<usize>) -> (usize, usize) {
    let start = index * LANES;
    let to = own.end.saturating_sub(start).min(LANES);
    (own.start.saturating_sub(start).min(to), to)
}

/// `cap · tanh(s / cap)` for s in units of log2.
#[inline(always)]
fn soft_cap<S: Simd>(s: S, score: S::F, cap: f32) -> S::F {
    let cap = cap * std::f32::consts::LOG2_E;
    let one = s.splat(1.0);
    let e = exp(s, s.mul(score, s.splat(2.0 / cap)));
    let tanh = s.sub(one, s.div(s.splat(2.0), s.add(one, e)));
    s.mul(s.splat(cap), tanh)
}

/// The record of a row that has no key in the span.
fn clear(record: &mut [f32]) {
    let n = record.len();
    record.fill(0.0);
    record[n - 2] = f32::NEG_INFINITY;
}

/// Adds the record of a later span.
#[inline(always)]
fn merge<S: Simd>(s: S, total: &mut [f32], new: &[f32]) {
    let n = new.len() - 2;
    let (peak_new, sum_new) = (new[n], new[n + 1]);
    if peak_new == f32::NEG_INFINITY {
        return;
    }
    let (peak_old, sum_old) = (total[n], total[n + 1]);
    if peak_old == f32::NEG_INFINITY {
        total.copy_from_slice(new);
        return;
    }
    let peak = if peak_old > peak_new {
        peak_old
    } else {
        peak_new
    };
    let mut factors = [0.0; LANES];
    (factors[0], factors[1]) = (peak_old - peak, peak_new - peak);
    s.store(exp2(s, s.load(&factors)), &mut factors);
    let (old, add) = (s.splat(factors[0]), s.splat(factors[1]));
    let (values, _) = total[..n].as_chunks_mut::<LANES>();
    for (a, b) in values.iter_mut().zip(new[..n].as_chunks::<LANES>().0) {
        s.store(s.fma(s.load(a), old, s.mul(s.load(b), add)), a);
    }
    total[n] = peak;
    total[n + 1] = sum_old.mul_add(factors[0], sum_new * factors[1]);
}

#[inline(always)]
fn finish<S: Simd>(s: S, total: &[f32], out: &mut [f32]) {
    let n = total.len() - 2;
    let inverse = s.splat(1.0 / total[n + 1]);
    let (out, _) = out.as_chunks_mut::<LANES>();
    for (x, out) in total[..n].as_chunks::<LANES>().0.iter().zip(out) {
        s.store(s.mul(s.load(x), inverse), out);
    }
}

struct Merge<'a> {
    total: &'a mut [f32],
    records: &'a [f32],
    len: usize,
}

impl Task for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let records = self.records.chunks_exact(self.len);
        for (total, new) in self.total.chunks_exact_mut(self.len).zip(records) {
            merge(s, total, new);
        }
    }
}

struct Finish<'a, 'o> {
    plan: &'a Plan<'a>,
    total: &'a [f32],
    out: &'a mut TileMut<'o, f32>,
}

impl Task for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let hd = self.plan.head_dim;
        let totals = self.total.chunks_exact(record_len(hd));
        for (row, total) in totals.take(self.plan.rows()).enumerate() {
            let at = row % self.plan.group * hd;
            let out = self.out.row(row / self.plan.group);
            finish(s, total, &mut out[at..at + hd]);
        }
    }
}

struct MergeSpans<'a> {
    records: &'a [f32],
    stride: usize,
    out: &'a mut [f32],
}

impl Task for MergeSpans<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = record_len(self.out.len());
        let mut total = [0.0; super::kv::MAX_HEAD_DIM + 2];
        let Some(total) = total.get_mut(..len) else {
            return;
        };
        clear(total);
        for record in self.records.chunks(self.stride.max(1)) {
            if let Some(record) = record.get(..len) {
                merge(s, total, record);
            }
        }
        finish(s, total, self.out);
    }
}
