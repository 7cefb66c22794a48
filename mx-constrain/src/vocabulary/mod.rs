//! The tokens of a tokenizer, prepared once and shared by everything that makes masks.

mod slices;
mod spelling;
mod trie;

use std::fmt;
use std::sync::Arc;

use crate::{ByteSet, ConstrainError};

pub(crate) use slices::{BLANKS, Bits, MAX_CHARS, Slices, plain_chars};
pub use spelling::{byte_level_bytes, sentencepiece_bytes};
pub(crate) use trie::{Entry, NodeId, ROOT, Trie};

/// The tokens of a tokenizer as bytes, prepared for masks.
///
/// Built once per tokenizer and shared: cloning copies a pointer. Building sorts the tokens and lays out a trie, about
/// 10 ms for 49 152 tokens and 80 ms for 262 144 (one core of a server, release build).
///
/// ```
/// use mx_constrain::Vocabulary;
///
/// // One entry per id. Tokens without bytes of their own (control tokens, padding) are `None`.
/// let tokens = [Some("{"), Some("}"), Some("\"a"), Some("\""), Some(":"), Some("1"), None];
/// let vocabulary = Vocabulary::new(tokens, &[6])?; // id 6 ends the text
/// assert_eq!(vocabulary.len(), 7);
/// assert_eq!(vocabulary.bytes_of(2), Some(&b"\"a"[..]));
/// assert_eq!(vocabulary.bytes_of(6), None);
/// # Ok::<(), mx_constrain::ConstrainError>(())
/// ```
#[derive(Clone)]
pub struct Vocabulary(Arc<Inner>);

struct Inner {
    bytes: Vec<u8>,
    /// Where the bytes of each token begin, and one more.
    offsets: Vec<u32>,
    eos: Vec<u32>,
    alphabet: ByteSet,
    trie: Trie,
    slices: Slices,
}

impl Vocabulary {
    /// Prepares the tokens of a tokenizer.
    ///
    /// `tokens` gives the bytes of each id in order: the raw bytes that the token adds to the text, not the spelling of
    /// the tokenizer file ([`byte_level_bytes`] and [`sentencepiece_bytes`] translate the two common spellings).
    /// `None` and empty bytes mean that the id never stands for text: control tokens, padding, unused ids. Such a token
    /// is never allowed, even if its name reads like text. Several ids may have the same bytes; masks hold all of them.
    ///
    /// `eos` are the ids that end the text. They are allowed exactly where the text may end, and their bytes, if any,
    /// are ignored. Without any, [`Matcher::must_stop`](crate::Matcher::must_stop) tells when to stop.
    ///
    /// # Errors
    /// [`ConstrainError::NoSuchToken`] when an id in `eos` is not below the number of tokens;
    /// [`ConstrainError::Vocabulary`] when the tokens are too many or too long to index (16 million trie
    /// nodes).
    pub fn new<B: AsRef<[u8]>>(
        tokens: impl IntoIterator<Item = Option<B>>,
        eos: &[u32],
    ) -> Result<Self, ConstrainError> {
        let mut bytes = Vec::new();
        let mut offsets = vec![0];
        for token in tokens {
            if let Some(token) = &token {
                bytes.extend_from_slice(token.as_ref());
            }
            let end = u32::try_from(bytes.len()).map_err(|_| ConstrainError::Vocabulary {
                reason: "the tokens have too many bytes together",
                given: bytes.len() as u64,
            })?;
            offsets.push(end);
        }
        let len = offsets.len() - 1;
        if u32::try_from(len).is_err() {
            return Err(ConstrainError::Vocabulary {
                reason: "there are too many tokens",
                given: len as u64,
            });
        }
        if let Some(&token) = eos.iter().find(|&&token| token as usize >= len) {
            return Err(ConstrainError::NoSuchToken { token, vocab: len });
        }
        let mut eos = eos.to_vec();
        eos.sort_unstable();
        eos.dedup();
        let order = sorted(&bytes, &offsets, &eos);
        let entries: Vec<Entry<'_>> = order
            .into_iter()
            .map(|token| {
                let bytes = slice(&bytes, &offsets, token);
                Entry {
                    bytes,
                    token,
                    chars: plain_chars(bytes).unwrap_or(0),
                }
            })
            .collect();
        let trie = Trie::new(entries.iter().copied())?;
        let slices = Slices::new(&trie, len.div_ceil(32), entries.iter().copied())?;
        let mut present = [false; 256];
        for &byte in entries.iter().flat_map(|entry| entry.bytes) {
            present[usize::from(byte)] = true;
        }
        let alphabet = (0..=u8::MAX)
            .filter(|&byte| present[usize::from(byte)])
            .collect();
        Ok(Self(Arc::new(Inner {
            bytes,
            offsets,
            eos,
            alphabet,
            trie,
            slices,
        })))
    }

