//! What candidates are judged by: one score, and the order among candidates.

use super::candidate::Candidate;
use mx_sampling::strategy::best_of;

/// The score of an output that nothing is wrong with.
pub const FULL_SCORE: f64 = 1.0;
/// Least score at which the verifiers accept an output.
pub const ACCEPTING_SCORE: f64 = 0.5;
/// The reason of an output that nothing is wrong with.
const ACCEPTED: &str = "accepted";
/// What a broken constraint costs.
pub const CONSTRAINT_PENALTY: f64 = 1.0;

/// The figures of one judged text.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Verdict {
    /// 1, less what failed.
    pub(crate) score: f64,
    /// Whether every constraint is satisfied.
    pub(crate) constraints_ok: bool,
    /// Whether every verifier accepts it.
    pub(crate) verifier_ok: bool,
    /// What failed, in words.
    pub(crate) reasons: Vec<Reason>,
}

/// What failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reason {
    /// In words.
    text: String,
    /// The same without what generated code said, where it said some of it: that is for whoever runs the code.
    outside: Option<String>,
}

impl Reason {
    /// What failed, for anybody.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Reason {
            text: text.into(),
            outside: None,
        }
    }

    /// What failed as generated code has it, and what may be said of it elsewhere.
    pub(crate) fn private(text: impl Into<String>, outside: impl Into<String>) -> Self {
        Reason {
            text: text.into(),
            outside: Some(outside.into()),
        }
    }

    /// The reason of a part of something.
    pub(crate) fn of(self, name: &str) -> Self {
        Reason {
            text: format!("{name}: {}", self.text),
            outside: self.outside.map(|outside| format!("{name}: {outside}")),
        }
    }
}

impl Verdict {
    /// The verdict over what failed: verifiers with their penalties, and the first broken constraint.
    pub(crate) fn new(failed: Vec<(f64, Reason)>, constraint: Option<String>) -> Self {
        let penalty: f64 = failed.iter().map(|(penalty, _)| penalty).sum();
        let verified = FULL_SCORE - penalty;
        let verifier_ok = failed.is_empty() && verified >= ACCEPTING_SCORE;
        let mut reasons: Vec<Reason> = failed.into_iter().map(|(_, reason)| reason).collect();
        let constraints_ok = constraint.is_none();
        reasons.splice(0..0, constraint.map(Reason::new));
        Verdict {
            score: verified
                - if constraints_ok {
                    0.0
                } else {
                    CONSTRAINT_PENALTY
                },
            constraints_ok,
            verifier_ok,
            reasons,
        }
    }

    /// The verdict over an output that was given up before its end.
    pub(crate) fn pruned() -> Self {
        Verdict {
            reasons: vec![Reason::new("given up early by branch_and_prune")],
            ..Verdict::default()
        }
    }

    /// Whether the output is accepted.
    pub(crate) fn accepted(&self) -> bool {
        self.constraints_ok && self.verifier_ok
    }

    /// The reasons in a line, or `accepted`.
    pub(crate) fn reason(&self) -> String {
        self.joined(|reason| &reason.text)
    }

    /// The same without what generated code said, for a prompt that leaves this machine.
    pub(crate) fn reason_outside(&self) -> String {
        self.joined(|reason| reason.outside.as_ref().unwrap_or(&reason.text))
    }

    fn joined(&self, text: impl Fn(&Reason) -> &String) -> String {
        let reasons: Vec<&str> = self
            .reasons
            .iter()
            .map(|reason| text(reason).as_str())
            .collect();
        match reasons.is_empty() {
            true => ACCEPTED.to_owned(),
            false => reasons.join(" | "),
        }
    }

    /// One more thing that failed, by a verifier.
    pub(crate) fn add(&mut self, penalty: f64, reason: Reason) {
        self.score -= penalty;
        self.verifier_ok = false;
        self.reasons.push(reason);
    }
}

/// The candidates' indices, best first: accepted before not accepted, then the larger score, then the larger mean
/// log-probability a token, then the one made first. Without `rerank` the first accepted one is best, else the first.
pub(crate) fn ranked(candidates: &[Candidate], rerank: bool) -> Vec<usize> {
    let figures = |candidate: &Candidate| best_of::Candidate {
        accepted: Some(candidate.accepted),
        score: rerank.then_some(candidate.score),
        mean_logprob: match rerank {
            true => candidate.mean_logprob.unwrap_or(f64::NEG_INFINITY),
            false => 0.0,
        },
    };
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    let mut best = Vec::with_capacity(left.len());
    loop {
        let figures: Vec<_> = left
            .iter()
            .map(|index| figures(&candidates[*index]))
            .collect();
        match best_of::select(&figures) {
            Some(at) => best.push(left.remove(at)),
            None => return best,
        }
    }
}
