//! What joins mx-steering to a model of mx-runtime: rows to read, edits to run, logits to differentiate.

use anyhow::Context;
use burn::prelude::*;
use mx_runtime::engine::burn::{BurnEngine, HookSite};
use mx_runtime::engine::{Engine, Row, RowHooks, StepOutput, Want};
use mx_runtime::hooks::{self, Capture, HookPlan, HookPoint};
use mx_steering::apply::{Edit, Gate, Plan, Term, TokenClass};
use mx_steering::make::Reader;
use mx_steering::make::few_shot::{SteeredModel, Target};
use mx_steering::{ModelError, ModelShape, Point};
use std::ops::Range;
use std::sync::Arc;

/// The same place in the runtime's words.
pub fn hook_point(point: Point) -> anyhow::Result<HookPoint> {
    point.to_string().parse().context("hook point")
}

/// The same edit in the runtime's words, for a prompt of `prompt_len` tokens.
pub fn runtime_edit(edit: &Edit, prompt_len: usize) -> anyhow::Result<hooks::Edit> {
    let term = |Term { a, b, u, w }: &Term| hooks::Term {
        a: *a,
        b: *b,
        u: u.clone(),
        w: w.clone(),
    };
    let gate = |Gate {
                    direction,
                    threshold,
                }: &Gate| hooks::Gate {
        direction: direction.clone(),
        threshold: *threshold,
    };
    Ok(hooks::Edit {
        point: hook_point(edit.point)?,
        tokens: match edit.tokens {
            TokenClass::All => hooks::TokenClass::All,
            TokenClass::PromptOnly => hooks::TokenClass::PromptOnly,
            TokenClass::LastPrompt => hooks::TokenClass::LastPrompt,
            TokenClass::GeneratedOnly => hooks::TokenClass::GeneratedOnly,
            TokenClass::FromLastPrompt => hooks::TokenClass::FromLastPrompt,
            TokenClass::SkipFirst => hooks::TokenClass::SkipFirst,
            TokenClass::Range { .. } => {
                let Range { start, end } = edit.tokens.positions(prompt_len);
                hooks::TokenClass::Range { start, end }
            }
        },
        terms: edit.terms.iter().map(term).collect(),
        gate: edit.gate.as_ref().map(gate),
        keep_norm: edit.keep_norm,
    })
}

/// A compiled plan as the runtime's hooks.
pub fn hook_plan(plan: &Plan, prompt_len: usize, engine: &dyn Engine) -> anyhow::Result<HookPlan> {
    let edits: anyhow::Result<Vec<hooks::Edit>> = plan
        .edits
        .iter()
        .map(|edit| runtime_edit(edit, prompt_len))
        .collect();
    Ok(HookPlan::new(edits?, [], engine.config())?)
}

/// What mx-steering needs to know of a model.
pub fn shape(engine: &dyn Engine) -> ModelShape {
    ModelShape::new(engine.config().d_model, engine.config().layers)
}

/// Reads rows by captures, on any engine.
#[derive(Debug, Clone)]
pub struct EngineReader(pub Arc<dyn Engine>);

impl Reader for EngineReader {
    fn read(&mut self, tokens: &[u32], points: &[Point]) -> Result<Vec<Vec<f32>>, ModelError> {
        let wanted: Vec<HookPoint> = points
            .iter()
            .map(|point| hook_point(*point))
            .collect::<anyhow::Result<_>>()?;
        let captures = wanted.iter().map(|&point| Capture {
            point,
            tokens: hooks::TokenClass::All,
        });
        let plan = HookPlan::new([], captures, self.0.config())?;
        let mut sequence = self.0.new_sequence();
        let mut output = StepOutput::new();
        let row = Row {
            sequence: &mut sequence,
            tokens,
            want: Want::None,
            hooks: Some(RowHooks {
                plan: &plan,
                prompt_len: tokens.len(),
            }),
        };
        self.0.step(&mut [row], &mut output)?;
        let captured = output.take_captures();
        Ok(wanted
            .iter()
            .map(|point| super::tiny_model::joined(&captured, *point))
            .collect())
    }
}

/// Logits of answers with a vector added at every position, by whole forward passes of the burn engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineSteered<'a>(pub &'a BurnEngine);

impl SteeredModel for EngineSteered<'_> {
    fn answer_logits(
        &mut self,
        point: Point,
        targets: &[Target],
        which: Range<usize>,
        vector: &Tensor<1>,
    ) -> Result<Vec<Tensor<2>>, ModelError> {
        let targets = &targets[which];
        let at = hook_point(point)?;
        let rows: Vec<&[u32]> = targets
            .iter()
            .map(|target| target.tokens.as_slice())
            .collect();
        let mut add = |site: HookSite, x: Tensor<3>| match site.point == at {
            true => x + vector.clone().unsqueeze(),
            false => x,
        };
        let logits = self.0.forward(&rows, &mut add)?;
        Ok(logits
            .into_iter()
            .zip(targets)
            .map(|(logits, target)| {
                let run = target.predicting();
                logits.narrow(0, run.start, run.len())
            })
            .collect())
    }
}
