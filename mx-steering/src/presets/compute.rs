//! Making a preset's vector for a model.

use super::{Preset, PresetKind};
use crate::error::SteeringError;
use crate::make::{
    Contrast, Reader, Recipe, TokenPair, Watch, choose_layer, make_from, rank_layers, split_holdout,
};
use crate::model::ModelShape;
use crate::point::{Point, Site};
use crate::vector::{Measured, SteeringVector, Units};

/// Share of the pairs held out to choose the layer.
const HELD_OUT: f64 = 0.25;

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
    damage: &mut dyn FnMut(&SteeringVector) -> Result<f64, SteeringError>,
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
    let recipe = recipe(model);
    let contrast = Contrast::collect(pairs, &recipe.points, recipe.reading, reader, watch)?;
    let (train, held_out) = split(&contrast);
    if held_out.pairs() == 0 {
        return Err(SteeringError::Empty {
            what: "list of held-out pairs",
            wanted: "at least two pairs, and better fifty",
        });
    }
    let mut vector = make_from(&recipe, &train)?;
    vector.units = Units::RELATIVE;
    vector.model = model.identity();
    vector.name = preset.name().to_owned();
    vector.label = "preset".to_owned();
    vector.provenance.source = Some(format!("preset {preset}, version {}", super::VERSION));
    let ranked = rank_layers(&vector, &held_out)?;
    let mut harm = |point: Point| damage(&vector.of_layers(&[point.layer])?);
    let best = choose_layer(&ranked, MAX_KL, &mut harm)?;
    let mut vector = vector.of_layers(&[best.point.layer])?;
    vector.measured = Some(Measured {
        d_prime: [(best.point, best.d_prime)].into(),
        ..Measured::default()
    });
    Ok(vector)
}

/// The rows of the first pairs, and of those held out.
fn split(contrast: &Contrast) -> (Contrast, Contrast) {
    let part = |held_out: bool| {
        let cut = |rows: &[Vec<f32>]| {
            let (train, rest) = split_holdout(rows, HELD_OUT);
            if held_out {
                rest.to_vec()
            } else {
                train.to_vec()
            }
        };
        let mut part = contrast.clone();
        for (_, rows) in &mut part.points {
            rows.positive = cut(&rows.positive);
            rows.negative = cut(&rows.negative);
        }
        part
    };
    (part(false), part(true))
}
