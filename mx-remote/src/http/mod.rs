//! One server: its address, its keys, and the clients that reach it.

mod answer;
mod body;
mod redirect;
mod retry;
mod send;
mod tls;

pub(crate) use answer::{Opened, failure, parse};
pub(crate) use body::BodyReader;
pub(crate) use send::Conn;

use crate::blocking::Blocking;
use crate::check::finite;
use crate::credentials::Keyring;
use crate::error::{Error, Result};
use crate::options::{Proxy, Transport};
use crate::secret::{Secret, cut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

const USER_AGENT: &str = concat!("mx-remote/", env!("CARGO_PKG_VERSION"));
/// Headers that the client sets itself.
const OWN_HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "user-agent",
    "x-api-key",
];

/// Which credential a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    /// None, even if there is one.
    None,
    /// A path of the account: the session if there is one, else the key.
    Account,
    /// Any other path: the key if there is one, else the session.
    Service,
}

/// Whether a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or changes it to the same.
    Safe,
    /// Only when the server has surely not begun.
    IfNotBegun,
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) auth: Auth,
    pub(crate) repeat: Repeat,
    pub(crate) stream: bool,
    /// Whether the path is taken from above the last part of the base address.
    pub(crate) above: bool,
}

impl Ask {
    /// A reading request. The path is its segments; what is variable in it is checked by [`segment`].
    pub(crate) fn get(path: &[&str]) -> Self {
        Ask::new(Method::GET, path, Repeat::Safe)
    }

    pub(crate) fn post(path: &[&str], body: &impl Serialize) -> Result<Self> {
        let mut ask = Ask::new(Method::POST, path, Repeat::IfNotBegun);
        ask.body = Some(json(body)?);
        Ok(ask)
    }

    pub(crate) fn new(method: Method, path: &[&str], repeat: Repeat) -> Self {
        Ask {
            method,
            path: path.iter().map(|s| (*s).to_owned()).collect(),
            query: Vec::new(),
            body: None,
            auth: Auth::Service,
            repeat,
            stream: false,
            above: false,
        }
    }

    pub(crate) fn with_auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    pub(crate) fn repeatable(mut self) -> Self {
        self.repeat = Repeat::Safe;
        self
    }

    pub(crate) fn above(mut self) -> Self {
        self.above = true;
        self
    }

    pub(crate) fn streamed(mut self) -> Self {
        self.stream = true;
        self
    }

    pub(crate) fn shown_path(&self) -> String {
        format!("/{}", self.path.join("/"))
    }
}

/// The body of a request.
pub(crate) fn json(body: &impl Serialize) -> Result<Vec<u8>> {
    finite(body)?;
    serde_json::to_vec(body)
        .map_err(|e| Error::bad_request("request", e, "data that JSON can hold"))
}

/// Checks a variable part of a path, which must not change the path around it.
pub(crate) fn segment<'a>(field: &'static str, text: &'a str) -> Result<&'a str> {
    const LONGEST: usize = 1024;
    if text.is_empty() || text == "." || text == ".." || text.len() > LONGEST {
        let given = format!("{:?}", cut(text, 40));
        return Err(Error::bad_request(
            field,
            given,
            "a name of 1 to 1024 bytes other than . and ..",
        ));
    }
    Ok(text)
}

/// A server and what is needed to talk to it.
pub(crate) struct Net {
    pub(crate) base: Url,
    pub(crate) transport: Transport,
    pub(crate) keys: Keyring,
    headers: HeaderMap,
    http: reqwest::Client,
    blocking: Mutex<Option<Arc<Blocking>>>,
}

impl fmt::Debug for Net {
    /// The library's client would show its proxies, which may have passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("base", &shown(&self.base))
            .field("transport", &self.transport)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Net {
    pub(crate) fn new(base_url: &str, transport: Transport, keys: Keyring) -> Result<Arc<Self>> {
        let base = parse_base(base_url)?;
        let headers = own_headers(&transport.headers)?;
        let http = build(&base, &transport)?;
        Ok(Arc::new(Net {
            base,
            transport,
            keys,
            headers,
            http,
            blocking: Mutex::new(None),
        }))
    }

    pub(crate) fn http(&self) -> reqwest::Client {
        self.http.clone()
    }

    /// The runtime for blocking calls. Its connections are its own: one made on another runtime would stand still.
    pub(crate) fn blocking(&self) -> Result<Arc<Blocking>> {
        let mut slot = self.blocking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blocking) = slot.as_ref() {
            return Ok(Arc::clone(blocking));
        }
        let blocking = Arc::new(Blocking::new(build(&self.base, &self.transport)?)?);
        *slot = Some(Arc::clone(&blocking));
        Ok(blocking)
    }

