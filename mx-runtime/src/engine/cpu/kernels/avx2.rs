//! 16 lanes in two AVX2 registers; the 8-bit dot product by VNNI where the processor has it.
//!
//! Unsafe code: intrinsics, called under the proof that [`Avx2`] is (its only constructor checks
//! the processor), and unaligned loads and stores through references to arrays of at least the
//! size of the access.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Avx2;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use absent::{Absent, Avx2};

/// Stand-ins on other processors: they cannot be constructed.
#[cfg(not(target_arch = "x86_64"))]
mod absent {
    use super::super::Task;

    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Absent {}

    impl Absent {
        pub(crate) fn detect() -> Option<Self> {
            None
        }

        pub(crate) fn run<T: Task>(self, _task: T) -> T::Output {
            match self {}
        }
    }

    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx2<const VNNI: bool>(Absent);

    impl<const VNNI: bool> Avx2<VNNI> {
        pub(crate) fn detect() -> Option<Self> {
            None
        }

        pub(crate) fn plain(self) -> Avx2<false> {
            match self.0 {}
        }

        pub(crate) fn run<T: Task>(self, _task: T) -> T::Output {
            match self.0 {}
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::super::quantize::ActBlock;
    use super::super::{Lane, Simd, Task};

    /// Proof that the processor has AVX2, FMA and F16C, and AVX-VNNI if `VNNI`.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx2<const VNNI: bool>(());

    impl<const VNNI: bool> Avx2<VNNI> {
        pub(crate) fn detect() -> Option<Self> {
            let found = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && (!VNNI || is_x86_feature_detected!("avxvnni"));
            found.then_some(Self(()))
        }

        /// The same without the dot product of bytes.
        pub(crate) fn plain(self) -> Avx2<false> {
            Avx2(())
        }

        pub(crate) fn run<T: Task>(self, task: T) -> T::Output {
            #[target_feature(enable = "avx2,fma,f16c")]
            fn plain<T: Task, const VNNI: bool>(s: Avx2<VNNI>, task: T) -> T::Output {
                task.run(s)
            }
            #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
            fn vnni<T: Task, const VNNI: bool>(s: Avx2<VNNI>, task: T) -> T::Output {
                task.run(s)
            }
            if VNNI {
                // SAFETY: `self` proves the features, AVX-VNNI included.
                unsafe { vnni(self, task) }
            } else {
                // SAFETY: `self` proves the features.
                unsafe { plain(self, task) }
            }
        }
    }

    /// An intrinsic under the proof of `Avx2`.
    macro_rules! op {
        ($e:expr) => {
            // SAFETY: the methods exist only on `Avx2`, which proves the features; memory is
            // reached through references to arrays that hold the accessed bytes.
            unsafe { $e }
        };
    }

    /// Both halves of a 64-byte array.
    #[inline(always)]
    fn load_halves(from: &[u8; 64]) -> [__m256i; 2] {
        // SAFETY: the callers hold a proof of AVX2; both loads lie within the 64 bytes.
        unsafe {
            let at = from.as_ptr();
            [
                _mm256_loadu_si256(at.cast()),
                _mm256_loadu_si256(at.add(32).cast()),
            ]
        }
    }

    #[inline(always)]
    fn packed(q: [i8; 4]) -> i32 {
        i32::from_le_bytes([q[0] as u8, q[1] as u8, q[2] as u8, q[3] as u8])
    }

    impl<const VNNI: bool> Simd for Avx2<VNNI> {
        type F = [__m256; 2];
        type I = [__m256i; 2];
        type W = [__m256i; 2];
        type H = [__m256i; 2];

        const FLOAT_ROWS: usize = 1;

        #[inline(always)]
        fn splat(self, x: f32) -> Self::F {
            op!([_mm256_set1_ps(x); 2])
        }

        #[inline(always)]
        fn load(self, from: &Lane<f32>) -> Self::F {
            op!([
                _mm256_loadu_ps(from.as_ptr()),
                _mm256_loadu_ps(from.as_ptr().add(8))
            ])
        }

        #[inline(always)]
        fn store(self, x: Self::F, to: &mut Lane<f32>) {
            op!({
                _mm256_storeu_ps(to.as_mut_ptr(), x[0]);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), x[1]);
            })
        }

