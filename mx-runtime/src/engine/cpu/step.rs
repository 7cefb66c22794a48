//! One step of the decoder over a ragged batch, as stages of one parallel region.
//!
//! The tokens of all rows lie one behind the other, `n` in all. A layer is five stages (query, key and value; attention;
//! output; gate and up; down) with small serial work between them; norms and residual sums ride along.

use super::attention::{AttentionParams, AttentionScratch, QueryTile, record_len, spans};
use super::error::CpuError;
use super::kernels::{Kernels, LANES};
use super::ops;
use super::pack::PackedMatrix;
use super::quantize::{BLOCK, ROW_TILE, unit_columns, write_columns};
use super::threads::{Columns, Grid, Region, Rows, TileMut};
use super::weights::{Layer, Weights};
use super::work::{
    Activations, BatchRow, Failure, Inputs, Workspace, hook, keep_remainders, norm_rows, quantize,
};
use crate::config::{ModelConfig, Rope, Span};
use crate::hooks::{Captured, HookPoint};

/// Tokens of one sequence whose attention is computed together in a prompt.
const QUERY_TILE: usize = 16;

/// What does not change from step to step.
pub(super) struct Forward<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) weights: &'a Weights,
    pub(super) kernels: Kernels,
    pub(super) exact: bool,
    pub(super) inverse_frequencies: &'a [f32],
}

impl Forward<'_> {
    /// Runs the step: keys and values of the new tokens are written (not yet advanced), and `logits` receives one line
    /// of `vocab` values for each of the packed tokens `lines`.
    pub(super) fn run(
        &self,
        work: &mut Workspace,
        rows: &mut [BatchRow<'_>],
        tokens: &[u32],
        lines: &[usize],
        logits: &mut Vec<f32>,
    ) -> Result<(), CpuError> {
        let (n, config) = (tokens.len(), self.config);
        let fixed = !self.exact;
        work.x.resize(n * config.d_model, 0.0);
        work.delta.resize(n * config.d_model, 0.0);
        work.qkv
            .resize(n * (config.q_width() + 2 * config.kv_width()), 0.0);
        work.up.resize(n * config.d_ff, 0.0);
        work.normed.reshape(n, config.d_model, fixed)?;
        work.mixed.reshape(n, config.q_width(), fixed)?;
        work.gated.reshape(n, config.d_ff, fixed)?;
        work.captures.clear();
        for (x, &token) in work.x.chunks_exact_mut(config.d_model).zip(tokens) {
            self.weights.embedding.row_into(token as usize, x)?;
        }
        work.cos.clear();
        work.sin.clear();
        let factor = config.rope.attention_factor();
        for row in rows.iter_mut() {
            for position in row.position..row.position + row.count {
                let (cos, sin) = (&mut work.cos, &mut work.sin);
                Rope::table(self.inverse_frequencies, factor, position, cos, sin);
            }
            row.kv.reserve(row.count);
        }

        let Workspace {
            pool,
            scratch,
            x,
            delta,
            normed,
            qkv,
            mixed,
            gated,
            up,
            records,
            cos,
            sin,
            captures,
        } = work;
        let mut step = Step {
            forward: self,
            scratch,
            x,
            delta,
            normed,
            qkv,
            mixed,
            gated,
            up,
            records,
            cos,
            sin,
            captures,
            n,
            failure: Failure::default(),
        };
        pool.region(|region| {
            for (index, layer) in self.weights.layers.iter().take(config.layers).enumerate() {
                step.layer(region, index, layer, rows);
            }
            step.head(region, rows, lines, logits)
        })?;
        step.failure.into_result()
    }
}

/// The borrowed parts of one running step.
struct Step<'a> {
    forward: &'a Forward<'a>,
    scratch: &'a mut Vec<AttentionScratch>,
    x: &'a mut Vec<f32>,
    delta: &'a mut Vec<f32>,
    normed: &'a mut Activations,
    qkv: &'a mut Vec<f32>,
    mixed: &'a mut Activations,
    gated: &'a mut Activations,
    up: &'a mut Vec<f32>,
    records: &'a mut Vec<f32>,
    cos: &'a mut Vec<f32>,
    sin: &'a mut Vec<f32>,
    captures: &'a mut Vec<Captured>,
    n: usize,
    failure: Failure,
}