    fn url(&self, ask: &Ask) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            if ask.above {
                path.pop();
            }
            path.extend(&ask.path);
        }
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        url
    }
}

/// An address without what may be secret: user, query and fragment.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

fn parse_base(text: &str) -> Result<Url> {
    let bad = |given: String| Error::BadOption {
        option: "base_url",
        given,
        wanted: "an http or https address without user, query and fragment",
    };
    let url = Url::parse(text).map_err(|_| bad(crate::secret::clean(text, &[], 200)))?;
    let usable = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if usable {
        Ok(url)
    } else {
        Err(bad(shown(&url)))
    }
}

fn own_headers(headers: &[(String, Secret)]) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = |wanted| Error::BadOption {
            option: "headers",
            given: cut(name, 60).to_owned(),
            wanted,
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("a header's name"))?;
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(bad("a header that the client does not set itself"));
        }
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|_| bad("a header whose value is visible ASCII"))?;
        value.set_sensitive(true);
        map.append(name, value);
    }
    Ok(map)
}

fn build(base: &Url, transport: &Transport) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::config(transport, base.scheme() == "https")?)
        .user_agent(transport.user_agent.as_deref().unwrap_or(USER_AGENT))
        .redirect(reqwest::redirect::Policy::none())
        // Repetition is decided here, where it is known what may be repeated.
        .retry(reqwest::retry::never());
    if let Some(connect) = transport.timeouts.connect {
        builder = builder.connect_timeout(connect);
    }
    match &transport.proxy {
        _ if is_loopback(base) => builder = builder.no_proxy(),
        Proxy::Environment => {}
        Proxy::Direct => builder = builder.no_proxy(),
        Proxy::Url(url) => {
            let proxy = reqwest::Proxy::all(url.expose()).map_err(|_| Error::BadOption {
                option: "proxy",
                given: url.to_string(),
                wanted: "an http or https address",
            })?;
            builder = builder.proxy(proxy);
        }
    }
    builder.build().map_err(|e| Error::Client {
        source: Box::new(e),
    })
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn net(base: &str, transport: Transport) -> Result<Arc<Net>> {
        Net::new(base, transport, Keyring::bearer(None))
    }

    #[test]
    fn addresses() {
        for bad in [
            "",
            "host",
            "ftp://h",
            "file:///x",
            "http://",
            "https://h/?q",
            "https://u:pw@h",
            "https://h/#f",
        ] {
            let error = net(bad, Transport::default()).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::BadOption {
                        option: "base_url",
                        ..
                    }
                ),
                "{bad}"
            );
            assert!(!error.to_string().contains("pw"), "{error}");
        }
        let net = net("http://localhost:1/a/", Transport::default()).unwrap();
        let mut ask = Ask::get(&["policies", "x/../?ü", "run"]);
        ask.query.push(("include_public", "true&x".into()));
        assert_eq!(
            net.url(&ask).as_str(),
            "http://localhost:1/a/policies/x%2F..%2F%3F%C3%BC/run?include_public=true%26x"
        );
        for bad in ["", ".", "..", &"x".repeat(2000)] {
            assert!(segment("policy_id", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        let with = |change: fn(&mut Transport)| {
            let mut transport = Transport::default();
            change(&mut transport);
            net("http://localhost:1", transport)
                .unwrap_err()
                .to_string()
        };
        let header = with(|t| t.headers = vec![("Authorization".into(), "s3cret".into())]);
        assert!(
            header.starts_with("headers is \"Authorization\""),
            "{header}"
        );
        assert!(with(|t| t.headers = vec![("a b".into(), "x".into())]).contains("a header's name"));
        let value = with(|t| t.headers = vec![("x-a".into(), "se\ncret".into())]);
        assert!(!value.contains("cret"), "{value}");
        assert!(
            with(|t| t.extra_certificates = vec!["none".into()]).contains("certificates as PEM")
        );
    }
}
