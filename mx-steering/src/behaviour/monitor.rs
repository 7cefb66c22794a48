//! Watching a generation for a behaviour.

use super::{Behaviour, Sae};
use crate::apply::{Edit, TokenClass};
use crate::error::SteeringError;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether the behaviour is unwanted or wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Polarity {
    /// The examples show what the model must not do: drift is a score *above* the threshold, the correction
    /// *subtracts* the behaviour's vector. This is how Mechanex reads its behaviours.
    #[default]
    Suppress,
    /// The examples show what the model must keep to: drift is a score *below* the threshold, the correction *adds*
    /// the vector.
    Maintain,
}

/// What is done about drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correction {
    /// Steer from the next token on, as long as it drifts.
    #[default]
    Steer,
    /// Write the text again, steered from its first token.
    Regenerate,
    /// Only report it.
    Report,
}

/// How a generation is watched.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorOptions {
    /// Score at which it counts as drift: (cosine + 1) / 2 lies between 0 and 1. Mechanex's 0.5 means any positive
    /// cosine.
    pub threshold: f64,
    /// Whether the behaviour is unwanted or wanted.
    pub polarity: Polarity,
    /// What is done about it.
    pub correction: Correction,
    /// Strength of the correction.
    pub strength: f32,
    /// Steer from the first token on, whatever the score.
    pub force_steering: bool,
    /// Tokens in a row that must drift before anything is done, at least 1.
    pub patience: usize,
    /// Most times that a text is written again.
    pub max_regenerations: usize,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        MonitorOptions {
            threshold: 0.5,
            polarity: Polarity::Suppress,
            correction: Correction::Steer,
            strength: 1.0,
            force_steering: false,
            patience: 1,
            max_regenerations: 1,
        }
    }
}

impl MonitorOptions {
    /// Checks what can be known without a model.
    ///
    /// # Errors
    /// [`SteeringError::OutOfRange`] for a threshold outside 0 to 1, [`SteeringError::NotFinite`] for a strength that is
    /// no number.
    pub fn check(&self) -> Result<(), SteeringError> {
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(SteeringError::OutOfRange {
                name: "threshold",
                given: self.threshold,
                range: "in [0, 1]",
            });
        }
        match self.strength.is_finite() {
            true => Ok(()),
            false => Err(SteeringError::NotFinite {
                what: "strength of a behaviour".to_owned(),
                given: self.strength,
            }),
        }
    }
}

/// The score of one token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Number of the generated token, from 0.
    pub token: usize,
    /// (cos(code, baseline) + 1) / 2; one half for a code without active features.
    pub score: f64,
    /// Whether it is on the wrong side of the threshold.
    pub drifts: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Go on without steering.
    Continue,
    /// Steer the next token with [`Monitor::edit`].
    Steer,
    /// Begin the text again, steered, and call [`Monitor::restart`].
    Regenerate,
}

/// Watches one generation for one behaviour. State belongs to the generation, not to the model: any number of rows of
/// a batch can have a monitor of their own.
#[derive(Debug, Clone)]
pub struct Monitor {
    behaviour: Arc<Behaviour>,
    sae: Arc<Sae>,
    options: MonitorOptions,
    baseline_norm: f64,
    history: Vec<Drift>,
    in_a_row: usize,
    regenerations: usize,
    steering: bool,
}

