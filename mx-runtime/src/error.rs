//! The error of loading a model.

use crate::config::ConfigError;
use crate::device::DeviceError;
use crate::engine::cpu::PackError;
use crate::template::TemplateError;
use crate::tokenizer::TokenizerError;
use crate::weights::{CheckpointError, WeightsError};
use std::path::PathBuf;

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The path is no model.
    #[error(
        "{}: {reason}; wanted a .gguf file, or a folder with config.json, tokenizer.json and model.safetensors (or its index)",
        path.display()
    )]
    NotAModel {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The description of the model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weight file.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The weights do not fit the description.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The kernels of the CPU engine cannot hold the model.
    #[error("the CPU engine cannot run this model: {0}")]
    Cpu(#[source] crate::engine::cpu::CpuError),
    /// The CPU engine was asked for together with another device.
    #[error("the CPU engine runs on the device flex, {device} was asked for")]
    CpuDevice {
        /// The device asked for.
        device: crate::device::DeviceId,
    },
    /// The tokenizer has more tokens than the model.
    #[error("{}: the tokenizer has {tokens} tokens, the model only {vocab}", path.display())]
    VocabularyMismatch {
        /// The model.
        path: PathBuf,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding.
        vocab: usize,
    },
}

impl From<PackError> for LoadError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Checkpoint(error) => LoadError::Checkpoint(error),
            PackError::Cpu(error) => LoadError::Cpu(error),
        }
    }
}
