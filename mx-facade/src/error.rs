//! One error, and one table of what it means outside: exit code and HTTP status.

use crate::policy::{PolicyStoreError, SandboxError};
use mx_constrain::ConstrainError;
use mx_runtime::engine::EngineError;
use mx_runtime::engine::cpu::CpuError;
use mx_runtime::error::LoadError;
use mx_runtime::source::SourceError;
use mx_runtime::template::TemplateError;
use mx_runtime::tokenizer::TokenizerError;
use mx_sampling::SamplingError;
use mx_steering::SteeringError;
use mx_steering::format::FormatError;
use mx_steering::store::StoreError;

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
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A model cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The chat template cannot render the messages.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Text cannot be turned into tokens, or back.
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

/// What an error means to someone who must react to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong and would be wrong again.
    InvalidRequest,
    /// The prompt does not fit the model.
    ContextOverflow,
    /// The request asks for what this version or build does not have.
    Unsupported,
    /// No such model.
    ModelNotFound,
    /// No source of the model can be reached.
    SourceUnreachable,
    /// The model's files are damaged or of an unknown kind.
    InvalidModel,
    /// The device is missing or failed.
    Device,
    /// The logits left nothing to choose from, or were no numbers.
    Sampling,
    /// A server does not accept the key, or there is none.
    Unauthorized,
    /// A server wants fewer requests.
    RateLimited,
    /// A server cannot be reached, or failed.
    Remote,
    /// The caller asked to stop.
    Cancelled,
}

impl ErrorKind {
    /// Every kind, in the order of the table.
    pub const ALL: [ErrorKind; 12] = [
        ErrorKind::InvalidRequest,
        ErrorKind::ContextOverflow,
        ErrorKind::Unsupported,
        ErrorKind::ModelNotFound,
        ErrorKind::SourceUnreachable,
        ErrorKind::InvalidModel,
        ErrorKind::Device,
        ErrorKind::Sampling,
        ErrorKind::Unauthorized,
        ErrorKind::RateLimited,
        ErrorKind::Remote,
        ErrorKind::Cancelled,
    ];

    /// Exit code of the program. 0 is success, 1 any other failure.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::InvalidRequest => 2,
            ErrorKind::ModelNotFound => 3,
            ErrorKind::SourceUnreachable => 4,
            ErrorKind::InvalidModel => 5,
            ErrorKind::ContextOverflow => 6,
            ErrorKind::Unsupported => 7,
            ErrorKind::Device => 8,
            ErrorKind::Sampling => 9,
            ErrorKind::Unauthorized => 10,
            ErrorKind::RateLimited => 11,
            ErrorKind::Remote => 12,
            ErrorKind::Cancelled => 130,
        }
    }

    /// HTTP status of a server's answer.
    pub fn http_status(self) -> u16 {
        match self {
            ErrorKind::InvalidRequest => 422,
            ErrorKind::ContextOverflow => 413,
            ErrorKind::Unsupported => 501,
            ErrorKind::ModelNotFound => 404,
            ErrorKind::SourceUnreachable | ErrorKind::Remote => 502,
            ErrorKind::Unauthorized => 401,
            ErrorKind::RateLimited => 429,
            ErrorKind::InvalidModel | ErrorKind::Device | ErrorKind::Sampling => 500,
            ErrorKind::Cancelled => 499,
        }
    }

    /// What it means, in a line.
    pub fn meaning(self) -> &'static str {
        match self {
            ErrorKind::InvalidRequest => "a parameter is wrong",
            ErrorKind::ContextOverflow => "the prompt does not fit the model",
            ErrorKind::Unsupported => "not in this version or build",
            ErrorKind::ModelNotFound => "no such model",
            ErrorKind::SourceUnreachable => "no source of the model can be reached",
            ErrorKind::InvalidModel => "the model's files cannot be used",
            ErrorKind::Device => "the device is missing or failed",
            ErrorKind::Sampling => "the logits left nothing to choose from",
            ErrorKind::Unauthorized => "a server does not accept the key",
            ErrorKind::RateLimited => "a server wants fewer requests",
            ErrorKind::Remote => "a server cannot be reached or failed",
            ErrorKind::Cancelled => "interrupted",
        }
    }
}

