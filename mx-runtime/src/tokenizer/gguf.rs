//! A tokenizer rebuilt from the metadata of a GGUF file.

use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use super::bpe::{BpeTokenizer, Pipeline};
use super::decoder::{ByteAlphabet, LeadingSpace, SPACE_MARK, byte_piece};
use super::error::{TokenizerError, excerpt};
use super::merges::{Bpe, Merge, MergeTable};
use super::pre_tokenizers::{self, Entry};
use super::specials::{AddedToken, AddedTokens};
use super::vocabulary::{Kind, Vocabulary};
use super::{SpecialTokens, TokenizerLimits};

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
        check_lengths(&vocab, limits)?;
        let special_tokens = special_tokens(&vocab)?;
        match vocab.model.as_str() {
            BYTE_LEVEL => byte_level(vocab, special_tokens, limits),
            SENTENCE_PIECE => sentence_piece(vocab, special_tokens, limits),
            none if NO_VOCABULARY.contains(&none) => {
                Err(TokenizerError::NoVocabulary { field: MODEL, given: vocab.model })
            }
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
        tracing::warn!("tokenizer.ggml.pre is missing, {} is assumed", pre_tokenizers::DEFAULT);
        pre_tokenizers::DEFAULT
    });
    let entry = Entry::find(name)?;
    let listed = vocab.merges.as_ref().ok_or(TokenizerError::MissingField { field: MERGES })?;
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
    let merges = listed_merges(&vocabulary, listed)?;
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
        leading_space: if prefix { LeadingSpace::Drop(1) } else { LeadingSpace::Keep },
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
    let scores = vocab.scores.as_ref().ok_or(TokenizerError::MissingField { field: SCORES })?;
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
                // The file has runs of spaces as they stand in a text; merges speak of marks. A run
                // that is in the vocabulary as marks as well is found by that token.
                let marked = text.replace(' ', SPACE_MARK.encode_utf8(&mut [0; 4]));
                let plain = text.replace(SPACE_MARK, " ");
                let repeated = vocabulary.push(&marked, plain.as_bytes(), kind)?;
                if let Some(first) = repeated.filter(|_| marked == *text) {
                    return Err(duplicate(text, first, id as u32));
                }
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
    let merges = merges_by_score(&vocabulary, scores, limits)?;
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
        leading_space: if prefix { LeadingSpace::Drop(1) } else { LeadingSpace::Keep },
        special_tokens,
        chat_template: vocab.chat_template,
        limits: limits.clone(),
    })
}

/// Spaces become marks, after a space in front where the model wants one.
fn mark_spaces(prefix: bool) -> Result<NormalizerWrapper, TokenizerError> {
    let mark = SPACE_MARK.to_string();
    let replace = Replace::new(" ", mark.as_str())
        .map_err(|e| TokenizerError::component("normalizer", e))?;
    Ok(match prefix {
        true => Sequence::new(vec![Prepend::new(mark).into(), replace.into()]).into(),
        false => replace.into(),
    })
}

