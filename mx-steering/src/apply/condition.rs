//! Steering that depends on what the model is thinking of.

use super::VectorRef;
use crate::error::SteeringError;
use crate::linalg::{cosine, dot, norm};
use serde::{Deserialize, Serialize};

/// Which side of a threshold meets a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// At the threshold and above it.
    #[default]
    Above,
    /// Below the threshold (for a token's gate: at it and below it).
    Below,
}

/// A condition on each steered row on its own: its projection on a direction, ⟨ĝ, x⟩, beside a threshold. It becomes
/// the gate of the edits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCondition {
    /// The direction that is looked along; the steering vector's own where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<VectorRef>,
    /// The threshold, in units of the stream.
    pub threshold: f32,
    /// Which side of it is steered.
    #[serde(default)]
    pub when: Comparison,
}

/// A condition on the prompt as a whole, decided once: conditional activation steering (arXiv 2409.05907).
///
/// With h the mean of the prompt's rows at the condition's place and P the projection on its direction, the prompt is
/// compared by cos(h, tanh(P h)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptCondition {
    /// The condition's vector; it must have exactly one direction.
    pub vector: VectorRef,
    /// The threshold, −1 to 1.
    pub threshold: f32,
    /// Which side of it is steered.
    #[serde(default)]
    pub when: Comparison,
}

impl PromptCondition {
    /// How alike a prompt is to the condition, −1 to 1: `mean` is the mean of the prompt's rows at the place of
    /// `direction`.
    ///
    /// # Errors
    /// [`SteeringError::Width`] where the two widths differ.
    pub fn similarity(mean: &[f32], direction: &[f32]) -> Result<f64, SteeringError> {
        if mean.len() != direction.len() {
            return Err(SteeringError::Width {
                what: "mean of the prompt's rows".to_owned(),
                given: mean.len(),
                wanted: direction.len(),
            });
        }
        let length = norm(direction);
        if length == 0.0 {
            return Ok(0.0);
        }
        let along = dot(mean, direction) / (length * length);
        let projected: Vec<f32> = direction
            .iter()
            .map(|c| (along * f64::from(*c)).tanh() as f32)
            .collect();
        Ok(cosine(mean, &projected))
    }

    /// Whether a prompt of this similarity is steered.
    pub fn is_met(&self, similarity: f64) -> bool {
        let above = similarity >= f64::from(self.threshold);
        above == (self.when == Comparison::Above)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn likeness_follows_the_direction() {
        let direction = [0.0, 2.0];
        let of = |mean: [f32; 2]| PromptCondition::similarity(&mean, &direction).unwrap();
        assert!((of([0.0, 3.0]) - 1.0).abs() < 1e-6);
        assert!(of([3.0, 0.0]).abs() < 1e-6);
        assert!((of([1.0, 1.0]) - 0.5f64.sqrt()).abs() < 1e-6);
        assert!(PromptCondition::similarity(&[1.0], &direction).is_err());
        let mut condition = PromptCondition {
            vector: VectorRef::Reference("x".into()),
            threshold: 0.5,
            when: Comparison::Above,
        };
        assert!(condition.is_met(0.5) && !condition.is_met(0.4));
        condition.when = Comparison::Below;
        assert!(!condition.is_met(0.5) && condition.is_met(0.4));
    }
}
