//! Where the test data lies.

use std::path::{Path, PathBuf};

/// A file or folder of `tests/data`.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data")
        .join(name)
}

/// The GGUF file of a tiny model.
pub fn gguf(model: &str) -> PathBuf {
    path("gguf").join(model).join("model.gguf")
}

/// The folder of a tiny model with `config.json` and safetensors.
pub fn folder(model: &str) -> PathBuf {
    path("tiny_models").join(model)
}

/// A JSON file of `tests/data`.
pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap()
}
