//! Decoding, prefill and rows of the CPU engine, interleaved with llama.cpp on the same weights.

mod busy;
mod length;
mod whole;

use super::machine::read_bandwidth;
use super::peer::{Peer, ROW_STEPS, Requantised};
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

/// Rows that are compared with the peers.
const PEER_ROWS: usize = 16;

/// Runs the cases at one thread and at all.
pub(super) fn run(options: &Options, decode: bool, prefill: bool) -> anyhow::Result<Vec<Record>> {
    let path = options
        .model
        .as_deref()
        .context("the default model has not been fetched")?;
    let files = ModelFiles::open(path)?;
    let most = std::thread::available_parallelism().map_or(1, usize::from);
    let requantised = Requantised::make(path);
    let mut records = Vec::new();
    for threads in [1, most] {
        if decode {
            records.extend(whole::loading(path, threads, options.runs)?);
        }
        let mut cpu = CpuOptions::default();
        cpu.threads = Some(threads);
        let engine = files.cpu_engine(&cpu)?;
        let mut peers = Vec::new();
        peers.extend(Peer::start("llama.cpp", path, threads)?);
        if let Some(file) = &requantised {
            peers.extend(Peer::start("llama.cpp Q4_0", file.path(), threads)?);
        }
        let mut bench = Bench {
            engine: &engine,
            threads,
            runs: options.runs,
            peers,
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
        // The peers' memory and threads are no part of what follows.
        bench.peers.clear();
        records.extend(bench.length(&files, decode, prefill)?);
        if decode {
            records.push(bench.busy(most)?);
            records.extend(bench.end_to_end(path)?);
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
    peers: Vec<Peer>,
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
        let engine = self.engine;
        let run = move || decode_behind(engine, &mut sequence, 64, &ids[64..], &mut output);
        let bytes = engine.bytes_per_token();
        let mut bandwidths = Vec::new();
        let (mut records, ours) = self.against(
            ["decode", "64 tokens behind 64"],
            run,
            |peer| Ok(DECODED as f64 / peer.time("decode", DECODED)?),
            |threads| bandwidths.push(read_bandwidth(bytes, threads)),
        )?;
        let ceiling = spread(&bandwidths).0 / bytes as f64;
        let shares: Vec<f64> = ours.iter().map(|rate| 100.0 * rate / ceiling).collect();
        let gigabytes: Vec<f64> = bandwidths.iter().map(|b| b / 1e9).collect();
        records.push(self.record("decode", "share of read bandwidth", "mx", "%", &shares));
        records.push(self.record("decode", "read bandwidth", "plain loop", "GB/s", &gigabytes));
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
            let mut theirs = vec![Vec::new(); self.peers.len()];
            for _ in 0..self.runs {
                let (one, all) = (time(1)?, time(count)?);
                many.push(all / one);
                rates.push(count as f64 / all);
                if count == PEER_ROWS {
                    for (peer, rates) in self.peers.iter_mut().zip(&mut theirs) {
                        let tokens = (ROW_STEPS * count) as f64;
                        rates.push(tokens / peer.time("rows", count)?);
                    }
                }
            }
            let case = format!("{count} rows, time over one row");
            let mut record = self.record("decode", &case, "mx", "x", &many);
            record.ratio = Some(record.median);
            records.push(record);
            let case = format!("{count} rows, all together");
            records.extend(self.side_by_side(["decode", &case], &rates, &theirs));
        }
        Ok(records)
    }

    fn prefill(&mut self, count: usize) -> anyhow::Result<Vec<Record>> {
        let mut output = StepOutput::new();
        let ids = tokens(count);
        let engine = self.engine;
        let run = move || -> anyhow::Result<f64> {
            let mut sequence = engine.new_sequence();
            let started = Instant::now();
            step(engine, &mut [&mut sequence], &ids, &mut output)?;
            Ok(count as f64 / started.elapsed().as_secs_f64())
        };
        let case = format!("{count} tokens");
        let peer = |peer: &mut Peer| Ok(count as f64 / peer.time("prefill", count)?);
        Ok(self.against(["prefill", &case], run, peer, |_| ())?.0)
    }

    /// Our runs and those of every peer, taking turns after one run that is not counted; `between` is called once a
    /// turn.
    fn against(
        &mut self,
        case: [&str; 2],
        mut run: impl FnMut() -> anyhow::Result<f64>,
        time: impl Fn(&mut Peer) -> anyhow::Result<f64>,
        mut between: impl FnMut(usize),
    ) -> anyhow::Result<(Vec<Record>, Vec<f64>)> {
        run()?;
        let mut ours = Vec::new();
        let mut theirs = vec![Vec::new(); self.peers.len()];
        for _ in 0..self.runs {
            ours.push(run()?);
            between(self.threads);
            for (peer, rates) in self.peers.iter_mut().zip(&mut theirs) {
                rates.push(time(peer)?);
            }
        }
        Ok((self.side_by_side(case, &ours, &theirs), ours))
    }

    /// Our rates, then those of the peers with the ratio of ours to theirs.
    fn side_by_side(
        &self,
        [bench, case]: [&str; 2],
        ours: &[f64],
        theirs: &[Vec<f64>],
    ) -> Vec<Record> {
        let mut records = vec![self.record(bench, case, "mx", "tok/s", ours)];
        let measured = self.peers.iter().zip(theirs);
        for (peer, rates) in measured.filter(|(_, rates)| !rates.is_empty()) {
            let mut record = self.record(bench, case, peer.name, "tok/s", rates);
            record.ratio = Some(spread(ours).0 / record.median);
            records.push(record);
        }
        records
    }

    fn record(&self, bench: &str, case: &str, engine: &str, unit: &str, figures: &[f64]) -> Record {
        record(self.threads, [bench, case, engine, unit], figures)
    }
}

fn record(threads: usize, [bench, case, engine, unit]: [&str; 4], figures: &[f64]) -> Record {
    let (median, min, max) = spread(figures);
    Record {
        bench: bench.to_owned(),
        case: case.to_owned(),
        engine: engine.to_owned(),
        threads,
        unit: unit.to_owned(),
        median,
        min,
        max,
        runs: figures.len(),
        ratio: None,
    }
}

/// Tokens a second of single steps behind the first `len` tokens of a sequence.
fn decode_behind(
    engine: &CpuEngine,
    sequence: &mut Sequence,
    len: usize,
    ids: &[u32],
    output: &mut StepOutput,
) -> anyhow::Result<f64> {
    sequence.truncate(len);
    let started = Instant::now();
    for token in ids {
        step(engine, &mut [&mut *sequence], &[*token], output)?;
    }
    Ok(ids.len() as f64 / started.elapsed().as_secs_f64())
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
