//! Making a preset's vector for a model.

use super::{Preset, PresetKind};
use crate::error::SteeringError;
use crate::make::{Judges, LayerChoice, Reader, Recipe, TokenPair, Watch, make_at_best};
use crate::model::ModelShape;
use crate::point::Site;
use crate::vector::{SteeringVector, Units};

/// Share of the pairs held out: they choose the layer, and say what the vector does before [`tune`](super::tune) does.
pub const HELD_OUT: f64 = 0.25;

/// Largest KL divergence on neutral prompts that a layer may cause at strength 1.
const MAX_KL: f64 = 0.5;

/// How presets are made: mean differences over the last prompt token and the answer, at the outputs of the middle
/// layers.
pub fn recipe(model: &ModelShape) -> Recipe {
    Recipe::caa(model.middle_layers().map(|layer| Site::ResidPost.at(layer)))
}

/// Makes a preset's vector from its pairs as tokens (of [`Preset::pairs`], or the caller's for
/// [`Preset::DomainSpecific`]).
///
/// Three quarters of the pairs make a direction at each middle layer, the rest ranks them by d′; the first whose damage
/// is bearable is kept. `damage` gives the KL divergence of a vector at strength 1 on neutral prompts. Strengths are
/// relative to the stream, so that they mean the same for every model; [`tune`](super::tune) chooses one.
///
/// # Errors
/// [`SteeringError`] for a preset without vector, too few pairs, or a failing model.
pub fn compute(
    preset: Preset,
    pairs: &[TokenPair],
    model: &ModelShape,
    reader: &mut dyn Reader,
    judges: Judges<'_>,
    watch: &mut Watch<'_>,
) -> Result<SteeringVector, SteeringError> {
    if preset.kind() == PresetKind::Constraint {
        return preset
            .pairs(super::Tone::default())
            .map(|_| ())
            .and(Err(SteeringError::Empty {
                what: "vector of the preset",
                wanted: "a preset that is a vector",
            }));
    }
    let mut prepare = |vector: &mut SteeringVector| {
        vector.units = Units::RELATIVE;
        vector.model = model.identity();
        vector.name = preset.name().to_owned();
        vector.label = "preset".to_owned();
        vector.provenance.source = Some(format!("preset {preset}, version {}", super::VERSION));
    };
    let choice = LayerChoice {
        held_out: HELD_OUT,
        max_damage: MAX_KL,
    };
    let recipe = recipe(model);
    let made = make_at_best(&recipe, pairs, &choice, reader, &mut prepare, judges, watch)?;
    Ok(made.0)
}
