//! Policies: how candidates of an answer are made, constrained, judged, chosen, and made again.
//!
//! A [`Policy`] is the object of the service's contract; it is saved, listed and run here as there. A request that gives
//! a `policy`, a `policy_id` or any other of the [`Checks`] is run by one:
//!
//! ```no_run
//! # fn ask(client: &mx::Client) -> Result<(), mx::Error> {
//! use mx::policy::constructors::strict_json_extraction;
//!
//! let schema = serde_json::json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
//! let policy = strict_json_extraction(&schema, "people")?;
//! let run = client.policies().run("Ada Lovelace wrote the first program.", &policy)?;
//! println!("{} (accepted: {}, score {})", run.output, run.accepted, run.score);
//! let id = client.policies().save(&policy)?;
//! let answer = client.request("Grace Hopper found a moth.").policy_id(id).run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # The rule
//!
//! 1. A round makes `max(best_of_n, num_candidates)` candidates. Those of equal settings are rows of one request, so they
//!    cost little more than one. An adaptive schedule gives a candidate the temperature or top_p at index
//!    `round · candidates + slot`, the last one for all that follow; `diversity_strength` d then adds `(slot mod 3) · 0.1 · d`
//!    to the temperature of every slot but the first, within 0.05 to 2.
//! 2. Every candidate is judged. The winner is the best of all rounds: accepted before not accepted, then the higher
//!    score, then the higher mean log-probability a token, then the one made first. Without `rerank` the first accepted
//!    one wins.
//! 3. The run ends when the winner is accepted and, under `confidence_triggered_regeneration`, its confidence reaches the
//!    threshold, or after `1 + retry_on_failure` rounds (at least 2 with a confidence). Before retry r the temperature falls
//!    by 0.08 r (not below 0.05) and top_p by 0.04 r (not below 0.2), from the values of the round before.
//! 4. If nothing was accepted by then: up to `max_retries` repairs (`repair_on_failure`), each told what was wrong with the
//!    best output so far; then one round of each of `fallback_methods`.
//! 5. `self_revision_loops` times an accepted output is handed back to be revised; a revision that is accepted with no
//!    smaller score takes its place.
//!
//! A sampling block that states both `top_k` and `top_p`, as a whole object of the contract does, activates of the two
//! what is the method's own or is not the contract's default (50, 0.9). Where no temperature is above 0 nothing is drawn:
//! no further candidate and no retry is made, and nothing gets warmer.
//!
//! `branch_and_prune` compares the rows of a round after a quarter of `max_tokens` (at least 8 tokens) by their mean
//! log-probability and ends the weaker half (not of a server's rows, which come when they are finished).
//! `latency_budget_ms` is looked at after every token, and ends the wait for a server; `token_budget` bounds the
//! tokens of all candidates together: a step shares what is left equally among its rows. The result says which budget ended
//! it.
//!
//! The seed of a step follows from the run's seed, the round and the slot, and stands in the trace: the same request,
//! policy and seed give the same result, but for a latency budget. The first step has the run's own seed, so an
//! empty policy gives what no policy gives.
//!
//! # Score
//!
//! 1, less the penalties of the verifiers that fail, less 1 when a constraint is broken. An output is accepted when no
//! verifier fails and no constraint is broken.
//!
//! | verifier | passes when | penalty |
//! |---|---|---|
//! | `syntax` | the output is JSON, or holds a JSON object, where JSON is asked for | 0.7 |
//! | `json_schema` | that JSON satisfies the schema | 0.7 |
//! | `regex` | the pattern occurs | 0.4 |
//! | `grammar` | the grammar derives the output | 0.7 |
//! | `required_fields` | the JSON object has the fields | 0.7 |
//! | `forbidden_terms` | none of them occurs, in whatever case | 0.7 |
//! | `tool_args` | the output is a tool call, with arguments as `tool_schema` has them | 0.7 |
//! | `code_compile` | its Python compiles (first fenced block, else all of it) | 0.8 |
//! | `unit_tests` | every test runs after its Python without an error | 0.9 |
//! | `factuality` | 4 further samples repeat at least half of its claims | 0.6 |
//!
//! Constraints are masks upon every token where that can be, and are checked again at the end. One constraint can be a
//! mask: JSON Schema (with `json_mode`, `required_fields` and `tool_schema` made part of it), else the pattern, else the
//! grammar; `forbidden_terms` alone or beside a pattern are part of the mask, and the others are checked when an output
//! is finished. A policy's `regex_pattern` is what the whole output matches, as a request's is; where no mask acts it
//! is searched for.
//!
//! `factuality` compares the numbers, names and longer words of an output with those of further samples: a model that
//! knows something says it again. It measures how sure the model is, not whether it is right. Where the request draws
//! nothing, the further samples are drawn all the same (by top-p at temperature 0.7, of an ensemble from the mean of its
//! laws); where no budget is left for them, nothing was verified and the verifier fails.
//!
//! # Confidence
//!
//! The geometric mean of the tokens' probabilities under the model's own law (before penalties, masks, temperature and
//! truncations): `exp(Σ ln p / n)`, between 0 and 1.
//!
//! # Running code
//!
//! `code_compile` and `unit_tests` are refused unless the client [allows
//! them](crate::ClientBuilder::allow_code_execution). Code then runs in a process of its own, within [`CodeLimits`].

