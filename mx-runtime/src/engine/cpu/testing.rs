//! Random and extreme inputs shared by the tests of this module.
#![allow(clippy::unwrap_used)]

use super::kernels::{Isa, Kernels};

/// A small generator (SplitMix64): tests must not depend on a library's stream.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// About normal: the sum of twelve uniform values.
    pub(crate) fn gauss(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| {
                let sum: f64 = (0..12)
                    .map(|_| (self.next() >> 11) as f64 / (1u64 << 53) as f64)
                    .sum();
                (sum - 6.0) as f32
            })
            .collect()
    }
}

/// Every kernel that this machine can run.
pub(crate) fn kernels() -> Vec<Kernels> {
    Isa::ALL
        .into_iter()
        .filter_map(|isa| Kernels::with(isa).ok())
        .collect()
}

/// Values at the edges of f32 and of the 8-bit rounding.
pub(crate) fn extremes() -> Vec<f32> {
    let mut x = vec![0.0, -0.0, 1.0, -1.0, f32::MIN_POSITIVE, 1e-45, -1e-45];
    x.extend([f32::MAX, f32::MIN, 65504.0, -65504.0, 6e-8, 1e-30, 9e-31]);
    x.resize(32, 3.0);
    x.extend([1e-45; 32]);
    x.extend([-1.0; 32]);
    x.extend([127.0; 32]);
    x.extend((0..32).map(|i| (i as f32 - 16.0) * 0.5));
    x.extend((0..32).map(|i| if i % 2 == 0 { 127.0 } else { -126.5 }));
    x
}
