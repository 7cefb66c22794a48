//! What can go wrong between a request and its answer.

use crate::secret::clean;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of a server's message that an error keeps.
pub const MAX_MESSAGE_BYTES: usize = 2048;

/// An error below the surface of another one.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// The first six are answers of the server, divided as the vendor's own client divides them; each holds a [`Failure`].
/// Texts that come from a server are bounded and cleaned of secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server does not accept the credentials (401).
    #[error("authentication failed: {0}")]
    Authentication(Box<Failure>),
    /// The account's balance does not suffice (402).
    #[error("insufficient credits: {0}")]
    InsufficientCredits(Box<Failure>),
    /// The server has no such thing (404).
    #[error("resource not found: {0}")]
    NotFound(Box<Failure>),
    /// The server finds the request malformed (422).
    #[error("validation error: {0}")]
    Validation(Box<Failure>),
    /// Too many requests (429).
    #[error("rate limit exceeded: {0}")]
    RateLimit(Box<Failure>),
    /// Any other refusal, or a failure that the server reports within its answer.
    #[error("the server failed: {0}")]
    Api(Box<Failure>),

    /// The server could not be reached, or the connection broke.
    #[error("cannot reach {url}: {}", innermost(&**source))]
    Connection {
        /// The address asked, without query.
        url: String,
        /// Whether the request may have reached the server.
        begun: bool,
        /// The reason.
        source: Cause,
    },
    /// The server's certificate is not trusted, so that nothing was sent.
    #[error("{url} is not trusted: {}", innermost(&**source))]
    Untrusted {
        /// The address asked, without query.
        url: String,
        /// The reason.
        source: Cause,
    },
    /// A waiting time of [`Timeouts`](crate::Timeouts) is over.
    #[error("{url}: no answer within {:.1} s ({limit})", after.as_secs_f64())]
    Timeout {
        /// The address asked, without query.
        url: String,
        /// The field of the timeouts.
        limit: &'static str,
        /// Its value.
        after: Duration,
    },
    /// The answer ended before it was complete.
    #[error("{url} broke off after {got} bytes of its answer: {reason}")]
    Cut {
        /// The address asked, without query.
        url: String,
        /// Bytes received.
        got: u64,
        /// How it ended.
        reason: String,
    },
    /// More bytes than a limit of [`Limits`](crate::Limits) allows.
    #[error("{what} has at least {given} bytes, limit {limit_name} is {limit}")]
    TooLarge {
        /// The answer, line or event.
        what: String,
        /// Bytes announced or already read.
        given: u64,
        /// The limit's value.
        limit: u64,
        /// The limit's name.
        limit_name: &'static str,
    },
    /// The server answered with something that cannot be used.
    #[error("{url} answered with something unusable: {reason}")]
    BadAnswer {
        /// The address asked, without query.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server sent the request elsewhere, where it may not go.
    #[error("{url} redirects to {to}, which is not followed: {reason}")]
    Redirect {
        /// The address asked, without query.
        url: String,
        /// Where it led, without query.
        to: String,
        /// The rule against it.
        reason: &'static str,
    },
    /// The caller's [`Cancel`](crate::Cancel) asked to stop.
    #[error("cancelled")]
    Cancelled,

    /// There is neither a key nor a session, and the request needs one.
    #[error("{path} needs credentials: give a key, set MECHANEX_API_KEY, or log in")]
    MissingCredentials {
        /// The path that was to be asked.
        path: String,
    },
    /// An option's value makes no sense.
    #[error("{option} is {given:?}, wanted {wanted}")]
    BadOption {
        /// The option's or variable's name.
        option: &'static str,
        /// Its value.
        given: String,
        /// What would be accepted.
        wanted: &'static str,
    },
    /// A field of a request holds what no server could take.
    #[error("{field} is {given}, wanted {wanted}")]
    BadRequest {
        /// The field, as a path of names.
        field: String,
        /// Its value.
        given: String,
        /// What would be accepted.
        wanted: String,
    },
    /// The kind of server cannot honour a field. Nothing was sent.
    #[error("{server} cannot honour {field}: {reason}")]
    Unsupported {
        /// The field, by the name it has in the request.
        field: &'static str,
        /// The kind of server.
        server: &'static str,
        /// Why, and what to do instead where there is something.
        reason: &'static str,
    },
    /// The model is not among those that the server offers.
    #[error("the server offers no model {given:?}; it has {}", known.join(", "))]
    UnknownModel {
        /// The name given.
        given: String,
        /// The names offered, a bounded number.
        known: Vec<String>,
    },
    /// The credentials file could not be read or written.
    #[error("cannot {action} the credentials file {}: {source}", path.display())]
    Store {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The client could not be set up (no trusted certificates, for instance).
    #[error("cannot set up the HTTP client: {source}")]
    Client {
        /// The reason.
        source: Cause,
    },
    /// `wait` in async code, which would stop its whole thread. `await` the call there, or wait on a thread for
    /// blocking work.
    #[error("a blocking call in async code; await the call instead")]
    BlockingInAsync,
    /// A call was awaited without a tokio runtime. Use `wait` there.
    #[error("no tokio runtime to run the call on; wait for the call instead")]
    NoRuntime,
}

/// What a server said when it refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Failure {
    /// The HTTP status; absent when the failure stood in the middle of a stream.
    pub status: Option<u16>,
    /// The address asked, without query.
    pub url: String,
    /// The server's message, at most [`MAX_MESSAGE_BYTES`] of it, without secrets.
    pub message: String,
    /// The fields it complains about (422).
    pub fields: Vec<FieldProblem>,
    /// The server's own code or type of the error.
    pub code: Option<String>,
    /// The server's name of the request.
    pub request_id: Option<String>,
    /// When to come back, from now.
    pub retry_after: Option<Duration>,
}

