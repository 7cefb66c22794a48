//! Counts of one kind of golden.

/// What came of the cases of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// The kind, for example `tiny_models`.
    pub kind: String,
    /// Cases that hold.
    pub passed: usize,
    /// Cases that do not, each with what was found.
    pub failed: Vec<String>,
    /// Cases that were not run, each with the reason.
    pub skipped: Vec<String>,
}

impl Tally {
    /// No cases yet.
    pub fn new(kind: impl Into<String>) -> Self {
        Tally {
            kind: kind.into(),
            ..Tally::default()
        }
    }

    /// Counts a case.
    pub fn check(&mut self, case: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(found) => self.failed.push(format!("{case}: {found}")),
        }
    }

    /// Counts a case that was not run.
    pub fn skip(&mut self, case: &str, reason: &str) {
        self.skipped.push(format!("{case}: {reason}"));
    }

    /// Adds the counts of another tally of the same kind.
    pub fn absorb(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}
