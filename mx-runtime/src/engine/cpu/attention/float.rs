//! Attention over f32 and f16 caches: f32 multiply-adds, keys lane by lane.

use super::super::kernels::{LANES, Lane, Simd};
use super::super::kv::{KV_BLOCK, Slab};
use super::{AttentionScratch, BLOCKS, Plan, SPAN, record_len, soften};

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
pub(super) fn prepare(plan: &Plan<'_>, scratch: &mut AttentionScratch) {
    let scale = plan.params.scale * std::f32::consts::LOG2_E;
    scratch.queries.clear();
    for row in 0..plan.rows() {
        let query = plan.query(row).iter();
        scratch.queries.extend(query.map(|x| x * scale));
    }
}

#[inline(always)]
pub(super) fn span<S: Simd, E: Stored>(
    s: S,
    plan: &Plan<'_>,
    scratch: &mut AttentionScratch,
    start: usize,
    slabs: &[Option<Slab<'_>>; BLOCKS],
    records: &mut [f32],
) {
    let (rows, hd) = (plan.rows(), plan.head_dim);
    for (block, slab) in slabs.iter().enumerate() {
        let Some(slab) = *slab else { continue };
        let (keys, _) = E::slab(slab)[..KV_BLOCK * hd].as_chunks::<LANES>();
        let mut row = 0;
        while row < rows {
            let queries = &scratch.queries[row * hd..];
            let out = &mut scratch.scores[row * SPAN + block * KV_BLOCK..];
            row += match rows - row {
                1 => scores::<S, E, 1, 4>(s, keys, queries, hd, out),
                2 => scores::<S, E, 2, 4>(s, keys, queries, hd, out),
                3 => scores::<S, E, 3, 4>(s, keys, queries, hd, out),
                4 | 5 => scores::<S, E, 4, 4>(s, keys, queries, hd, out),
                _ => scores::<S, E, 6, 2>(s, keys, queries, hd, out),
            };
        }
    }
    let all = plan.all_keys(start);
    let len = record_len(hd);
    for position in 0..plan.positions {
        let first = position * plan.group;
        let own = plan.keys(first, start);
        for row in first..first + plan.group {
            let weights = &mut scratch.scores[row * SPAN..(row + 1) * SPAN];
            let (peak, sum) = soften(s, plan.params.softcap, weights, &all, &own);
            let record = &mut records[row * len..(row + 1) * len];
            (record[hd], record[hd + 1]) = (peak, sum);
        }
        // Only the heads of one position go together: they see the same keys, and a key outside
        // of the range must not be multiplied, not even by zero.
        let mut row = first;
        while row < first + plan.group {
            let weights = &scratch.scores[row * SPAN..];
            let out = &mut records[row * len..];
            row += match first + plan.group - row {
                1 => values::<S, E, 1>(s, slabs, weights, &own, hd, out),
                2 => values::<S, E, 2>(s, slabs, weights, &own, hd, out),
                3 => values::<S, E, 3>(s, slabs, weights, &own, hd, out),
                4 => values::<S, E, 4>(s, slabs, weights, &own, hd, out),
                _ => values::<S, E, 5>(s, slabs, weights, &own, hd, out),
            };
        }
    }
}

/// Scores of R rows against the keys of a block, G groups of 16 at a time. Returns R.
#[inline(always)]
fn scores<S: Simd, E: Stored, const R: usize, const G: usize>(
    s: S,
    keys: &[Lane<E>],
    queries: &[f32],
    hd: usize,
    out: &mut [f32],
) -> usize {
    let groups = KV_BLOCK / LANES;
    let mut rows = [queries; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &queries[r * hd..(r + 1) * hd];
    }
    for first in (0..groups).step_by(G) {
        let mut acc = [[s.splat(0.0); G]; R];
        let mut group = [keys; G];
        for (g, group) in group.iter_mut().enumerate() {
            *group = &keys[(first + g) * hd..(first + g + 1) * hd];
        }
        for d in 0..hd {
            for g in 0..G {
                let key = E::load(s, &group[g][d]);
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
    slabs: &[Option<Slab<'_>>; BLOCKS],
    weights: &[f32],
    own: &std::ops::Range<usize>,
    hd: usize,
    out: &mut [f32],
) -> usize {
    let len = record_len(hd);
    let mut first = 0;
    while first < hd {
        first += if hd - first >= 4 * LANES {
            value_lanes::<S, E, R, 4>(s, slabs, weights, own, hd, first, len, out)
        } else {
            value_lanes::<S, E, R, 1>(s, slabs, weights, own, hd, first, len, out)
        };
    }
    R
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel's innermost loop")]
fn value_lanes<S: Simd, E: Stored, const R: usize, const D: usize>(
    s: S,
    slabs: &[Option<Slab<'_>>; BLOCKS],
    weights: &[f32],
    own: &std::ops::Range<usize>,
    hd: usize,
    first: usize,
    len: usize,
    out: &mut [f32],
) -> usize {
    let mut rows = [weights; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &weights[r * SPAN..(r + 1) * SPAN];
    }
    let mut acc = [[s.splat(0.0); D]; R];
    for (block, slab) in slabs.iter().enumerate() {
        let Some(slab) = *slab else { continue };
        let values = &E::slab(slab)[KV_BLOCK * hd..];
        let start = own.start.max(block * KV_BLOCK);
        let end = own.end.min((block + 1) * KV_BLOCK);
        for j in start..end {
            let (lanes, _) = values[j % KV_BLOCK * hd + first..][..D * LANES].as_chunks::<LANES>();
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