/// One complaint about a field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field, as names and indices joined by dots.
    pub field: String,
    /// The complaint.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.message.is_empty() {
            "no message"
        } else {
            &self.message
        })?;
        for FieldProblem { field, message } in &self.fields {
            write!(f, "; {field}: {message}")?;
        }
        f.write_str(" [")?;
        if let Some(status) = self.status {
            write!(f, "{status} from ")?;
        }
        f.write_str(&self.url)?;
        if let Some(id) = &self.request_id {
            write!(f, ", request {id}")?;
        }
        if let Some(after) = self.retry_after {
            write!(f, ", come back in {:.1} s", after.as_secs_f64())?;
        }
        f.write_str("]")
    }
}

impl Error {
    /// The server's refusal, where the error is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Error::Authentication(f)
            | Error::InsufficientCredits(f)
            | Error::NotFound(f)
            | Error::Validation(f)
            | Error::RateLimit(f)
            | Error::Api(f) => Some(f),
            _ => None,
        }
    }

    /// The HTTP status of the refusal.
    pub fn status(&self) -> Option<u16> {
        self.failure().and_then(|f| f.status)
    }

    /// The server's name of the request, to be given to its people.
    pub fn request_id(&self) -> Option<&str> {
        self.failure().and_then(|f| f.request_id.as_deref())
    }

    /// When the server wants the request again, from now.
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure().and_then(|f| f.retry_after)
    }

    /// Whether the same request may succeed later with nothing changed here. The client has then repeated it already
    /// where that was safe.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::RateLimit(_)
            | Error::Connection { .. }
            | Error::Timeout { .. }
            | Error::Cut { .. } => true,
            Error::Api(f) => f.status.is_some_and(|s| s == 408 || s >= 500),
            _ => false,
        }
    }

    /// Whether a waiting time was over.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Error::Timeout { .. }) || matches!(self.status(), Some(408 | 504))
    }

    /// Whether the server could not be reached, or not within the waiting times: it did not refuse.
    pub fn is_connection(&self) -> bool {
        matches!(
            self,
            Error::Connection { .. } | Error::Timeout { .. } | Error::Cut { .. }
        )
    }

    /// Whether the caller asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Error::Cancelled)
    }

    /// Whether the request itself was refused here, before anything was sent.
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Error::BadRequest { .. } | Error::Unsupported { .. } | Error::UnknownModel { .. }
        )
    }

    /// The name of the error class of the vendor's own client for this case.
    pub fn vendor_kind(&self) -> &'static str {
        match self {
            Error::Authentication(_) | Error::MissingCredentials { .. } => "AuthenticationError",
            Error::InsufficientCredits(_) => "InsufficientCreditsError",
            Error::NotFound(_) => "NotFoundError",
            Error::Validation(_) | Error::BadRequest { .. } => "ValidationError",
            Error::RateLimit(_) => "RateLimitError",
            Error::Api(_)
            | Error::Connection { .. }
            | Error::Untrusted { .. }
            | Error::Timeout { .. }
            | Error::Cut { .. }
            | Error::TooLarge { .. }
            | Error::BadAnswer { .. }
            | Error::Redirect { .. } => "APIError",
            _ => "MechanexError",
        }
    }

    /// The error of a refusal, by its status.
    pub(crate) fn refused(failure: Failure) -> Self {
        let kind = match failure.status {
            Some(401) => Error::Authentication,
            Some(402) => Error::InsufficientCredits,
            Some(404) => Error::NotFound,
            Some(422) => Error::Validation,
            Some(429) => Error::RateLimit,
            _ => Error::Api,
        };
        kind(Box::new(failure))
    }

    /// An unusable answer; whatever of it the reason quotes is cleaned.
    pub(crate) fn bad_answer(url: &str, reason: impl fmt::Display) -> Self {
        Error::BadAnswer {
            url: url.to_owned(),
            reason: clean(&reason.to_string(), &[], MAX_MESSAGE_BYTES),
        }
    }

    pub(crate) fn bad_request(
        field: impl Into<String>,
        given: impl fmt::Display,
        wanted: &str,
    ) -> Self {
        Error::BadRequest {
            field: field.into(),
            given: given.to_string(),
            wanted: wanted.to_owned(),
        }
    }
}

/// HTTP libraries say "error sending request" first and the reason last.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Error {
        Error::refused(Failure {
            status: Some(status),
            url: "http://h/p".into(),
            message: "no".into(),
            request_id: Some("r1".into()),
            ..Failure::default()
        })
    }

    #[test]
    fn statuses_have_the_vendors_kinds() {
        let kinds = [
            (
                401,
                "AuthenticationError",
                "authentication failed: no [401 from http://h/p, request r1]",
            ),
            (402, "InsufficientCreditsError", "insufficient credits: "),
            (404, "NotFoundError", "resource not found: "),
            (422, "ValidationError", "validation error: "),
            (429, "RateLimitError", "rate limit exceeded: "),
            (403, "APIError", "the server failed: "),
            (500, "APIError", "the server failed: "),
        ];
        for (status, kind, text) in kinds {
            let error = refused(status);
            assert_eq!((error.status(), error.vendor_kind()), (Some(status), kind));
            assert!(error.to_string().starts_with(text), "{error}");
            assert_eq!(error.request_id(), Some("r1"));
        }
        assert!(
            refused(503).is_retryable()
                && refused(429).is_retryable()
                && !refused(403).is_retryable()
        );
        assert!(refused(504).is_timeout() && !refused(500).is_timeout());
    }
}
