//! The rule by which a policy is run.

mod witnesses;

use super::candidate::{Candidate, CandidateKind, confidence, mean_logprob};
use super::generator::{Batch, Generator, Job, Sampling};
use super::result::{Budget, RetryEvent};
use super::rules::Rules;
use super::score::{Verdict, ranked};
use super::seeds::step_seed;
use super::verify::Judge;
use crate::error::Error;
use crate::generation::{FinishReason, Generation, Warning};
use crate::request::{GenerateRequest, Message, Method, Prompt};
use mx_sampling::GREEDY_BELOW;
use mx_sampling::strategy::schedule::{cooled, diversified, scheduled};
use std::sync::Arc;
use std::time::Duration;
use witnesses::Witnesses;

/// Most tokens unless the request says otherwise, as for every request.
const DEFAULT_MAX_TOKENS: usize = 128;
/// The part of `max_tokens` after which `branch_and_prune` compares, and the least number of tokens.
const PRUNE_PART: usize = 4;
const PRUNE_LEAST: usize = 8;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Every candidate, in the order in which they were made.
    pub(crate) candidates: Vec<Candidate>,
    /// Their indices, best first.
    pub(crate) order: Vec<usize>,
    /// The answer of each candidate, and its place there.
    pub(crate) answers: Vec<(Arc<Generation>, usize)>,
    /// Why it went on after a round.
    pub(crate) events: Vec<RetryEvent>,
    /// What ended it early.
    pub(crate) budget: Option<Budget>,
    /// The winner's agreement with the witnesses.
    pub(crate) agreement: Option<f64>,
    /// Tokens of everything that was generated.
    pub(crate) total_tokens: usize,
    /// Whether `max_tokens` was lowered for the token budget.
    pub(crate) shortened: bool,
    pub(crate) warnings: Vec<Warning>,
}

impl Outcome {
    /// The winner.
    pub(crate) fn winner(&self) -> Option<&Candidate> {
        self.candidates.get(*self.order.first()?)
    }
}

/// Runs a request by these rules. `request` has a seed.
///
/// # Errors
/// [`Error`] of the generator or the judge.
pub(crate) fn conduct(
    generator: &mut dyn Generator,
    judge: &Judge,
    rules: &Rules,
    request: &GenerateRequest,
) -> Result<Outcome, Error> {
    let began = generator.now();
    let mut sampling = generator.sampling(request)?;
    sampling.deterministic |= is_still(&sampling, rules);
    let mut run = Conduct {
        sampling,
        deadline: rules.latency.map(|latency| began.saturating_add(latency)),
        generator,
        judge,
        rules,
        seed: request.seed.unwrap_or_default(),
        witnesses: None,
        agreements: Vec::new(),
        outside: Vec::new(),
        out: Outcome {
            candidates: Vec::new(),
            order: Vec::new(),
            answers: Vec::new(),
            events: Vec::new(),
            budget: None,
            agreement: None,
            total_tokens: 0,
            shortened: false,
            warnings: Vec::new(),
        },
        round: 0,
    };
    run.rounds(request)?;
    run.repairs(request)?;
    run.fallbacks(request)?;
    run.revisions(request)?;
    run.rank();
    let mut out = run.out;
    if let Some(best) = out.order.first() {
        out.agreement = run.agreements.get(*best).copied().flatten();
    }
    if let (Some(threshold), Some(winner)) = (rules.confidence, out.winner())
        && let Some(confidence) = winner.confidence.filter(|c| *c < threshold)
    {
        let message = format!("the output's confidence {confidence:.3} is below {threshold}");
        out.warnings.push(Warning::new("low_confidence", message));
    }
    Ok(out)
}

/// A run in progress.
struct Conduct<'a> {
    generator: &'a mut dyn Generator,
    judge: &'a Judge,
    rules: &'a Rules,
    sampling: Sampling,
    deadline: Option<Duration>,
    seed: u64,
    /// Further samples for self-consistency, once they are drawn.
    witnesses: Option<Witnesses>,
    /// Agreement of every candidate with them.
    agreements: Vec<Option<f64>>,
    /// What every candidate is told that it failed in, without what generated code said.
    outside: Vec<String>,
    out: Outcome,
    /// The next round's number.
    round: usize,
}

/// What a step's candidates are made with, beyond the request.
struct Step {
    kind: CandidateKind,
    first_slot: usize,
    slots: Vec<usize>,
    sampling: Sampling,
}

