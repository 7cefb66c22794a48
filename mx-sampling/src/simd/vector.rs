//! Sixteen lanes of `f32`, as an array and on each instruction set.
//!
//! The kernels are written once over [`Lanes`]. Every operation is one that IEEE arithmetic defines exactly
//! (no fused multiplication, reductions by one fixed tree), so all implementations give the same bits; the
//! array is the twin that the others are tested against.

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Sixteen lanes.
///
/// # Safety
///
/// The functions of an implementation for an instruction set must run only where that set was detected. They
/// are `inline(always)`, so that they become part of a function that was compiled for the set.
pub(crate) trait Lanes: Copy {
    fn splat(x: f32) -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `if self > other { self } else { other }`.
    fn larger(self, other: Self) -> Self;
    /// Bit `j` is set where `self[j] >= other[j]`.
    fn at_least(self, other: Self) -> u16;
    /// Bit `j` is set where `self[j] > other[j]`.
    fn above(self, other: Self) -> u16;
    /// `self` where the bit is set, 0 elsewhere.
    fn keep_or_zero(self, mask: u16) -> Self;
    /// `self` where the bit is set, −inf elsewhere.
    fn keep_or_out(self, mask: u16) -> Self;
    /// Adds the low bits of `shifted`, less those of `base`, to the exponent.
    fn scale_by_bits(self, shifted: Self, base: u32) -> Self;
    /// Sum by the tree 8 + 8, 4 + 4, 2 + 2, 1 + 1.
    fn sum(self) -> f32;
    /// Largest lane, by the same tree.
    fn max(self) -> f32;
    /// Writes ids (`first` and up) and values of the set lanes, packed, and returns their number.
    fn pack(
        self,
        mask: u16,
        first: u32,
        ids: &mut [u32; LANES],
        values: &mut [f32; LANES],
    ) -> usize;
    /// The same with listed ids.
    fn pack_listed(
        self,
        mask: u16,
        from: [u32; LANES],
        ids: &mut [u32; LANES],
        values: &mut [f32; LANES],
    ) -> usize;
}