        #[inline(always)]
        fn load_f32_bytes(self, from: &[u8; 64]) -> Self::F {
            let [a, b] = load_halves(from);
            op!([_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)])
        }

        #[inline(always)]
        fn load_f16_bytes(self, from: &[u8; 32]) -> Self::F {
            op!([
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(16).cast()))
            ])
        }

        #[inline(always)]
        fn load_bf16_bytes(self, from: &[u8; 32]) -> Self::F {
            op!({
                let a = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
                let b = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().add(16).cast()));
                [
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)),
                ]
            })
        }

        #[inline(always)]
        fn load_f16(self, from: &Lane<u16>) -> Self::F {
            op!([
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(8).cast()))
            ])
        }

        #[inline(always)]
        fn add(self, a: Self::F, b: Self::F) -> Self::F {
            op!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
        }

        #[inline(always)]
        fn sub(self, a: Self::F, b: Self::F) -> Self::F {
            op!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
        }

        #[inline(always)]
        fn mul(self, a: Self::F, b: Self::F) -> Self::F {
            op!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
        }

        #[inline(always)]
        fn div(self, a: Self::F, b: Self::F) -> Self::F {
            op!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
        }

        #[inline(always)]
        fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
            op!([
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1])
            ])
        }

        #[inline(always)]
        fn max(self, a: Self::F, b: Self::F) -> Self::F {
            op!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
        }

        #[inline(always)]
        fn min(self, a: Self::F, b: Self::F) -> Self::F {
            op!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
        }

        #[inline(always)]
        fn round(self, x: Self::F) -> Self::F {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            op!([
                _mm256_round_ps::<NEAREST>(x[0]),
                _mm256_round_ps::<NEAREST>(x[1])
            ])
        }

        #[inline(always)]
        fn pow2(self, n: Self::F) -> Self::F {
            op!({
                let bias = _mm256_set1_epi32(127);
                let a = _mm256_add_epi32(_mm256_cvtps_epi32(n[0]), bias);
                let b = _mm256_add_epi32(_mm256_cvtps_epi32(n[1]), bias);
                [
                    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(a)),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(b)),
                ]
            })
        }

        #[inline(always)]
        fn select(self, x: Self::F, from: usize, to: usize, other: Self::F) -> Self::F {
            op!({
                let (before, end) = (
                    _mm256_set1_epi32(from as i32 - 1),
                    _mm256_set1_epi32(to as i32),
                );
                let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let high = _mm256_add_epi32(low, _mm256_set1_epi32(8));
                let mask = [
                    _mm256_and_si256(
                        _mm256_cmpgt_epi32(low, before),
                        _mm256_cmpgt_epi32(end, low),
                    ),
                    _mm256_and_si256(
                        _mm256_cmpgt_epi32(high, before),
                        _mm256_cmpgt_epi32(end, high),
                    ),
                ];
                [
                    _mm256_blendv_ps(other[0], x[0], _mm256_castsi256_ps(mask[0])),
                    _mm256_blendv_ps(other[1], x[1], _mm256_castsi256_ps(mask[1])),
                ]
            })
        }

        #[inline(always)]
        fn sum(self, x: Self::F) -> f32 {
            op!({
                let x = _mm256_add_ps(x[0], x[1]);
                let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
            })
        }

        #[inline(always)]
        fn largest(self, x: Self::F) -> f32 {
            op!({
                let x = _mm256_max_ps(x[0], x[1]);
                let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
            })
        }

        #[inline(always)]
        fn abs_bits(self, x: Self::F) -> Self::I {
            op!({
                let mask = _mm256_set1_epi32(i32::MAX);
                [
                    _mm256_and_si256(_mm256_castps_si256(x[0]), mask),
                    _mm256_and_si256(_mm256_castps_si256(x[1]), mask),
                ]
            })
        }

        #[inline(always)]
        fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
            op!([_mm256_max_epi32(a[0], b[0]), _mm256_max_epi32(a[1], b[1])])
        }

        #[inline(always)]
        fn largest_i(self, x: Self::I) -> i32 {
            op!({
                let x = _mm256_max_epi32(x[0], x[1]);
                let x = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
                let x = _mm_max_epi32(x, _mm_shuffle_epi32::<0b00_00_11_10>(x));
                _mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32::<0b00_00_00_01>(x)))
            })
        }

        #[inline(always)]
        fn splat_i(self, x: i32) -> Self::I {
            op!([_mm256_set1_epi32(x); 2])
        }

        #[inline(always)]
        fn load_nibbles_f32(self, chunk: &[u8; 64], shift: u32) -> Self::F {
            let [a, b] = load_halves(chunk);
            op!({
                let (count, mask) = (_mm_cvtsi32_si128(shift as i32), _mm256_set1_epi32(15));
                [
                    _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srl_epi32(a, count), mask)),
                    _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srl_epi32(b, count), mask)),
                ]
            })
        }

        #[inline(always)]
        fn load_bytes_f32(self, chunk: &[u8; 64], byte: usize) -> Self::F {
            let [a, b] = load_halves(chunk);
            op!({
                let count = _mm_cvtsi32_si128(8 * byte as i32);
                let (mask, bias) = (_mm256_set1_epi32(255), _mm256_set1_epi32(128));
                let a = _mm256_and_si256(_mm256_srl_epi32(a, count), mask);
                let b = _mm256_and_si256(_mm256_srl_epi32(b, count), mask);
                [
                    _mm256_cvtepi32_ps(_mm256_sub_epi32(a, bias)),
                    _mm256_cvtepi32_ps(_mm256_sub_epi32(b, bias)),
                ]
            })
        }

        #[inline(always)]
        fn to_f32(self, x: Self::I) -> Self::F {
            op!([_mm256_cvtepi32_ps(x[0]), _mm256_cvtepi32_ps(x[1])])
        }

        #[inline(always)]
        fn to_i32(self, x: Self::F) -> Self::I {
            op!([_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1])])
        }

        #[inline(always)]
        fn store_i8(self, x: Self::I, to: &mut Lane<i8>) {
            op!({
                // Packing works within 128-bit halves; the permutation restores the order.
                let words =
                    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(x[0], x[1]));
                let bytes = _mm_packs_epi16(
                    _mm256_castsi256_si128(words),
                    _mm256_extracti128_si256::<1>(words),
                );
                _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
            })
        }

        #[inline(always)]
        fn store_i16(self, x: Self::I, to: &mut Lane<i16>) {
            op!({
                let words =
                    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(x[0], x[1]));
                _mm256_storeu_si256(to.as_mut_ptr().cast(), words);
            })
        }

        #[inline(always)]
        fn store_f16(self, x: Self::F, to: &mut Lane<u16>) {
            op!({
                let [low, high] = x.map(|x| _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x));
                let at = to.as_mut_ptr();
                _mm_storeu_si128(at.cast(), low);
                _mm_storeu_si128(at.add(8).cast(), high);
            })
        }

        #[inline(always)]
        fn low_nibbles(self, chunk: &[u8; 64]) -> Self::W {
            let [a, b] = load_halves(chunk);
            op!({
                let mask = _mm256_set1_epi8(15);
                [_mm256_and_si256(a, mask), _mm256_and_si256(b, mask)]
            })
        }

        #[inline(always)]
        fn high_nibbles(self, chunk: &[u8; 64]) -> Self::W {
            let [a, b] = load_halves(chunk);
            op!({
                let mask = _mm256_set1_epi8(15);
                [
                    _mm256_and_si256(_mm256_srli_epi16::<4>(a), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(b), mask),
                ]
            })
        }

        #[inline(always)]
        fn bytes(self, chunk: &[u8; 64]) -> Self::W {
            load_halves(chunk)
        }

        #[inline(always)]
        fn dot_nibbles(self, init: i32, w: &[Self::W; 8], act: &ActBlock) -> Self::I {
            op!({
                if VNNI {
                    let mut acc = [_mm256_set1_epi32(init); 2];
                    for (w, q) in w.iter().zip(&act.q) {
                        let q = _mm256_set1_epi32(packed(*q));
                        acc[0] = _mm256_dpbusd_avx_epi32(acc[0], w[0], q);
                        acc[1] = _mm256_dpbusd_avx_epi32(acc[1], w[1], q);
                    }
                    return acc;
                }
                // Eight pair sums of at most 2 * 15 * 127 fit i16.
                let mut acc = [_mm256_setzero_si256(); 2];
                for (w, q) in w.iter().zip(&act.q) {
                    let q = _mm256_set1_epi32(packed(*q));
                    acc[0] = _mm256_add_epi16(acc[0], _mm256_maddubs_epi16(w[0], q));
                    acc[1] = _mm256_add_epi16(acc[1], _mm256_maddubs_epi16(w[1], q));
                }
                let (ones, init) = (_mm256_set1_epi16(1), _mm256_set1_epi32(init));
                [
                    _mm256_add_epi32(_mm256_madd_epi16(acc[0], ones), init),
                    _mm256_add_epi32(_mm256_madd_epi16(acc[1], ones), init),
                ]
            })
        }

        #[inline(always)]
        fn dot_bytes(self, w: &[Self::W; 8], act: &ActBlock) -> Self::I {
            op!({
                if VNNI {
                    return self.dot_nibbles(act.minus_128_sum, w, act);
                }
                // |w| * sign(w)·q: pair sums of at most 2 * 128 * 127 fit i16, which unsigned
                // weights up to 255 would not.
                let (ones, flip) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
                let mut acc = [_mm256_setzero_si256(); 2];
                for (w, q) in w.iter().zip(&act.q) {
                    let q = _mm256_set1_epi32(packed(*q));
                    let (a, b) = (_mm256_xor_si256(w[0], flip), _mm256_xor_si256(w[1], flip));
                    let a = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(q, a));
                    let b = _mm256_maddubs_epi16(_mm256_abs_epi8(b), _mm256_sign_epi8(q, b));
                    acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(a, ones));
                    acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(b, ones));
                }
                acc
            })
        }

        #[inline(always)]
        fn pairs_i16(self, from: &[i16; 32]) -> Self::H {
            op!([
                _mm256_loadu_si256(from.as_ptr().cast()),
                _mm256_loadu_si256(from.as_ptr().add(16).cast())
            ])
        }

        #[inline(always)]
        fn pairs_bytes(self, from: &[u8; 64]) -> Self::H {
            op!([
                _mm256_loadu_si256(from.as_ptr().cast()),
                _mm256_loadu_si256(from.as_ptr().add(32).cast())
            ])
        }

        #[inline(always)]
        fn dot_halves(self, x: Self::I, h: Self::H) -> Self::I {
            op!({
                let flip = _mm256_set1_epi32(1 << 15);
                [
                    _mm256_madd_epi16(_mm256_xor_si256(x[0], flip), h[0]),
                    _mm256_madd_epi16(_mm256_xor_si256(x[1], flip), h[1]),
                ]
            })
        }

        #[inline(always)]
        fn pairs_i8(self, from: &[i8; 32]) -> Self::H {
            op!([
                _mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().cast())),
                _mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().add(16).cast()))
            ])
        }

        #[inline(always)]
        fn dot_pairs(self, acc: Self::I, h: Self::H, pair: i32) -> Self::I {
            op!({
                let pair = _mm256_set1_epi32(pair);
                [
                    _mm256_add_epi32(acc[0], _mm256_madd_epi16(h[0], pair)),
                    _mm256_add_epi32(acc[1], _mm256_madd_epi16(h[1], pair)),
                ]
            })
        }

        #[inline(always)]
        fn prefetch<T>(self, at: &T, ahead: usize) {
            // A prefetch never faults, wherever the address lies.
            op!(_mm_prefetch::<_MM_HINT_T0>(
                std::ptr::from_ref(at).cast::<i8>().wrapping_add(ahead)
            ));
        }

        #[inline(always)]
        fn prefetch_later<T>(self, at: &T, ahead: usize) {
            // A prefetch never faults, wherever the address lies.
            op!(_mm_prefetch::<_MM_HINT_T1>(
                std::ptr::from_ref(at).cast::<i8>().wrapping_add(ahead)
            ));
        }
    }
}
