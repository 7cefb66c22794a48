//! Measuring policies over prompts, and searching for a better one.

use super::result::PolicyRun;
use super::{Nullable, Policy, SamplingControls};
use crate::error::Error;
use mx_sampling::Method;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Combinations tried unless told otherwise.
pub const DEFAULT_TRIALS: usize = 24;
/// Most combinations that can be asked for.
pub const MAX_TRIALS: usize = 10_000;
/// The fields that can be searched, in nesting order: the last one changes fastest.
const SEARCHED: [&str; 4] = [
    "sampling.method",
    "sampling.temperature",
    "sampling.top_p",
    "optimization.best_of_n",
];

/// How a policy did on some prompts.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// Prompts run.
    pub num_prompts: usize,
    /// Share of them whose output was accepted.
    pub success_rate: f64,
    /// Mean milliseconds a run.
    pub avg_latency_ms: f64,
    /// Mean tokens of the outputs.
    pub avg_tokens: f64,
    /// Runs accepted.
    pub pass_count: usize,
    /// Runs not accepted.
    pub fail_count: usize,
    /// The runs.
    pub outputs: Vec<PolicyRun>,
}

impl Evaluation {
    /// The figures of these runs.
    pub fn new(outputs: Vec<PolicyRun>) -> Self {
        let pass_count = outputs.iter().filter(|run| run.accepted).count();
        let mean = |figure: fn(&PolicyRun) -> f64| {
            outputs.iter().map(figure).sum::<f64>() / outputs.len().max(1) as f64
        };
        Evaluation {
            num_prompts: outputs.len(),
            success_rate: pass_count as f64 / outputs.len().max(1) as f64,
            avg_latency_ms: mean(|run| run.latency_ms as f64),
            avg_tokens: mean(|run| run.tokens as f64),
            pass_count,
            fail_count: outputs.len() - pass_count,
            outputs,
        }
    }

    /// Mean score of the runs.
    pub fn avg_score(&self) -> f64 {
        let sum: f64 = self.outputs.iter().map(|run| run.score).sum();
        sum / self.outputs.len().max(1) as f64
    }
}

/// One policy of a search, and how it did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Trial {
    /// The policy.
    pub policy: Policy,
    /// Share of the runs that was accepted.
    pub success_rate: f64,
    /// Mean score.
    pub avg_score: f64,
    /// Mean milliseconds a run.
    pub avg_latency_ms: f64,
    /// Runs accepted.
    pub pass_count: usize,
    /// Runs not accepted.
    pub fail_count: usize,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Tuned {
    /// The best policy: the highest success rate, then score, then the lowest latency, then the first one tried.
    pub best_policy: Policy,
    /// How it did.
    pub best_trial: Trial,
    /// How all did, in the order of the grid.
    pub trials: Vec<Trial>,
}

/// What is searched, and how far.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Search {
    /// Values to try, by dotted field.
    pub space: BTreeMap<String, Vec<Value>>,
    /// Most combinations; 24 unless given.
    pub max_trials: Option<usize>,
}

impl Search {
    /// A search over nothing.
    pub fn new() -> Self {
        Search::default()
    }

    /// Values to try for a field: `sampling.method`, `sampling.temperature`, `sampling.top_p` or
    /// `optimization.best_of_n`.
    pub fn over(
        mut self,
        field: impl Into<String>,
        values: impl IntoIterator<Item = impl Into<Value>>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.space.insert(field.into(), values);
        self
    }

    /// Tries so many combinations at most.
    pub fn max_trials(mut self, trials: usize) -> Self {
        self.max_trials = Some(trials);
        self
    }

    /// The policies to try, in the order of the grid, cut at the limit.
    ///
    /// # Errors
    /// [`Error::UnknownField`] for a field that cannot be searched, [`Error::Request`] for a value that the field cannot
    /// have.
    pub fn grid(&self, base: &Policy) -> Result<Vec<Policy>, Error> {
        if let Some(field) = self.space.keys().find(|f| !SEARCHED.contains(&f.as_str())) {
            return Err(Error::UnknownField {
                field: format!("search_space.{field}"),
            });
        }
        let most = self.max_trials.unwrap_or(DEFAULT_TRIALS);
        if !(1..=MAX_TRIALS).contains(&most) {
            let wanted = format!("1 to {MAX_TRIALS}");
            return Err(Error::request("max_trials", most, wanted));
        }
        let mut policies = vec![base.clone()];
        for field in SEARCHED {
            let Some(values) = self.space.get(field).filter(|values| !values.is_empty()) else {
                continue;
            };
            // The last fields change fastest: what is cut here would be cut at the end.
            let mut next = Vec::new();
            'grown: for policy in &policies {
                for value in values {
                    if next.len() == most {
                        break 'grown;
                    }
                    let mut policy = policy.clone();
                    set(&mut policy, field, value)?;
                    next.push(policy);
                }
            }
            policies = next;
        }
        policies.truncate(most);
        Ok(policies)
    }
}

/// Sets a searched field.
fn set(policy: &mut Policy, field: &str, value: &Value) -> Result<(), Error> {
    let wrong = |wanted: &str| Error::request(&format!("search_space.{field}"), value, wanted);
    if field == "optimization.best_of_n" {
        let n = value.as_i64().ok_or_else(|| wrong("a whole number"))?;
        let mut block = taken(&mut policy.optimization);
        block.best_of_n = n.into();
        policy.optimization = block.into();
        return Ok(());
    }
    let mut block: SamplingControls = taken(&mut policy.sampling);
    match field {
        "sampling.method" => {
            let name = value.as_str().ok_or_else(|| wrong("a method's name"))?;
            Method::from_name(name)?;
            block.method = name.to_owned().into();
        }
        "sampling.temperature" => {
            block.temperature = value.as_f64().ok_or_else(|| wrong("a number"))?.into();
        }
        _ => block.top_p = value.as_f64().ok_or_else(|| wrong("a number"))?.into(),
    }
    policy.sampling = block.into();
    Ok(())
}

/// A block taken out of a policy, empty where it is absent.
fn taken<T: Default>(place: &mut Nullable<T>) -> T {
    match std::mem::replace(place, Nullable::Absent) {
        Nullable::Value(block) => block,
        _ => T::default(),
    }
}

/// Runs every policy of a search and names the best.
///
/// # Errors
/// [`Error::Request`] without prompts; the first error of a run.
pub(crate) fn tune(
    policies: Vec<Policy>,
    mut evaluate: impl FnMut(&Policy) -> Result<Evaluation, Error>,
) -> Result<Tuned, Error> {
    let mut trials: Vec<Trial> = Vec::with_capacity(policies.len());
    for policy in policies {
        let found = evaluate(&policy)?;
        trials.push(Trial {
            success_rate: found.success_rate,
            avg_score: found.avg_score(),
            avg_latency_ms: found.avg_latency_ms,
            pass_count: found.pass_count,
            fail_count: found.fail_count,
            policy,
        });
    }
    let better = |new: &Trial, old: &Trial| {
        let order = new
            .success_rate
            .total_cmp(&old.success_rate)
            .then(new.avg_score.total_cmp(&old.avg_score))
            .then(old.avg_latency_ms.total_cmp(&new.avg_latency_ms));
        order.is_gt()
    };
    let mut best: Option<&Trial> = None;
    for trial in &trials {
        if best.is_none_or(|best| better(trial, best)) {
            best = Some(trial);
        }
    }
    let best = best
        .cloned()
        .ok_or_else(|| Error::request("search_space", "empty", "at least one combination"))?;
    Ok(Tuned {
        best_policy: best.policy.clone(),
        best_trial: best,
        trials,
    })
}