/// The array: what every processor can do.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|j| f(self.0[j], other.0[j])))
    }

    #[inline(always)]
    fn tree(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let a = self.0;
        let b: [f32; 8] = std::array::from_fn(|j| f(a[j], a[j + 8]));
        let c: [f32; 4] = std::array::from_fn(|j| f(b[j], b[j + 4]));
        f(f(c[0], c[2]), f(c[1], c[3]))
    }

    #[inline(always)]
    fn bits(self, other: Self, f: impl Fn(f32, f32) -> bool) -> u16 {
        let mut mask = 0;
        for j in 0..LANES {
            mask |= u16::from(f(self.0[j], other.0[j])) << j;
        }
        mask
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

impl Lanes for Portable {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        self.zip(other, larger)
    }
    #[inline(always)]
    fn at_least(self, other: Self) -> u16 {
        self.bits(other, |a, b| a >= b)
    }
    #[inline(always)]
    fn above(self, other: Self) -> u16 {
        self.bits(other, |a, b| a > b)
    }
    #[inline(always)]
    fn keep_or_zero(self, mask: u16) -> Self {
        Self(std::array::from_fn(|j| {
            if (mask >> j) & 1 == 1 { self.0[j] } else { 0.0 }
        }))
    }
    #[inline(always)]
    fn keep_or_out(self, mask: u16) -> Self {
        Self(std::array::from_fn(|j| {
            if (mask >> j) & 1 == 1 {
                self.0[j]
            } else {
                f32::NEG_INFINITY
            }
        }))
    }
    #[inline(always)]
    fn scale_by_bits(self, shifted: Self, base: u32) -> Self {
        self.zip(shifted, |p, s| {
            f32::from_bits(
                p.to_bits()
                    .wrapping_add(s.to_bits().wrapping_sub(base) << 23),
            )
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        self.tree(|a, b| a + b)
    }
    #[inline(always)]
    fn max(self) -> f32 {
        self.tree(larger)
    }
    #[inline(always)]
    fn pack(
        self,
        mask: u16,
        first: u32,
        ids: &mut [u32; LANES],
        values: &mut [f32; LANES],
    ) -> usize {
        pack_bits(&self.0, mask, |j| first + j, ids, values)
    }
    #[inline(always)]
    fn pack_listed(
        self,
        mask: u16,
        from: [u32; LANES],
        ids: &mut [u32; LANES],
        values: &mut [f32; LANES],
    ) -> usize {
        pack_bits(
            &self.0,
            mask,
            |j| from[j as usize & (LANES - 1)],
            ids,
            values,
        )
    }
}

/// [`Lanes::pack`] one set bit at a time.
#[inline(always)]
fn pack_bits(
    lanes: &[f32; LANES],
    mask: u16,
    id: impl Fn(u32) -> u32,
    ids: &mut [u32; LANES],
    values: &mut [f32; LANES],
) -> usize {
    let mut left = mask;
    let mut n = 0;
    while left != 0 {
        let j = left.trailing_zeros();
        ids[n & (LANES - 1)] = id(j);
        values[n & (LANES - 1)] = lanes[j as usize & (LANES - 1)];
        n += 1;
        left &= left - 1;
    }
    n
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Lanes, pack_bits};
    use std::arch::x86_64::*;

    /// Two registers of eight lanes.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256, __m256);

    /// One register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    /// Bits `j` of a mask to full lanes `j`, `first` being the bit of lane 0.
    #[inline(always)]
    fn spread(mask: u16, first: i32) -> __m256 {
        // SAFETY: AVX2 was detected before a function with this code was called (see `Lanes`).
        unsafe {
            let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let all = _mm256_set1_epi32(i32::from(mask) >> first);
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, bits), bits))
        }
    }

    // SAFETY (every block below): the trait's contract; loads and stores go through references to arrays of
    // exactly the lanes that are moved, by unaligned instructions.
    impl Lanes for Avx2 {
        #[inline(always)]
        fn splat(x: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        }
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            unsafe {
                Self(
                    _mm256_loadu_ps(from.as_ptr()),
                    _mm256_loadu_ps(from.as_ptr().add(8)),
                )
            }
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), self.0);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
            }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            unsafe {
                Self(
                    _mm256_add_ps(self.0, other.0),
                    _mm256_add_ps(self.1, other.1),
                )
            }
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            unsafe {
                Self(
                    _mm256_sub_ps(self.0, other.0),
                    _mm256_sub_ps(self.1, other.1),
                )
            }
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            unsafe {
                Self(
                    _mm256_mul_ps(self.0, other.0),
                    _mm256_mul_ps(self.1, other.1),
                )
            }
        }
        #[inline(always)]
        fn larger(self, other: Self) -> Self {
            // The instruction gives the second operand unless the first is larger.
            unsafe {
                Self(
                    _mm256_max_ps(self.0, other.0),
                    _mm256_max_ps(self.1, other.1),
                )
            }
        }
        #[inline(always)]
        fn at_least(self, other: Self) -> u16 {
            unsafe {
                let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(self.0, other.0));
                let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(self.1, other.1));
                (low | (high << 8)) as u16
            }
        }
        #[inline(always)]
        fn above(self, other: Self) -> u16 {
            unsafe {
                let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0));
                let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.1, other.1));
                (low | (high << 8)) as u16
            }
        }
        #[inline(always)]
        fn keep_or_zero(self, mask: u16) -> Self {
            unsafe {
                Self(
                    _mm256_and_ps(self.0, spread(mask, 0)),
                    _mm256_and_ps(self.1, spread(mask, 8)),
                )
            }
        }
        #[inline(always)]
        fn keep_or_out(self, mask: u16) -> Self {
            unsafe {
                let out = _mm256_set1_ps(f32::NEG_INFINITY);
                Self(
                    _mm256_blendv_ps(out, self.0, spread(mask, 0)),
                    _mm256_blendv_ps(out, self.1, spread(mask, 8)),
                )
            }
        }
        #[inline(always)]
        fn scale_by_bits(self, shifted: Self, base: u32) -> Self {
            unsafe {
                let base = _mm256_set1_epi32(base as i32);
                let half = |p: __m256, s: __m256| {
                    let n = _mm256_slli_epi32::<23>(_mm256_sub_epi32(_mm256_castps_si256(s), base));
                    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), n))
                };
                Self(half(self.0, shifted.0), half(self.1, shifted.1))
            }
        }
        #[inline(always)]
        fn sum(self) -> f32 {
            unsafe {
                let a = _mm256_add_ps(self.0, self.1);
                let b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let c = _mm_add_ps(b, _mm_movehl_ps(b, b));
                _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps::<1>(c, c)))
            }
        }
        #[inline(always)]
        fn max(self) -> f32 {
            unsafe {
                let a = _mm256_max_ps(self.0, self.1);
                let b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let c = _mm_max_ps(b, _mm_movehl_ps(b, b));
                _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps::<1>(c, c)))
            }
        }
        #[inline(always)]
        fn pack(
            self,
            mask: u16,
            first: u32,
            ids: &mut [u32; LANES],
            values: &mut [f32; LANES],
        ) -> usize {
            let mut lanes = [0.0; LANES];
            self.store(&mut lanes);
            pack_bits(&lanes, mask, |j| first + j, ids, values)
        }
        #[inline(always)]
        fn pack_listed(
            self,
            mask: u16,
            from: [u32; LANES],
            ids: &mut [u32; LANES],
            values: &mut [f32; LANES],
        ) -> usize {
            let mut lanes = [0.0; LANES];
            self.store(&mut lanes);
            pack_bits(
                &lanes,
                mask,
                |j| from[j as usize & (LANES - 1)],
                ids,
                values,
            )
        }
    }

    // SAFETY (every block below): as above, for AVX-512 F, VL, BW and DQ.
    impl Lanes for Avx512 {
        #[inline(always)]
        fn splat(x: f32) -> Self {
            unsafe { Self(_mm512_set1_ps(x)) }
        }
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            unsafe { Self(_mm512_loadu_ps(from.as_ptr())) }
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn larger(self, other: Self) -> Self {
            unsafe { Self(_mm512_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn at_least(self, other: Self) -> u16 {
            unsafe { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(self.0, other.0) }
        }
        #[inline(always)]
        fn above(self, other: Self) -> u16 {
            unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) }
        }
        #[inline(always)]
        fn keep_or_zero(self, mask: u16) -> Self {
            unsafe { Self(_mm512_maskz_mov_ps(mask, self.0)) }
        }
        #[inline(always)]
        fn keep_or_out(self, mask: u16) -> Self {
            unsafe {
                Self(_mm512_mask_mov_ps(
                    _mm512_set1_ps(f32::NEG_INFINITY),
                    mask,
                    self.0,
                ))
            }
        }
        #[inline(always)]
        fn scale_by_bits(self, shifted: Self, base: u32) -> Self {
            unsafe {
                let n = _mm512_sub_epi32(
                    _mm512_castps_si512(shifted.0),
                    _mm512_set1_epi32(base as i32),
                );
                let n = _mm512_slli_epi32::<23>(n);
                Self(_mm512_castsi512_ps(_mm512_add_epi32(
                    _mm512_castps_si512(self.0),
                    n,
                )))
            }
        }
        #[inline(always)]
        fn sum(self) -> f32 {
            unsafe {
                let high = _mm512_extractf32x8_ps::<1>(self.0);
                let a = _mm256_add_ps(_mm512_castps512_ps256(self.0), high);
                let b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let c = _mm_add_ps(b, _mm_movehl_ps(b, b));
                _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps::<1>(c, c)))
            }
        }
        #[inline(always)]
        fn max(self) -> f32 {
            unsafe {
                let high = _mm512_extractf32x8_ps::<1>(self.0);
                let a = _mm256_max_ps(_mm512_castps512_ps256(self.0), high);
                let b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let c = _mm_max_ps(b, _mm_movehl_ps(b, b));
                _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps::<1>(c, c)))
            }
        }
        #[inline(always)]
        fn pack(
            self,
            mask: u16,
            first: u32,
            ids: &mut [u32; LANES],
            values: &mut [f32; LANES],
        ) -> usize {
            unsafe {
                let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                let all = _mm512_add_epi32(_mm512_set1_epi32(first as i32), lane);
                // Packed in a register and stored whole: the packing store is slow on some processors.
                let id = _mm512_maskz_compress_epi32(mask, all);
                _mm512_storeu_si512(ids.as_mut_ptr().cast(), id);
                _mm512_storeu_ps(values.as_mut_ptr(), _mm512_maskz_compress_ps(mask, self.0));
            }
            mask.count_ones() as usize
        }
        #[inline(always)]
        fn pack_listed(
            self,
            mask: u16,
            from: [u32; LANES],
            ids: &mut [u32; LANES],
            values: &mut [f32; LANES],
        ) -> usize {
            unsafe {
                let id =
                    _mm512_maskz_compress_epi32(mask, _mm512_loadu_si512(from.as_ptr().cast()));
                _mm512_storeu_si512(ids.as_mut_ptr().cast(), id);
                _mm512_storeu_ps(values.as_mut_ptr(), _mm512_maskz_compress_ps(mask, self.0));
            }
            mask.count_ones() as usize
        }
    }
}
