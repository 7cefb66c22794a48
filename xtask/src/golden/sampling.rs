//! `sampling_golden.jsonl`: every sampling and decoding rule, one case a line.
//!
//! The interpreter of the format is that of mx-sampling's own tests.

use std::path::Path;

use anyhow::Context;

use super::Tally;
use interpreter::{Outcome, run_line};

#[path = "../../../mx-sampling/tests/golden/mod.rs"]
mod interpreter;

/// Runs every line of a file; one tally per kind.
///
/// # Errors
///
/// When the file cannot be read.
pub(super) fn run(path: &Path) -> anyhow::Result<Vec<Tally>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut tallies: Vec<Tally> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let case = run_line(line);
        let at = tallies
            .iter()
            .position(|tally| tally.kind == case.kind)
            .unwrap_or_else(|| {
                tallies.push(Tally::new(case.kind.clone()));
                tallies.len() - 1
            });
        match case.outcome {
            Outcome::Passed => tallies[at].check(&case.id, Ok(())),
            Outcome::Failed(reason) => tallies[at].check(&case.id, Err(reason)),
            Outcome::Skipped(reason) => tallies[at].skip(&case.id, &reason),
        }
    }
    Ok(tallies)
}
