//! What a run of a policy gives.

use super::candidate::Candidate;
use crate::generation::{Generation, Warning};
use crate::request::Setting;
use serde::Serialize;
use serde_json::{Map, Value};

/// The answer to a run of a policy. Its first nine fields are those of the service's contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PolicyRun {
    /// The text of the winner.
    pub output: String,
    /// Whether constraints and verifiers accept it.
    pub accepted: bool,
    /// The policy's id, if it has one.
    pub policy_id: Option<String>,
    /// The winner's [score](crate::policy#score).
    pub score: f64,
    /// Milliseconds of the whole run.
    pub latency_ms: u64,
    /// Tokens of the winner.
    pub tokens: usize,
    /// Whether the winner satisfies every constraint.
    pub constraints_ok: bool,
    /// Whether every verifier accepts the winner.
    pub verifier_ok: bool,
    /// Every candidate and what was decided, where it was asked for.
    pub trace: Option<PolicyTrace>,
    /// The winner's [confidence](crate::policy#confidence), where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// What failed, parted by ` | `, or `accepted`.
    pub reason: String,
    /// Tokens of all candidates.
    pub total_tokens: usize,
    /// The budget that ended the run early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// What was ignored, replaced or cut.
    pub warnings: Vec<Warning>,
    /// The winner as an answer to a request, with the settings it was made with; `None` for an answer of the service.
    #[serde(skip)]
    pub generation: Option<Box<Generation>>,
}

/// A limit of the policy that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Budget {
    /// `objective.latency_budget_ms`.
    LatencyBudgetMs,
    /// `objective.token_budget`.
    TokenBudget,
}

impl Budget {
    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Budget::LatencyBudgetMs => "latency_budget_ms",
            Budget::TokenBudget => "token_budget",
        }
    }
}

/// What happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum PolicyTrace {
    /// A run on this machine.
    Local(Box<LocalTrace>),
    /// What the service wrote.
    Remote(Map<String, Value>),
}

/// What happened in a run on this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LocalTrace {
    /// The policy's name.
    pub policy_name: Option<String>,
    /// Every output, in the order in which they were made.
    pub candidates: Vec<Candidate>,
    /// Why the run went on after a round.
    pub retry_events: Vec<RetryEvent>,
    /// The winner.
    pub selection: Option<Candidate>,
    /// The seed from which the steps' seeds follow.
    pub seed: u64,
    /// The values that the run went by, with their origins.
    pub settings: Vec<Setting>,
    /// Share of the winner's statements that further samples repeat, where `factuality` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

/// Why a run went on after a round.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RetryEvent {
    /// The round that ended, from 1.
    pub round: usize,
    /// `confidence`, `accepted=false`, `repair`, `fallback` or `revision`.
    pub trigger: &'static str,
    /// Score of the best candidate then.
    pub winner_score: f64,
}
