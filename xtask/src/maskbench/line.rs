//! What a run writes: a header, then a line a schema.

use serde::{Deserialize, Serialize};

/// The first line of a file of results.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Header {
    /// Always 1.
    pub header: u32,
    /// The engine.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// The vocabulary.
    pub vocab: String,
    /// Number of token ids.
    pub vocab_size: usize,
    /// The engine's options, in words.
    pub options: String,
    /// Time to make the engine's own form of the vocabulary from the bytes of the tokens.
    pub init_ns: u64,
    /// Memory after that.
    pub init_rss_kb: u64,
    /// The clock.
    pub clock: String,
    /// What reading the clock costs; it is part of every time.
    pub clock_ns: u64,
}

/// What became of one schema.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// The engine.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// The vocabulary.
    pub vocab: String,
    /// The schema.
    pub id: String,
    /// Its set.
    pub dataset: String,
    /// How the run ended.
    pub status: Status,
    /// Why it did not end well.
    pub error: Option<String>,
    /// Time to compile.
    pub compile_ns: u64,
    /// Time of the first mask of a fresh matcher.
    pub first_mask_ns: u64,
    /// Times of the masks of the instances, end check included.
    pub mask_ns: Vec<u64>,
    /// Times of the commits.
    pub commit_ns: Vec<u64>,
    /// The instances, in order; shorter than the case's where the run ended early.
    pub tests: Vec<Verdict>,
    /// Memory of the process afterwards.
    pub rss_kb: u64,
    /// Most memory the process has had.
    pub peak_rss_kb: u64,
}

/// How the run of one schema ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All instances were judged. With an error, by the proof that no value is valid: each was refused at its start.
    Ok,
    /// The schema was refused.
    CompileError,
    /// The deadline passed.
    Timeout,
    /// The worker ended, panicked or outgrew its memory.
    Crash,
    /// A mask or a commit failed.
    RuntimeError,
}

/// What became of one instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is valid.
    pub valid: bool,
    /// Its tokens.
    pub n_tok: usize,
    /// Index of the first forbidden token, or -1.
    pub stop: i64,
    /// Whether the sequence may end after the last token; `None` where it was stopped before.
    pub end_ok: Option<bool>,
}

impl Verdict {
    /// Whether the engine accepted the instance.
    pub fn accepted(&self) -> bool {
        self.stop < 0 && self.end_ok == Some(true)
    }

    /// A valid instance refused.
    pub fn is_over(&self) -> bool {
        self.valid && !self.accepted()
    }

    /// An invalid instance let through.
    pub fn is_under(&self) -> bool {
        !self.valid && self.accepted()
    }
}

impl Line {
    /// All instances behave.
    pub fn passes(&self) -> bool {
        self.status == Status::Ok && !self.is_over() && !self.is_under()
    }

    /// A valid instance was refused.
    pub fn is_over(&self) -> bool {
        self.tests.iter().any(Verdict::is_over)
    }

    /// An invalid instance was let through.
    pub fn is_under(&self) -> bool {
        self.tests.iter().any(Verdict::is_under)
    }

    /// Time to first mask, where there was one.
    pub fn ttfm_ns(&self) -> Option<u64> {
        (self.first_mask_ns > 0).then_some(self.compile_ns + self.first_mask_ns)
    }

    /// The engine proved that no value is valid.
    pub fn is_empty_schema(&self) -> bool {
        self.status == Status::Ok && self.error.is_some()
    }

    /// All masks, the first included.
    pub fn masks(&self) -> impl Iterator<Item = u64> {
        let first = (self.first_mask_ns > 0).then_some(self.first_mask_ns);
        first.into_iter().chain(self.mask_ns.iter().copied())
    }
}
