//! Grouped-query attention over a ragged batch.

use super::parts::{Linear, Rotation};
use super::step::Step;
use crate::config::Span;
use burn::prelude::*;
use burn::tensor::activation::softmax;

/// Added to the score of a key that a query must not see. Finite, so that no backend meets inf − inf; `exp` of it is
/// 0 beside any visible score.
const MASKED: f32 = -1e30;

/// Attention of one block (Ainslie 2023, arXiv 2305.13245, for the grouped heads).
#[derive(Debug, Clone)]
pub(super) struct Attention {
    /// `[heads * head_dim, d_model]`.
    pub(super) wq: Linear,
    /// `[kv_heads * head_dim, d_model]`.
    pub(super) wk: Linear,
    /// `[kv_heads * head_dim, d_model]`.
    pub(super) wv: Linear,
    /// `[d_model, heads * head_dim]`.
    pub(super) wo: Linear,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) scale: f32,
    pub(super) span: Span,
}

impl Attention {
    /// `[tokens, d_model]` → the same. The tokens of all rows lie one behind the other; the projections see them all
    /// at once, the attention itself goes row by row because every row has its own keys.
    pub(super) fn forward(
        &self,
        layer: usize,
        x: Tensor<2>,
        rotation: &Rotation,
        step: &mut Step<'_, '_>,
    ) -> Tensor<2> {
        let [tokens, _] = x.dims();
        let q = self
            .wq
            .forward(x.clone())
            .reshape([tokens, self.heads, self.head_dim]);
        let k = self
            .wk
            .forward(x.clone())
            .reshape([tokens, self.kv_heads, self.head_dim]);
        let v = self
            .wv
            .forward(x)
            .reshape([tokens, self.kv_heads, self.head_dim]);
        let (q, k) = (rotation.apply(q), rotation.apply(k));

        let mut outputs = Vec::with_capacity(step.rows.len());
        for row in &mut step.rows {
            let of_row = |t: &Tensor<3>| {
                t.clone()
                    .narrow(0, row.first_token, row.tokens)
                    .swap_dims(0, 1)
            };
            let (keys, values) = row.kv.append(layer, row.position, of_row(&k), of_row(&v));
            let mask = row
                .masks
                .get(self.span, row.position, row.tokens, &step.device);
            outputs.push(self.attend(of_row(&q), keys, values, mask));
        }
        self.wo.forward(Tensor::cat(outputs, 0))
    }

    /// `softmax(q kᵀ · scale + mask) v` for one row: q `[heads, new, head_dim]`, keys and values
    /// `[kv_heads, total, head_dim]`, mask `[new, total]`, result `[new, heads * head_dim]`.
    fn attend(
        &self,
        q: Tensor<3>,
        keys: Tensor<3>,
        values: Tensor<3>,
        mask: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let [heads, new, head_dim] = q.dims();
        let [kv_heads, total, _] = keys.dims();
        let group = heads / kv_heads;
        // The query heads of one kv head follow each other: their rows become one taller matrix.
        let q = q.reshape([kv_heads, group * new, head_dim]);
        let mut scores = q.matmul(keys.swap_dims(1, 2)) * self.scale;
        if let Some(mask) = mask {
            let by_head = scores.reshape([kv_heads, group, new, total]);
            scores = (by_head + mask.unsqueeze()).reshape([kv_heads, group * new, total]);
        }
        let mixed = softmax(scores, 2).matmul(values);
        mixed
            .reshape([heads, new, head_dim])
            .swap_dims(0, 1)
            .reshape([new, heads * head_dim])
    }
}

/// The masks of one row in one step: one a span, made when a layer first asks for it.
#[derive(Debug, Default)]
pub(super) struct Masks {
    made: Vec<(Span, Option<Tensor<2>>)>,
}

impl Masks {
    /// `[new, total]`, 0 where query `position + i` sees key `j` and [`MASKED`] elsewhere; `None` when every query
    /// sees every key.
    fn get(
        &mut self,
        span: Span,
        position: usize,
        new: usize,
        device: &Device,
    ) -> Option<Tensor<2>> {
        if let Some((_, mask)) = self.made.iter().find(|(made, _)| *made == span) {
            return mask.clone();
        }
        let total = position + new;
        let mask = (new > 1 || span.first_key(position) > 0).then(|| {
            let mut values = vec![MASKED; new * total];
            for (i, line) in values.chunks_exact_mut(total).enumerate() {
                line[span.first_key(position + i)..=position + i].fill(0.0);
            }
            Tensor::from_data(TensorData::new(values, [new, total]), device)
        });
        self.made.push((span, mask.clone()));
        mask
    }
}
