//! Attention over f32 and f16 caches: f32 multiply-adds, keys lane by lane.

use std::marker::PhantomData;
use std::ops::Range;

use super::super::kernels::{LANES, Lane, Simd, Task};
use super::super::kv::{KV_BLOCK, Slab};
use super::{AttentionScratch, BLOCKS, LINE, Plan, SPAN, Slabs, record_len, soften};

/// A stored float.
pub(super) trait Stored: Copy + 'static {
    fn slab(slab: Slab<'_>) -> &[Self];
    fn load<S: Simd>(s: S, from: &Lane<Self>) -> S::F;
}

impl Stored for f32 {
    #[inline(always)]
    fn slab(slab: Slab<'_>) -> &[f32] {
        match slab {
            Slab::F32(data) => data,
            _ => &[],
        }
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, from: &Lane<f32>) -> S::F {
        s.load(from)
    }
}

impl Stored for u16 {
    #[inline(always)]
    fn slab(slab: Slab<'_>) -> &[u16] {
        match slab {
            Slab::F16(data) => data,
            _ => &[],
        }
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, from: &Lane<u16>) -> S::F {
        s.load_f16(from)
    }
}

/// Scales the queries; scores come out in units of log2.
pub(super) struct Prepare<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) scratch: &'a mut AttentionScratch,
}

impl Task for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { plan, scratch } = self;
        let hd = plan.head_dim;
        let scale = s.splat(plan.params.scale * std::f32::consts::LOG2_E);
        scratch.queries.resize(plan.rows() * hd, 0.0);
        for (row, to) in scratch.queries.chunks_exact_mut(hd).enumerate() {
            let (from, _) = plan.query(row).as_chunks::<LANES>();
            for (from, to) in from.iter().zip(to.as_chunks_mut::<LANES>().0) {
                s.store(s.mul(s.load(from), scale), to);
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
        for (data, slab) in data.iter_mut().zip(slabs) {
            if let Some(slab) = *slab {
                *data = &E::slab(slab)[..2 * half];
            }
        }
        let mut ahead: [&[E]; BLOCKS] = [&[]; BLOCKS];
        for (ahead, slab) in ahead.iter_mut().zip(next) {
            if let Some(slab) = *slab {
                *ahead = E::slab(slab);
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
                values: &slab[half],
                fetch: true,
                hd,
            };
            let many = WIDE_ROWS <= S::FLOAT_ROWS && 2 * WIDE_ROWS <= rows;
            if many {
                scratch.keys.resize(half, 0.0);
                expand(s, &keys, &mut scratch.keys);
            }
            let mut row = 0;
            while row < rows {
                let queries = &scratch.queries[row * hd..];
                let out = &mut scratch.scores[row * SPAN + block * KV_BLOCK..];
                if many && rows - row >= WIDE_ROWS {
                    let keys = Keys {
                        needed,
                        keys: scratch.keys.as_chunks().0,
                        values: &0.0,
                        fetch: false,
                        hd,
                    };
                    row += scores::<S, f32, WIDE_ROWS, 4>(s, &keys, queries, out);
                    continue;
                }
                row += match (rows - row, few) {
                    (1, true) => scores::<S, E, 1, 2>(s, &keys, queries, out),
                    (1, false) => scores::<S, E, 1, 4>(s, &keys, queries, out),
                    (2, true) => scores::<S, E, 2, 2>(s, &keys, queries, out),
                    (2, false) => scores::<S, E, 2, 4>(s, &keys, queries, out),
                    (3, true) => scores::<S, E, 3, 2>(s, &keys, queries, out),
                    (3, false) => scores::<S, E, 3, 4>(s, &keys, queries, out),
                    (4 | 5, true) => scores::<S, E, 4, 2>(s, &keys, queries, out),
                    (4 | 5, false) => scores::<S, E, 4, 4>(s, &keys, queries, out),
                    _ => scores::<S, E, 6, 2>(s, &keys, queries, out),
                };
                keys.fetch = false;
            }
        }
        let (len, group) = (record_len(hd), plan.group);
        for row in 0..rows {
            let own = plan.keys(row, start);
            let weights = &mut scratch.scores[row * SPAN..(row + 1) * SPAN];
            let cap = plan.params.softcap;
            let softened = soften::<S, false>(s, cap, weights, &[0.0; SPAN], &all, &own);
            let record = &mut records[row * len..(row + 1) * len];
            (record[hd], record[hd + 1]) = (softened.peak, softened.sum);
        }
        // A key outside of a row's range must not be multiplied, not even by zero: the heads of
        // several positions go together over the keys that all of them see.
        let per = match WIDE_ROWS <= S::FLOAT_ROWS {
            true => (WIDE_ROWS / group).max(1),
            false => 1,
        };
        let sources = [&data, &ahead];
        let mut first = 0;
        while first < plan.positions {
            let end = (first + per).min(plan.positions);
            let rows = first * group..end * group;
            // Ranges begin and end in the order of their positions.
            let begins = plan.keys(rows.start, start).start;
            let shared = plan.keys(rows.end - 1, start).start..plan.keys(rows.start, start).end;
            let together = end - first > 1 && !shared.is_empty();
            if !together || begins < shared.start {
                for position in first..end {
                    let rows = position * group..(position + 1) * group;
                    let own = plan.keys(rows.start, start);
                    let until = if together { shared.start } else { own.end };
                    let task = Weigh::new(sources, own.start..until, false, hd);
                    weigh_rows::<S, E>(s, &task, rows, &scratch.scores, records);
                }
            }
            if together {
                let task = Weigh::new(sources, shared.clone(), begins < shared.start, hd);
                weigh_rows::<S, E>(s, &task, rows, &scratch.scores, records);
                for position in first..end {
                    let rows = position * group..(position + 1) * group;
                    let until = plan.keys(rows.start, start).end;
                    if until > shared.end {
                        let task = Weigh::new(sources, shared.end..until, true, hd);
                        weigh_rows::<S, E>(s, &task, rows, &scratch.scores, records);
                    }
                }
            }
            first = end;
        }
    }
}

