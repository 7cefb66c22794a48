//! Decoding, prefill and rows of the CPU engine, interleaved with llama.cpp on the same file.

use super::machine::read_bandwidth;
use super::peer::Peer;
use super::{Options, Record, spread};
use anyhow::Context;
use mx_runtime::engine::cpu::{CpuEngine, CpuOptions};
use mx_runtime::engine::{Engine, Row, Sequence, StepOutput, Want};
use mx_runtime::files::ModelFiles;
use std::time::Instant;

/// Tokens decoded in one timed run, behind a context of 64.
const DECODED: usize = 64;

/// Rows of one step that are compared with a single row.
const ROWS: [usize; 4] = [2, 4, 8, 16];

/// Runs the cases at one thread and at all.
pub(super) fn run(options: &Options, decode: bool, prefill: bool) -> anyhow::Result<Vec<Record>> {
    let path = options
        .model
        .as_deref()
        .context("the default model has not been fetched")?;
    let files = ModelFiles::open(path)?;
    let most = std::thread::available_parallelism().map_or(1, usize::from);
    let mut records = Vec::new();
    for threads in [1, most] {
        let mut cpu = CpuOptions::default();
        cpu.threads = Some(threads);
        let engine = files.cpu_engine(&cpu)?;
        let mut bench = Bench {
            engine: &engine,
            threads,
            runs: options.runs,
            peer: Peer::start(path, threads)?,
        };
        if decode {
            records.extend(bench.decode()?);
            records.extend(bench.rows()?);
        }
        if prefill {
            for count in [128, 512] {
                records.extend(bench.prefill(count)?);
            }
        }
        if most == 1 {
            break;
        }
    }
    Ok(records)
}

struct Bench<'a> {
    engine: &'a CpuEngine,
    threads: usize,
    runs: usize,
    peer: Option<Peer>,
}

/// Tokens without meaning: the time does not depend on them.
fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| i * 7919 % 40_000 + 20).collect()
}

impl Bench<'_> {
    fn sequence(&self, output: &mut StepOutput) -> anyhow::Result<Sequence> {
        let mut sequence = self.engine.new_sequence();
        step(self.engine, &mut [&mut sequence], &tokens(64), output)?;
        Ok(sequence)
    }

    fn decode(&mut self) -> anyhow::Result<Vec<Record>> {
        let mut output = StepOutput::new();
        let mut sequence = self.sequence(&mut output)?;
        let ids = tokens(64 + DECODED);
        let run = |sequence: &mut Sequence, output: &mut StepOutput| -> anyhow::Result<f64> {
            sequence.truncate(64);
            let started = Instant::now();
            for token in &ids[64..] {
                step(self.engine, &mut [sequence], &[*token], output)?;
            }
            Ok(DECODED as f64 / started.elapsed().as_secs_f64())
        };
        run(&mut sequence, &mut output)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            ours.push(run(&mut sequence, &mut output)?);
            if let Some(peer) = &mut self.peer {
                theirs.push(DECODED as f64 / peer.time("decode", DECODED)?);
            }
        }
        let mut records = self.pair("decode", "64 tokens behind 64", &ours, &theirs);
        let bytes = self.engine.bytes_per_token();
        let bandwidth = read_bandwidth(bytes, self.threads);
        let ceiling = bandwidth / bytes as f64;
        let mut share = self.record(
            "decode",
            "share of read bandwidth",
            "mx",
            "%",
            &[100.0 * spread(&ours).0 / ceiling],
        );
        share.ratio = None;
        records.push(share);
        Ok(records)
    }

    /// A step of several rows over a step of one.
    fn rows(&mut self) -> anyhow::Result<Vec<Record>> {
        let mut output = StepOutput::new();
        let first = self.sequence(&mut output)?;
        let mut records = Vec::new();
        for count in ROWS {
            let mut sequences: Vec<Sequence> = (0..count).map(|_| first.fork()).collect();
            let mut time = |rows: usize| -> anyhow::Result<f64> {
                let mut taken = Vec::new();
                for _ in 0..10 {
                    let mut batch: Vec<&mut Sequence> = sequences[..rows].iter_mut().collect();
                    let started = Instant::now();
                    step(self.engine, &mut batch, &[100], &mut output)?;
                    taken.push(started.elapsed().as_secs_f64());
                    sequences.iter_mut().for_each(|s| s.truncate(64));
                }
                Ok(spread(&taken).0)
            };
            time(count)?;
            let (mut many, mut rates) = (Vec::new(), Vec::new());
            for _ in 0..self.runs {
                let (one, all) = (time(1)?, time(count)?);
                many.push(all / one);
                rates.push(count as f64 / all);
            }
            let case = format!("{count} rows, time over one row");
            let mut record = self.record("decode", &case, "mx", "x", &many);
            record.ratio = Some(record.median);
            records.push(record);
            records.push(self.record(
                "decode",
                &format!("{count} rows, all together"),
                "mx",
                "tok/s",
                &rates,
            ));
        }
        Ok(records)
    }

    fn prefill(&mut self, count: usize) -> anyhow::Result<Vec<Record>> {
        let mut output = StepOutput::new();
        let ids = tokens(count);
        let run = |output: &mut StepOutput| -> anyhow::Result<f64> {
            let mut sequence = self.engine.new_sequence();
            let started = Instant::now();
            step(self.engine, &mut [&mut sequence], &ids, output)?;
            Ok(count as f64 / started.elapsed().as_secs_f64())
        };
        run(&mut output)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            ours.push(run(&mut output)?);
            if let Some(peer) = &mut self.peer {
                theirs.push(count as f64 / peer.time("prefill", count)?);
            }
        }
        Ok(self.pair("prefill", &format!("{count} tokens"), &ours, &theirs))
    }

    /// Ours, and the peer's where there is one; the ratio is ours over theirs.
    fn pair(&self, bench: &str, case: &str, ours: &[f64], theirs: &[f64]) -> Vec<Record> {
        let mut records = vec![self.record(bench, case, "mx", "tok/s", ours)];
        if !theirs.is_empty() {
            let peer = self.record(bench, case, "llama.cpp", "tok/s", theirs);
            records[0].ratio = Some(records[0].median / peer.median);
            records.push(peer);
        }
        records
    }

    fn record(&self, bench: &str, case: &str, engine: &str, unit: &str, figures: &[f64]) -> Record {
        let (median, min, max) = spread(figures);
        Record {
            bench: bench.to_owned(),
            case: case.to_owned(),
            engine: engine.to_owned(),
            threads: self.threads,
            unit: unit.to_owned(),
            median,
            min,
            max,
            runs: figures.len(),
            ratio: None,
        }
    }
}

/// The same tokens appended to every sequence, logits for the last of them.
fn step(
    engine: &CpuEngine,
    sequences: &mut [&mut Sequence],
    tokens: &[u32],
    output: &mut StepOutput,
) -> anyhow::Result<()> {
    let mut rows: Vec<Row<'_>> = sequences
        .iter_mut()
        .map(|sequence| Row {
            sequence,
            tokens,
            want: Want::Last,
            hooks: None,
        })
        .collect();
    Ok(engine.step(&mut rows, output)?)
}