mod api;
mod candidate;
mod carry;
mod constraints;
pub mod constructors;
mod fields;
mod generator;
#[cfg(feature = "local")]
mod local;
mod remote;
mod resolve;
mod result;
mod rules;
mod run;
mod score;
mod seeds;
mod store;
mod tune;
mod verify;

pub(crate) use constraints::Requirements;
pub(crate) use remote::run_of;
pub(crate) use rules::Rules;
pub(crate) use verify::Judge;

pub use api::Policies;
pub use candidate::{Candidate, CandidateKind};
pub use fields::Checks;
pub use mx_remote::axionic::{
    ConstraintControls, ModelTarget, Nullable, Objective, OptimizationControls, Policy,
    SamplingControls, SteeringControls, TaskProfile, VerifierControls,
};
pub use result::{Budget, LocalTrace, PolicyRun, PolicyTrace, RetryEvent};
pub use rules::{MAX_CANDIDATES, MAX_ENTRIES, MAX_ROUNDS};
pub use score::{ACCEPTING_SCORE, CONSTRAINT_PENALTY, FULL_SCORE};
pub use store::{PolicyPreset, PolicyStore, PolicyStoreError};
pub use tune::{DEFAULT_TRIALS, Evaluation, MAX_TRIALS, Search, Trial, Tuned};
pub use verify::{CodeLimits, SandboxError, Verifier};

use crate::cancel::Cancel;
use crate::client::Client;
use crate::error::Error;
use crate::generation::Generation;
use crate::request::GenerateRequest;
use mx_remote::Axionic;
use mx_steering::presets::{Preset, PresetKind};
use std::str::FromStr;

/// Whether a request is run by a policy.
pub(crate) fn governs(request: &GenerateRequest) -> bool {
    let preset = request.steering.steering_preset.as_deref();
    let preset = preset.and_then(|name| Preset::from_str(name).ok());
    !request.checks.is_empty() || preset.is_some_and(|p| p.kind() == PresetKind::Constraint)
}

/// Checks the values of a request and of the policy in it, as far as that goes without a model.
///
/// # Errors
/// [`Error::Request`] and others naming the field.
pub(crate) fn check(request: &GenerateRequest) -> Result<(), Error> {
    let none = Policy::default();
    let policy = request.checks.policy.as_deref().unwrap_or(&none);
    let sampling = resolve::sampling_of(policy)?;
    if sampling != GenerateRequest::default() {
        GenerateRequest {
            controls: crate::request::Controls {
                n: None,
                best_of_n: None,
                ..sampling.controls
            },
            ..sampling
        }
        .check()?;
    }
    rules::Rules::new(policy, request, Vec::new(), &mut Vec::new())?;
    Ok(())
}

/// Answers a request that is run by a policy.
///
/// # Errors
/// [`Error`] for anything that cannot be carried out as asked.
pub(crate) fn answer(
    client: &Client,
    request: &GenerateRequest,
    cancel: Cancel,
) -> Result<Generation, Error> {
    let policies = client.policies().with_cancel(cancel);
    let policy = match (&request.checks.policy, &request.checks.policy_id) {
        (Some(_), Some(_)) => {
            let wanted = "absent beside policy";
            return Err(Error::request("policy_id", "given", wanted));
        }
        (Some(policy), None) => Policy::clone(policy),
        (None, Some(id)) => policies.get(id)?,
        (None, None) => Policy::default(),
    };
    let run = policies.run_request(request, &policy)?;
    let generation = run.generation.map(|generation| *generation);
    generation.ok_or(Error::Cancelled)
}

/// Runs a policy on the service, which is told what the request says by a policy that stands over it.
pub(crate) fn run_native(
    service: &Axionic,
    request: &GenerateRequest,
    policy: &Policy,
    cancel: Cancel,
) -> Result<PolicyRun, Error> {
    let policy = remote::with_checks(policy.clone(), request);
    let (mut generation, run) =
        crate::remote::native::run(service, request, Some(&policy), cancel.into())?;
    let mut run = remote::run_of(run);
    run.warnings.clone_from(&generation.warnings);
    generation.policy = Some(Box::new(run.clone()));
    run.generation = Some(Box::new(generation));
    Ok(run)
}