/// Rows that go together where there are registers for them.
const WIDE_ROWS: usize = 6;

/// The keys of a block as f32, for several groups of rows; asks for the values on the way.
#[inline(always)]
fn expand<S: Simd, E: Stored>(s: S, keys: &Keys<'_, E>, to: &mut [f32]) {
    let (to, _) = to.as_chunks_mut::<LANES>();
    for (index, (from, to)) in keys.keys.iter().zip(to).enumerate() {
        s.prefetch_later(keys.values, index * size_of::<Lane<E>>());
        s.store(E::load(s, from), to);
    }
}

/// What stays the same for all rows that are weighed together.
struct Weigh<'a, E> {
    /// The blocks of this span, and those that will probably be read next.
    data: [&'a [&'a [E]; BLOCKS]; 2],
    /// The keys to take, from the start of the span.
    keys: Range<usize>,
    /// Whether the sums go on from what the records hold.
    add: bool,
    hd: usize,
}

impl<'a, E> Weigh<'a, E> {
    #[inline(always)]
    fn new(data: [&'a [&'a [E]; BLOCKS]; 2], keys: Range<usize>, add: bool, hd: usize) -> Self {
        Weigh {
            data,
            keys,
            add,
            hd,
        }
    }
}

/// Weighted values of the rows `rows`, all of which see the keys.
#[inline(always)]
fn weigh_rows<S: Simd, E: Stored>(
    s: S,
    task: &Weigh<'_, E>,
    rows: Range<usize>,
    weights: &[f32],
    records: &mut [f32],
) {
    let len = record_len(task.hd);
    let mut row = rows.start;
    while row < rows.end {
        // The first rows ask for what is read next, for all.
        let fetch = row == 0 && !task.keys.is_empty();
        let weights = &weights[row * SPAN..];
        let out = &mut records[row * len..];
        row += match rows.end - row {
            1 => values::<S, E, 1>(s, task, weights, fetch, out),
            2 => values::<S, E, 2>(s, task, weights, fetch, out),
            3 => values::<S, E, 3>(s, task, weights, fetch, out),
            4 => values::<S, E, 4>(s, task, weights, fetch, out),
            6 if WIDE_ROWS <= S::FLOAT_ROWS => {
                values::<S, E, WIDE_ROWS>(s, task, weights, fetch, out)
            }
            _ => values::<S, E, 5>(s, task, weights, fetch, out),
        };
    }
}