impl Step<'_> {
    fn layer(
        &mut self,
        region: &mut Region<'_>,
        index: usize,
        layer: &Layer,
        rows: &mut [BatchRow<'_>],
    ) {
        let d_model = self.forward.config.d_model;
        hook(
            HookPoint::ResidPre(index),
            self.x,
            d_model,
            rows,
            self.captures,
        );
        self.norm(region, &layer.attn_norm);
        self.project_qkv(region, layer);
        self.rotate_and_store(region, index, layer, rows);
        let span = self.forward.config.spans[index];
        if rows.iter().all(|row| row.count == 1) {
            self.attend_single_tokens(region, index, span, rows);
        } else {
            rows.iter()
                .for_each(|row| self.attend_prompt(region, index, span, row));
        }
        let point = HookPoint::AttnOut(index);
        let (mixed, exact) = (&mut *self.mixed, self.forward.exact);
        quantize(region, self.forward.kernels, mixed, exact);
        let inputs = mixed.inputs(exact);
        let sum = Sum {
            matrix: &layer.wo,
            bias: &layer.bo,
            inputs,
        };
        sum.run(
            region,
            self.forward.kernels,
            self.x,
            self.delta,
            d_model,
            (point, rows, self.captures),
            &self.failure,
        );
        hook(
            HookPoint::ResidMid(index),
            self.x,
            d_model,
            rows,
            self.captures,
        );

        self.norm(region, &layer.mlp_norm);
        self.gate_and_up(region, layer);
        let point = HookPoint::MlpOut(index);
        let inputs = self.gated.inputs(exact);
        let sum = Sum {
            matrix: &layer.down,
            bias: &layer.down_bias,
            inputs,
        };
        sum.run(
            region,
            self.forward.kernels,
            self.x,
            self.delta,
            d_model,
            (point, rows, self.captures),
            &self.failure,
        );
        hook(
            HookPoint::ResidPost(index),
            self.x,
            d_model,
            rows,
            self.captures,
        );
    }

    /// `normed = rmsnorm(x) · weight`, in f32 and in 8 bits.
    fn norm(&mut self, region: &mut Region<'_>, weight: &[f32]) {
        let Forward {
            config,
            kernels,
            exact,
            ..
        } = *self.forward;
        norm_rows(
            region,
            kernels,
            self.x,
            weight,
            config.norm_eps,
            self.normed,
            exact,
        );
    }

    fn project_qkv(&mut self, region: &mut Region<'_>, layer: &Layer) {
        let Forward {
            config,
            kernels,
            exact,
            ..
        } = *self.forward;
        let inputs = self.normed.inputs(exact);
        let width = config.q_width() + 2 * config.kv_width();
        let failure = &self.failure;
        // All widths are multiples of 16, so panels of the three matrices follow each other without a gap.
        region.stage(Columns::new(self.qkv, width, LANES), |units, mut part| {
            let mut first = 0;
            for matrix in [&layer.wq, &layer.wk, &layer.wv] {
                let start = units.start.max(first);
                let end = units.end.min(first + matrix.panels());
                if start < end {
                    let columns = (start - units.start) * LANES..(end - units.start) * LANES;
                    let panels = start - first..end - first;
                    let out = &mut part.columns(columns);
                    failure.note(kernels.matmul(matrix, panels, inputs.of(matrix), out));
                }
                first += matrix.panels();
            }
        });
    }

    /// Adds biases, turns queries and keys to their positions, and stores keys and values.
    fn rotate_and_store(
        &mut self,
        region: &mut Region<'_>,
        index: usize,
        layer: &Layer,
        rows: &mut [BatchRow<'_>],
    ) {
        let Forward {
            config, kernels, ..
        } = *self.forward;
        let (q, kv, head_dim) = (config.q_width(), config.kv_width(), config.head_dim);
        let (width, half) = (q + 2 * kv, self.forward.inverse_frequencies.len());
        let (cos, sin) = (&*self.cos, &*self.sin);
        region.stage(Rows::new(self.qkv, width * ROW_TILE), |units, part| {
            for (offset, row) in part.chunks_exact_mut(width).enumerate() {
                let token = units.start * ROW_TILE + offset;
                let angles = token * half..(token + 1) * half;
                if !layer.qkv_bias.is_empty() {
                    ops::add(kernels, row, &layer.qkv_bias);
                }
                for head in row[..q + kv].chunks_exact_mut(head_dim) {
                    ops::rope(kernels, head, &cos[angles.clone()], &sin[angles.clone()]);
                }
            }
        });
        for row in rows {
            let tokens = &self.qkv[row.first * width..(row.first + row.count) * width];
            let mut writers = row.kv.writers(index, row.count);
            region.stage(Rows::new(&mut writers, 1), |heads, writers| {
                for (head, writer) in heads.zip(writers) {
                    let key = q + head * head_dim..q + (head + 1) * head_dim;
                    let value = key.start + kv..key.end + kv;
                    for (i, token) in tokens.chunks_exact(width).enumerate() {
                        writer.write(kernels, i, &token[key.clone()], &token[value.clone()]);
                    }
                }
            });
        }
    }

    fn attention(&self, span: Span) -> AttentionParams {
        let config = self.forward.config;
        AttentionParams {
            heads: config.heads,
            scale: config.attention_scale,
            window: match span {
                Span::Full => None,
                Span::Sliding { window } => Some(window),
            },
            softcap: None,
        }
    }

    /// One new token a row: kv heads and spans of keys of all rows are spread over the threads.
    fn attend_single_tokens(
        &mut self,
        region: &mut Region<'_>,
        layer: usize,
        span: Span,
        rows: &[BatchRow<'_>],
    ) {
        let params = self.attention(span);
        let Forward {
            config, kernels, ..
        } = *self.forward;
        let (q, head_dim) = (config.q_width(), config.head_dim);
        let (width, group) = (q + 2 * config.kv_width(), config.heads / config.kv_heads);
        let stride = group * record_len(head_dim);
        let mut units = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            for kv_head in 0..config.kv_heads {
                let spans = spans(row.position..row.position + 1, params.window);
                units.extend(spans.map(|span| (index, kv_head, span)));
            }
        }
        self.records.resize(units.len() * stride, 0.0);
        let (qkv, failure) = (&*self.qkv, &self.failure);
        let work =
            |scratch: &mut AttentionScratch, range: std::ops::Range<usize>, part: &mut [f32]| {
                for (&(index, kv_head, span), out) in
                    units[range].iter().zip(part.chunks_exact_mut(stride))
                {
                    let row = &rows[index];
                    let tile = QueryTile {
                        queries: &qkv[row.first * width..(row.first + 1) * width],
                        stride: width,
                        first_position: row.position,
                        layer,
                        kv_head,
                    };
                    failure.note(kernels.attend_span(&params, row.kv, tile, span, scratch, out));
                }
            };
        region.stage_with(self.scratch, Rows::new(self.records, stride), work);
        let mut first = 0;
        while let Some(&(index, kv_head, _)) = units.get(first) {
            let same = |unit: &&(usize, usize, usize)| (unit.0, unit.1) == (index, kv_head);
            let count = units[first..].iter().take_while(same).count();
            let records = &self.records[first * stride..(first + count) * stride];
            for member in 0..group {
                let from = member * record_len(head_dim);
                let start = index * q + (kv_head * group + member) * head_dim;
                let out = &mut self.mixed.float[start..start + head_dim];
                kernels.merge_spans(&records[from..], stride, out);
            }
            first += count;
        }
    }

    /// Several new tokens of one row: tiles of queries and kv heads are spread over the threads.
    fn attend_prompt(
        &mut self,
        region: &mut Region<'_>,
        layer: usize,
        span: Span,
        row: &BatchRow<'_>,
    ) {
        let params = self.attention(span);
        let Forward {
            config, kernels, ..
        } = *self.forward;
        let (q, head_dim, kv_heads) = (config.q_width(), config.head_dim, config.kv_heads);
        let width = q + 2 * config.kv_width();
        let group_width = config.heads / kv_heads * head_dim;
        let queries = &self.qkv[row.first * width..(row.first + row.count) * width];
        let out = &mut self.mixed.float[row.first * q..(row.first + row.count) * q];
        let failure = &self.failure;
        let grid = Grid::new(out, q, QUERY_TILE, group_width);
        region.stage_with(self.scratch, grid, |scratch, units, mut tiles| {
            for unit in units {
                let (tile, kv_head) = (unit / kv_heads, unit % kv_heads);
                let Some(mut out) = tiles.tile(unit) else {
                    continue;
                };
                let first = tile * QUERY_TILE;
                let tile = QueryTile {
                    queries: &queries[first * width..(first + out.rows()) * width],
                    stride: width,
                    first_position: row.position + first,
                    layer,
                    kv_head,
                };
                failure.note(kernels.attend(&params, row.kv, tile, scratch, &mut out));
            }
        });
    }

    /// `gated = silu(gate(normed)) · up(normed)`, in f32 and in 8 bits, 32 columns at a time.
    fn gate_and_up(&mut self, region: &mut Region<'_>, layer: &Layer) {
        let Forward {
            config,
            kernels,
            exact,
            ..
        } = *self.forward;
        let (ff, n, failure) = (config.d_ff, self.n, &self.failure);
        let inputs = self.normed.inputs(exact);
        let gate = Columns::new(&mut self.gated.float, ff, BLOCK);
        let up = Columns::new(self.up, ff, BLOCK);
        let product = |matrix: &PackedMatrix,
                       bias: &[f32],
                       units: &std::ops::Range<usize>,
                       out: &mut TileMut<'_, f32>| {
            let per_unit = BLOCK / LANES;
            let panels = units.start * per_unit..(units.end * per_unit).min(matrix.panels());
            failure.note(kernels.matmul(matrix, panels, inputs.of(matrix), out));
            if !bias.is_empty() {
                let columns = unit_columns(units.clone(), BLOCK, ff);
                (0..n).for_each(|row| ops::add(kernels, out.row(row), &bias[columns.clone()]));
            }
        };
        if exact {
            region.stage((gate, up), |units, (mut gate, mut up)| {
                product(&layer.gate, &layer.gate_bias, &units, &mut gate);
                product(&layer.up, &layer.up_bias, &units, &mut up);
                (0..n).for_each(|row| ops::silu_mul(kernels, gate.row(row), up.row(row)));
            });
            return;
        }
        let fixed = self.gated.fixed.by_columns(BLOCK);
        region.stage((gate, up, fixed), |units, (mut gate, mut up, mut fixed)| {
            product(&layer.gate, &layer.gate_bias, &units, &mut gate);
            product(&layer.up, &layer.up_bias, &units, &mut up);
            for row in 0..n {
                let gate = gate.row(row);
                ops::silu_mul(kernels, gate, up.row(row));
                write_columns(kernels, &mut fixed, n, row, gate);
            }
        });
        keep_remainders(region, kernels, self.gated);
    }

    /// The final norm, its hooks, and the logits of the wanted tokens.
    fn head(
        &mut self,
        region: &mut Region<'_>,
        rows: &[BatchRow<'_>],
        lines: &[usize],
        logits: &mut Vec<f32>,
    ) -> Result<(), CpuError> {
        let Forward {
            config,
            kernels,
            exact,
            weights,
            ..
        } = *self.forward;
        let d_model = config.d_model;
        let hooked = rows
            .iter()
            .any(|row| row.hooks.is_some_and(|h| h.plan.touches(HookPoint::Final)));
        if hooked {
            self.norm(region, &weights.final_norm);
            hook(
                HookPoint::Final,
                &mut self.normed.float,
                d_model,
                rows,
                self.captures,
            );
        }
        if lines.is_empty() {
            return Ok(());
        }
        // The wanted tokens move to the front; they are in ascending order.
        let source = if hooked {
            &mut self.normed.float
        } else {
            &mut *self.x
        };
        for (to, &from) in lines.iter().enumerate() {
            source.copy_within(from * d_model..(from + 1) * d_model, to * d_model);
        }
        source.truncate(lines.len() * d_model);
        if hooked {
            self.normed
                .fixed
                .reshape(if exact { 0 } else { lines.len() }, d_model)?;
            quantize(region, kernels, self.normed, exact);
        } else {
            self.normed.reshape(lines.len(), d_model, !exact)?;
            self.norm(region, &weights.final_norm);
        }
        let inputs = self.normed.inputs(exact);
        let (head, failure) = (weights.head(), &self.failure);
        logits.resize(lines.len() * config.vocab, 0.0);
        region.stage(
            Columns::new(logits, config.vocab, LANES),
            |panels, mut out| {
                failure.note(kernels.matmul(head, panels, inputs.of(head), &mut out));
            },
        );
        Ok(())
    }
}

/// A product that is added to the residual stream.
struct Sum<'a> {
    matrix: &'a PackedMatrix,
    bias: &'a [f32],
    inputs: Inputs<'a>,
}

