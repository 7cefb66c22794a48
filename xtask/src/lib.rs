//! The commands of `cargo xtask`, as plain functions.

pub mod golden;
pub mod tidy;
