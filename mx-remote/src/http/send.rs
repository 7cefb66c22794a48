//! Sending a request: credentials, redirects, repetition, refresh of the session.

use super::answer::{Got, Want};
use super::{Ask, Net, redirect, retry, shown};
use crate::cancel::{Cancel, Stopped, guard};
use crate::credentials::{Picked, Session};
use crate::error::{Error, Result};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, Url};
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A server as one call sees it: with the call's times and its cancel flag.
pub(crate) struct Conn {
    pub(crate) net: Arc<Net>,
    pub(crate) http: reqwest::Client,
    pub(crate) cancel: Cancel,
    pub(crate) read_timeout: Option<Duration>,
    /// When all must be over, the time given for it, and the limit's name.
    pub(crate) total: Option<(Instant, Duration, &'static str)>,
}

#[derive(Deserialize)]
struct Refreshed {
    session: Option<Session>,
}

impl Conn {
    /// Sends a request until it succeeds or must not be repeated.
    pub(super) async fn send(&self, ask: &Ask, want: Want) -> Result<Got> {
        let mut attempt = 0;
        let mut refreshed = false;
        loop {
            let picked = self.net.keys.pick(ask)?;
            let error = match self.once(ask, picked.as_ref()).await {
                Ok(response) if response.status().is_success() => {
                    match self.take(response, want).await {
                        Ok(got) => return Ok(got),
                        Err(error) => error,
                    }
                }
                Ok(response) => self.refusal(response).await,
                Err(error) => error,
            };
            if let (Error::Authentication(_), Some(token), false) =
                (&error, picked.and_then(|p| p.session_token), refreshed)
                && self.net.keys.can_refresh()
            {
                refreshed = true;
                // A session that cannot be renewed leaves the refusal as it was.
                match Box::pin(self.refresh(&token)).await {
                    Ok(()) => continue,
                    Err(Error::Authentication(_)) => return Err(error),
                    Err(other) => return Err(other),
                }
            }
            let Some(wait) = retry::delay(&error, ask.repeat, attempt, &self.net.transport.retry)
            else {
                return Err(error);
            };
            // A wait that cannot end in time is no wait.
            let ends = Instant::now().checked_add(wait);
            if self
                .total
                .is_some_and(|(at, ..)| ends.is_none_or(|ends| ends >= at))
            {
                return Err(error);
            }
            attempt += 1;
            guard(tokio::time::sleep(wait), &self.cancel, None)
                .await
                .map_err(|_| Error::Cancelled)?;
        }
    }

    /// Renews the session in which `token` was refused. When another call has done so meanwhile, its session serves.
    async fn refresh(&self, token: &crate::Secret) -> Result<()> {
        let url = shown(&self.net.base);
        let _one_at_a_time = guard(
            self.net.keys.refreshing.lock(),
            &self.cancel,
            self.deadline(),
        )
        .await
        .map_err(|end| stopped(end, &url, self.read_timeout, self.total))?;
        let Some(refresh_token) = self.net.keys.refresh_token_after(token) else {
            return Ok(());
        };
        let ask = crate::axionic::refresh(&refresh_token)?;
        let answer: Refreshed = self.json(&ask).await?;
        match answer.session {
            Some(session) => {
                self.net.keys.set_session(session);
                Ok(())
            }
            None => Err(Error::bad_answer(
                &shown(&self.net.url(&ask)),
                "no new session",
            )),
        }
    }

    /// Sends a request once, through all redirects.
    async fn once(&self, ask: &Ask, picked: Option<&Picked>) -> Result<Response> {
        let mut url = self.net.url(ask);
        for _ in 0..=self.net.transport.limits.max_redirects {
            let request = self.request(ask, &url, picked);
            let deadline = self.deadline();
            let waited = guard(self.http.execute(request), &self.cancel, deadline).await;
            let response = match waited {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(self.no_answer(&url, error)),
                Err(end) => return Err(stopped(end, &shown(&url), self.read_timeout, self.total)),
            };
            match redirect::next(&ask.method, &url, &response)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(Error::Redirect {
            url: shown(&self.net.url(ask)),
            to: shown(&url),
            reason: "there are more of them than max_redirects",
        })
    }

    fn request(&self, ask: &Ask, url: &Url, picked: Option<&Picked>) -> reqwest::Request {
        let mut request = reqwest::Request::new(ask.method.clone(), url.clone());
        let headers = request.headers_mut();
        let accept = if ask.stream {
            "text/event-stream, application/json"
        } else {
            "application/json"
        };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if ask.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        // What is meant for the server goes nowhere else.
        if url.origin() == self.net.base.origin() {
            for (name, value) in &self.net.headers {
                headers.append(name, value.clone());
            }
            if let Some(picked) = picked {
                headers.insert(picked.header.clone(), picked.value.clone());
            }
        }
        *request.body_mut() = ask.body.clone().map(Into::into);
        request
    }

    fn deadline(&self) -> Option<Instant> {
        let silence = self
            .read_timeout
            .and_then(|t| Instant::now().checked_add(t));
        silence
            .into_iter()
            .chain(self.total.map(|(at, ..)| at))
            .min()
    }

    fn no_answer(&self, url: &Url, error: reqwest::Error) -> Error {
        let url = shown(url);
        if error.is_connect() && error.is_timeout() {
            let after = self.net.transport.timeouts.connect.unwrap_or_default();
            return Error::Timeout {
                url,
                limit: "connect",
                after,
            };
        }
        if let Some(parse) = cause::<hyper::Error>(&error).filter(|e| e.is_parse()) {
            return Error::bad_answer(&url, format!("no HTTP answer: {parse}"));
        }
        if is_certificate(&error) {
            let source = Box::new(error.without_url());
            return Error::Untrusted { url, source };
        }
        Error::Connection {
            url,
            begun: !error.is_connect(),
            source: Box::new(error.without_url()),
        }
    }
}

pub(super) fn stopped(
    stopped: Stopped,
    url: &str,
    read: Option<Duration>,
    total: Option<(Instant, Duration, &'static str)>,
) -> Error {
    if stopped == Stopped::Cancelled {
        return Error::Cancelled;
    }
    let (limit, after) = match (total, read) {
        (Some((at, after, name)), _) if Instant::now() >= at => (name, after),
        (_, Some(read)) => ("read", read),
        (total, None) => (
            "total",
            total.map(|(_, after, _)| after).unwrap_or_default(),
        ),
    };
    Error::Timeout {
        url: url.to_owned(),
        limit,
        after,
    }
}

/// The innermost reason of a failure of the HTTP library; the outer ones say little.
pub(super) fn reason(error: &reqwest::Error) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn cause<T: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// Whether a certificate is the reason.
fn is_certificate(error: &reqwest::Error) -> bool {
    chain(error).any(|error| {
        let mut error = error;
        // What an I/O error wraps is not its source, and may be one again.
        while let Some(inner) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            error = inner;
        }
        matches!(
            error.downcast_ref(),
            Some(rustls::Error::InvalidCertificate(_))
        )
    })
}

/// An error and its sources, outermost first.
fn chain<'a>(
    error: &'a reqwest::Error,
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| {
        error.source()
    })
}
