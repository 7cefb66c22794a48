//! Tests of the weight readers: one program, because each one links the whole runtime.
#![allow(clippy::unwrap_used)]

mod allocation;
mod base64;
mod gguf_cases;
mod gguf_hostile;
mod gguf_properties;
mod gguf_writer;
mod quant_blocks;
mod safetensors_hostile;
mod safetensors_properties;
mod shards;

use std::path::PathBuf;

/// A file or folder of the test data.
fn data(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data")).join(path)
}

fn json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(data(path)).unwrap()).unwrap()
}
