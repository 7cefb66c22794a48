//! Tokenizers: text to ids, ids to bytes and text, and text as it is being generated.
//!
//! [`Tokenizer`] is what the rest of the crate knows. [`BpeTokenizer`] implements it for the two kinds
//! that the decoder families use, byte-level BPE and SentencePiece BPE, read either from a
//! `tokenizer.json` ([`BpeTokenizer::from_file`]) or from the metadata of a GGUF file
//! ([`BpeTokenizer::from_gguf`]).
//!
//! # Special tokens
//!
//! Control tokens (`<|im_end|>`, `<bos>`) steer a model, so text that a user wrote must not be able to
//! contain them. Every call says what it wants: [`Specials::AsText`] spells them out like any other
//! text, [`Specials::Parse`] turns them into their ids and belongs to trusted text only. A prompt made
//! of both is a list of [`Segment`]s.
//!
//! # Bytes
//!
//! A token stands for bytes ([`Tokenizer::token_bytes`]), and one character may be spread over
//! several tokens. [`Tokenizer::decode`] replaces what is no UTF-8 at the end; [`TextStream`] gives out
//! text while it is generated and holds back unfinished characters.

mod bpe;
mod decoder;
mod error;
mod gguf;
mod hf;
mod merges;
mod pre_tokenizers;
mod specials;
mod stream;
mod vocabulary;

use std::fmt::Debug;

pub use bpe::BpeTokenizer;
pub use decoder::LeadingSpace;
pub use error::TokenizerError;
pub use gguf::GgufVocab;
pub use specials::{AddedToken, AddedTokens};
pub use stream::TextStream;

/// What to do with the text of control tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Specials {
    /// Spell them out like any other text. For text that a user wrote.
    AsText,
    /// Turn them into their ids. For text that may steer the model.
    Parse,
}

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A control token.
    Special(u32),
    /// Text in which control tokens are text.
    Text(String),
}

/// The ids with a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of a sequence.
    pub bos: Option<u32>,
    /// Tokens that end a sequence or a turn, without repeats. Other files may name more.
    pub eos: Vec<u32>,
    /// Filler of shorter rows.
    pub pad: Option<u32>,
    /// Stands for text outside the vocabulary.
    pub unk: Option<u32>,
    /// Whether the model expects `bos` before the first token of a sequence.
    pub add_bos: bool,
}

/// Turns text into token ids and back.
///
/// Ids are the columns of the logits. Nothing here adds a token of its own: whether to put
/// [`SpecialTokens::bos`] first is up to the caller.
pub trait Tokenizer: Send + Sync + Debug {
    /// Ids of a text.
    ///
    /// # Errors
    /// If the vocabulary has no way to express the text, or the text exceeds
    /// [`TokenizerLimits::text_bytes`].
    fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TokenizerError>;

    /// Ids of a prompt made of control tokens and texts, where each text is encoded with
    /// [`Specials::AsText`].
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or if a control token is no id of the vocabulary.
    fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<u32>, TokenizerError>;

    /// Number of ids: one more than the largest.
    fn vocab_size(&self) -> usize;

    /// The bytes that a token adds to a text; for control tokens, the text that stands for them.
    /// `None` for ids without a token and for fillers.
    fn token_bytes(&self, id: u32) -> Option<&[u8]>;

    /// The text of a token as the vocabulary writes it.
    fn token_text(&self, id: u32) -> Option<&str>;

    /// The id of a token, given as the vocabulary writes it.
    fn token_id(&self, piece: &str) -> Option<u32>;

    /// Whether a token is a control token.
    fn is_special(&self, id: u32) -> bool;

    /// The ids with a role.
    fn special_tokens(&self) -> &SpecialTokens;

    /// The tokens that are matched in a text as a whole.
    fn added_tokens(&self) -> &AddedTokens;

    /// What becomes of a space at the start of a decoded text.
    fn leading_space(&self) -> LeadingSpace;

    /// Text of ids. Bytes that form no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// If an id is not below [`vocab_size`](Self::vocab_size).
    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        let mut bytes = decoder::Bytes::new(self.leading_space());
        let mut text = Vec::new();
        for &id in ids {
            let piece = decoder::contribution(self, id, skip_special)?;
            text.extend(bytes.next(piece));
        }
        Ok(match String::from_utf8(text) {
            Ok(text) => text,
            Err(broken) => String::from_utf8_lossy(broken.as_bytes()).into_owned(),
        })
    }
}

/// Bounds on what a file may make a tokenizer do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerLimits {
    /// Size of a tokenizer file. 256 MiB.
    pub file_bytes: usize,
    /// Number of ids. 4 194 304.
    pub tokens: usize,
    /// Size of one token. 4096 bytes.
    pub token_bytes: usize,
    /// Number of merges, also of those found by rebuilding. 16 777 216.
    pub merges: usize,
    /// Work of rebuilding the merges of a SentencePiece vocabulary, in bytes looked at. 4 GiB; the
    /// 262 144 tokens of Gemma 3 take 0.02 GiB.
    pub rebuild_bytes: usize,
    /// Size of a text to be encoded. 64 MiB.
    pub text_bytes: usize,
    /// Longest run of white space in a text that is cut by patterns. 250 000 characters. The engine
    /// of the patterns looks ahead behind such a run and gives up on four times as many, silently.
    pub space_run: usize,
}

impl Default for TokenizerLimits {
    fn default() -> Self {
        Self {
            file_bytes: 256 << 20,
            tokens: 1 << 22,
            token_bytes: 4096,
            merges: 1 << 24,
            rebuild_bytes: 4 << 30,
            text_bytes: 64 << 20,
            space_run: 250_000,
        }
    }
}

#[cfg(test)]
mod tests;
