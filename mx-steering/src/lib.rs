//! Activation steering: vectors that are made, applied, measured and trusted.
//!
//! **Not built yet.** This crate will make steering vectors from contrastive pairs (contrastive activation addition,
//! few-shot optimisation, PCA, mean differences), read and write the formats in use, and compile vectors to the edits
//! that `mx-runtime` applies at its hook points. Those edits exist today: see `mx_runtime::hooks`.
