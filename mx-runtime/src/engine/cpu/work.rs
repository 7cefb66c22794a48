//! What a step works on: its rows, its buffers, and the small work between two stages.

use super::attention::AttentionScratch;
use super::error::CpuError;
use super::kernels::{Input, Kernels};
use super::kv::KvCache;
use super::ops;
use super::pack::PackedMatrix;
use super::quantize::{QuantizedRows, ROW_TILE, write_remainders, write_tiles};
use super::threads::{Region, Rows, ThreadPool};
use crate::engine::RowHooks;
use crate::hooks::{Captured, HookPoint};
use std::sync::Mutex;

/// One row of the batch: tokens `first .. first + count` of the packed batch.
pub(super) struct BatchRow<'a> {
    pub(super) kv: &'a mut KvCache,
    pub(super) first: usize,
    pub(super) count: usize,
    /// Position of the first token.
    pub(super) position: usize,
    pub(super) hooks: Option<RowHooks<'a>>,
}

/// What a step works on; kept between steps so that nothing is allocated once it has grown.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) pool: ThreadPool,
    pub(super) scratch: Vec<AttentionScratch>,
    /// Residual stream, `[n, d_model]`.
    pub(super) x: Vec<f32>,
    /// What is added to it, `[n, d_model]`.
    pub(super) delta: Vec<f32>,
    /// Normalised rows, `[n, d_model]`, and the same in 8 bits.
    pub(super) normed: Activations,
    /// `[n, (heads + 2 kv_heads) * head_dim]`.
    pub(super) qkv: Vec<f32>,
    /// Attention output, `[n, heads * head_dim]`.
    pub(super) mixed: Activations,
    /// Gated rows, `[n, d_ff]`.
    pub(super) gated: Activations,
    pub(super) up: Vec<f32>,
    /// Attention of spans of keys before they are merged.
    pub(super) records: Vec<f32>,
    /// `[n, head_dim / 2]` each.
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
    pub(super) captures: Vec<Captured>,
}

/// Rows as f32 and, for the integer kernels, in 8 bits.
#[derive(Debug)]
pub(super) struct Activations {
    pub(super) float: Vec<f32>,
    pub(super) fixed: QuantizedRows,
}

impl Activations {
    pub(super) fn new() -> Result<Self, CpuError> {
        Ok(Activations {
            float: Vec::new(),
            fixed: QuantizedRows::new(0, 1)?,
        })
    }

    pub(super) fn reshape(
        &mut self,
        rows: usize,
        cols: usize,
        fixed: bool,
    ) -> Result<(), CpuError> {
        self.float.resize(rows * cols, 0.0);
        self.fixed.reshape(if fixed { rows } else { 0 }, cols)
    }

    /// The rows as the input of a product.
    pub(super) fn inputs(&self, exact: bool) -> Inputs<'_> {
        Inputs {
            float: &self.float,
            fixed: &self.fixed,
            exact,
        }
    }
}

/// How the input of a product is taken.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) float: &'a [f32],
    pub(super) fixed: &'a QuantizedRows,
    pub(super) exact: bool,
}

impl<'a> Inputs<'a> {
    /// The input that suits a matrix: 8 bits for block formats, unless the mode is exact.
    pub(super) fn of(&self, matrix: &PackedMatrix) -> Input<'a> {
        if self.exact || !matrix.format().is_quantized() {
            Input::Float(self.float)
        } else {
            Input::Quantized(self.fixed)
        }
    }
}

/// The first error of a stage, from whichever thread.
#[derive(Default)]
pub(super) struct Failure(Mutex<Option<CpuError>>);

impl Failure {
    pub(super) fn note(&self, result: Result<(), CpuError>) {
        if let Err(error) = result {
            self.0
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .get_or_insert(error);
        }
    }

