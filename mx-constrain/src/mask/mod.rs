//! Masks: which tokens may follow, one bit each.

mod build;
mod cache;
mod engine;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod json_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod oracle_tests;
mod stack;
mod walk;

pub(crate) use engine::{Engine, Position, Tokens};

use crate::ConstrainError;

/// The tokens that may follow, one bit each.
///
/// Bit `token % 32` of word `token / 32` is 1 when the token is allowed: the layout of llguidance, XGrammar and vLLM.
/// Bits behind the last token are 0.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    words: &'a [u32],
    count: usize,
    vocab: usize,
}

impl<'a> Mask<'a> {
    pub(crate) fn new(words: &'a [u32], count: usize, vocab: usize) -> Self {
        Self {
            words,
            count,
            vocab,
        }
    }

    /// The words.
    #[must_use]
    pub fn words(&self) -> &'a [u32] {
        self.words
    }

    /// Number of ids in the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Number of allowed tokens. Known without counting.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The allowed token, when there is only one: it can be taken without running the model.
    #[must_use]
    pub fn single(&self) -> Option<u32> {
        if self.count == 1 {
            self.iter().next()
        } else {
            None
        }
    }

    /// Whether a token is allowed. Ids outside the vocabulary are not.
    #[must_use]
    #[inline]
    pub fn contains(&self, token: u32) -> bool {
        self.words
            .get(token as usize / 32)
            .is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// The allowed tokens, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.words
            .iter()
            .zip(0u32..)
            .flat_map(|(&word, at)| Bits(word).map(move |bit| at * 32 + bit))
    }

    /// Sets the logits of all other tokens to negative infinity. Logits behind the vocabulary (rows are often padded)
    /// are set too.
    ///
    /// # Errors
    /// [`ConstrainError::Length`] when the row is shorter than the vocabulary.
    pub fn apply(&self, logits: &mut [f32]) -> Result<(), ConstrainError> {
        if logits.len() < self.vocab {
            return Err(ConstrainError::Length {
                what: "the row of logits",
                given: logits.len(),
                wanted: self.vocab,
            });
        }
        let (rows, rest) = logits.as_chunks_mut::<32>();
        let mut words = self.words.iter().copied();
        for row in rows {
            match words.next().unwrap_or(0) {
                u32::MAX => {}
                0 => row.fill(f32::NEG_INFINITY),
                word => refuse(row, word),
            }
        }
        refuse(rest, words.next().unwrap_or(0));
        Ok(())
    }

    /// Copies the words into a caller's buffer, for engines that keep masks of a batch side by side.
    ///
    /// # Errors
    /// [`ConstrainError::Length`] when the buffer does not have exactly as many words.
    pub fn copy_to(&self, words: &mut [u32]) -> Result<(), ConstrainError> {
        if words.len() != self.words.len() {
            let (given, wanted) = (words.len(), self.words.len());
            return Err(ConstrainError::Length {
                what: "the mask buffer",
                given,
                wanted,
            });
        }
        words.copy_from_slice(self.words);
        Ok(())
    }
}

fn refuse(row: &mut [f32], word: u32) {
    for (bit, logit) in row.iter_mut().enumerate() {
        *logit = if word >> bit & 1 == 1 {
            *logit
        } else {
            f32::NEG_INFINITY
        };
    }
}

struct Bits(u32);

impl Iterator for Bits {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(bit)
    }
}
