//! A loaded model as mx-steering wants to read it.

use super::edits;
use crate::pipeline::Loaded;
use mx_runtime::engine::{Row, RowHooks, StepOutput, Want};
use mx_runtime::hooks::{Capture, HookPlan, TokenClass};
use mx_steering::make::Reader;
use mx_steering::{ModelError, Point};

/// Reads the rows of unsteered runs.
#[derive(Debug)]
pub struct ModelReader<'a> {
    model: &'a Loaded,
    output: StepOutput,
}

impl<'a> ModelReader<'a> {
    /// A reader of this model.
    pub fn new(model: &'a Loaded) -> Self {
        ModelReader {
            model,
            output: StepOutput::new(),
        }
    }

    /// The mean row of a text at a place, without position 0, which many models use as an attention sink.
    ///
    /// # Errors
    /// Whatever the engine fails with.
    pub fn mean(&mut self, tokens: &[u32], point: Point) -> Result<Vec<f32>, ModelError> {
        let width = self.model.config().d_model;
        let rows = self.read(tokens, &[point])?.swap_remove(0);
        let skipped = usize::from(tokens.len() > 1);
        let counted = rows.chunks_exact(width).skip(skipped);
        let count = (tokens.len() - skipped) as f64;
        let mut sum = vec![0.0f64; width];
        for row in counted {
            sum.iter_mut()
                .zip(row)
                .for_each(|(sum, x)| *sum += f64::from(*x));
        }
        Ok(sum.into_iter().map(|sum| (sum / count) as f32).collect())
    }
}

impl Reader for ModelReader<'_> {
    fn read(&mut self, tokens: &[u32], points: &[Point]) -> Result<Vec<Vec<f32>>, ModelError> {
        let captures = points.iter().map(|point| Capture {
            point: edits::point(*point),
            tokens: TokenClass::All,
        });
        let plan = HookPlan::new([], captures, self.model.config())?;
        let engine = self.model.engine();
        let mut sequence = engine.new_sequence();
        let row = Row {
            sequence: &mut sequence,
            tokens,
            want: Want::None,
            hooks: Some(RowHooks {
                plan: &plan,
                prompt_len: tokens.len(),
            }),
        };
        engine.step(&mut [row], &mut self.output)?;
        let captured = self.output.take_captures();
        points
            .iter()
            .map(|point| {
                let wanted = edits::point(*point);
                let found = captured.iter().find(|captured| captured.point == wanted);
                found
                    .map(|captured| captured.values.clone())
                    .ok_or_else(|| format!("the engine read nothing at {wanted}").into())
            })
            .collect()
    }
}
