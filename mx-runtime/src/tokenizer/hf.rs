//! A tokenizer read from `tokenizer.json`, with the roles of tokens from `tokenizer_config.json`.

mod components;
mod config;
mod model;

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use self::components::Decoding;
use self::model::ModelJson;
use super::TokenizerLimits;
use super::bpe::BpeTokenizer;
use super::error::{TokenizerError, excerpt};
use super::gguf::resolve_merge;
use super::merges::{Bpe, Merge, MergeTable};
use super::specials::{AddedToken, AddedTokens};
use super::vocabulary::{Kind, Vocabulary};
use crate::files::open_regular;

const TOKENIZER_FILE: &str = "tokenizer.json";
const CONFIG_FILE: &str = "tokenizer_config.json";

impl BpeTokenizer {
    /// Reads `tokenizer.json` and, where there is one, `tokenizer_config.json` of a model folder.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), or if a file cannot be read.
    pub fn from_dir(folder: &Path) -> Result<Self, TokenizerError> {
        let config = folder.join(CONFIG_FILE);
        let config = config.exists().then_some(config);
        Self::from_file(&folder.join(TOKENIZER_FILE), config.as_deref())
    }

    /// Reads a tokenizer file and the file that tells the roles of its tokens.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), or if a file cannot be read.
    pub fn from_file(tokenizer: &Path, config: Option<&Path>) -> Result<Self, TokenizerError> {
        let limits = TokenizerLimits::default();
        let tokenizer = read_file(tokenizer, &limits)?;
        let config = config.map(|path| read_file(path, &limits)).transpose()?;
        Self::from_bytes(&tokenizer, config.as_deref(), &limits)
    }

    /// Reads a tokenizer from the content of `tokenizer.json` and of `tokenizer_config.json`.
    ///
    /// # Errors
    /// If a file is no valid JSON or has fields of the wrong kind, the model is not BPE, a component
    /// is not supported, an id or text occurs twice, a merge cannot be used, a named token does not
    /// exist, or a limit is exceeded.
    pub fn from_bytes(
        tokenizer: &[u8],
        config: Option<&[u8]>,
        limits: &TokenizerLimits,
    ) -> Result<Self, TokenizerError> {
        check_size(tokenizer.len(), limits)?;
        let file: TokenizerJson =
            serde_json::from_slice(tokenizer).map_err(|source| TokenizerError::Json {
                file: TOKENIZER_FILE,
                source,
            })?;
        let config: config::ConfigJson = match config {
            Some(config) => {
                check_size(config.len(), limits)?;
                serde_json::from_slice(config).map_err(|source| TokenizerError::Json {
                    file: CONFIG_FILE,
                    source,
                })?
            }
            None => config::ConfigJson::default(),
        };
        let model = file.model.checked()?;
        let decoding = Decoding::read(&file.decoder)?;
        let pipeline = components::pipeline(file.normalizer, file.pre_tokenizer)?;

        let (vocabulary, added) = vocabulary(&model, file.added_tokens, &decoding, limits)?;
        let special_tokens = config.special_tokens(&vocabulary, &file.post_processor)?;
        let byte_tokens = model.byte_fallback.then(|| byte_tokens(&vocabulary));
        let unknown =
            match &model.unk_token {
                Some(text) => Some(vocabulary.id(text).ok_or_else(|| {
                    TokenizerError::UnknownSpecialToken {
                        field: "model.unk_token",
                        given: excerpt(text),
                    }
                })?),
                None => None,
            };
        let merges = merges(&vocabulary, &model, limits)?;
        Ok(Self {
            added: AddedTokens::new(added, |text| pipeline.normalize(text))?,
            model: Bpe {
                merges: MergeTable::new(vocabulary.len(), &merges),
                vocabulary,
                byte_tokens,
                unknown,
                fuse_unknown: model.fuse_unk,
                whole_words_first: model.ignore_merges,
            },
            pipeline,
            leading_space: decoding.leading_space,
            special_tokens,
            chat_template: config.chat_template(),
            limits: limits.clone(),
        })
    }
}

/// `tokenizer.json`, as far as it matters: padding and truncation are up to the caller here.
#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<AddedJson>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: ModelJson,
}

