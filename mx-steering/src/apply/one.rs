//! One vector of a request, compiled.

use super::compile::{Resolve, limit, resolved, single_direction};
use super::merge::Rank;
use super::{Comparison, Edit, Gate, Operator, Plane, Steer, TokenClass};
use crate::error::SteeringError;
use crate::linalg::{norm, unit};
use crate::model::{ModelShape, Warning};
use crate::point::{Point, Site};
use crate::vector::{SteeringVector, Units};
use std::ops::Range;

/// Push in shares of the stream's norm from which on a plan warns.
const STRONG: f64 = 0.5;

/// One vector of a request.
pub(super) struct One<'a> {
    pub(super) steer: &'a Steer,
    pub(super) vector: &'a SteeringVector,
    pub(super) model: &'a ModelShape,
    pub(super) prompt_len: usize,
    pub(super) warnings: &'a mut Vec<Warning>,
}

/// Where a direction was, where it acts, and its numbers.
type Place<'a> = (Point, Point, &'a [f32]);

/// A run of positions with its share of the strength and the row of the vector that acts there.
struct Piece {
    tokens: TokenClass,
    factor: f32,
    row: usize,
}

impl<'a> One<'a> {
    /// The edits, each with its rank at its place.
    pub(super) fn edits(
        &mut self,
        resolve: &mut Resolve<'_>,
    ) -> Result<Vec<(Rank, Edit)>, SteeringError> {
        let steer = self.steer;
        let measured = self.vector.measured.as_ref();
        let strength = steer
            .strength
            .or(measured.and_then(|measured| measured.strength))
            .unwrap_or(1.0);
        if let Some(given) = [strength]
            .iter()
            .chain(steer.layer_strengths.values())
            .find(|x| !x.is_finite())
        {
            return Err(SteeringError::NotFinite {
                what: format!("strength of {}", self.vector.display_name()),
                given: *given,
            });
        }
        if let Some(missing) = steer
            .layer_strengths
            .keys()
            .find(|layer| !self.vector.layers().contains(layer))
        {
            return Err(self.vector.no_direction(format!("layer {missing}")));
        }
        let pieces = self.pieces()?;
        let places = self.places()?;
        if strength == 0.0 {
            let vector = self.vector.display_name();
            self.warnings.push(Warning::NoEffect { vector });
            return Ok(Vec::new());
        }
        let second = match &steer.operator {
            Operator::Rotate { with, .. } | Operator::RotateTo { with, .. } => {
                Some(resolved(with, resolve)?)
            }
            _ => None,
        };
        let condition = match &steer.condition {
            Some(condition) => Some((
                condition,
                condition
                    .vector
                    .as_ref()
                    .map(|reference| resolved(reference, resolve))
                    .transpose()?,
            )),
            None => None,
        };
        for vector in [&second, &condition.as_ref().and_then(|(_, v)| v.clone())]
            .into_iter()
            .flatten()
        {
            vector.check(self.model)?;
        }
        let mut edits = Vec::new();
        for (from, to, values) in places {
            let per_layer = steer
                .layer_strengths
                .get(&from.layer)
                .copied()
                .unwrap_or(1.0);
            let gate = match &condition {
                Some((condition, vector)) => {
                    let looked_along = match vector {
                        Some(vector) => direction_near(vector, to)?,
                        None => &values[..self.vector.d_model()],
                    };
                    Some(gate(to, looked_along, condition.threshold, condition.when)?)
                }
                None => None,
            };
            for piece in &pieces {
                let row = &values[piece.row * self.vector.d_model()..][..self.vector.d_model()];
                let share = strength * per_layer * piece.factor;
                if share == 0.0 {
                    continue;
                }
                let (rank, made) = self.operated(to, row, values, share, second.as_deref())?;
                for mut edit in made {
                    if steer.keep_norm {
                        edit.keep_norm = true;
                    }
                    if gate.is_some() {
                        edit.gate.clone_from(&gate);
                    }
                    let rank = if steer.keep_norm {
                        Rank::KeepNorm
                    } else {
                        rank
                    };
                    edits.push((rank, edit.at(piece.tokens)));
                }
                limit(edits.len())?;
            }
        }
        Ok(edits)
    }

