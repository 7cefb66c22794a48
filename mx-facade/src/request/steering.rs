//! The fields of a request that steer the model.

use super::BehaviorWatch;
use super::origin::{Origin, Origins};
use crate::error::Error;
use crate::generation::Warning;
use mx_steering::apply::{Steer, SteeringSpec, VectorRef};
use mx_steering::presets::Preset;
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
    /// A preset by its name, for example `brevity` or `tone_control.warm`. `json_compliance` is a constraint, the same as
    /// `json_mode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering_preset: Option<String>,
    /// Behaviours to watch for while the text is written, by name or with how they are watched.
    #[serde(skip_serializing_if = "Vec::is_empty", alias = "behavior_names")]
    pub behaviors: Vec<BehaviorWatch>,
    /// Steer against the behaviours from the first token on, whatever is seen; for those that do not say themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_steering: Option<bool>,
}

impl Steering {
    /// Whether nothing steers.
    pub fn is_empty(&self) -> bool {
        self == &Steering::default()
    }

    /// Whether the preset is the one that is a constraint.
    pub(crate) fn wants_json(&self) -> bool {
        let preset = self.steering_preset.as_deref();
        preset.and_then(|name| name.parse().ok()) == Some(Preset::JsonCompliance)
    }

    /// The numbers that can be judged without vectors and model.
    pub(super) fn check(&self) -> Result<(), Error> {
        if let Some(spec) = &self.steering {
            spec.check()?;
        }
        if let Some(strength) = self.steering_strength.filter(|x| !x.is_finite()) {
            return Err(Error::request(
                "steering_strength",
                strength,
                "a finite number",
            ));
        }
        for behavior in &self.behaviors {
            behavior.options(self.force_steering).check()?;
        }
        Ok(())
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
        if self.wants_json() {
            let message = "the preset json_compliance is a constraint on the output, not a vector";
            warnings.push(Warning::new("constraint", message));
        } else if let Some(preset) = &self.steering_preset {
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
        if self.behaviors.is_empty() {
            if self.force_steering == Some(true) {
                let message = "force_steering has no effect without behaviors";
                warnings.push(Warning::new("no_effect", message));
            }
        } else {
            origins.add_serde("behaviors", &self.behaviors, Origin::Request);
        }
        if spec != SteeringSpec::default() {
            origins.add_serde("steering", &spec, Origin::Request);
        }
        spec
    }
}