    pub(super) fn into_result(self) -> Result<(), CpuError> {
        match self
            .0
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Workspace {
    pub(super) fn new(pool: ThreadPool) -> Result<Self, CpuError> {
        let scratch = (0..pool.threads())
            .map(|_| AttentionScratch::default())
            .collect();
        Ok(Workspace {
            pool,
            scratch,
            x: Vec::new(),
            delta: Vec::new(),
            normed: Activations::new()?,
            qkv: Vec::new(),
            mixed: Activations::new()?,
            gated: Activations::new()?,
            up: Vec::new(),
            records: Vec::new(),
            cos: Vec::new(),
            sin: Vec::new(),
            captures: Vec::new(),
        })
    }
}

/// Norms of rows, eight at a time.
pub(super) fn norm_rows(
    region: &mut Region<'_>,
    kernels: Kernels,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut Activations,
    exact: bool,
) {
    let width = weight.len();
    let Activations { float, fixed } = out;
    let norm = |units: &std::ops::Range<usize>, part: &mut [f32]| {
        let x = &x[units.start * ROW_TILE * width..];
        for (x, y) in x.chunks_exact(width).zip(part.chunks_exact_mut(width)) {
            ops::rmsnorm(kernels, x, weight, eps, y);
        }
    };
    let rows = Rows::new(float, ROW_TILE * width);
    if exact {
        region.stage(rows, |units, part| norm(&units, part));
        return;
    }
    region.stage(
        (rows, fixed.by_tile()),
        |units, (part, (blocks, remainders))| {
            norm(&units, part);
            write_tiles(kernels, blocks, remainders, part, width);
        },
    );
}

/// Rows in 8 bits, unless the mode is exact.
pub(super) fn quantize(
    region: &mut Region<'_>,
    kernels: Kernels,
    rows: &mut Activations,
    exact: bool,
) {
    if exact {
        return;
    }
    let Activations { float, fixed } = rows;
    let width = fixed.cols();
    region.stage(fixed.by_tile(), |units, (blocks, remainders)| {
        let x = &float[units.start * ROW_TILE * width..];
        write_tiles(kernels, blocks, remainders, x, width);
    });
}

/// The remainders of rows that are in 8 bits already.
pub(super) fn keep_remainders(region: &mut Region<'_>, kernels: Kernels, rows: &mut Activations) {
    let Activations { float, fixed } = rows;
    let width = fixed.cols();
    let tiles = fixed.rows().div_ceil(ROW_TILE).max(1);
    let (blocks, remainders) = fixed.remainders_by_tile();
    let tile = blocks.len() / tiles;
    region.stage(remainders, |units, part| {
        let x = &float[units.start * ROW_TILE * width..];
        let blocks = &blocks[units.start * tile..units.end * tile];
        write_remainders(kernels, blocks, part, x, width);
    });
}

/// Runs the hooks of `point` on the rows of `x`, `[n, d_model]`.
pub(super) fn hook(
    point: HookPoint,
    x: &mut [f32],
    d_model: usize,
    rows: &[BatchRow<'_>],
    captures: &mut Vec<Captured>,
) {
    for (index, row) in rows.iter().enumerate() {
        let Some(hooks) = row.hooks else { continue };
        let captured = |x: &[f32], run: std::ops::Range<usize>, before_edits| Captured {
            row: index,
            point,
            first_position: row.position + run.start,
            before_edits,
            values: x[(row.first + run.start) * d_model..(row.first + run.end) * d_model].to_vec(),
        };
        let watched = hooks.plan.watches(point);
        if watched {
            captures.push(captured(x, 0..row.count, true));
        }
        for edit in hooks.plan.edits(point) {
            if let Some(run) = edit
                .tokens
                .within(hooks.prompt_len, row.position, row.count)
            {
                let lines = (row.first + run.start) * d_model..(row.first + run.end) * d_model;
                x[lines]
                    .chunks_exact_mut(d_model)
                    .for_each(|line| edit.apply(line));
            }
        }
        if watched {
            captures.push(captured(x, 0..row.count, false));
        }
        for capture in hooks.plan.captures(point) {
            if let Some(run) = capture
                .tokens
                .within(hooks.prompt_len, row.position, row.count)
            {
                captures.push(captured(x, run, false));
            }
        }
    }
}
