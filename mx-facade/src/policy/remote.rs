//! Policies on the remote route: the service runs them itself; for other servers the rule runs here.

use super::generator::{Batch, Draft, Generator, Job, Sampling};
use super::result::{PolicyRun, PolicyTrace};
use super::{Policy, tune};
use crate::cancel::Cancel;
use crate::error::Error;
use crate::generation::Choice;
use crate::remote::{LARGEST_SEED, Server};
use crate::request::{GenerateRequest, Method, Prompt};
use mx_sampling::SamplingOptions;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server that makes candidates.
#[derive(Debug)]
pub(crate) struct RemoteGenerator<'a> {
    server: &'a Server,
    cancel: Cancel,
    began: Instant,
}

impl<'a> RemoteGenerator<'a> {
    pub(crate) fn new(server: &'a Server, cancel: Cancel) -> Self {
        RemoteGenerator {
            server,
            cancel,
            began: Instant::now(),
        }
    }
}

impl Generator for RemoteGenerator<'_> {
    fn sampling(&self, request: &GenerateRequest) -> Result<Sampling, Error> {
        let method = request.sampling_method.unwrap_or_default();
        let options = request
            .sampling
            .or(&method.options(&SamplingOptions::default()));
        let deterministic = matches!(
            method,
            Method::Greedy | Method::Beam | Method::ConstrainedBeam
        );
        Ok(Sampling {
            temperature: options.temperature.filter(|_| !deterministic),
            top_p: options.top_p.filter(|_| !deterministic),
            deterministic,
        })
    }

    fn converses(&self, request: &GenerateRequest) -> bool {
        match request.prompt {
            Prompt::Tokens(_) => false,
            Prompt::Chat(_) => true,
            Prompt::Text(_) => request.raw != Some(true),
        }
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn largest_seed(&self) -> u64 {
        LARGEST_SEED
    }

    fn generate(&mut self, job: &Job) -> Result<Batch, Error> {
        let mut request = job.request.clone();
        if job.rows > 1 {
            request.controls.n = Some(job.rows);
        }
        if job.needs_logprobs && request.controls.logprobs.is_none() {
            request.controls.logprobs = Some(0);
        }
        let seed = request.seed.unwrap_or_default();
        let until = job
            .deadline
            .and_then(|deadline| self.began.checked_add(deadline));
        let flag = self.cancel.clone();
        let stop = mx_remote::Cancel::when(move || {
            flag.is_cancelled() || until.is_some_and(|until| Instant::now() >= until)
        });
        let answer = match self.server.generate(&request, || seed, stop) {
            // What the server would still have said is lost; what was made before is not.
            Err(Error::Remote(error)) if error.is_cancelled() && job.may_be_lost => {
                return Ok(Batch {
                    drafts: Vec::new(),
                    answer: Arc::new(crate::remote::nothing()),
                    late: !self.cancel.is_cancelled(),
                });
            }
            Err(Error::Remote(error)) if error.is_cancelled() && !self.cancel.is_cancelled() => {
                let wanted = "time enough for the server's first answer";
                let given = job.deadline.unwrap_or_default().as_millis();
                return Err(Error::request("objective.latency_budget_ms", given, wanted));
            }
            answer => answer?,
        };
        let choices = match answer.choices.is_empty() {
            true => vec![Choice::from(&answer)],
            false => answer.choices.clone(),
        };
        // A server that reports tokens only for all outputs together leaves each its share.
        let share = answer.usage.completion_tokens / choices.len().max(1);
        let drafts = choices
            .iter()
            .map(|choice| Draft {
                text: choice.text.clone(),
                tokens: match choice.tokens.is_empty() {
                    true => share,
                    false => choice.tokens.len(),
                },
                logprobs: match choice.logprobs.is_empty() {
                    false => choice.logprobs.iter().map(|token| token.logprob).collect(),
                    true => choice
                        .served_logprobs
                        .iter()
                        .filter_map(|token| token.logprob)
                        .collect(),
                },
                finish_reason: choice.finish_reason,
                pruned: false,
            })
            .collect();
        let late = job.deadline.is_some_and(|deadline| self.now() > deadline);
        Ok(Batch {
            drafts,
            answer: Arc::new(answer),
            late,
        })
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// A run of the service as a run of here.
pub(crate) fn run_of(run: mx_remote::axionic::PolicyRun) -> PolicyRun {
    PolicyRun {
        reason: match run.accepted {
            true => "accepted".to_owned(),
            false => "the service does not accept it".to_owned(),
        },
        output: run.output,
        accepted: run.accepted,
        policy_id: run.policy_id,
        score: run.score,
        latency_ms: u64::try_from(run.latency_ms).unwrap_or(0),
        tokens: usize::try_from(run.tokens).unwrap_or(0),
        constraints_ok: run.constraints_ok,
        verifier_ok: run.verifier_ok,
        trace: run.trace.map(PolicyTrace::Remote),
        confidence: None,
        total_tokens: usize::try_from(run.tokens).unwrap_or(0),
        budget: None,
        warnings: Vec::new(),
        generation: None,
    }
}

/// A trial of the service as a trial of here.
pub(crate) fn trial_of(trial: mx_remote::axionic::PolicyTrial) -> tune::Trial {
    tune::Trial {
        policy: trial.policy,
        success_rate: trial.success_rate,
        avg_score: trial.avg_score,
        avg_latency_ms: trial.avg_latency_ms,
        pass_count: usize::try_from(trial.pass_count).unwrap_or(0),
        fail_count: usize::try_from(trial.fail_count).unwrap_or(0),
    }
}

/// The request's checks as fields of a policy for the service.
pub(crate) fn with_checks(mut policy: Policy, request: &GenerateRequest) -> Policy {
    use super::{OptimizationControls, SamplingControls, VerifierControls};
    let checks = &request.checks;
    let mut sampling: SamplingControls = policy.sampling.value().cloned().unwrap_or_default();
    if !checks.adaptive_temperature_schedule.is_empty() {
        sampling.adaptive_temperature = true.into();
        sampling.adaptive_temperature_schedule =
            checks.adaptive_temperature_schedule.clone().into();
    }
    if !checks.adaptive_top_p_schedule.is_empty() {
        sampling.adaptive_top_p = true.into();
        sampling.adaptive_top_p_schedule = checks.adaptive_top_p_schedule.clone().into();
    }
    if let Some(on) = checks.adaptive_temperature {
        sampling.adaptive_temperature = on.into();
    }
    if let Some(on) = checks.adaptive_top_p {
        sampling.adaptive_top_p = on.into();
    }
    if sampling != SamplingControls::default() {
        policy.sampling = sampling.into();
    }
    let mut optimization: OptimizationControls =
        policy.optimization.value().cloned().unwrap_or_default();
    if let Some(on) = checks.confidence_triggered_regeneration {
        optimization.confidence_triggered_regeneration = on.into();
    }
    if let Some(threshold) = checks.confidence_threshold {
        optimization.confidence_threshold = threshold.into();
    }
    if optimization != OptimizationControls::default() {
        policy.optimization = optimization.into();
    }
    if !checks.code_unit_tests.is_empty() {
        let mut verifiers: VerifierControls = policy.verifiers.value().cloned().unwrap_or_default();
        let mut enabled = verifiers.enabled.value().cloned().unwrap_or_default();
        if !enabled.iter().any(|name| name == "unit_tests") {
            enabled.push("unit_tests".to_owned());
        }
        verifiers.enabled = enabled.into();
        verifiers.code_language = "python".to_owned().into();
        verifiers.code_unit_tests = checks.code_unit_tests.clone().into();
        policy.verifiers = verifiers.into();
    }
    policy
}
