//! The state of one step, and what hooks do in it.

use super::attention::Masks;
use super::cache::BurnKv;
use crate::engine::{EngineError, RowHooks};
use crate::hooks::{Captured, Edit, HookPoint};
use burn::prelude::*;

/// A closure that sees and may replace the rows at every hook point: `[batch, seq, d_model]` with one row of the
/// batch at a time.
pub type TensorHook<'a> = dyn FnMut(HookSite, Tensor<3>) -> Tensor<3> + 'a;

/// Where a [`TensorHook`] is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookSite {
    /// The hook point.
    pub point: HookPoint,
    /// Row of the batch.
    pub row: usize,
    /// Position of the first token.
    pub first_position: usize,
}

/// One step over a ragged batch.
pub(super) struct Step<'rows, 'hook> {
    pub(super) rows: Vec<StepRow<'rows>>,
    pub(super) device: Device,
    pub(super) closure: Option<&'hook mut TensorHook<'hook>>,
    pub(super) captures: Vec<PendingCapture>,
}

/// One row of the step; its tokens are `first_token .. first_token + tokens` of the packed batch.
pub(super) struct StepRow<'rows> {
    pub(super) kv: &'rows mut BurnKv,
    pub(super) first_token: usize,
    pub(super) tokens: usize,
    /// Position of the first token in its sequence.
    pub(super) position: usize,
    pub(super) masks: Masks,
    pub(super) hooks: Option<RowHooks<'rows>>,
}

/// A capture that has not been read back from the device.
#[derive(Debug)]
pub(super) struct PendingCapture {
    pub(super) row: usize,
    pub(super) point: HookPoint,
    pub(super) first_position: usize,
    pub(super) before_edits: bool,
    pub(super) values: Tensor<2>,
}

impl PendingCapture {
    /// Reads the rows back.
    pub(super) fn read(self) -> Result<Captured, EngineError> {
        let PendingCapture {
            row,
            point,
            first_position,
            before_edits,
            values,
        } = self;
        Ok(Captured {
            row,
            point,
            first_position,
            before_edits,
            values: super::read_f32(values)?,
        })
    }
}

impl Step<'_, '_> {
    /// Runs the hooks of `point` on the tokens of all rows, `[tokens, d_model]` → the same.
    pub(super) fn hook(
        &mut self,
        point: HookPoint,
        x: Tensor<2>,
    ) -> Result<Tensor<2>, EngineError> {
        let planned = |row: &StepRow<'_>| row.hooks.is_some_and(|hooks| hooks.plan.touches(point));
        if self.closure.is_none() && !self.rows.iter().any(planned) {
            return Ok(x);
        }
        let mut x = x;
        for index in 0..self.rows.len() {
            let row = &self.rows[index];
            let (first, count, position) = (row.first_token, row.tokens, row.position);
            if let Some(hooks) = row.hooks {
                let watched = |before_edits, x: &Tensor<2>| PendingCapture {
                    row: index,
                    point,
                    first_position: position,
                    before_edits,
                    values: x.clone().narrow(0, first, count),
                };
                if hooks.plan.watches(point) {
                    self.captures.push(watched(true, &x));
                }
                for edit in hooks.plan.edits(point) {
                    if let Some(run) = edit.tokens.within(hooks.prompt_len, position, count) {
                        x = on_run(x, first + run.start, run.len(), |part| edited(edit, part));
                    }
                }
                if hooks.plan.watches(point) {
                    self.captures.push(watched(false, &x));
                }
            }
            if let Some(closure) = self.closure.as_mut() {
                let site = HookSite {
                    point,
                    row: index,
                    first_position: position,
                };
                let given = x.clone().narrow(0, first, count).unsqueeze::<3>();
                let wanted = given.dims();
                let result = closure(site, given);
                if result.dims() != wanted {
                    let given = result.dims().to_vec();
                    return Err(EngineError::HookShape {
                        point,
                        given,
                        wanted: wanted.to_vec(),
                    });
                }
                x = on_run(x, first, count, |_| result.squeeze_dim::<2>(0));
            }
            if let Some(hooks) = self.rows[index].hooks {
                for capture in hooks.plan.captures(point) {
                    if let Some(run) = capture.tokens.within(hooks.prompt_len, position, count) {
                        self.captures.push(PendingCapture {
                            row: index,
                            point,
                            first_position: position + run.start,
                            before_edits: false,
                            values: x.clone().narrow(0, first + run.start, run.len()),
                        });
                    }
                }
            }
        }
        Ok(x)
    }
}

/// Replaces `count` lines of `x` from `first` on by `change` of them.
fn on_run(
    x: Tensor<2>,
    first: usize,
    count: usize,
    change: impl FnOnce(Tensor<2>) -> Tensor<2>,
) -> Tensor<2> {
    let [lines, d_model] = x.dims();
    if count == lines {
        return change(x);
    }
    let part = change(x.clone().narrow(0, first, count));
    x.slice_assign([first..first + count, 0..d_model], part)
}

/// [`Edit::apply`] on every line of `x`, `[tokens, d_model]`.
fn edited(edit: &Edit, x: Tensor<2>) -> Tensor<2> {
    let device = x.device();
    let column =
        |v: &[f32]| Tensor::<2>::from_data(TensorData::new(v.to_vec(), [v.len(), 1]), &device);
    let norm = |x: Tensor<2>| (x.clone() * x).sum_dim(1).sqrt();
    let mut y = x.clone();
    for term in &edit.terms {
        let w = column(&term.w).transpose();
        y = if term.b == 0.0 {
            y + w * term.a
        } else {
            let coefficients = x.clone().matmul(column(term.reads())) * term.b + term.a;
            y + coefficients.matmul(w)
        };
    }
    if edit.keep_norm {
        let after = norm(y.clone());
        let zero = after.clone().equal_elem(0.0);
        let factor = norm(x.clone()) / after.mask_fill(zero, 1.0);
        y = y * factor;
    }
    match &edit.gate {
        None => y,
        Some(gate) => {
            let closed = x
                .clone()
                .matmul(column(&gate.direction))
                .lower_elem(gate.threshold);
            let [lines, d_model] = x.dims();
            y.mask_where(closed.expand([lines, d_model]), x)
        }
    }
}
