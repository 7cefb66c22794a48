//! The passes, written once over [`Lanes`].

use super::vector::{LANES, Lanes, Portable};

/// Tokens per block.
pub(crate) const BLOCK: usize = 64;

/// Vectors per block.
const VECTORS: usize = BLOCK / LANES;

/// Arguments below this give `e^a = 0`; `e^−87` is the last that is a normal `f32`.
const EXP_FLOOR: f32 = -87.0;

/// Adding this moves the integer part of a small number into the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;

/// The sums of one row or list.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sums {
    /// `Σ e^a`.
    pub(crate) z: f64,
    /// `Σ a·e^a`.
    pub(crate) az: f64,
}

/// Moments of the live logits, relative to the largest.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Moments {
    /// How many are live.
    pub(crate) count: usize,
    /// `Σ (x − max)`.
    pub(crate) sum: f64,
    /// `Σ (x − max)²`.
    pub(crate) squares: f64,
}

/// `e^a` for `a <= 0`, 0 below −87, and `a` with 0 in place of what is below −87. Relative error below 2e-7.
#[inline(always)]
fn exp<V: Lanes>(a: V) -> (V, V) {
    let shifted = a.mul(V::splat(LOG2_E)).add(V::splat(ROUND));
    let n = shifted.sub(V::splat(ROUND));
    let r = a.sub(n.mul(V::splat(LN2_HI))).sub(n.mul(V::splat(LN2_LO)));
    // Minimax polynomial of degree 6 for e^r on |r| <= ln 2 / 2 (Cephes).
    let mut p = V::splat(1.987_569_1e-4);
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = p.mul(r).add(V::splat(c));
    }
    let p = p.mul(r.mul(r)).add(r).add(V::splat(1.0));
    let live = a.at_least(V::splat(EXP_FLOOR));
    (
        p.scale_by_bits(shifted, ROUND.to_bits()).keep_or_zero(live),
        a.keep_or_zero(live),
    )
}

/// `e^a` of one number, the same bits as in a pass.
pub(crate) fn exp_one(a: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    exp(Portable::splat(a)).0.store(&mut lanes);
    lanes[0]
}

/// The vector number `g` of a block.
#[inline(always)]
fn vector<V: Lanes>(block: &[f32; BLOCK], g: usize) -> V {
    V::load(&block.as_chunks::<LANES>().0[g])
}

