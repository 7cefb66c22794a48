//! The parts that a block is assembled from.

use crate::config::{Activation, Rope};
use burn::prelude::*;
use burn::tensor::activation::silu;

/// `y = x Wᵀ + b`.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    /// `[out, in]`, as files store it; the product reads it as a transposed view.
    pub(super) weight: Tensor<2>,
    /// `[out]`.
    pub(super) bias: Option<Tensor<1>>,
}

impl Linear {
    /// `[tokens, in]` → `[tokens, out]`.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = x.matmul(self.weight.clone().transpose());
        match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }
}

/// `w · x / rms(x)` (Zhang 2019, arXiv 1910.07467).
#[derive(Debug, Clone)]
pub(super) struct RmsNorm {
    /// `[d_model]`.
    pub(super) weight: Tensor<1>,
    pub(super) eps: f32,
}

impl RmsNorm {
    /// `[tokens, d_model]` → the same.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mean_square = (x.clone() * x.clone()).mean_dim(1);
        let rms = (mean_square + self.eps).sqrt();
        x / rms * self.weight.clone().unsqueeze()
    }
}

/// `down(act(gate(x)) · up(x))` (Shazeer 2020, arXiv 2002.05202).
#[derive(Debug, Clone)]
pub(super) struct GatedMlp {
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) activation: Activation,
}

impl GatedMlp {
    /// `[tokens, d_model]` → the same.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = match self.activation {
            Activation::Silu => silu(self.gate.forward(x.clone())),
        };
        self.down.forward(gate * self.up.forward(x))
    }
}

/// Cos and sin of the positions of one step.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    /// `[tokens, 1, head_dim / 2]`.
    cos: Tensor<3>,
    /// `[tokens, 1, head_dim / 2]`.
    sin: Tensor<3>,
}

impl Rotation {
    /// The rotation of each of `positions`.
    pub(super) fn new(
        inverse_frequencies: &[f32],
        factor: f32,
        positions: &[usize],
        device: &Device,
    ) -> Self {
        let half = inverse_frequencies.len();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for &position in positions {
            Rope::table(inverse_frequencies, factor, position, &mut cos, &mut sin);
        }
        let tensor =
            |values| Tensor::from_data(TensorData::new(values, [positions.len(), 1, half]), device);
        Rotation {
            cos: tensor(cos),
            sin: tensor(sin),
        }
    }

    /// Turns pairs `(i, i + head_dim / 2)` of every head: `[tokens, heads, head_dim]` → the same.
    pub(super) fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        let half = x.dims()[2] / 2;
        let (a, b) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
        let turned_a = a.clone() * self.cos.clone() - b.clone() * self.sin.clone();
        let turned_b = b * self.cos.clone() + a * self.sin.clone();
        Tensor::cat(vec![turned_a, turned_b], 2)
    }
}
