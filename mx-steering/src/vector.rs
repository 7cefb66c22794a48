//! The steering vector: directions at places of a model, and where they come from.

use crate::error::SteeringError;
use crate::linalg::{cosine, norm, scaled, unit};
use crate::model::{ModelIdentity, ModelShape, Warning};
use crate::point::{Point, Site};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// How a vector was made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Method {
    /// Mean difference over the positions that predict the answers.
    Caa,
    /// [`Method::Caa`] exactly as Mechanex does it.
    CaaMechanex,
    /// Gradient optimisation on a few examples.
    FewShot,
    /// Mean difference of one row a text.
    MeanDifference,
    /// First principal component of the pairs' differences, centred.
    PcaDifference,
    /// First principal component of both poles about the midpoint of each pair.
    PcaCenter,
    /// First principal component of the differences, not centred, as in representation engineering.
    RepE,
    /// The difference of one pair of prompts, position by position.
    ActAdd,
    /// Difference of means at the last template token, for refusal.
    Refusal,
    /// Read from a sparse autoencoder.
    Sae,
    /// Computed from other vectors.
    Combined,
    /// Another one, by name; also that of files that do not say.
    Other(String),
}

/// Names of the methods.
const METHODS: [(&str, Method); 11] = [
    ("caa", Method::Caa),
    ("caa_mechanex", Method::CaaMechanex),
    ("few-shot", Method::FewShot),
    ("mean_difference", Method::MeanDifference),
    ("pca_diff", Method::PcaDifference),
    ("pca_center", Method::PcaCenter),
    ("repe", Method::RepE),
    ("act_add", Method::ActAdd),
    ("refusal", Method::Refusal),
    ("sae", Method::Sae),
    ("combined", Method::Combined),
];

impl Method {
    /// The name, as in `caa`.
    pub fn name(&self) -> &str {
        match self {
            Method::Other(name) => name,
            known => METHODS
                .iter()
                .find(|(_, method)| method == known)
                .map_or("unknown", |(name, _)| name),
        }
    }
}

impl From<String> for Method {
    fn from(name: String) -> Self {
        METHODS
            .iter()
            .find(|(known, _)| *known == name || known.replace('-', "_") == name)
            .map_or(Method::Other(name), |(_, method)| method.clone())
    }
}

impl From<Method> for String {
    fn from(method: Method) -> String {
        method.name().to_owned()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What strength 1 means.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Units {
    /// The vector as it is: its length is part of it.
    #[default]
    Raw,
    /// A push of length 1: the strength is the length.
    Unit,
    /// A push of `rho` times the mean norm of the stream at that place (without position 0), so that a strength means
    /// the same at every layer of every model.
    Relative {
        /// The share of the stream's norm that strength 1 is; [`DEFAULT_RHO`] by default.
        #[serde(default = "default_rho")]
        rho: f32,
    },
}

/// Share of the stream's norm that strength 1 of [`Units::Relative`] is by default.
pub const DEFAULT_RHO: f32 = 0.1;

fn default_rho() -> f32 {
    DEFAULT_RHO
}

impl Units {
    /// Relative strength with [`DEFAULT_RHO`].
    pub const RELATIVE: Units = Units::Relative { rho: DEFAULT_RHO };
}

/// Where a vector comes from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// Seconds since 1970 at which it was made; given by the maker, this crate reads no clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// Number of pairs it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<usize>,
    /// Digest of the pairs, see [`pairs_digest`](crate::format::pairs::digest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs_digest: Option<String>,
    /// Seed of whatever was random in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The place where activations were read, where it is not the place they act at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Site>,
    /// The file or preset that it was read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Anything that the maker wants to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What was measured of a vector, kept with it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// d′ of the projections of held-out pairs, at each point.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub d_prime: BTreeMap<Point, f64>,
    /// A strength found to work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// Effect at that strength, with its confidence interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<crate::evaluate::Estimate>,
    /// Perplexity on neutral text at that strength over that of the unsteered model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity_ratio: Option<f64>,
}

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

    /// The directions of some layers alone.
    ///
    /// # Errors
    /// [`SteeringError::NoDirection`] for a layer that the vector does not have.
    pub fn of_layers(&self, layers: &[usize]) -> Result<Self, SteeringError> {
        if let Some(missing) = layers.iter().find(|layer| !self.layers().contains(layer)) {
            return Err(self.no_direction(format!("layer {missing}")));
        }
        self.mapped(|point, values| {
            layers
                .contains(&point.layer)
                .then(|| (point, values.to_vec()))
        })
    }

