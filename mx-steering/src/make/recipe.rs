//! The methods that make a vector from pairs.

use super::contrast::mean_of;
use super::{Contrast, Reader, Reading, TokenPair, Watch, read_checked, tell};
use crate::error::SteeringError;
use crate::linalg::{Mean, difference, dot, first_component};
use crate::model::ModelShape;
use crate::point::{Point, Site};
use crate::vector::{Method, SteeringVector, Units};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the rows of the pairs become a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// Mean of the positive rows minus mean of the negative ones; raw length.
    Mean,
    /// Mechanex's rule, exactly: as [`Rule::Mean`], but position 0 is not left out, an answer without positions is left
    /// out without its partner, and the vector acts at `resid_pre` of the layers whose `resid_post` was read.
    Mechanex,
    /// First principal component of the differences, centred; length 1.
    PcaDifference,
    /// First principal component of all rows about the midpoint of their pair; length 1.
    PcaCenter,
    /// First principal component of the differences, not centred; length 1.
    RepE,
}

/// A method with its choices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The places that are read and, unless the rule says otherwise, acted at.
    pub points: Vec<Point>,
    /// The positions that are read.
    pub reading: Reading,
    /// How rows become directions.
    pub rule: Rule,
}

impl Recipe {
    /// Contrastive activation addition: read where the answers are predicted, act where it was read.
    pub fn caa(points: impl IntoIterator<Item = Point>) -> Self {
        Recipe::new(points, Reading::Predicting, Rule::Mean)
    }

    /// Exactly what Mechanex computes: `resid_post` of the layers, acting at `resid_pre` of the same layers. Without
    /// layers it takes those of [`ModelShape::mechanex_layers`].
    pub fn caa_mechanex(layers: impl IntoIterator<Item = usize>) -> Self {
        let points = layers.into_iter().map(|layer| Site::ResidPost.at(layer));
        Recipe::new(points, Reading::Predicting, Rule::Mechanex)
    }

    /// The difference of means of the last position.
    pub fn mean_difference(points: impl IntoIterator<Item = Point>) -> Self {
        Recipe::new(points, Reading::Last, Rule::Mean)
    }

    /// repeng's default.
    pub fn pca_difference(points: impl IntoIterator<Item = Point>) -> Self {
        Recipe::new(points, Reading::Last, Rule::PcaDifference)
    }

    /// repeng's other method.
    pub fn pca_center(points: impl IntoIterator<Item = Point>) -> Self {
        Recipe::new(points, Reading::Last, Rule::PcaCenter)
    }

    /// Representation engineering.
    pub fn repe(points: impl IntoIterator<Item = Point>) -> Self {
        Recipe::new(points, Reading::Last, Rule::RepE)
    }

    /// A method by its name: `caa`, `caa_mechanex`, `mean_difference`, `pca_diff`, `pca_center` or `repe`.
    ///
    /// # Errors
    /// [`SteeringError::Unknown`] for other names, also of methods that are made by functions of their own.
    pub fn named(name: &str, layers: &[usize], model: &ModelShape) -> Result<Self, SteeringError> {
        let layers: Vec<usize> = match layers {
            [] => model.mechanex_layers().collect(),
            given => given.to_vec(),
        };
        let points = layers.iter().map(|&layer| Site::ResidPost.at(layer));
        const KNOWN: &str = "caa, caa_mechanex, mean_difference, pca_diff, pca_center or repe";
        Ok(match Method::from(name.to_owned()) {
            Method::Caa => Recipe::caa(points),
            Method::CaaMechanex => Recipe::caa_mechanex(layers),
            Method::MeanDifference => Recipe::mean_difference(points),
            Method::PcaDifference => Recipe::pca_difference(points),
            Method::PcaCenter => Recipe::pca_center(points),
            Method::RepE => Recipe::repe(points),
            _ => return Err(crate::point::unknown("method", name, KNOWN)),
        })
    }

    fn new(points: impl IntoIterator<Item = Point>, reading: Reading, rule: Rule) -> Self {
        Recipe {
            points: points.into_iter().collect(),
            reading,
            rule,
        }
    }

    fn method(&self) -> Method {
        match (self.rule, self.reading) {
            (Rule::Mean, Reading::Predicting) => Method::Caa,
            (Rule::Mean, _) => Method::MeanDifference,
            (Rule::Mechanex, _) => Method::CaaMechanex,
            (Rule::PcaDifference, _) => Method::PcaDifference,
            (Rule::PcaCenter, _) => Method::PcaCenter,
            (Rule::RepE, _) => Method::RepE,
        }
    }
}

/// Makes a vector from pairs.
///
/// The vector remembers the number of pairs and the mean norm of the stream where it acts; its maker adds name, model
/// and the digest of the pairs.
///
/// # Errors
/// [`SteeringError`] where the model fails, pairs lack answers, nothing differs, or the watch stops it.
pub fn make(
    recipe: &Recipe,
    pairs: &[TokenPair],
    reader: &mut dyn Reader,
    watch: &mut Watch<'_>,
) -> Result<SteeringVector, SteeringError> {
    if recipe.points.is_empty() {
        return Err(SteeringError::Empty {
            what: "list of layers",
            wanted: "at least one layer",
        });
    }
    if recipe.rule == Rule::Mechanex {
        return mechanex(recipe, pairs, reader, watch);
    }
    let contrast = Contrast::collect(pairs, &recipe.points, recipe.reading, reader, watch)?;
    make_from(recipe, &contrast)
}

