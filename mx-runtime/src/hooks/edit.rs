//! The one primitive by which a row is edited.

use super::{HookPoint, TokenClass};
use serde::{Deserialize, Serialize};

/// One edit of the rows at a hook point; see the [module page](super).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// Where.
    pub point: HookPoint,
    /// At which positions; all by default.
    #[serde(default)]
    pub tokens: TokenClass,
    /// What is added. All terms read the row as it was before the edit.
    pub terms: Vec<Term>,
    /// Edit only rows that pass this gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Rescale the row to the Euclidean norm it had before the edit.
    #[serde(default)]
    pub keep_norm: bool,
}

/// One term `(a + b·⟨u, x⟩)·w` of an edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// The constant part of the coefficient.
    pub a: f32,
    /// The part of the coefficient that follows the row's projection on `u`.
    #[serde(default)]
    pub b: f32,
    /// Direction that is read, `d_model` numbers; `None` reads along `w`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub u: Option<Vec<f32>>,
    /// Direction that is written, `d_model` numbers.
    pub w: Vec<f32>,
}

/// A condition on a row: ⟨g, x⟩ ≥ τ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Direction g, `d_model` numbers.
    pub direction: Vec<f32>,
    /// Threshold τ.
    pub threshold: f32,
}

impl Edit {
    /// `x ← x + strength · vector` at every position.
    pub fn add(point: HookPoint, vector: Vec<f32>, strength: f32) -> Self {
        Edit::of(
            point,
            vec![Term {
                a: strength,
                b: 0.0,
                u: None,
                w: vector,
            }],
        )
    }

    /// Removes the component along `direction` (any length above 0).
    pub fn ablate(point: HookPoint, direction: &[f32]) -> Self {
        Edit::clamp(point, direction, 0.0)
    }

    /// Sets the component along `direction` (any length above 0) to `value`, in units of the residual stream.
    pub fn clamp(point: HookPoint, direction: &[f32], value: f32) -> Self {
        let norm = norm(direction);
        let unit: Vec<f32> = direction
            .iter()
            .map(|x| (f64::from(*x) / norm) as f32)
            .collect();
        Edit::of(
            point,
            vec![Term {
                a: value,
                b: -1.0,
                u: None,
                w: unit,
            }],
        )
    }

    /// The same edit at other positions.
    pub fn at(mut self, tokens: TokenClass) -> Self {
        self.tokens = tokens;
        self
    }

    /// The same edit, rescaling each row to its old norm.
    pub fn keeping_norm(mut self) -> Self {
        self.keep_norm = true;
        self
    }

    fn of(point: HookPoint, terms: Vec<Term>) -> Self {
        Edit {
            point,
            tokens: TokenClass::All,
            terms,
            gate: None,
            keep_norm: false,
        }
    }

    /// Whether the edit leaves every row as it is, so that it can be left out.
    pub fn is_identity(&self) -> bool {
        self.terms.iter().all(|term| term.a == 0.0 && term.b == 0.0)
    }

    /// The edit of one row: the definition that every engine is tested against.
    pub fn apply(&self, row: &mut [f32]) {
        if self
            .gate
            .as_ref()
            .is_some_and(|gate| dot(&gate.direction, row) < f64::from(gate.threshold))
        {
            return;
        }
        let before = if self.keep_norm { norm(row) } else { 0.0 };
        let coefficients: Vec<f32> = self
            .terms
            .iter()
            .map(|term| match term.b {
                0.0 => term.a,
                b => (f64::from(term.a) + f64::from(b) * dot(term.reads(), row)) as f32,
            })
            .collect();
        for (term, coefficient) in self.terms.iter().zip(coefficients) {
            row.iter_mut()
                .zip(&term.w)
                .for_each(|(x, w)| *x += coefficient * w);
        }
        if self.keep_norm {
            let after = norm(row);
            if after > 0.0 {
                let factor = (before / after) as f32;
                row.iter_mut().for_each(|x| *x *= factor);
            }
        }
    }
}

impl Term {
    /// The direction that is read: `u`, or `w` where there is none.
    pub fn reads(&self) -> &[f32] {
        self.u.as_deref().unwrap_or(&self.w)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: HookPoint = HookPoint::ResidPre(0);

    #[test]
    fn clamp_sets_the_component_and_ablate_removes_it() {
        let direction = [3.0, 4.0, 0.0];
        let mut row = [1.0, 2.0, 5.0];
        Edit::clamp(POINT, &direction, 7.0).apply(&mut row);
        assert!((dot(&row, &direction) / 5.0 - 7.0).abs() < 1e-6);
        assert_eq!(row[2], 5.0);
        Edit::ablate(POINT, &direction).apply(&mut row);
        assert!(dot(&row, &direction).abs() < 1e-5);
    }

    #[test]
    fn terms_read_the_row_as_it_was() {
        let term = |w: [f32; 2]| Term {
            a: 0.0,
            b: 1.0,
            u: Some(vec![1.0, 0.0]),
            w: w.to_vec(),
        };
        let mut row = [2.0, 0.0];
        Edit::of(POINT, vec![term([1.0, 0.0]), term([0.0, 1.0])]).apply(&mut row);
        assert_eq!(row, [4.0, 2.0]);
    }

    #[test]
    fn gate_and_norm() {
        let mut edit = Edit::add(POINT, vec![0.0, 3.0], 1.0).keeping_norm();
        edit.gate = Some(Gate {
            direction: vec![1.0, 0.0],
            threshold: 2.0,
        });
        let mut below = [1.0, 0.0];
        edit.apply(&mut below);
        assert_eq!(below, [1.0, 0.0]);
        let mut above = [4.0, 0.0];
        edit.apply(&mut above);
        assert!(
            (above[0] - 3.2).abs() < 1e-6 && (above[1] - 2.4).abs() < 1e-6,
            "{above:?}"
        );
    }
}
