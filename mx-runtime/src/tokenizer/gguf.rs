//! A tokenizer rebuilt from the metadata of a GGUF file.

mod check;
mod merges;
mod metadata;

use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use super::bpe::{BpeTokenizer, Pipeline};
use super::decoder::{ByteAlphabet, LeadingSpace, SPACE_MARK, byte_piece};
use super::error::{TokenizerError, excerpt};
use super::merges::{Bpe, MergeTable};
use super::pre_tokenizers::{self, Entry};
use super::specials::{AddedToken, AddedTokens};
use super::vocabulary::{Kind, Vocabulary};
use super::{SpecialTokens, TokenizerLimits};

pub(crate) use merges::{resolve_merge, split_merge};

/// The `tokenizer.*` metadata of a GGUF file, field by field.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufVocab {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: String,
    /// `tokenizer.ggml.pre`: name of the pre-tokenizer, used by byte-level BPE.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`, required by SentencePiece BPE.
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Option<Vec<i32>>,
    /// `tokenizer.ggml.merges`, required by byte-level BPE: `left right` each.
    pub merges: Option<Vec<String>>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: ends a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

const BYTE_LEVEL: &str = "gpt2";
const SENTENCE_PIECE: &str = "llama";
const NO_VOCABULARY: [&str; 2] = ["no_vocab", "none"];

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

impl BpeTokenizer {
    /// Rebuilds the tokenizer of a GGUF file from its metadata.
    ///
    /// # Errors
    /// If the kind of tokenizer or its pre-tokenizer is unknown, an array is missing or has the
    /// wrong length, an id lies outside the vocabulary, a token occurs twice, a merge cannot be
    /// used, or a limit is exceeded.
    pub fn from_gguf(vocab: GgufVocab, limits: &TokenizerLimits) -> Result<Self, TokenizerError> {
        check::lengths(&vocab, limits)?;
        let special_tokens = check::special_tokens(&vocab)?;
        match vocab.model.as_str() {
            BYTE_LEVEL => byte_level(vocab, special_tokens, limits),
            SENTENCE_PIECE => sentence_piece(vocab, special_tokens, limits),
            none if NO_VOCABULARY.contains(&none) => Err(TokenizerError::NoVocabulary {
                field: MODEL,
                given: vocab.model,
            }),
            _ => Err(TokenizerError::UnknownModel {
                field: MODEL,
                given: vocab.model,
                known: &[BYTE_LEVEL, SENTENCE_PIECE],
            }),
        }
    }
}

fn byte_level(
    vocab: GgufVocab,
    mut special_tokens: SpecialTokens,
    limits: &TokenizerLimits,
) -> Result<BpeTokenizer, TokenizerError> {
    let name = vocab.pre.as_deref().unwrap_or_else(|| {
        tracing::warn!(
            "tokenizer.ggml.pre is missing, {} is assumed",
            pre_tokenizers::DEFAULT
        );
        pre_tokenizers::DEFAULT
    });
    let entry = Entry::find(name)?;
    let listed = vocab
        .merges
        .as_ref()
        .ok_or(TokenizerError::MissingField { field: MERGES })?;
    special_tokens.add_bos = vocab.add_bos.unwrap_or(entry.add_bos);

    let alphabet = ByteAlphabet::new();
    let mut vocabulary = Vocabulary::with_capacity(vocab.tokens.len());
    let mut added = Vec::new();
    for (id, text) in vocab.tokens.iter().enumerate() {
        let kind = vocab.kind(id)?;
        match kind {
            Kind::Special | Kind::User => {
                push(&mut vocabulary, text, text.as_bytes(), kind)?;
                added.push(AddedToken::literal(id as u32, text, kind == Kind::Special));
            }
            _ => push(&mut vocabulary, text, &alphabet.decode(text), kind)?,
        }
    }
    let merges = merges::listed(&vocabulary, listed)?;
    let prefix = vocab.add_space_prefix.unwrap_or(false);
    let pipeline = Pipeline {
        normalizer: prefix.then(|| Prepend::new(" ".to_owned()).into()),
        pre_tokenizer: Some(entry.build()?),
        start_matters: false,
    };
    Ok(BpeTokenizer {
        added: AddedTokens::new(added, |text| pipeline.normalize(text))?,
        model: Bpe {
            merges: MergeTable::new(vocabulary.len(), &merges),
            vocabulary,
            byte_tokens: None,
            unknown: None,
            fuse_unknown: false,
            whole_words_first: entry.whole_words_first,
        },
        pipeline,
        leading_space: if prefix {
            LeadingSpace::Drop(1)
        } else {
            LeadingSpace::Keep
        },
        special_tokens,
        chat_template: vocab.chat_template,
        limits: limits.clone(),
    })
}

