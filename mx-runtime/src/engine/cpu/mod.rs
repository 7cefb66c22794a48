//! The CPU engine: packed weights, kernels for each instruction set, one region of threads a step.
//!
//! The parts, from the bottom up:
//!
//! - [`kernels`]: 16 lanes on every instruction set with the same bits everywhere;
//! - [`threads`]: the pool, and buffers cut into disjoint parts;
//! - [`pack`]: weight matrices in panels of 16 output rows;
//! - [`quantize`]: activations in 8 bits, the largest blocks of each row in 16;
//! - [`ops`]: norms, rotary positions, gates, softmax;
//! - [`kv`] and [`attention`]: the cache of keys and values, and attention over it.
//!
//! Determinism: an output value depends on its own weight row and activation row only. Neither
//! the number of rows in a batch, nor the split over threads, nor the instruction set changes a
//! bit of it.

pub mod attention;
mod buffer;
mod engine;
pub mod error;
pub mod kernels;
pub mod kv;
pub mod ops;
pub mod pack;
pub mod quantize;
mod step;
#[cfg(test)]
mod testing;
pub mod threads;
mod weights;
mod work;

pub use engine::{CpuEngine, CpuOptions};
pub use error::CpuError;
pub use kernels::{Isa, Kernels};
pub use kv::KvFormat;
pub use pack::Format;
pub use weights::PackError;
