//! One output that a run made, and what became of it.

use super::score::Verdict;
use crate::generation::FinishReason;
use serde::Serialize;

/// Why an output was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CandidateKind {
    /// A round of the policy's own method.
    Round,
    /// A second try that is told what was wrong with the first.
    Repair,
    /// One of `fallback_methods`.
    Fallback,
    /// A revision of what was accepted.
    Revision,
}

/// One output that a run made, as its trace shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Candidate {
    /// The text.
    pub output: String,
    /// Whether constraints and verifiers accept it.
    pub accepted: bool,
    /// Its [score](crate::policy#score).
    pub score: f64,
    /// Milliseconds that the step took which made it; the rows of one step share it.
    pub latency_ms: u64,
    /// Tokens generated.
    pub tokens: usize,
    /// Whether every constraint is satisfied.
    pub constraints_ok: bool,
    /// Whether every verifier accepts it.
    pub verifier_ok: bool,
    /// What failed, parted by ` | `, or `accepted`.
    pub reason: String,
    /// The sampling method.
    pub sampling_method: String,
    /// The round, from 0; repairs, fallbacks and revisions go on counting.
    pub round: usize,
    /// The slot within the round, from 0.
    pub slot: usize,
    /// Why it was made.
    pub kind: CandidateKind,
    /// The temperature, where tokens are drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The top_p, where one acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The seed of its step.
    pub seed: u64,
    /// The random stream of that seed.
    pub stream: usize,
    /// Mean log-probability a token under the model's own law, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_logprob: Option<f64>,
    /// Its [confidence](crate::policy#confidence), where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Whether it was given up early by `branch_and_prune`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pruned: bool,
}

impl Candidate {
    pub(crate) fn judged(mut self, verdict: &Verdict) -> Self {
        self.accepted = verdict.accepted();
        self.score = verdict.score;
        self.constraints_ok = verdict.constraints_ok;
        self.verifier_ok = verdict.verifier_ok;
        self.reason = verdict.reason();
        self
    }
}

/// The geometric mean of the tokens' probabilities under the model's own law, `exp(Σ ln p / n)`: a probability. `None`
/// without tokens.
pub(crate) fn confidence(logprobs: &[f64]) -> Option<f64> {
    (!logprobs.is_empty()).then(|| mean(logprobs).exp().clamp(0.0, 1.0))
}

/// Mean of the tokens' log-probabilities; `None` without tokens.
pub(crate) fn mean_logprob(logprobs: &[f64]) -> Option<f64> {
    (!logprobs.is_empty()).then(|| mean(logprobs))
}

fn mean(logprobs: &[f64]) -> f64 {
    logprobs.iter().sum::<f64>() / logprobs.len() as f64
}