impl Conduct<'_> {
    /// Rounds of the policy's own method, cooled from one to the next.
    fn rounds(&mut self, request: &GenerateRequest) -> Result<(), Error> {
        let mut running = self.sampling;
        let repeats = self.sampling.deterministic && self.rules.candidates > 1;
        if repeats && !is_search(request) {
            let message =
                "one candidate a round is made: the method draws nothing, all would be the same";
            self.out.warnings.push(Warning::new("no_effect", message));
        }
        if self.rules.prune && (self.rules.candidates == 1 || self.sampling.deterministic) {
            let message = "branch_and_prune has no effect: there are no rows to choose among";
            self.out.warnings.push(Warning::new("no_effect", message));
        } else if self.rules.prune && !self.generator.prunes() {
            let message =
                "branch_and_prune has no effect: a server's rows come when they are finished";
            self.out.warnings.push(Warning::new("no_effect", message));
        }
        for retry in 0..self.rules.rounds {
            self.candidates(request, running)?;
            let Some(trigger) = self.unsatisfied() else {
                return Ok(());
            };
            if self.is_over() || retry + 1 == self.rules.rounds {
                return Ok(());
            }
            if self.sampling.deterministic {
                let message =
                    "no further round is made: the method draws nothing, it would be the same";
                self.out.warnings.push(Warning::new("no_effect", message));
                return Ok(());
            }
            self.note(trigger);
            let number = u32::try_from(retry + 1).unwrap_or(u32::MAX);
            let (temperature, top_p) = (running.temperature, running.top_p);
            let cold = cooled(temperature.unwrap_or(0.0), top_p.unwrap_or(1.0), number);
            running.temperature = temperature.map(|_| cold.0);
            running.top_p = top_p.map(|_| cold.1);
        }
        Ok(())
    }

    /// The candidates of one round; those of equal settings are rows of one request.
    fn candidates(&mut self, request: &GenerateRequest, running: Sampling) -> Result<(), Error> {
        let rules = self.rules;
        let count = match self.sampling.deterministic && !is_search(request) {
            true => 1,
            false => rules.candidates,
        };
        let mut steps: Vec<Step> = Vec::new();
        for slot in 0..count {
            let at = |schedule: &[f64]| scheduled(schedule, self.round, slot, count);
            let mut sampling = running;
            if let Some(value) = at(&rules.temperatures) {
                sampling.temperature = Some(value);
            }
            if let Some(value) = at(&rules.top_ps) {
                sampling.top_p = Some(value);
            }
            if rules.diversity > 0.0 {
                sampling.temperature = sampling
                    .temperature
                    .map(|t| diversified(t, slot, rules.diversity));
            }
            match steps.iter_mut().find(|step| step.sampling == sampling) {
                Some(step) => step.slots.push(slot),
                None => steps.push(Step {
                    kind: CandidateKind::Round,
                    first_slot: slot,
                    slots: vec![slot],
                    sampling,
                }),
            }
        }
        for step in steps {
            if !self.out.candidates.is_empty() && self.is_over() {
                break;
            }
            let mut asked = request.clone();
            if step.sampling.temperature != self.sampling.temperature {
                asked.sampling.temperature = step.sampling.temperature;
            }
            if step.sampling.top_p != self.sampling.top_p {
                asked.sampling.top_p = step.sampling.top_p;
            }
            self.step(asked, &step)?;
        }
        self.round += 1;
        Ok(())
    }

    /// Further tries that are told what was wrong with the best one so far.
    fn repairs(&mut self, request: &GenerateRequest) -> Result<(), Error> {
        for _ in 0..self.rules.repairs {
            if self.is_accepted() || self.is_over() {
                return Ok(());
            }
            let Some(best) = self.best() else {
                return Ok(());
            };
            let at = self.out.order.first().copied().unwrap_or_default();
            let reason = match self.generator.is_remote() {
                true => self.outside.get(at).cloned().unwrap_or_default(),
                false => best.reason,
            };
            let feedback = format!(
                "This answer was not accepted: {reason}. Answer again, and get that right."
            );
            let told = self.follow_up(request, &best.output, &feedback);
            let Some(told) = told else {
                let message = "no repair is tried: tokens as a prompt take no further message";
                self.out
                    .warnings
                    .push(Warning::new("repair_skipped", message));
                return Ok(());
            };
            self.note("repair");
            self.single(told, CandidateKind::Repair)?;
        }
        Ok(())
    }

    /// One round of each further method.
    fn fallbacks(&mut self, request: &GenerateRequest) -> Result<(), Error> {
        for method in &self.rules.fallback {
            if self.is_accepted() || self.is_over() {
                return Ok(());
            }
            self.note("fallback");
            let mut asked = request.clone();
            asked.sampling_method = Some(*method);
            self.single(asked, CandidateKind::Fallback)?;
        }
        Ok(())
    }

    /// Revisions of what was accepted; each one that is accepted with no smaller score takes its place.
    fn revisions(&mut self, request: &GenerateRequest) -> Result<(), Error> {
        for _ in 0..self.rules.revisions {
            if !self.is_accepted() || self.is_over() {
                return Ok(());
            }
            let Some(best) = self.best() else {
                return Ok(());
            };
            let ask = "Look over this answer. Correct what is wrong in it, keep what is right, and give the whole \
                       answer again and nothing else.";
            let Some(told) = self.follow_up(request, &best.output, ask) else {
                let message = "no revision is made: tokens as a prompt take no further message";
                self.out
                    .warnings
                    .push(Warning::new("revision_skipped", message));
                return Ok(());
            };
            self.note("revision");
            self.single(told, CandidateKind::Revision)?;
        }
        Ok(())
    }

    /// One more candidate, in a round of its own.
    fn single(&mut self, request: GenerateRequest, kind: CandidateKind) -> Result<(), Error> {
        let sampling = self.generator.sampling(&request)?;
        let step = Step {
            kind,
            first_slot: 0,
            slots: vec![0],
            sampling,
        };
        self.step(request, &step)?;
        self.round += 1;
        Ok(())
    }

    /// Makes and judges the candidates of one step.
    fn step(&mut self, mut request: GenerateRequest, step: &Step) -> Result<(), Error> {
        let rules = self.rules;
        let largest = self.generator.largest_seed();
        let seed = step_seed(self.seed, self.round, step.first_slot, largest);
        request.seed = Some(seed);
        let Some(rows) = self.afford(&mut request, step.slots.len()) else {
            return Ok(());
        };
        let most = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        let many = rules.candidates > 1 || rules.rounds > 1 || rules.revisions > 0;
        let job = Job {
            rows,
            needs_logprobs: rules.confidence.is_some(),
            logprobs: rules.confidence.is_some() || (many && rules.rerank),
            deadline: self.deadline,
            may_be_lost: !self.out.candidates.is_empty(),
            prune_after: (rules.prune
                && self.generator.prunes()
                && rows > 1
                && !self.sampling.deterministic)
                .then(|| (most / PRUNE_PART).max(PRUNE_LEAST)),
            request,
        };
        let started = self.generator.now();
        let batch = self.generator.generate(&job)?;
        let took = self.generator.now().saturating_sub(started);
        if batch.late {
            self.out.budget = Some(Budget::LatencyBudgetMs);
        }
        self.take(&job, step, seed, took, batch)
    }

    /// Judges what a job made.
    fn take(
        &mut self,
        job: &Job,
        step: &Step,
        seed: u64,
        took: Duration,
        batch: Batch,
    ) -> Result<(), Error> {
        let method = job.request.sampling_method.unwrap_or_default();
        if self.rules.confidence.is_some()
            && batch.drafts.iter().all(|draft| draft.logprobs.is_empty())
            && batch.drafts.iter().any(|draft| draft.tokens > 0)
        {
            return Err(Error::unsupported(
                "confidence_triggered_regeneration",
                "whoever generates gives no log-probabilities of its tokens",
            ));
        }
        // Before the first is judged: what is left of the budget is what further samples may take.
        self.out.total_tokens += batch.drafts.iter().map(|draft| draft.tokens).sum::<usize>();
        for (row, draft) in batch.drafts.into_iter().enumerate() {
            let mut verdict = match draft.pruned {
                true => Verdict::pruned(),
                false => self.judge.judge(&draft.text)?,
            };
            let agreement = match draft.pruned {
                true => None,
                false => self.consistency(job, &draft.text, &mut verdict)?,
            };
            if self.out.shortened && draft.finish_reason == FinishReason::Length {
                self.out.budget.get_or_insert(Budget::TokenBudget);
            }
            let candidate = Candidate {
                latency_ms: took.as_millis() as u64,
                tokens: draft.tokens,
                sampling_method: method.name().to_owned(),
                round: self.round,
                slot: step.slots.get(row).copied().unwrap_or(row),
                kind: step.kind,
                temperature: step.sampling.temperature,
                top_p: step.sampling.top_p,
                seed,
                stream: row,
                mean_logprob: mean_logprob(&draft.logprobs),
                confidence: confidence(&draft.logprobs),
                finish_reason: draft.finish_reason,
                pruned: draft.pruned,
                output: draft.text,
                accepted: false,
                score: 0.0,
                constraints_ok: false,
                verifier_ok: false,
                reason: String::new(),
            }
            .judged(&verdict);
            self.agreements.push(agreement);
            self.outside.push(verdict.reason_outside());
            self.out.candidates.push(candidate);
            self.out.answers.push((Arc::clone(&batch.answer), row));
        }
        Ok(())
    }

    /// Rows that the token budget leaves, with `max_tokens` lowered so that they fit; `None` where nothing is left.
    fn afford(&mut self, request: &mut GenerateRequest, rows: usize) -> Option<usize> {
        let Some(budget) = self.rules.tokens else {
            return Some(rows);
        };
        let left = budget.saturating_sub(self.out.total_tokens);
        if left == 0 {
            self.out.budget.get_or_insert(Budget::TokenBudget);
            return None;
        }
        let rows = rows.min(left);
        let share = left / rows;
        let asked = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        if share < asked {
            request.max_tokens = Some(share);
            self.out.shortened = true;
        }
        Some(rows)
    }

    /// The request with an answer and a further message behind its prompt.
    fn follow_up(
        &self,
        request: &GenerateRequest,
        answer: &str,
        message: &str,
    ) -> Option<GenerateRequest> {
        let mut next = request.clone();
        let said = |mut messages: Vec<Message>| {
            messages.push(Message::new("assistant", answer));
            messages.push(Message::new("user", message));
            Prompt::Chat(messages)
        };
        next.prompt = match &request.prompt {
            Prompt::Tokens(_) => return None,
            Prompt::Chat(messages) => said(messages.clone()),
            Prompt::Text(text) if self.generator.converses(request) => {
                said(vec![Message::new("user", text)])
            }
            Prompt::Text(text) => Prompt::Text(format!("{text}{answer}\n\n{message}\n\n")),
        };
        Some(next)
    }

    /// Why the run must go on: the best candidate is not accepted, or the model does not believe in it.
    fn unsatisfied(&mut self) -> Option<&'static str> {
        self.rank();
        let winner = self.out.winner()?;
        if !winner.accepted {
            return Some("accepted=false");
        }
        let threshold = self.rules.confidence?;
        (winner.confidence.unwrap_or(0.0) < threshold).then_some("confidence")
    }

    fn is_accepted(&mut self) -> bool {
        self.rank();
        self.out.winner().is_some_and(|winner| winner.accepted)
    }

    fn best(&mut self) -> Option<Candidate> {
        self.rank();
        self.out.winner().cloned()
    }

    fn note(&mut self, trigger: &'static str) {
        let winner_score = self.out.winner().map_or(0.0, |winner| winner.score);
        self.out.events.push(RetryEvent {
            round: self.round,
            trigger,
            winner_score,
        });
    }

    /// Whether a budget is used up, or the caller wants no more.
    fn is_over(&mut self) -> bool {
        if self
            .deadline
            .is_some_and(|deadline| self.generator.now() >= deadline)
        {
            self.out.budget = Some(Budget::LatencyBudgetMs);
        }
        if self
            .rules
            .tokens
            .is_some_and(|budget| self.out.total_tokens >= budget)
        {
            self.out.budget.get_or_insert(Budget::TokenBudget);
        }
        self.out.budget.is_some() || self.generator.is_cancelled()
    }

    /// Orders the candidates; of the revisions the last acceptable one stands first.
    fn rank(&mut self) {
        let candidates = &self.out.candidates;
        let mut order = ranked(candidates, self.rules.rerank);
        let score = order.first().map(|best| candidates[*best].score);
        let revised = candidates.iter().rposition(|candidate| {
            candidate.kind == CandidateKind::Revision
                && candidate.accepted
                && Some(candidate.score) >= score
        });
        if let Some(revised) = revised {
            order.retain(|index| *index != revised);
            order.insert(0, revised);
        }
        self.out.order = order;
    }
}

/// Whether no candidate of any round is drawn, since no temperature is above 0.
fn is_still(sampling: &Sampling, rules: &Rules) -> bool {
    let is_zero = |temperature: &f64| *temperature < GREEDY_BELOW;
    let diverse = rules.diversity > 0.0 && rules.candidates > 1;
    !diverse
        && match rules.temperatures.is_empty() {
            true => sampling.temperature.as_ref().is_some_and(is_zero),
            false => rules.temperatures.iter().all(is_zero),
        }
}

/// Whether several outputs of one request differ although nothing is drawn.
fn is_search(request: &GenerateRequest) -> bool {
    matches!(
        request.sampling_method,
        Some(Method::Beam | Method::ConstrainedBeam)
    )
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
