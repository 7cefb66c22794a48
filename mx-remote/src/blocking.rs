//! The runtime behind blocking calls.

use crate::error::{Error, Result};
use std::future::Future;
use std::task::{Context, Poll, Waker};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::coop::poll_proceed;

/// Threads for name lookups, which the operating system offers in blocking form only. They start with the first name
/// that must be looked up, and end when idle.
const LOOKUP_THREADS: usize = 4;
/// Turns that the connections get around a call.
const TURNS: usize = 4;
/// A task's budget is a byte.
const MORE_THAN_ANY_BUDGET: usize = 300;

/// A runtime on the caller's own thread, and the client whose connections live on it.
pub(crate) struct Blocking {
    runtime: Option<Runtime>,
    pub(crate) http: reqwest::Client,
}

impl Blocking {
    pub(crate) fn new(http: reqwest::Client) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKUP_THREADS)
            .build()
            .map_err(|e| Error::Client {
                source: Box::new(e),
            })?;
        Ok(Blocking {
            runtime: Some(runtime),
            http,
        })
    }

    /// Runs a future to its end on this thread.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        let Some(runtime) = self.runtime.as_ref().filter(|_| !inside_async()) else {
            return Err(Error::BlockingInAsync);
        };
        Ok(runtime.block_on(async {
            // Connections move only while a call runs. They first learn what happened to them since the last one, and
            // at the end that theirs is no longer wanted.
            turns().await;
            let result = future.await;
            turns().await;
            result
        }))
    }

    /// Lets the connections notice that nobody reads them any more.
    pub(crate) fn settle(&self) {
        let _ = self.run(async {});
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        // Waits for nothing, and is allowed everywhere.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether there is a tokio runtime to run a call on.
pub(crate) fn has_runtime() -> bool {
    Handle::try_current().is_ok()
}

/// Whether this thread is just running async code, where waiting is not allowed. A thread that a runtime keeps for
/// blocking work has a runtime, too, and may wait; what tells them apart is that async code works on a budget.
fn inside_async() -> bool {
    if !has_runtime() {
        return false;
    }
    let mut context = Context::from_waker(Waker::noop());
    let mut taken = Vec::new();
    let limited = (0..MORE_THAN_ANY_BUDGET).any(|_| match poll_proceed(&mut context) {
        Poll::Ready(restore) => {
            taken.push(restore);
            false
        }
        Poll::Pending => true,
    });
    // Each gives back what it found, so the first one goes last.
    while taken.pop().is_some() {}
    limited
}

async fn turns() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}
