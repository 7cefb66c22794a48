//! The files of a model: one GGUF file, or a folder as the hub has it.

use crate::config::{self, ConfigError, GenerationDefaults, ModelConfig};
use crate::device::DeviceId;
use crate::engine::burn::BurnEngine;
use crate::engine::cpu::{CpuEngine, CpuOptions};
use crate::error::LoadError;
use crate::weights::names::Naming;
use crate::weights::{Checkpoint, Gguf, Safetensors, TensorStore};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest JSON or template file beside the weights that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// The files of one model, opened and described but not yet loaded onto a device.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    path: PathBuf,
    config: ModelConfig,
    checkpoint: Checkpoint,
    generation: GenerationDefaults,
    gguf: Option<Arc<Gguf>>,
}

impl ModelFiles {
    /// Opens a `.gguf` file, a folder with `config.json` and safetensors weights, or a folder with exactly one
    /// `.gguf` file.
    ///
    /// # Errors
    /// [`LoadError`] naming the file, the field and its value.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let metadata = std::fs::metadata(path).map_err(|source| LoadError::Io {
            path: path.to_owned(),
            source,
        })?;
        if !metadata.is_dir() {
            return Self::open_gguf(path);
        }
        if path.join("config.json").exists() {
            return Self::open_folder(path);
        }
        let not_a_model = |reason: String| LoadError::NotAModel {
            path: path.to_owned(),
            reason,
        };
        match gguf_files(path)?.as_slice() {
            [] => Err(not_a_model("no config.json and no .gguf file".to_owned())),
            [file] => Self::open_gguf(file),
            several => Err(not_a_model(format!(
                "{} .gguf files, name one",
                several.len()
            ))),
        }
    }

    fn open_gguf(path: &Path) -> Result<Self, LoadError> {
        let gguf = Arc::new(Gguf::open(path)?);
        let config = config::from_gguf(&gguf)?;
        let store: Arc<dyn TensorStore> = Arc::clone(&gguf) as _;
        Ok(ModelFiles {
            path: path.to_owned(),
            checkpoint: Checkpoint::new(store, Naming::Gguf, &config),
            config,
            generation: GenerationDefaults::default(),
            gguf: Some(gguf),
        })
    }

    fn open_folder(path: &Path) -> Result<Self, LoadError> {
        let read = |name: &str| -> Result<Option<(String, String)>, LoadError> {
            let file = path.join(name);
            Ok(read_text(&file)?.map(|text| (text, file.display().to_string())))
        };
        let (text, file) = read("config.json")?.ok_or_else(|| ConfigError::Missing {
            file: path.display().to_string(),
            field: "config.json".to_owned(),
        })?;
        let mut config = config::from_json(&text, &file)?;
        let generation = match read("generation_config.json")? {
            Some((text, file)) => GenerationDefaults::from_json(&text, &file)?,
            None => GenerationDefaults::default(),
        };
        config.add_eos_tokens(generation.eos_token_id.ids(), &file)?;
        let store: Arc<dyn TensorStore> = Arc::new(Safetensors::open(path)?);
        let checkpoint = Checkpoint::new(store, Naming::HuggingFace, &config);
        Ok(ModelFiles {
            path: path.to_owned(),
            config,
            checkpoint,
            generation,
            gguf: None,
        })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weights.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The sampling settings that the model's authors recommend.
    pub fn generation(&self) -> &GenerationDefaults {
        &self.generation
    }

    /// The GGUF container, where the model is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        self.gguf.as_deref()
    }

    /// Packs the weights for the CPU engine.
    ///
    /// # Errors
    /// [`LoadError`] for dimensions that its kernels cannot hold, and for a missing or misshapen tensor.
    pub fn cpu_engine(&self, options: &CpuOptions) -> Result<CpuEngine, LoadError> {
        Ok(CpuEngine::load(&self.config, &self.checkpoint, options)?)
    }

    /// Loads the weights onto a burn device.
    ///
    /// # Errors
    /// [`LoadError`] for a device that does not open, and for a missing or misshapen tensor.
    pub fn burn_engine(&self, device: DeviceId) -> Result<BurnEngine, LoadError> {
        let burn_device = device.open()?;
        Ok(BurnEngine::load(
            &self.config,
            &self.checkpoint,
            device,
            burn_device,
        )?)
    }
}

/// The `.gguf` files of a folder, sorted.
fn gguf_files(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let io = |source| LoadError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A text file beside the weights; `None` where it does not exist.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, LoadError> {
    let io = |source| LoadError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(metadata) if metadata.len() > MAX_TEXT_BYTES => {
            return Err(LoadError::NotAModel {
                path: path.to_owned(),
                reason: format!("{} bytes, wanted at most {MAX_TEXT_BYTES}", metadata.len()),
            });
        }
        Ok(_) => {}
    }
    let mut text = String::new();
    let file = open_regular(path).map_err(io)?;
    file.take(MAX_TEXT_BYTES)
        .read_to_string(&mut text)
        .map_err(io)?;
    Ok(Some(text))
}

/// Opens a file that is to be read whole. A pipe or a device would never end.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    File::open(path)
}
