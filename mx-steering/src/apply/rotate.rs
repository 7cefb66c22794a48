//! Rotation in a plane: angular steering (Vu & Nguyen 2025, arXiv 2510.26243).

use super::{Edit, Gate, Term};
use crate::error::SteeringError;
use crate::linalg::{dot, unit};
use crate::point::Point;
use std::f64::consts::PI;

/// Folds by which a rotation to a target angle is made; the angle is met within π / 2^FOLDS, 0.044°.
pub const FOLDS: u32 = 12;

/// A plane of the residual space with orthonormal axes. Angles count from the first axis towards the second.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Plane {
    /// The plane through two directions: the first axis is `first`, the second is `second` without its part along it.
    ///
    /// # Errors
    /// [`SteeringError::ZeroDirection`] where a direction is 0 or both are parallel, [`SteeringError::Width`] where
    /// their widths differ.
    pub fn new(point: Point, first: &[f32], second: &[f32]) -> Result<Self, SteeringError> {
        if first.len() != second.len() {
            return Err(SteeringError::Width {
                what: format!("second direction of the plane at {point}"),
                given: second.len(),
                wanted: first.len(),
            });
        }
        let operation = "a rotation plane";
        let zero = SteeringError::ZeroDirection { point, operation };
        let (Some(first), Some(second)) = (unit(first), unit(second)) else {
            return Err(zero);
        };
        let along = dot(&first, &second);
        let rest: Vec<f32> = second
            .iter()
            .zip(&first)
            .map(|(s, f)| (f64::from(*s) - along * f64::from(*f)) as f32)
            .collect();
        // what is left of two parallel directions is rounding
        const PARALLEL: f64 = 1e-4;
        match unit(&rest) {
            Some(second) if dot(&rest, &rest).sqrt() > PARALLEL => Ok(Plane { first, second }),
            _ => Err(zero),
        }
    }

    /// The first axis.
    pub fn first(&self) -> &[f32] {
        &self.first
    }

    /// The second axis.
    pub fn second(&self) -> &[f32] {
        &self.second
    }

    /// The unit direction at an angle in radians.
    fn at(&self, angle: f64) -> Vec<f32> {
        self.combined(angle.cos(), angle.sin())
    }

    fn combined(&self, first: f64, second: f64) -> Vec<f32> {
        self.first
            .iter()
            .zip(&self.second)
            .map(|(a, b)| (first * f64::from(*a) + second * f64::from(*b)) as f32)
            .collect()
    }

    /// Rotation by an angle: linear, so one edit does it exactly.
    pub fn rotate_by(&self, point: Point, degrees: f64) -> Edit {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let terms = vec![
            Term::linear(1.0, self.combined(cos - 1.0, -sin), self.first.clone()),
            Term::linear(1.0, self.combined(sin, cos - 1.0), self.second.clone()),
        ];
        Edit::new(point, terms)
    }

    /// Rotation to an angle, whatever angle the row has: x − P x + |P x|·(cos θ b₁ + sin θ b₂).
    ///
    /// |P x| is no linear function of x, but folding the plane like paper keeps it: every fold reflects one half plane
    /// onto the other, so the angle lies in a half, a quarter, … of the circle beside θ while the length in the plane
    /// stays what it was. Each fold is one gated edit; [`FOLDS`] of them and a last small rotation meet θ within 0.044°.
    pub fn rotate_to(&self, point: Point, degrees: f64) -> Vec<Edit> {
        let target = degrees.to_radians();
        let fold = |k: u32| {
            let border = target + PI / f64::from(1u32 << k);
            let normal = self.at(border - PI / 2.0);
            let gate = Gate::below(&normal, 0.0);
            let reflection = Term {
                a: 0.0,
                b: -2.0,
                u: None,
                w: normal,
            };
            Edit::new(point, vec![reflection]).gated(gate)
        };
        let wedge = 180.0 / f64::from(1u32 << (FOLDS - 1));
        let mut edits: Vec<Edit> = (0..FOLDS).map(fold).collect();
        edits.push(self.rotate_by(point, -wedge / 2.0));
        edits
    }

    /// [`rotate_to`](Plane::rotate_to) by its formula, exactly, for one row.
    pub fn set_angle(&self, row: &mut [f32], degrees: f64) {
        let (a, b) = (dot(&self.first, row), dot(&self.second, row));
        let length = a.hypot(b);
        let (sin, cos) = degrees.to_radians().sin_cos();
        let change = self.combined(length * cos - a, length * sin - b);
        row.iter_mut().zip(change).for_each(|(x, c)| *x += c);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::linalg::norm;
    use crate::point::Site;

    fn plane() -> Plane {
        Plane::new(
            Site::ResidPost.at(0),
            &[2.0, 0.0, 0.0, 1.0],
            &[1.0, 3.0, 0.0, 0.0],
        )
        .unwrap()
    }

    #[test]
    fn folding_meets_the_target_from_everywhere() {
        let (plane, point) = (plane(), Site::ResidPost.at(0));
        for target in [-170.0, 0.0, 33.0, 200.0] {
            let edits = plane.rotate_to(point, target);
            for i in 0..48 {
                let angle = f64::from(i) * 7.5 + 0.1;
                let mut row: Vec<f32> = plane
                    .at(angle.to_radians())
                    .iter()
                    .map(|x| 5.0 * x)
                    .collect();
                row[2] = 2.0;
                let mut exact = row.clone();
                let before = norm(&row);
                edits.iter().for_each(|edit| edit.apply(&mut row));
                plane.set_angle(&mut exact, target);
                assert!((norm(&row) - before).abs() < 1e-4, "{target} {angle}");
                for (a, b) in row.iter().zip(&exact) {
                    assert!(
                        (a - b).abs() < 5.0 * 9e-4,
                        "{target} {angle}: {row:?}, exact {exact:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_turn_and_back_is_nothing() {
        let (plane, point) = (plane(), Site::ResidPost.at(0));
        let mut row = vec![1.0f32, -2.0, 3.0, 0.5];
        let before = row.clone();
        plane.rotate_by(point, 71.0).apply(&mut row);
        assert!((norm(&row) - norm(&before)).abs() < 1e-5);
        assert!(row.iter().zip(&before).any(|(a, b)| (a - b).abs() > 0.1));
        plane.rotate_by(point, -71.0).apply(&mut row);
        assert!(row.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn parallel_directions_span_no_plane() {
        let point = Site::ResidPost.at(0);
        assert!(Plane::new(point, &[1.0, 2.0], &[-2.0, -4.0]).is_err());
        assert!(Plane::new(point, &[0.0, 0.0], &[1.0, 0.0]).is_err());
        assert!(Plane::new(point, &[1.0], &[1.0, 0.0]).is_err());
    }
}
