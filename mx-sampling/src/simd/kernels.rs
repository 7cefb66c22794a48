//! The kernels: plain Rust over fixed groups of lanes.
//!
//! No multiplication is fused with an addition and every reduction has a fixed tree, so the result does
//! not depend on the instruction set the compiler aims at.

/// Tokens per block.
pub(crate) const BLOCK: usize = 64;

/// Lanes of one group.
const LANES: usize = 16;

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

/// `e^a` for `a <= 0`, 0 below −87. Relative error below 2e-7.
#[inline(always)]
pub(crate) fn exp_one(a: f32) -> f32 {
    let shifted = a * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = a - n * LN2_HI;
    let r = r - n * LN2_LO;
    // Minimax polynomial of degree 6 for e^r on |r| <= ln 2 / 2 (Cephes).
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 23;
    let value = f32::from_bits(p.to_bits().wrapping_add(exponent));
    if a >= EXP_FLOOR { value } else { 0.0 }
}

/// Sum of 16 lanes by a fixed tree.
#[inline(always)]
fn tree_sum(lanes: [f32; LANES]) -> f32 {
    let mut a = lanes;
    for half in [8, 4, 2, 1] {
        for j in 0..half {
            a[j] += a[j + half];
        }
    }
    a[0]
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn tree_max<const N: usize>(lanes: [f32; N]) -> f32 {
    let mut a = lanes;
    let mut half = N / 2;
    while half > 0 {
        for j in 0..half {
            a[j] = larger(a[j], a[j + half]);
        }
        half /= 2;
    }
    a[0]
}

/// Lanes of the running sum that finds NaN; two groups, to hide the latency of an addition.
const SCAN: usize = 32;

#[inline(always)]
pub(super) fn scan(row: &[f32], block_max: &mut [f32]) -> f32 {
    let mut sums = [0f32; SCAN];
    let mut max = f32::NEG_INFINITY;
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    for (block, out) in blocks.iter().zip(block_max.iter_mut()) {
        let mut m = [f32::NEG_INFINITY; SCAN];
        for j in 0..SCAN {
            // A sum that met NaN stays NaN; −inf alone does not disturb it.
            sums[j] += block[j];
            m[j] = larger(block[j], block[j + SCAN]);
        }
        for j in 0..SCAN {
            sums[j] += block[j + SCAN];
        }
        *out = tree_max(m);
        max = larger(*out, max);
    }
    let mut sum: f32 = sums.iter().sum();
    if !rest.is_empty() {
        let mut m = f32::NEG_INFINITY;
        for &x in rest {
            sum += x;
            m = larger(x, m);
        }
        if let Some(out) = block_max.get_mut(blocks.len()) {
            *out = m;
        }
        max = larger(m, max);
    }
    if sum.is_nan() { f32::NAN } else { max }
}

#[inline(always)]
pub(super) fn mask_scan(row: &mut [f32], mask: &[u32], block_max: &mut [f32]) -> f32 {
    let mut sums = [0f32; 32];
    let mut max = f32::NEG_INFINITY;
    for ((block, words), out) in row.chunks_mut(BLOCK).zip(mask.chunks(2)).zip(block_max.iter_mut()) {
        let mut m = f32::NEG_INFINITY;
        for (half, &word) in block.chunks_mut(32).zip(words) {
            if let Ok(lanes) = <&mut [f32; 32]>::try_from(&mut *half) {
                let mut kept = [f32::NEG_INFINITY; 32];
                for j in 0..32 {
                    sums[j] += lanes[j];
                    kept[j] = if (word >> j) & 1 == 1 { lanes[j] } else { f32::NEG_INFINITY };
                }
                if word != u32::MAX {
                    *lanes = kept;
                }
                m = larger(tree_max(kept), m);
            } else {
                for (j, x) in half.iter_mut().enumerate() {
                    sums[j] += *x;
                    if (word >> j) & 1 == 0 {
                        *x = f32::NEG_INFINITY;
                    }
                    m = larger(*x, m);
                }
            }
        }
        *out = m;
        max = larger(m, max);
    }
    if sums.iter().sum::<f32>().is_nan() { f32::NAN } else { max }
}

/// Sums of one block; the weights go to `store`.
#[inline(always)]
fn exp_block(block: &[f32; BLOCK], max: f32, inv_t: f32, store: &mut [f32; BLOCK]) -> (f32, f32) {
    let mut z = [0f32; LANES];
    let mut az = [0f32; LANES];
    for g in 0..BLOCK / LANES {
        for j in 0..LANES {
            let a = (block[g * LANES + j] - max) * inv_t;
            let e = exp_one(a);
            store[g * LANES + j] = e;
            z[j] += e;
            // Where e is 0 the product must be 0 too, also for a = −inf.
            let bounded = if a >= EXP_FLOOR { a } else { 0.0 };
            az[j] += bounded * e;
        }
    }
    (tree_sum(z), tree_sum(az))
}

/// Sums of the part after the last whole block, padded with −inf.
#[inline(always)]
fn exp_rest(rest: &[f32], max: f32, inv_t: f32, store: &mut [f32; BLOCK]) -> (f32, f32) {
    let mut padded = [f32::NEG_INFINITY; BLOCK];
    padded[..rest.len()].copy_from_slice(rest);
    exp_block(&padded, max, inv_t, store)
}

#[inline(always)]
pub(super) fn exp_sums(row: &[f32], block_max: &[f32], max: f32, inv_t: f32, block_sum: &mut [f64]) -> Sums {
    let mut sums = Sums::default();
    let mut store = [0f32; BLOCK];
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    for ((block, &top), out) in blocks.iter().zip(block_max).zip(block_sum.iter_mut()) {
        if (top - max) * inv_t < EXP_FLOOR {
            *out = 0.0;
            continue;
        }
        let (z, az) = exp_block(block, max, inv_t, &mut store);
        *out = f64::from(z);
        sums.z += f64::from(z);
        sums.az += f64::from(az);
    }
    if !rest.is_empty() {
        let (z, az) = exp_rest(rest, max, inv_t, &mut store);
        if let Some(out) = block_sum.get_mut(blocks.len()) {
            *out = f64::from(z);
        }
        sums.z += f64::from(z);
        sums.az += f64::from(az);
    }
    sums
}

#[inline(always)]
pub(super) fn exp_list(list: &[f32], max: f32, inv_t: f32, weights: &mut [f32], block_sum: &mut [f64]) -> Sums {
    let mut sums = Sums::default();
    let (blocks, rest) = list.as_chunks::<BLOCK>();
    let (stores, rest_store) = weights.as_chunks_mut::<BLOCK>();
    for ((block, store), out) in blocks.iter().zip(stores).zip(block_sum.iter_mut()) {
        let (z, az) = exp_block(block, max, inv_t, store);
        *out = f64::from(z);
        sums.z += f64::from(z);
        sums.az += f64::from(az);
    }
    if !rest.is_empty() {
        let mut store = [0f32; BLOCK];
        let (z, az) = exp_rest(rest, max, inv_t, &mut store);
        rest_store[..rest.len()].copy_from_slice(&store[..rest.len()]);
        if let Some(out) = block_sum.get_mut(blocks.len()) {
            *out = f64::from(z);
        }
        sums.z += f64::from(z);
        sums.az += f64::from(az);
    }
    sums
}

#[inline(always)]
pub(super) fn gather(row: &[f32], block_max: &[f32], threshold: f32, ids: &mut [u32], values: &mut [f32]) -> usize {
    let mut n = 0;
    for (b, (block, &top)) in row.chunks(BLOCK).zip(block_max).enumerate() {
        // A block of −inf only is skipped for every threshold.
        if !(top >= threshold) || top == f32::NEG_INFINITY {
            continue;
        }
        let first = (b * BLOCK) as u32;
        for (j, &x) in block.iter().enumerate() {
            ids[n] = first + j as u32;
            values[n] = x;
            n += usize::from(x >= threshold && x > f32::NEG_INFINITY);
        }
    }
    n
}

#[inline(always)]
pub(super) fn moments(row: &[f32], max: f32) -> Moments {
    let mut total = Moments::default();
    let mut add = |block: &[f32; BLOCK]| {
        let mut count = [0u32; LANES];
        let mut sum = [0f32; LANES];
        let mut squares = [0f32; LANES];
        for g in 0..BLOCK / LANES {
            for j in 0..LANES {
                let x = block[g * LANES + j];
                let live = x > f32::NEG_INFINITY;
                let y = if live { x - max } else { 0.0 };
                count[j] += u32::from(live);
                sum[j] += y;
                squares[j] += y * y;
            }
        }
        total.count += count.iter().sum::<u32>() as usize;
        total.sum += f64::from(tree_sum(sum));
        total.squares += f64::from(tree_sum(squares));
    };
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    for block in blocks {
        add(block);
    }
    if !rest.is_empty() {
        let mut padded = [f32::NEG_INFINITY; BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        add(&padded);
    }
    total
}

#[inline(always)]
pub(super) fn count_live(row: &[f32]) -> usize {
    row.iter().map(|&x| usize::from(x > f32::NEG_INFINITY)).sum()
}