/// The part after the last whole block, filled up with −inf.
#[inline(always)]
fn padded(rest: &[f32]) -> [f32; BLOCK] {
    let mut block = [f32::NEG_INFINITY; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

#[inline(always)]
pub(super) fn scan<V: Lanes>(row: &[f32], block_max: &mut [f32]) -> f32 {
    // A sum that met NaN stays NaN, and so does one that met −inf and +inf; −inf alone does not disturb it.
    let mut sums = [V::splat(0.0); VECTORS];
    let mut max = f32::NEG_INFINITY;
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    let tail = (!rest.is_empty()).then(|| padded(rest));
    for (block, out) in blocks.iter().chain(&tail).zip(block_max.iter_mut()) {
        let x: [V; VECTORS] = [
            vector(block, 0),
            vector(block, 1),
            vector(block, 2),
            vector(block, 3),
        ];
        for (sum, &x) in sums.iter_mut().zip(&x) {
            *sum = sum.add(x);
        }
        *out = x[0].larger(x[1]).larger(x[2].larger(x[3])).max();
        max = if *out > max { *out } else { max };
    }
    let sum = sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum();
    if sum.is_nan() { f32::NAN } else { max }
}

#[inline(always)]
pub(super) fn mask_scan<V: Lanes>(row: &mut [f32], mask: &[u32], block_max: &mut [f32]) -> f32 {
    let mut max = f32::NEG_INFINITY;
    let (blocks, rest) = row.as_chunks_mut::<BLOCK>();
    let mut tail = padded(rest);
    let tail_block = (!rest.is_empty()).then_some(&mut tail);
    let words = mask.chunks(2);
    for ((block, words), out) in blocks
        .iter_mut()
        .chain(tail_block)
        .zip(words)
        .zip(block_max.iter_mut())
    {
        let bits = u64::from(words[0]) | (u64::from(words.get(1).copied().unwrap_or(0)) << 32);
        let x: [V; VECTORS] = [
            vector(block, 0),
            vector(block, 1),
            vector(block, 2),
            vector(block, 3),
        ];
        // NaN and +inf are not at most the largest number. They stay in the row, to be found there.
        let most = V::splat(f32::MAX);
        if x.iter()
            .fold(u16::MAX, |valid, x| valid & most.at_least(*x))
            != u16::MAX
        {
            return f32::NAN;
        }
        let mut top = V::splat(f32::NEG_INFINITY);
        for (g, x) in x.iter().enumerate() {
            let kept = x.keep_or_out((bits >> (g * LANES)) as u16);
            if bits != u64::MAX {
                kept.store(&mut block.as_chunks_mut::<LANES>().0[g]);
            }
            top = kept.larger(top);
        }
        *out = top.max();
        max = if *out > max { *out } else { max };
    }
    let len = rest.len();
    rest.copy_from_slice(&tail[..len]);
    max
}

/// Sums of one block; the weights go to `store` when there is one.
#[inline(always)]
fn exp_block<V: Lanes, const ENTROPY: bool>(
    block: &[f32; BLOCK],
    max: f32,
    inv_t: f32,
    mut store: Option<&mut [f32; BLOCK]>,
) -> (f32, f32) {
    let (max, inv_t) = (V::splat(max), V::splat(inv_t));
    let mut z = V::splat(0.0);
    let mut az = V::splat(0.0);
    for g in 0..VECTORS {
        let (e, a) = exp(vector::<V>(block, g).sub(max).mul(inv_t));
        if let Some(store) = store.as_deref_mut() {
            e.store(&mut store.as_chunks_mut::<LANES>().0[g]);
        }
        z = z.add(e);
        if ENTROPY {
            az = az.add(a.mul(e));
        }
    }
    (z.sum(), if ENTROPY { az.sum() } else { 0.0 })
}

#[inline(always)]
pub(super) fn exp_sums<V: Lanes>(
    row: &[f32],
    block_max: &[f32],
    max: f32,
    inv_t: f32,
    block_sum: &mut [f64],
) -> Sums {
    exp_row::<V, true>(row, block_max, max, inv_t, block_sum)
}

#[inline(always)]
pub(super) fn exp_total<V: Lanes>(
    row: &[f32],
    block_max: &[f32],
    max: f32,
    inv_t: f32,
    block_sum: &mut [f64],
) -> f64 {
    exp_row::<V, false>(row, block_max, max, inv_t, block_sum).z
}

#[inline(always)]
fn exp_row<V: Lanes, const ENTROPY: bool>(
    row: &[f32],
    block_max: &[f32],
    max: f32,
    inv_t: f32,
    block_sum: &mut [f64],
) -> Sums {
    let mut sums = Sums::default();
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    let tail = (!rest.is_empty()).then(|| padded(rest));
    for ((block, &top), out) in blocks
        .iter()
        .chain(&tail)
        .zip(block_max)
        .zip(block_sum.iter_mut())
    {
        if (top - max) * inv_t < EXP_FLOOR {
            *out = 0.0;
            continue;
        }
        let (z, az) = exp_block::<V, ENTROPY>(block, max, inv_t, None);
        *out = f64::from(z);
        sums.z += f64::from(z);
        if ENTROPY {
            sums.az += f64::from(az);
        }
    }
    sums
}

#[inline(always)]
pub(super) fn exp_list<V: Lanes>(
    list: &[f32],
    max: f32,
    inv_t: f32,
    weights: &mut [f32],
    block_sum: &mut [f64],
) -> Sums {
    let mut sums = Sums::default();
    let (blocks, rest) = list.as_chunks::<BLOCK>();
    let (stores, rest_store) = weights.as_chunks_mut::<BLOCK>();
    let mut note = |out: &mut f64, (z, az): (f32, f32)| {
        *out = f64::from(z);
        sums.z += f64::from(z);
        sums.az += f64::from(az);
    };
    for ((block, store), out) in blocks.iter().zip(stores).zip(block_sum.iter_mut()) {
        note(out, exp_block::<V, true>(block, max, inv_t, Some(store)));
    }
    if let Some(out) = block_sum.get_mut(blocks.len()).filter(|_| !rest.is_empty()) {
        let mut store = [0f32; BLOCK];
        note(
            out,
            exp_block::<V, true>(&padded(rest), max, inv_t, Some(&mut store)),
        );
        rest_store[..rest.len()].copy_from_slice(&store[..rest.len()]);
    }
    sums
}

#[inline(always)]
pub(super) fn gather<V: Lanes>(
    row: &[f32],
    block_max: &[f32],
    threshold: f32,
    ids: &mut [u32],
    values: &mut [f32],
) -> usize {
    let mut n = 0;
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    let tail = (!rest.is_empty()).then(|| padded(rest));
    // Everything live lies above this, so that −inf never counts.
    let least = if threshold == f32::NEG_INFINITY {
        f32::MIN
    } else {
        threshold
    };
    let limit = V::splat(least);
    for (b, (block, &top)) in blocks.iter().chain(&tail).zip(block_max).enumerate() {
        if top < least {
            continue;
        }
        for g in 0..VECTORS {
            let x: V = vector(block, g);
            let mask = x.at_least(limit);
            let room = (
                ids[n..].first_chunk_mut::<LANES>(),
                values[n..].first_chunk_mut::<LANES>(),
            );
            if let (Some(ids), Some(values)) = room {
                n += x.pack(mask, (b * BLOCK + g * LANES) as u32, ids, values);
            }
        }
    }
    n
}

#[inline(always)]
pub(super) fn moments<V: Lanes>(row: &[f32], max: f32) -> Moments {
    let mut total = Moments::default();
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    let tail = (!rest.is_empty()).then(|| padded(rest));
    for block in blocks.iter().chain(&tail) {
        let mut sum = V::splat(0.0);
        let mut squares = V::splat(0.0);
        for g in 0..VECTORS {
            let x: V = vector(block, g);
            let live = x.above(V::splat(f32::NEG_INFINITY));
            let y = x.sub(V::splat(max)).keep_or_zero(live);
            total.count += live.count_ones() as usize;
            sum = sum.add(y);
            squares = squares.add(y.mul(y));
        }
        total.sum += f64::from(sum.sum());
        total.squares += f64::from(squares.sum());
    }
    total
}

#[inline(always)]
pub(super) fn count_live<V: Lanes>(row: &[f32]) -> usize {
    let (blocks, rest) = row.as_chunks::<LANES>();
    let out = V::splat(f32::NEG_INFINITY);
    let whole: usize = blocks
        .iter()
        .map(|x| V::load(x).above(out).count_ones() as usize)
        .sum();
    whole + rest.iter().filter(|x| **x > f32::NEG_INFINITY).count()
}

/// What the bins of a selection by mass are computed from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bins {
    /// Largest logit.
    pub(crate) max: f64,
    /// Factor from logits to nats.
    pub(crate) inv_t: f64,
    /// The key is the distance of `a = (x − max)·inv_t` from this.
    pub(crate) centre: f64,
    /// Bins per nat.
    pub(crate) per_nat: f64,
    /// Number of the last bin, which takes everything beyond.
    pub(crate) last: f64,
}

impl Bins {
    /// The key of a logit.
    #[inline(always)]
    pub(crate) fn key(&self, value: f32) -> f64 {
        ((f64::from(value) - self.max) * self.inv_t - self.centre).abs()
    }
}

#[inline(always)]
pub(super) fn bin_numbers<V: Lanes>(list: &[f32], bins: &Bins, out: &mut [u16]) {
    for (out, &value) in out.iter_mut().zip(list) {
        // `min` gives the last bin for +inf, and for NaN too; the key is never negative.
        let bin = (bins.key(value) * bins.per_nat).min(bins.last);
        *out = bin as i32 as u16;
    }
}

#[inline(always)]
pub(super) fn compact<V: Lanes>(
    ids: &mut [u32],
    values: &mut [f32],
    bins: &[u16],
    limit: u16,
    inside: &mut Vec<u64>,
) -> usize {
    let mut n = 0;
    let mut at = 0;
    for group in bins.chunks(LANES) {
        let (mut kept, mut equal) = (0u16, 0u16);
        for (j, &bin) in group.iter().enumerate() {
            kept |= u16::from(bin <= limit) << j;
            equal |= u16::from(bin == limit) << j;
        }
        while equal != 0 {
            let j = equal.trailing_zeros();
            inside.push(n as u64 + u64::from((kept & ((1 << j) - 1)).count_ones()));
            equal &= equal - 1;
        }
        // The lanes are read before anything is written, and never written beyond what was read.
        let read = (
            ids[at..].first_chunk::<LANES>(),
            values[at..].first_chunk::<LANES>(),
        );
        if let (Some(&from), Some(lanes)) = read {
            let lanes = V::load(lanes);
            let room = (
                ids[n..].first_chunk_mut::<LANES>(),
                values[n..].first_chunk_mut::<LANES>(),
            );
            if let (Some(ids), Some(values)) = room {
                n += lanes.pack_listed(kept, from, ids, values);
            }
        }
        at += LANES;
    }
    n
}