    /// The same rows of the stream named at another site: `resid_post.L` becomes `resid_pre.(L+1)` and back.
    ///
    /// # Errors
    /// [`SteeringError::Move`] where a direction has no such name.
    pub fn moved_to(&self, site: Site) -> Result<Self, SteeringError> {
        for point in self.points() {
            point.moved_to(site)?;
        }
        let mut moved =
            self.mapped(|point, values| Some((point.moved_to(site).ok()?, values.to_vec())))?;
        moved.stream_norms = self
            .stream_norms
            .iter()
            .filter_map(|(point, norm)| Some((point.moved_to(site).ok()?, *norm)))
            .collect();
        Ok(moved)
    }

    /// The same directions at another site of the same layers, which is another place unless it is the same site.
    ///
    /// Mechanex reads at `resid_post` and acts at `resid_pre` of the same layer: that is
    /// `relabelled(Site::ResidPre)`.
    ///
    /// # Errors
    /// [`SteeringError::Exclusive`] where a layer has directions at several sites.
    pub fn relabelled(&self, site: Site) -> Result<Self, SteeringError> {
        if self.layers().len() != self.directions.len() {
            return Err(SteeringError::Exclusive {
                first: "a site",
                second: "a vector with several directions a layer",
                reason: "one place has one direction",
            });
        }
        let mut relabelled =
            self.mapped(|point, values| Some((site.at(point.layer), values.to_vec())))?;
        relabelled.provenance.read_at = self.provenance.read_at.or_else(|| self.site());
        relabelled.stream_norms.clear();
        Ok(relabelled)
    }

    /// The vector times a number.
    ///
    /// # Errors
    /// [`SteeringError::NotFinite`] where a number overflows.
    pub fn scaled(&self, factor: f32) -> Result<Self, SteeringError> {
        self.mapped(|point, values| Some((point, scaled(values, f64::from(factor)))))
    }

    /// Every direction with length 1.
    ///
    /// # Errors
    /// [`SteeringError::ZeroDirection`] where one has length 0.
    pub fn unit(&self) -> Result<Self, SteeringError> {
        if let Some((point, _)) = self.directions().find(|(_, values)| norm(values) == 0.0) {
            let operation = "a unit vector";
            return Err(SteeringError::ZeroDirection { point, operation });
        }
        self.mapped(|point, values| Some((point, unit(values)?)))
    }

    /// The sum of two vectors, place by place; a place that one lacks counts as 0.
    ///
    /// # Errors
    /// [`SteeringError::Width`] where the widths differ.
    pub fn plus(&self, other: &SteeringVector) -> Result<Self, SteeringError> {
        if (self.d_model, self.rows) != (other.d_model, other.rows) {
            return Err(SteeringError::Width {
                what: format!("steering vector {}", other.display_name()),
                given: other.d_model * other.rows,
                wanted: self.d_model * self.rows,
            });
        }
        let mut directions = self.directions.clone();
        for (point, values) in &other.directions {
            match directions.get_mut(point) {
                Some(sum) => sum.iter_mut().zip(values).for_each(|(a, b)| *a += b),
                None => {
                    directions.insert(*point, values.clone());
                }
            }
        }
        let mut sum = SteeringVector::with_rows(Method::Combined, self.rows, directions)?;
        sum.model = self.model.clone();
        sum.units = self.units;
        sum.stream_norms = other.stream_norms.clone();
        sum.stream_norms.extend(&self.stream_norms);
        Ok(sum)
    }

