//! The scalar twin: the meaning of every operation, on arrays.

use half::{bf16, f16};

use super::super::quantize::ActBlock;
use super::{LANES, Lane, Simd};

/// Lanes as arrays; available everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn map2<T: Copy>(a: Lane<T>, b: Lane<T>, f: impl Fn(T, T) -> T) -> Lane<T> {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn halves<T: Copy>(x: Lane<T>, f: impl Fn(T, T) -> T) -> T {
    let mut x = x;
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            x[i] = f(x[i], x[i + width]);
        }
        width /= 2;
    }
    x[0]
}

impl Simd for Scalar {
    type F = Lane<f32>;
    type I = Lane<i32>;
    type W = [u8; 64];
    type H = [i16; 32];

    const FLOAT_ROWS: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> Lane<f32> {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &Lane<f32>) -> Lane<f32> {
        *from
    }

    #[inline(always)]
    fn store(self, x: Lane<f32>, to: &mut Lane<f32>) {
        *to = x;
    }

    #[inline(always)]
    fn load_f32_bytes(self, from: &[u8; 64]) -> Lane<f32> {
        let words = from.as_chunks::<4>().0;
        std::array::from_fn(|i| f32::from_le_bytes(words[i]))
    }

    #[inline(always)]
    fn load_f16_bytes(self, from: &[u8; 32]) -> Lane<f32> {
        let words = from.as_chunks::<2>().0;
        std::array::from_fn(|i| f16::from_le_bytes(words[i]).to_f32())
    }

    #[inline(always)]
    fn load_bf16_bytes(self, from: &[u8; 32]) -> Lane<f32> {
        let words = from.as_chunks::<2>().0;
        std::array::from_fn(|i| bf16::from_le_bytes(words[i]).to_f32())
    }