    /// Number of ids, those without bytes included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.offsets.len() - 1
    }

    /// Whether there is no id at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of words of 32 bits in a mask.
    #[must_use]
    pub fn mask_words(&self) -> usize {
        self.len().div_ceil(32)
    }

    /// The bytes that a token adds to the text; `None` for an id without bytes, one that ends the text, or one outside
    /// the vocabulary.
    #[must_use]
    pub fn bytes_of(&self, token: u32) -> Option<&[u8]> {
        if token as usize >= self.len() || self.is_eos(token) {
            return None;
        }
        Some(slice(&self.0.bytes, &self.0.offsets, token)).filter(|bytes| !bytes.is_empty())
    }

    /// The ids that end the text, ascending.
    #[must_use]
    pub fn eos(&self) -> &[u32] {
        &self.0.eos
    }

    /// Whether a token ends the text.
    #[must_use]
    #[inline]
    pub fn is_eos(&self, token: u32) -> bool {
        self.0.eos.contains(&token)
    }

    /// The byte values that occur in some token. Text that needs another one can never be generated, and constraints
    /// take that into account: no mask leads to a place from where only such a byte could go on.
    #[must_use]
    pub fn alphabet(&self) -> &ByteSet {
        &self.0.alphabet
    }

    /// Number of nodes of the trie of token bytes.
    #[must_use]
    pub fn trie_nodes(&self) -> usize {
        self.0.trie.len()
    }

    /// Memory that the vocabulary holds, in bytes, without slices made for single patterns.
    #[must_use]
    pub fn memory(&self) -> usize {
        let own = self.0.bytes.len() + 4 * self.0.offsets.len();
        own + self.0.trie.bytes() + self.0.slices.bytes()
    }

    pub(crate) fn trie(&self) -> &Trie {
        &self.0.trie
    }

    pub(crate) fn slices(&self) -> &Slices {
        &self.0.slices
    }

    /// The bytes of a token that has some.
    #[inline]
    pub(crate) fn raw_bytes(&self, token: u32) -> &[u8] {
        slice(&self.0.bytes, &self.0.offsets, token)
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary")
            .field("len", &self.len())
            .field("eos", &self.eos())
            .field("trie_nodes", &self.trie_nodes())
            .finish_non_exhaustive()
    }
}

#[inline]
fn slice<'a>(bytes: &'a [u8], offsets: &[u32], token: u32) -> &'a [u8] {
    let token = token as usize;
    &bytes[offsets[token] as usize..offsets[token + 1] as usize]
}

/// The ids that have bytes and do not end the text, by their bytes and then by id.
fn sorted(bytes: &[u8], offsets: &[u32], eos: &[u32]) -> Vec<u32> {
    let len = offsets.len() as u32 - 1;
    // The first eight bytes decide nearly every comparison without touching the token.
    let mut keys: Vec<(u64, u32)> = (0..len)
        .filter(|&token| {
            offsets[token as usize] < offsets[token as usize + 1]
                && eos.binary_search(&token).is_err()
        })
        .map(|token| {
            let text = slice(bytes, offsets, token);
            let mut head = [0; 8];
            let length = text.len().min(8);
            head[..length].copy_from_slice(&text[..length]);
            (u64::from_be_bytes(head), token)
        })
        .collect();
    keys.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0)
            .then_with(|| slice(bytes, offsets, a.1).cmp(slice(bytes, offsets, b.1)))
            .then_with(|| a.1.cmp(&b.1))
    });
    keys.into_iter().map(|(_, token)| token).collect()
}
