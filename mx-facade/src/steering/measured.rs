//! A loaded model as mx-steering wants to measure it: answers, beliefs and surprise, with and without a vector.

use super::{hooks, shape, tokenise};
use crate::error::Error;
use crate::pipeline::{Loaded, Plan, Run};
use crate::request::{GenerateRequest, Method};
use mx_runtime::engine::{Row, RowHooks, StepOutput, Want};
use mx_runtime::hooks::HookPlan;
use mx_runtime::tokenizer::Specials;
use mx_steering::apply::{Steer, SteeringSpec};
use mx_steering::evaluate::stats::mean;
use mx_steering::evaluate::{AnswerSums, Estimate};
use mx_steering::format::pairs::Pair;
use mx_steering::make::{Progress, Watch};
use mx_steering::presets::{Preset, PresetModel, PresetReport, Sample, held_out};
use mx_steering::{ModelError, SteeringError, SteeringVector};
use std::sync::Arc;

/// Longest answer that is judged, in tokens.
const ANSWER_TOKENS: usize = 96;

/// Seed of the intervals.
const SEED: u64 = 1;

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

    /// Measures a preset that is a constraint: its metric without and with it, on all held-out prompts.
    ///
    /// # Errors
    /// [`Error::Constrain`], [`Error::Engine`], and [`Error::Steering`] where `watch` stops it.
    pub fn constrained(
        &mut self,
        preset: Preset,
        watch: &mut Watch<'_>,
    ) -> Result<PresetReport, Error> {
        let metric = preset.default_metric();
        let prompts = held_out(preset);
        let (mut plain, mut masked) = (Vec::new(), Vec::new());
        for (done, prompt) in prompts.iter().enumerate() {
            let total = prompts.len();
            let progress = Progress {
                done,
                total,
                loss: None,
            };
            if watch(progress).is_break() {
                return Err(SteeringError::Cancelled.into());
            }
            let request = request(prompt.prompt);
            let free = sample(Plan::new(self.model.clone(), &request, || 0)?)?;
            plain.push(metric.score(prompt, &free));
            let mut request = request;
            request.constraints.json_mode = Some(true);
            let held = sample(Plan::new(self.model.clone(), &request, || 0)?)?;
            masked.push(metric.score(prompt, &held));
        }
        Ok(PresetReport {
            preset,
            metric: metric.name().to_owned(),
            strength: 1.0,
            base: mean(&plain),
            steered: mean(&masked),
            effect: Estimate::of_difference(&plain, &masked, SEED),
            side: None,
            perplexity: None,
            distinct: None,
        })
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

/// The answer that is judged, before steering and constraints.
fn request(prompt: &str) -> GenerateRequest {
    GenerateRequest::new(prompt)
        .method(Method::Greedy)
        .max_tokens(ANSWER_TOKENS)
}

fn sample(plan: Plan) -> Result<Sample, Error> {
    let answer = Run::new(plan)?.complete()?;
    let ended = answer.finish_reason == crate::FinishReason::Stop;
    Ok(Sample {
        tokens: answer.tokens.len().saturating_sub(usize::from(ended)),
        text: answer.text,
    })
}

impl PresetModel for MeasuredModel<'_> {
    fn answer(&mut self, prompt: &str, steer: Push<'_>) -> Result<Sample, ModelError> {
        let mut plan = Plan::new(self.model.clone(), &request(prompt), || 0)?;
        plan.hooks = self.plan(steer)?.map(Arc::new);
        Ok(sample(plan)?)
    }

    fn belief(&mut self, pair: &Pair, steer: Push<'_>) -> Result<AnswerSums, ModelError> {
        let tokens = tokenise(std::slice::from_ref(pair), self.model)?.swap_remove(0);
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
