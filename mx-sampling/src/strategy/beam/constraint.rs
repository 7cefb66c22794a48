//! What beams may say, as far as anything but the model is concerned.

/// What a beam may say next, as far as anything but the model is concerned: a grammar, a schema.
///
/// Every beam carries its own state. A beam ends only in an accepting state; one that may say nothing is
/// dropped.
pub trait BeamConstraint: Clone {
    /// Fills one bit per token, least significant first, 1 = allowed. Returns `false`, leaving `words` alone,
    /// when everything is allowed.
    fn mask(&mut self, words: &mut [u32]) -> bool;
    /// Follows a token. End tokens are not passed here.
    fn advance(&mut self, token: u32);
    /// Whether the text may end here.
    fn is_accepting(&self) -> bool;
    /// Whether any text ends by itself, so that [`finishes`](Self::finishes) must be asked.
    fn may_finish(&self) -> bool {
        false
    }
    /// Whether the text ends by itself with this token, as with a stop text: the hypothesis is finished, whatever the
    /// model would say next. Where the state behind it is not accepting or phrases are missing, it counts as cut off.
    fn finishes(&mut self, token: u32) -> bool {
        let _ = token;
        false
    }
}

/// The constraint that allows everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unconstrained;

impl BeamConstraint for Unconstrained {
    fn mask(&mut self, _: &mut [u32]) -> bool {
        false
    }

    fn advance(&mut self, _: u32) {}

    fn is_accepting(&self) -> bool {
        true
    }
}
