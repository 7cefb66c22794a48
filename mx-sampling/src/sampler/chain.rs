//! Running a chain over one row.

use crate::error::SamplingError;
use crate::explain::Explanation;
use crate::law::Law;
use crate::logprobs::LogprobReport;
use crate::plan::Op;
use crate::rng::Stream;
use crate::row::{Row, Shape};
use crate::temperature::{GREEDY_BELOW, dynamic_temperature};

use super::edit::Edit;
use super::{Last, Sampler, State};

impl Sampler {
    /// Runs the chain up to the draw.
    pub(super) fn run<'a>(
        &'a mut self,
        logits: &'a mut [f32],
        mask: Option<&[u32]>,
        report: Option<&mut LogprobReport>,
    ) -> Result<(Law<'a>, &'a mut Stream), SamplingError> {
        if logits.len() != self.vocab {
            return Err(SamplingError::Length {
                name: "logits",
                given: logits.len(),
                wanted: self.vocab,
            });
        }
        let wanted = self.vocab.div_ceil(32);
        if let Some(mask) = mask.filter(|mask| mask.len() < wanted) {
            return Err(SamplingError::MaskLength {
                given: mask.len(),
                wanted,
            });
        }
        self.last = None;
        let plan = &*self.plan;
        let mut explain = self.explanation.as_deref_mut();
        if let Some(explain) = &mut explain {
            explain.start(logits);
        }
        let mut row = Row::new(logits, &mut self.scratch, self.backend);
        row.min_keep = plan.min_keep;
        row.sanitize = plan.sanitize;
        row.infinite = plan.sanitize && plan.greedy;
        if let Some(report) = report.filter(|report| report.raw.is_some()) {
            row.scan(None, "the model")?;
            let edits_follow = plan.ops.iter().any(|(step, op)| {
                step.is_edit() && !(matches!(op, Op::Processors) && self.processors.is_empty())
            });
            report.read_raw(&mut row, edits_follow);
            if edits_follow || mask.is_some() {
                row.shape = Shape::Unscanned;
            }
        }
        let mut after = "the model";
        let mut masked = false;
        for (step, op) in &plan.ops {
            if matches!(op, Op::Processors) && self.processors.is_empty() {
                continue;
            }
            if plan.greedy && !step.is_edit() {
                continue;
            }
            if step.is_edit() {
                if row.shape != Shape::Unscanned {
                    row.write_back();
                    masked = false;
                }
                let mut edit = Edit {
                    plan,
                    history: &self.history,
                    processors: &mut self.processors,
                    dry: &mut self.dry,
                    mask,
                };
                edit.apply(op, &mut row, explain.as_deref_mut())?;
                after = step.name();
            } else {
                scan_with(&mut row, mask, &mut masked, after, explain.as_deref_mut())?;
                shape(
                    op,
                    &mut row,
                    &self.state,
                    &mut self.stream,
                    &mut self.originals,
                );
            }
            if let Some(explain) = explain
                .as_deref_mut()
                .filter(|_| !matches!(op, Op::Processors))
            {
                explain.note(step.name(), &row);
            }
        }
        scan_with(&mut row, mask, &mut masked, after, explain)?;
        if plan.stateful {
            let n = row.make_list();
            self.last = Some(Last { n, z: row.total() });
        }
        Ok((Law::new(row, plan.greedy), &mut self.stream))
    }
}

/// Scans the row if that is due, applying the mask.
fn scan_with(
    row: &mut Row<'_>,
    mask: Option<&[u32]>,
    masked: &mut bool,
    after: &'static str,
    explain: Option<&mut Explanation>,
) -> Result<(), SamplingError> {
    if row.shape != Shape::Unscanned {
        return Ok(());
    }
    row.scan(mask, if mask.is_some() { "the mask" } else { after })?;
    if let Some(explain) = explain.filter(|_| mask.is_some() && !*masked) {
        explain.note("mask", row);
    }
    *masked = true;
    Ok(())
}

/// Applies a step that shapes the distribution.
fn shape(op: &Op, row: &mut Row<'_>, state: &State, stream: &mut Stream, originals: &mut Vec<f32>) {
    match op {
        Op::Temperature(t) => row.heat(*t),
        Op::DynamicTemperature {
            temperature,
            range,
            exponent,
        } => {
            let live = row.live();
            let t = dynamic_temperature(*temperature, *range, *exponent, row.entropy(), live);
            if t < GREEDY_BELOW {
                row.keep_top(1);
            } else {
                row.heat(t);
            }
        }
        Op::Truncate(truncation) => truncation.cut(row),
        Op::Xtc(xtc) => {
            let u = stream.unit();
            if u < xtc.probability {
                row.exclude_top_choices(xtc.threshold);
            }
        }
        Op::Mirostat(mirostat) => {
            mirostat.cut(row, state.mu);
            row.make_list();
        }
        Op::AdaptiveP(adaptive) => adaptive.transform(row, state.adaptive, originals),
        _ => {}
    }
}