/// Makes a vector from rows that were read before, at the places of the recipe that they have.
///
/// # Errors
/// As [`make`].
pub fn make_from(recipe: &Recipe, contrast: &Contrast) -> Result<SteeringVector, SteeringError> {
    let mut directions = BTreeMap::new();
    for (point, rows) in &contrast.points {
        if !recipe.points.contains(point) {
            continue;
        }
        let differences = || -> Vec<Vec<f32>> {
            let both = rows.positive.iter().zip(&rows.negative);
            both.map(|(p, n)| difference(p, n)).collect()
        };
        let direction = match recipe.rule {
            Rule::Mean | Rule::Mechanex => mean_difference(&rows.positive, &rows.negative),
            Rule::PcaDifference => {
                let differences = differences();
                let mean = mean(&differences);
                // one pair has no spread: its difference is the direction
                let centred = match differences.len() {
                    1 => differences.clone(),
                    _ => differences.iter().map(|d| difference(d, &mean)).collect(),
                };
                first_component(&centred).map(|(component, _)| signed(component, &differences))
            }
            Rule::PcaCenter => {
                let differences = differences();
                let halves: Vec<Vec<f32>> = differences
                    .iter()
                    .flat_map(|d| {
                        [
                            crate::linalg::scaled(d, 0.5),
                            crate::linalg::scaled(d, -0.5),
                        ]
                    })
                    .collect();
                first_component(&halves).map(|(component, _)| signed(component, &differences))
            }
            Rule::RepE => {
                let differences = differences();
                first_component(&differences).map(|(component, _)| signed(component, &differences))
            }
        };
        let operation = "a vector made of pairs that do not differ there";
        let direction = direction.ok_or(SteeringError::ZeroDirection {
            point: *point,
            operation,
        })?;
        directions.insert(*point, direction);
    }
    let mut vector = SteeringVector::new(recipe.method(), directions)?;
    if !matches!(recipe.rule, Rule::Mean | Rule::Mechanex) {
        vector.units = Units::Unit;
    }
    vector.provenance.pairs = Some(contrast.pairs());
    let known = contrast.stream_norms.iter().filter(|(_, norm)| *norm > 0.0);
    vector.stream_norms = known.copied().collect();
    Ok(vector)
}

/// Mechanex's rule, with the means kept as sums: any number of pairs fits.
fn mechanex(
    recipe: &Recipe,
    pairs: &[TokenPair],
    reader: &mut dyn Reader,
    watch: &mut Watch<'_>,
) -> Result<SteeringVector, SteeringError> {
    let mut poles = vec![[Mean::default(), Mean::default()]; recipe.points.len()];
    for (index, pair) in pairs.iter().enumerate() {
        tell(watch, index, pairs.len(), None)?;
        for (pole, text) in [pair.positive.as_slice(), pair.negative()?]
            .into_iter()
            .enumerate()
        {
            let run = recipe.reading.positions(pair.prompt_len, text.len());
            if run.is_empty() {
                continue;
            }
            let (rows, d_model) = read_checked(reader, text, &recipe.points)?;
            for (rows, poles) in rows.iter().zip(&mut poles) {
                poles[pole].add(&mean_of(rows, d_model, run.clone()));
            }
        }
    }
    tell(watch, pairs.len(), pairs.len(), None)?;
    let mut directions = BTreeMap::new();
    for (point, [positive, negative]) in recipe.points.iter().zip(&poles) {
        let (Some(positive), Some(negative)) = (positive.get(), negative.get()) else {
            return Err(SteeringError::Empty {
                what: "list of pairs with answers",
                wanted: "at least one answer with tokens on each side",
            });
        };
        let direction = positive
            .iter()
            .zip(negative)
            .map(|(p, n)| (p - n) as f32)
            .collect();
        directions.insert(*point, direction);
    }
    let vector = SteeringVector::new(Method::CaaMechanex, directions)?;
    let mut vector = vector.relabelled(Site::ResidPre)?;
    vector.provenance.pairs = Some(pairs.len());
    Ok(vector)
}

fn mean_difference(positive: &[Vec<f32>], negative: &[Vec<f32>]) -> Option<Vec<f32>> {
    let (mut p, mut n) = (Mean::default(), Mean::default());
    positive.iter().for_each(|row| p.add(row));
    negative.iter().for_each(|row| n.add(row));
    let direction: Vec<f32> = p
        .get()?
        .iter()
        .zip(n.get()?)
        .map(|(p, n)| (p - n) as f32)
        .collect();
    direction.iter().any(|x| *x != 0.0).then_some(direction)
}

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let mut mean = Mean::default();
    rows.iter().for_each(|row| mean.add(row));
    mean.get()
        .unwrap_or_default()
        .iter()
        .map(|x| *x as f32)
        .collect()
}

/// The component turned so that most pairs project positively, by the sum of projections where they are even.
fn signed(component: Vec<f32>, differences: &[Vec<f32>]) -> Vec<f32> {
    let projections: Vec<f64> = differences.iter().map(|d| dot(&component, d)).collect();
    let positive = projections.iter().filter(|p| **p > 0.0).count();
    let negative = projections.iter().filter(|p| **p < 0.0).count();
    let turn = match positive.cmp(&negative) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => projections.iter().sum::<f64>() < 0.0,
        std::cmp::Ordering::Greater => false,
    };
    match turn {
        true => component.iter().map(|x| -x).collect(),
        false => component,
    }
}
