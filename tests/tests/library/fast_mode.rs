//! The CPU engine's fast mode against its exact mode on the default model.

use crate::default_model;
use mx_runtime::engine::{Engine, Row, StepOutput, Want};
use mx_runtime::model::{EngineChoice, LoadOptions, Model};
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
