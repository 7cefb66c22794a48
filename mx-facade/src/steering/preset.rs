//! Presets, made for a model when they are first used and kept after that.

use super::texts::tokenise;
use super::{MeasuredModel, ModelReader, NeutralDamage, identity, shape};
use crate::error::Error;
use crate::pipeline::Loaded;
use mx_steering::make::{Judges, split_holdout, unwatched};
use mx_steering::presets::{HELD_OUT, PresetModel, PresetRef, compute, measure_belief};
use mx_steering::store::VectorStore;
use mx_steering::{SteeringError, SteeringVector};
use std::sync::Arc;

/// The preset's vector for a model: the one kept, or a new one.
pub(super) fn vector(
    preset: PresetRef,
    model: &Loaded,
    store: Option<&VectorStore>,
) -> Result<Arc<SteeringVector>, Error> {
    let name = preset.preset.cache_name(preset.tone, &identity(model));
    if let Some(kept) = store.and_then(|store| store.get(&name).ok()) {
        return Ok(Arc::new(kept));
    }
    let made = make(preset, model)?.named(name);
    if let Some(store) = store {
        store.put(&made)?;
    }
    Ok(Arc::new(made))
}

/// Makes it, and measures on the pairs held out what it does at its default strength.
fn make(preset: PresetRef, model: &Loaded) -> Result<SteeringVector, Error> {
    let pairs = preset.preset.pairs(preset.tone)?;
    let tokens = tokenise(&pairs, model)?;
    let neutral = NeutralDamage::new(model)?;
    let mut damage =
        |vector: &SteeringVector| -> Result<f64, SteeringError> { neutral.of(vector, 1.0) };
    let (_, held_out) = split_holdout(&pairs, HELD_OUT);
    let mut measured = MeasuredModel::new(model);
    let mut gaps = |steer: Option<(&SteeringVector, f32)>| -> Result<Vec<f64>, SteeringError> {
        let gap = |pair| {
            Ok(measured
                .belief(pair, steer)
                .map_err(SteeringError::Model)?
                .gap())
        };
        held_out.iter().map(gap).collect()
    };
    let plain = gaps(None)?;
    let mut effects = |vector: &SteeringVector| -> Result<Vec<f64>, SteeringError> {
        let steered = gaps(Some((vector, 1.0)))?;
        Ok(steered.iter().zip(&plain).map(|(s, p)| s - p).collect())
    };
    let judges = Judges {
        damage: &mut damage,
        effects: Some(&mut effects),
    };
    let mut made = compute(
        preset.preset,
        &tokens,
        &shape(model),
        &mut ModelReader::new(model),
        judges,
        &mut unwatched,
    )?;
    let strength = preset.preset.default_strength();
    measure_belief(&mut made, strength, held_out, &mut measured, &mut unwatched)?;
    Ok(made)
}