    /// The cosine between the directions of two vectors at each place that both have.
    pub fn cosines(&self, other: &SteeringVector) -> BTreeMap<Point, f64> {
        self.directions
            .iter()
            .filter_map(|(point, values)| {
                let theirs = other.directions.get(point)?;
                (theirs.len() == values.len()).then(|| (*point, cosine(values, theirs)))
            })
            .collect()
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

    /// The directions changed, everything else kept.
    fn mapped(
        &self,
        change: impl Fn(Point, &[f32]) -> Option<(Point, Vec<f32>)>,
    ) -> Result<Self, SteeringError> {
        let directions: BTreeMap<Point, Vec<f32>> = self
            .directions()
            .filter_map(|(point, values)| change(point, values))
            .collect();
        let checked = SteeringVector::with_rows(self.method.clone(), self.rows, directions)?;
        let stream_norms = self.stream_norms.iter();
        Ok(SteeringVector {
            directions: checked.directions,
            stream_norms: stream_norms
                .filter(|(point, _)| self.directions.contains_key(point))
                .map(|(point, norm)| (*point, *norm))
                .collect(),
            ..self.clone()
        })
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn vector(values: &[(usize, [f32; 2])]) -> SteeringVector {
        let directions = values
            .iter()
            .map(|(layer, v)| (Site::ResidPost.at(*layer), v.to_vec()))
            .collect();
        SteeringVector::new(Method::Caa, directions).unwrap()
    }

    #[test]
    fn the_id_follows_the_numbers_alone() {
        let a = vector(&[(1, [1.0, 2.0])]);
        let id = a.id();
        assert!(id.starts_with("sv_") && id.len() == 3 + ID_LETTERS);
        assert_eq!(a.clone().named("other").id(), id);
        assert_ne!(a.scaled(2.0).unwrap().id(), id);
        assert_ne!(vector(&[(2, [1.0, 2.0])]).id(), id);
    }

    #[test]
    fn a_model_that_does_not_fit_is_named_with_both_numbers() {
        let mut v = vector(&[(4, [1.0, 2.0])]);
        let text =
            |v: &SteeringVector, d, l| v.check(&ModelShape::new(d, l)).unwrap_err().to_string();
        assert!(text(&v, 3, 9).contains("2 numbers") && text(&v, 3, 9).contains("wanted is 3"));
        assert!(text(&v, 2, 4).contains("layer 4 does not exist, the model has 4 layers"));
        v.model.layers = Some(12);
        assert!(text(&v, 2, 9).contains("12 layers, this one has 9"));
        v.model.name = Some("a".into());
        let mut model = ModelShape::new(2, 12);
        assert!(v.check(&model).unwrap().is_empty());
        model.name = Some("b".into());
        assert!(matches!(
            &v.check(&model).unwrap()[..],
            [Warning::OtherModel { .. }]
        ));
    }

    #[test]
    fn vectors_form_a_vector_space() {
        let (a, b) = (
            vector(&[(1, [1.0, 2.0])]),
            vector(&[(1, [3.0, -2.0]), (2, [1.0, 0.0])]),
        );
        let sum = a.plus(&b).unwrap();
        assert_eq!(sum.direction(Site::ResidPost.at(1)), Some(&[4.0, 0.0][..]));
        assert_eq!(sum.layers(), [1, 2]);
        assert_eq!(
            sum.unit()
                .unwrap()
                .norms()
                .values()
                .copied()
                .collect::<Vec<_>>(),
            [1.0, 1.0]
        );
        assert_eq!(b.of_layers(&[2]).unwrap().layers(), [2]);
        assert!(
            b.of_layers(&[3])
                .unwrap_err()
                .to_string()
                .contains("resid_post.1, resid_post.2")
        );
        assert!(
            (a.cosines(&b)[&Site::ResidPost.at(1)] + 1.0 / (5.0f64 * 13.0).sqrt()).abs() < 1e-6
        );
        assert!(a.scaled(1e38).unwrap().scaled(1e38).is_err());
    }

    #[test]
    fn moving_and_relabelling_differ() {
        let v = vector(&[(1, [1.0, 2.0])]);
        assert_eq!(
            v.moved_to(Site::ResidPre).unwrap().points().next(),
            Some(Site::ResidPre.at(2))
        );
        let quirk = v.relabelled(Site::ResidPre).unwrap();
        assert_eq!(quirk.points().next(), Some(Site::ResidPre.at(1)));
        assert_eq!(quirk.provenance.read_at, Some(Site::ResidPost));
    }

    #[test]
    fn bad_directions_are_refused() {
        let at = Site::ResidPost.at(0);
        let new = |rows, values: Vec<f32>| {
            SteeringVector::with_rows(Method::Caa, rows, [(at, values)].into())
        };
        assert!(new(1, vec![]).is_err());
        assert!(new(0, vec![1.0]).is_err());
        assert!(new(2, vec![1.0; 3]).is_err());
        assert!(new(1, vec![f32::NAN]).is_err());
        assert!(SteeringVector::new(Method::Caa, BTreeMap::new()).is_err());
        assert_eq!(new(2, vec![1.0; 6]).unwrap().d_model(), 3);
    }

    #[test]
    fn methods_keep_their_names() {
        for (name, method) in METHODS {
            assert_eq!(Method::from(name.to_owned()), method);
            assert_eq!(method.name(), name);
        }
        assert_eq!(Method::from("few_shot".to_owned()), Method::FewShot);
        assert_eq!(Method::from("mine".to_owned()).name(), "mine");
    }
}
