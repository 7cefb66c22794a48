//! Sampling: time per token, draw included, as a ratio to one plain maximum over the row.
//!
//! Floor and chain alternate on the same row, so that both meet the same machine; the ratio is that of the
//! medians. One thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use mx_runtime::model::{LoadOptions, Model};
use mx_runtime::session::{Cancel, Session};
use mx_runtime::tokenizer::Specials;
use mx_sampling::{Order, Sampler, SamplingOptions};

use super::{Options, Record};

/// Vocabularies of SmolLM2, Llama 3 and Gemma 3.
const VOCABULARIES: [usize; 3] = [49_152, 128_256, 262_144];

/// Rounds per case; each gives one time of the floor and one of the chain.
const ROUNDS: usize = 301;

/// What the live logits follow.
const STORY: &str =
    "Once upon a time, there was a little girl who lived in a village near the forest. One day she";

/// Tokens of history for the chains with penalties.
const HISTORY: usize = 200;

/// Runs every case.
///
/// # Errors
///
/// When a chain refuses its options or its row, which none of them may.
pub(super) fn run(options: &Options) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    for vocab in VOCABULARIES {
        for (name, row) in rows(vocab, options) {
            for (case, chain) in cases() {
                records.push(measure(&format!("{case}, {name}, {vocab}"), &row, &chain)?);
            }
        }
    }
    Ok(records)
}

/// The frozen floor: a plain maximum over the row, in 16 lanes, as the compiler vectorises `f32::max`. It
/// reproduces the anchors of the reference (6, 15 and 31 µs). Never change it: the bars are ratios to it.
#[inline(never)]
fn floor(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(x);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

fn cases() -> Vec<(&'static str, SamplingOptions)> {
    let base = || SamplingOptions {
        temperature: Some(1.0),
        ..SamplingOptions::default()
    };
    vec![
        ("greedy", SamplingOptions::default()),
        ("plain draw", base()),
        (
            "top-k 40",
            SamplingOptions {
                top_k: Some(40),
                ..base()
            },
        ),
        (
            "min-p 0.05",
            SamplingOptions {
                min_p: Some(0.05),
                ..base()
            },
        ),
        (
            "top-p 0.9",
            SamplingOptions {
                top_p: Some(0.9),
                ..base()
            },
        ),
        (
            "typical 0.9",
            SamplingOptions {
                typical_p: Some(0.9),
                ..base()
            },
        ),
        (
            "full chain (hf order)",
            SamplingOptions {
                temperature: Some(0.7),
                top_k: Some(50),
                top_p: Some(0.9),
                min_p: Some(0.02),
                repetition_penalty: Some(1.1),
                frequency_penalty: Some(0.1),
                presence_penalty: Some(0.1),
                no_repeat_ngram_size: Some(4),
                ..SamplingOptions::default()
            },
        ),
        (
            "full chain (llama order)",
            SamplingOptions {
                order: Some(Order::Llama),
                temperature: Some(0.8),
                top_k: Some(40),
                top_p: Some(0.95),
                min_p: Some(0.05),
                repetition_penalty: Some(1.1),
                ..SamplingOptions::default()
            },
        ),
    ]
}

fn measure(case: &str, row: &[f32], options: &SamplingOptions) -> anyhow::Result<Record> {
    let mut sampler = Sampler::new(options, row.len(), 1, 0)?;
    let history: Vec<u32> = (0..HISTORY as u32)
        .map(|i| (i * 7919) % row.len() as u32)
        .collect();
    sampler.observe_prompt(&history);
    history.iter().for_each(|token| sampler.commit(*token));
    let mut work = row.to_vec();
    let (mut floors, mut times) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        // The chain may change its row, so it gets a fresh copy outside the measured time; both passes then
        // find their row equally warm.
        work.copy_from_slice(row);
        floor(black_box(&work));
        let start = Instant::now();
        black_box(floor(black_box(&work)));
        floors.push(start.elapsed().as_secs_f64() * 1e6);
        let start = Instant::now();
        black_box(sampler.sample(black_box(&mut work), None)?);
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let (floor, time) = (median(&mut floors), median(&mut times));
    Ok(Record {
        bench: "sampling".into(),
        case: case.into(),
        engine: "mx".into(),
        threads: 1,
        unit: "µs/token".into(),
        median: time,
        min: times[0],
        max: times[times.len() - 1],
        runs: ROUNDS,
        ratio: Some(time / floor),
    })
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The rows of one vocabulary.
fn rows(vocab: usize, options: &Options) -> Vec<(&'static str, Vec<f32>)> {
    let mut rows = vec![
        ("sharp", synthetic(vocab, 1.5, (8.0, 20.0))),
        ("wide", synthetic(vocab, 2.5, (8.0, 12.3))),
        ("flat", synthetic(vocab, 1.0, (0.0, 1.0))),
    ];
    rows.extend(real(vocab, options).map(|row| ("real", row)));
    rows
}

/// Normal logits with 30 higher tokens.
fn synthetic(vocab: usize, deviation: f64, high: (f64, f64)) -> Vec<f32> {
    let mut random = SplitMix(vocab as u64);
    let mut row: Vec<f32> = (0..vocab)
        .map(|_| (random.normal() * deviation) as f32)
        .collect();
    for i in 0..30 {
        let at = (random.next() % vocab as u64) as usize;
        row[at] = (high.0 + (high.1 - high.0) * f64::from(i) / 29.0) as f32;
    }
    row
}

/// Logits of a model after the start of a story: SmolLM2 for the smallest vocabulary, Gemma 3 for the largest, where
/// their files are here and can be run.
fn real(vocab: usize, options: &Options) -> Option<Vec<f32>> {
    let found = crate::golden::Models::on_this_machine();
    let files = [options.model.clone(), found.smollm2, found.gemma3];
    files.into_iter().flatten().find_map(|file| {
        let model = Model::load(&file, &LoadOptions::default()).ok()?;
        let tokens = model.tokenizer()?.encode(STORY, Specials::AsText).ok()?;
        if model.config().vocab != vocab {
            return None;
        }
        let mut session = Session::new(Arc::clone(model.engine()));
        let output = session.prefill(&tokens, &Cancel::new()).ok()?;
        Some(output.logits(0).last()?.to_vec())
    })
}

struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