impl Sum<'_> {
    /// `delta = matrix(inputs) + bias`, the hooks of `point` on it, `x += delta`.
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of a step that the product borrows one by one"
    )]
    fn run(
        &self,
        region: &mut Region<'_>,
        kernels: Kernels,
        x: &mut [f32],
        delta: &mut [f32],
        d_model: usize,
        (point, rows, captures): (HookPoint, &[BatchRow<'_>], &mut Vec<Captured>),
        failure: &Failure,
    ) {
        let product = |panels: std::ops::Range<usize>, out: &mut TileMut<'_, f32>| {
            let columns = panels.start * LANES..(panels.end * LANES).min(d_model);
            failure.note(kernels.matmul(self.matrix, panels, self.inputs.of(self.matrix), out));
            if !self.bias.is_empty() {
                (0..out.rows())
                    .for_each(|row| ops::add(kernels, out.row(row), &self.bias[columns.clone()]));
            }
        };
        if rows
            .iter()
            .any(|row| row.hooks.is_some_and(|hooks| hooks.plan.touches(point)))
        {
            region.stage(Columns::new(delta, d_model, LANES), |panels, mut out| {
                product(panels, &mut out)
            });
            hook(point, delta, d_model, rows, captures);
            ops::add(kernels, x, delta);
            return;
        }
        let split = (
            Columns::new(delta, d_model, LANES),
            Columns::new(x, d_model, LANES),
        );
        region.stage(split, |panels, (mut delta, mut x)| {
            product(panels, &mut delta);
            (0..x.rows()).for_each(|row| ops::add(kernels, x.row(row), delta.row(row)));
        });
    }
}
