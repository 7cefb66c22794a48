//! One error, and one table of what it means outside: exit code and HTTP status.

mod kind;

pub use kind::ErrorKind;

use crate::policy::{PolicyStoreError, SandboxError};
use mx_constrain::ConstrainError;
use mx_sampling::SamplingError;
use mx_steering::SteeringError;
use mx_steering::format::FormatError;
use mx_steering::store::StoreError;

#[cfg(feature = "local")]
use mx_runtime::{
    engine::EngineError, error::LoadError, source::SourceError, template::TemplateError,
    tokenizer::TokenizerError,
};

/// Anything that keeps a request from being answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the request has a value that cannot be used.
    #[error("{field} is {given}, wanted {wanted}")]
    Request {
        /// The field, as the request spells it.
        field: String,
        /// Its value.
        given: String,
        /// What would be accepted.
        wanted: String,
    },
    /// The request names a field that does not exist.
    #[error("field {field} is unknown")]
    UnknownField {
        /// The field.
        field: String,
    },
    /// Something that exists but is not built into this version or program.
    #[error("{what} is not supported: {reason}")]
    Unsupported {
        /// The field or value.
        what: String,
        /// Why.
        reason: String,
    },
    /// The client has neither a key nor a model.
    #[error(
        "no model: name one with Client::builder().model(…), or set a key for remote execution"
    )]
    NoModel,
    /// The prompt does not fit the model.
    #[error("prompt has {tokens} tokens, the model's context holds {limit}{}", hint(*.limit))]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// The model's context.
        limit: usize,
    },
    /// A prompt without a token, for a model that has no token to begin with.
    #[error("prompt is empty, and the model has no token to begin with")]
    EmptyPrompt,
    /// A model cannot be found or fetched.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A model cannot be loaded.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The chat template cannot render the messages.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Text cannot be turned into tokens, or back.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A sampling parameter or a row of logits.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A constraint that cannot be compiled, or that exceeds a limit on the way.
    #[error(transparent)]
    Constrain(#[from] ConstrainError),
    /// A steering vector that cannot be made or does not fit.
    #[error(transparent)]
    Steering(#[from] SteeringError),
    /// A file of a steering vector.
    #[error(transparent)]
    SteeringFile(#[from] FormatError),
    /// The store of steering vectors.
    #[error(transparent)]
    VectorStore(#[from] StoreError),
    /// A trace that cannot be read or carried out.
    #[error(transparent)]
    Trace(#[from] crate::trace::TraceError),
    /// The store of policies.
    #[error(transparent)]
    PolicyStore(#[from] PolicyStoreError),
    /// Generated code that is to be run and cannot be.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A server.
    #[error(transparent)]
    Remote(#[from] mx_remote::Error),
    /// The engine.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The caller asked to stop before anything was produced.
    #[error("cancelled")]
    Cancelled,
}

fn hint(limit: usize) -> &'static str {
    if limit == 0 {
        ""
    } else {
        "; shorten it, or set on_overflow to truncate_prompt"
    }
}

impl Error {
    pub(crate) fn request(
        field: &str,
        given: impl std::fmt::Display,
        wanted: impl Into<String>,
    ) -> Self {
        Error::Request {
            field: field.to_owned(),
            given: given.to_string(),
            wanted: wanted.into(),
        }
    }

    pub(crate) fn unsupported(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Unsupported {
            what: what.into(),
            reason: reason.into(),
        }
    }
}
