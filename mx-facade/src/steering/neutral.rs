//! What a vector does to texts that have nothing to do with it.

use super::{hooks, shape};
use crate::error::Error;
use crate::pipeline::Loaded;
use mx_runtime::engine::{Row, RowHooks, StepOutput, Want};
use mx_runtime::tokenizer::Specials;
use mx_steering::apply::{Steer, SteeringSpec};
use mx_steering::evaluate::kl_divergence;
use mx_steering::presets::NEUTRAL_TEXTS;
use mx_steering::{SteeringError, SteeringVector};
use std::sync::Arc;

/// Measures damage on neutral texts: how far the law of the next token moves.
#[derive(Debug)]
pub struct NeutralDamage<'a> {
    model: &'a Loaded,
    /// Logits of the unsteered model.
    plain: Vec<Vec<f32>>,
}

impl<'a> NeutralDamage<'a> {
    /// Reads the unsteered laws of a model. One without a tokenizer has no neutral texts, and every damage is 0.
    ///
    /// # Errors
    /// [`Error::Engine`], [`Error::Tokenizer`].
    pub fn new(model: &'a Loaded) -> Result<Self, Error> {
        let plain = neutral_laws(model, None)?;
        Ok(NeutralDamage { model, plain })
    }

    /// Mean KL divergence in nats between the next token after each text with a vector and without.
    ///
    /// # Errors
    /// [`SteeringError`] for a vector that does not fit the model.
    pub fn of(&self, vector: &SteeringVector, strength: f32) -> Result<f64, SteeringError> {
        let vector = Arc::new(vector.clone());
        let spec = SteeringSpec::from(Steer::new("measured").strength(strength));
        let plan = spec.compile(&shape(self.model), 0, &mut |_| Ok(Arc::clone(&vector)))?;
        let steered = hooks(&plan, self.model)
            .and_then(|plan| neutral_laws(self.model, Some(&plan)))
            .map_err(|error| SteeringError::Model(error.into()))?;
        let total: f64 = self
            .plain
            .iter()
            .zip(&steered)
            .map(|(plain, steered)| kl_divergence(plain, steered))
            .sum();
        Ok(total / self.plain.len().max(1) as f64)
    }
}

/// Logits after the last token of every neutral text.
fn neutral_laws(
    model: &Loaded,
    plan: Option<&mx_runtime::hooks::HookPlan>,
) -> Result<Vec<Vec<f32>>, Error> {
    let Some(tokenizer) = model.tokenizer() else {
        return Ok(Vec::new());
    };
    let engine = model.engine();
    let mut output = StepOutput::new();
    NEUTRAL_TEXTS
        .iter()
        .map(|text| {
            let tokens = tokenizer.encode(text, Specials::AsText)?;
            let mut sequence = engine.new_sequence();
            let row = Row {
                sequence: &mut sequence,
                tokens: &tokens,
                want: Want::Last,
                hooks: plan.map(|plan| RowHooks {
                    plan,
                    prompt_len: 0,
                }),
            };
            engine.step(&mut [row], &mut output)?;
            Ok(output.logits(0).last().unwrap_or_default().to_vec())
        })
        .collect()
}
