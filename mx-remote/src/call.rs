//! A call that is ready to be made: awaited, or waited for.

use crate::blocking::has_runtime;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::http::{Ask, Auth, Conn, Net};
use crate::secret::REDACTED;
use crate::stream::{BlockingEvents, Events};
use serde_json::Value;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A future of a call, as `.await` makes it.
pub type CallFuture<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Fields of the requests that open or renew a session.
const SECRET_FIELDS: &[&str] = &["password", "refresh_token"];

/// A request that was not sent yet.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Preview {
    /// Its method.
    pub method: String,
    /// Its path below the server's address.
    pub path: String,
    /// Its query.
    pub query: Vec<(String, String)>,
    /// Its body, if it has one.
    pub body: Option<Value>,
}

type Run<T> = Box<dyn FnOnce(Conn) -> CallFuture<T> + Send>;

/// A call that is ready to be made. Nothing happens before it is awaited (in async code) or
/// [waited for](Call::wait) (elsewhere). A request that makes no sense fails there, too, and nothing is sent.
#[must_use = "a call is made only when it is awaited or waited for"]
pub struct Call<T> {
    net: Arc<Net>,
    cancel: Cancel,
    total: Option<Duration>,
    limit_name: &'static str,
    /// The request of a call that consists of one.
    pub(crate) ask: Option<Arc<Ask>>,
    run: Run<T>,
}

impl<T: Send + 'static> Call<T> {
    /// A call of one request.
    pub(crate) fn one<F>(
        net: &Arc<Net>,
        ask: Result<Ask>,
        then: impl FnOnce(Conn, Arc<Ask>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        match ask {
            Err(error) => Call::many(net, |_| async { Err(error) }),
            Ok(ask) => {
                let ask = Arc::new(ask);
                let mut call = Call::many(net, {
                    let ask = Arc::clone(&ask);
                    |conn| then(conn, ask)
                });
                if ask.stream {
                    call.total = net.transport.timeouts.stream_total;
                    call.limit_name = "stream_total";
                }
                call.ask = Some(ask);
                call
            }
        }
    }

    /// A call of several requests in a row.
    pub(crate) fn many<F>(net: &Arc<Net>, run: impl FnOnce(Conn) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Call {
            net: Arc::clone(net),
            cancel: Cancel::never(),
            total: net.transport.timeouts.total,
            limit_name: "total",
            ask: None,
            run: Box::new(|conn| Box::pin(run(conn))),
        }
    }

    /// What would be sent, if the call is one request and that makes sense. Secrets in it are replaced.
    pub fn preview(&self) -> Option<Preview> {
        let ask = self.ask.as_ref()?;
        let mut body: Option<Value> = ask
            .body
            .as_ref()
            .and_then(|body| serde_json::from_slice(body).ok());
        if ask.auth == Auth::None
            && let Some(Value::Object(fields)) = &mut body
        {
            for name in SECRET_FIELDS {
                if let Some(value) = fields.get_mut(*name) {
                    *value = REDACTED.into();
                }
            }
        }
        Some(Preview {
            method: ask.method.to_string(),
            path: ask.shown_path(),
            query: ask
                .query
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            body,
        })
    }

    /// Stops the call when the flag or question says so.
    pub fn cancel(mut self, cancel: impl Into<Cancel>) -> Self {
        self.cancel = cancel.into();
        self
    }

    /// Replaces the [total time](crate::Timeouts) of this call.
    pub fn timeout(mut self, total: Duration) -> Self {
        self.total = Some(total);
        self
    }

    /// Makes the call on the caller's tokio runtime. The same as `.await`.
    ///
    /// # Errors
    ///
    /// [`Error::NoRuntime`] outside of one; what the call itself can fail with.
    pub async fn send(self) -> Result<T> {
        if !has_runtime() {
            return Err(Error::NoRuntime);
        }
        let http = self.net.http();
        self.start(http).await
    }

    /// Makes the call and waits for its end. Connections live on a runtime on this thread; the only threads that are
    /// started look up names, where the server's address is one.
    ///
    /// # Errors
    ///
    /// [`Error::BlockingInAsync`] in async code; what the call itself can fail with.
    pub fn wait(self) -> Result<T> {
        let blocking = self.net.blocking()?;
        blocking.run(async { self.start(blocking.http.clone()).await })?
    }

    fn start(self, http: reqwest::Client) -> CallFuture<T> {
        let total = self
            .total
            .and_then(|t| Some((Instant::now().checked_add(t)?, t, self.limit_name)));
        let conn = Conn {
            read_timeout: self.net.transport.timeouts.read,
            net: self.net,
            http,
            cancel: self.cancel,
            total,
        };
        (self.run)(conn)
    }
}

impl<T: Send + 'static> IntoFuture for Call<T> {
    type Output = Result<T>;
    type IntoFuture = CallFuture<T>;

    fn into_future(self) -> CallFuture<T> {
        Box::pin(self.send())
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body may hold a password.
        let request = self
            .ask
            .as_ref()
            .map(|a| format!("{} {}", a.method, a.shown_path()));
        f.debug_struct("Call")
            .field("request", &request.unwrap_or_else(|| "…".to_owned()))
            .field("cancel", &self.cancel)
            .field("total", &self.total)
            .finish()
    }
}

/// A call whose answer is a stream. Awaiting or waiting opens the stream.
#[derive(Debug)]
#[must_use = "a call is made only when it is awaited or waited for"]
pub struct StreamCall<E>(pub(crate) Call<Events<E>>);

impl<E: Send + 'static> StreamCall<E> {
    /// What would be sent, as [`Call::preview`].
    pub fn preview(&self) -> Option<Preview> {
        self.0.preview()
    }

    /// Stops the call or its stream when the flag or question says so.
    pub fn cancel(self, cancel: impl Into<Cancel>) -> Self {
        StreamCall(self.0.cancel(cancel))
    }

    /// Replaces the [total time](crate::Timeouts) of this call and its stream.
    pub fn timeout(self, total: Duration) -> Self {
        StreamCall(self.0.timeout(total))
    }

    /// Opens the stream on the caller's tokio runtime. The same as `.await`.
    ///
    /// # Errors
    ///
    /// As for [`Call::send`].
    pub async fn send(self) -> Result<Events<E>> {
        self.0.send().await
    }

    /// Opens the stream as an iterator.
    ///
    /// # Errors
    ///
    /// As for [`Call::wait`].
    pub fn wait(self) -> Result<BlockingEvents<E>> {
        let blocking = self.0.net.blocking()?;
        let events = self.0.wait()?;
        Ok(BlockingEvents::new(events, blocking))
    }
}

impl<E: Send + 'static> IntoFuture for StreamCall<E> {
    type Output = Result<Events<E>>;
    type IntoFuture = CallFuture<Events<E>>;

    fn into_future(self) -> Self::IntoFuture {
        self.0.into_future()
    }
}
