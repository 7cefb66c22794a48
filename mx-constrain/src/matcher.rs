//! Following one text through a constraint, token by token.

mod ahead;
mod history;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use ahead::WhyNot;
use history::History;

use crate::mask::{Engine, Position, Tokens};
use crate::{ConstrainError, Mask, Refusal, Vocabulary};

/// One text on its way through a [`Constraint`](crate::Constraint).
///
/// A step of generation is [`mask`](Self::mask) before the draw and [`commit`](Self::commit) behind it; or, cheaper, a
/// draw without a mask, [`allows`](Self::allows), and a mask only when the draw was refused. Cloning costs the same for
/// any length of text, so that beams and draft trees may branch anywhere; [`rollback`](Self::rollback) takes tokens
/// back.
pub struct Matcher {
    engine: Arc<Mutex<Engine>>,
    vocabulary: Vocabulary,
    at: Place,
    history: History,
    /// Words of the last mask that had to be put together, and what is in them.
    buffer: Vec<u32>,
    buffered: Option<Arc<Tokens>>,
    /// Keeps the last mask that could be handed out as it is.
    shared: Option<Arc<[u32]>>,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    position: Position,
    /// Whether a token that ends the text was committed.
    ended: bool,
}

impl Matcher {
    pub(crate) fn new(engine: Arc<Mutex<Engine>>, vocabulary: Vocabulary) -> Self {
        let position = lock(&engine).start();
        Self {
            engine,
            vocabulary,
            at: Place {
                position,
                ended: false,
            },
            history: History::default(),
            buffer: Vec::new(),
            buffered: None,
            shared: None,
        }
    }

