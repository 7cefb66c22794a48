//! A model ready to run: engine, tokenizer, chat template, recommended settings.

use crate::config::{GenerationDefaults, ModelConfig};
use crate::device::DeviceId;
use crate::engine::Engine;
use crate::engine::cpu::{CpuEngine, CpuOptions};
use crate::error::LoadError;
use crate::files::ModelFiles;
use crate::template::{ChatTemplate, TemplateLimits, TemplateTokens, find_chat_template};
use crate::tokenizer::{BpeTokenizer, GgufVocab, Tokenizer, TokenizerLimits};
use crate::weights::Gguf;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a model is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The device of the weights.
    pub device: DeviceId,
    /// Which engine runs the model.
    pub engine: EngineChoice,
    /// How the CPU engine computes, where it is taken.
    pub cpu: CpuOptions,
}

/// Which engine runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineChoice {
    /// The CPU engine on the device `flex` where its kernels can hold the model, else the burn engine. The engine
    /// taken stands in its [`EngineInfo`](crate::engine::EngineInfo).
    #[default]
    Auto,
    /// The burn engine.
    Burn,
    /// The CPU engine; an error where it cannot hold the model, or with another device than `flex`.
    Cpu,
}

impl LoadOptions {
    /// Loads onto this device.
    pub fn on(device: DeviceId) -> Self {
        LoadOptions {
            device,
            ..LoadOptions::default()
        }
    }

    fn engine(&self, files: &ModelFiles) -> Result<Arc<dyn Engine>, LoadError> {
        let on_cpu = self.device == DeviceId::Flex;
        let cpu = match self.engine {
            EngineChoice::Auto => on_cpu && CpuEngine::supports(files.config()).is_ok(),
            EngineChoice::Burn => false,
            EngineChoice::Cpu if on_cpu => true,
            EngineChoice::Cpu => {
                return Err(LoadError::CpuDevice {
                    device: self.device,
                });
            }
        };
        Ok(match cpu {
            true => Arc::new(files.cpu_engine(&self.cpu)?),
            false => Arc::new(files.burn_engine(self.device)?),
        })
    }
}

/// A model ready to run.
#[derive(Debug)]
pub struct Model {
    name: String,
    path: PathBuf,
    options: LoadOptions,
    engine: Arc<dyn Engine>,
    text: TextParts,
    generation: GenerationDefaults,
}

/// What turns text into tokens and conversations into text.
#[derive(Debug)]
pub struct TextParts {
    /// The tokenizer, where the model has one.
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    /// The chat template, where the model has one.
    pub chat_template: Option<ChatTemplate>,
}

impl Model {
    /// Loads a `.gguf` file or a model folder.
    ///
    /// # Errors
    /// [`LoadError`] naming the file, the field and its value.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self, LoadError> {
        let files = ModelFiles::open(path)?;
        // The tokenizer first: it is quick, and a model that has a broken one is refused before its weights are read.
        let text = TextParts::read(&files)?;
        let engine = options.engine(&files)?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let generation = files.generation().clone();
        Ok(Model {
            name,
            path: path.to_owned(),
            options: options.clone(),
            engine,
            text,
            generation,
        })
    }

    /// The same model under another name.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The name it is known by; that of its file unless [`named`](Model::named).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it was loaded.
    pub fn options(&self) -> &LoadOptions {
        &self.options
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        self.engine.config()
    }

    /// What runs it.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The tokenizer, where the model has one.
    pub fn tokenizer(&self) -> Option<&Arc<dyn Tokenizer>> {
        self.text.tokenizer.as_ref()
    }

    /// The chat template, where the model has one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.text.chat_template.as_ref()
    }

    /// The sampling settings that the model's authors recommend.
    pub fn generation(&self) -> &GenerationDefaults {
        &self.generation
    }

    /// The tokens that end a generation, from every file that names some.
    pub fn eos_tokens(&self) -> Vec<u32> {
        let mut tokens = self.config().eos_tokens.clone();
        let named = self
            .tokenizer()
            .map(|t| t.special_tokens().eos.clone())
            .unwrap_or_default();
        tokens.extend(
            named
                .into_iter()
                .filter(|token| (*token as usize) < self.config().vocab),
        );
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }
}

impl TextParts {
    /// Reads tokenizer and chat template of a model's files.
    ///
    /// # Errors
    /// [`LoadError`] for files that are there and cannot be used.
    pub fn read(files: &ModelFiles) -> Result<Self, LoadError> {
        let (tokenizer, source) = match files.gguf() {
            Some(gguf) => match gguf_tokenizer(gguf)? {
                Some(tokenizer) => {
                    let source = tokenizer.chat_template().map(str::to_owned);
                    (Some(tokenizer), source)
                }
                None => (None, None),
            },
            None => {
                let folder = files.path();
                let tokenizer = match folder.join("tokenizer.json").exists() {
                    true => Some(BpeTokenizer::from_dir(folder)?),
                    false => None,
                };
                let found = find_chat_template(folder, &TemplateLimits::default())?;
                (tokenizer, found.map(|found| found.source))
            }
        };
        let Some(tokenizer) = tokenizer else {
            return Ok(TextParts {
                tokenizer: None,
                chat_template: None,
            });
        };
        let (tokens, vocab) = (tokenizer.vocab_size(), files.config().vocab);
        if tokens > vocab {
            let path = files.path().to_owned();
            return Err(LoadError::VocabularyMismatch {
                path,
                tokens,
                vocab,
            });
        }
        let chat_template = source
            .map(|source| ChatTemplate::new(&source, TemplateTokens::of(&tokenizer)))
            .transpose()?;
        Ok(TextParts {
            tokenizer: Some(Arc::new(tokenizer)),
            chat_template,
        })
    }
}

/// The tokenizer in the metadata; `None` for files without one.
fn gguf_tokenizer(gguf: &Gguf) -> Result<Option<BpeTokenizer>, LoadError> {
    match GgufVocab::from_metadata(gguf.metadata())? {
        None => Ok(None),
        Some(vocab) => Ok(Some(BpeTokenizer::from_gguf(
            vocab,
            &TokenizerLimits::default(),
        )?)),
    }
}
