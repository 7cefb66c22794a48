//! Where a vector comes from: method, units, provenance, what was measured of it.

use crate::point::{Point, Site};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

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
pub(super) const METHODS: [(&str, Method); 11] = [
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
    /// What the effect is measured by, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Perplexity on neutral text at that strength over that of the unsteered model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity_ratio: Option<f64>,
}
