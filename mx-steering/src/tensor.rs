//! Edits on burn tensors, for people who run a model of their own.
//!
//! ```
//! use burn::prelude::*;
//! use mx_steering::apply::{Edit, Plan};
//! use mx_steering::{Site, tensor::TensorPlan};
//!
//! let device = Device::flex();
//! let edits = vec![Edit::add(Site::ResidPre.at(3), vec![1.0, 2.0], 0.5)];
//! let plan = TensorPlan::new(&Plan { edits, ..Plan::default() }, &device);
//! // in the model's forward pass, before block 3: x is [batch, seq, d_model]
//! let x = Tensor::<3>::zeros([1, 4, 2], &device);
//! let x = plan.apply(Site::ResidPre.at(3), x, 0, 4)?;
//! assert_eq!(x.try_into_vec_as::<f32>().unwrap()[..2], [0.5, 1.0]);
//! # Ok::<(), mx_steering::SteeringError>(())
//! ```

use crate::apply::{Edit, Gate, Plan, Term, TokenClass};
use crate::error::SteeringError;
use crate::point::Point;
use burn::prelude::*;
use burn::tensor::DType;

/// A plan whose directions lie on a device, made once and used in every step.
#[derive(Debug, Clone)]
pub struct TensorPlan {
    edits: Vec<TensorEdit>,
}

/// One edit. Directions that are read are columns `[d_model, 1]`, those that are written rows `[1, d_model]`.
#[derive(Debug, Clone)]
struct TensorEdit {
    point: Point,
    tokens: TokenClass,
    width: usize,
    /// Σ a·w of all terms, where any a is not 0.
    constant: Option<Tensor<2>>,
    /// (b·u, w) of the terms whose b is not 0.
    linear: Vec<(Tensor<2>, Tensor<2>)>,
    gate: Option<(Tensor<2>, f32)>,
    keep_norm: bool,
}

impl TensorPlan {
    /// Puts a plan's directions on a device.
    pub fn new(plan: &Plan, device: &Device) -> Self {
        TensorPlan {
            edits: plan
                .edits
                .iter()
                .map(|edit| TensorEdit::new(edit, device))
                .collect(),
        }
    }

    /// Whether anything happens at a place.
    pub fn touches(&self, point: Point) -> bool {
        self.edits.iter().any(|edit| edit.point == point)
    }

    /// The rows at a place after their edits. Rows of all sequences of the batch get the same edits; a place without
    /// edits gives back the tensor itself.
    ///
    /// # Shapes
    /// - `x`: `[batch, seq, d_model]`, the positions from `first_position` on
    /// - result: the same
    ///
    /// # Errors
    /// [`SteeringError::Width`] where the plan was made for another width.
    pub fn apply(
        &self,
        point: Point,
        x: Tensor<3>,
        first_position: usize,
        prompt_len: usize,
    ) -> Result<Tensor<3>, SteeringError> {
        let mut x = x;
        for edit in self.edits.iter().filter(|edit| edit.point == point) {
            let [batch, seq, d_model] = x.dims();
            if edit.width != d_model {
                return Err(SteeringError::Width {
                    what: format!("edit at {point}"),
                    given: edit.width,
                    wanted: d_model,
                });
            }
            let class = edit.tokens.positions(prompt_len);
            let start = class.start.max(first_position);
            let end = class.end.min(first_position.saturating_add(seq));
            if start >= end {
                continue;
            }
            let run = start - first_position..end - first_position;
            let part = x.clone().narrow(1, run.start, run.len());
            let part = edit
                .rows(part.reshape([batch * run.len(), d_model]))
                .reshape([batch, run.len(), d_model]);
            x = match run.len() == seq {
                true => part,
                false => x.slice_assign([0..batch, run, 0..d_model], part),
            };
        }
        Ok(x)
    }

    /// [`apply`](TensorPlan::apply) with a plan of its own for each row of the batch; rows without one stay.
    ///
    /// # Errors
    /// As [`apply`](TensorPlan::apply), and [`SteeringError::Closure`] where there are not as many plans as rows.
    pub fn apply_each(
        plans: &[Option<&TensorPlan>],
        point: Point,
        x: Tensor<3>,
        first_positions: &[usize],
        prompt_lens: &[usize],
    ) -> Result<Tensor<3>, SteeringError> {
        let [batch, _, _] = x.dims();
        for given in [plans.len(), first_positions.len(), prompt_lens.len()] {
            if given != batch {
                return Err(SteeringError::Closure {
                    what: "plans, positions or prompt lengths",
                    given,
                    wanted: batch,
                });
            }
        }
        if !plans.iter().flatten().any(|plan| plan.touches(point)) {
            return Ok(x);
        }
        let mut rows = Vec::with_capacity(batch);
        for (index, plan) in plans.iter().enumerate() {
            let row = x.clone().narrow(0, index, 1);
            rows.push(match plan {
                Some(plan) => plan.apply(point, row, first_positions[index], prompt_lens[index])?,
                None => row,
            });
        }
        Ok(Tensor::cat(rows, 0))
    }
}

impl TensorEdit {
    fn new(edit: &Edit, device: &Device) -> Self {
        let width = edit.terms.first().map_or(0, |term| term.w.len());
        let column =
            |v: &[f32]| Tensor::<2>::from_data(TensorData::new(v.to_vec(), [v.len(), 1]), device);
        let row =
            |v: &[f32]| Tensor::<2>::from_data(TensorData::new(v.to_vec(), [1, v.len()]), device);
        let mut constant: Option<Tensor<2>> = None;
        for Term { a, w, .. } in edit.terms.iter().filter(|term| term.a != 0.0) {
            let part = row(w) * *a;
            constant = Some(match constant {
                Some(sum) => sum + part,
                None => part,
            });
        }
        let linear = edit.terms.iter().filter(|term| term.b != 0.0);
        let gate = edit.gate.as_ref();
        TensorEdit {
            point: edit.point,
            tokens: edit.tokens,
            width,
            constant,
            linear: linear
                .map(|term| (column(term.reads()) * term.b, row(&term.w)))
                .collect(),
            gate: gate.map(
                |Gate {
                     direction,
                     threshold,
                 }| (column(direction), *threshold),
            ),
            keep_norm: edit.keep_norm,
        }
    }

    /// `[rows, d_model]` → the same, in f32 whatever the type of `x`, then cast back once.
    fn rows(&self, x: Tensor<2>) -> Tensor<2> {
        if self.constant.is_none() && self.linear.is_empty() {
            return x;
        }
        let [rows, d_model] = x.dims();
        let dtype = x.dtype();
        let given = x.clone();
        let x = x.cast(DType::F32);
        let norm = |x: Tensor<2>| (x.clone() * x).sum_dim(1).sqrt();
        let mut y = x.clone();
        if let Some(constant) = &self.constant {
            y = y + constant.clone();
        }
        for (reads, writes) in &self.linear {
            y = y + x.clone().matmul(reads.clone()).matmul(writes.clone());
        }
        if self.keep_norm {
            let after = norm(y.clone());
            let zero = after.clone().equal_elem(0.0);
            let before = norm(x.clone()).mask_fill(zero.clone(), 1.0);
            y = y * (before / after.mask_fill(zero, 1.0));
        }
        let y = y.cast(dtype);
        match &self.gate {
            None => y,
            Some((direction, threshold)) => {
                let closed = x.matmul(direction.clone()).lower_elem(*threshold);
                y.mask_where(closed.expand([rows, d_model]), given)
            }
        }
    }
}

#[cfg(test)]
#[path = "tensor_tests.rs"]
mod tests;
