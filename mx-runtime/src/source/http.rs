//! An HTTPS client that does not hang, does not leak its token, and leaves no global state.

use std::future::Future;
use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::blocking::{Client, Response};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION, RANGE};
use reqwest::redirect::Policy;

use super::error::Cause;
use super::{Options, Progress, SourceError};

const MAX_REDIRECTS: usize = 10;
const USER_AGENT: &str = concat!("mx-runtime/", env!("CARGO_PKG_VERSION"));

/// A client of one endpoint.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    endpoint: Url,
    token: Option<HeaderValue>,
    answer_timeout: Duration,
    stall_timeout: Duration,
    min_bytes: u64,
}

/// What one read of a body brought.
pub(super) enum Piece {
    Data(usize),
    /// Nothing for [`Options::answer_timeout`]; more may come.
    Quiet,
    End,
    Broken(Cause),
}

impl Http {
    pub(super) fn new(options: &Options) -> Result<Self, SourceError> {
        let endpoint = parse_endpoint(&options.hub_endpoint)?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls_config()?)
            .user_agent(USER_AGENT)
            .redirect(Policy::none())
            .dns_resolver(Arc::new(ThreadResolver))
            .connect_timeout(options.answer_timeout)
            .timeout(options.answer_timeout);
        if is_loopback(&endpoint) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| SourceError::Client {
            source: Box::new(e),
        })?;
        let token =
            options.hub_token.as_ref().map(|token| {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                    .map_err(|_| SourceError::BadOption {
                        option: "HF_TOKEN",
                        given: "…".into(),
                        wanted: "visible ASCII characters",
                    })?;
                value.set_sensitive(true);
                Ok::<_, SourceError>(value)
            });
        Ok(Self {
            client,
            endpoint,
            token: token.transpose()?,
            answer_timeout: options.answer_timeout,
            stall_timeout: options.stall_timeout,
            min_bytes: options.limits.min_bytes,
        })
    }

    /// An address below the endpoint; every segment is escaped.
    pub(super) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Asks for `url` from byte `from` on, and follows redirects. The token goes to the endpoint only.
    pub(super) fn get(&self, url: &Url, from: u64) -> Result<Response, SourceError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.client.get(url.clone());
            if let Some(token) = self
                .token
                .as_ref()
                .filter(|_| url.origin() == self.endpoint.origin())
            {
                request = request.header(AUTHORIZATION, token.clone());
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let response = request.send().map_err(|e| self.no_answer(&url, e))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            url = self.next(&url, &response)?;
        }
        Err(SourceError::BadAnswer {
            url: shown(&url),
            reason: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }

    /// Reads a short body whole.
    pub(super) fn read_short(
        &self,
        mut response: Response,
        limit: (u64, &'static str),
        progress: &dyn Progress,
    ) -> Result<Vec<u8>, SourceError> {
        let url = shown(response.url());
        let (begun, mut body, mut buffer) = (Instant::now(), Vec::new(), vec![0; 64 * 1024]);
        loop {
            if progress.cancelled() {
                return Err(SourceError::Cancelled);
            }
            let piece = read_piece(&mut response, &mut buffer);
            match piece {
                Piece::Data(n) => body.extend_from_slice(&buffer[..n]),
                Piece::Quiet => {}
                Piece::End => return Ok(body),
                Piece::Broken(source) => return Err(SourceError::Network { url, source }),
            }
            if body.len() as u64 > limit.0 {
                let given = body.len() as u64;
                return Err(SourceError::TooLarge {
                    what: url,
                    given,
                    limit: limit.0,
                    limit_name: limit.1,
                });
            }
            // The whole of a short body has the time that a long one has for its next few bytes.
            if begun.elapsed() > self.stall_timeout || matches!(piece, Piece::Quiet) {
                let (got, after, min_bytes) = (body.len() as u64, begun.elapsed(), self.min_bytes);
                return Err(SourceError::Stalled {
                    url,
                    got,
                    min_bytes,
                    after,
                });
            }
        }
    }

    pub(super) fn patience(&self) -> (Duration, u64) {
        (self.stall_timeout, self.min_bytes)
    }

    fn next(&self, url: &Url, response: &Response) -> Result<Url, SourceError> {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|l| l.to_str().ok());
        redirected(url, location, self.endpoint.scheme() == "http").map_err(|reason| {
            SourceError::BadAnswer {
                url: shown(url),
                reason,
            }
        })
    }

    fn no_answer(&self, url: &Url, error: reqwest::Error) -> SourceError {
        if error.is_timeout() {
            return SourceError::NoAnswer {
                url: shown(url),
                after: self.answer_timeout,
            };
        }
        SourceError::Network {
            url: shown(url),
            source: Box::new(error.without_url()),
        }
    }
}

/// An address without what may be secret: user, query and fragment.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Where a redirect leads. From https it never leads to a plain connection.
fn redirected(url: &Url, location: Option<&str>, plain_allowed: bool) -> Result<Url, String> {
    let location = location.ok_or("a redirect without a readable address")?;
    let mut next = url
        .join(location)
        .map_err(|_| "a redirect to something that is no address")?;
    match next.scheme() {
        "https" => {}
        "http" if plain_allowed => {}
        other => return Err(format!("a redirect from {} to {other}", url.scheme())),
    }
    if next
        .set_username("")
        .and_then(|()| next.set_password(None))
        .is_err()
    {
        return Err("a redirect to an address without a host".into());
    }
    Ok(next)
}

