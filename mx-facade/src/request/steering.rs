//! The fields of a request that steer the model.

use super::origin::{Origin, Origins};
use crate::generation::Warning;
use mx_steering::apply::{Steer, SteeringSpec, VectorRef};
use serde::{Deserialize, Serialize};

/// What steers the model. In JSON these stand beside the other fields of a [`GenerateRequest`](super::GenerateRequest).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Steering {
    /// Any number of vectors, each with where and how it acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering: Option<SteeringSpec>,
    /// One vector, added at all its layers: an id, a name or a file, or its numbers as layer → list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering_vector: Option<VectorRef>,
    /// The factor of `steering_vector`, 0 unless given, which has no effect and warns; for `steering_preset` its own
    /// measured strength unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering_strength: Option<f32>,
    /// A preset by its name, for example `brevity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering_preset: Option<String>,
}

impl Steering {
    /// Whether nothing steers.
    pub fn is_empty(&self) -> bool {
        self == &Steering::default()
    }

    /// Everything that steers, as one list.
    pub(super) fn resolve(
        &self,
        origins: &mut Origins,
        warnings: &mut Vec<Warning>,
    ) -> SteeringSpec {
        let mut spec = self.steering.clone().unwrap_or_default();
        if let Some(vector) = &self.steering_vector {
            let strength = origins.or("steering_strength", self.steering_strength, 0.0);
            spec.vectors
                .push(Steer::new(vector.clone()).strength(strength));
        }
        if let Some(preset) = &self.steering_preset {
            let mut steer = Steer::new(preset.as_str());
            if self.steering_vector.is_none() {
                steer.strength = self.steering_strength;
            }
            spec.vectors.push(steer);
        }
        if self.steering_strength.is_some()
            && self.steering_vector.is_none()
            && self.steering_preset.is_none()
        {
            let message =
                "steering_strength has no effect without steering_vector or steering_preset";
            warnings.push(Warning::new("no_effect", message));
        }
        if spec != SteeringSpec::default() {
            origins.add_serde("steering", &spec, Origin::Request);
        }
        spec
    }
}
