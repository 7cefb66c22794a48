//! Gradients through the decoder, checked by finite differences.

#![allow(clippy::unwrap_used)]

use burn::prelude::*;
use burn::tensor::activation::log_softmax;
use mx_runtime::device::DeviceId;
use mx_runtime::engine::burn::{BurnEngine, HookSite};
use mx_runtime::files::ModelFiles;
use mx_runtime::hooks::HookPoint;
use std::path::Path;

fn engine(name: &str) -> BurnEngine {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tiny_models");
    ModelFiles::open(&Path::new(root).join(name))
        .unwrap()
        .burn_engine(DeviceId::Flex)
        .unwrap()
}

/// Sum over both rows of −ln p(last token | the tokens before it), with `vector` added at `point` of every position.
fn loss(engine: &BurnEngine, vector: Tensor<1>, point: HookPoint) -> Tensor<1> {
    let rows: [&[u32]; 2] = [
        &[257, 61, 7, 100, 165],
        &[257, 12, 300, 9, 9, 41, 200, 3, 18, 77, 5],
    ];
    let mut add = |site: HookSite, x: Tensor<3>| match site.point == point {
        true => x + vector.clone().unsqueeze(),
        false => x,
    };
    let logits = engine.forward(&rows, &mut add).unwrap();
    let mut total = Tensor::zeros([1], &vector.device());
    for (line, row) in logits.into_iter().zip(rows) {
        let (before, target) = (row.len() - 2, row[row.len() - 1] as usize);
        let log_probabilities = log_softmax(line, 1);
        let picked = log_probabilities.slice([before..before + 1, target..target + 1]);
        total = total - picked.reshape([1]);
    }
    total
}

#[test]
fn gradients_agree_with_finite_differences() {
    for name in ["llama_gqa_tied", "mistral_swa"] {
        let engine = engine(name);
        let device = Device::flex();
        let width = 48.min(engine.embed(&[0]).dims()[1]);
        let start: Vec<f32> = (0..width).map(|i| 0.3 * (0.7 * i as f32).sin()).collect();
        for point in [
            HookPoint::ResidPre(0),
            HookPoint::AttnOut(1),
            HookPoint::Final,
        ] {
            let tracked = Tensor::<1>::from_floats(start.as_slice(), &device.clone().autodiff());
            let tracked = tracked.require_grad();
            let gradients = loss(&engine, tracked.clone(), point).backward();
            let gradient: Vec<f32> = tracked.grad(&gradients).unwrap().try_into_vec_as().unwrap();

            let value = |vector: &[f32]| {
                let vector = Tensor::from_floats(vector, &device);
                f64::from(loss(&engine, vector, point).into_scalar::<f32>())
            };
            let scale = gradient.iter().fold(0.0f32, |a, g| a.max(g.abs()));
            assert!(scale > 1e-3, "{name} {point}: no gradient");
            for i in (0..width).step_by(5) {
                let h = 1e-2;
                let (mut above, mut below) = (start.clone(), start.clone());
                above[i] += h;
                below[i] -= h;
                let difference = (value(&above) - value(&below)) / f64::from(2.0 * h);
                let error = (difference - f64::from(gradient[i])).abs();
                assert!(
                    error < 2e-2 * f64::from(scale),
                    "{name} {point} [{i}]: gradient {}, finite difference {difference}",
                    gradient[i]
                );
            }
        }
    }
}
