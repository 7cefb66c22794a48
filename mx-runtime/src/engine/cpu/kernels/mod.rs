//! Kernels written once over 16 lanes, run by the best instruction set that the processor has.
//!
//! [`Simd`] is the vocabulary: 16 lanes of f32 or i32 and a few integer dot products. Each
//! instruction set implements it in its own leaf module, together with a scalar twin. A kernel is
//! a [`Task`], generic over the lanes. Because every implementation performs the same operations
//! in the same order (fused multiply-add where `fma` stands, ties to even in every rounding,
//! exact integer dot products, one fixed tree for sums over lanes), **all instruction sets give
//! the same bits**, apart from the payload of NaNs.

mod avx2;
mod avx512;
mod matmul;
mod scalar;

use std::fmt;

use super::error::CpuError;
use super::quantize::ActBlock;

pub use matmul::Input;

/// Lanes of a vector, and output rows of a weight panel.
pub const LANES: usize = 16;

/// One vector in memory.
pub(crate) type Lane<T> = [T; LANES];

/// An instruction set that the kernels know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust: every target, and the twin that the others are tested against.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX2 with the VNNI dot product in its VEX encoding.
    AvxVnni,
    /// AVX-512 (F, BW, DQ, VL) with VNNI.
    Avx512Vnni,
}

impl Isa {
    /// All instruction sets, slowest first.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::AvxVnni, Self::Avx512Vnni];
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "AVX2",
            Self::AvxVnni => "AVX-VNNI",
            Self::Avx512Vnni => "AVX-512-VNNI",
        })
    }
}

/// A handle on the kernels of one instruction set, chosen once and passed around by value.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    level: Level,
}

#[derive(Debug, Clone, Copy)]
enum Level {
    Scalar(scalar::Scalar),
    Avx2(avx2::Avx2<false>),
    AvxVnni(avx2::Avx2<true>),
    Avx512(avx512::Avx512),
}

impl Kernels {
    /// The fastest kernels that this processor can run.
    pub fn best() -> Self {
        Isa::ALL
            .into_iter()
            .rev()
            .find_map(Self::detect)
            .unwrap_or(Self {
                level: Level::Scalar(scalar::Scalar),
            })
    }

    /// The kernels of `isa`.
    ///
    /// # Errors
    ///
    /// [`CpuError::IsaUnavailable`] when the processor lacks it.
    pub fn with(isa: Isa) -> Result<Self, CpuError> {
        Self::detect(isa).ok_or(CpuError::IsaUnavailable { isa })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        match self.level {
            Level::Scalar(_) => Isa::Scalar,
            Level::Avx2(_) => Isa::Avx2,
            Level::AvxVnni(_) => Isa::AvxVnni,
            Level::Avx512(_) => Isa::Avx512Vnni,
        }
    }

    fn detect(isa: Isa) -> Option<Self> {
        let level = match isa {
            Isa::Scalar => Level::Scalar(scalar::Scalar),
            Isa::Avx2 => Level::Avx2(avx2::Avx2::detect()?),
            Isa::AvxVnni => Level::AvxVnni(avx2::Avx2::detect()?),
            Isa::Avx512Vnni => Level::Avx512(avx512::Avx512::detect()?),
        };
        Some(Self { level })
    }

    /// Runs `task` with the lanes of this instruction set.
    pub(crate) fn run<T: Task>(self, task: T) -> T::Output {
        match self.level {
            Level::Scalar(s) => task.run(s),
            Level::Avx2(s) => s.run(task),
            // Tasks without byte products share the code of plain AVX2.
            Level::AvxVnni(s) if T::BYTE_DOTS => s.run(task),
            Level::AvxVnni(s) => s.plain().run(task),
            Level::Avx512(s) => s.run(task),
        }
    }
}

/// A kernel: `run` and everything it calls must be `#[inline(always)]` and free of closures, so
/// that it is compiled with the instruction set of its caller.
pub(crate) trait Task {
    type Output;

    /// Whether the task multiplies bytes, the only thing that AVX-VNNI adds to AVX2.
    const BYTE_DOTS: bool = false;

    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Operations on 16 lanes. The value itself proves that the processor can execute them.
pub(crate) trait Simd: Copy {
    /// 16 f32.
    type F: Copy;
    /// 16 i32.
    type I: Copy;
    /// 64 bytes: four consecutive `k` of 16 output rows.
    type W: Copy;
    /// 32 i16: pairs of values, lane by lane.
    type H: Copy;

