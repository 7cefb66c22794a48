//! `cargo xtask maskbench`: schemas with instances through a constrained-decoding engine.
//!
//! For every schema: compile, first mask; for every instance, token by token: the mask of the whole vocabulary, is the
//! token in it, commit; after the last token, may the sequence end. A valid instance must go through to its end, an
//! invalid one must not. One thread, wall clock around every call. Schemas run in a worker with a deadline, so one
//! that hangs or crashes costs itself and no other.

mod bars;
mod case;
mod clock;
pub mod command;
mod engine;
mod line;
#[cfg(feature = "peers")]
mod llguidance;
mod mx;
#[cfg(feature = "peers")]
mod outlines;
mod runner;
mod summary;
mod vocabulary;
mod worker;

pub use bars::{Bar, bars, table as bars_table};
pub use case::{Case, Draft, Formats, Instance, Rules, read};
pub use clock::Clock;
pub use engine::{EngineKind, Remotes};
pub use line::{Header, Line, Status, Verdict};
pub use summary::{Counts, Speed, Times, failures, report};
pub use vocabulary::{Words, find_model};
pub use worker::{Bounds, Place, Setup, serve};

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use worker::Worker;

/// Time that one schema may take with all its instances.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Memory that a worker process may take, in KiB.
pub const MEMORY_KB: u64 = 6 << 20;

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            deadline: DEADLINE,
            memory_kb: MEMORY_KB,
        }
    }
}

/// A run: its facts and a line for every case, in the order of the cases.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The facts.
    pub header: Header,
    /// The lines.
    pub lines: Vec<Line>,
}

/// Runs cases. `words` is the vocabulary where it is read already; threads use it, processes read their own.
///
/// # Errors
/// Where no worker starts: a model that cannot be read, an engine that is not built in.
pub fn run(
    cases: &[Case],
    setup: &Setup,
    words: Option<&Arc<Words>>,
    place: &Place,
    bounds: Bounds,
) -> anyhow::Result<Outcome> {
    let mut worker = Worker::start(setup, words, place, bounds)?;
    let lines = cases
        .iter()
        .map(|case| worker.run(case))
        .collect::<anyhow::Result<_>>()?;
    Ok(Outcome {
        header: worker.header().clone(),
        lines,
    })
}

/// Writes a run: the header, then the lines.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "{}", serde_json::to_string(&outcome.header)?)?;
    for line in &outcome.lines {
        writeln!(file, "{}", serde_json::to_string(line)?)?;
    }
    Ok(file.flush()?)
}

/// The times of several engines on the schemas that all of them pass: an engine that compiles only easy schemas looks
/// faster than it is.
pub fn compare(outcomes: &[Outcome]) -> String {
    let count = outcomes.iter().map(|o| o.lines.len()).min().unwrap_or(0);
    let all_pass = |index: &usize| outcomes.iter().all(|o| o.lines[*index].passes());
    let common: Vec<usize> = (0..count).filter(all_pass).collect();
    let mut text = format!("\non the {} schemas that all engines pass\n", common.len());
    for outcome in outcomes {
        let speed = Speed::of(common.iter().map(|&index| &outcome.lines[index]));
        text += &format!("\n{} {}\n", outcome.header.engine, outcome.header.version);
        text += &speed.table();
    }
    text
}
