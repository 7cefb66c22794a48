//! What a user waits for: loading, and generating through the client instead of the bare engine.

use super::{Bench, Record, record, spread};
use crate::maskbench::Clock;
use anyhow::Context;
use mx::{Client, Method};
use mx_runtime::engine::cpu::CpuOptions;
use mx_runtime::engine::{Engine, Row, StepOutput, Want};
use mx_runtime::files::ModelFiles;
use mx_runtime::model::{LoadOptions, Model};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The prompt of a generation, and the tokens that are generated.
const PROMPT: &str = "Once upon a time";
const GENERATED: usize = 96;

/// Bytes of a mebibyte.
const MIB: f64 = 1_048_576.0;

/// Time until the weights are ready, the tokenizer apart, and how far the peak of resident memory lies above the size
/// of the file.
pub(super) fn loading(path: &Path, threads: usize, runs: usize) -> anyhow::Result<Vec<Record>> {
    let mut cpu = CpuOptions::default();
    cpu.threads = Some(threads);
    let file = std::fs::metadata(path)?.len() as f64;
    let (mut times, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..runs.max(2) {
        let before = reset_peak();
        let started = Instant::now();
        let engine = ModelFiles::open(path)?.cpu_engine(&cpu)?;
        times.push(1e3 * started.elapsed().as_secs_f64());
        if let (Some(before), Some(peak)) = (before, status("VmHWM:")) {
            peaks.push((peak - before - file) / MIB);
        }
        drop(engine);
    }
    // The first one may read the file from the disk.
    times.remove(0);
    let mut records = vec![record(
        threads,
        ["decode", "weights ready, warm", "mx", "ms"],
        &times,
    )];
    if !peaks.is_empty() {
        let what = [
            "decode",
            "peak memory of loading over the file",
            "mx",
            "MiB",
        ];
        records.push(record(threads, what, &peaks));
    }
    Ok(records)
}

/// Sets the peak of resident memory back to what is resident now, and returns that; `None` where the system has no way.
fn reset_peak() -> Option<f64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    status("VmHWM:")
}

/// Bytes of a line of the process's status.
fn status(field: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024.0 * kibibytes)
}

impl Bench<'_> {
    /// Greedy generation through a client over the same steps on the bare engine, taking turns, in processor time of the
    /// calling thread: what other programs do on the machine is no part of it.
    pub(super) fn end_to_end(&self, path: &Path) -> anyhow::Result<Vec<Record>> {
        let mut options = LoadOptions::default();
        options.cpu.threads = Some(self.threads);
        let model = Arc::new(Model::load(path, &options)?);
        let client = Client::with_model(Arc::clone(&model));
        let generate = || -> anyhow::Result<(u64, usize)> {
            let started = Clock::Cpu.start();
            let request = client.request(PROMPT).raw(true).method(Method::Greedy);
            let answer = request.max_tokens(GENERATED).run()?;
            Ok((started.elapsed_ns(), answer.tokens.len()))
        };
        generate()?;
        let prompt = model
            .tokenizer()
            .context("the model has no tokenizer")?
            .encode(PROMPT, mx_runtime::tokenizer::Specials::AsText)?;
        let mut ratios = Vec::new();
        for _ in 0..2 * self.runs {
            let (ours, count) = generate()?;
            let started = Clock::Cpu.start();
            bare(&**model.engine(), &prompt, count)?;
            ratios.push(ours as f64 / started.elapsed_ns() as f64);
        }
        let case = "generation over the bare engine";
        let mut record = self.record("decode", case, "mx", "x", &ratios);
        record.ratio = Some(spread(&ratios).0);
        Ok(vec![record])
    }
}

/// `count` greedy tokens behind a prompt.
fn bare(engine: &dyn Engine, prompt: &[u32], count: usize) -> anyhow::Result<()> {
    let mut sequence = engine.new_sequence();
    let mut output = StepOutput::new();
    let mut next = prompt.to_vec();
    for _ in 0..count {
        let row = Row {
            sequence: &mut sequence,
            tokens: &next,
            want: Want::Last,
            hooks: None,
        };
        engine.step(&mut [row], &mut output)?;
        let line = output.logits(0).last().context("no logits")?;
        let mut best = 0;
        for (token, x) in line.iter().enumerate() {
            if *x > line[best] {
                best = token;
            }
        }
        next = vec![best as u32];
    }
    Ok(())
}
