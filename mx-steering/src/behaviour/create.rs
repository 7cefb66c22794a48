//! Behaviours made from examples.

use super::Sae;
use crate::error::SteeringError;
use crate::linalg::Mean;
use crate::make::{Reader, TokenPair, Watch, read_checked, tell};
use crate::point::Point;
use crate::vector::{Method, SteeringVector};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A behaviour: its mean sparse code, and the direction of the stream that goes with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    /// Its name.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// Where it is looked for.
    pub point: Point,
    /// Mean code of the examples minus mean code of the counterexamples; features that are not listed are 0.
    pub baseline: BTreeMap<usize, f32>,
    /// Number of features of the autoencoder.
    pub features: usize,
    /// The same difference in the stream, `d_model` numbers.
    pub direction: Vec<f32>,
    /// Id of a stored steering vector that corrects it, instead of the direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steering_vector_id: Option<String>,
    /// Number of pairs.
    pub pairs: usize,
}

/// Makes a behaviour from pairs whose positive answers show it: per pair, the mean code over all positions of prompt
/// and positive answer minus the same for the negative answer, then the mean over pairs; and the same of the rows
/// themselves. As in Mechanex, but position 0 is left out of texts that have other positions.
///
/// # Errors
/// [`SteeringError`] where there are no pairs, the autoencoder has no place, or the model fails.
pub fn create_behaviour(
    name: &str,
    pairs: &[TokenPair],
    sae: &Sae,
    reader: &mut dyn Reader,
    watch: &mut Watch<'_>,
) -> Result<Behaviour, SteeringError> {
    let point = sae.point.ok_or(SteeringError::Empty {
        what: "place of the autoencoder",
        wanted: "a hook name in its file, or one set by the caller",
    })?;
    let (mut codes, mut rows) = (Mean::default(), Mean::default());
    for (index, pair) in pairs.iter().enumerate() {
        tell(watch, index, pairs.len(), None)?;
        let mut poles = Vec::with_capacity(2);
        for text in [pair.positive.as_slice(), pair.negative()?] {
            let (read, d_model) = read_checked(reader, text, &[point])?;
            let (mut code, mut row) = (Mean::default(), Mean::default());
            let skipped = usize::from(text.len() > 1);
            for one in read
                .iter()
                .flat_map(|rows| rows.chunks_exact(d_model).skip(skipped))
            {
                code.add(&sae.encode(one)?);
                row.add(one);
            }
            poles.push((
                code.get().unwrap_or_default(),
                row.get().unwrap_or_default(),
            ));
        }
        if let [(code_p, row_p), (code_n, row_n)] = &poles[..] {
            let minus = |a: &[f64], b: &[f64]| -> Vec<f32> {
                a.iter().zip(b).map(|(a, b)| (a - b) as f32).collect()
            };
            codes.add(&minus(code_p, code_n));
            rows.add(&minus(row_p, row_n));
        }
    }
    tell(watch, pairs.len(), pairs.len(), None)?;
    let (Some(code), Some(direction)) = (codes.get(), rows.get()) else {
        return Err(SteeringError::Empty {
            what: "list of pairs",
            wanted: "at least one pair",
        });
    };
    Ok(Behaviour {
        name: name.to_owned(),
        description: String::new(),
        point,
        baseline: code
            .iter()
            .enumerate()
            .filter(|(_, z)| **z != 0.0)
            .map(|(feature, z)| (feature, *z as f32))
            .collect(),
        features: code.len(),
        direction: direction.iter().map(|x| *x as f32).collect(),
        steering_vector_id: None,
        pairs: pairs.len(),
    })
}

impl Behaviour {
    /// Takes the corrected definition of arXiv 2503.00177: features that are active in a share of at least `share` of one
    /// pole's texts, without those that are so in both. `active` gives, for each feature, the shares of positive and
    /// negative texts in which it is active.
    pub fn keep_features(&mut self, share: f64, active: &dyn Fn(usize) -> (f64, f64)) {
        self.baseline.retain(|feature, _| {
            let (positive, negative) = active(*feature);
            (positive >= share) != (negative >= share)
        });
    }

    /// The direction as a steering vector; adding it brings the behaviour about, subtracting suppresses it.
    ///
    /// # Errors
    /// [`SteeringError`] where the direction is empty or not finite.
    pub fn vector(&self) -> Result<SteeringVector, SteeringError> {
        let mut vector =
            SteeringVector::new(Method::Sae, [(self.point, self.direction.clone())].into())?;
        vector.name.clone_from(&self.name);
        vector.provenance.pairs = Some(self.pairs);
        Ok(vector)
    }
}