pub(super) fn read_piece(response: &mut Response, buffer: &mut [u8]) -> Piece {
    match response.read(buffer) {
        Ok(0) => Piece::End,
        Ok(n) => Piece::Data(n),
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Piece::Data(0),
        Err(e) => {
            let timed_out = e
                .get_ref()
                .and_then(|e| e.downcast_ref::<reqwest::Error>())
                .is_some_and(|e| e.is_timeout());
            if timed_out {
                Piece::Quiet
            } else {
                Piece::Broken(Box::new(e))
            }
        }
    }
}

fn parse_endpoint(text: &str) -> Result<Url, SourceError> {
    let bad = || SourceError::BadOption {
        option: "HF_ENDPOINT",
        given: text.into(),
        wanted: "an http or https address",
    };
    let url = Url::parse(text).map_err(|_| bad())?;
    let usable =
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none();
    if usable { Ok(url) } else { Err(bad()) }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// What reqwest would build itself, but with our own cryptography instead of a process-wide default.
fn tls_config() -> Result<rustls::ClientConfig, SourceError> {
    let failed = |e: rustls::Error| SourceError::Client {
        source: Box::new(e),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new(provider.clone()).map_err(failed)?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Looks names up on a thread of its own. On the client's threads an unanswered lookup would make dropping the client
/// wait for the system's own, much longer, timeout.
struct ThreadResolver;

#[derive(Default)]
struct LookupState {
    result: Option<std::io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

struct Lookup(Arc<Mutex<LookupState>>);

impl Resolve for ThreadResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let state = Arc::new(Mutex::new(LookupState::default()));
        let (theirs, host) = (Arc::clone(&state), name.as_str().to_string());
        let thread = thread::Builder::new()
            .name("mx-name-lookup".into())
            .spawn(move || {
                let result = (host.as_str(), 0).to_socket_addrs().map(Iterator::collect);
                let mut state = theirs.lock().unwrap_or_else(PoisonError::into_inner);
                state.result = Some(result);
                if let Some(waker) = state.waker.take() {
                    waker.wake();
                }
            });
        if let Err(error) = thread {
            state.lock().unwrap_or_else(PoisonError::into_inner).result = Some(Err(error));
        }
        Box::pin(Lookup(state))
    }
}

impl Future for Lookup {
    type Output = Result<Addrs, Cause>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.result.take() {
            Some(Ok(addresses)) => Poll::Ready(Ok(Box::new(addresses.into_iter()))),
            Some(Err(error)) => Poll::Ready(Err(Box::new(error))),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn endpoints() {
        for bad in [
            "",
            "hub",
            "ftp://x",
            "file:///x",
            "http://",
            "https://h/?q=1",
        ] {
            assert!(
                matches!(parse_endpoint(bad), Err(SourceError::BadOption { .. })),
                "{bad:?}"
            );
        }
        assert!(is_loopback(
            &parse_endpoint("http://127.0.0.1:1/x").unwrap()
        ));
        assert!(is_loopback(&parse_endpoint("http://[::1]").unwrap()));
        assert!(!is_loopback(
            &parse_endpoint("https://example.org").unwrap()
        ));
    }

    #[test]
    fn addresses_are_escaped_and_shown_without_secrets() {
        let options = Options {
            hub_endpoint: "http://localhost:1/mirror/".into(),
            ..Options::default()
        };
        let http = Http::new(&options).unwrap();
        let url = http.url(&["api", "org", "re?po", "refs/pr/1", "..", "ü"]);
        assert_eq!(
            url.as_str(),
            "http://localhost:1/mirror/api/org/re%3Fpo/refs%2Fpr%2F1/%C3%BC"
        );
        let secret = Url::parse("https://u:p@h/x?Signature=s#f").unwrap();
        assert_eq!(shown(&secret), "https://h/x");
    }

    #[test]
    fn redirects_do_not_leave_https() {
        let from = Url::parse("https://hub/a/b").unwrap();
        let to =
            |location: &str, plain| redirected(&from, Some(location), plain).map(|u| u.to_string());
        assert_eq!(to("/c?x=1", false).unwrap(), "https://hub/c?x=1");
        assert_eq!(to("https://u:p@cdn/x", false).unwrap(), "https://cdn/x");
        assert_eq!(to("http://cdn/x", true).unwrap(), "http://cdn/x");
        for bad in [
            "http://cdn/x",
            "file:///etc/passwd",
            "ftp://x",
            "data:,x",
            "https://",
        ] {
            assert!(to(bad, false).is_err(), "{bad}");
        }
        assert!(to("file:///etc/passwd", true).is_err());
        assert!(redirected(&from, None, true).is_err());
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_not_printed() {
        let token = Some(super::super::Secret::new("se\ncret"));
        let error = Http::new(&Options {
            hub_token: token,
            ..Options::default()
        })
        .unwrap_err();
        assert!(!format!("{error:?} {error}").contains("cret"), "{error}");
    }
}
