//! 16 lanes in one AVX-512 register, with VNNI dot products.
//!
//! Unsafe code: intrinsics, called under the proof that [`Avx512`] is (its only constructor checks
//! the processor), and unaligned loads and stores through references to arrays of exactly the
//! size of the access.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Avx512;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) type Avx512 = super::avx2::Absent;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;

    use super::super::super::quantize::ActBlock;
    use super::super::{Lane, Simd, Task};

    /// Proof that the processor has AVX-512 F, BW, DQ, VL and VNNI, and FMA and F16C.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx512(());

    impl Avx512 {
        pub(crate) fn detect() -> Option<Self> {
            let found = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            found.then_some(Self(()))
        }

        pub(crate) fn run<T: Task>(self, task: T) -> T::Output {
            #[target_feature(
                enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"
            )]
            fn inner<T: Task>(s: Avx512, task: T) -> T::Output {
                task.run(s)
            }
            // SAFETY: `self` proves the features.
            unsafe { inner(self, task) }
        }
    }

    /// An intrinsic under the proof of `Avx512`.
    macro_rules! op {
        ($e:expr) => {
            // SAFETY: the methods exist only on `Avx512`, which proves the features; memory is
            // reached through references to arrays of the accessed size.
            unsafe { $e }
        };
    }

    /// `vpdpwssd` as written: for the intrinsic, compilers that tune for no processor in particular
    /// emit a multiplication and an addition, which costs a tenth of the speed of attention.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn dpwssd(acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        let mut sum = acc;
        // SAFETY: one instruction on registers; the feature is enabled.
        unsafe {
            asm!(
                "vpdpwssd {0}, {1}, {2}",
                inout(zmm_reg) sum,
                in(zmm_reg) a,
                in(zmm_reg) b,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }

    impl Simd for Avx512 {
        type F = __m512;
        type I = __m512i;
        type W = __m512i;
        type H = __m512i;

        const FLOAT_ROWS: usize = 6;

        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            op!(_mm512_set1_ps(x))
        }

        #[inline(always)]
        fn load(self, from: &Lane<f32>) -> __m512 {
            op!(_mm512_loadu_ps(from.as_ptr()))
        }

        #[inline(always)]
        fn store(self, x: __m512, to: &mut Lane<f32>) {
            op!(_mm512_storeu_ps(to.as_mut_ptr(), x))
        }

        #[inline(always)]
        fn load_f32_bytes(self, from: &[u8; 64]) -> __m512 {
            op!(_mm512_loadu_ps(from.as_ptr().cast()))
        }

        #[inline(always)]
        fn load_f16_bytes(self, from: &[u8; 32]) -> __m512 {
            op!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
        }

        #[inline(always)]
        fn load_bf16_bytes(self, from: &[u8; 32]) -> __m512 {
            op!({
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
            })
        }

        #[inline(always)]
        fn load_f16(self, from: &Lane<u16>) -> __m512 {
            op!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
        }

        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            op!(_mm512_add_ps(a, b))
        }

        #[inline(always)]
        fn sub(self, a: __m512, b: __m512) -> __m512 {
            op!(_mm512_sub_ps(a, b))
        }

        #[inline(always)]
        fn mul(self, a: __m512, b: __m512) -> __m512 {
            op!(_mm512_mul_ps(a, b))
        }

        #[inline(always)]
        fn div(self, a: __m512, b: __m512) -> __m512 {
            op!(_mm512_div_ps(a, b))
        }

        #[inline(always)]
        fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            op!(_mm512_fmadd_ps(a, b, c))
        }

        #[inline(always)]
        fn max(self, a: __m512, b: __m512) -> __m512 {
            op!(_mm512_max_ps(a, b))
        }

        #[inline(always)]
        fn min(self, a: __m512, b: __m512) -> __m512 {
            op!(_mm512_min_ps(a, b))
        }

        #[inline(always)]
        fn round(self, x: __m512) -> __m512 {
            op!(_mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(x))
        }

        #[inline(always)]
        fn pow2(self, n: __m512) -> __m512 {
            op!({
                let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
            })
        }

        #[inline(always)]
        fn select(self, x: __m512, from: usize, to: usize, other: __m512) -> __m512 {
            let lanes = ((1u32 << to) - 1) & !((1u32 << from) - 1);
            op!(_mm512_mask_blend_ps(lanes as u16, other, x))
        }

        #[inline(always)]
        fn sum(self, x: __m512) -> f32 {
            op!({
                let high = _mm512_extractf32x8_ps::<1>(x);
                let x = _mm256_add_ps(_mm512_castps512_ps256(x), high);
                let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
            })
        }

        #[inline(always)]
        fn largest(self, x: __m512) -> f32 {
            op!(_mm512_reduce_max_ps(x))
        }

        #[inline(always)]
        fn abs_bits(self, x: __m512) -> __m512i {
            op!(_mm512_and_si512(
                _mm512_castps_si512(x),
                _mm512_set1_epi32(i32::MAX)
            ))
        }

        #[inline(always)]
        fn max_i(self, a: __m512i, b: __m512i) -> __m512i {
            op!(_mm512_max_epi32(a, b))
        }

        #[inline(always)]
        fn largest_i(self, x: __m512i) -> i32 {
            op!(_mm512_reduce_max_epi32(x))
        }

        #[inline(always)]
        fn splat_i(self, x: i32) -> __m512i {
            op!(_mm512_set1_epi32(x))
        }

        #[inline(always)]
        fn load_nibbles_f32(self, chunk: &[u8; 64], shift: u32) -> __m512 {
            op!({
                let words = _mm512_loadu_si512(chunk.as_ptr().cast());
                let shifted = _mm512_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
                _mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(15)))
            })
        }

        #[inline(always)]
        fn load_bytes_f32(self, chunk: &[u8; 64], byte: usize) -> __m512 {
            op!({
                let words = _mm512_loadu_si512(chunk.as_ptr().cast());
                let shifted = _mm512_srl_epi32(words, _mm_cvtsi32_si128(8 * byte as i32));
                let bytes = _mm512_and_si512(shifted, _mm512_set1_epi32(255));
                _mm512_cvtepi32_ps(_mm512_sub_epi32(bytes, _mm512_set1_epi32(128)))
            })
        }

        #[inline(always)]
        fn to_f32(self, x: __m512i) -> __m512 {
            op!(_mm512_cvtepi32_ps(x))
        }

        #[inline(always)]
        fn to_i32(self, x: __m512) -> __m512i {
            op!(_mm512_cvtps_epi32(x))
        }

        #[inline(always)]
        fn store_i8(self, x: __m512i, to: &mut Lane<i8>) {
            op!(_mm_storeu_si128(
                to.as_mut_ptr().cast(),
                _mm512_cvtepi32_epi8(x)
            ))
        }

        #[inline(always)]
        fn store_i16(self, x: __m512i, to: &mut Lane<i16>) {
            op!(_mm256_storeu_si256(
                to.as_mut_ptr().cast(),
                _mm512_cvtepi32_epi16(x)
            ))
        }

        #[inline(always)]
        fn store_f16(self, x: __m512, to: &mut Lane<u16>) {
            op!(_mm256_storeu_si256(
                to.as_mut_ptr().cast(),
                _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)
            ))
        }

        #[inline(always)]
        fn low_nibbles(self, chunk: &[u8; 64]) -> __m512i {
            op!(_mm512_and_si512(
                _mm512_loadu_si512(chunk.as_ptr().cast()),
                _mm512_set1_epi8(15)
            ))
        }

        #[inline(always)]
        fn high_nibbles(self, chunk: &[u8; 64]) -> __m512i {
            op!(_mm512_and_si512(
                _mm512_srli_epi16::<4>(_mm512_loadu_si512(chunk.as_ptr().cast())),
                _mm512_set1_epi8(15)
            ))
        }

        #[inline(always)]
        fn bytes(self, chunk: &[u8; 64]) -> __m512i {
            op!(_mm512_loadu_si512(chunk.as_ptr().cast()))
        }

        #[inline(always)]
        fn dot_nibbles(self, init: i32, w: &[__m512i; 8], act: &ActBlock) -> __m512i {
            op!({
                let mut acc = _mm512_set1_epi32(init);
                for (w, q) in w.iter().zip(&act.q) {
                    let q = i32::from_le_bytes([q[0] as u8, q[1] as u8, q[2] as u8, q[3] as u8]);
                    acc = _mm512_dpbusd_epi32(acc, *w, _mm512_set1_epi32(q));
                }
                acc
            })
        }

        #[inline(always)]
        fn dot_bytes(self, w: &[__m512i; 8], act: &ActBlock) -> __m512i {
            // Weights are stored plus 128; `minus_128_sum` takes that out again.
            self.dot_nibbles(act.minus_128_sum, w, act)
        }

        #[inline(always)]
        fn dots_nibbles<const R: usize>(
            self,
            init: [i32; R],
            w: &[__m512i; 8],
            acts: &[ActBlock; R],
        ) -> [__m512i; R] {
            op!({
                let mut acc = [_mm512_setzero_si512(); R];
                for r in 0..R {
                    acc[r] = _mm512_set1_epi32(init[r]);
                }
                for (k, w) in w.iter().enumerate() {
                    for r in 0..R {
                        let q = i32::from_le_bytes(acts[r].q[k].map(|q| q as u8));
                        acc[r] = _mm512_dpbusd_epi32(acc[r], *w, _mm512_set1_epi32(q));
                    }
                }
                acc
            })
        }

        #[inline(always)]
        fn dots_bytes<const R: usize>(
            self,
            w: &[__m512i; 8],
            acts: &[ActBlock; R],
        ) -> [__m512i; R] {
            let mut init = [0; R];
            for r in 0..R {
                init[r] = acts[r].minus_128_sum;
            }
            self.dots_nibbles(init, w, acts)
        }

        #[inline(always)]
        fn pairs_i16(self, from: &[i16; 32]) -> __m512i {
            op!(_mm512_loadu_si512(from.as_ptr().cast()))
        }

        #[inline(always)]
        fn pairs_bytes(self, from: &[u8; 64]) -> __m512i {
            op!(_mm512_loadu_si512(from.as_ptr().cast()))
        }

        #[inline(always)]
        fn dot_halves(self, x: __m512i, h: __m512i) -> __m512i {
            op!(_mm512_madd_epi16(
                _mm512_xor_si512(x, _mm512_set1_epi32(1 << 15)),
                h
            ))
        }

        #[inline(always)]
        fn pairs_i8(self, from: &[i8; 32]) -> __m512i {
            op!(_mm512_cvtepi8_epi16(_mm256_loadu_si256(
                from.as_ptr().cast()
            )))
        }

        #[inline(always)]
        fn dot_pairs(self, acc: __m512i, h: __m512i, pair: i32) -> __m512i {
            op!(dpwssd(acc, h, _mm512_set1_epi32(pair)))
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
