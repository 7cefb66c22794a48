//! Looking ahead: what is forced, how it could end, and why a token is refused.

use std::fmt;

use super::{Matcher, lock};
use crate::vocabulary::ROOT;
use crate::{ByteSet, ConstrainError, Refusal};

/// Most bytes that are reported as forced at once.
const MAX_FORCED: usize = 4096;

/// Most longer tokens that are tried; beyond that the text counts as unstable there.
const MAX_LONGER: usize = 1024;

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WhyNot {
    /// The token.
    pub token: u32,
    /// How many of its bytes could be read.
    pub read: usize,
    /// The byte that is refused; `None` for tokens that have none: those that end the text too early, and those that
    /// never stand for text.
    pub byte: Option<u8>,
    /// What refuses it.
    pub refusal: Refusal,
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.byte {
            Some(byte) => write!(
                f,
                "byte {} ({}): {}",
                self.read,
                ByteSet::of(byte),
                self.refusal
            ),
            None => write!(f, "{}", self.refusal),
        }
    }
}

impl Matcher {
    /// The bytes that must come next, up to the first choice (ending counts as one).
    ///
    /// They are bytes, not tokens: which tokens the model would have used for them is for the tokenizer to say. See
    /// [`fast_forward`](Self::fast_forward).
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub fn forced_bytes(&self) -> Result<Vec<u8>, ConstrainError> {
        let mut bytes = Vec::new();
        if self.at.ended {
            return Ok(bytes);
        }
        let mut engine = lock(&self.engine);
        let mut at = self.at.position;
        while bytes.len() < MAX_FORCED && !engine.accepting(at)? {
            let Some((byte, next)) = engine.only_byte(at)? else {
                break;
            };
            bytes.push(byte);
            at = next;
        }
        Ok(bytes)
    }

    /// Tokens for the bytes that must come next, so that the model need not be run for them.
    ///
    /// `tokenize` is the tokenizer: given the forced text it returns the tokens it would make of it, behind the text so
    /// far. Nothing is committed. Tokens are given only as far as they would not change with what follows: a token is
    /// left out when the rest of the forced text from it on is the beginning of some longer token that the constraint
    /// allows.
    /// Whether the first token would have merged with the text before is for `tokenize` to know: it may return an empty
    /// list. A result of `tokenize` that does not spell the forced text is not used.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub fn fast_forward(
        &self,
        tokenize: impl FnOnce(&[u8]) -> Vec<u32>,
    ) -> Result<Vec<u32>, ConstrainError> {
        let bytes = self.forced_bytes()?;
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let mut tokens = tokenize(&bytes);
        let mut ends = Vec::with_capacity(tokens.len());
        let mut end = 0;
        for &token in &tokens {
            let spelled = self.vocabulary.bytes_of(token).unwrap_or_default();
            if spelled.is_empty() || !bytes[end..].starts_with(spelled) {
                break;
            }
            end += spelled.len();
            ends.push(end);
        }
        tokens.truncate(ends.len());
        let stable = self.stable_length(&bytes)?;
        let keep = ends.iter().take_while(|&&end| end <= stable).count();
        tokens.truncate(keep);
        Ok(tokens)
    }

    /// Bytes at the beginning of `bytes`, which are forced, that no token can reach across whose end lies behind `bytes`
    /// and which the constraint allows there.
    fn stable_length(&self, bytes: &[u8]) -> Result<usize, ConstrainError> {
        let trie = self.vocabulary.trie();
        let mut engine = lock(&self.engine);
        let Ok(behind) = engine.feed(self.at.position, bytes)? else {
            return Ok(0);
        };
        for start in 0..bytes.len() {
            let Some(node) = trie.find(&bytes[start..]) else {
                continue;
            };
            let own = trie.tokens_at(node).len();
            let longer = &trie.tokens_from(node)[own..];
            if longer.len() > MAX_LONGER {
                return Ok(start);
            }
            for &token in longer {
                let rest = &self.vocabulary.raw_bytes(token)[bytes.len() - start..];
                if engine.feed(behind, rest)?.is_ok() {
                    return Ok(start);
                }
            }
        }
        Ok(bytes.len())
    }

    /// The token that must come next, when there is only one: it can be committed without running the model. Tokens
    /// that end the text count.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub fn forced_token(&mut self) -> Result<Option<u32>, ConstrainError> {
        Ok(self.mask()?.single())
    }

    /// A short text with which the text would satisfy the constraint; empty when it does already.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`] when none is found within the search limits.
    pub fn completion(&self) -> Result<Vec<u8>, ConstrainError> {
        match self.at.ended {
            true => Ok(Vec::new()),
            false => lock(&self.engine).completion(self.at.position),
        }
    }

    /// Number of tokens that are enough to finish the text, without the one that ends it: the fewest tokens that spell
    /// [`completion`](Self::completion). A generation with a budget should steer to the end when this reaches it.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`] when no completion is found within the search limits.
    pub fn tokens_to_finish(&self) -> Result<usize, ConstrainError> {
        let bytes = self.completion()?;
        let trie = self.vocabulary.trie();
        // fewest[i]: tokens that spell the first i bytes. Every byte of a completion is in the alphabet, but not each
        // needs a token of its own.
        let mut fewest = vec![usize::MAX; bytes.len() + 1];
        fewest[0] = 0;
        for start in 0..bytes.len() {
            let Some(here) = fewest[start].checked_add(1) else {
                continue;
            };
            let mut node = ROOT;
            for (end, &byte) in bytes.iter().enumerate().skip(start) {
                let Some(child) = trie.child(node, byte) else {
                    break;
                };
                node = child;
                if !trie.tokens_at(node).is_empty() {
                    fewest[end + 1] = fewest[end + 1].min(here);
                }
            }
        }
        Ok(fewest[bytes.len()].min(bytes.len()))
    }

    /// Why a token may not come next; `None` when it may.
    ///
    /// # Errors
    /// [`ConstrainError::NoSuchToken`]; [`ConstrainError::Limit`].
    pub fn why_not(&self, token: u32) -> Result<Option<WhyNot>, ConstrainError> {
        if self.try_token(token)?.is_ok() {
            return Ok(None);
        }
        let without_bytes = |expected: String| {
            let refusal = Refusal {
                expected,
                ..Refusal::default()
            };
            Ok(Some(WhyNot {
                token,
                read: 0,
                byte: None,
                refusal,
            }))
        };
        if self.at.ended {
            return without_bytes("nothing more: the text has ended".to_owned());
        }
        let mut engine = lock(&self.engine);
        let position = self.at.position;
        if self.vocabulary.is_eos(token) {
            return without_bytes(format!(
                "the text to go on with one of {}",
                engine.live(position)?
            ));
        }
        let bytes = self.vocabulary.raw_bytes(token);
        if bytes.is_empty() {
            return without_bytes("text, and this token never stands for text".to_owned());
        }
        match engine.feed(position, bytes)? {
            Ok(_) => Ok(None),
            Err((read, at)) => {
                let byte = bytes[read];
                Ok(Some(WhyNot {
                    token,
                    read,
                    byte: Some(byte),
                    refusal: engine.explain(at, byte)?,
                }))
            }
        }
    }
}
