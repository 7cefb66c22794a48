//! The verifier `factuality`: further samples with which every candidate is compared.

use super::super::generator::Job;
use super::super::score::{Reason, Verdict};
use super::super::seeds::step_seed;
use super::super::verify::{ENOUGH, Verifier, WITNESSES, agreement};
use super::{Budget, Conduct, GenerateRequest};
use crate::error::Error;
use crate::request::{Method, Voting};
use mx_sampling::GREEDY_BELOW;

/// The round from which the witnesses' seed is made; no run has so many.
const WITNESS_ROUND: usize = u32::MAX as usize;
/// Temperature of witnesses where the request draws nothing.
const WITNESS_TEMPERATURE: f64 = 0.7;

/// Further samples of a run.
#[derive(Debug)]
pub(super) enum Witnesses {
    /// Their texts.
    Drawn(Vec<String>),
    /// Why there are none.
    Missing(&'static str),
}

impl Conduct<'_> {
    /// Compares an output with further samples, which are drawn once. What cannot be compared is not verified.
    pub(super) fn consistency(
        &mut self,
        job: &Job,
        output: &str,
        verdict: &mut Verdict,
    ) -> Result<Option<f64>, Error> {
        let verifier = Verifier::Factuality;
        if !self.rules.verifiers.contains(&verifier) {
            return Ok(None);
        }
        if self.witnesses.is_none() {
            self.witnesses = Some(self.draw(job)?);
        }
        let (share, reason) = match &self.witnesses {
            Some(Witnesses::Drawn(texts)) => {
                let share = agreement(output, texts);
                let reason = format!(
                    "{:.0} % of the output's claims come back in {} further samples",
                    share * 100.0,
                    texts.len()
                );
                (Some(share), reason)
            }
            Some(Witnesses::Missing(why)) => (None, format!("not checked: {why}")),
            None => (None, "not checked".to_owned()),
        };
        if share.is_none_or(|share| share < ENOUGH) {
            verdict.add(verifier.penalty(), Reason::new(reason).of(verifier.name()));
        }
        Ok(share)
    }

    fn draw(&mut self, job: &Job) -> Result<Witnesses, Error> {
        let mut request = job.request.clone();
        request.seed = Some(step_seed(
            self.seed,
            WITNESS_ROUND,
            0,
            self.generator.largest_seed(),
        ));
        request.include_trace = None;
        let sampling = self.generator.sampling(&request)?;
        let is_zero = sampling.temperature.is_some_and(|t| t < GREEDY_BELOW);
        if sampling.deterministic || is_zero {
            draws(&mut request);
        }
        let Some(rows) = self.afford(&mut request, WITNESSES) else {
            return Ok(Witnesses::Missing("token_budget leaves no further sample"));
        };
        let batch = self.generator.generate(&Job {
            request,
            rows,
            logprobs: false,
            needs_logprobs: false,
            deadline: self.deadline,
            may_be_lost: true,
            prune_after: None,
        })?;
        self.out.total_tokens += batch.drafts.iter().map(|draft| draft.tokens).sum::<usize>();
        if batch.late {
            self.out.budget = Some(Budget::LatencyBudgetMs);
            return Ok(Witnesses::Missing(
                "latency_budget_ms ended the further samples",
            ));
        }
        if self.generator.is_cancelled() {
            return Ok(Witnesses::Missing("the caller stopped the further samples"));
        }
        let texts = batch.drafts.into_iter().map(|draft| draft.text);
        Ok(Witnesses::Drawn(texts.collect()))
    }
}

/// Makes a request that gives the same tokens every time one that draws them: by top-p, and of an ensemble from the mean
/// of its models' laws instead of their votes.
fn draws(request: &mut GenerateRequest) {
    request.sampling.temperature = Some(WITNESS_TEMPERATURE);
    let controls = &mut request.controls;
    if controls.ensemble_models.is_empty() {
        request.sampling_method = Some(Method::TopP);
    } else {
        controls.voting = Some(Voting::Average);
    }
    controls.beam_width = None;
    controls.length_penalty = None;
}
