//! The commands of `cargo xtask`, as plain functions.

pub mod bench;
pub mod golden;
pub mod maskbench;
pub mod model;
pub mod sae;
pub mod schema_suite;
pub mod tidy;
pub mod validity;
