//! Steering: what edits at every layer add to a decoding step of the CPU engine, in per cent of its CPU time.
//!
//! Steps with and without edits take turns on the same sequences, so that both meet the same machine; a run compares the
//! lowest tenths of their CPU times on one thread, which other work on the machine disturbs least. The bars are 1 % for one row and 2 % for eight rows with eight
//! configurations.

use super::{Options, Record, spread};
use crate::maskbench::Clock;
use anyhow::Context;
use mx::steering::hooks_of;
use mx_runtime::engine::cpu::{CpuEngine, CpuOptions};
use mx_runtime::engine::{Engine, Row, RowHooks, StepOutput, Want};
use mx_runtime::files::ModelFiles;
use mx_runtime::hooks::HookPlan;
use mx_steering::apply::{Steer, SteeringSpec};
use mx_steering::{Method, ModelShape, Site, SteeringVector, Units};
use std::sync::Arc;

/// Tokens before the first step.
const CONTEXT: usize = 64;

/// Steps of a run, each with and without edits.
const PAIRS: usize = 150;

/// Rows of the batch, each steered in its own way.
const ROWS: usize = 8;

/// Runs both cases.
pub(super) fn run(options: &Options) -> anyhow::Result<Vec<Record>> {
    let path = options
        .model
        .as_deref()
        .context("the default model has not been fetched")?;
    let mut cpu = CpuOptions::default();
    cpu.threads = Some(1);
    let engine = ModelFiles::open(path)?.cpu_engine(&cpu)?;
    let mut records = Vec::new();
    for (rows, case) in [
        (1, "add at every layer, 1 row"),
        (ROWS, "add at every layer, 8 rows of their own"),
    ] {
        let plans = (0..rows)
            .map(|row| plan(&engine, row))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let figures = overhead(&engine, &plans, options.runs)?;
        let (median, min, max) = spread(&figures);
        records.push(Record {
            bench: "steering".to_owned(),
            case: case.to_owned(),
            engine: "mx".to_owned(),
            threads: 1,
            unit: "%".to_owned(),
            median,
            min,
            max,
            runs: figures.len(),
            ratio: Some(1.0 + median / 100.0),
        });
    }
    Ok(records)
}

/// A vector at the output of every layer, compiled as a request's is; another one for every row.
fn plan(engine: &CpuEngine, row: usize) -> anyhow::Result<HookPlan> {
    let config = engine.config();
    let (width, layers) = (config.d_model, config.layers);
    let direction = |layer: usize| -> Vec<f32> {
        let phase = (row * layers + layer) as f32;
        (0..width).map(|i| (0.7 * i as f32 + phase).sin()).collect()
    };
    let directions = (0..layers).map(|layer| (Site::ResidPost.at(layer), direction(layer)));
    let mut vector = SteeringVector::new(Method::Caa, directions.collect())?;
    vector.units = Units::Unit;
    let vector = Arc::new(vector);
    let spec = SteeringSpec::from(Steer::new("bench").strength(0.5 + row as f32));
    let shape = ModelShape::new(width, layers);
    let plan = spec.compile(&shape, CONTEXT, &mut |_| Ok(Arc::clone(&vector)))?;
    anyhow::ensure!(plan.edits.len() == layers, "an edit a layer");
    Ok(hooks_of(&plan, config)?)
}

/// For each run, how much longer the edited steps took, in per cent.
fn overhead(engine: &CpuEngine, plans: &[HookPlan], runs: usize) -> anyhow::Result<Vec<f64>> {
    let mut output = StepOutput::new();
    let mut sequences = Vec::with_capacity(plans.len());
    for row in 0..plans.len() as u32 {
        let mut sequence = engine.new_sequence();
        let tokens: Vec<u32> = (0..CONTEXT as u32)
            .map(|i| (i + row) * 7919 % 40_000 + 20)
            .collect();
        let prompt = Row {
            sequence: &mut sequence,
            tokens: &tokens,
            want: Want::None,
            hooks: None,
        };
        engine.step(&mut [prompt], &mut output)?;
        sequences.push(sequence);
    }
    // one step of every row, in CPU time; the sequences are as before after it
    let mut time = |edited: bool| -> anyhow::Result<f64> {
        let mut rows: Vec<Row<'_>> = sequences
            .iter_mut()
            .zip(plans)
            .map(|(sequence, plan)| Row {
                sequence,
                tokens: &[100],
                want: Want::Last,
                hooks: edited.then_some(RowHooks {
                    plan,
                    prompt_len: CONTEXT,
                }),
            })
            .collect();
        let started = Clock::Cpu.start();
        engine.step(&mut rows, &mut output)?;
        let taken = started.elapsed_ns() as f64;
        sequences.iter_mut().for_each(|s| s.truncate(CONTEXT));
        Ok(taken)
    };
    time(true)?;
    let mut figures = Vec::with_capacity(runs);
    for _ in 0..runs {
        let (mut plain, mut edited) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            // whoever goes second finds warmer caches: they take turns at that too
            let first = pair % 2 == 1;
            for arm in [first, !first] {
                let taken = time(arm)?;
                if arm { &mut edited } else { &mut plain }.push(taken);
            }
        }
        figures.push(100.0 * (undisturbed(&mut edited) / undisturbed(&mut plain) - 1.0));
    }
    Ok(figures)
}

/// The time that a tenth of the steps stay below: what a step takes when nothing else is in its way.
fn undisturbed(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 10).copied().unwrap_or(f64::NAN)
}
