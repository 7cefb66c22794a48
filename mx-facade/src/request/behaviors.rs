//! The fields of a request that watch a generation for behaviours.

use mx_steering::behaviour::{Correction, MonitorOptions, Polarity};
use serde::{Deserialize, Serialize};

/// A behaviour to watch for, by its name alone or with how it is watched. What is not given is as in
/// [`MonitorOptions`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written")]
#[non_exhaustive]
pub struct BehaviorWatch {
    /// Its name in the store of behaviours.
    pub behavior: String,
    /// Score between 0 and 1 at which it counts as drift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Whether the examples show what must not be done (`suppress`) or what must be kept to (`maintain`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub polarity: Option<Polarity>,
    /// What is done about drift: `steer`, `regenerate` or `report`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction: Option<Correction>,
    /// Strength of the correction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// Steer from the first token on, whatever the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_steering: Option<bool>,
    /// Tokens in a row that must drift before anything is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Most times that a text is written again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_regenerations: Option<usize>,
}

/// A name, or an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Name(String),
    Whole(Whole),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    #[serde(alias = "behavior_name", alias = "name")]
    behavior: String,
    threshold: Option<f64>,
    polarity: Option<Polarity>,
    correction: Option<Correction>,
    strength: Option<f32>,
    force_steering: Option<bool>,
    patience: Option<usize>,
    max_regenerations: Option<usize>,
}

impl From<Written> for BehaviorWatch {
    fn from(written: Written) -> Self {
        match written {
            Written::Name(name) => BehaviorWatch::new(name),
            Written::Whole(whole) => BehaviorWatch {
                behavior: whole.behavior,
                threshold: whole.threshold,
                polarity: whole.polarity,
                correction: whole.correction,
                strength: whole.strength,
                force_steering: whole.force_steering,
                patience: whole.patience,
                max_regenerations: whole.max_regenerations,
            },
        }
    }
}

impl BehaviorWatch {
    /// Watches for a behaviour with the default choices.
    pub fn new(behavior: impl Into<String>) -> Self {
        BehaviorWatch {
            behavior: behavior.into(),
            ..BehaviorWatch::default()
        }
    }

    /// The choices, completed; `force` is that of the whole request.
    pub fn options(&self, force: Option<bool>) -> MonitorOptions {
        let default = MonitorOptions::default();
        MonitorOptions {
            threshold: self.threshold.unwrap_or(default.threshold),
            polarity: self.polarity.unwrap_or(default.polarity),
            correction: self.correction.unwrap_or(default.correction),
            strength: self.strength.unwrap_or(default.strength),
            force_steering: self
                .force_steering
                .or(force)
                .unwrap_or(default.force_steering),
            patience: self.patience.unwrap_or(default.patience),
            max_regenerations: self.max_regenerations.unwrap_or(default.max_regenerations),
        }
    }
}
