//! The steering vector: directions at places of a model, and where they come from.

mod algebra;
mod origin;

pub use origin::{DEFAULT_RHO, Measured, Method, Provenance, Units};

use crate::error::SteeringError;
use crate::linalg::norm;
use crate::model::{ModelIdentity, ModelShape, Warning};
use crate::point::{Point, Site};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Directions at places of a model, with what is known about them.
///
/// Numbers are f32 and finite, every direction has `rows · d_model` of them; the constructor sees to it. A vector of
/// several rows ([`Method::ActAdd`]) has one direction for each of the first positions it is added at.
#[derive(Debug, Clone, PartialEq)]
pub struct SteeringVector {
    /// What people call it.
    pub name: String,
    /// A category, free text.
    pub label: String,
    /// The model it was made for.
    pub model: ModelIdentity,
    /// How it was made.
    pub method: Method,
    /// What strength 1 means, unless a request says otherwise.
    pub units: Units,
    /// Where it comes from.
    pub provenance: Provenance,
    /// What was measured of it.
    pub measured: Option<Measured>,
    /// Mean norm of the stream where it acts, without position 0.
    pub stream_norms: BTreeMap<Point, f32>,
    d_model: usize,
    rows: usize,
    directions: BTreeMap<Point, Vec<f32>>,
}

/// Letters of the hash that make up an id.
const ID_LETTERS: usize = 24;

impl SteeringVector {
    /// A vector of one direction a place.
    ///
    /// # Errors
    /// [`SteeringError`] where there is no direction, the widths differ, or a number is not finite.
    pub fn new(
        method: Method,
        directions: BTreeMap<Point, Vec<f32>>,
    ) -> Result<Self, SteeringError> {
        SteeringVector::with_rows(method, 1, directions)
    }

    /// A vector of `rows` directions a place, row-major.
    ///
    /// # Errors
    /// As [`SteeringVector::new`].
    pub fn with_rows(
        method: Method,
        rows: usize,
        directions: BTreeMap<Point, Vec<f32>>,
    ) -> Result<Self, SteeringError> {
        let empty = |what| SteeringError::Empty {
            what,
            wanted: "at least one direction of at least one number",
        };
        let (_, first) = directions
            .first_key_value()
            .ok_or(empty("steering vector"))?;
        if rows == 0 || first.is_empty() {
            return Err(empty("direction"));
        }
        let wanted = first.len();
        if !wanted.is_multiple_of(rows) {
            return Err(SteeringError::Width {
                what: format!("direction of {rows} rows"),
                given: wanted,
                wanted: wanted.next_multiple_of(rows),
            });
        }
        for (point, values) in &directions {
            if values.len() != wanted {
                return Err(SteeringError::Width {
                    what: format!("direction at {point}"),
                    given: values.len(),
                    wanted,
                });
            }
            if let Some(&given) = values.iter().find(|x| !x.is_finite()) {
                let what = format!("a number of the direction at {point}");
                return Err(SteeringError::NotFinite { what, given });
            }
        }
        Ok(SteeringVector {
            name: String::new(),
            label: String::new(),
            model: ModelIdentity::default(),
            method,
            units: Units::Raw,
            provenance: Provenance::default(),
            measured: None,
            stream_norms: BTreeMap::new(),
            d_model: wanted / rows,
            rows,
            directions,
        })
    }

    /// The same vector under a name.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The id: `sv_` and a hash of method, places and numbers. Name, label and measurements do not enter, so the same
    /// vector has the same id everywhere.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.method.name().as_bytes());
        hash.update([0]);
        hash.update((self.rows as u64).to_le_bytes());
        for (point, values) in &self.directions {
            hash.update(point.to_string().as_bytes());
            hash.update([0]);
            values.iter().for_each(|x| hash.update(x.to_le_bytes()));
        }
        format!("sv_{}", &hex(&hash.finalize())[..ID_LETTERS])
    }

    /// Name or, where it has none, id; for messages.
    pub fn display_name(&self) -> String {
        match self.name.as_str() {
            "" => self.id(),
            name => name.to_owned(),
        }
    }

    /// Width of the residual stream it is made for.
    pub fn d_model(&self) -> usize {
        self.d_model
    }

    /// Directions a place: 1, or the positions of a vector that differs by position.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The places, in the order of the forward pass, with their directions (`rows · d_model` numbers each).
    pub fn directions(&self) -> impl ExactSizeIterator<Item = (Point, &[f32])> {
        self.directions
            .iter()
            .map(|(point, values)| (*point, values.as_slice()))
    }

    /// The direction at a place.
    pub fn direction(&self, point: Point) -> Option<&[f32]> {
        self.directions.get(&point).map(Vec::as_slice)
    }

    /// The places.
    pub fn points(&self) -> impl ExactSizeIterator<Item = Point> {
        self.directions.keys().copied()
    }

    /// The layers, each once.
    pub fn layers(&self) -> Vec<usize> {
        let mut layers: Vec<usize> = self.points().map(|point| point.layer).collect();
        layers.dedup();
        layers
    }

    /// The site, where all directions are at the same one.
    pub fn site(&self) -> Option<Site> {
        let mut sites = self.points().map(|point| point.site);
        let first = sites.next()?;
        sites.all(|site| site == first).then_some(first)
    }

    /// Euclidean length of each direction.
    pub fn norms(&self) -> BTreeMap<Point, f64> {
        self.directions
            .iter()
            .map(|(point, values)| (*point, norm(values)))
            .collect()
    }

    /// Whether the vector can act on a model: width and layers.
    ///
    /// # Errors
    /// [`SteeringError`] with both numbers where it cannot.
    pub fn check(&self, model: &ModelShape) -> Result<Vec<Warning>, SteeringError> {
        if self.d_model != model.d_model {
            return Err(SteeringError::Width {
                what: format!("steering vector {}", self.display_name()),
                given: self.d_model,
                wanted: model.d_model,
            });
        }
        if let Some(given) = self.model.layers.filter(|&layers| layers != model.layers) {
            return Err(SteeringError::ModelLayers {
                given,
                wanted: model.layers,
            });
        }
        if let Some(point) = self.points().find(|point| point.layer >= model.layers) {
            return Err(SteeringError::Layer {
                point,
                given: point.layer,
                layers: model.layers,
            });
        }
        let parts = [
            ("model", &self.model.name, &model.name),
            (
                "architecture",
                &self.model.architecture,
                &model.architecture,
            ),
            ("weights", &self.model.digest, &model.digest),
        ];
        Ok(parts
            .into_iter()
            .filter_map(|(what, given, here)| match (given, here) {
                (Some(given), Some(here)) if given != here => Some(Warning::OtherModel {
                    vector: self.display_name(),
                    what: what.to_owned(),
                    given: given.clone(),
                    here: here.clone(),
                }),
                _ => None,
            })
            .collect())
    }

    /// The error for a place that is not there.
    pub(crate) fn no_direction(&self, given: String) -> SteeringError {
        let mut present = String::new();
        for point in self.points() {
            let comma = if present.is_empty() { "" } else { ", " };
            let _ = write!(present, "{comma}{point}");
        }
        SteeringError::NoDirection { given, present }
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