    /// The edits of one direction at one place.
    fn operated(
        &mut self,
        point: Point,
        row: &[f32],
        rows: &[f32],
        share: f32,
        second: Option<&SteeringVector>,
    ) -> Result<(Rank, Vec<Edit>), SteeringError> {
        let zero = |operation| SteeringError::ZeroDirection { point, operation };
        Ok(match &self.steer.operator {
            Operator::Add => {
                let factor = self.factor(point, rows)?;
                self.warn_if_strong(point, rows, f64::from(share) * factor);
                let strength = (f64::from(share) * factor) as f32;
                (Rank::Add, vec![Edit::add(point, row.to_vec(), strength)])
            }
            Operator::Ablate => {
                let edit = Edit::ablate(point, row, share).ok_or_else(|| zero("ablation"))?;
                (Rank::Ablate, vec![edit])
            }
            Operator::Clamp { value } => {
                if !value.is_finite() {
                    let what = "clamp value".to_owned();
                    return Err(SteeringError::NotFinite {
                        what,
                        given: *value,
                    });
                }
                let edit =
                    Edit::clamp(point, row, *value, share).ok_or_else(|| zero("clamping"))?;
                (Rank::Clamp, vec![edit])
            }
            Operator::Rotate { degrees, .. } => {
                let plane = self.plane(point, row, second, *degrees)?;
                (
                    Rank::Rotate,
                    vec![plane.rotate_by(point, f64::from(share) * degrees)],
                )
            }
            Operator::RotateTo { degrees, .. } => {
                if share != 1.0 {
                    return Err(SteeringError::Exclusive {
                        first: "rotate_to",
                        second: "a strength other than 0 and 1",
                        reason: "its angle is a target; choose another angle",
                    });
                }
                if self.steer.condition.is_some() {
                    return Err(SteeringError::Exclusive {
                        first: "rotate_to",
                        second: "a condition on tokens",
                        reason: "it is folded by gates of its own, and an edit has one gate",
                    });
                }
                let plane = self.plane(point, row, second, *degrees)?;
                (Rank::Rotate, plane.rotate_to(point, *degrees))
            }
        })
    }

    fn plane(
        &self,
        point: Point,
        row: &[f32],
        second: Option<&SteeringVector>,
        degrees: f64,
    ) -> Result<Plane, SteeringError> {
        if !degrees.is_finite() {
            return Err(SteeringError::OutOfRange {
                name: "degrees",
                given: degrees,
                range: "a finite number",
            });
        }
        let second = second.unwrap_or(self.vector);
        Plane::new(point, row, direction_near(second, point)?)
    }

    /// The places acted at, with the direction for each: where it was, where it acts, its numbers.
    fn places(&self) -> Result<Vec<Place<'a>>, SteeringError> {
        let (steer, vector) = (self.steer, self.vector);
        if let Some(layers) = &steer.layers {
            let have = vector.layers();
            if let Some(missing) = layers.iter().find(|layer| !have.contains(layer)) {
                return Err(vector.no_direction(format!("layer {missing}")));
            }
        }
        let chosen: Vec<(Point, &'a [f32])> = vector
            .directions()
            .filter(|(point, _)| {
                steer
                    .layers
                    .as_ref()
                    .is_none_or(|layers| layers.contains(&point.layer))
            })
            .collect();
        if steer.everywhere {
            if steer.site.is_some() {
                return Err(SteeringError::Exclusive {
                    first: "everywhere",
                    second: "site",
                    reason: "everywhere names all sites",
                });
            }
            let [(from, values)] = chosen[..] else {
                return Err(
                    vector.no_direction("exactly one place, which everywhere needs".to_owned())
                );
            };
            let blocks = (0..self.model.layers)
                .flat_map(|layer| [Site::ResidMid.at(layer), Site::ResidPost.at(layer)]);
            return Ok([Site::ResidPre.at(0)]
                .into_iter()
                .chain(blocks)
                .map(|to| (from, to, values))
                .collect());
        }
        Ok(chosen
            .into_iter()
            .map(|(from, values)| {
                (
                    from,
                    steer.site.map_or(from, |site| site.at(from.layer)),
                    values,
                )
            })
            .collect())
    }

