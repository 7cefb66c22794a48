//! The loop on a model small enough to differentiate by hand.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::make::unwatched;
use crate::point::Site;
use std::ops::ControlFlow;

/// Logits of a model of width 3 and vocabulary 4: a fixed matrix applied to the vector, at every answer position.
fn toy(_: Point, targets: &[Target], vector: &Tensor<1>) -> Result<Vec<Tensor<2>>, ModelError> {
    let device = vector.device();
    let matrix: Vec<f32> = (0..12).map(|i| (0.9 * i as f32).cos()).collect();
    let matrix = Tensor::<2>::from_data(TensorData::new(matrix, [3, 4]), &device);
    let row = vector.clone().unsqueeze::<2>().matmul(matrix);
    Ok(targets
        .iter()
        .map(|target| row.clone().repeat_dim(0, target.answer().len()))
        .collect())
}

fn targets() -> Vec<Target> {
    Target::of_pairs(&[
        TokenPair {
            prompt_len: 1,
            positive: vec![0, 1, 2],
            negative: Some(vec![0, 3]),
        },
        TokenPair {
            prompt_len: 2,
            positive: vec![0, 0, 1],
            negative: None,
        },
    ])
}

fn run(options: &FewShotOptions) -> (SteeringVector, Vec<Descent>) {
    let point = Site::ResidPre.at(1);
    few_shot(
        &[point],
        &targets(),
        3,
        &Device::flex(),
        options,
        &mut toy,
        &mut unwatched,
    )
    .unwrap()
}

/// The loss by its formula.
fn loss(vector: &[f32], options: &FewShotOptions) -> f64 {
    let logits: Vec<f64> = (0..4)
        .map(|j| {
            (0..3)
                .map(|i| f64::from(vector[i]) * (0.9 * (i * 4 + j) as f64).cos())
                .sum::<f64>()
        })
        .collect();
    let weights: Vec<f64> = logits
        .iter()
        .map(|l| (options.coldness * l).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    let p = |token: usize| weights[token] / total;
    let e = options.epsilon;
    -(p(1) + e).ln() - (p(2) + e).ln() - (p(1) + e).ln() - (1.0 - p(3) + e).ln()
}

#[test]
fn loss_and_gradient_are_those_of_the_formula() {
    let start = vec![0.3f32, -0.2, 0.5];
    let options = FewShotOptions {
        start: Start::Vector(start.clone()),
        iterations: 0,
        ..Default::default()
    };
    let (_, descents) = run(&options);
    let descent = &descents[0];
    assert!((descent.losses[0] - loss(&start, &options)).abs() < 1e-5);
    for i in 0..3 {
        let h = 1e-3f32;
        let (mut above, mut below) = (start.clone(), start.clone());
        above[i] += h;
        below[i] -= h;
        let difference = (loss(&above, &options) - loss(&below, &options)) / (2.0 * f64::from(h));
        assert!(
            (difference - f64::from(descent.first_gradient[i])).abs() < 1e-3,
            "{i}"
        );
    }
}

#[test]
fn batches_change_nothing_but_rounding() {
    let options = |batch| FewShotOptions {
        batch,
        ..Default::default()
    };
    let (one, many) = (run(&options(1)).1, run(&options(64)).1);
    assert_eq!(one[0].losses.len(), 21);
    for (a, b) in one[0].losses.iter().zip(&many[0].losses) {
        assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()));
    }
    assert!(one[0].losses[20] < one[0].losses[0]);
}

#[test]
fn it_stops_where_it_is_told() {
    let capped = FewShotOptions {
        max_norm: Some(0.5),
        ..Default::default()
    };
    assert!(run(&capped).1[0].norms.iter().all(|n| *n <= 0.5 + 1e-6));
    let target = FewShotOptions {
        target_loss: Some(3.5),
        iterations: 500,
        ..Default::default()
    };
    let (_, descents) = run(&target);
    assert_eq!(descents[0].ended, Ended::TargetLoss);
    assert!(*descents[0].losses.last().unwrap() <= 3.5 && descents[0].losses.len() > 1);
    let satisfied = FewShotOptions {
        satisfice: true,
        iterations: 300,
        ..target.clone()
    };
    let last = *run(&satisfied).1[0].losses.last().unwrap();
    assert!((last - 3.5).abs() < 0.05, "{last}");
    let still = FewShotOptions {
        epsilon: 10.0,
        ..Default::default()
    };
    assert_eq!(run(&still).1[0].ended, Ended::Converged);
    let mut steps = 0;
    let mut watch = |_| {
        steps += 1;
        if steps > 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let point = Site::ResidPre.at(1);
    let options = FewShotOptions::default();
    let stopped = few_shot(
        &[point],
        &targets(),
        3,
        &Device::flex(),
        &options,
        &mut toy,
        &mut watch,
    );
    assert!(stopped.unwrap_err().is_cancelled());
}

#[test]
fn seeds_name_starts() {
    let start = |seed, layer| {
        let options = FewShotOptions {
            start: Start::Seed(seed),
            ..Default::default()
        };
        super::start(&options, Site::ResidPre.at(layer), 64)
    };
    assert_eq!(start(1, 2), start(1, 2));
    assert_ne!(start(1, 2), start(2, 2));
    assert_ne!(start(1, 2), start(1, 3));
    assert!((norm(&start(1, 2)) - 1.0).abs() < 1e-6);
}

#[test]
fn wrong_input_is_refused() {
    let point = [Site::ResidPre.at(0)];
    let device = Device::flex();
    let fails = |targets: &[Target], options: &FewShotOptions| {
        few_shot(
            &point,
            targets,
            3,
            &device,
            options,
            &mut toy,
            &mut unwatched,
        )
        .unwrap_err()
        .to_string()
    };
    let options = FewShotOptions::default();
    assert!(fails(&[], &options).contains("answers"));
    let promptless = Target {
        tokens: vec![1, 2],
        prompt_len: 0,
        promote: true,
    };
    assert!(fails(&[promptless], &options).contains("prompt_len"));
    let foreign = Target {
        tokens: vec![1, 99],
        prompt_len: 1,
        promote: true,
    };
    assert!(fails(&[foreign], &options).contains("99"));
    let wide = FewShotOptions {
        start: Start::Vector(vec![0.0; 4]),
        ..Default::default()
    };
    assert!(fails(&targets(), &wide).contains("4 numbers"));
    let mut short =
        |_: Point, _: &[Target], v: &Tensor<1>| Ok(vec![Tensor::<2>::zeros([1, 4], &v.device())]);
    let error = few_shot(
        &point,
        &targets(),
        3,
        &device,
        &options,
        &mut short,
        &mut unwatched,
    );
    assert!(error.unwrap_err().to_string().contains("wanted 3"));
}
