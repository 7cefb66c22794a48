//! Strength as a function of the position.

use crate::error::SteeringError;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A factor on the strength that changes along the positions of a token class, counted from its first position.
///
/// Every edit covers one run of positions with one strength, so a schedule becomes a staircase of at most
/// [`MAX_STEPS`] steps; each step takes the value at its middle. Fewer positions than that are exact.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// The factor 1 everywhere.
    #[default]
    Constant,
    /// From `from` at the first position in a straight line to `to`, which is reached `tokens` positions later and
    /// then kept.
    Ramp {
        /// Factor at the first position.
        from: f32,
        /// Factor from position `tokens` on.
        to: f32,
        /// Length of the line.
        tokens: usize,
    },
    /// Halves every `half_life` positions; 0 after [`DECAY_LIVES`] half-lives.
    Decay {
        /// Positions in which the factor halves.
        half_life: usize,
    },
    /// Given factors, each for some positions, and one for the rest.
    Steps {
        /// The steps in order.
        steps: Vec<Step>,
        /// Factor behind the last step.
        #[serde(default)]
        then: f32,
    },
}

/// A step of [`Schedule::Steps`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Positions that it covers.
    pub tokens: usize,
    /// The factor there.
    pub factor: f32,
}

/// Most steps that a schedule is cut into.
pub const MAX_STEPS: usize = 64;

/// Half-lives after which a decaying strength is 0: by then less than 0.4 % is left.
pub const DECAY_LIVES: usize = 8;

impl Schedule {
    /// The runs of offsets from the class's first position, with their factors; together they cover everything.
    ///
    /// # Errors
    /// [`SteeringError`] for a length of 0, a factor that is not finite, or too many steps.
    pub fn pieces(&self) -> Result<Vec<(Range<usize>, f32)>, SteeringError> {
        match self {
            Schedule::Constant => Ok(vec![(0..usize::MAX, 1.0)]),
            Schedule::Ramp { from, to, tokens } => {
                finite(&[*from, *to])?;
                at_least_one("schedule ramp tokens", *tokens)?;
                let length = *tokens as f32;
                let line = |middle: f32| from + (to - from) * (middle / length).clamp(0.0, 1.0);
                Ok(staircase(*tokens, line, *to))
            }
            Schedule::Decay { half_life } => {
                at_least_one("schedule half_life", *half_life)?;
                let tokens = half_life.checked_mul(DECAY_LIVES).unwrap_or(usize::MAX - 1);
                let half_life = *half_life as f32;
                Ok(staircase(
                    tokens,
                    |middle| (-middle / half_life).exp2(),
                    0.0,
                ))
            }
            Schedule::Steps { steps, then } => {
                if steps.len() > MAX_STEPS {
                    return Err(SteeringError::Limit {
                        what: "schedule steps",
                        given: steps.len(),
                        limit_name: "MAX_STEPS",
                        limit: MAX_STEPS,
                    });
                }
                finite(&[*then])?;
                let mut pieces = Vec::with_capacity(steps.len() + 1);
                let mut start = 0usize;
                for step in steps {
                    finite(&[step.factor])?;
                    let end = start.saturating_add(step.tokens);
                    pieces.push((start..end, step.factor));
                    start = end;
                }
                pieces.push((start..usize::MAX, *then));
                pieces.retain(|(run, _)| !run.is_empty());
                Ok(pieces)
            }
        }
    }
}

/// `tokens` positions in at most [`MAX_STEPS`] even steps, then `then` for ever.
fn staircase(tokens: usize, value: impl Fn(f32) -> f32, then: f32) -> Vec<(Range<usize>, f32)> {
    let width = tokens.div_ceil(MAX_STEPS).max(1);
    let mut pieces: Vec<(Range<usize>, f32)> = (0..tokens)
        .step_by(width)
        .map(|start| {
            let end = start.saturating_add(width).min(tokens);
            // a step of one position has its value there, a wider one that of its middle
            let middle = start as f32 + (end - start - 1) as f32 / 2.0;
            (start..end, value(middle))
        })
        .collect();
    pieces.push((tokens..usize::MAX, then));
    pieces
}

fn at_least_one(name: &'static str, given: usize) -> Result<(), SteeringError> {
    match given {
        0 => Err(SteeringError::OutOfRange {
            name,
            given: 0.0,
            range: "at least 1",
        }),
        _ => Ok(()),
    }
}

fn finite(factors: &[f32]) -> Result<(), SteeringError> {
    match factors.iter().find(|x| !x.is_finite()) {
        Some(&given) => Err(SteeringError::NotFinite {
            what: "schedule factor".to_owned(),
            given,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn factor(schedule: &Schedule, offset: usize) -> f32 {
        let pieces = schedule.pieces().unwrap();
        let of: Vec<f32> = pieces
            .iter()
            .filter(|(run, _)| run.contains(&offset))
            .map(|p| p.1)
            .collect();
        assert_eq!(of.len(), 1, "{offset}: {pieces:?}");
        of[0]
    }

    #[test]
    fn every_position_has_one_factor() {
        let ramp = Schedule::Ramp {
            from: 0.0,
            to: 1.0,
            tokens: 4,
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 99].map(|at| factor(&ramp, at)),
            [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
        );
        let decay = Schedule::Decay { half_life: 2 };
        assert_eq!(
            [0, 2, 4, 16].map(|at| factor(&decay, at)),
            [1.0, 0.5, 0.25, 0.0]
        );
        let steps = Schedule::Steps {
            steps: vec![
                Step {
                    tokens: 2,
                    factor: 3.0,
                },
                Step {
                    tokens: 0,
                    factor: 9.0,
                },
            ],
            then: 0.5,
        };
        assert_eq!([0, 1, 2].map(|at| factor(&steps, at)), [3.0, 3.0, 0.5]);
        let long = Schedule::Decay {
            half_life: usize::MAX,
        };
        assert!(long.pieces().unwrap().len() <= MAX_STEPS + 1);
        assert!(Schedule::Decay { half_life: 1000 }.pieces().unwrap().len() <= MAX_STEPS + 1);
    }

    #[test]
    fn wrong_schedules_are_refused() {
        assert!(
            Schedule::Ramp {
                from: 0.0,
                to: 1.0,
                tokens: 0
            }
            .pieces()
            .is_err()
        );
        assert!(
            Schedule::Ramp {
                from: f32::NAN,
                to: 1.0,
                tokens: 3
            }
            .pieces()
            .is_err()
        );
        let steps = vec![
            Step {
                tokens: 1,
                factor: 1.0
            };
            MAX_STEPS + 1
        ];
        assert!(Schedule::Steps { steps, then: 0.0 }.pieces().is_err());
    }
}
