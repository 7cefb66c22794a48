//! The burn engine: plain burn operations on any device.
//!
//! It is the readable reference, the way to GPUs and the differentiable path. Weights are f32 tensors
//! `[out, in]`; the tokens of all rows of a step are packed into one `[tokens, d_model]` matrix, without padding.

mod attention;
mod cache;
mod decoder;
mod load;
mod parts;
mod resume;
mod step;

pub use resume::{ResumedRow, UpperSequence};
pub use step::{HookSite, TensorHook};

use super::{
    Engine, EngineError, EngineInfo, Row, Sequence, StepOutput, Want, check_rows, check_tokens,
    early_exit_config,
};
use crate::config::ModelConfig;
use attention::Masks;
use burn::prelude::*;
use cache::BurnKv;
use decoder::Decoder;
use parts::Rotation;
use std::any::Any;
use std::sync::Arc;
use step::{Step, StepRow};

/// A model on a burn device.
#[derive(Debug)]
pub struct BurnEngine {
    config: ModelConfig,
    info: EngineInfo,
    device: Device,
    decoder: Decoder,
    inverse_frequencies: Vec<f32>,
}

impl BurnEngine {
    /// The device that holds the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Rows of the input embedding, `[tokens, d_model]`.
    pub fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        self.decoder
            .embedding
            .clone()
            .select(0, self.token_tensor(tokens.iter().copied()))
    }

    /// A step with a closure at every hook point, besides the hooks of the rows.
    ///
    /// # Errors
    /// As [`Engine::step`], and [`EngineError::HookShape`] when the closure changes a shape.
    pub fn step_with<'hook>(
        &self,
        rows: &mut [Row<'_>],
        output: &mut StepOutput,
        hook: &'hook mut TensorHook<'hook>,
    ) -> Result<(), EngineError> {
        self.run(rows, output, Some(hook))
    }

    /// The forward pass over whole sequences as tensors: for each row the logits `[seq, vocab]` of all its
    /// positions, with a closure at every hook point.
    ///
    /// Differentiable: a closure that mixes in tensors of an [autodiff](Device::autodiff) device makes the logits
    /// track them; the weights stay constants.
    ///
    /// # Errors
    /// As [`BurnEngine::step_with`].
    pub fn forward<'hook>(
        &self,
        rows: &[&[u32]],
        hook: &'hook mut TensorHook<'hook>,
    ) -> Result<Vec<Tensor<2>>, EngineError> {
        let mut sequences: Vec<Sequence> = rows.iter().map(|_| self.new_sequence()).collect();
        let mut batch: Vec<Row<'_>> = sequences
            .iter_mut()
            .zip(rows)
            .map(|(sequence, tokens)| Row {
                sequence,
                tokens,
                want: Want::All,
                hooks: None,
            })
            .collect();
        let (x, _) = self.residual(&mut batch, Some(hook))?;
        let logits = self.decoder.logits(x);
        let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        Ok(logits.split_with_sizes(lengths, 0))
    }

    /// The normalised residual stream of all tokens, `[tokens, d_model]`, and the captures.
    fn residual<'hook>(
        &self,
        rows: &mut [Row<'_>],
        closure: Option<&'hook mut TensorHook<'hook>>,
    ) -> Result<(Tensor<2>, Vec<step::PendingCapture>), EngineError> {
        check_rows(rows, &self.config, &self.info.id)?;
        let (mut ids, mut positions) = (Vec::new(), Vec::new());
        let mut step_rows = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter_mut().enumerate() {
            let position = row.sequence.len();
            let first_token = ids.len();
            ids.extend_from_slice(row.tokens);
            positions.extend(position..position + row.tokens.len());
            let kv = row
                .sequence
                .kv_mut(&self.info.id)
                .and_then(|kv| kv.as_any_mut().downcast_mut::<BurnKv>())
                .ok_or(EngineError::ForeignSequence { row: index })?;
            step_rows.push(StepRow {
                kv,
                first_token,
                tokens: row.tokens.len(),
                position,
                masks: Masks::default(),
                hooks: row.hooks.filter(|hooks| !hooks.plan.is_empty()),
            });
        }
        let factor = self.config.rope.attention_factor();
        let rotation = Rotation::new(&self.inverse_frequencies, factor, &positions, &self.device);
        let mut step = Step {
            rows: step_rows,
            device: self.device.clone(),
            closure,
            captures: Vec::new(),
        };
        let tokens = self.token_tensor(ids.into_iter());
        let x = self.decoder.forward(tokens, &rotation, &mut step)?;
        Ok((x, step.captures))
    }

    fn run<'hook>(
        &self,
        rows: &mut [Row<'_>],
        output: &mut StepOutput,
        closure: Option<&'hook mut TensorHook<'hook>>,
    ) -> Result<(), EngineError> {
        output.begin(self.config.vocab);
        if rows.is_empty() {
            return Ok(());
        }
        let (x, captures) = self.residual(rows, closure)?;
        let mut lines = Vec::new();
        let mut first = 0;
        for row in rows.iter() {
            let end = first + row.tokens.len();
            let wanted = row.want.lines(first..end);
            output.push_row(wanted.len());
            lines.extend(wanted.map(|line| line as u32));
            first = end;
        }
        if !lines.is_empty() {
            let x = if lines.len() == first {
                x
            } else {
                x.select(0, self.token_tensor(lines.into_iter()))
            };
            *output.logits_buffer() = read_f32(self.decoder.logits(x))?;
        }
        for capture in captures {
            output.push_capture(capture.read()?);
        }
        for row in rows {
            row.sequence.grown_by(row.tokens);
        }
        Ok(())
    }

    /// Indices as an integer tensor of the device's own width.
    fn token_tensor(&self, ids: impl Iterator<Item = u32>) -> Tensor<1, Int> {
        let ids: Vec<i32> = ids.map(|id| id as i32).collect();
        let count = ids.len();
        Tensor::from_data(TensorData::new(ids, [count]), &self.device)
    }
}

impl Engine for BurnEngine {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn embedding(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        check_tokens(tokens, &self.config)?;
        self.embed(tokens)
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .map_err(|error| EngineError::Device {
                device: self.info.device.clone(),
                reason: format!("{error:?}"),
            })
    }

    fn early_exit(&self, layers: usize) -> Option<Arc<dyn Engine>> {
        let config = early_exit_config(&self.config, layers)?;
        let mut decoder = self.decoder.clone();
        decoder.blocks.truncate(layers);
        let weights = format!("{}, first {layers} layers", self.info.weights);
        Some(Arc::new(BurnEngine {
            config,
            info: EngineInfo::new("burn", self.info.device.clone(), weights),
            device: self.device.clone(),
            decoder,
            inverse_frequencies: self.inverse_frequencies.clone(),
        }))
    }

    fn new_sequence(&self) -> Sequence {
        Sequence::new(
            Box::new(BurnKv::new(self.config.layers)),
            self.info.id.clone(),
        )
    }

    fn step(&self, rows: &mut [Row<'_>], output: &mut StepOutput) -> Result<(), EngineError> {
        self.run(rows, output, None)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Reads a tensor back as f32, row-major.
fn read_f32<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, EngineError> {
    let device = format!("{:?}", tensor.device());
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|e| EngineError::Device {
            device,
            reason: e.to_string(),
        })
}
