//! The edits of all vectors at one place: their order, their sum, their numbers.

use super::{Edit, TokenClass};
use crate::error::SteeringError;
use crate::model::ModelShape;
use crate::point::Point;
use std::collections::BTreeMap;

/// The order of edits at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Ablate,
    Rotate,
    Direct,
    Add,
    Clamp,
    KeepNorm,
}

/// Checks an edit that was given directly.
pub(super) fn check_edit(edit: &Edit, model: &ModelShape) -> Result<(), SteeringError> {
    let point = edit.point;
    if point.layer >= model.layers {
        return Err(SteeringError::Layer {
            point,
            given: point.layer,
            layers: model.layers,
        });
    }
    let gate = edit.gate.iter().map(|gate| &gate.direction);
    let written = edit.terms.iter().map(|term| &term.w);
    let read = edit.terms.iter().filter_map(|term| term.u.as_ref());
    for row in written.chain(read).chain(gate) {
        if row.len() != model.d_model {
            return Err(SteeringError::Width {
                what: format!("edit at {point}"),
                given: row.len(),
                wanted: model.d_model,
            });
        }
        if let Some(&given) = row.iter().find(|x| !x.is_finite()) {
            let what = format!("a number of the edit at {point}");
            return Err(SteeringError::NotFinite { what, given });
        }
    }
    let scalars = edit.terms.iter().flat_map(|term| [term.a, term.b]);
    match scalars
        .chain(edit.gate.iter().map(|gate| gate.threshold))
        .find(|x| !x.is_finite())
    {
        Some(given) => Err(SteeringError::NotFinite {
            what: format!("a coefficient of the edit at {point}"),
            given,
        }),
        None => Ok(()),
    }
}

/// Sums vectors that are added at the same place to the same positions, so that a place costs one addition however
/// many vectors meet there.
pub(super) fn summed(ranked: Vec<(Rank, Edit)>) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::with_capacity(ranked.len());
    // where the sum of a token class stands, within the current place
    let mut sums: BTreeMap<(Point, ClassKey), usize> = BTreeMap::new();
    for (rank, edit) in ranked {
        let plain = rank == Rank::Add && edit.gate.is_none() && !edit.keep_norm;
        if !plain {
            edits.push(edit);
            continue;
        }
        let key = (edit.point, ClassKey::of(edit.tokens));
        match sums.get(&key) {
            None => {
                sums.insert(key, edits.len());
                edits.push(edit);
            }
            Some(&at) => add_into(&mut edits[at], &edit),
        }
    }
    edits
}

/// A token class as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ClassKey(u8, i64, i64);

impl ClassKey {
    fn of(class: TokenClass) -> Self {
        match class {
            TokenClass::All => ClassKey(0, 0, 0),
            TokenClass::PromptOnly => ClassKey(1, 0, 0),
            TokenClass::LastPrompt => ClassKey(2, 0, 0),
            TokenClass::GeneratedOnly => ClassKey(3, 0, 0),
            TokenClass::FromLastPrompt => ClassKey(4, 0, 0),
            TokenClass::SkipFirst => ClassKey(5, 0, 0),
            TokenClass::Range { start, end } => ClassKey(6, start, end.unwrap_or(i64::MAX)),
        }
    }
}

fn add_into(sum: &mut Edit, edit: &Edit) {
    let (Some(into), Some(term)) = (sum.terms.first_mut(), edit.terms.first()) else {
        return;
    };
    let old = into.a;
    into.w
        .iter_mut()
        .zip(&term.w)
        .for_each(|(sum, w)| *sum = old * *sum + term.a * w);
    into.a = 1.0;
}