#[derive(Deserialize)]
struct AddedJson {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

fn read_file(path: &Path, limits: &TokenizerLimits) -> Result<Vec<u8>, TokenizerError> {
    let io = |source| TokenizerError::Io {
        path: path.to_owned(),
        source,
    };
    let file = open_regular(path).map_err(io)?;
    let mut content = Vec::new();
    file.take(limits.file_bytes as u64 + 1)
        .read_to_end(&mut content)
        .map_err(io)?;
    check_size(content.len(), limits)?;
    Ok(content)
}

fn check_size(given: usize, limits: &TokenizerLimits) -> Result<(), TokenizerError> {
    if given > limits.file_bytes {
        return Err(TokenizerError::limit(
            "bytes of a tokenizer file",
            given,
            "file_bytes",
            limits.file_bytes,
        ));
    }
    Ok(())
}

/// The model's pieces and the added tokens, by id.
fn vocabulary(
    model: &model::Model,
    added: Vec<AddedJson>,
    decoding: &Decoding,
    limits: &TokenizerLimits,
) -> Result<(Vocabulary, Vec<AddedToken>), TokenizerError> {
    let mut by_id: Vec<(u32, &str)> = model
        .vocab
        .iter()
        .map(|(text, id)| (*id, text.as_str()))
        .collect();
    by_id.sort_unstable();

    // An added token that is in the model's vocabulary has the id that it has there.
    let texts: std::collections::HashMap<&str, u32> =
        by_id.iter().map(|(id, text)| (*text, *id)).collect();
    let mut added_by_id: Vec<(u32, &AddedJson)> = added
        .iter()
        .map(|token| {
            (
                texts
                    .get(token.content.as_str())
                    .copied()
                    .unwrap_or(token.id),
                token,
            )
        })
        .collect();
    added_by_id.sort_by_key(|(id, _)| *id);

    let last = by_id
        .last()
        .map(|(id, _)| *id)
        .max(added_by_id.last().map(|(id, _)| *id));
    let Some(last) = last else {
        return Err(TokenizerError::MissingField {
            field: "model.vocab",
        });
    };
    if last as usize >= limits.tokens {
        return Err(TokenizerError::limit(
            "largest id",
            last as usize,
            "tokens",
            limits.tokens,
        ));
    }

    let mut vocabulary = Vocabulary::with_capacity(by_id.len() + added.len());
    let mut pieces = by_id.into_iter().peekable();
    let mut tokens = added_by_id.iter().copied().peekable();
    for id in 0..=last {
        let piece = pieces.next_if(|(at, _)| *at == id).map(|(_, text)| text);
        let token = tokens.next_if(|(at, _)| *at == id).map(|(_, token)| token);
        let (text, bytes, kind) = match (piece, token) {
            (_, Some(token)) => {
                let kind = if token.special {
                    Kind::Special
                } else {
                    Kind::User
                };
                (token.content.as_str(), decoding.added(&token.content), kind)
            }
            (Some(text), None) => (text, decoding.piece(text), decoding.kind(text)),
            (None, None) => {
                vocabulary.push_hidden("", b"", Kind::Absent)?;
                continue;
            }
        };
        if let Some((_, second)) = pieces.next_if(|(at, _)| *at == id) {
            return Err(duplicate_id(id, text, second));
        }
        if let Some((_, second)) = tokens.next_if(|(at, _)| *at == id) {
            return Err(duplicate_id(id, text, &second.content));
        }
        if let Some(piece) = piece.filter(|piece| *piece != text) {
            return Err(duplicate_id(id, piece, text));
        }
        if text.len() > limits.token_bytes {
            let limit = limits.token_bytes;
            return Err(TokenizerError::limit(
                "bytes of a token",
                text.len(),
                "token_bytes",
                limit,
            ));
        }
        if let Some(first) = vocabulary.push(text, &bytes, kind)? {
            return Err(TokenizerError::DuplicateToken {
                text: excerpt(text),
                first,
                second: id,
            });
        }
    }
    let added = added_by_id.into_iter().map(|(id, token)| AddedToken {
        id,
        content: token.content.clone(),
        special: token.special,
        single_word: token.single_word,
        lstrip: token.lstrip,
        rstrip: token.rstrip,
        normalized: token.normalized,
    });
    Ok((vocabulary, added.collect()))
}

fn duplicate_id(id: u32, first: &str, second: &str) -> TokenizerError {
    TokenizerError::DuplicateId {
        id,
        first: excerpt(first),
        second: excerpt(second),
    }
}

fn byte_tokens(vocabulary: &Vocabulary) -> Box<[Option<u32>; 256]> {
    let mut tokens = Box::new([None; 256]);
    for (byte, id) in tokens.iter_mut().enumerate() {
        *id = vocabulary.id(&format!("<0x{byte:02X}>"));
    }
    tokens
}

fn merges(
    vocabulary: &Vocabulary,
    model: &model::Model,
    limits: &TokenizerLimits,
) -> Result<Vec<Merge>, TokenizerError> {
    if model.merges.len() > limits.merges {
        let given = model.merges.len();
        return Err(TokenizerError::limit(
            "merges",
            given,
            "merges",
            limits.merges,
        ));
    }
    let mut joined = String::new();
    let mut merges = Vec::with_capacity(model.merges.len());
    for (index, merge) in model.merges.iter().enumerate() {
        let (left, right) = merge.sides(index)?;
        merges.push(resolve_merge(vocabulary, index, left, right, &mut joined)?);
    }
    merges.retain(|merge| vocabulary.kind(merge.id) != Kind::Special);
    Ok(merges)
}
