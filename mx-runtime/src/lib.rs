//! Language models on burn.

pub mod config;
pub mod device;
pub mod engine;
pub mod error;
pub mod files;
pub mod hooks;
pub mod model;
pub mod session;
pub mod source;
pub mod template;
pub mod tokenizer;
pub mod weights;
