//! What a vector needs to know of a model.

use crate::point::Point;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The model that a vector was made for, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its architecture, as in `llama`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// A digest of its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its number of blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
}

/// The model that a vector is to act on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelShape {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Its name, where known; compared with the vector's, a difference is a warning.
    pub name: Option<String>,
    /// Its architecture, where known; a difference is a warning.
    pub architecture: Option<String>,
    /// A digest of its weights, where known; a difference is a warning.
    pub digest: Option<String>,
    /// Mean norm of the stream without position 0, for [relative](crate::Units::Relative) strengths of vectors that do
    /// not carry it themselves.
    pub stream_norms: BTreeMap<Point, f32>,
}

impl ModelShape {
    /// A model of which only the shape is known.
    pub fn new(d_model: usize, layers: usize) -> Self {
        ModelShape {
            d_model,
            layers,
            ..ModelShape::default()
        }
    }

    /// What a vector made for this model remembers of it.
    pub fn identity(&self) -> ModelIdentity {
        ModelIdentity {
            name: self.name.clone(),
            architecture: self.architecture.clone(),
            digest: self.digest.clone(),
            layers: Some(self.layers),
        }
    }

    /// The layers that Mechanex takes where none are given: from two thirds of the depth on, at most eight.
    pub fn mechanex_layers(&self) -> std::ops::Range<usize> {
        let start = self.layers * 2 / 3;
        start..(start + MECHANEX_LAYERS).min(self.layers)
    }

    /// The layers among which [`choose_layer`](crate::make::choose_layer) looks: the middle of the model, 35 % to 65 %
    /// of its depth, where differences of meaning are read best.
    pub fn middle_layers(&self) -> std::ops::Range<usize> {
        let start = self.layers * 35 / 100;
        let end = (self.layers * 65).div_ceil(100);
        start..end.clamp((start + 1).min(self.layers), self.layers)
    }
}

/// Most layers that Mechanex steers by default.
const MECHANEX_LAYERS: usize = 8;

/// Something that a caller should be told, though it is no error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The vector was made for another model of the same shape.
    #[error("{vector} was made for {what} {given:?}, this model has {here:?}")]
    OtherModel {
        /// The vector.
        vector: String,
        /// Which part of the identity differs.
        what: String,
        /// The vector's.
        given: String,
        /// The model's.
        here: String,
    },
    /// A vector with strength 0.
    #[error("{vector} has strength 0 and no effect")]
    NoEffect {
        /// The vector.
        vector: String,
    },
    /// The whole push is large beside the stream.
    #[error(
        "{vector} pushes by {percent:.0} % of the stream's norm at {point}; above 50 % text breaks down"
    )]
    Strong {
        /// The vector.
        vector: String,
        /// Where.
        point: Point,
        /// Length of the push in per cent of the stream's mean norm.
        percent: f32,
    },
    /// A file format cannot hold a direction.
    #[error("{point} is lost: {reason}")]
    Lost {
        /// The direction left out.
        point: Point,
        /// Why.
        reason: String,
    },
    /// Metadata that was not understood and is ignored.
    #[error("metadata {key:?} is ignored: {reason}")]
    Ignored {
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// A preset whose measured effect may be none.
    #[error("preset {preset}: the measured effect {effect:.3} [{low:.3}, {high:.3}] includes none")]
    Unproven {
        /// The preset.
        preset: String,
        /// The measured effect.
        effect: f64,
        /// Lower end of its confidence interval.
        low: f64,
        /// Upper end.
        high: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_layers() {
        assert_eq!(ModelShape::new(8, 12).mechanex_layers(), 8..12);
        assert_eq!(ModelShape::new(8, 30).mechanex_layers(), 20..28);
        assert_eq!(ModelShape::new(8, 0).mechanex_layers(), 0..0);
        assert_eq!(ModelShape::new(8, 30).middle_layers(), 10..20);
        assert_eq!(ModelShape::new(8, 1).middle_layers(), 0..1);
        assert_eq!(ModelShape::new(8, 0).middle_layers(), 0..0);
    }
}