/// The keys of a block, and what will be read after them.
struct Keys<'a, E> {
    keys: &'a [Lane<E>],
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
    queries: &[f32],
    out: &mut [f32],
) -> usize {
    let Keys {
        keys,
        needed,
        values,
        fetch,
        hd,
    } = *keys;
    let groups = KV_BLOCK / LANES;
    let mut rows = [queries; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &queries[r * hd..(r + 1) * hd];
    }
    for first in (0..needed).step_by(G) {
        let mut acc = [[s.splat(0.0); G]; R];
        for d in 0..hd {
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
                    acc[r][g] = s.fma(key, s.splat(rows[r][d]), acc[r][g]);
                }
            }
        }
        for r in 0..R {
            let (lanes, _) = out[r * SPAN..][..KV_BLOCK].as_chunks_mut::<LANES>();
            for g in 0..G {
                s.store(acc[r][g], &mut lanes[first + g]);
            }
        }
    }
    R
}

/// Weighted values of R rows that see the same keys. Returns R.
#[inline(always)]
fn values<S: Simd, E: Stored, const R: usize>(
    s: S,
    task: &Weigh<'_, E>,
    weights: &[f32],
    fetch: bool,
    out: &mut [f32],
) -> usize {
    let mut first = 0;
    while first < task.hd {
        first += if task.hd - first >= 4 * LANES {
            value_lanes::<S, E, R, 4>(s, task, weights, fetch, first, out)
        } else {
            value_lanes::<S, E, R, 1>(s, task, weights, fetch, first, out)
        };
    }
    R
}

#[inline(always)]
fn value_lanes<S: Simd, E: Stored, const R: usize, const D: usize>(
    s: S,
    task: &Weigh<'_, E>,
    weights: &[f32],
    fetch: bool,
    first: usize,
    out: &mut [f32],
) -> usize {
    let Weigh {
        data: [data, ahead],
        ref keys,
        add,
        hd,
    } = *task;
    let len = record_len(hd);
    let mut rows = [weights; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &weights[r * SPAN..(r + 1) * SPAN];
    }
    let mut acc = [[s.splat(0.0); D]; R];
    if add {
        for r in 0..R {
            let (lanes, _) = out[r * len + first..][..D * LANES].as_chunks::<LANES>();
            for d in 0..D {
                acc[r][d] = s.load(&lanes[d]);
            }
        }
    }
    for (block, values) in data.iter().enumerate() {
        let Some(values) = values.get(KV_BLOCK * hd..) else {
            continue;
        };
        let next = ahead[block].first().unwrap_or(&values[0]);
        let start = keys.start.max(block * KV_BLOCK);
        let end = keys.end.min((block + 1) * KV_BLOCK);
        #[expect(clippy::needless_range_loop, reason = "values and weights go together")]
        for j in start..end {
            let at = j % KV_BLOCK * hd + first;
            let (lanes, _) = values[at..at + D * LANES].as_chunks::<LANES>();
            if fetch {
                for line in (0..size_of::<[Lane<E>; D]>()).step_by(LINE) {
                    s.prefetch_later(next, at * size_of::<E>() + line);
                }
            }
            for d in 0..D {
                let value = E::load(s, &lanes[d]);
                for r in 0..R {
                    acc[r][d] = s.fma(value, s.splat(rows[r][j]), acc[r][d]);
                }
            }
        }
    }
    for r in 0..R {
        let (lanes, _) = out[r * len + first..][..D * LANES].as_chunks_mut::<LANES>();
        for d in 0..D {
            s.store(acc[r][d], &mut lanes[d]);
        }
    }
    D * LANES
}
