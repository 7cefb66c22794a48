//! Ctrl-C: the first one asks to stop, the second one stops.

use crate::{INTERRUPTED, terminal};
use anyhow::Context;
use mx::Cancel;
use std::sync::{Arc, Mutex};

/// Connects Ctrl-C with the work that is under way.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    current: Arc<Mutex<Cancel>>,
}

impl Interrupt {
    /// Takes over Ctrl-C for the rest of the program.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let interrupt = Interrupt::default();
        let handler = interrupt.clone();
        ctrlc::set_handler(move || {
            let cancel = handler.current();
            if cancel.is_cancelled() {
                terminal::note("");
                std::process::exit(i32::from(INTERRUPTED));
            }
            cancel.cancel();
        })
        .context("cannot take over Ctrl-C")?;
        Ok(interrupt)
    }

    /// The flag that the next Ctrl-C sets.
    pub(crate) fn current(&self) -> Cancel {
        self.current
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// A fresh flag for new work.
    pub(crate) fn renew(&self) -> Cancel {
        let fresh = Cancel::new();
        *self
            .current
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = fresh.clone();
        fresh
    }
}
