//! The CPU engine's fast mode against its exact mode on the default model.

use crate::default_model;
use mx_runtime::engine::{Engine, Row, StepOutput, Want};
use mx_runtime::model::{EngineChoice, LoadOptions, Model};
use mx_runtime::tokenizer::Specials;
use mx_tests::data;
use std::path::Path;
use std::sync::Arc;

fn engine(path: &Path, exact: bool) -> Arc<dyn Engine> {
    let mut options = LoadOptions::default();
    options.engine = EngineChoice::Cpu;
    options.cpu.exact = exact;
    Arc::clone(Model::load(path, &options).unwrap().engine())
}

fn logits(engine: &dyn Engine, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut sequence = engine.new_sequence();
    let mut output = StepOutput::new();
    let row = Row {
        sequence: &mut sequence,
        tokens,
        want: Want::All,
        hooks: None,
    };
    engine.step(&mut [row], &mut output).unwrap();
    output.logits(0).iter().map(<[f32]>::to_vec).collect()
}

fn log_probabilities(line: &[f32]) -> Vec<f64> {
    let max = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = line.iter().map(|x| f64::from(x - max).exp()).sum();
    line.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
}

/// Kullback-Leibler divergence of the fast law from the exact one, in nats.
fn divergence(exact: &[f32], fast: &[f32]) -> f64 {
    let (p, q) = (log_probabilities(exact), log_probabilities(fast));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

#[test]
fn rounding_activations_changes_little() {
    let Some(model) = default_model::model("rounding_activations_changes_little") else {
        return;
    };
    let (exact, fast) = (engine(model.path(), true), engine(model.path(), false));
    let golden = data::json("smollm2_golden.json");
    let mut all = Vec::new();
    for prompt in golden["prompts"].as_array().unwrap() {
        let mut tokens: Vec<u32> = serde_json::from_value(prompt["ids"].clone()).unwrap();
        tokens.extend(serde_json::from_value::<Vec<u32>>(prompt["greedy"].clone()).unwrap());
        let pairs = logits(&*exact, &tokens)
            .into_iter()
            .zip(logits(&*fast, &tokens));
        for (position, (exact, fast)) in pairs.enumerate() {
            let divergence = divergence(&exact, &fast);
            all.push(divergence);
            let best = |line: &[f32]| {
                (0..line.len())
                    .max_by(|&a, &b| line[a].total_cmp(&line[b]))
                    .unwrap()
            };
            let mut sorted = exact.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            if sorted[0] - sorted[1] > 0.5 {
                assert_eq!(best(&exact), best(&fast), "{} {position}", prompt["name"]);
            }
        }
    }
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let max = all.iter().copied().fold(0.0, f64::max);
    assert!(max < 0.5, "largest divergence {max}");
    assert!(mean < 1e-2, "mean divergence {mean}");
}

/// Prompts in several manners, beside the recorded ones.
const PROMPTS: [&str; 6] = [
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "The three largest cities of Japan are",
    "{\"name\": \"Ada\", \"born\": ",
    "Water boils at 100 degrees Celsius because",
    "Dear Sir or Madam,\n\nI am writing to",
];

/// Tokens of a continuation that are compared.
const CONTINUED: usize = 24;

/// A lead of the best token below which rounding may let the second win.
const GAP: f32 = 0.15;

/// Greedy decoding takes the same tokens as long as the choice is clear.
#[test]
fn greedy_tokens_agree_up_to_the_first_close_call() {
    let Some(model) = default_model::model("greedy_tokens_agree_up_to_the_first_close_call") else {
        return;
    };
    let (exact, fast) = (engine(model.path(), true), engine(model.path(), false));
    let tokenizer = model.tokenizer().unwrap();
    let mut prompts: Vec<Vec<u32>> = PROMPTS
        .iter()
        .map(|text| tokenizer.encode(text, Specials::AsText).unwrap())
        .collect();
    let golden = data::json("smollm2_golden.json");
    for prompt in golden["prompts"].as_array().unwrap() {
        prompts.push(serde_json::from_value(prompt["ids"].clone()).unwrap());
    }
    let mut compared = 0;
    for prompt in &prompts {
        let mut sequences = [exact.new_sequence(), fast.new_sequence()];
        let mut next = prompt.clone();
        for step in 0..CONTINUED {
            let mut lines = Vec::new();
            for (engine, sequence) in [&exact, &fast].into_iter().zip(&mut sequences) {
                let mut output = StepOutput::new();
                let row = Row {
                    sequence,
                    tokens: &next,
                    want: Want::Last,
                    hooks: None,
                };
                engine.step(&mut [row], &mut output).unwrap();
                lines.push(output.logits(0).last().unwrap().to_vec());
            }
            let (token, lead) = best_and_lead(&lines[0]);
            if lead < GAP {
                break;
            }
            assert_eq!(
                token,
                best_and_lead(&lines[1]).0,
                "{prompt:?}, token {step}, lead {lead}"
            );
            compared += 1;
            next = vec![token];
        }
    }
    assert!(compared > 4 * prompts.len(), "{compared} tokens compared");
}

/// The best token and how far it is ahead of the second.
fn best_and_lead(line: &[f32]) -> (u32, f32) {
    let (mut best, mut first, mut second) = (0, f32::NEG_INFINITY, f32::NEG_INFINITY);
    for (token, &x) in line.iter().enumerate() {
        if x > first {
            (best, first, second) = (token as u32, x, first);
        } else if x > second {
            second = x;
        }
    }
    (best, first - second)
}
