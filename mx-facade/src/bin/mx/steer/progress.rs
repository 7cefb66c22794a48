//! How far long work has come, on stderr; Ctrl-C stops it.

use crate::terminal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mx::Cancel;
use mx::steer::make::Progress;
use std::io::{IsTerminal, stderr};
use std::ops::ControlFlow;

/// Lines that a work prints where stderr is no terminal.
const LINES: usize = 4;

/// A bar on a terminal, a few lines elsewhere, nothing when quiet.
pub(super) struct Told {
    what: &'static str,
    cancel: Cancel,
    bar: Option<ProgressBar>,
    lines: bool,
    /// Quarters of the work already told of.
    told: usize,
}

impl Told {
    pub(super) fn new(what: &'static str, quiet: bool, cancel: Cancel) -> Self {
        let bar = (!quiet && stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {eta} {msg}");
            let style = style.map(|style| style.progress_chars("=> "));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(what);
            bar
        });
        Told {
            what,
            cancel,
            lines: !quiet && bar.is_none(),
            bar,
            told: 0,
        }
    }

    /// What [`Watch`](mx::steer::make::Watch) is told.
    pub(super) fn step(&mut self, progress: Progress) -> ControlFlow<()> {
        let Progress { done, total, loss } = progress;
        let loss = loss.map(|loss| format!("loss {loss:.4}"));
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if let Some(loss) = loss {
                bar.set_message(loss);
            }
        } else if self.lines {
            let part = done.saturating_mul(LINES) / total.max(1);
            if part > self.told || done == 0 {
                self.told = part;
                let loss = loss.map(|loss| format!(", {loss}")).unwrap_or_default();
                terminal::note(format_args!("{} {done}/{total}{loss}", self.what));
            }
        }
        match self.cancel.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
