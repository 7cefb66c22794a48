//! `cargo xtask bench`: medians with spread, machine facts, peers side by side.

mod constrain;
mod decode;
mod machine;
mod peer;
mod sampling;
mod steering;
mod strategies;

pub use machine::Machine;

use serde::Serialize;
use std::path::PathBuf;

/// What the benchmarks run on.
#[derive(Debug, Clone)]
pub struct Options {
    /// GGUF file of the default model, for the benchmarks that need one.
    pub model: Option<PathBuf>,
    /// Timed runs of each case.
    pub runs: usize,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// The benchmark, for example `decode`.
    pub bench: String,
    /// The case.
    pub case: String,
    /// `mx`, or a peer's name.
    pub engine: String,
    /// Threads used.
    pub threads: usize,
    /// Unit of the figures, for example `tok/s`.
    pub unit: String,
    /// Median of the runs.
    pub median: f64,
    /// Smallest run.
    pub min: f64,
    /// Largest run.
    pub max: f64,
    /// Number of runs.
    pub runs: usize,
    /// The median over that of the floor or peer that the case names.
    pub ratio: Option<f64>,
}

/// The benchmarks by name.
pub const NAMES: [&str; 6] = [
    "decode",
    "prefill",
    "sampling",
    "constrain",
    "steering",
    "strategies",
];

/// Runs the named benchmarks, all of them for `all`.
///
/// # Errors
/// For an unknown name, a model that does not load, or a case that fails.
pub fn run(names: &[String], options: &Options) -> anyhow::Result<Vec<Record>> {
    let all = names.iter().any(|name| name == "all");
    if let Some(unknown) = names
        .iter()
        .find(|n| *n != "all" && !NAMES.contains(&n.as_str()))
    {
        anyhow::bail!(
            "no benchmark is called {unknown}; known: {}, all",
            NAMES.join(", ")
        );
    }
    let wanted = |name: &str| all || names.iter().any(|given| given == name);
    let mut records = Vec::new();
    if wanted("decode") || wanted("prefill") {
        records.extend(decode::run(options, wanted("decode"), wanted("prefill"))?);
    }
    if wanted("sampling") {
        records.extend(sampling::run(options)?);
    }
    if wanted("constrain") {
        records.extend(constrain::run(options)?);
    }
    if wanted("strategies") {
        records.extend(strategies::run(options)?);
    }
    if wanted("steering") {
        records.extend(steering::run(options)?);
    }
    Ok(records)
}

/// The records as a table.
pub fn table(records: &[Record]) -> String {
    let mut text = format!(
        "{:<9} {:<34} {:<14} {:>3} {:>10} {:>10} {:>10}  {:<6} {:>6}\n",
        "bench", "case", "engine", "thr", "median", "min", "max", "unit", "ratio"
    );
    for r in records {
        let ratio = r
            .ratio
            .map(|ratio| format!("{ratio:.2}"))
            .unwrap_or_default();
        text += &format!(
            "{:<9} {:<34} {:<14} {:>3} {:>10.2} {:>10.2} {:>10.2}  {:<6} {:>6}\n",
            r.bench, r.case, r.engine, r.threads, r.median, r.min, r.max, r.unit, ratio
        );
    }
    text
}

/// Median, smallest and largest of some figures.
pub(crate) fn spread(figures: &[f64]) -> (f64, f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (
        at(sorted.len() / 2),
        at(0),
        at(sorted.len().saturating_sub(1)),
    )
}
