//! The same sampler on the logits of three kinds of engines. `cargo run --example engines -p mx-sampling`
#![allow(clippy::print_stdout)]

use mx_sampling::{Order, Sampler, SamplingError, SamplingOptions};

/// Stands for a model: a row of logits after some tokens.
fn forward(tokens: &[u32], vocab: usize) -> Vec<f32> {
    let last = tokens.last().copied().unwrap_or(0);
    (0..vocab as u32)
        .map(|id| ((id * 37 + last * 11) % 23) as f32 * 0.4)
        .collect()
}

/// candle: `logits.to_vec1::<f32>()?` gives a vector.
fn candle_like(tokens: &mut Vec<u32>, vocab: usize) -> Result<(), SamplingError> {
    let options = SamplingOptions {
        temperature: Some(0.8),
        top_p: Some(0.9),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&options, vocab, 299_792_458, 0)?;
    sampler.observe_prompt(tokens);
    for _ in 0..8 {
        let mut logits: Vec<f32> = forward(tokens, vocab);
        let next = sampler.sample(&mut logits, None)?.token;
        sampler.commit(next);
        tokens.push(next);
    }
    Ok(())
}

/// ort: one flat output of shape `[batch, seq, vocab]`; the last position of each sequence is wanted.
fn ort_like(batch: &mut [Vec<u32>], vocab: usize) -> Result<(), SamplingError> {
    let options = SamplingOptions {
        top_k: Some(5),
        repetition_penalty: Some(1.2),
        ..Default::default()
    };
    let mut samplers = Vec::new();
    for (index, tokens) in batch.iter().enumerate() {
        let mut sampler = Sampler::new(&options, vocab, 42, index as u64)?;
        sampler.observe_prompt(tokens);
        samplers.push(sampler);
    }
    for _ in 0..8 {
        let seq = 2;
        let output: Vec<f32> = batch
            .iter()
            .flat_map(|tokens| [forward(&[], vocab), forward(tokens, vocab)].concat())
            .collect();
        for ((sampler, tokens), rows) in samplers
            .iter_mut()
            .zip(batch.iter_mut())
            .zip(output.chunks(seq * vocab))
        {
            let mut last = rows[(seq - 1) * vocab..].to_vec();
            let next = sampler.sample(&mut last, None)?.token;
            sampler.commit(next);
            tokens.push(next);
        }
    }
    Ok(())
}

/// llama.cpp: the engine's own buffer, sampled in place, in llama.cpp's order.
fn llama_like(tokens: &mut Vec<u32>, vocab: usize) -> Result<(), SamplingError> {
    let options = SamplingOptions {
        order: Some(Order::Llama),
        temperature: Some(0.8),
        top_k: Some(40),
        top_p: Some(0.95),
        min_p: Some(0.05),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&options, vocab, 1234, 0)?;
    sampler.observe_prompt(tokens);
    for _ in 0..8 {
        let mut buffer = forward(tokens, vocab);
        let logits: &mut [f32] = &mut buffer;
        let next = sampler.sample(logits, None)?.token;
        sampler.commit(next);
        tokens.push(next);
    }
    Ok(())
}

fn main() -> Result<(), SamplingError> {
    let mut tokens = vec![1, 2, 3];
    candle_like(&mut tokens, 100)?;
    println!("candle-like: {tokens:?}");
    let mut batch = vec![vec![1, 2, 3], vec![4, 5]];
    ort_like(&mut batch, 100)?;
    println!("ort-like: {batch:?}");
    let mut tokens = vec![1, 2, 3];
    llama_like(&mut tokens, 100)?;
    println!("llama.cpp-like: {tokens:?}");
    Ok(())
}
