//! How speed falls with the length of the context, for every way to store keys and values.

use super::{Bench, Record, decode_behind, spread, step, tokens};
use mx_runtime::engine::cpu::{CpuEngine, CpuOptions, KvFormat};
use mx_runtime::engine::{Engine, StepOutput};
use mx_runtime::files::ModelFiles;
use std::time::Instant;

/// The long context, in tokens, and the chunks in which it is read.
const LONG: usize = 4096;
const CHUNK: usize = 512;

/// The short context that decoding is compared with, and the prompt that reading is.
const SHORT: usize = 64;
const PROMPT: usize = 128;

/// Tokens decoded in one timed run.
const DECODED: usize = 32;

/// Runs of the long prompt at most: each takes seconds.
const RUNS: usize = 3;

const FORMATS: [(KvFormat, &str); 3] = [
    (KvFormat::F16, "f16"),
    (KvFormat::Fixed16, "fixed16"),
    (KvFormat::Fixed8, "fixed8"),
];

impl Bench<'_> {
    /// Decoding and prefill at [`LONG`] over the same at a short context.
    pub(super) fn length(
        &self,
        files: &ModelFiles,
        decode: bool,
        prefill: bool,
    ) -> anyhow::Result<Vec<Record>> {
        let mut records = Vec::new();
        if files.config().max_context < LONG + DECODED {
            return Ok(records);
        }
        for (format, name) in FORMATS {
            let mut options = CpuOptions::default();
            (options.threads, options.kv) = (Some(self.threads), format);
            let engine = files.cpu_engine(&options)?;
            let figures = Figures::measure(&engine, self.runs)?;
            for (wanted, bench, what, [short, long]) in [
                (prefill, "prefill", PROMPT, &figures.prefill),
                (decode, "decode", SHORT, &figures.decode),
            ] {
                if wanted {
                    let case = format!("at {LONG}, over {what}, {name} keys");
                    let mut record = self.record(bench, &case, "mx", "tok/s", long);
                    record.ratio = Some(record.median / spread(short).0);
                    records.push(record);
                }
            }
        }
        Ok(records)
    }
}

/// Rates at the short and at the long context.
struct Figures {
    prefill: [Vec<f64>; 2],
    decode: [Vec<f64>; 2],
}

impl Figures {
    fn measure(engine: &CpuEngine, runs: usize) -> anyhow::Result<Self> {
        let mut output = StepOutput::new();
        let mut figures = Figures {
            prefill: [Vec::new(), Vec::new()],
            decode: [Vec::new(), Vec::new()],
        };
        let ids = tokens(LONG + DECODED);
        let mut short = engine.new_sequence();
        step(engine, &mut [&mut short], &ids[..SHORT], &mut output)?;
        for _ in 0..runs.min(RUNS) {
            for (len, rates) in [PROMPT, LONG].into_iter().zip(&mut figures.prefill) {
                let mut sequence = engine.new_sequence();
                let started = Instant::now();
                for chunk in ids[..len].chunks(CHUNK) {
                    step(engine, &mut [&mut sequence], chunk, &mut output)?;
                }
                rates.push(len as f64 / started.elapsed().as_secs_f64());
                if len < LONG {
                    continue;
                }
                let [near, far] = &mut figures.decode;
                let (next, out) = (&ids[LONG..], &mut output);
                near.push(decode_behind(engine, &mut short, SHORT, next, out)?);
                far.push(decode_behind(engine, &mut sequence, LONG, next, out)?);
            }
        }
        Ok(figures)
    }
}
