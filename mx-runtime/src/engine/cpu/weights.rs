//! The weights of a decoder, packed.

use super::error::CpuError;
use super::kernels::LANES;
use super::kv::MAX_HEAD_DIM;
use super::pack::{Format, PackedMatrix, WeightPacker};
use super::threads::{Region, ThreadPool};
use crate::config::ModelConfig;
use crate::weights::names::{LayerParam, Param};
use crate::weights::{Checkpoint, CheckpointError, TensorType, dequantize_into};
use std::sync::OnceLock;

/// What keeps a model from being packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The checkpoint lacks a tensor or cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The kernels cannot hold the model.
    #[error(transparent)]
    Cpu(#[from] CpuError),
}

/// All weights of a model.
#[derive(Debug)]
pub(super) struct Weights {
    /// `[vocab, d_model]`.
    pub(super) embedding: PackedMatrix,
    pub(super) layers: Vec<Layer>,
    /// `[d_model]`.
    pub(super) final_norm: Vec<f32>,
    /// `[vocab, d_model]`; `None` where it is the embedding.
    pub(super) head: Option<PackedMatrix>,
}

/// The weights of one block.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attn_norm: Vec<f32>,
    pub(super) wq: PackedMatrix,
    pub(super) wk: PackedMatrix,
    pub(super) wv: PackedMatrix,
    /// `[(heads + 2 kv_heads) * head_dim]`, empty without.
    pub(super) qkv_bias: Vec<f32>,
    pub(super) wo: PackedMatrix,
    pub(super) bo: Vec<f32>,
    pub(super) mlp_norm: Vec<f32>,
    pub(super) gate: PackedMatrix,
    pub(super) up: PackedMatrix,
    pub(super) down: PackedMatrix,
    pub(super) gate_bias: Vec<f32>,
    pub(super) up_bias: Vec<f32>,
    pub(super) down_bias: Vec<f32>,
}

/// The matrices of a block, in the order in which they are packed.
const LAYER_MATRICES: [LayerParam; 7] = [
    LayerParam::Wq,
    LayerParam::Wk,
    LayerParam::Wv,
    LayerParam::Wo,
    LayerParam::WGate,
    LayerParam::WUp,
    LayerParam::WDown,
];

impl Weights {
    /// Packs the weights of `config`, in parallel. Matrices are quantised to `quantize` if it is given; otherwise block
    /// formats that the kernels know stay as they are in the file and the others become f32.
    pub(super) fn load(
        config: &ModelConfig,
        checkpoint: &Checkpoint,
        quantize: Option<Format>,
        exact: bool,
        pool: &mut ThreadPool,
    ) -> Result<Self, PackError> {
        let loader = Loader {
            config,
            checkpoint,
            quantize,
        };
        // The largest matrices first: the pages of the file that one is read from are given back only when it is done.
        let mut params = vec![Param::TokenEmbedding];
        params.extend((!config.tied_head).then_some(Param::OutputHead));
        for layer in 0..config.layers {
            params.extend(LAYER_MATRICES.map(|part| Param::Layer(layer, part)));
        }

        let mut packer = match exact {
            true => WeightPacker::new(),
            false => WeightPacker::new().joining_scales(),
        };
        pool.region(|region| {
            params
                .into_iter()
                .try_for_each(|param| loader.pack(region, &mut packer, param))
        })?;
        let mut matrices = packer.finish().into_iter();
        let embedding = matrices.next();
        let head = (!config.tied_head).then(|| matrices.next()).flatten();
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            layers.extend(loader.layer(layer, &mut matrices)?);
        }
        let missing = || CpuError::Size {
            what: "packed matrices",
            given: 0,
            wanted: 1,
        };
        Ok(Weights {
            embedding: embedding.ok_or_else(missing)?,
            head,
            layers,
            final_norm: loader.vector(Param::FinalNorm)?,
        })
    }

    /// The matrix that makes logits.
    pub(super) fn head(&self) -> &PackedMatrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Bytes that one decoded token reads, through so many layers.
    pub(super) fn bytes_per_token(&self, layers: usize) -> usize {
        let layer = |l: &Layer| {
            [&l.wq, &l.wk, &l.wv, &l.wo, &l.gate, &l.up, &l.down].map(PackedMatrix::bytes)
        };
        let layers: usize = self.layers.iter().take(layers).flat_map(layer).sum();
        layers + self.head().bytes()
    }

    /// The formats of the matrices, for people: that of the layers and that of the head.
    pub(super) fn describe(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for layer in &self.layers {
            for matrix in [&layer.wq, &layer.wv, &layer.down] {
                let name = matrix.format().name();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let head = self.head().format().name();
        if !names.contains(&head) {
            names.push(head);
        }
        names.join("+")
    }
}

/// Why the kernels cannot run a model, if they cannot.
pub(super) fn unsupported(config: &ModelConfig) -> Option<CpuError> {
    if !config.head_dim.is_multiple_of(LANES) {
        let given = config.head_dim;
        return Some(CpuError::Multiple {
            what: "head_dim",
            given,
            multiple_of: LANES,
        });
    }
    (config.head_dim > MAX_HEAD_DIM).then_some(CpuError::Limit {
        what: "head_dim",
        given: config.head_dim,
        limit: MAX_HEAD_DIM,
    })
}

struct Loader<'a> {
    config: &'a ModelConfig,
    checkpoint: &'a Checkpoint,
    quantize: Option<Format>,
}