fn sentence_piece(
    vocab: GgufVocab,
    mut special_tokens: SpecialTokens,
    limits: &TokenizerLimits,
) -> Result<BpeTokenizer, TokenizerError> {
    let scores = vocab
        .scores
        .as_ref()
        .ok_or(TokenizerError::MissingField { field: SCORES })?;
    if vocab.token_types.is_none() {
        return Err(TokenizerError::MissingField { field: TOKEN_TYPE });
    }
    special_tokens.add_bos = vocab.add_bos.unwrap_or(true);

    let mut vocabulary = Vocabulary::with_capacity(vocab.tokens.len());
    let mut added = Vec::new();
    let mut byte_tokens = Box::new([None; 256]);
    for (id, text) in vocab.tokens.iter().enumerate() {
        let kind = vocab.kind(id)?;
        match kind {
            Kind::Special => {
                push(&mut vocabulary, text, text.as_bytes(), kind)?;
                added.push(AddedToken::literal(id as u32, text, true));
            }
            Kind::User => {
                let plain = text.replace(SPACE_MARK, " ");
                push(&mut vocabulary, text, plain.as_bytes(), kind)?;
                added.push(AddedToken::literal(id as u32, text, false));
            }
            Kind::Byte => {
                let byte = byte_piece(text).ok_or_else(|| TokenizerError::WrongValue {
                    field: TOKENS,
                    given: excerpt(text),
                    wanted: "the form <0xNN> for a token of type 6 (byte)",
                })?;
                push(&mut vocabulary, text, &[byte], kind)?;
                byte_tokens[usize::from(byte)] = Some(id as u32);
            }
            _ => {
                let plain = text.replace(SPACE_MARK, " ");
                push(&mut vocabulary, text, plain.as_bytes(), kind)?;
            }
        }
    }
    let merges = merges::by_score(&vocabulary, scores, limits)?;
    let prefix = vocab.add_space_prefix.unwrap_or(true);
    let pipeline = Pipeline {
        normalizer: Some(mark_spaces(prefix)?),
        pre_tokenizer: None::<PreTokenizerWrapper>,
        start_matters: false,
    };
    Ok(BpeTokenizer {
        added: AddedTokens::new(added, |text| pipeline.normalize(text))?,
        model: Bpe {
            merges: MergeTable::new(vocabulary.len(), &merges),
            vocabulary,
            byte_tokens: Some(byte_tokens),
            unknown: special_tokens.unk,
            fuse_unknown: true,
            whole_words_first: false,
        },
        pipeline,
        leading_space: if prefix {
            LeadingSpace::Drop(1)
        } else {
            LeadingSpace::Keep
        },
        special_tokens,
        chat_template: vocab.chat_template,
        limits: limits.clone(),
    })
}

/// Spaces become marks, after a space in front where the model wants one.
fn mark_spaces(prefix: bool) -> Result<NormalizerWrapper, TokenizerError> {
    let mark = SPACE_MARK.to_string();
    let replace =
        Replace::new(" ", mark.as_str()).map_err(|e| TokenizerError::component("normalizer", e))?;
    Ok(match prefix {
        true => Sequence::new(vec![Prepend::new(mark).into(), replace.into()]).into(),
        false => replace.into(),
    })
}

impl GgufVocab {
    fn kind(&self, id: usize) -> Result<Kind, TokenizerError> {
        let Some(types) = &self.token_types else {
            return Ok(Kind::Normal);
        };
        Ok(match types[id] {
            0 | 1 => Kind::Normal,
            2 | 3 => Kind::Special,
            4 => Kind::User,
            5 => Kind::Unused,
            6 => Kind::Byte,
            other => {
                return Err(TokenizerError::WrongValue {
                    field: TOKEN_TYPE,
                    given: format!("{other} for token {id}"),
                    wanted: "0 to 6",
                });
            }
        })
    }
}

fn push(
    vocabulary: &mut Vocabulary,
    text: &str,
    bytes: &[u8],
    kind: Kind,
) -> Result<(), TokenizerError> {
    // Fillers and empty texts stand for nothing, so nothing may find them.
    if kind == Kind::Unused || text.is_empty() {
        vocabulary.push_hidden(text, bytes, Kind::Unused)?;
        return Ok(());
    }
    match vocabulary.push(text, bytes, kind)? {
        Some(first) => Err(duplicate(text, first, vocabulary.len() as u32 - 1)),
        None => Ok(()),
    }
}

fn duplicate(text: &str, first: u32, second: u32) -> TokenizerError {
    TokenizerError::DuplicateToken {
        text: excerpt(text),
        first,
        second,
    }
}
