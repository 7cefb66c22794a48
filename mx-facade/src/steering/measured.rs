//! A loaded model as mx-steering wants to measure it: answers, beliefs and surprise, with and without a vector.

use super::{hooks, preset, shape};
use crate::error::Error;
use crate::pipeline::{Loaded, Plan, Run};
use crate::request::{GenerateRequest, Method};
use mx_runtime::engine::{Row, RowHooks, StepOutput, Want};
use mx_runtime::hooks::HookPlan;
use mx_runtime::tokenizer::Specials;
use mx_steering::apply::{Steer, SteeringSpec};
use mx_steering::evaluate::AnswerSums;
use mx_steering::format::pairs::Pair;
use mx_steering::presets::{PresetModel, Sample};
use mx_steering::{ModelError, SteeringVector};
use std::sync::Arc;

/// Longest answer that is judged, in tokens.
const ANSWER_TOKENS: usize = 96;

/// Measures steering on a model.
#[derive(Debug)]
pub struct MeasuredModel<'a> {
    model: &'a Loaded,
    output: StepOutput,
}

/// A vector and its strength; none for the plain model.
type Push<'a> = Option<(&'a SteeringVector, f32)>;

impl<'a> MeasuredModel<'a> {
    /// Measures on this model.
    pub fn new(model: &'a Loaded) -> Self {
        MeasuredModel {
            model,
            output: StepOutput::new(),
        }
    }

    /// Log-probabilities of `tokens` from position `from` on, each under the law of its predecessors.
    fn logprobs(
        &mut self,
        tokens: &[u32],
        from: usize,
        plan: Option<&HookPlan>,
    ) -> Result<Vec<f64>, Error> {
        let engine = self.model.engine();
        let mut sequence = engine.new_sequence();
        let row = Row {
            sequence: &mut sequence,
            tokens,
            want: Want::All,
            hooks: plan.map(|plan| RowHooks {
                plan,
                prompt_len: from,
            }),
        };
        engine.step(&mut [row], &mut self.output)?;
        let lines = self.output.logits(0);
        Ok((from.max(1)..tokens.len())
            .filter_map(|at| Some(logprob(lines.get(at - 1)?, tokens[at])))
            .collect())
    }

    fn plan(&self, steer: Push<'_>) -> Result<Option<HookPlan>, Error> {
        let Some((vector, strength)) = steer else {
            return Ok(None);
        };
        let vector = Arc::new(vector.clone());
        let spec = SteeringSpec::from(Steer::new("measured").strength(strength));
        let plan = spec.compile(&shape(self.model), 0, &mut |_| Ok(Arc::clone(&vector)))?;
        Ok(Some(hooks(&plan, self.model)?))
    }
}

impl PresetModel for MeasuredModel<'_> {
    fn answer(&mut self, prompt: &str, steer: Push<'_>) -> Result<Sample, ModelError> {
        let request = GenerateRequest::new(prompt)
            .method(Method::Greedy)
            .max_tokens(ANSWER_TOKENS);
        let mut plan = Plan::new(self.model.clone(), &request, || 0)?;
        plan.hooks = self.plan(steer)?.map(Arc::new);
        let answer = Run::new(plan)?.complete()?;
        let ended = answer.finish_reason == crate::FinishReason::Stop;
        Ok(Sample {
            text: answer.text,
            tokens: answer.tokens.len() - usize::from(ended),
        })
    }

    fn belief(&mut self, pair: &Pair, steer: Push<'_>) -> Result<AnswerSums, ModelError> {
        let tokens = preset::tokenise(std::slice::from_ref(pair), self.model)?.swap_remove(0);
        let plan = self.plan(steer)?;
        let mut sum = |tokens: &[u32], from: usize| -> Result<f64, Error> {
            let logprobs = self.logprobs(tokens, from, plan.as_ref())?;
            Ok(logprobs.iter().sum())
        };
        Ok(AnswerSums {
            positive: sum(&tokens.positive, tokens.prompt_len)?,
            negative: match &tokens.negative {
                Some(negative) => sum(negative, tokens.prompt_len)?,
                None => 0.0,
            },
        })
    }

    fn surprise(&mut self, text: &str, steer: Push<'_>) -> Result<Vec<f64>, ModelError> {
        let tokenizer = self.model.tokenizer().ok_or("the model has no tokenizer")?;
        let tokens = tokenizer.encode(text, Specials::AsText)?;
        let plan = self.plan(steer)?;
        let logprobs = self.logprobs(&tokens, 1, plan.as_ref())?;
        Ok(logprobs.into_iter().map(|logprob| -logprob).collect())
    }
}

fn logprob(line: &[f32], token: u32) -> f64 {
    let max = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = line.iter().map(|x| f64::from(x - max).exp()).sum();
    let logit = line.get(token as usize).copied();
    f64::from(logit.unwrap_or(f32::NEG_INFINITY) - max) - sum.ln()
}