    #[inline(always)]
    fn load_f16(self, from: &Lane<u16>) -> Lane<f32> {
        from.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn add(self, a: Lane<f32>, b: Lane<f32>) -> Lane<f32> {
        map2(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Lane<f32>, b: Lane<f32>) -> Lane<f32> {
        map2(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Lane<f32>, b: Lane<f32>) -> Lane<f32> {
        map2(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Lane<f32>, b: Lane<f32>) -> Lane<f32> {
        map2(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn fma(self, a: Lane<f32>, b: Lane<f32>, c: Lane<f32>) -> Lane<f32> {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn max(self, a: Lane<f32>, b: Lane<f32>) -> Lane<f32> {
        map2(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Lane<f32>, b: Lane<f32>) -> Lane<f32> {
        map2(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn round(self, x: Lane<f32>) -> Lane<f32> {
        x.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn pow2(self, n: Lane<f32>) -> Lane<f32> {
        n.map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23))
    }

    #[inline(always)]
    fn select(self, x: Lane<f32>, from: usize, to: usize, other: Lane<f32>) -> Lane<f32> {
        std::array::from_fn(|i| {
            if (from..to).contains(&i) {
                x[i]
            } else {
                other[i]
            }
        })
    }

    #[inline(always)]
    fn sum(self, x: Lane<f32>) -> f32 {
        halves(x, |a, b| a + b)
    }

    #[inline(always)]
    fn largest(self, x: Lane<f32>) -> f32 {
        halves(x, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn abs_bits(self, x: Lane<f32>) -> Lane<i32> {
        x.map(|x| x.abs().to_bits() as i32)
    }

    #[inline(always)]
    fn max_i(self, a: Lane<i32>, b: Lane<i32>) -> Lane<i32> {
        map2(a, b, i32::max)
    }

    #[inline(always)]
    fn largest_i(self, x: Lane<i32>) -> i32 {
        halves(x, i32::max)
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Lane<i32> {
        [x; LANES]
    }

    #[inline(always)]
    fn load_nibbles_f32(self, chunk: &[u8; 64], shift: u32) -> Lane<f32> {
        let words = chunk.as_chunks::<4>().0;
        std::array::from_fn(|i| (u32::from_le_bytes(words[i]) >> shift & 15) as f32)
    }

    #[inline(always)]
    fn load_bytes_f32(self, chunk: &[u8; 64], byte: usize) -> Lane<f32> {
        let words = chunk.as_chunks::<4>().0;
        std::array::from_fn(|i| (i32::from(words[i][byte]) - 128) as f32)
    }

    #[inline(always)]
    fn to_f32(self, x: Lane<i32>) -> Lane<f32> {
        x.map(|x| x as f32)
    }

    #[inline(always)]
    fn to_i32(self, x: Lane<f32>) -> Lane<i32> {
        x.map(|x| x.round_ties_even() as i32)
    }

    #[inline(always)]
    fn store_i8(self, x: Lane<i32>, to: &mut Lane<i8>) {
        *to = x.map(|x| x as i8);
    }

    #[inline(always)]
    fn store_i16(self, x: Lane<i32>, to: &mut Lane<i16>) {
        *to = x.map(|x| x as i16);
    }

    #[inline(always)]
    fn store_f16(self, x: Lane<f32>, to: &mut Lane<u16>) {
        *to = x.map(|x| f16::from_f32(x).to_bits());
    }

    #[inline(always)]
    fn low_nibbles(self, chunk: &[u8; 64]) -> [u8; 64] {
        chunk.map(|b| b & 15)
    }

    #[inline(always)]
    fn high_nibbles(self, chunk: &[u8; 64]) -> [u8; 64] {
        chunk.map(|b| b >> 4)
    }

    #[inline(always)]
    fn bytes(self, chunk: &[u8; 64]) -> [u8; 64] {
        *chunk
    }

    #[inline(always)]
    fn dot_nibbles(self, init: i32, w: &[[u8; 64]; 8], act: &ActBlock) -> Lane<i32> {
        let mut acc = [init; LANES];
        for (w, q) in w.iter().zip(&act.q) {
            for (acc, w) in acc.iter_mut().zip(w.as_chunks::<4>().0) {
                for (&w, &q) in w.iter().zip(q) {
                    *acc += i32::from(w) * i32::from(q);
                }
            }
        }
        acc
    }

    #[inline(always)]
    fn dot_bytes(self, w: &[[u8; 64]; 8], act: &ActBlock) -> Lane<i32> {
        let mut acc = [0; LANES];
        for (w, q) in w.iter().zip(&act.q) {
            for (acc, w) in acc.iter_mut().zip(w.as_chunks::<4>().0) {
                for (&w, &q) in w.iter().zip(q) {
                    *acc += (i32::from(w) - 128) * i32::from(q);
                }
            }
        }
        acc
    }

    #[inline(always)]
    fn pairs_i16(self, from: &[i16; 32]) -> [i16; 32] {
        *from
    }

    #[inline(always)]
    fn pairs_bytes(self, from: &[u8; 64]) -> [i16; 32] {
        let values = from.as_chunks::<2>().0;
        std::array::from_fn(|i| i16::from_le_bytes(values[i]))
    }

    #[inline(always)]
    fn dot_halves(self, x: Lane<i32>, h: [i16; 32]) -> Lane<i32> {
        let h = h.as_chunks::<2>().0;
        std::array::from_fn(|i| {
            let (low, high) = ((x[i] & 0xffff) - (1 << 15), x[i] >> 16);
            low * i32::from(h[i][0]) + high * i32::from(h[i][1])
        })
    }

    #[inline(always)]
    fn pairs_i8(self, from: &[i8; 32]) -> [i16; 32] {
        from.map(i16::from)
    }

    #[inline(always)]
    fn dot_pairs(self, acc: Lane<i32>, h: [i16; 32], pair: i32) -> Lane<i32> {
        let (low, high) = (i32::from(pair as i16), pair >> 16);
        let h = h.as_chunks::<2>().0;
        std::array::from_fn(|i| {
            acc[i]
                .wrapping_add(i32::from(h[i][0]) * low)
                .wrapping_add(i32::from(h[i][1]) * high)
        })
    }

    #[inline(always)]
    fn prefetch<T>(self, _at: &T, _ahead: usize) {}

    #[inline(always)]
    fn prefetch_later<T>(self, _at: &T, _ahead: usize) {}
}
