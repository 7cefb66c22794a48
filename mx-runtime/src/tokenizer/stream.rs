//! Text as it is generated: one token in, whatever text is complete out.

use std::sync::Arc;

use super::decoder::{Bytes, contribution};
use super::error::TokenizerError;
use super::{LeadingSpace, Tokenizer};

/// Decodes tokens one by one and never splits a character.
///
/// All that [`push`](Self::push) and [`finish`](Self::finish) give out is together exactly what
/// [`Tokenizer::decode`] gives for the same ids. A token costs time in proportion to its own bytes:
/// nothing is decoded twice. At most three bytes are held back.
///
/// Bytes that can no longer become a character come out as U+FFFD as soon as that is certain.
#[derive(Debug, Clone)]
pub struct TextStream {
    tokenizer: Arc<dyn Tokenizer>,
    skip_special: bool,
    bytes: Bytes,
    held: Vec<u8>,
}

impl TextStream {
    /// A stream at the start of a text that leaves out control tokens.
    #[must_use]
    pub fn new(tokenizer: Arc<dyn Tokenizer>) -> Self {
        let bytes = Bytes::new(tokenizer.leading_space());
        Self {
            tokenizer,
            skip_special: true,
            bytes,
            held: Vec::new(),
        }
    }

    /// Whether control tokens are left out (the default) or come out as their text.
    #[must_use]
    pub fn with_skip_special(mut self, skip: bool) -> Self {
        self.skip_special = skip;
        self
    }

    /// Continues a text instead of starting one: a first space stays, and a character that `context`
    /// leaves unfinished is finished by the tokens to come.
    ///
    /// # Errors
    /// If `context` holds an id outside the vocabulary.
    pub fn with_context(mut self, context: &[u32]) -> Result<Self, TokenizerError> {
        for &id in context {
            self.push(id)?;
        }
        self.bytes = Bytes::new(LeadingSpace::Keep);
        Ok(self)
    }

    /// Takes a token and gives the text that became certain, which may be empty.
    ///
    /// # Errors
    /// If the id lies outside the vocabulary; the stream is then as before.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        let piece = contribution(&*self.tokenizer, id, self.skip_special)?;
        self.held.extend(self.bytes.next(piece));
        Ok(self.take_complete())
    }

    /// Ends the text and gives what was held back, with U+FFFD for an unfinished character.
    #[must_use]
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        rest
    }

    /// Whether bytes of an unfinished character are held back.
    #[must_use]
    pub fn is_holding_back(&self) -> bool {
        !self.held.is_empty()
    }

    fn take_complete(&mut self) -> String {
        let mut text = String::with_capacity(self.held.len());
        let mut done = 0;
        while done < self.held.len() {
            match std::str::from_utf8(&self.held[done..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    done = self.held.len();
                }
                Err(broken) => {
                    let valid = done + broken.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.held[done..valid]));
                    done = valid;
                    match broken.error_len() {
                        Some(length) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            done += length;
                        }
                        None => break,
                    }
                }
            }
        }
        self.held.drain(..done);
        text
    }
}
