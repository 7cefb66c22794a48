//! Constrained decoding: the times of `maskbench` as records, over a spread of its schemas.
//!
//! Every run makes the engine anew, so its caches are cold at the start; runs of our engine and of its peers
//! alternate. The ratio of a mask time is to the floor of its vocabulary, one copy of a mask.

use super::{Options, Record, spread};
use crate::golden::Models;
use crate::maskbench::{
    self, Bounds, Case, Clock, Counts, EngineKind, Outcome, Place, Remotes, Setup, Speed, Words,
};
use anyhow::Context;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Schemas of the development file that are run, spread evenly over it.
const SCHEMAS: usize = 120;

/// Rounds of a floor.
const ROUNDS: usize = 2001;

/// Copies timed together, as one is about as short as a reading of the clock.
const COPIES: usize = 64;

/// Environment variable with the folder of third-party data.
const DATA: &str = "MX_DATA_DIR";

/// Runs every engine on every vocabulary that is on this machine.
///
/// # Errors
/// When there is no model, or an engine does not start.
pub(super) fn run(options: &Options) -> anyhow::Result<Vec<Record>> {
    let default = options
        .model
        .clone()
        .context("the default model has not been fetched: its vocabulary is needed")?;
    let models = [Some(default), Models::on_this_machine().gemma3];
    let cases = cases()?;
    let mut records = Vec::new();
    for model in models.into_iter().flatten() {
        records.extend(vocabulary(&model, &cases, options.runs)?);
    }
    Ok(records)
}

/// The frozen floor of a mask: one copy of its words. Never change it: ratios are to it.
#[inline(never)]
fn copy(from: &[u32], to: &mut [u32]) {
    to.copy_from_slice(from);
}

/// The frozen floor of an empty mask: its words set to zero.
#[inline(never)]
fn clear(to: &mut [u32]) {
    to.fill(0);
}

fn vocabulary(model: &Path, cases: &[Case], runs: usize) -> anyhow::Result<Vec<Record>> {
    let words = Arc::new(Words::read(model)?);
    let size = words.bytes.len();
    let floors = floors(size);
    let floor = floors[0].median;
    let mut records = floors;
    let mut outcomes: Vec<(EngineKind, Vec<Outcome>)> =
        engines().map(|engine| (engine, Vec::new())).collect();
    for run in 0..runs {
        for (engine, outcomes) in &mut outcomes {
            // It takes minutes a run.
            if run > 0 && *engine == EngineKind::OutlinesCore {
                continue;
            }
            let setup = Setup {
                engine: *engine,
                model: model.to_owned(),
                remotes: Remotes::new(),
                clock: Clock::Wall,
            };
            let (place, bounds) = (Place::Thread, Bounds::default());
            outcomes.push(maskbench::run(cases, &setup, Some(&words), &place, bounds)?);
        }
    }
    for (engine, outcomes) in &outcomes {
        records.extend(figures(*engine, size, outcomes, floor));
    }
    Ok(records)
}

fn engines() -> impl Iterator<Item = EngineKind> {
    let peers = [EngineKind::Llguidance, EngineKind::OutlinesCore];
    let built_in = cfg!(feature = "peers");
    [EngineKind::Mx]
        .into_iter()
        .chain(peers.into_iter().filter(move |_| built_in))
}

/// The records of one engine.
fn figures(engine: EngineKind, size: usize, outcomes: &[Outcome], floor: f64) -> Vec<Record> {
    let speeds: Vec<(Speed, &Outcome)> = outcomes
        .iter()
        .map(|outcome| (Speed::of(&outcome.lines), outcome))
        .collect();
    let record =
        |case: &str, unit: &str, over: Option<f64>, of: &dyn Fn(&Speed, &Outcome) -> f64| {
            let figures: Vec<f64> = speeds.iter().map(|(s, o)| of(s, o)).collect();
            let (median, min, max) = spread(&figures);
            let floor_name = if over.is_some() { " / mask copy" } else { "" };
            Record {
                bench: "constrain".into(),
                case: format!("{case}, {size}{floor_name}"),
                engine: engine.name().into(),
                threads: 1,
                unit: unit.into(),
                median,
                min,
                max,
                runs: figures.len(),
                ratio: over.map(|floor| median / floor),
            }
        };
    vec![
        record("schemas passing", "%", None, &|_, o| {
            Counts::of(&o.lines).pass_rate()
        }),
        record("vocabulary", "ms", None, &|_, o| {
            o.header.init_ns as f64 / 1e6
        }),
        record("compile p50", "ms", None, &|s, _| s.compile.p50 / 1e3),
        record("compile p99", "ms", None, &|s, _| s.compile.p99 / 1e3),
        record("mask mean", "µs", Some(floor), &|s, _| s.mask.mean),
        record("mask p50", "µs", Some(floor), &|s, _| s.mask.p50),
        record("mask p99", "µs", Some(floor), &|s, _| s.mask.p99),
        record("mask p99.9", "µs", Some(floor), &|s, _| s.mask.p999),
        record("commit p50", "µs", None, &|s, _| s.commit.p50),
        record("commit p99", "µs", None, &|s, _| s.commit.p99),
    ]
}

/// The floors of a vocabulary, the copy first, in microseconds.
fn floors(size: usize) -> Vec<Record> {
    let from = vec![0x5555_5555u32; size.div_ceil(32)];
    let mut to = from.clone();
    let mut copies = Vec::with_capacity(ROUNDS);
    let mut clears = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..COPIES {
            copy(black_box(&from), black_box(&mut to));
        }
        copies.push(started.elapsed().as_secs_f64() * 1e6 / COPIES as f64);
        let started = Instant::now();
        for _ in 0..COPIES {
            clear(black_box(&mut to));
        }
        clears.push(started.elapsed().as_secs_f64() * 1e6 / COPIES as f64);
    }
    let record = |case: &str, times: &[f64]| {
        let (median, min, max) = spread(times);
        Record {
            bench: "constrain".into(),
            case: format!("{case}, {size}"),
            engine: "floor".into(),
            threads: 1,
            unit: "µs".into(),
            median,
            min,
            max,
            runs: ROUNDS,
            ratio: None,
        }
    };
    vec![record("mask copy", &copies), record("mask clear", &clears)]
}

/// A spread of the development schemas; where they are absent, our own.
fn cases() -> anyhow::Result<Vec<Case>> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let data = std::env::var_os(DATA).map_or_else(|| root.join("../shared/data"), PathBuf::from);
    let development = data.join("maskbench_dev.jsonl");
    let file = match development.exists() {
        true => development,
        false => root.join("tests/data/constrain/schemas.jsonl"),
    };
    let all = maskbench::read(&file, None)?;
    let step = all.len().div_ceil(SCHEMAS).max(1);
    Ok(all.into_iter().step_by(step).collect())
}
