//! Edits and captures, checked against a model and ordered for the forward pass.

use super::{Capture, Edit, HookPoint};
use crate::config::ModelConfig;

/// The hooks of a request, ready to run: checked once, then shared by every step and row.
///
/// An empty plan costs a step nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HookPlan {
    edits: Vec<Edit>,
    captures: Vec<Capture>,
    /// Whether rows are read before and after every edit.
    watched: bool,
    /// Width of the model that the plan was made for.
    d_model: usize,
}

/// Hooks that do not fit the model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The model has no such layer.
    #[error("hook point {point}: layer {given} does not exist, the model has layers 0 to {last}")]
    Layer {
        /// The hook point.
        point: HookPoint,
        /// The layer asked for.
        given: usize,
        /// The last layer of the model.
        last: usize,
    },
    /// A vector has another width than the model.
    #[error("edit at {point}: vector of {given} numbers, the model's width is {wanted}")]
    Width {
        /// The hook point.
        point: HookPoint,
        /// Length of the vector.
        given: usize,
        /// `d_model`.
        wanted: usize,
    },
    /// A number is NaN or infinite.
    #[error("edit at {point}: {what} is {given}, wanted a finite number")]
    NotFinite {
        /// The hook point.
        point: HookPoint,
        /// Which number.
        what: &'static str,
        /// Its value.
        given: f32,
    },
}

impl HookPlan {
    /// Checks the hooks against a model. Edits that change nothing (strength 0) are dropped, so they are
    /// bit-identical to none; edits of one point keep their order.
    ///
    /// # Errors
    /// [`HookError`] for a layer, width or number that does not fit.
    pub fn new(
        edits: impl IntoIterator<Item = Edit>,
        captures: impl IntoIterator<Item = Capture>,
        config: &ModelConfig,
    ) -> Result<Self, HookError> {
        let edits: Vec<Edit> = edits.into_iter().collect();
        for edit in &edits {
            check_point(edit.point, config)?;
            check_numbers(edit, config)?;
        }
        let mut edits: Vec<Edit> = edits
            .into_iter()
            .filter(|edit| !edit.is_identity())
            .collect();
        edits.sort_by_key(|edit| edit.point);
        let mut captures: Vec<Capture> = captures.into_iter().collect();
        for capture in &captures {
            check_point(capture.point, config)?;
        }
        captures.sort_by_key(|capture| capture.point);
        Ok(HookPlan {
            edits,
            captures,
            watched: false,
            d_model: config.d_model,
        })
    }

    /// The same plan, which also captures the rows of every edited place, before its edits and after them, so that a
    /// trace can tell how much was changed. The rows themselves stay bit-identical.
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.watched = true;
        self
    }

    /// Whether the rows of `point` are captured before and after its edits.
    pub fn watches(&self, point: HookPoint) -> bool {
        self.watched && !self.edits(point).is_empty()
    }

    /// All edits, in the order of the forward pass.
    pub fn all_edits(&self) -> &[Edit] {
        &self.edits
    }

    /// Checks a plan against a model that it may not have been made for.
    ///
    /// # Errors
    /// [`HookError`] for a layer or width that does not fit.
    pub fn check(&self, config: &ModelConfig) -> Result<(), HookError> {
        let points = self.edits.iter().map(|edit| edit.point);
        for point in points.chain(self.captures.iter().map(|capture| capture.point)) {
            check_point(point, config)?;
            if self.d_model != config.d_model {
                return Err(HookError::Width {
                    point,
                    given: self.d_model,
                    wanted: config.d_model,
                });
            }
        }
        Ok(())
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.captures.is_empty()
    }

    /// Whether anything happens at `point`.
    pub fn touches(&self, point: HookPoint) -> bool {
        !self.edits(point).is_empty() || !self.captures(point).is_empty()
    }

    /// The edits at `point`, in the order they were given.
    pub fn edits(&self, point: HookPoint) -> &[Edit] {
        let start = self.edits.partition_point(|edit| edit.point < point);
        let end = self.edits.partition_point(|edit| edit.point <= point);
        &self.edits[start..end]
    }

    /// The captures at `point`.
    pub fn captures(&self, point: HookPoint) -> &[Capture] {
        let start = self
            .captures
            .partition_point(|capture| capture.point < point);
        let end = self
            .captures
            .partition_point(|capture| capture.point <= point);
        &self.captures[start..end]
    }

    /// Whether any hook edits, so that keys and values differ from those of the plain model.
    pub fn has_edits(&self) -> bool {
        !self.edits.is_empty()
    }
}

fn check_point(point: HookPoint, config: &ModelConfig) -> Result<(), HookError> {
    match point.layer() {
        Some(given) if given >= config.layers => Err(HookError::Layer {
            point,
            given,
            last: config.layers - 1,
        }),
        _ => Ok(()),
    }
}

fn check_numbers(edit: &Edit, config: &ModelConfig) -> Result<(), HookError> {
    let point = edit.point;
    let vector = |what: &'static str, vector: &[f32]| {
        if vector.len() != config.d_model {
            return Err(HookError::Width {
                point,
                given: vector.len(),
                wanted: config.d_model,
            });
        }
        match vector.iter().find(|x| !x.is_finite()) {
            Some(&given) => Err(HookError::NotFinite { point, what, given }),
            None => Ok(()),
        }
    };
    let number = |what: &'static str, given: f32| {
        if given.is_finite() {
            Ok(())
        } else {
            Err(HookError::NotFinite { point, what, given })
        }
    };
    for term in &edit.terms {
        number("coefficient a", term.a)?;
        number("coefficient b", term.b)?;
        vector("vector w", &term.w)?;
        term.u
            .as_deref()
            .map_or(Ok(()), |u| vector("vector u", u))?;
    }
    if let Some(gate) = &edit.gate {
        number("threshold", gate.threshold)?;
        vector("gate direction", &gate.direction)?;
    }
    Ok(())
}
