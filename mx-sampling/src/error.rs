//! Everything that can go wrong, with the value given and the value wanted.

use thiserror::Error;

/// Why a sampler could not be built or a row could not be sampled.
///
/// The variants fall into two groups: those a caller meets while building ([`is_parameter`]) and those
/// that depend on the logits of one step ([`is_row`]).
///
/// [`is_parameter`]: SamplingError::is_parameter
/// [`is_row`]: SamplingError::is_row
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// A parameter lies outside its range.
    #[error("{name} is {given}, but must be {range}")]
    OutOfRange {
        /// Name of the parameter, as in [`SamplingOptions`](crate::SamplingOptions).
        name: &'static str,
        /// The value that was given.
        given: f64,
        /// The accepted range in words, for example `in [0, 1]`.
        range: &'static str,
    },
    /// Two parameters cannot be active together.
    #[error("{first} and {second} cannot be combined: {reason}")]
    Exclusive {
        /// The one parameter.
        first: &'static str,
        /// The other parameter.
        second: &'static str,
        /// Why the two exclude each other.
        reason: &'static str,
    },
    /// A parameter needs another one that was not given.
    #[error("{name} needs {needs}, which was not given")]
    Missing {
        /// The parameter that was given.
        name: &'static str,
        /// The parameter it needs.
        needs: &'static str,
    },
    /// An explicit order has no place for a step that the options activate.
    #[error("{step} is active, but the given order does not list it")]
    NotInOrder {
        /// Name of the active step.
        step: &'static str,
    },
    /// A step appears twice in an explicit order.
    #[error("{step} stands twice in the given order")]
    TwiceInOrder {
        /// Name of the step.
        step: &'static str,
    },
    /// A step of an explicit order stands where it cannot work.
    #[error("{step} cannot stand there in the order: {reason}")]
    MisplacedInOrder {
        /// Name of the step.
        step: &'static str,
        /// What its place must be.
        reason: &'static str,
    },
    /// A name is not known.
    #[error("unknown {what} {given:?}, known are {known}")]
    UnknownName {
        /// What was named: a method, a step, an order.
        what: &'static str,
        /// The name that was given.
        given: String,
        /// All known names, separated by commas.
        known: String,
    },
    /// A token id is not in the vocabulary.
    #[error("{name} names token {token}, but the vocabulary has {vocab} tokens")]
    TokenOutOfRange {
        /// The parameter or argument that holds the id.
        name: &'static str,
        /// The token id.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A list that must hold something is empty.
    #[error("{name} must not be empty")]
    Empty {
        /// The parameter or argument.
        name: &'static str,
    },
    /// Two lengths that must agree differ.
    #[error("{name} has {given} entries, but must have {wanted}")]
    Length {
        /// The argument.
        name: &'static str,
        /// Its length.
        given: usize,
        /// The length it must have.
        wanted: usize,
    },
    /// A mask is too short for the vocabulary.
    #[error("the mask has {given} words of 32 bits, but {wanted} are needed")]
    MaskLength {
        /// Number of words given.
        given: usize,
        /// Number of words needed.
        wanted: usize,
    },
    /// A logit is NaN or +inf.
    #[error("the logit of token {token} is {value}, but must be finite or -inf")]
    InvalidLogits {
        /// The lowest such token id.
        token: u32,
        /// Its logit.
        value: f32,
    },
    /// A probability or weight is negative, NaN or infinite, or all are zero.
    #[error("{name} is {given} at index {index}, but must be {range}")]
    InvalidLaw {
        /// The argument.
        name: &'static str,
        /// Index of the entry.
        index: usize,
        /// The entry.
        given: f64,
        /// The accepted range in words.
        range: &'static str,
    },
    /// A law names a token twice.
    #[error("{name} names token {token} twice")]
    TokenTwice {
        /// The argument.
        name: &'static str,
        /// The token id.
        token: u32,
    },
    /// Every token is out: forbidden by the mask, by bans, or by the model itself.
    #[error("no token is left: all {vocab} logits are -inf after {after}")]
    NoCandidates {
        /// Size of the vocabulary.
        vocab: usize,
        /// The step that removed the last token.
        after: &'static str,
    },
    /// A forced token is forbidden by a mask or a ban.
    #[error("token {token} is forced at this position but forbidden by {by}")]
    ForcedTokenForbidden {
        /// The forced token.
        token: u32,
        /// What forbids it.
        by: &'static str,
    },
    /// A request to roll back to a length that was never reached.
    #[error("cannot roll back to {given} tokens, the history has {length}")]
    RollbackAhead {
        /// The length asked for.
        given: usize,
        /// Length of the history.
        length: usize,
    },
    /// A requirement cannot be met within the length that is left.
    #[error("the required phrases need {needed} tokens, but only {left} are left")]
    Infeasible {
        /// The least number of tokens needed.
        needed: usize,
        /// The number of tokens left.
        left: usize,
    },
}

impl SamplingError {
    /// Whether the cause is a parameter: the same call fails for every row.
    #[must_use]
    pub fn is_parameter(&self) -> bool {
        !self.is_row()
    }

    /// Whether the cause is the row of this step: its logits, its mask, or what the two leave over.
    #[must_use]
    pub fn is_row(&self) -> bool {
        matches!(
            self,
            Self::InvalidLogits { .. }
                | Self::NoCandidates { .. }
                | Self::MaskLength { .. }
                | Self::ForcedTokenForbidden { .. }
                | Self::InvalidLaw { .. }
                | Self::TokenTwice { .. }
        )
    }

    /// `Ok` when `accepted`, otherwise [`SamplingError::OutOfRange`].
    pub(crate) fn check(
        accepted: bool,
        name: &'static str,
        given: f64,
        range: &'static str,
    ) -> Result<(), Self> {
        if accepted {
            Ok(())
        } else {
            Err(Self::OutOfRange { name, given, range })
        }
    }

    /// [`SamplingError::UnknownName`] with the list of known names.
    pub(crate) fn unknown<'a>(
        what: &'static str,
        given: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        Self::UnknownName {
            what,
            given: given.to_owned(),
            known: known.join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_name_the_value_and_the_range() {
        let error = SamplingError::check(false, "top_p", 1.5, "in [0, 1]").unwrap_err();
        assert_eq!(error.to_string(), "top_p is 1.5, but must be in [0, 1]");
        assert!(error.is_parameter());
        let error = SamplingError::InvalidLogits {
            token: 3,
            value: f32::NAN,
        };
        assert!(error.is_row());
        assert!(error.to_string().contains("token 3 is NaN"));
    }
}
