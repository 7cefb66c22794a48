//! How the caller watches and stops a fetch.

/// Receives what a fetch does; a terminal bar, a log, or nothing.
///
/// Calls come as `start`, any number of `advance`, `finish`; one fetch may do so several times (each package of a
/// model that is split, the check of a file), one after the other, never one inside another. `finish` is called on
/// failure too.
pub trait Progress {
    /// Something begins. `total` is its size in bytes where it is known.
    fn start(&mut self, what: &str, total: Option<u64>);

    /// `done` bytes since `start` are done: a sum, not a step.
    fn advance(&mut self, done: u64);

    /// What `start` began has ended.
    fn finish(&mut self);

    /// Asked several times a second; `true` ends the fetch with
    /// [`SourceError::Cancelled`](super::SourceError::Cancelled). A connection that is silent delays the question by
    /// at most [`Options::answer_timeout`](super::Options::answer_timeout).
    fn cancelled(&self) -> bool {
        false
    }
}

/// Watches nothing and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn start(&mut self, _what: &str, _total: Option<u64>) {}
    fn advance(&mut self, _done: u64) {}
    fn finish(&mut self) {}
}

/// Passes only the question whether to stop: for work inside work, which would begin a bar inside a bar.
pub(super) struct Silent<'a>(pub(super) &'a dyn Progress);

impl Progress for Silent<'_> {
    fn start(&mut self, _what: &str, _total: Option<u64>) {}
    fn advance(&mut self, _done: u64) {}
    fn finish(&mut self) {}
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// Pairs `start` with `finish` whatever way the block in between ends.
pub(super) fn during<T>(
    progress: &mut dyn Progress,
    what: &str,
    total: Option<u64>,
    work: impl FnOnce(&mut dyn Progress) -> T,
) -> T {
    progress.start(what, total);
    let result = work(progress);
    progress.finish();
    result
}
