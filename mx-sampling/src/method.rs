//! The methods by name, and which knobs each one sets.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::SamplingError;
use crate::options::SamplingOptions;

const TEMPERATURE: f64 = 0.7;
const TOP_K: i64 = 50;
const TOP_P: f64 = 0.9;
const MIN_P: f64 = 0.05;
const TYPICAL_P: f64 = 0.95;

/// A decoding method.
///
/// The first five are local to one row and are nothing but defaults of [`SamplingOptions`]; the others are
/// strategies that run over several rows, with the chain of their options inside.
///
/// ```
/// use mx_sampling::{Method, SamplingOptions};
///
/// let method = Method::from_name("typical")?;
/// let options = method.options(&SamplingOptions::default());
/// assert_eq!((options.typical_p, options.top_k), (Some(0.95), None));
/// assert_eq!(Method::from_name("adaptive-determinantal-sampling")?.name(), "ads");
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Method {
    /// The most likely token.
    Greedy,
    /// The k most likely tokens.
    #[default]
    TopK,
    /// The nucleus.
    TopP,
    /// Everything near the most likely token.
    MinP,
    /// Locally typical.
    Typical,
    /// Adaptive determinantal sampling, as this crate defines it.
    Ads,
    /// Sampling under a constraint.
    Guided,
    /// Beam search under a constraint.
    ConstrainedBeam,
    /// Speculative decoding.
    Speculative,
    /// Speculative speculative decoding.
    Ssd,
    /// Several models.
    Ensemble,
    /// Beam search.
    Beam,
}

/// Every method with its name and its other names.
const NAMES: [(Method, &str, &[&str]); 12] = [
    (Method::Greedy, "greedy", &[]),
    (Method::TopK, "top-k", &[]),
    (Method::TopP, "top-p", &["nucleus"]),
    (Method::MinP, "min-p", &[]),
    (
        Method::Typical,
        "typical",
        &["typical-p", "locally-typical"],
    ),
    (Method::Ads, "ads", &["adaptive-determinantal-sampling"]),
    (Method::Guided, "guided-generation", &["guided"]),
    (
        Method::ConstrainedBeam,
        "constrained-beam-search",
        &["constrained-beam"],
    ),
    (
        Method::Speculative,
        "speculative-decoding",
        &["speculative"],
    ),
    (Method::Ssd, "ssd", &["speculative-speculative-decoding"]),
    (Method::Ensemble, "ensemble-sampling", &["ensemble"]),
    (Method::Beam, "beam-search", &["beam"]),
];

impl Method {
    /// The method of this name. Underscores count as hyphens.
    ///
    /// # Errors
    ///
    /// [`SamplingError::UnknownName`] with the known names.
    pub fn from_name(name: &str) -> Result<Self, SamplingError> {
        let wanted = name.replace('_', "-");
        NAMES
            .iter()
            .find(|(_, own, others)| *own == wanted || others.contains(&wanted.as_str()))
            .map(|(method, ..)| *method)
            .ok_or_else(|| {
                SamplingError::unknown(
                    "sampling method",
                    name,
                    NAMES.iter().map(|(_, own, _)| *own),
                )
            })
    }

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// All methods.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(method, ..)| *method)
    }

    /// Whether the method is a choice of knobs for one row, as opposed to a strategy over several rows.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(
            self,
            Self::Greedy | Self::TopK | Self::TopP | Self::MinP | Self::Typical
        )
    }

    /// `given`, completed by what the method needs.
    ///
    /// A method activates only its own truncation; others act when they were given. What a method needs and
    /// was not given takes its default: temperature 0.7, top_k 50, top_p 0.9, min_p 0.05, typical_p 0.95.
    /// Greedy sets the temperature to 0, whatever was given.
    #[must_use]
    pub fn options(self, given: &SamplingOptions) -> SamplingOptions {
        let mut options = given.clone();
        if self == Self::Greedy {
            options.temperature = Some(0.0);
            return options;
        }
        options.temperature.get_or_insert(TEMPERATURE);
        match self {
            Self::TopK => {
                options.top_k.get_or_insert(TOP_K);
            }
            Self::TopP => {
                options.top_p.get_or_insert(TOP_P);
            }
            Self::MinP => {
                options.min_p.get_or_insert(MIN_P);
            }
            Self::Typical => {
                options.typical_p.get_or_insert(TYPICAL_P);
            }
            _ => {}
        }
        options
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_name_leads_back() {
        for (at, (method, name, others)) in NAMES.iter().enumerate() {
            assert_eq!(*method as usize, at);
            for name in others.iter().chain([name]) {
                assert_eq!(Method::from_name(name).unwrap(), *method);
            }
        }
    }
}
