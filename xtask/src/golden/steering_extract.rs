//! `extract_golden.json` beside a tiny model: vectors made from token pairs.

use super::compare::{Tolerance, count, floats, ids, list};
use super::steering::{EngineReader, EngineSteered};
use super::tiny_model::{folder_name, read_json};
use super::{Tally, engines};
use mx::steering::ResumedModel;
use mx_runtime::config::ConfigError;
use mx_runtime::device::DeviceId;
use mx_runtime::engine::Engine;
use mx_runtime::engine::burn::BurnEngine;
use mx_runtime::error::LoadError;
use mx_runtime::files::ModelFiles;
use mx_steering::make::few_shot::{Ended, FewShotOptions, Start, SteeredModel, Target, few_shot};
use mx_steering::make::{Contrast, Reading, Recipe, TokenPair, make, unwatched};
use mx_steering::{Site, SteeringError};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Rounding of the reference under other kernels.
const TOLERANCE: Tolerance = Tolerance {
    abs: 1e-3,
    rel: 1e-4,
};

/// Runs one golden file.
///
/// # Errors
/// When the golden itself cannot be read.
pub(super) fn run(path: &Path, device: DeviceId) -> anyhow::Result<Tally> {
    let mut tally = Tally::new("extraction");
    let folder = path.parent().unwrap_or(path);
    let name = folder_name(folder);
    let golden = read_json(path)?;
    let files = match ModelFiles::open(folder) {
        Err(LoadError::Config(ConfigError::Architecture { given, .. })) => {
            tally.skip(&name, &format!("architecture {given} is not built yet"));
            return Ok(tally);
        }
        Err(error) => {
            tally.check(&name, Err(error.to_string()));
            return Ok(tally);
        }
        Ok(files) => files,
    };
    let pairs = token_pairs(&golden)?;
    let layer = count(&golden, "layer")?;
    for (engine_name, engine) in engines::of(&files, device) {
        let name = format!("{engine_name} {name}");
        match engine {
            Ok(engine) => check_reading(&engine, &golden, &pairs, layer, &name, &mut tally)?,
            Err(error) => tally.check(&name, Err(error)),
        }
    }
    match files.burn_engine(device) {
        Ok(engine) => {
            let few_shot = &golden["few_shot"];
            let (mut whole, mut resumed) = (EngineSteered(&engine), ResumedModel::new(&engine));
            let models: [(&mut dyn SteeredModel, &str); 2] =
                [(&mut whole, "whole"), (&mut resumed, "resumed")];
            for (model, pass) in models {
                let name = format!("{name}/{pass}");
                check_few_shot(&engine, model, few_shot, &pairs, layer, &name, &mut tally)?;
            }
        }
        Err(error) => tally.check(&name, Err(error.to_string())),
    }
    Ok(tally)
}

fn token_pairs(golden: &Value) -> anyhow::Result<Vec<TokenPair>> {
    list(golden, "pairs")?
        .iter()
        .map(|pair| {
            let prompt = ids(&pair["prompt_ids"])?;
            let whole = |answer: Vec<u32>| [prompt.clone(), answer].concat();
            Ok(TokenPair {
                prompt_len: prompt.len(),
                positive: whole(ids(&pair["positive_ids"])?),
                negative: Some(whole(ids(&pair["negative_ids"])?)),
            })
        })
        .collect()
}

