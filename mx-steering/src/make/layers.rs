//! Which layer to steer: the one whose direction separates held-out pairs best.

use super::Contrast;
use crate::error::SteeringError;
use crate::evaluate::stats::{auc, d_prime};
use crate::linalg::dot;
use crate::point::Point;
use crate::vector::SteeringVector;
use serde::{Deserialize, Serialize};

/// How well one direction separates held-out pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LayerScore {
    /// Where.
    pub point: Point,
    /// Distance of the mean projections in pooled standard deviations.
    pub d_prime: f64,
    /// Chance that a positive text projects higher than a negative one.
    pub auc: f64,
    /// Share of pairs whose positive text projects higher.
    pub sign_accuracy: f64,
    /// Length of the direction over the mean norm of the stream there; 0 where that is not known.
    pub relative_norm: f64,
}

/// The directions of a vector, judged on rows that it was not made from; best first. Rows must have been read where the
/// vector acts.
///
/// # Errors
/// [`SteeringError`] where a width differs or no place is common to both.
pub fn rank_layers(
    vector: &SteeringVector,
    held_out: &Contrast,
) -> Result<Vec<LayerScore>, SteeringError> {
    let mut scores = Vec::new();
    for (point, rows) in &held_out.points {
        let Some(direction) = vector.direction(*point) else {
            continue;
        };
        if direction.len() != held_out.d_model {
            return Err(SteeringError::Width {
                what: format!("direction at {point}"),
                given: direction.len(),
                wanted: held_out.d_model,
            });
        }
        let project = |rows: &[Vec<f32>]| -> Vec<f64> {
            rows.iter().map(|row| dot(row, direction)).collect()
        };
        let (positive, negative) = (project(&rows.positive), project(&rows.negative));
        let right = positive
            .iter()
            .zip(&negative)
            .filter(|(p, n)| p > n)
            .count();
        let stream = held_out
            .stream_norms
            .iter()
            .find(|(at, norm)| at == point && *norm > 0.0);
        scores.push(LayerScore {
            point: *point,
            d_prime: d_prime(&positive, &negative),
            auc: auc(&positive, &negative),
            sign_accuracy: right as f64 / positive.len().max(1) as f64,
            relative_norm: stream.map_or(0.0, |(_, norm)| {
                crate::linalg::norm(direction) / f64::from(*norm)
            }),
        });
    }
    if scores.is_empty() {
        return Err(vector.no_direction("any place that was read".to_owned()));
    }
    scores.sort_by(|a, b| b.d_prime.total_cmp(&a.d_prime));
    Ok(scores)
}

/// The best of ranked layers whose damage is bearable: `damage` measures it (for example the KL divergence on neutral
/// prompts at the strength wanted), and the first at or below `bound` is taken; where none is, the least damaging.
///
/// # Errors
/// What `damage` fails with, and [`SteeringError::Empty`] for an empty list.
pub fn choose_layer(
    ranked: &[LayerScore],
    bound: f64,
    damage: &mut dyn FnMut(Point) -> Result<f64, SteeringError>,
) -> Result<LayerScore, SteeringError> {
    let mut least: Option<(LayerScore, f64)> = None;
    for score in ranked {
        let harm = damage(score.point)?;
        if harm <= bound {
            return Ok(*score);
        }
        if least.is_none_or(|(_, known)| harm < known) {
            least = Some((*score, harm));
        }
    }
    least.map(|(score, _)| score).ok_or(SteeringError::Empty {
        what: "list of ranked layers",
        wanted: "at least one",
    })
}
