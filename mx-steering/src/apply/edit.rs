//! The one primitive by which a row is edited.

use super::TokenClass;
use crate::linalg::{dot, norm, unit};
use crate::point::Point;
use serde::{Deserialize, Serialize};

/// One edit of the rows at a hook point:
///
/// > x ← x + Σ (a + b·⟨u, x⟩)·w
///
/// All terms read the row as it was before the edit. A [`Gate`] lets only some rows through, and `keep_norm` rescales
/// the result to the Euclidean norm that the row had. [`Edit::apply`] is the definition; engines implement the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// Where.
    pub point: Point,
    /// At which positions; all by default.
    #[serde(default)]
    pub tokens: TokenClass,
    /// What is added.
    pub terms: Vec<Term>,
    /// Edit only rows that pass this gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Rescale the row to the norm it had before the edit.
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
    /// Direction that is read, `d_model` numbers; none reads along `w`.
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

impl Gate {
    /// The rows with ⟨g, x⟩ ≤ τ instead.
    pub fn below(direction: &[f32], threshold: f32) -> Self {
        Gate {
            direction: direction.iter().map(|x| -x).collect(),
            threshold: -threshold,
        }
    }

    /// Whether a row passes.
    pub fn passes(&self, row: &[f32]) -> bool {
        dot(&self.direction, row) >= f64::from(self.threshold)
    }
}

impl Term {
    /// `a · w`.
    pub fn constant(a: f32, w: Vec<f32>) -> Self {
        Term {
            a,
            b: 0.0,
            u: None,
            w,
        }
    }

    /// `b·⟨u, x⟩·w`.
    pub fn linear(b: f32, u: Vec<f32>, w: Vec<f32>) -> Self {
        Term {
            a: 0.0,
            b,
            u: Some(u),
            w,
        }
    }

    /// The direction that is read: `u`, or `w` where there is none.
    pub fn reads(&self) -> &[f32] {
        self.u.as_deref().unwrap_or(&self.w)
    }

    /// Whether the term adds nothing to any row.
    pub fn is_zero(&self) -> bool {
        self.a == 0.0 && self.b == 0.0
    }
}

impl Edit {
    /// An edit of all positions.
    pub fn new(point: Point, terms: Vec<Term>) -> Self {
        Edit {
            point,
            tokens: TokenClass::All,
            terms,
            gate: None,
            keep_norm: false,
        }
    }

    /// `x + strength · vector`.
    pub fn add(point: Point, vector: Vec<f32>, strength: f32) -> Self {
        Edit::new(point, vec![Term::constant(strength, vector)])
    }

    /// `x − share · ⟨û, x⟩ û`: removes the component along a direction, or a share of it (2 mirrors). `None` where the
    /// direction has length 0.
    pub fn ablate(point: Point, direction: &[f32], share: f32) -> Option<Self> {
        let term = Term {
            a: 0.0,
            b: -share,
            u: None,
            w: unit(direction)?,
        };
        Some(Edit::new(point, vec![term]))
    }

    /// `x + share · (value − ⟨û, x⟩) û`: moves the component along a direction to `value`, in units of the stream.
    /// `None` where the direction has length 0.
    pub fn clamp(point: Point, direction: &[f32], value: f32, share: f32) -> Option<Self> {
        let term = Term {
            a: share * value,
            b: -share,
            u: None,
            w: unit(direction)?,
        };
        Some(Edit::new(point, vec![term]))
    }

    /// `x + M x + v` with `M = Σ left[i] right[i]ᵀ` of low rank.
    pub fn affine(
        point: Point,
        left: Vec<Vec<f32>>,
        right: Vec<Vec<f32>>,
        offset: Option<Vec<f32>>,
    ) -> Self {
        let linear = left.into_iter().zip(right);
        let mut terms: Vec<Term> = linear.map(|(w, u)| Term::linear(1.0, u, w)).collect();
        terms.extend(offset.map(|v| Term::constant(1.0, v)));
        Edit::new(point, terms)
    }

    /// The same edit at other positions.
    pub fn at(mut self, tokens: TokenClass) -> Self {
        self.tokens = tokens;
        self
    }

    /// The same edit of rows that pass a gate.
    pub fn gated(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// The same edit, rescaling each row to its old norm.
    pub fn keeping_norm(mut self) -> Self {
        self.keep_norm = true;
        self
    }

    /// Whether the edit leaves every row as it is, so that it can be left out.
    pub fn is_identity(&self) -> bool {
        self.terms.iter().all(Term::is_zero)
    }

    /// The edit of one row.
    pub fn apply(&self, row: &mut [f32]) {
        if self.is_identity() || self.gate.as_ref().is_some_and(|gate| !gate.passes(row)) {
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

    /// The edit of the rows of a step, `[tokens, d_model]`, that holds the positions from `first` on. Rows outside the
    /// edit's token class stay as they are.
    pub fn apply_rows(&self, rows: &mut [f32], d_model: usize, first: usize, prompt_len: usize) {
        let class = self.tokens.positions(prompt_len);
        for (offset, row) in rows.chunks_exact_mut(d_model.max(1)).enumerate() {
            if class.contains(&(first + offset)) {
                self.apply(row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::point::Site;

    fn point() -> Point {
        Site::ResidPre.at(0)
    }

    #[test]
    fn clamp_sets_the_component_and_ablate_removes_it() {
        let direction = [3.0, 4.0, 0.0];
        let mut row = [1.0, 2.0, 5.0];
        Edit::clamp(point(), &direction, 7.0, 1.0)
            .unwrap()
            .apply(&mut row);
        assert!((dot(&row, &direction) / 5.0 - 7.0).abs() < 1e-6);
        assert_eq!(row[2], 5.0);
        Edit::ablate(point(), &direction, 1.0)
            .unwrap()
            .apply(&mut row);
        assert!(dot(&row, &direction).abs() < 1e-5);
        assert!(Edit::ablate(point(), &[0.0; 3], 1.0).is_none());
    }

    #[test]
    fn affine_reads_the_row_as_it_was() {
        let left = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        let right = vec![vec![1.0, 0.0], vec![1.0, 0.0]];
        let mut row = [2.0, 0.0];
        Edit::affine(point(), left, right, Some(vec![0.5, 0.0])).apply(&mut row);
        assert_eq!(row, [4.5, 2.0]);
    }

    #[test]
    fn strength_zero_keeps_every_bit() {
        let mut row = [1.1f32, -0.0, f32::MIN_POSITIVE];
        let before = row.map(f32::to_bits);
        Edit::add(point(), vec![3.0, 4.0, 5.0], 0.0)
            .keeping_norm()
            .apply(&mut row);
        assert_eq!(row.map(f32::to_bits), before);
    }

    #[test]
    fn rows_outside_the_class_stay() {
        let mut rows = vec![0.0f32; 8];
        let edit = Edit::add(point(), vec![1.0, 2.0], 1.0).at(TokenClass::FromLastPrompt);
        edit.apply_rows(&mut rows, 2, 3, 6);
        assert_eq!(rows, [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn a_gate_below() {
        let edit = Edit::add(point(), vec![0.0, 1.0], 1.0).gated(Gate::below(&[1.0, 0.0], 2.0));
        let (mut low, mut high) = ([1.0, 0.0], [3.0, 0.0]);
        edit.apply(&mut low);
        edit.apply(&mut high);
        assert_eq!((low, high), ([1.0, 1.0], [3.0, 0.0]));
    }
}
