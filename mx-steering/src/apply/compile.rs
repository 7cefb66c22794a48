//! Compiles a request's steering to edits.

use super::merge::{Rank, check_edit, summed};
use super::one::One;
use super::{Edit, SteeringSpec, Term, VectorRef};
use crate::error::{ModelError, SteeringError};
use crate::format::mechanex;
use crate::model::{ModelShape, Warning};
use crate::point::Point;
use crate::vector::SteeringVector;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Looks up the vector that a reference names: store, file or preset.
pub type Resolve<'a> = dyn FnMut(&str) -> Result<Arc<SteeringVector>, ModelError> + 'a;

/// The edits of one request, ready for an engine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The edits, sorted by place; those of one place in the order in which they act. Token classes are resolved, so
    /// they are named classes or absolute ranges.
    pub edits: Vec<Edit>,
    /// What a caller should be told.
    pub warnings: Vec<Warning>,
}

/// Most edits that one plan may have.
const MAX_EDITS: usize = 65_536;

impl Plan {
    /// Whether nothing is edited.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The places edited, each once.
    pub fn points(&self) -> Vec<Point> {
        let mut points: Vec<Point> = self.edits.iter().map(|edit| edit.point).collect();
        points.dedup();
        points
    }

    /// A digest of everything that the edits do: equal digests, equal keys and values. A cached prefix of a prompt is
    /// valid only for the digest that it was computed under.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut numbers = |values: &[f32]| {
            hash.update((values.len() as u64).to_le_bytes());
            values.iter().for_each(|x| hash.update(x.to_le_bytes()));
        };
        for edit in &self.edits {
            let Edit {
                point,
                tokens,
                terms,
                gate,
                keep_norm,
            } = edit;
            let text = format!("{point} {tokens} {keep_norm} {}", terms.len());
            numbers(&text.bytes().map(f32::from).collect::<Vec<_>>());
            for Term { a, b, u, w } in terms {
                numbers(&[*a, *b]);
                numbers(u.as_deref().unwrap_or_default());
                numbers(w);
            }
            if let Some(gate) = gate {
                numbers(&[gate.threshold]);
                numbers(&gate.direction);
            }
        }
        crate::vector::hex(&hash.finalize())
    }
}

impl SteeringSpec {
    /// Compiles for a model and a prompt of `prompt_len` tokens. Conditions on the whole prompt must have been decided
    /// before, see [`prompt_conditions`](SteeringSpec::prompt_conditions); undecided ones count as met.
    ///
    /// # Errors
    /// [`SteeringError`] for a vector that cannot be found or does not fit the model, and for parts that exclude each
    /// other.
    pub fn compile(
        &self,
        model: &ModelShape,
        prompt_len: usize,
        resolve: &mut Resolve<'_>,
    ) -> Result<Plan, SteeringError> {
        let mut ranked: Vec<(Rank, Edit)> = Vec::new();
        let mut warnings = Vec::new();
        for steer in &self.vectors {
            let vector = resolved(&steer.vector, resolve)?;
            warnings.extend(vector.check(model)?);
            let mut one = One {
                steer,
                vector: &vector,
                model,
                prompt_len,
                warnings: &mut warnings,
            };
            ranked.extend(one.edits(resolve)?);
            limit(ranked.len())?;
        }
        limit(ranked.len() + self.edits.len())?;
        for edit in &self.edits {
            check_edit(edit, model)?;
            let tokens = edit.tokens.resolved(prompt_len);
            if !edit.is_identity() && !edit.tokens.positions(prompt_len).is_empty() {
                ranked.push((Rank::Direct, edit.clone().at(tokens)));
            }
        }
        ranked.sort_by_key(|(rank, edit)| (edit.point, *rank));
        let edits = summed(ranked);
        // strengths and sums may overflow though every number given was finite
        edits.iter().try_for_each(|edit| check_edit(edit, model))?;
        Ok(Plan { edits, warnings })
    }

    /// The conditions on the whole prompt, each with the number of the vector that it governs and the place whose mean
    /// row decides it.
    ///
    /// # Errors
    /// [`SteeringError`] where a condition's vector cannot be found or does not have exactly one direction.
    pub fn prompt_conditions(
        &self,
        model: &ModelShape,
        resolve: &mut Resolve<'_>,
    ) -> Result<Vec<(usize, Point)>, SteeringError> {
        let mut conditions = Vec::new();
        for (index, steer) in self.vectors.iter().enumerate() {
            if let Some(condition) = &steer.prompt_condition {
                let vector = resolved(&condition.vector, resolve)?;
                vector.check(model)?;
                conditions.push((index, single_direction(&vector)?.0));
            }
        }
        Ok(conditions)
    }

    /// The steering that is left for a prompt: vectors whose condition is not met are taken out, the others lose it.
    /// `means` gives the mean of the prompt's rows at a place, without position 0 where it is an attention sink.
    ///
    /// # Errors
    /// As [`prompt_conditions`](SteeringSpec::prompt_conditions), and what `means` fails with.
    pub fn decided(
        &self,
        resolve: &mut Resolve<'_>,
        means: &mut dyn FnMut(Point) -> Result<Vec<f32>, ModelError>,
    ) -> Result<SteeringSpec, SteeringError> {
        let mut vectors = Vec::with_capacity(self.vectors.len());
        for steer in &self.vectors {
            let mut steer = steer.clone();
            if let Some(condition) = steer.prompt_condition.take() {
                let vector = resolved(&condition.vector, resolve)?;
                let (point, direction) = single_direction(&vector)?;
                let mean = means(point).map_err(SteeringError::Model)?;
                let similarity = super::PromptCondition::similarity(&mean, direction)?;
                if !condition.is_met(similarity) {
                    continue;
                }
            }
            vectors.push(steer);
        }
        Ok(SteeringSpec {
            vectors,
            edits: self.edits.clone(),
        })
    }
}

pub(super) fn limit(given: usize) -> Result<(), SteeringError> {
    match given > MAX_EDITS {
        true => Err(SteeringError::Limit {
            what: "edits of one request",
            given,
            limit_name: "MAX_EDITS",
            limit: MAX_EDITS,
        }),
        false => Ok(()),
    }
}

pub(super) fn resolved(
    reference: &VectorRef,
    resolve: &mut Resolve<'_>,
) -> Result<Arc<SteeringVector>, SteeringError> {
    match reference {
        VectorRef::Reference(name) => resolve(name).map_err(|source| SteeringError::Reference {
            reference: name.clone(),
            source,
        }),
        VectorRef::Inline(map) => {
            mechanex::from_map(map)
                .map(Arc::new)
                .map_err(|error| SteeringError::Reference {
                    reference: "inline vector".to_owned(),
                    source: error.into(),
                })
        }
    }
}

pub(super) fn single_direction(vector: &SteeringVector) -> Result<(Point, &[f32]), SteeringError> {
    let mut directions = vector.directions();
    match (directions.next(), directions.next()) {
        (Some(one), None) if vector.rows() == 1 => Ok(one),
        _ => Err(vector.no_direction("exactly one place".to_owned())),
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
