//! Which model ran, and on what.

use serde::{Deserialize, Serialize};

/// A model as a trace remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelRecord {
    /// Its name.
    pub name: String,
    /// The file or folder that it was loaded from; what of its name is no Unicode is replaced.
    pub path: String,
    /// A hash of the length and of samples of its files. It tells models apart that differ by accident; it proves
    /// nothing against someone who makes two files with the same samples. `None` where the files cannot be read.
    pub fingerprint: Option<String>,
    /// Its blocks.
    pub layers: usize,
    /// Its width.
    pub d_model: usize,
    /// Its vocabulary.
    pub vocab: usize,
    /// What ran it.
    pub engine: EngineRecord,
}

/// A model that a request named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NamedModel {
    /// The name in the request.
    pub name: String,
    /// The model.
    pub model: ModelRecord,
}

/// What ran a model, with what decides its bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EngineRecord {
    /// `burn` or `cpu`.
    pub engine: String,
    /// The device; on the CPU engine instruction set and threads, which change no bit.
    pub device: String,
    /// How weights are held.
    pub weights: String,
    /// Whether the CPU engine kept activations in f32.
    pub exact: bool,
    /// How the CPU engine stored keys and values: `f16`, `fixed16` or `fixed8`.
    pub kv: String,
    /// The format that matrices were quantised to while loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantize: Option<String>,
}
