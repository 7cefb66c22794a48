//! The commands `maskbench` and `schema-suite`: what was typed, and what it prints.

use super::{
    Bounds, Case, Clock, EngineKind, Outcome, Place, Remotes, Setup, Status, bars, bars_table,
    compare, failures, find_model, read, report, run, write,
};
use crate::schema_suite;
use clap::Args;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// The hidden command that a worker process runs.
pub const WORKER: &str = "maskbench-worker";

/// `cargo xtask maskbench`.
#[derive(Debug, Clone, Args)]
pub struct Maskbench {
    /// The schemas with instances, a JSON object a line
    pub file: PathBuf,
    /// Run the first N schemas
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// What is common to both commands.
    #[command(flatten)]
    pub common: Common,
}

/// `cargo xtask schema-suite`.
#[derive(Debug, Clone, Args)]
pub struct SchemaSuite {
    /// A draft of the suite in one file
    pub file: PathBuf,
    /// What is common to both commands.
    #[command(flatten)]
    pub common: Common,
}

/// Flags of both commands.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The model whose vocabulary is used: a path, or a name in the model folder
    #[arg(long, value_name = "PATH|NAME")]
    pub model: Option<String>,
    /// The engine; several are compared
    #[arg(long, value_enum, value_name = "ENGINE", default_value = "mx")]
    pub engine: Vec<EngineKind>,
    /// Write a header and a line a schema; with several engines, to one file each
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Run only schemas whose id contains this
    #[arg(long, value_name = "TEXT")]
    pub id: Option<String>,
    /// List every failure
    #[arg(long)]
    pub failures: bool,
    /// Seconds for one schema with all its instances
    #[arg(long, value_name = "SECONDS", default_value_t = super::DEADLINE.as_secs())]
    pub deadline: u64,
    /// Read times from the wall clock or from the processor time of the thread
    #[arg(long, value_enum, default_value = "wall")]
    pub clock: Clock,
    /// Run in this process, for a profiler: a crash ends it
    #[arg(long)]
    pub in_process: bool,
}

/// What a command prints, and whether our engine let nothing through and lost no worker.
#[derive(Debug)]
pub struct Answer {
    /// The tables.
    pub text: String,
    /// Whether all is sound.
    pub sound: bool,
}

impl Maskbench {
    /// Runs the command.
    ///
    /// # Errors
    /// For files that cannot be read or written and engines that do not start.
    pub fn run(&self) -> anyhow::Result<Answer> {
        let cases = self.common.chosen(read(&self.file, self.limit)?);
        let outcomes = self.common.outcomes(&cases, &Vec::new())?;
        let mut text = String::new();
        for outcome in &outcomes {
            text += &report(&outcome.header, &cases, &outcome.lines);
            text += "\n";
            text += &bars_table(&bars(&outcome.header, &outcome.lines));
            text += &self.common.failures(&cases, outcome);
            text += "\n";
        }
        if outcomes.len() > 1 {
            text += &compare(&outcomes);
        }
        Ok(answer(text, &outcomes))
    }
}

impl SchemaSuite {
    /// Runs the command.
    ///
    /// # Errors
    /// As [`Maskbench::run`].
    pub fn run(&self) -> anyhow::Result<Answer> {
        let suite = schema_suite::read(&self.file)?;
        let cases = self.common.chosen(suite.cases);
        let outcomes = self.common.outcomes(&cases, &suite.remotes)?;
        let mut text = String::new();
        for outcome in &outcomes {
            text += &report(&outcome.header, &cases, &outcome.lines);
            let (required, optional) = schema_suite::counts(&outcome.lines);
            let _ = write!(text, "\n{}", required.titled("required groups"));
            text += &optional.row("optional groups");
            text += &self.common.failures(&cases, outcome);
            text += "\n";
        }
        Ok(answer(text, &outcomes))
    }
}

impl Common {
    fn chosen(&self, mut cases: Vec<Case>) -> Vec<Case> {
        if let Some(part) = &self.id {
            cases.retain(|case| case.id.contains(part.as_str()));
        }
        cases
    }

    fn outcomes(&self, cases: &[Case], remotes: &Remotes) -> anyhow::Result<Vec<Outcome>> {
        let model = find_model(self.model.as_deref())?;
        let place = match self.in_process {
            true => Place::Thread,
            false => Place::Process {
                program: std::env::current_exe()?,
                arguments: vec![WORKER.into()],
            },
        };
        let bounds = Bounds {
            deadline: Duration::from_secs(self.deadline),
            ..Bounds::default()
        };
        let mut outcomes = Vec::new();
        for &engine in &self.engine {
            let setup = Setup {
                engine,
                model: model.clone(),
                remotes: remotes.clone(),
                clock: self.clock,
            };
            let outcome = run(cases, &setup, None, &place, bounds)?;
            if let Some(out) = &self.out {
                let out = match self.engine.len() {
                    1 => out.clone(),
                    _ => out.with_extension(format!("{}.jsonl", engine.name())),
                };
                write(&out, &outcome)?;
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    fn failures(&self, cases: &[Case], outcome: &Outcome) -> String {
        match self.failures {
            true => format!("\n{}", failures(cases, &outcome.lines)),
            false => String::new(),
        }
    }
}

fn answer(text: String, outcomes: &[Outcome]) -> Answer {
    let lost = |status| matches!(status, Status::Timeout | Status::Crash);
    let ours = outcomes
        .iter()
        .filter(|outcome| outcome.header.engine == EngineKind::Mx.name());
    let sound = ours
        .flat_map(|outcome| &outcome.lines)
        .all(|line| !line.is_under() && !lost(line.status));
    Answer { text, sound }
}