impl Error {
    /// What the error means to someone who must react to it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Request { .. } | Error::UnknownField { .. } | Error::EmptyPrompt => {
                ErrorKind::InvalidRequest
            }
            Error::Constrain(error) if error.is_input() || error.is_limit() => {
                ErrorKind::InvalidRequest
            }
            Error::Constrain(_) => ErrorKind::Sampling,
            Error::Steering(SteeringError::Cancelled) => ErrorKind::Cancelled,
            Error::Steering(_) | Error::SteeringFile(_) | Error::VectorStore(_) => {
                ErrorKind::InvalidRequest
            }
            Error::PolicyStore(_) => ErrorKind::InvalidRequest,
            Error::Sandbox(_) => ErrorKind::Unsupported,
            Error::Template(_) | Error::Tokenizer(_) | Error::Trace(_) => ErrorKind::InvalidRequest,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Remote(error) => remote_kind(error),
            Error::NoModel => ErrorKind::ModelNotFound,
            Error::PromptTooLong { .. } => ErrorKind::ContextOverflow,
            Error::Source(error) => source_kind(error),
            Error::Load(LoadError::Io { .. }) => ErrorKind::ModelNotFound,
            Error::Load(LoadError::Device(_)) => ErrorKind::Device,
            Error::Load(LoadError::CpuDevice { .. }) => ErrorKind::InvalidRequest,
            Error::Load(LoadError::Cpu(CpuError::Limit {
                what: "threads", ..
            })) => ErrorKind::InvalidRequest,
            Error::Load(LoadError::Cpu(_)) => ErrorKind::Unsupported,
            Error::Load(_) => ErrorKind::InvalidModel,
            Error::Sampling(error) if error.is_parameter() => ErrorKind::InvalidRequest,
            Error::Sampling(_) => ErrorKind::Sampling,
            Error::Engine(EngineError::Cancelled) | Error::Cancelled => ErrorKind::Cancelled,
            Error::Engine(EngineError::ContextFull { .. }) => ErrorKind::ContextOverflow,
            Error::Engine(EngineError::Device { .. }) => ErrorKind::Device,
            Error::Engine(_) => ErrorKind::InvalidRequest,
        }
    }

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

fn remote_kind(error: &mx_remote::Error) -> ErrorKind {
    use mx_remote::Error as R;
    match error {
        R::Cancelled => ErrorKind::Cancelled,
        R::Unsupported { .. } => ErrorKind::Unsupported,
        R::BadRequest { .. } | R::BadOption { .. } | R::Validation(_) => ErrorKind::InvalidRequest,
        R::UnknownModel { .. } => ErrorKind::ModelNotFound,
        R::Authentication(_) | R::MissingCredentials { .. } | R::InsufficientCredits(_) => {
            ErrorKind::Unauthorized
        }
        R::RateLimit(_) => ErrorKind::RateLimited,
        _ => ErrorKind::Remote,
    }
}

fn source_kind(error: &SourceError) -> ErrorKind {
    use SourceError as S;
    match error {
        S::Cancelled => ErrorKind::Cancelled,
        S::BadReference { .. } | S::Ambiguous { .. } | S::BadOption { .. } => {
            ErrorKind::InvalidRequest
        }
        S::NoSuchPath { .. }
        | S::UnknownName { .. }
        | S::NotAModel { .. }
        | S::NoSuchFile { .. }
        | S::Offline { .. } => ErrorKind::ModelNotFound,
        S::SizeMismatch { .. }
        | S::ChecksumMismatch { .. }
        | S::Manifest { .. }
        | S::Package { .. } => ErrorKind::InvalidModel,
        _ => ErrorKind::SourceUnreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_its_own_exit_code_and_an_error_status() {
        let codes: HashSet<u8> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
        for kind in ErrorKind::ALL {
            assert!(kind.exit_code() > 1);
            assert!((400..600).contains(&kind.http_status()));
        }
    }
}