impl GgufVocab {
    fn kind(&self, id: usize) -> Result<Kind, TokenizerError> {
        let Some(types) = &self.token_types else { return Ok(Kind::Normal) };
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

fn check_lengths(vocab: &GgufVocab, limits: &TokenizerLimits) -> Result<(), TokenizerError> {
    let wanted = vocab.tokens.len();
    if NO_VOCABULARY.contains(&vocab.model.as_str()) {
        return Ok(());
    }
    if wanted == 0 {
        return Err(TokenizerError::MissingField { field: TOKENS });
    }
    if wanted > limits.tokens {
        return Err(TokenizerError::limit(TOKENS, wanted, "tokens", limits.tokens));
    }
    if let Some(long) = vocab.tokens.iter().map(String::len).find(|len| *len > limits.token_bytes) {
        return Err(TokenizerError::limit(
            "bytes of a token",
            long,
            "token_bytes",
            limits.token_bytes,
        ));
    }
    let merges = vocab.merges.as_ref().map_or(0, Vec::len);
    if merges > limits.merges {
        return Err(TokenizerError::limit(MERGES, merges, "merges", limits.merges));
    }
    let lengths = [
        (SCORES, vocab.scores.as_ref().map(Vec::len)),
        (TOKEN_TYPE, vocab.token_types.as_ref().map(Vec::len)),
    ];
    for (field, given) in lengths {
        if let Some(given) = given.filter(|given| *given != wanted) {
            return Err(TokenizerError::WrongLength { field, given, wanted });
        }
    }
    Ok(())
}

fn special_tokens(vocab: &GgufVocab) -> Result<SpecialTokens, TokenizerError> {
    let vocab_size = vocab.tokens.len();
    let check = |field, id: Option<u32>| match id {
        Some(id) if id as usize >= vocab_size => {
            Err(TokenizerError::IdOutOfRange { field, given: id.into(), vocab_size })
        }
        id => Ok(id),
    };
    let eos = check("tokenizer.ggml.eos_token_id", vocab.eos)?;
    let eot = check("tokenizer.ggml.eot_token_id", vocab.eot)?;
    Ok(SpecialTokens {
        bos: check("tokenizer.ggml.bos_token_id", vocab.bos)?,
        eos: eos.into_iter().chain(eot.filter(|eot| Some(*eot) != eos)).collect(),
        pad: check("tokenizer.ggml.padding_token_id", vocab.pad)?,
        unk: check("tokenizer.ggml.unknown_token_id", vocab.unk)?,
        add_bos: false,
    })
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
    TokenizerError::DuplicateToken { text: excerpt(text), first, second }
}

/// Merges as the file lists them.
fn listed_merges(
    vocabulary: &Vocabulary,
    listed: &[String],
) -> Result<Vec<Merge>, TokenizerError> {
    let mut merges = Vec::with_capacity(listed.len());
    let mut joined = String::new();
    for (index, merge) in listed.iter().enumerate() {
        let (left, right) = split_merge(merge).ok_or_else(|| TokenizerError::BadMerge {
            index,
            merge: excerpt(merge),
            reason: "wanted two pieces with a space between them",
        })?;
        merges.push(resolve_merge(vocabulary, index, left, right, &mut joined)?);
    }
    merges.retain(|merge| vocabulary.kind(merge.id) != Kind::Special);
    Ok(merges)
}

/// The two sides of `left right`. A piece may start with a space, never contain one.
pub(crate) fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let space = first + merge[first..].find(' ')?;
    let (left, right) = (&merge[..space], &merge[space + 1..]);
    (!right.is_empty()).then_some((left, right))
}

/// Looks up the three tokens of a merge. `joined` is a buffer.
pub(crate) fn resolve_merge(
    vocabulary: &Vocabulary,
    index: usize,
    left: &str,
    right: &str,
    joined: &mut String,
) -> Result<Merge, TokenizerError> {
    joined.clear();
    joined.push_str(left);
    joined.push_str(right);
    let find = |text: &str, reason| {
        vocabulary.id(text).ok_or_else(|| TokenizerError::BadMerge {
            index,
            merge: excerpt(&format!("{left} {right}")),
            reason,
        })
    };
    Ok(Merge {
        left: find(left, "the left piece is not in the vocabulary")?,
        right: find(right, "the right piece is not in the vocabulary")?,
        id: find(joined, "the joined piece is not in the vocabulary")?,
    })
}

/// Merges of a vocabulary that only has scores: every way to put a piece together from two others,
/// best score first, then by ids.
fn merges_by_score(
    vocabulary: &Vocabulary,
    scores: &[f32],
    limits: &TokenizerLimits,
) -> Result<Vec<Merge>, TokenizerError> {
    let is_piece = |id: &u32| matches!(vocabulary.kind(*id), Kind::Normal | Kind::User);
    let mut pieces: Vec<u32> = (0..vocabulary.len() as u32).filter(is_piece).collect();
    pieces.sort_unstable_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));

    let mut merges: Vec<Merge> = Vec::with_capacity(pieces.len());
    let mut work = 0;
    for same_score in pieces
        .chunk_by(|a, b| scores[*a as usize].total_cmp(&scores[*b as usize]).is_eq())
    {
        let start = merges.len();
        for &id in same_score {
            let text = vocabulary.text(id).unwrap_or_default();
            for (cut, _) in text.char_indices().skip(1) {
                work += text.len();
                let (left, right) = text.split_at(cut);
                if let Some(left) = vocabulary.id(left)
                    && let Some(right) = vocabulary.id(right)
                {
                    merges.push(Merge { left, right, id });
                }
            }
            if work > limits.rebuild_bytes {
                let limit = limits.rebuild_bytes;
                return Err(TokenizerError::limit("rebuilding merges", work, "rebuild_bytes", limit));
            }
            if merges.len() > limits.merges {
                let limit = limits.merges;
                return Err(TokenizerError::limit("merges", merges.len(), "merges", limit));
            }
        }
        merges[start..].sort_unstable_by_key(|merge| (merge.left, merge.right));
    }
    Ok(merges)
}