    /// Rows whose four chains of sums fit the registers.
    const FLOAT_ROWS: usize;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, from: &Lane<f32>) -> Self::F;
    fn store(self, x: Self::F, to: &mut Lane<f32>);
    fn load_f32_bytes(self, from: &[u8; 64]) -> Self::F;
    fn load_f16_bytes(self, from: &[u8; 32]) -> Self::F;
    fn load_bf16_bytes(self, from: &[u8; 32]) -> Self::F;
    fn load_f16(self, from: &Lane<u16>) -> Self::F;

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `if a > b { a } else { b }`: a NaN in `b` stays.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { a } else { b }`: a NaN in `b` stays.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// Nearest integral value, ties to even.
    fn round(self, x: Self::F) -> Self::F;
    /// 2^n for integral `n` in -126..=127, and 0 for -127.
    fn pow2(self, n: Self::F) -> Self::F;
    /// Lanes `from..to` of `x`, the others of `other`; `from <= to <= 16`.
    fn select(self, x: Self::F, from: usize, to: usize, other: Self::F) -> Self::F;
    /// Lanes added as halves: i + (i + 8), then i + (i + 4), i + (i + 2), i + (i + 1).
    fn sum(self, x: Self::F) -> f32;
    /// The largest lane (lanes are no NaN).
    fn largest(self, x: Self::F) -> f32;
    /// |x| as bits, whose order as integers is that of the magnitudes with NaN on top.
    fn abs_bits(self, x: Self::F) -> Self::I;
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn largest_i(self, x: Self::I) -> i32;

    fn splat_i(self, x: i32) -> Self::I;
    fn load_nibbles_f32(self, chunk: &[u8; 64], shift: u32) -> Self::F;
    fn load_bytes_f32(self, chunk: &[u8; 64], byte: usize) -> Self::F;
    fn to_f32(self, x: Self::I) -> Self::F;
    /// Nearest integer, ties to even, for values within i32.
    fn to_i32(self, x: Self::F) -> Self::I;
    /// Lanes within i8.
    fn store_i8(self, x: Self::I, to: &mut Lane<i8>);
    /// Lanes within i16.
    fn store_i16(self, x: Self::I, to: &mut Lane<i16>);
    /// As bits of half precision, ties to even.
    fn store_f16(self, x: Self::F, to: &mut Lane<u16>);

    fn low_nibbles(self, chunk: &[u8; 64]) -> Self::W;
    fn high_nibbles(self, chunk: &[u8; 64]) -> Self::W;
    fn bytes(self, chunk: &[u8; 64]) -> Self::W;
    /// `init + Σ w·q` over the 32 `k` of a block; weights are 0..=15.
    fn dot_nibbles(self, init: i32, w: &[Self::W; 8], act: &ActBlock) -> Self::I;
    /// `Σ (w - 128)·q` over the 32 `k` of a block; weights are 0..=255.
    fn dot_bytes(self, w: &[Self::W; 8], act: &ActBlock) -> Self::I;

    /// [`dot_nibbles`](Self::dot_nibbles) of several rows.
    #[inline(always)]
    fn dots_nibbles<const R: usize>(
        self,
        init: [i32; R],
        w: &[Self::W; 8],
        acts: &[ActBlock; R],
    ) -> [Self::I; R] {
        let mut dots = [self.splat_i(0); R];
        for r in 0..R {
            dots[r] = self.dot_nibbles(init[r], w, &acts[r]);
        }
        dots
    }

    /// [`dot_bytes`](Self::dot_bytes) of several rows.
    #[inline(always)]
    fn dots_bytes<const R: usize>(self, w: &[Self::W; 8], acts: &[ActBlock; R]) -> [Self::I; R] {
        let mut dots = [self.splat_i(0); R];
        for r in 0..R {
            dots[r] = self.dot_bytes(w, &acts[r]);
        }
        dots
    }

    fn pairs_i16(self, from: &[i16; 32]) -> Self::H;
    fn pairs_bytes(self, from: &[u8; 64]) -> Self::H;
    fn pairs_i8(self, from: &[i8; 32]) -> Self::H;
    /// `acc + h[2i]·low(pair) + h[2i + 1]·high(pair)` in every lane i.
    fn dot_pairs(self, acc: Self::I, h: Self::H, pair: i32) -> Self::I;
    /// `(low(x) - 2^15)·h[2i] + high(x)·h[2i + 1]` in every lane i, where the low half counts
    /// without sign and the high half with it.
    fn dot_halves(self, x: Self::I, h: Self::H) -> Self::I;

    /// Asks for the line `ahead` bytes behind `at`; the address may lie anywhere.
    fn prefetch<T>(self, at: &T, ahead: usize);
    /// The same, into the second-level cache: for what is needed much later.
    fn prefetch_later<T>(self, at: &T, ahead: usize);
}
