//! The block formats as the integer kernels read them.

use super::super::{LANES, Simd};
use super::{ActBlock, BlockFormat};

pub(super) struct Q8_0;
pub(super) struct Q4_0;
pub(super) struct Q4_1;

#[inline(always)]
fn load_nibbles<S: Simd>(s: S, c: &[[u8; 64]]) -> [S::W; 8] {
    [
        s.low_nibbles(&c[0]),
        s.low_nibbles(&c[1]),
        s.low_nibbles(&c[2]),
        s.low_nibbles(&c[3]),
        s.high_nibbles(&c[0]),
        s.high_nibbles(&c[1]),
        s.high_nibbles(&c[2]),
        s.high_nibbles(&c[3]),
    ]
}

#[inline(always)]
fn nibble<S: Simd>(s: S, c: &[[u8; 64]], k: usize) -> S::F {
    let shift = 8 * (k % 4) + 4 * (k / 16);
    s.load_nibbles_f32(&c[k % 16 / 4], shift as u32)
}

impl BlockFormat for Q8_0 {
    type Block = [u8; 544];
    const MIN: bool = false;

    #[inline(always)]
    fn blocks(panel: &[u8]) -> &[[u8; 544]] {
        panel.as_chunks().0
    }

    #[inline(always)]
    fn chunks(block: &[u8; 544]) -> &[[u8; 64]] {
        block[..512].as_chunks().0
    }

    #[inline(always)]
    fn scales(block: &[u8; 544]) -> &[[u8; 32]] {
        block[512..].as_chunks().0
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, c: &[[u8; 64]]) -> [S::W; 8] {
        [
            s.bytes(&c[0]),
            s.bytes(&c[1]),
            s.bytes(&c[2]),
            s.bytes(&c[3]),
            s.bytes(&c[4]),
            s.bytes(&c[5]),
            s.bytes(&c[6]),
            s.bytes(&c[7]),
        ]
    }

    #[inline(always)]
    fn dots<S: Simd, const R: usize>(s: S, w: &[S::W; 8], acts: &[ActBlock; R]) -> [S::I; R] {
        s.dots_bytes(w, acts)
    }

    #[inline(always)]
    fn value<S: Simd>(s: S, c: &[[u8; 64]], k: usize) -> S::F {
        s.load_bytes_f32(&c[k / 4], k % 4)
    }
}

impl BlockFormat for Q4_0 {
    type Block = [u8; 288];
    const MIN: bool = false;

    #[inline(always)]
    fn blocks(panel: &[u8]) -> &[[u8; 288]] {
        panel.as_chunks().0
    }

    #[inline(always)]
    fn chunks(block: &[u8; 288]) -> &[[u8; 64]] {
        block[..256].as_chunks().0
    }

    #[inline(always)]
    fn scales(block: &[u8; 288]) -> &[[u8; 32]] {
        block[256..].as_chunks().0
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, c: &[[u8; 64]]) -> [S::W; 8] {
        load_nibbles(s, c)
    }

    #[inline(always)]
    fn dots<S: Simd, const R: usize>(s: S, w: &[S::W; 8], acts: &[ActBlock; R]) -> [S::I; R] {
        let mut init = [0; R];
        for r in 0..R {
            init[r] = acts[r].minus_8_sum;
        }
        s.dots_nibbles(init, w, acts)
    }

    #[inline(always)]
    fn value<S: Simd>(s: S, c: &[[u8; 64]], k: usize) -> S::F {
        s.sub(nibble(s, c, k), s.splat(8.0))
    }
}

impl BlockFormat for Q4_1 {
    type Block = [u8; 320];
    const MIN: bool = true;

    #[inline(always)]
    fn blocks(panel: &[u8]) -> &[[u8; 320]] {
        panel.as_chunks().0
    }

    #[inline(always)]
    fn chunks(block: &[u8; 320]) -> &[[u8; 64]] {
        block[..256].as_chunks().0
    }

    #[inline(always)]
    fn scales(block: &[u8; 320]) -> &[[u8; 32]] {
        block[256..].as_chunks().0
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, c: &[[u8; 64]]) -> [S::W; 8] {
        load_nibbles(s, c)
    }

    #[inline(always)]
    fn dots<S: Simd, const R: usize>(s: S, w: &[S::W; 8], acts: &[ActBlock; R]) -> [S::I; R] {
        s.dots_nibbles([0; R], w, acts)
    }

    #[inline(always)]
    fn value<S: Simd>(s: S, c: &[[u8; 64]], k: usize) -> S::F {
        nibble(s, c, k)
    }
}

/// Q4_1 with joined scales: a block is an integer product of `[Σ q(w - 8), Σ q]` with
/// `[d, m + 8d]` in units of its row.
pub(super) struct JoinedQ4_1;

impl BlockFormat for JoinedQ4_1 {
    type Block = [u8; 320];
    const MIN: bool = true;
    const JOINED: bool = true;

    #[inline(always)]
    fn blocks(panel: &[u8]) -> &[[u8; 320]] {
        Q4_1::blocks(panel)
    }

    #[inline(always)]
    fn chunks(block: &[u8; 320]) -> &[[u8; 64]] {
        Q4_1::chunks(block)
    }

    #[inline(always)]
    fn scales(block: &[u8; 320]) -> &[[u8; 32]] {
        Q4_1::scales(block)
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, c: &[[u8; 64]]) -> [S::W; 8] {
        load_nibbles(s, c)
    }

    #[inline(always)]
    fn dots<S: Simd, const R: usize>(s: S, w: &[S::W; 8], acts: &[ActBlock; R]) -> [S::I; R] {
        let mut init = [0; R];
        for r in 0..R {
            init[r] = acts[r].joined;
        }
        s.dots_nibbles(init, w, acts)
    }

    #[inline(always)]
    fn add<S: Simd, const R: usize>(
        s: S,
        w: &[S::W; 8],
        scales: &[[u8; 32]],
        acts: &[ActBlock; R],
        acc: &mut [S::F; R],
    ) {
        let Some(pairs) = scales.as_flattened().first_chunk() else {
            return;
        };
        let pairs = s.pairs_bytes(pairs);
        let dots = Self::dots::<S, R>(s, w, acts);
        for r in 0..R {
            let product = s.to_f32(s.dot_halves(dots[r], pairs));
            acc[r] = s.fma(product, s.splat(acts[r].d), acc[r]);
        }
    }

    #[inline(always)]
    fn scale_and_min<S: Simd>(s: S, scales: &[[u8; 32]], unit: &[u8; 64]) -> (S::F, S::F) {
        let (mut d, mut min) = ([0.0; LANES], [0.0; LANES]);
        let pairs = scales.as_flattened().as_chunks::<4>().0;
        for ((pair, d), min) in pairs.iter().zip(&mut d).zip(&mut min) {
            *d = f32::from(i16::from_le_bytes([pair[0], pair[1]]));
            *min = f32::from(i16::from_le_bytes([pair[2], pair[3]]));
        }
        let unit = s.load_f32_bytes(unit);
        (s.mul(s.load(&d), unit), s.mul(s.load(&min), unit))
    }

    #[inline(always)]
    fn value<S: Simd>(s: S, c: &[[u8; 64]], k: usize) -> S::F {
        s.sub(nibble(s, c, k), s.splat(8.0))
    }
}
