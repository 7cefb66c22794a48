//! The vocabulary of a model, as plain as every engine can take it.

use anyhow::Context;
use mx_runtime::files::ModelFiles;
use mx_runtime::model::TextParts;
use mx_runtime::source::{self, ModelRef, NoProgress, Store};
use mx_runtime::tokenizer::{Specials, Tokenizer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Token bytes, the ids that end a sequence, and the tokenizer they come from.
#[derive(Debug)]
pub struct Words {
    /// The model's name.
    pub name: String,
    /// Bytes by token id; `None` for control tokens and for ids without a token.
    pub bytes: Vec<Option<Vec<u8>>>,
    /// Ids that end a sequence.
    pub eos: Vec<u32>,
    tokenizer: Arc<dyn Tokenizer>,
}

impl Words {
    /// Reads the vocabulary of a model file or folder.
    ///
    /// # Errors
    /// For a model that cannot be read, that has no tokenizer, or that names no end.
    pub fn read(model: &Path) -> anyhow::Result<Self> {
        let files = ModelFiles::open(model)?;
        let tokenizer = TextParts::read(&files)?.tokenizer;
        let tokenizer = tokenizer
            .with_context(|| format!("{}: the model has no tokenizer", model.display()))?;
        let mut eos = tokenizer.special_tokens().eos.clone();
        eos.extend(files.config().eos_tokens.iter().copied());
        eos.sort_unstable();
        eos.dedup();
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        Self::new(name.into_owned(), tokenizer, eos)
    }

    /// The vocabulary of a tokenizer.
    ///
    /// # Errors
    /// Where no id ends a sequence.
    pub fn new(name: String, tokenizer: Arc<dyn Tokenizer>, eos: Vec<u32>) -> anyhow::Result<Self> {
        anyhow::ensure!(!eos.is_empty(), "{name}: no token ends a sequence");
        let count = u32::try_from(tokenizer.vocab_size())?;
        let bytes = (0..count)
            .map(|id| match tokenizer.is_special(id) {
                true => None,
                false => tokenizer.token_bytes(id).map(<[u8]>::to_vec),
            })
            .collect();
        Ok(Words {
            name,
            bytes,
            eos,
            tokenizer,
        })
    }

    /// Token ids of a text, with nothing added to it.
    ///
    /// # Errors
    /// Where the vocabulary cannot express it.
    pub fn encode(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        Ok(self.tokenizer.encode(text, Specials::AsText)?)
    }
}

/// The file of a model: the default model, a path, or a name in the model folder. Nothing is fetched.
///
/// # Errors
/// For a model that is not on this machine.
pub fn find_model(name: Option<&str>) -> anyhow::Result<PathBuf> {
    let name = name.unwrap_or(source::DEFAULT_MODEL);
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    let env = |name: &str| std::env::var(name).ok();
    let folder = mx::home::models_dir(&env).context("there is no model folder")?;
    let mut options = source::Options::from_env(&env);
    options.offline = true;
    let found = source::resolve(
        &ModelRef::parse(name)?,
        &Store::new(folder),
        &options,
        &mut NoProgress,
    );
    Ok(found.with_context(|| format!("model {name}"))?.path)
}
