//! Candidates of a local model: the rows of one run.

use super::generator::{Batch, Draft, Generator, Job, Sampling};
use crate::cancel::Cancel;
use crate::error::Error;
use crate::generation::{Choice, FinishReason};
use crate::pipeline::{Loaded, Plan, Resources, Run};
use crate::request::{Decoding, GenerateRequest, Method, Prompt, Settings, Voting};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A loaded model that makes candidates.
#[derive(Debug)]
pub(crate) struct LocalGenerator<'a> {
    model: Loaded,
    resources: &'a Resources,
    cancel: Cancel,
    began: Instant,
}

impl<'a> LocalGenerator<'a> {
    pub(crate) fn new(model: Loaded, resources: &'a Resources, cancel: Cancel) -> Self {
        LocalGenerator {
            model,
            resources,
            cancel,
            began: Instant::now(),
        }
    }
}

impl Generator for LocalGenerator<'_> {
    fn sampling(&self, request: &GenerateRequest) -> Result<Sampling, Error> {
        let settings = Settings::resolve(request, self.model.generation(), || 0, &mut Vec::new())?;
        let votes = settings
            .strategy
            .ensemble
            .is_some_and(|ensemble| ensemble.voting == Voting::Majority);
        let search = matches!(settings.strategy.decoding, Decoding::Beam(_));
        let deterministic = settings.method == Method::Greedy || search || votes;
        let drawn = settings.sampling.temperature.filter(|_| !deterministic);
        Ok(Sampling {
            temperature: drawn,
            top_p: settings.sampling.top_p.filter(|_| !deterministic),
            deterministic,
        })
    }

    fn converses(&self, request: &GenerateRequest) -> bool {
        match request.prompt {
            Prompt::Tokens(_) => false,
            Prompt::Chat(_) => true,
            Prompt::Text(_) => request.raw != Some(true) && self.model.chat_template().is_some(),
        }
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn largest_seed(&self) -> u64 {
        u64::MAX
    }

    fn generate(&mut self, job: &Job) -> Result<Batch, Error> {
        let mut request = job.request.clone();
        if job.rows > 1 {
            request.controls.n = Some(job.rows);
        }
        let added =
            (job.logprobs || job.prune_after.is_some()) && request.controls.logprobs.is_none();
        if added {
            request.controls.logprobs = Some(0);
        }
        let seed = request.seed.unwrap_or_default();
        let plan = Plan::with(self.model.clone(), self.resources, &request, || seed)?;
        let deadline = job
            .deadline
            .and_then(|deadline| self.began.checked_add(deadline));
        let mut run = Run::new(plan)?
            .with_cancel(self.cancel.clone())
            .with_deadline(deadline);
        let mut counts = vec![0usize; job.rows];
        let mut ended = vec![false; job.rows];
        let mut prune_after = job.prune_after;
        let mut pruned = Vec::new();
        while let Some(chunk) = run.next() {
            let chunk = chunk?;
            if let (Some(count), Some(ended)) =
                (counts.get_mut(chunk.index), ended.get_mut(chunk.index))
            {
                *count += usize::from(chunk.token.is_some());
                *ended |= chunk.finish_reason.is_some();
            }
            let far = |after: usize| {
                counts
                    .iter()
                    .zip(&ended)
                    .all(|(n, end)| *end || *n >= after)
            };
            if prune_after.is_some_and(far) {
                prune_after = None;
                pruned = run.keep_best(job.rows.div_ceil(2));
            }
        }
        let late = run.is_late();
        let mut answer = run.into_generation();
        let choices = match answer.choices.is_empty() {
            true => vec![Choice::from(&answer)],
            false => answer.choices.clone(),
        };
        let drafts = choices
            .iter()
            .enumerate()
            .map(|(row, choice)| Draft {
                text: choice.text.clone(),
                tokens: choice.tokens.len(),
                logprobs: choice.logprobs.iter().map(|token| token.logprob).collect(),
                finish_reason: choice.finish_reason,
                pruned: pruned.contains(&row) && choice.finish_reason == FinishReason::Cancelled,
            })
            .collect();
        if added {
            answer.logprobs.clear();
            answer.choices.iter_mut().for_each(|c| c.logprobs.clear());
            answer.settings.retain(|setting| setting.name != "logprobs");
        }
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
