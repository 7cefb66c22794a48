//! Weights from a checkpoint onto a burn device.

use super::BurnEngine;
use super::attention::Attention;
use super::decoder::{Block, Decoder};
use super::parts::{GatedMlp, Linear, RmsNorm};
use crate::config::ModelConfig;
use crate::device::DeviceId;
use crate::engine::EngineInfo;
use crate::weights::names::{LayerParam, Param};
use crate::weights::{Checkpoint, CheckpointError};
use burn::prelude::*;

impl BurnEngine {
    /// Loads the weights of `config` from `checkpoint` as f32 tensors onto `device`.
    ///
    /// # Errors
    /// [`CheckpointError`] for a missing or misshapen tensor or a stored type that cannot be converted.
    pub fn load(
        config: &ModelConfig,
        checkpoint: &Checkpoint,
        device: DeviceId,
        burn_device: Device,
    ) -> Result<Self, CheckpointError> {
        let loader = Loader {
            config,
            checkpoint,
            device: &burn_device,
        };
        let decoder = loader.decoder()?;
        Ok(BurnEngine {
            config: config.clone(),
            info: EngineInfo::new("burn", device.to_string(), "f32".to_owned()),
            decoder,
            inverse_frequencies: config.rope.inverse_frequencies(),
            device: burn_device,
        })
    }
}

struct Loader<'a> {
    config: &'a ModelConfig,
    checkpoint: &'a Checkpoint,
    device: &'a Device,
}

impl Loader<'_> {
    fn decoder(&self) -> Result<Decoder, CheckpointError> {
        let embedding: Tensor<2> = self.tensor(Param::TokenEmbedding)?;
        let weight = if self.config.tied_head {
            embedding.clone()
        } else {
            self.tensor(Param::OutputHead)?
        };
        // Not collected into a pre-sized list: the count comes from a file.
        let mut blocks = Vec::new();
        for layer in 0..self.config.layers {
            blocks.push(self.block(layer)?);
        }
        Ok(Decoder {
            embedding,
            blocks,
            final_norm: self.norm(Param::FinalNorm)?,
            head: Linear { weight, bias: None },
        })
    }

    fn block(&self, layer: usize) -> Result<Block, CheckpointError> {
        use LayerParam::*;
        let config = self.config;
        let linear = |weight, bias, has_bias| self.linear(layer, weight, bias, has_bias);
        Ok(Block {
            attn_norm: self.norm(Param::Layer(layer, AttnNorm))?,
            attention: Attention {
                wq: linear(Wq, Bq, config.qkv_bias)?,
                wk: linear(Wk, Bk, config.qkv_bias)?,
                wv: linear(Wv, Bv, config.qkv_bias)?,
                wo: linear(Wo, Bo, config.output_bias)?,
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: config.head_dim,
                scale: config.attention_scale,
                span: config.spans[layer],
            },
            mlp_norm: self.norm(Param::Layer(layer, MlpNorm))?,
            mlp: GatedMlp {
                gate: linear(WGate, BGate, config.mlp_bias)?,
                up: linear(WUp, BUp, config.mlp_bias)?,
                down: linear(WDown, BDown, config.mlp_bias)?,
                activation: config.activation,
            },
        })
    }

    fn norm(&self, param: Param) -> Result<RmsNorm, CheckpointError> {
        Ok(RmsNorm {
            weight: self.tensor(param)?,
            eps: self.config.norm_eps,
        })
    }

    fn linear(
        &self,
        layer: usize,
        weight: LayerParam,
        bias: LayerParam,
        has_bias: bool,
    ) -> Result<Linear, CheckpointError> {
        let bias = match has_bias {
            true => Some(self.tensor(Param::Layer(layer, bias))?),
            false => None,
        };
        Ok(Linear {
            weight: self.tensor(Param::Layer(layer, weight))?,
            bias,
        })
    }

    fn tensor<const D: usize>(&self, param: Param) -> Result<Tensor<D>, CheckpointError> {
        let weight = self.checkpoint.weight(param, self.config)?;
        let shape = weight.tensor.shape.clone();
        Ok(Tensor::from_data(
            TensorData::new(weight.to_f32()?, shape),
            self.device,
        ))
    }
}
