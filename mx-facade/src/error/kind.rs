//! What errors mean outside: exit code of the program, HTTP status of a server.

use super::Error;
#[cfg(feature = "local")]
use mx_runtime::{
    engine::{EngineError, cpu::CpuError},
    error::LoadError,
    source::SourceError,
};
use mx_steering::SteeringError;

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
            Error::Steering(SteeringError::Cancelled) | Error::Cancelled => ErrorKind::Cancelled,
            Error::Steering(_) | Error::SteeringFile(_) | Error::VectorStore(_) => {
                ErrorKind::InvalidRequest
            }
            Error::PolicyStore(_) | Error::Trace(_) => ErrorKind::InvalidRequest,
            Error::Sandbox(_) | Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Remote(error) => remote_kind(error),
            Error::NoModel => ErrorKind::ModelNotFound,
            Error::PromptTooLong { .. } => ErrorKind::ContextOverflow,
            Error::Sampling(error) if error.is_parameter() => ErrorKind::InvalidRequest,
            Error::Sampling(_) => ErrorKind::Sampling,
            #[cfg(feature = "local")]
            Error::Template(_) | Error::Tokenizer(_) => ErrorKind::InvalidRequest,
            #[cfg(feature = "local")]
            Error::Source(error) => source_kind(error),
            #[cfg(feature = "local")]
            Error::Load(error) => load_kind(error),
            #[cfg(feature = "local")]
            Error::Engine(error) => engine_kind(error),
        }
    }
}

#[cfg(feature = "local")]
fn load_kind(error: &LoadError) -> ErrorKind {
    match error {
        LoadError::Io { .. } => ErrorKind::ModelNotFound,
        LoadError::Device(_) => ErrorKind::Device,
        LoadError::CpuDevice { .. } => ErrorKind::InvalidRequest,
        LoadError::Cpu(CpuError::Limit {
            what: "threads", ..
        }) => ErrorKind::InvalidRequest,
        LoadError::Cpu(_) => ErrorKind::Unsupported,
        _ => ErrorKind::InvalidModel,
    }
}

#[cfg(feature = "local")]
fn engine_kind(error: &EngineError) -> ErrorKind {
    match error {
        EngineError::Cancelled => ErrorKind::Cancelled,
        EngineError::ContextFull { .. } => ErrorKind::ContextOverflow,
        EngineError::Device { .. } => ErrorKind::Device,
        _ => ErrorKind::InvalidRequest,
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

#[cfg(feature = "local")]
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
