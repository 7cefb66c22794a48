//! The passes over a whole row, compiled once per instruction set.
//!
//! Every kernel is written once over sixteen lanes ([`kernels`], [`vector`]): the order of all additions is
//! part of the source, so each instruction set computes the same bits. This module compiles the kernels for
//! the sets that the processor may have and picks one at run time. It is the only place with `unsafe`: the
//! instructions of a set, and calling a function that was compiled for one.
#![allow(unsafe_code)]

mod kernels;
#[cfg(test)]
mod tests;
mod vector;

pub(crate) use kernels::{BLOCK, Bins, Moments, Sums, exp_one};

/// The instruction set that the passes over a row use.
///
/// All sets take bit-identical decisions; choosing one is only of use for tests and measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backend(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Backend {
    /// What every processor of this architecture has.
    #[must_use]
    pub fn portable() -> Self {
        Self(Level::Portable)
    }

    /// The best set that this processor has.
    #[must_use]
    pub fn detect() -> Self {
        *Self::available().last().unwrap_or(&Self::portable())
    }

    /// Every set that this processor has, the portable one first.
    #[must_use]
    pub fn available() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        {
            const ALL: [Backend; 3] = [
                Backend(Level::Portable),
                Backend(Level::Avx2),
                Backend(Level::Avx512),
            ];
            let avx2 = std::arch::is_x86_feature_detected!("avx2");
            let avx512 = avx2
                && std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512dq");
            if avx512 {
                &ALL
            } else if avx2 {
                &ALL[..2]
            } else {
                &ALL[..1]
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            const ALL: [Backend; 1] = [Backend(Level::Portable)];
            &ALL
        }
    }

    /// The name of the set.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }
}

/// Compiles a kernel for every instruction set and defines the function that picks one.
macro_rules! compiled {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),* $(,)?) -> $result:ty) => {
        $(#[$doc])*
        pub(crate) fn $name(backend: Backend, $($arg: $type),*) -> $result {
            #[cfg(target_arch = "x86_64")]
            mod compiled {
                use super::*;

                #[target_feature(enable = "avx2")]
                pub(super) fn avx2($($arg: $type),*) -> $result {
                    kernels::$name::<vector::Avx2>($($arg),*)
                }

                #[target_feature(enable = "avx2,avx512f,avx512vl,avx512bw,avx512dq")]
                pub(super) fn avx512($($arg: $type),*) -> $result {
                    kernels::$name::<vector::Avx512>($($arg),*)
                }
            }
            match backend.0 {
                Level::Portable => kernels::$name::<vector::Portable>($($arg),*),
                // SAFETY: a `Backend` of this level comes only from `available`, which checked the features.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { compiled::avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { compiled::avx512($($arg),*) },
            }
        }
    };
}

compiled! {
    /// The largest logit of every block of 64; the result is NaN if any logit may be NaN.
    scan(row: &[f32], block_max: &mut [f32]) -> f32
}
compiled! {
    /// Like [`scan`], after setting every token to −inf whose bit in `mask` is 0. Stops with NaN before the block
    /// in which any logit, allowed or not, is NaN or +inf.
    mask_scan(row: &mut [f32], mask: &[u32], block_max: &mut [f32]) -> f32
}
compiled! {
    /// `Σ e^a` and `Σ a·e^a` with `a = (x − max)·inv_t`, and `Σ e^a` of every block.
    exp_sums(row: &[f32], block_max: &[f32], max: f32, inv_t: f32, block_sum: &mut [f64]) -> Sums
}
compiled! {
    /// Like [`exp_sums`], but only `Σ e^a`: the same bits for less work.
    exp_total(row: &[f32], block_max: &[f32], max: f32, inv_t: f32, block_sum: &mut [f64]) -> f64
}
compiled! {
    /// Like [`exp_sums`] on a list, and stores every `e^a`.
    exp_list(list: &[f32], max: f32, inv_t: f32, weights: &mut [f32], block_sum: &mut [f64]) -> Sums
}
compiled! {
    /// Appends id and logit of everything `>= threshold`, ids ascending, and returns how many.
    gather(row: &[f32], block_max: &[f32], threshold: f32, ids: &mut [u32], values: &mut [f32]) -> usize
}
compiled! {
    /// Count, sum and sum of squares of `x − max` over the finite logits.
    moments(row: &[f32], max: f32) -> Moments
}
compiled! {
    /// How many logits are not −inf.
    count_live(row: &[f32]) -> usize
}
compiled! {
    /// The bin of every entry of a list.
    bin_numbers(list: &[f32], bins: &Bins, out: &mut [u16]) -> ()
}
compiled! {
    /// Keeps the entries whose bin is at most `limit`, in order, and returns how many; the new positions of
    /// those in bin `limit` are appended to `inside`. Ids and values reach a whole vector beyond the bins.
    compact(ids: &mut [u32], values: &mut [f32], bins: &[u16], limit: u16, inside: &mut Vec<u64>) -> usize
}
