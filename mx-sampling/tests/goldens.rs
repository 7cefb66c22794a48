//! Every line of the golden file, by its kind.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod golden;

use std::collections::BTreeMap;

use golden::{Outcome, run_line};

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/data/sampling_golden.jsonl"
);

#[test]
fn every_line_agrees() {
    let text =
        std::fs::read_to_string(std::env::var("SAMPLING_GOLDEN").unwrap_or(FILE.into())).unwrap();
    let mut tallies: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let mut failures = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let case = run_line(line);
        let tally = tallies.entry(case.kind.clone()).or_default();
        match case.outcome {
            Outcome::Passed => tally[0] += 1,
            Outcome::Failed(reason) => {
                tally[1] += 1;
                failures.push(format!("{}: {reason}", case.id));
            }
            Outcome::Skipped(reason) => {
                tally[2] += 1;
                println!("skipped {}: {reason}", case.id);
            }
        }
    }
    for (kind, [passed, failed, skipped]) in &tallies {
        println!("{kind}: {passed} passed, {failed} failed, {skipped} skipped");
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
