//! The forward pass from the middle of the model on.
//!
//! What a closure changes at one block leaves everything below it as it was. Who runs the same texts many times with
//! another change at block `l`, as an optimisation does, reads the rows there once and goes on from them.

use super::attention::Masks;
use super::cache::BurnKv;
use super::parts::Rotation;
use super::step::{Step, StepRow};
use super::{BurnEngine, TensorHook};
use crate::engine::{EngineError, EngineId};
use crate::hooks::{HookError, HookPoint};
use burn::prelude::*;
use std::ops::Range;

/// Keys and values of some positions, of the blocks from one on; what lies below was never computed.
///
/// A clone shares memory until one of the two grows.
#[derive(Debug, Clone)]
pub struct UpperSequence {
    kv: BurnKv,
    layer: usize,
    len: usize,
    engine: EngineId,
}

impl UpperSequence {
    /// The block that its rows are put into.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no position yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A row of [`BurnEngine::resume`].
#[derive(Debug)]
pub struct ResumedRow<'a> {
    /// The sequence that grows.
    pub sequence: &'a mut UpperSequence,
    /// The rows of the new positions at the input of the sequence's block, `[tokens, d_model]`, at least one.
    pub hidden: Tensor<2>,
    /// The new positions whose logits are wanted, counted from the first new one.
    pub lines: Range<usize>,
}

impl BurnEngine {
    /// An empty sequence of the blocks from `layer` on.
    ///
    /// # Errors
    /// [`EngineError::Hook`] for a layer that the model does not have.
    pub fn sequence_above(&self, layer: usize) -> Result<UpperSequence, EngineError> {
        if layer >= self.config.layers {
            return Err(EngineError::Hook(HookError::Layer {
                point: HookPoint::ResidPre(layer),
                given: layer,
                last: self.config.layers.saturating_sub(1),
            }));
        }
        Ok(UpperSequence {
            kv: BurnKv::new(self.config.layers),
            layer,
            len: 0,
            engine: self.info.id.clone(),
        })
    }

    /// Goes on from the input of block `layer`: for each row the logits `[lines, vocab]`, with a closure at every hook
    /// point from that block on.
    ///
    /// Differentiable like [`forward`](BurnEngine::forward), through the sequences as well: what is appended to a
    /// clone of a sequence tracks the rows that the sequence was made of.
    ///
    /// # Errors
    /// [`EngineError::ForeignSequence`] for a sequence of another engine or layer, [`EngineError::EmptyRow`],
    /// [`EngineError::ContextFull`], and [`EngineError::HookShape`] where rows or the closure's result have another
    /// shape. On an error no sequence has changed.
    pub fn resume<'hook>(
        &self,
        layer: usize,
        rows: &mut [ResumedRow<'_>],
        hook: &'hook mut TensorHook<'hook>,
    ) -> Result<Vec<Tensor<2>>, EngineError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        for (index, row) in rows.iter().enumerate() {
            self.check_resumed(layer, index, row)?;
        }
        let (mut hidden, mut positions, mut step_rows) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lines, mut counts, mut first_token) = (Vec::new(), Vec::new(), 0);
        for row in rows.iter_mut() {
            let [count, _] = row.hidden.dims();
            let position = row.sequence.len;
            hidden.push(row.hidden.clone());
            positions.extend(position..position + count);
            let end = row.lines.end.min(count);
            let wanted = row.lines.start.min(end)..end;
            counts.push(wanted.len());
            lines.extend(wanted.map(|line| (first_token + line) as u32));
            step_rows.push(StepRow {
                kv: &mut row.sequence.kv,
                first_token,
                tokens: count,
                position,
                masks: Masks::default(),
                hooks: None,
            });
            first_token += count;
        }
        let factor = self.config.rope.attention_factor();
        let rotation = Rotation::new(&self.inverse_frequencies, factor, &positions, &self.device);
        let mut step = Step {
            rows: step_rows,
            device: self.device.clone(),
            closure: Some(hook),
            captures: Vec::new(),
        };
        let hidden = Tensor::cat(hidden, 0);
        let x = self
            .decoder
            .forward_from(layer, hidden, &rotation, &mut step)?;
        drop(step);
        for row in rows.iter_mut() {
            let [count, _] = row.hidden.dims();
            row.sequence.len += count;
        }
        let none = || Tensor::zeros([0, self.config.vocab], &self.device);
        if lines.is_empty() {
            return Ok(rows.iter().map(|_| none()).collect());
        }
        let logits = self
            .decoder
            .logits(x.select(0, self.token_tensor(lines.into_iter())));
        let mut first = 0;
        let of_row = |count| {
            let start = first;
            first += count;
            match count {
                0 => none(),
                _ => logits.clone().narrow(0, start, count),
            }
        };
        Ok(counts.into_iter().map(of_row).collect())
    }

    fn check_resumed(
        &self,
        layer: usize,
        index: usize,
        row: &ResumedRow<'_>,
    ) -> Result<(), EngineError> {
        let sequence = &*row.sequence;
        if sequence.engine != self.info.id || sequence.layer != layer {
            return Err(EngineError::ForeignSequence { row: index });
        }
        let [count, width] = row.hidden.dims();
        if count == 0 {
            return Err(EngineError::EmptyRow { row: index });
        }
        if width != self.config.d_model {
            return Err(EngineError::HookShape {
                point: HookPoint::ResidPre(layer),
                given: vec![count, width],
                wanted: vec![count, self.config.d_model],
            });
        }
        if sequence.len + count > self.config.max_context {
            return Err(EngineError::ContextFull {
                used: sequence.len,
                wanted: count,
                limit: self.config.max_context,
            });
        }
        Ok(())
    }
}