impl Monitor {
    /// A monitor of a new generation.
    ///
    /// # Errors
    /// [`SteeringError`] where behaviour and autoencoder have different numbers of features or widths, or an option is
    /// out of range.
    pub fn new(
        behaviour: &Arc<Behaviour>,
        sae: &Arc<Sae>,
        options: MonitorOptions,
    ) -> Result<Self, SteeringError> {
        let fits = [
            (
                "features of the behaviour",
                behaviour.features,
                sae.features(),
            ),
            (
                "direction of the behaviour",
                behaviour.direction.len(),
                sae.d_model(),
            ),
        ];
        for (what, given, wanted) in fits {
            if given != wanted {
                let what = what.to_owned();
                return Err(SteeringError::Width {
                    what,
                    given,
                    wanted,
                });
            }
        }
        if let Some((&feature, _)) = behaviour
            .baseline
            .iter()
            .find(|(feature, _)| **feature >= sae.features())
        {
            return Err(SteeringError::OutOfRange {
                name: "feature",
                given: feature as f64,
                range: "below the number of features",
            });
        }
        options.check()?;
        let squares = behaviour.baseline.values().map(|z| f64::from(*z).powi(2));
        Ok(Monitor {
            behaviour: Arc::clone(behaviour),
            sae: Arc::clone(sae),
            options,
            baseline_norm: squares.sum::<f64>().sqrt(),
            history: Vec::new(),
            in_a_row: 0,
            regenerations: 0,
            steering: options.force_steering,
        })
    }

    /// The score of a row: how like its code is to the behaviour's.
    ///
    /// # Errors
    /// [`SteeringError::Width`] for a row of another width.
    pub fn score(&self, row: &[f32]) -> Result<f64, SteeringError> {
        let code = self.sae.encode(row)?;
        let norm = crate::linalg::norm(&code);
        let lengths = norm * self.baseline_norm;
        if lengths == 0.0 {
            return Ok(0.5);
        }
        let along: f64 = self
            .behaviour
            .baseline
            .iter()
            .map(|(&feature, z)| {
                f64::from(*z) * f64::from(code.get(feature).copied().unwrap_or(0.0))
            })
            .sum();
        Ok((along / lengths + 1.0) / 2.0)
    }

    /// Looks at the row of the token just generated, read at the behaviour's place before any correction, and decides.
    ///
    /// # Errors
    /// [`SteeringError::Width`] for a row of another width.
    pub fn observe(&mut self, row: &[f32]) -> Result<Decision, SteeringError> {
        let score = self.score(row)?;
        let drifts = match self.options.polarity {
            Polarity::Suppress => score > self.options.threshold,
            Polarity::Maintain => score < self.options.threshold,
        };
        self.history.push(Drift {
            token: self.history.len(),
            score,
            drifts,
        });
        self.in_a_row = if drifts { self.in_a_row + 1 } else { 0 };
        let enough = self.in_a_row >= self.options.patience.max(1);
        if enough
            && self.options.correction == Correction::Regenerate
            && self.regenerations < self.options.max_regenerations
        {
            return Ok(Decision::Regenerate);
        }
        // a text that is being written again stays steered; otherwise steering ends when the drift does
        self.steering = self.options.force_steering
            || self.regenerations > 0
            || (enough && self.options.correction == Correction::Steer);
        Ok(if self.steering {
            Decision::Steer
        } else {
            Decision::Continue
        })
    }

    /// Begins the text again, steered.
    pub fn restart(&mut self) {
        self.history.clear();
        self.in_a_row = 0;
        self.regenerations += 1;
        self.steering = true;
    }

    /// Begins the text again for another's sake: the scores are forgotten, nothing else changes.
    pub fn reset(&mut self) {
        self.history.clear();
        self.in_a_row = 0;
        self.steering = self.options.force_steering || self.regenerations > 0;
    }

    /// Whether the next token is to be steered; before the first token, whether steering is forced.
    pub fn is_steering(&self) -> bool {
        self.steering
    }

    /// The correction as an edit of the positions of a class: minus or plus the behaviour's direction.
    pub fn edit(&self, tokens: TokenClass) -> Edit {
        let sign = match self.options.polarity {
            Polarity::Suppress => -1.0,
            Polarity::Maintain => 1.0,
        };
        let direction = self.behaviour.direction.clone();
        Edit::add(
            self.behaviour.point,
            direction,
            sign * self.options.strength,
        )
        .at(tokens)
    }

    /// What it watches for.
    pub fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    /// How it watches.
    pub fn options(&self) -> &MonitorOptions {
        &self.options
    }

    /// The scores of all tokens since the text began.
    pub fn history(&self) -> &[Drift] {
        &self.history
    }

    /// How often the text was begun again.
    pub fn regenerations(&self) -> usize {
        self.regenerations
    }
}