/// Mechanex's rule, the corrected rule, and the rows of the last tokens.
fn check_reading(
    engine: &Arc<dyn Engine>,
    golden: &Value,
    pairs: &[TokenPair],
    layer: usize,
    name: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut reader = EngineReader(Arc::clone(engine));
    let expected = floats(&golden["caa"]["vector"])?;
    let post = Site::ResidPost.at(layer);
    // no prompt of the goldens is a single token, so both rules read the same positions
    for (recipe, acts_at) in [
        (Recipe::caa_mechanex([layer]), Site::ResidPre.at(layer)),
        (Recipe::caa([post]), post),
    ] {
        let result = make(&recipe, pairs, &mut reader, &mut unwatched)
            .map_err(|error| error.to_string())
            .and_then(|vector| {
                TOLERANCE.check(vector.direction(acts_at).unwrap_or_default(), &expected)
            });
        tally.check(&format!("{name}/{}", recipe_name(&recipe)), result);
    }
    let differences: Vec<Vec<f32>> = list(golden, "last_token_differences")?
        .iter()
        .map(floats)
        .collect::<anyhow::Result<_>>()?;
    let rows = Contrast::collect(pairs, &[post], Reading::Last, &mut reader, &mut unwatched);
    let result = rows
        .map_err(|error| error.to_string())
        .and_then(|contrast| {
            let (_, rows) = &contrast.points[0];
            let got: Vec<f32> = rows
                .positive
                .iter()
                .flatten()
                .zip(rows.negative.iter().flatten())
                .map(|(p, n)| p - n)
                .collect();
            TOLERANCE.check(&got, &differences.concat())
        });
    tally.check(&format!("{name}/differences of the last tokens"), result);
    Ok(())
}

fn recipe_name(recipe: &Recipe) -> &'static str {
    match recipe.rule {
        mx_steering::make::Rule::Mechanex => "caa of mechanex",
        _ => "caa",
    }
}

/// The course of the descent: losses, first gradient, first and last vector.
#[allow(
    clippy::too_many_arguments,
    reason = "one call beside the data it walks over"
)]
fn check_few_shot(
    engine: &BurnEngine,
    model: &mut dyn SteeredModel,
    golden: &Value,
    pairs: &[TokenPair],
    layer: usize,
    name: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let losses = floats(&golden["loss_before_each_step"])?;
    let targets = Target::of_pairs(pairs);
    let point = Site::ResidPre.at(layer);
    let d_model = engine.config().d_model;
    let mut run = |iterations: usize| {
        let options = FewShotOptions {
            start: Start::Vector(golden_start(d_model)),
            iterations,
            ..FewShotOptions::default()
        };
        let (vector, mut descents) = few_shot(
            &[point],
            &targets,
            d_model,
            engine.device(),
            &options,
            model,
            &mut unwatched,
        )?;
        let values = vector.direction(point).unwrap_or_default().to_vec();
        Ok::<_, SteeringError>((values, descents.remove(0)))
    };
    match run(losses.len() - 1) {
        Err(error) => tally.check(&format!("burn {name}/few-shot"), Err(error.to_string())),
        Ok((values, descent)) => {
            let got: Vec<f32> = descent.losses.iter().map(|loss| *loss as f32).collect();
            tally.check(
                &format!("burn {name}/few-shot/losses"),
                TOLERANCE.check(&got, &losses),
            );
            let gradient = floats(&golden["first_gradient"])?;
            let result = TOLERANCE.check(&descent.first_gradient, &gradient);
            tally.check(&format!("burn {name}/few-shot/first gradient"), result);
            let result = TOLERANCE.check(&values, &floats(&golden["final_vector"])?);
            tally.check(&format!("burn {name}/few-shot/final vector"), result);
            let ended = match descent.ended {
                Ended::Iterations => Ok(()),
                other => Err(format!("ended by {other:?}")),
            };
            tally.check(&format!("burn {name}/few-shot/all steps"), ended);
        }
    }
    let first = run(0).map_err(|error| error.to_string());
    let expected = floats(&golden["vector_after_first_step"])?;
    let result = first.and_then(|(values, _)| TOLERANCE.check(&values, &expected));
    tally.check(&format!("burn {name}/few-shot/first step"), result);
    Ok(())
}

/// v[i] = sin(0.7·i + 0.3), scaled to length 1.
pub(super) fn golden_start(d_model: usize) -> Vec<f32> {
    let values: Vec<f64> = (0..d_model).map(|i| (0.7 * i as f64 + 0.3).sin()).collect();
    let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
    values.iter().map(|x| (x / norm) as f32).collect()
}
