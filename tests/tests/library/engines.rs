//! The suite on every engine there is, and the engines against each other.

use crate::engine_suite::{Subject, agree};
use mx_runtime::engine::cpu::CpuOptions;
use mx_runtime::engine::{Engine, Row, StepOutput, Want};
use mx_runtime::model::{EngineChoice, LoadOptions, Model};
use mx_tests::data;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The burn engine on a model file or folder.
fn burn(path: PathBuf) -> Subject {
    let mut options = LoadOptions::default();
    options.engine = EngineChoice::Burn;
    subject(&path, &options, 1e-4)
}

/// The CPU engine, which promises the same bits on every way.
fn cpu(path: PathBuf, exact: bool) -> Subject {
    let mut options = LoadOptions::default();
    options.engine = EngineChoice::Cpu;
    options.cpu.exact = exact;
    subject(&path, &options, 0.0)
}

fn subject(path: &Path, options: &LoadOptions, ways: f32) -> Subject {
    let engine = || Arc::clone(Model::load(path, options).unwrap().engine());
    Subject {
        engine: engine(),
        stranger: engine(),
        ways,
        definition: 1e-4,
    }
}

engine_suite!(
    burn_grouped_queries_tied_head,
    burn(data::gguf("llama_gqa_tied"))
);
engine_suite!(burn_scaled_rope, burn(data::folder("llama3_rope_untied")));
engine_suite!(burn_sliding_window, burn(data::folder("mistral_swa")));
engine_suite!(burn_dequantised, burn(data::gguf("llama_q64_q4_0")));
engine_suite!(
    cpu_scaled_rope,
    cpu(data::folder("llama3_rope_untied"), false)
);
engine_suite!(cpu_sliding_window, cpu(data::folder("mistral_swa"), false));
engine_suite!(cpu_four_bits, cpu(data::gguf("llama_q64_q4_0"), false));
engine_suite!(cpu_four_bits_exact, cpu(data::gguf("llama_q64_q4_0"), true));
engine_suite!(cpu_eight_bits, cpu(data::gguf("llama_q64_q8_0"), false));

/// Logits of all tokens.
fn logits(engine: &dyn Engine, tokens: &[u32]) -> Vec<f32> {
    let mut sequence = engine.new_sequence();
    let mut output = StepOutput::new();
    let row = Row {
        sequence: &mut sequence,
        tokens,
        want: Want::All,
        hooks: None,
    };
    engine.step(&mut [row], &mut output).unwrap();
    output.logits(0).iter().flatten().copied().collect()
}

/// Kullback-Leibler divergence of the laws of two rows of logits.
pub(crate) fn divergence(wanted: &[f32], given: &[f32]) -> f64 {
    let law = |row: &[f32]| {
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - top).exp()).sum();
        row.iter()
            .map(|x| f64::from(x - top) - sum.ln())
            .collect::<Vec<f64>>()
    };
    law(wanted)
        .iter()
        .zip(law(given))
        .map(|(w, g)| w.exp() * (w - g))
        .sum()
}

/// At every length of a prompt up to past every tile and window.
#[test]
fn the_exact_cpu_engine_computes_what_the_burn_engine_computes() {
    for path in [
        data::folder("llama3_rope_untied"),
        data::folder("mistral_swa"),
        data::gguf("llama_q64_q4_0"),
        data::gguf("llama_q64_q8_0"),
        data::gguf("llama_bf16_sharded"),
    ] {
        let what = path.display().to_string();
        let reference = burn(path.clone());
        if mx_runtime::engine::cpu::CpuEngine::supports(reference.config()).is_err() {
            continue;
        }
        let exact = cpu(path, true);
        for length in 1..=70 {
            let tokens = reference.tokens(length, length as u64);
            let wanted = logits(&*reference.engine, &tokens);
            agree(
                &logits(&*exact.engine, &tokens),
                &wanted,
                2e-4,
                &format!("{what}, {length} tokens"),
            );
        }
    }
}

/// With activations in 8 bits the law stays close: random models are the worst case, as no token is likely.
#[test]
fn the_cpu_engine_stays_close_to_the_burn_engine() {
    for model in ["llama_q64_q4_0", "llama_q64_q8_0"] {
        let (reference, fast) = (burn(data::gguf(model)), cpu(data::gguf(model), false));
        let vocab = reference.config().vocab;
        for length in [1, 7, 16, 17, 31, 37, 64, 70] {
            let tokens = reference.tokens(length, length as u64);
            let (wanted, given) = (
                logits(&*reference.engine, &tokens),
                logits(&*fast.engine, &tokens),
            );
            let lines = wanted.chunks_exact(vocab).zip(given.chunks_exact(vocab));
            let mean = lines
                .map(|(wanted, given)| divergence(wanted, given))
                .sum::<f64>()
                / length as f64;
            assert!(mean < 0.01, "{model}, {length} tokens: {mean}");
        }
    }
}

/// Neither the number of threads nor an earlier, larger step changes a bit.
#[test]
fn the_cpu_engine_gives_the_same_bits_on_any_number_of_threads() {
    let tokens: Vec<u32> = (10..60).collect();
    let run = |threads: usize| {
        let mut options = LoadOptions::default();
        options.engine = EngineChoice::Cpu;
        options.cpu = CpuOptions::default();
        options.cpu.threads = Some(threads);
        let model = Model::load(&data::gguf("llama_q64_q4_0"), &options).unwrap();
        let first = logits(&**model.engine(), &tokens);
        logits(&**model.engine(), &[tokens.as_slice(), &tokens].concat());
        assert!(
            first == logits(&**model.engine(), &tokens),
            "{threads} threads, after a larger step"
        );
        first
    };
    let one = run(1);
    for threads in [2, 3, 5] {
        assert!(one == run(threads), "{threads} threads");
    }
}
