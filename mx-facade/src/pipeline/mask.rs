//! Where constraints plug in.

use crate::error::Error;

/// Allows or forbids tokens at each step.
///
/// Only [`mask`](TokenMask::mask) and [`commit`](TokenMask::commit) must be written. A mask that also
/// [forks](TokenMask::fork) works with several outputs, beam search, and drafts of a second model.
pub trait TokenMask: Send {
    /// The tokens allowed next, as bit words over the vocabulary (least significant bit first, 1 = allowed);
    /// `None` allows all.
    ///
    /// # Errors
    /// Whatever keeps the constraint from going on.
    fn mask(&mut self) -> Result<Option<&[u32]>, Error>;

    /// Records the token that was chosen, one that ends the text included.
    ///
    /// # Errors
    /// When the token is not allowed.
    fn commit(&mut self, token: u32) -> Result<(), Error>;

    /// Whether one token is allowed next.
    ///
    /// # Errors
    /// As [`mask`](TokenMask::mask).
    fn allows(&mut self, token: u32) -> Result<bool, Error> {
        let allowed = self.mask()?.is_none_or(|words| {
            words
                .get(token as usize / 32)
                .is_some_and(|word| word >> (token % 32) & 1 == 1)
        });
        Ok(allowed)
    }

    /// Whether the text may end here.
    ///
    /// # Errors
    /// As [`mask`](TokenMask::mask).
    fn is_accepting(&mut self) -> Result<bool, Error> {
        Ok(true)
    }

    /// Whether the text must end here: nothing but an end token is allowed.
    ///
    /// # Errors
    /// As [`mask`](TokenMask::mask).
    fn is_complete(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Why a token may not come next, for people; `None` where it may, or where there is nothing to say.
    ///
    /// # Errors
    /// As [`mask`](TokenMask::mask).
    fn why_not(&mut self, token: u32) -> Result<Option<String>, Error> {
        let _ = token;
        Ok(None)
    }

    /// Tokens that come next without a choice, in order; they are taken without asking the model. They are not committed
    /// yet. Empty where there is a choice.
    ///
    /// # Errors
    /// As [`mask`](TokenMask::mask).
    fn forced(&mut self) -> Result<Vec<u32>, Error> {
        Ok(Vec::new())
    }

    /// An independent copy in the same state.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the mask can be copied.
    fn fork(&self) -> Result<Box<dyn TokenMask>, Error> {
        Err(Error::unsupported(
            "a token mask with more than one row",
            "this mask cannot be forked",
        ))
    }
}