impl Loader<'_> {
    /// The block of the next packed matrices; `None` when they have run out.
    fn layer(
        &self,
        layer: usize,
        matrices: &mut impl Iterator<Item = PackedMatrix>,
    ) -> Result<Option<Layer>, PackError> {
        use LayerParam::*;
        let config = self.config;
        let param = |part| Param::Layer(layer, part);
        let bias = |has: bool, parts: &[LayerParam]| -> Result<Vec<f32>, PackError> {
            let mut values = Vec::new();
            for &part in parts.iter().filter(|_| has) {
                values.extend(self.vector(param(part))?);
            }
            Ok(values)
        };
        let packed: Vec<PackedMatrix> = matrices.take(LAYER_MATRICES.len()).collect();
        let Ok([wq, wk, wv, wo, gate, up, down]) = <[PackedMatrix; 7]>::try_from(packed) else {
            return Ok(None);
        };
        Ok(Some(Layer {
            attn_norm: self.vector(param(AttnNorm))?,
            wq,
            wk,
            wv,
            qkv_bias: bias(config.qkv_bias, &[Bq, Bk, Bv])?,
            wo,
            bo: bias(config.output_bias, &[Bo])?,
            mlp_norm: self.vector(param(MlpNorm))?,
            gate,
            up,
            down,
            gate_bias: bias(config.mlp_bias, &[BGate])?,
            up_bias: bias(config.mlp_bias, &[BUp])?,
            down_bias: bias(config.mlp_bias, &[BDown])?,
        }))
    }

    fn vector(&self, param: Param) -> Result<Vec<f32>, PackError> {
        Ok(self.checkpoint.weight(param, self.config)?.to_f32()?)
    }

    fn pack(
        &self,
        region: &mut Region<'_>,
        packer: &mut WeightPacker,
        param: Param,
    ) -> Result<(), PackError> {
        let weight = self.checkpoint.weight(param, self.config)?;
        let shape = param.shape(self.config);
        let shape = [shape[0], shape[1]];
        match (self.quantize, stored_format(weight.tensor.dtype)) {
            (None, Some(format)) => {
                let order = weight.row_order;
                let bytes = weight.tensor.bytes;
                packer.add_file_rows(region, format, shape, bytes, |row| order.source(row))?;
            }
            (format, _) => {
                let failed = OnceLock::new();
                let fill = |row: usize, to: &mut [f32]| {
                    let bytes = weight.tensor.row(weight.row_order.source(row));
                    let bytes = bytes.unwrap_or_default();
                    if let Err(error) = dequantize_into(weight.tensor.dtype, bytes, to) {
                        // One error of a matrix is enough.
                        let _ = failed.set(error);
                    }
                };
                packer.add_f32_rows(region, format.unwrap_or(Format::F32), shape, fill)?;
                if let Some(error) = failed.into_inner() {
                    return Err(CheckpointError::Read(error).into());
                }
            }
        }
        self.checkpoint.release(param);
        Ok(())
    }
}

/// The packed format that keeps a stored type's bits.
fn stored_format(dtype: TensorType) -> Option<Format> {
    match dtype {
        TensorType::Q8_0 => Some(Format::Q8_0),
        TensorType::Q4_0 => Some(Format::Q4_0),
        TensorType::Q4_1 => Some(Format::Q4_1),
        TensorType::F16 => Some(Format::F16),
        TensorType::BF16 => Some(Format::BF16),
        TensorType::F32 => Some(Format::F32),
        _ => None,
    }
}
