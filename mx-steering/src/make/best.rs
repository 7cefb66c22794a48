//! A vector at the one layer that held-out pairs speak for.

use super::{
    Contrast, LayerScore, Reader, Recipe, Rule, TokenPair, Watch, choose_layer, make_from,
    rank_layers, split_holdout, tell,
};
use crate::error::SteeringError;
use crate::evaluate::stats::{mean, variance};
use crate::point::Point;
use crate::vector::{Measured, SteeringVector};
use serde::{Deserialize, Serialize};

/// How a layer is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayerChoice {
    /// Share of the pairs that is held out to judge by, 0.25 by default.
    pub held_out: f64,
    /// Most damage that a layer may do, as the damage closure measures it, 0.5 by default.
    pub max_damage: f64,
}

impl Default for LayerChoice {
    fn default() -> Self {
        LayerChoice {
            held_out: 0.25,
            max_damage: 0.5,
        }
    }
}

/// The damage of a vector at strength 1, for example the KL divergence that it causes on neutral prompts.
pub type Damage<'a> = dyn FnMut(&SteeringVector) -> Result<f64, SteeringError> + 'a;

/// What a vector at strength 1 does to each of the pairs held out, for example the shift of belief in their answers.
pub type Effects<'a> = dyn FnMut(&SteeringVector) -> Result<Vec<f64>, SteeringError> + 'a;

/// How places are judged.
pub struct Judges<'a> {
    /// What a vector breaks.
    pub damage: &'a mut Damage<'a>,
    /// What it does, where that is to decide: separation tells where a difference can be read, which is not always where
    /// it can be written. Without it d′ decides.
    pub effects: Option<&'a mut Effects<'a>>,
}

impl std::fmt::Debug for Judges<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judges")
            .field("effects", &self.effects.is_some())
            .finish_non_exhaustive()
    }
}

/// Makes a vector at the best of the recipe's places: most pairs make a direction at each, the rest ranks them, by what
/// they do or by d′, and the first whose damage is bearable is kept. Also gives the ranking, best first.
///
/// `prepare` may set units and the like before a vector is judged.
///
/// # Errors
/// As [`make`](super::make), and [`SteeringError::Empty`] where the pairs are too few to hold any out.
pub fn make_at_best(
    recipe: &Recipe,
    pairs: &[TokenPair],
    choice: &LayerChoice,
    reader: &mut dyn Reader,
    prepare: &mut dyn FnMut(&mut SteeringVector),
    judges: Judges<'_>,
    watch: &mut Watch<'_>,
) -> Result<(SteeringVector, Vec<LayerScore>), SteeringError> {
    if recipe.rule == Rule::Mechanex {
        return Err(SteeringError::Exclusive {
            first: "caa_mechanex",
            second: "a layer chosen by held-out pairs",
            reason: "its layers are part of its rule; take caa",
        });
    }
    let contrast = Contrast::collect(pairs, &recipe.points, recipe.reading, reader, watch)?;
    let (train, held_out) = contrast.split(choice.held_out);
    if held_out.pairs() == 0 {
        return Err(SteeringError::Empty {
            what: "list of held-out pairs",
            wanted: "at least two pairs, and better fifty",
        });
    }
    let mut vector = make_from(recipe, &train)?;
    prepare(&mut vector);
    let mut ranked = rank_layers(&vector, &held_out)?;
    if let Some(effects) = judges.effects {
        let mut surest = Vec::with_capacity(ranked.len());
        for (done, score) in ranked.iter().enumerate() {
            tell(watch, done, ranked.len(), None)?;
            let effects = effects(&vector.of_layers(&[score.point.layer])?)?;
            surest.push((at_least(&effects), *score));
        }
        surest.sort_by(|a, b| b.0.total_cmp(&a.0));
        ranked = surest.into_iter().map(|(_, score)| score).collect();
    }
    let mut harm = |point: Point| (judges.damage)(&vector.of_layers(&[point.layer])?);
    let best = choose_layer(&ranked, choice.max_damage, &mut harm)?;
    let mut vector = vector.of_layers(&[best.point.layer])?;
    vector.measured = Some(Measured {
        d_prime: [(best.point, best.d_prime)].into(),
        ..Measured::default()
    });
    Ok((vector, ranked))
}

/// The mean of some effects less two standard errors: what they surely come to.
fn at_least(effects: &[f64]) -> f64 {
    let error = (variance(effects) / effects.len().max(1) as f64).sqrt();
    mean(effects) - 2.0 * error
}

impl Contrast {
    /// The rows of the first pairs, and those of a share of them that is held out, as [`split_holdout`] splits.
    pub fn split(&self, held_out: f64) -> (Contrast, Contrast) {
        let part = |wanted: bool| {
            let cut = |rows: &[Vec<f32>]| {
                let (train, rest) = split_holdout(rows, held_out);
                if wanted {
                    rest.to_vec()
                } else {
                    train.to_vec()
                }
            };
            let mut part = self.clone();
            for (_, rows) in &mut part.points {
                rows.positive = cut(&rows.positive);
                rows.negative = cut(&rows.negative);
            }
            part
        };
        (part(false), part(true))
    }
}
