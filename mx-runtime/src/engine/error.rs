//! Errors of a step.

use crate::hooks::HookError;

/// A step that cannot be made. No sequence has changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The sequence would become longer than the model's context.
    #[error(
        "context is full: {used} tokens are there, {wanted} more are wanted, the model holds {limit}"
    )]
    ContextFull {
        /// Tokens in the sequence.
        used: usize,
        /// Tokens to append.
        wanted: usize,
        /// The model's context.
        limit: usize,
    },
    /// A token that the model does not have.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A row without tokens.
    #[error("row {row} appends no token, wanted at least one")]
    EmptyRow {
        /// The row.
        row: usize,
    },
    /// A sequence that another engine made.
    #[error("the sequence of row {row} belongs to another engine")]
    ForeignSequence {
        /// The row.
        row: usize,
    },
    /// Hooks that do not fit the model.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A closure hook gave back another shape.
    #[error("hook at {point} returned shape {given:?}, wanted {wanted:?}")]
    HookShape {
        /// The hook point.
        point: crate::hooks::HookPoint,
        /// Shape returned.
        given: Vec<usize>,
        /// Shape passed in.
        wanted: Vec<usize>,
    },
    /// The device failed.
    #[error("device {device} failed: {reason}")]
    Device {
        /// The device.
        device: String,
        /// What it says.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}
