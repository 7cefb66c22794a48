//! Stopping an answer from elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that stops an answer, from any thread. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Cancel::default()
    }

    /// Sets the flag.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "local")]
impl From<mx_runtime::session::Cancel> for Cancel {
    fn from(cancel: mx_runtime::session::Cancel) -> Self {
        Cancel(cancel.into())
    }
}

#[cfg(feature = "local")]
impl From<Cancel> for mx_runtime::session::Cancel {
    fn from(cancel: Cancel) -> Self {
        cancel.0.into()
    }
}

impl From<Cancel> for mx_remote::Cancel {
    fn from(cancel: Cancel) -> Self {
        cancel.0.into()
    }
}
