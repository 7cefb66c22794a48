//! Runs the lines of a `sampling_golden.jsonl` file against this crate.
//!
//! The one interpreter of the format: the crate's tests and `cargo xtask golden` share it.

mod decode;
mod read;
mod rows;
mod strategies;

use serde_json::Value;

pub(crate) use read::Problem;

/// What one line came to.
#[derive(Debug)]
pub(crate) struct Case {
    /// The line's `kind`.
    pub(crate) kind: String,
    /// The line's `id`.
    pub(crate) id: String,
    /// Whether it passed.
    pub(crate) outcome: Outcome,
}

/// How a case ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// As expected.
    Passed,
    /// Not as expected, and how.
    Failed(String),
    /// Not decided, and why.
    Skipped(String),
}

/// Distance to a decision boundary below which the format lets `f32` code differ.
const MARGIN: f64 = 1e-5;

/// Runs one line.
pub(crate) fn run_line(line: &str) -> Case {
    let value: Value = match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => {
            let outcome = Outcome::Failed(format!("not JSON: {error}"));
            return Case {
                kind: "unreadable".into(),
                id: String::new(),
                outcome,
            };
        }
    };
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (kind, id) = (text("kind"), text("id"));
    let outcome = match run(&kind, &value) {
        Ok(()) => Outcome::Passed,
        Err(Problem::Unsupported(reason)) => Outcome::Skipped(reason),
        Err(Problem::Failed(reason)) => match value["margin"].as_f64() {
            Some(margin) if margin < MARGIN => {
                Outcome::Skipped(format!("margin {margin:e}: {reason}"))
            }
            _ => Outcome::Failed(reason),
        },
    };
    Case { kind, id, outcome }
}

fn run(kind: &str, case: &Value) -> Result<(), Problem> {
    match rows::run(kind, case) {
        Err(Problem::Unsupported(_)) => {}
        decided => return decided,
    }
    match strategies::run(kind, case) {
        Err(Problem::Unsupported(_)) => decode::run(kind, case),
        decided => decided,
    }
}
