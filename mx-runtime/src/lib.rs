//! Language models on burn.

pub mod config;
pub mod device;
pub mod error;
pub mod engine;
pub mod files;
pub mod hooks;
pub mod session;
pub mod weights;
