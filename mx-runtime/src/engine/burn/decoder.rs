//! The decoder: embedding, blocks, norm, head.

use super::attention::Attention;
use super::parts::{GatedMlp, Linear, RmsNorm, Rotation};
use super::step::Step;
use crate::engine::EngineError;
use crate::hooks::HookPoint;
use burn::prelude::*;

/// A decoder-only transformer, assembled from parts by the configuration.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    /// `[vocab, d_model]`.
    pub(super) embedding: Tensor<2>,
    pub(super) blocks: Vec<Block>,
    pub(super) final_norm: RmsNorm,
    /// `[vocab, d_model]`; the embedding itself where the head is tied.
    pub(super) head: Linear,
}

/// One block: `x += attention(norm(x)); x += mlp(norm(x))`.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) attn_norm: RmsNorm,
    pub(super) attention: Attention,
    pub(super) mlp_norm: RmsNorm,
    pub(super) mlp: GatedMlp,
}

impl Decoder {
    /// The residual stream after the final norm, `[tokens, d_model]`, for the tokens of all rows of `step`.
    pub(super) fn forward(
        &self,
        tokens: Tensor<1, Int>,
        rotation: &Rotation,
        step: &mut Step<'_, '_>,
    ) -> Result<Tensor<2>, EngineError> {
        let x = self.embedding.clone().select(0, tokens);
        self.forward_from(0, x, rotation, step)
    }

    /// [`forward`](Decoder::forward) from the input of block `first` on, `[tokens, d_model]`.
    pub(super) fn forward_from(
        &self,
        first: usize,
        x: Tensor<2>,
        rotation: &Rotation,
        step: &mut Step<'_, '_>,
    ) -> Result<Tensor<2>, EngineError> {
        let mut x = x;
        for (layer, block) in self.blocks.iter().enumerate().skip(first) {
            x = step.hook(HookPoint::ResidPre(layer), x)?;
            x = block.forward(layer, x, rotation, step)?;
            x = step.hook(HookPoint::ResidPost(layer), x)?;
        }
        step.hook(HookPoint::Final, self.final_norm.forward(x))
    }

    /// `[lines, d_model]` → `[lines, vocab]`.
    pub(super) fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        self.head.forward(x)
    }
}

impl Block {
    /// `[tokens, d_model]` → the same.
    fn forward(
        &self,
        layer: usize,
        x: Tensor<2>,
        rotation: &Rotation,
        step: &mut Step<'_, '_>,
    ) -> Result<Tensor<2>, EngineError> {
        let attention =
            self.attention
                .forward(layer, self.attn_norm.forward(x.clone()), rotation, step);
        let attention = step.hook(HookPoint::AttnOut(layer), attention)?;
        let x = step.hook(HookPoint::ResidMid(layer), x + attention)?;
        let mlp = step.hook(
            HookPoint::MlpOut(layer),
            self.mlp.forward(self.mlp_norm.forward(x.clone())),
        )?;
        Ok(x + mlp)
    }
}
