//! What keeps a trace from being read or carried out.

use std::path::PathBuf;

/// A trace that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than [`Limits`](super::Limits) allow.
    #[error("the trace has {given} bytes or more, the limit bytes allows {limit}")]
    TooLarge {
        /// Its size, as far as it was read.
        given: u64,
        /// The limit.
        limit: u64,
    },
    /// More entries than [`Limits`](super::Limits) allow.
    #[error("the trace has {given} {what}, the limit {limit_name} allows {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        given: usize,
        /// Name of the limit.
        limit_name: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The text is not JSON, or not that of a trace.
    #[error("no trace: {0}")]
    Json(#[from] serde_json::Error),
    /// A trace of another version of the format.
    #[error("the trace has version {given}, wanted {wanted}: record it again with this version")]
    Version {
        /// Its version.
        given: u64,
        /// The version that this program reads.
        wanted: u32,
    },
    /// There is no such step.
    #[error("step {given} does not exist: the trace has {steps} steps, counted from 0")]
    NoSuchStep {
        /// The step asked for.
        given: usize,
        /// How many there are.
        steps: usize,
    },
    /// The token asked for does not exist.
    #[error("{given:?} is no single token of the model: {wanted}")]
    NoSuchToken {
        /// What was given.
        given: String,
        /// What is wanted.
        wanted: String,
    },
    /// The run did not come to the step that was asked about.
    #[error(
        "the repeated run ended before step {step}: it differs from the trace; see mx trace replay"
    )]
    NotReached {
        /// The step asked for.
        step: usize,
    },
}
