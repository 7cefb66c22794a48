//! Sampling: time per token, draw included, as a ratio to one plain maximum over the row.
//!
//! Floor and chain alternate on the same row, so that both meet the same machine; the ratio is that of the
//! medians. One thread.

use std::hint::black_box;
use std::time::Instant;

use mx_sampling::{Order, Sampler, SamplingOptions};

use super::{Options, Record};

/// Vocabularies of SmolLM2, Llama 3 and Gemma 3.
const VOCABULARIES: [usize; 3] = [49_152, 128_256, 262_144];

/// Rounds per case; each gives one time of the floor and one of the chain.
const ROUNDS: usize = 301;

/// Tokens of history for the chains with penalties.
const HISTORY: usize = 200;

/// Runs every case.
///
/// # Errors
///
/// When a chain refuses its options or its row, which none of them may.
pub(super) fn run(_options: &Options) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    for vocab in VOCABULARIES {
        for (name, row) in rows(vocab) {
            for (case, options) in cases() {
                records.push(measure(
                    &format!("{case}, {name}, {vocab}"),
                    &row,
                    &options,
                )?);
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
fn rows(vocab: usize) -> Vec<(&'static str, Vec<f32>)> {
    vec![
        ("sharp", synthetic(vocab, 1.5, (8.0, 20.0))),
        ("wide", synthetic(vocab, 2.5, (8.0, 12.3))),
        ("flat", synthetic(vocab, 1.0, (0.0, 1.0))),
        ("real", real(vocab)),
    ]
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

/// Logits as SmolLM2-135M has them after the start of a story: the 20 largest as they are, the others drawn
/// from the quantiles of 64 logits at equally spaced ids.
fn real(vocab: usize) -> Vec<f32> {
    const TOP: [f32; 20] = [
        23.456, 23.335, 22.516, 21.931, 21.684, 21.234, 21.193, 20.748, 20.488, 20.35, 20.01,
        19.946, 19.641, 19.344, 19.311, 19.307, 19.214, 19.21, 19.154, 19.112,
    ];
    #[allow(
        clippy::approx_constant,
        reason = "logits, one of which happens to lie near a constant"
    )]
    const QUANTILES: [f32; 65] = [
        -7.59, -2.06, -1.87, -1.83, -1.75, -1.7, -1.26, -0.72, -0.32, -0.31, -0.25, 0.13, 0.13,
        0.18, 0.25, 0.37, 0.39, 0.69, 0.8, 1.07, 1.19, 1.27, 1.5, 1.95, 2.05, 2.23, 2.63, 3.01,
        3.08, 3.1, 3.2, 3.28, 3.67, 3.69, 3.83, 4.18, 4.31, 4.4, 4.61, 4.63, 4.8, 4.81, 5.58, 5.8,
        5.92, 6.04, 6.04, 6.09, 6.23, 6.28, 6.59, 6.7, 7.32, 7.33, 7.36, 7.62, 7.92, 8.29, 9.07,
        10.37, 10.7, 11.9, 12.45, 12.64, 19.1,
    ];
    let mut random = SplitMix(vocab as u64 + 1);
    let mut row: Vec<f32> = (0..vocab)
        .map(|_| {
            let at = random.unit() * 64.0;
            let (low, part) = (at as usize, at.fract());
            // Beyond the largest sample the law thins out like a cube, up to the smallest of the top 20.
            let part = if low == 63 { part.powi(9) } else { part };
            QUANTILES[low] + (QUANTILES[low + 1] - QUANTILES[low]) * part as f32
        })
        .collect();
    for logit in TOP {
        let at = (random.next() % vocab as u64) as usize;
        row[at] = logit;
    }
    row
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
