//! Stopping a call that is under way.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// How often a flag is looked at while a call waits.
pub const CANCEL_INTERVAL: Duration = Duration::from_millis(25);
/// Stands for "no deadline" in a timer that needs one.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// Tells a call to stop: a flag or a question that the caller hands in. It is looked at every
/// [`CANCEL_INTERVAL`] while the call waits. Dropping the future of a call stops it too.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
///
/// let flag = Arc::new(AtomicBool::new(false));
/// let cancel = mx_remote::Cancel::from(Arc::clone(&flag));
/// assert!(!cancel.is_cancelled());
/// flag.store(true, Ordering::Relaxed);
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Cancel {
    /// Never stops.
    pub fn never() -> Self {
        Cancel(None)
    }

    /// Stops when the closure answers `true`. It is called often and should be quick.
    pub fn when(stop: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Cancel(Some(Arc::new(stop)))
    }

    /// Whether to stop now.
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|stop| stop())
    }
}

impl From<Arc<AtomicBool>> for Cancel {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Cancel::when(move || flag.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_none() {
            "Cancel(never)"
        } else {
            "Cancel(when …)"
        })
    }
}

/// Why a wait ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    Cancelled,
    Late,
}

/// Wakes a waiting task for its cancel flag and its deadline.
#[derive(Debug)]
pub(crate) struct Watch {
    cancel: Cancel,
    deadline: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

impl Watch {
    pub(crate) fn new(cancel: Cancel, deadline: Option<Instant>) -> Self {
        let mut watch = Watch {
            cancel,
            deadline,
            sleep: Box::pin(sleep_until(Instant::now())),
        };
        watch.rearm();
        watch
    }

    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        // A flag's timer rings anyway and takes the new deadline then.
        if self.cancel.0.is_none() {
            self.rearm();
        }
    }

    /// Ready when the wait is to end.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Stopped> {
        loop {
            if self.cancel.is_cancelled() {
                return Poll::Ready(Stopped::Cancelled);
            }
            if self.deadline.is_some_and(|d| Instant::now() >= d) {
                return Poll::Ready(Stopped::Late);
            }
            if self.sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.rearm();
        }
    }

    fn rearm(&mut self) {
        let now = Instant::now();
        let mut next = self.deadline.unwrap_or(now + FAR);
        if self.cancel.0.is_some() {
            next = next.min(now + CANCEL_INTERVAL);
        }
        self.sleep.as_mut().reset(next);
    }
}

/// Waits for a future, a flag or a deadline, whichever comes first.
pub(crate) async fn guard<F: Future>(
    future: F,
    cancel: &Cancel,
    deadline: Option<Instant>,
) -> Result<F::Output, Stopped> {
    let mut future = pin!(future);
    let mut watch = Watch::new(cancel.clone(), deadline);
    std::future::poll_fn(|context| match watch.poll(context) {
        Poll::Ready(stopped) => Poll::Ready(Err(stopped)),
        Poll::Pending => future.as_mut().poll(context).map(Ok),
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn a_wait_ends_by_flag_deadline_or_result() {
        let flag = Arc::new(AtomicBool::new(false));
        let (cancel, never) = (Cancel::from(Arc::clone(&flag)), std::future::pending::<()>);
        block_on(async {
            assert_eq!(guard(async { 7 }, &cancel, None).await, Ok(7));
            let soon = Some(Instant::now() + Duration::from_millis(40));
            assert_eq!(guard(never(), &cancel, soon).await, Err(Stopped::Late));
            assert_eq!(
                guard(never(), &Cancel::never(), soon).await,
                Err(Stopped::Late)
            );
        });
        let begun = std::time::Instant::now();
        let thread = std::thread::spawn({
            let flag = Arc::clone(&flag);
            move || flag.store(true, Ordering::Relaxed)
        });
        let ended = block_on(guard(never(), &cancel, None));
        assert_eq!(ended, Err(Stopped::Cancelled));
        assert!(begun.elapsed() < Duration::from_secs(5));
        thread.join().unwrap();
        // A flag that is set already wins over a result that is there already.
        assert_eq!(
            block_on(guard(async { 7 }, &cancel, None)),
            Err(Stopped::Cancelled)
        );
    }
}
