//! The vocabulary of a model, as plain as every engine can take it.

use anyhow::Context;
use mx_runtime::files::ModelFiles;
use mx_runtime::source::{self, ModelRef, NoProgress, Store};
use mx_runtime::tokenizer::{BpeTokenizer, GgufVocab, Specials, Tokenizer, TokenizerLimits};
use mx_runtime::weights::Gguf;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TOKENIZER_FILE: &str = "tokenizer.json";

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
    /// Reads the vocabulary of a `.gguf` file, of a folder of a model, or of a `tokenizer.json`.
    ///
    /// Only the tokenizer must be one that can be read: the model may be of any architecture, and its weights need not
    /// be there.
    ///
    /// # Errors
    /// For files that cannot be read, that hold no tokenizer, or that name no end.
    pub fn read(model: &Path) -> anyhow::Result<Self> {
        let tokenizer = read_tokenizer(model)?;
        let mut eos = tokenizer.special_tokens().eos.clone();
        // Known for architectures that can be run; others have what the tokenizer says.
        if let Ok(files) = ModelFiles::open(model) {
            eos.extend(files.config().eos_tokens.iter().copied());
        }
        eos.sort_unstable();
        eos.dedup();
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        Self::new(name.into_owned(), Arc::new(tokenizer), eos)
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

/// The tokenizer of a model, by the kind of its file.
fn read_tokenizer(model: &Path) -> anyhow::Result<BpeTokenizer> {
    if model.join(TOKENIZER_FILE).exists() {
        return Ok(BpeTokenizer::from_dir(model)?);
    }
    if model
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        let config = model.with_file_name("tokenizer_config.json");
        let config = config.exists().then_some(config);
        return Ok(BpeTokenizer::from_file(model, config.as_deref())?);
    }
    let file = match model.is_dir() {
        true => only_gguf(model)?,
        false => model.to_owned(),
    };
    let gguf = Gguf::open(&file)?;
    let vocabulary = GgufVocab::from_metadata(gguf.metadata())?
        .with_context(|| format!("{}: the file has no tokenizer", file.display()))?;
    Ok(BpeTokenizer::from_gguf(
        vocabulary,
        &TokenizerLimits::default(),
    )?)
}

/// The one `.gguf` file of a folder.
fn only_gguf(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            files.push(path);
        }
    }
    let (Some(file), true) = (files.pop(), files.is_empty()) else {
        anyhow::bail!(
            "{}: wanted {TOKENIZER_FILE} or one .gguf file",
            folder.display()
        );
    };
    Ok(file)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Words;
    use std::path::Path;

    #[test]
    fn a_tokenizer_needs_no_model() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
        let folder = data.join("tiny_tokenizers/spbpe_384");
        for place in [folder.clone(), folder.join("tokenizer.json")] {
            let words = Words::read(&place).unwrap();
            assert_eq!((words.bytes.len(), words.eos.len()), (384, 1));
            let tokens = words.encode("a b").unwrap();
            let bytes: Vec<u8> = tokens
                .iter()
                .flat_map(|&token| words.bytes[token as usize].clone().unwrap())
                .collect();
            assert_eq!(bytes, b"a b");
        }
    }

    #[test]
    fn what_holds_no_tokenizer_says_so() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
        let error = Words::read(&data.join("tiny_tokenizers")).unwrap_err();
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}