    /// The runs of positions: one for a plain vector, one a step of a schedule, one a row of a vector that has several.
    fn pieces(&self) -> Result<Vec<Piece>, SteeringError> {
        let class = self.steer.tokens;
        let run = class.positions(self.prompt_len);
        let steps = self.steer.schedule.pieces()?;
        if self.vector.rows() == 1 && steps.len() == 1 {
            let whole = Piece {
                tokens: class.resolved(self.prompt_len),
                factor: steps[0].1,
                row: 0,
            };
            return Ok(if run.is_empty() {
                Vec::new()
            } else {
                vec![whole]
            });
        }
        let offset = |steps: &Range<usize>| {
            let start = run.start.saturating_add(steps.start);
            start..run.start.saturating_add(steps.end).min(run.end)
        };
        let mut pieces = Vec::new();
        for (offsets, factor) in steps {
            if self.vector.rows() == 1 {
                pieces.push((offset(&offsets), factor, 0));
                continue;
            }
            let rows = offsets.start..offsets.end.min(self.vector.rows());
            pieces.extend(rows.map(|row| (offset(&(row..row + 1)), factor, row)));
        }
        Ok(pieces
            .into_iter()
            .filter(|(run, _, _)| !run.is_empty())
            .map(|(run, factor, row)| Piece {
                tokens: TokenClass::run(run),
                factor,
                row,
            })
            .collect())
    }

    /// What the vector is multiplied with at strength 1.
    fn factor(&self, point: Point, rows: &[f32]) -> Result<f64, SteeringError> {
        let length = || match self.mean_length(rows) {
            0.0 => Err(SteeringError::ZeroDirection {
                point,
                operation: "unit strength",
            }),
            length => Ok(length),
        };
        match self.steer.units.unwrap_or(self.vector.units) {
            Units::Raw => Ok(1.0),
            Units::Unit => Ok(1.0 / length()?),
            Units::Relative { rho } => {
                let stream = self
                    .stream_norm(point)
                    .ok_or(SteeringError::NoStreamNorm { point })?;
                Ok(f64::from(rho) * stream / length()?)
            }
        }
    }

    fn stream_norm(&self, point: Point) -> Option<f64> {
        let norms = [&self.vector.stream_norms, &self.model.stream_norms];
        let known = |at: Point| norms.iter().find_map(|norms| norms.get(&at));
        // the same row of the stream has a second name
        let twin = match point.site {
            Site::ResidPre => point.moved_to(Site::ResidPost).ok(),
            Site::ResidPost => point.moved_to(Site::ResidPre).ok(),
            _ => None,
        };
        known(point)
            .or_else(|| known(twin?))
            .filter(|norm| norm.is_finite() && **norm > 0.0)
            .map(|norm| f64::from(*norm))
    }

    /// Root mean square of the rows' lengths.
    fn mean_length(&self, rows: &[f32]) -> f64 {
        norm(rows) / (self.vector.rows() as f64).sqrt()
    }

    fn warn_if_strong(&mut self, point: Point, rows: &[f32], factor: f64) {
        let Some(stream) = self.stream_norm(point) else {
            return;
        };
        let share = factor.abs() * self.mean_length(rows) / stream;
        let vector = self.vector.display_name();
        let known = self.warnings.iter().any(
            |warning| matches!(warning, Warning::Strong { vector: v, point: p, .. } if *v == vector && *p == point),
        );
        if share > STRONG && !known {
            let percent = (share * 100.0) as f32;
            self.warnings.push(Warning::Strong {
                vector,
                point,
                percent,
            });
        }
    }
}

/// The direction of a helper vector for a place: its own there, or the only one that it has.
fn direction_near(vector: &SteeringVector, point: Point) -> Result<&[f32], SteeringError> {
    if let Some(direction) = vector.direction(point).filter(|_| vector.rows() == 1) {
        return Ok(direction);
    }
    match single_direction(vector) {
        Ok((_, direction)) => Ok(direction),
        Err(_) => Err(vector.no_direction(point.to_string())),
    }
}

fn gate(
    point: Point,
    direction: &[f32],
    threshold: f32,
    when: Comparison,
) -> Result<Gate, SteeringError> {
    if !threshold.is_finite() {
        let what = "threshold of the condition".to_owned();
        return Err(SteeringError::NotFinite {
            what,
            given: threshold,
        });
    }
    let operation = "a condition";
    let direction = unit(direction).ok_or(SteeringError::ZeroDirection { point, operation })?;
    Ok(match when {
        Comparison::Above => Gate {
            direction,
            threshold,
        },
        Comparison::Below => Gate::below(&direction, threshold),
    })
}