    /// The tokens that may come next.
    ///
    /// A token is in the mask when the text can still be completed behind all of its bytes; a token that ends the text
    /// is in it when the text may end here; behind such a token nothing else is. The mask is empty only where the text
    /// must end and the vocabulary has no token to end it.
    ///
    /// The cost depends on whether some matcher of this constraint stood in the same state before: about 0.1 µs if so,
    /// else about 1 µs where text is free or nearly forced, and up to a walk over part of the vocabulary in states with
    /// large and irregular languages.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub fn mask(&mut self) -> Result<Mask<'_>, ConstrainError> {
        let vocab = self.vocabulary.len();
        if self.at.ended {
            self.buffer.clear();
            self.buffer.resize(self.vocabulary.mask_words(), 0);
            self.buffered = None;
            for &token in self.vocabulary.eos() {
                self.buffer[token as usize / 32] |= 1 << (token % 32);
            }
            return Ok(Mask::new(&self.buffer, self.vocabulary.eos().len(), vocab));
        }
        let tokens = lock(&self.engine).mask(self.at.position)?;
        let count = tokens.count;
        if let (Some(base), true) = (&tokens.base, tokens.extras.is_empty()) {
            let words = &**self.shared.insert(Arc::clone(base));
            return Ok(Mask::new(words, count, vocab));
        }
        self.fill(tokens);
        Ok(Mask::new(&self.buffer, count, vocab))
    }

    fn fill(&mut self, tokens: Arc<Tokens>) {
        match (&self.buffered, &tokens.base) {
            (Some(old), _) if Arc::ptr_eq(old, &tokens) => return,
            (Some(old), None) if old.base.is_none() => {
                for &token in &old.extras {
                    self.buffer[token as usize / 32] = 0;
                }
            }
            (_, None) => {
                self.buffer.clear();
                self.buffer.resize(self.vocabulary.mask_words(), 0);
            }
            (_, Some(base)) => {
                self.buffer.clear();
                self.buffer.extend_from_slice(base);
            }
        }
        for &token in &tokens.extras {
            self.buffer[token as usize / 32] |= 1 << (token % 32);
        }
        self.buffered = Some(tokens);
    }

    /// Whether a token may come next. Makes no mask: the cost is that of its bytes.
    ///
    /// # Errors
    /// [`ConstrainError::NoSuchToken`]; [`ConstrainError::Limit`].
    pub fn allows(&self, token: u32) -> Result<bool, ConstrainError> {
        Ok(self.try_token(token)?.is_ok())
    }

    /// Adds a token to the text.
    ///
    /// # Errors
    /// [`ConstrainError::TokenRefused`] when the constraint does not allow the token here; the matcher stays where it
    /// was. [`ConstrainError::NoSuchToken`]; [`ConstrainError::Limit`].
    pub fn commit(&mut self, token: u32) -> Result<(), ConstrainError> {
        match self.try_token(token)? {
            Ok(place) => {
                self.history.push(self.at);
                self.at = place;
                Ok(())
            }
            Err(()) => Err(ConstrainError::TokenRefused {
                token,
                refusal: self.refusal(token)?,
            }),
        }
    }

    /// Adds tokens to the text until one is refused, and tells how many were added: the accepted part of a draft.
    ///
    /// # Errors
    /// [`ConstrainError::NoSuchToken`]; [`ConstrainError::Limit`].
    pub fn commit_while_allowed(&mut self, tokens: &[u32]) -> Result<usize, ConstrainError> {
        for (added, &token) in tokens.iter().enumerate() {
            match self.try_token(token)? {
                Ok(place) => {
                    self.history.push(self.at);
                    self.at = place;
                }
                Err(()) => return Ok(added),
            }
        }
        Ok(tokens.len())
    }

    /// Adds bytes to the text that came from elsewhere: a prefix that the prompt already holds, say. They count as one
    /// token for [`rollback`](Self::rollback). Tells whether they were allowed; if not, the matcher stays where it was.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub fn commit_bytes(&mut self, bytes: &[u8]) -> Result<bool, ConstrainError> {
        if self.at.ended {
            return Ok(bytes.is_empty());
        }
        match lock(&self.engine).feed(self.at.position, bytes)? {
            Ok(position) => {
                self.history.push(self.at);
                self.at = Place {
                    position,
                    ended: false,
                };
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    fn try_token(&self, token: u32) -> Result<Result<Place, ()>, ConstrainError> {
        let vocab = self.vocabulary.len();
        if token as usize >= vocab {
            return Err(ConstrainError::NoSuchToken { token, vocab });
        }
        if self.vocabulary.is_eos(token) {
            let ends = self.at.ended || lock(&self.engine).accepting(self.at.position)?;
            return Ok(if ends {
                Ok(Place {
                    ended: true,
                    ..self.at
                })
            } else {
                Err(())
            });
        }
        let bytes = self.vocabulary.raw_bytes(token);
        if self.at.ended || bytes.is_empty() {
            return Ok(Err(()));
        }
        let fed = lock(&self.engine).feed(self.at.position, bytes)?;
        Ok(fed
            .map(|position| Place {
                position,
                ended: false,
            })
            .map_err(|_| ()))
    }

    /// Takes the last `tokens` tokens back, in time proportional to their number.
    ///
    /// # Errors
    /// [`ConstrainError::RollbackTooFar`] when fewer were committed; the matcher stays where it was.
    pub fn rollback(&mut self, tokens: usize) -> Result<(), ConstrainError> {
        let committed = self.history.len();
        if tokens > committed {
            return Err(ConstrainError::RollbackTooFar {
                given: tokens,
                committed,
            });
        }
        for _ in 0..tokens {
            if let Some(place) = self.history.pop() {
                self.at = place;
            }
        }
        Ok(())
    }

    /// Takes everything back.
    pub fn reset(&mut self) {
        while let Some(place) = self.history.pop() {
            self.at = place;
        }
    }

    /// Number of tokens in the text.
    #[must_use]
    pub fn committed(&self) -> usize {
        self.history.len()
    }

    /// Whether the text may end here: it satisfies the constraint as it is.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub fn is_accepting(&self) -> Result<bool, ConstrainError> {
        Ok(self.at.ended || lock(&self.engine).accepting(self.at.position)?)
    }

    /// Whether the text must end here: it satisfies the constraint and no byte can follow.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub fn must_stop(&self) -> Result<bool, ConstrainError> {
        if self.at.ended {
            return Ok(true);
        }
        let mut engine = lock(&self.engine);
        Ok(engine.accepting(self.at.position)? && engine.live(self.at.position)?.is_empty())
    }

    /// Whether a token that ends the text was committed.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.at.ended
    }

    /// The vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn refusal(&self, token: u32) -> Result<Refusal, ConstrainError> {
        Ok(self
            .why_not(token)?
            .map(|why| why.refusal)
            .unwrap_or_default())
    }
}

impl Clone for Matcher {
    /// A second matcher at the same place, in constant time. What the clone does later does not touch this one.
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            vocabulary: self.vocabulary.clone(),
            at: self.at,
            history: self.history.clone(),
            buffer: Vec::new(),
            buffered: None,
            shared: None,
        }
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("committed", &self.committed())
            .field("ended", &self.at.ended)
            .finish_non_exhaustive()
    }
}

/// The engine. A thread that panicked while it held the lock left tables that are at worst incomplete.
fn lock(engine: &Mutex<Engine>) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}
