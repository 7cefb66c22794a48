//! How requests travel: times, limits, repetition, proxy.

use crate::secret::Secret;
use std::time::Duration;

/// How requests travel. The same for every kind of server; plain data.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// Waiting times.
    pub timeouts: Timeouts,
    /// Sizes.
    pub limits: Limits,
    /// Repetition of failed requests.
    pub retry: Retry,
    /// The way out.
    pub proxy: Proxy,
    /// Certificates (PEM) trusted besides those of the system.
    pub extra_certificates: Vec<String>,
    /// Headers added to every request to the server itself. Their values do not print. A header that the client sets
    /// anyway is refused.
    pub headers: Vec<(String, Secret)>,
    /// Replaces the name under which the client introduces itself.
    pub user_agent: Option<String>,
}

/// Waiting times. `None` waits without end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands; 10 s.
    pub connect: Option<Duration>,
    /// Longest silence: until the answer begins and between any two pieces of it; 120 s.
    pub read: Option<Duration>,
    /// A whole call, its repetitions and waits included; 600 s.
    pub total: Option<Duration>,
    /// As `total`, for a call whose answer is a stream; 3600 s.
    pub stream_total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Some(Duration::from_secs(10)),
            read: Some(Duration::from_secs(120)),
            total: Some(Duration::from_secs(600)),
            stream_total: Some(Duration::from_secs(3600)),
        }
    }
}

/// Sizes that an answer may have. An error names the limit that it broke. The head of an answer is limited as well, by
/// the HTTP library: about 400 KiB and 100 headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an answer that is not a stream; 64 MiB.
    pub max_answer_bytes: u64,
    /// Bytes of a whole stream; 1 GiB.
    pub max_stream_bytes: u64,
    /// Bytes of one line of a stream; 8 MiB.
    pub max_line_bytes: usize,
    /// Bytes of the data of one event of a stream; 16 MiB.
    pub max_event_bytes: usize,
    /// Redirects that are followed; 5.
    pub max_redirects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_answer_bytes: 64 << 20,
            max_stream_bytes: 1 << 30,
            max_line_bytes: 8 << 20,
            max_event_bytes: 16 << 20,
            max_redirects: 5,
        }
    }
}

/// Repetition of failed requests.
///
/// A request is repeated only where that is safe. One that changes nothing on the server is repeated after a broken or
/// refused connection, a silence, 429 and any 5xx. Any other, such as a generation, only when the server has surely
/// not begun: no connection came about, or it answered 429 or 503. A stream is never repeated once it has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Repetitions after the first attempt; 2.
    pub max_retries: u32,
    /// Wait before the first repetition; doubled for each further one; 500 ms. A random part, up to a half, is taken
    /// off, so that clients do not come back all at once.
    pub base_delay: Duration,
    /// Longest wait of our own choice; 8 s.
    pub max_delay: Duration,
    /// Longest wait that a server may ask for by `Retry-After`; 60 s. When it asks for more, its refusal is the result,
    /// and says for how long.
    pub max_retry_after: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            max_retries: 2,
            base_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(8),
            max_retry_after: Duration::from_secs(60),
        }
    }
}

/// The way out. A server on this machine is always reached directly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proxy {
    /// What the variables `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one for everything; the address may hold a user and a password.
    Url(Secret),
}
