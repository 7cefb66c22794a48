//! One request carried out by one policy, from the merge to the answer.

use super::Policy;
use super::constraints::Requirements;
use super::generator::Generator;
use super::resolve::Resolved;
use super::result::{LocalTrace, PolicyRun, PolicyTrace};
use super::rules::Rules;
use super::run::{Outcome, conduct};
use super::seeds::within;
use super::verify::{CodeLimits, Judge};
use crate::client::random_seed;
use crate::error::Error;
use crate::generation::{Choice, Generation, Warning};
use crate::request::{GenerateRequest, Origin, Setting};
use serde_json::Value;

/// Runs the rule with some maker of candidates.
pub(super) fn carry_out(
    generator: &mut dyn Generator,
    model: Option<&str>,
    request: &GenerateRequest,
    policy: &Policy,
    code: Option<CodeLimits>,
) -> Result<PolicyRun, Error> {
    let mut warnings = Vec::new();
    let resolved = Resolved::new(policy, request, model, &mut warnings)?;
    let verifiers = resolved.verifiers.clone();
    let rules = Rules::new(policy, request, verifiers, &mut warnings)?;
    let required: Requirements = resolved.required.clone();
    let judge = Judge::new(required, &rules, code)?;
    let mut asked = resolved.request.clone();
    let drawn = asked.seed.is_none();
    let seed = *asked
        .seed
        .get_or_insert_with(|| within(random_seed(), generator.largest_seed()));
    let began = generator.now();
    let mut outcome = conduct(generator, &judge, &rules, &asked)?;
    let latency_ms = generator.now().saturating_sub(began).as_millis() as u64;
    warnings.append(&mut outcome.warnings);
    if let Some(budget) = outcome.budget {
        let message = format!("the run ended early: {} is used up", budget.name());
        warnings.push(Warning::new("budget", message));
    }
    let outputs = request.controls.n.unwrap_or(1);
    let generation = answer(&outcome, outputs);
    let mut generation =
        generation.ok_or_else(|| Error::request("policy", "no candidate", "one at least"))?;
    let label = |settings: &mut Vec<Setting>| {
        resolved.relabel(settings);
        count(settings, request, &rules);
        own(settings, request, seed, drawn, outcome.shortened);
    };
    label(&mut generation.settings);
    if let Some(trace) = &mut generation.trace {
        label(&mut trace.settings);
    }
    generation.seed = seed;
    let Some(winner) = outcome.winner() else {
        return Err(Error::Cancelled);
    };
    if !winner.accepted {
        let message = format!("the output is not accepted: {}", winner.reason);
        warnings.push(Warning::new("not_accepted", message));
    }
    let mut all = warnings.clone();
    all.append(&mut generation.warnings);
    generation.warnings = all.clone();
    let trace = LocalTrace {
        policy_name: policy.name.value().cloned(),
        retry_events: outcome.events.clone(),
        selection: Some(winner.clone()),
        candidates: outcome.candidates.clone(),
        seed,
        settings: rules.settings.clone(),
        agreement: outcome.agreement,
    };
    let mut run = PolicyRun {
        output: winner.output.clone(),
        accepted: winner.accepted,
        policy_id: policy.id.value().cloned(),
        score: winner.score,
        latency_ms,
        tokens: winner.tokens,
        constraints_ok: winner.constraints_ok,
        verifier_ok: winner.verifier_ok,
        trace: Some(PolicyTrace::Local(Box::new(trace))),
        confidence: winner.confidence,
        reason: winner.reason.clone(),
        total_tokens: outcome.total_tokens,
        budget: outcome.budget,
        warnings: all,
        generation: None,
    };
    generation.policy = Some(Box::new(run.clone()));
    run.generation = Some(Box::new(generation));
    Ok(run)
}

/// Says of what the run itself set that the policy did, or chance.
fn own(
    settings: &mut [Setting],
    request: &GenerateRequest,
    seed: u64,
    drawn: bool,
    shortened: bool,
) {
    for setting in settings {
        if setting.name == "seed" {
            setting.value = seed.into();
            if drawn {
                setting.origin = Origin::Random;
            }
        }
        // What a round, a schedule or a fallback set is the policy's, whatever the step's request says.
        let asked = match setting.name.as_str() {
            "temperature" => request.sampling.temperature.map(Value::from),
            "top_p" => request.sampling.top_p.map(Value::from),
            "sampling_method" => request.sampling_method.map(|method| method.name().into()),
            "logprobs" => request.controls.logprobs.map(Value::from),
            _ => Some(setting.value.clone()),
        };
        if setting.origin == Origin::Request && asked.as_ref() != Some(&setting.value) {
            setting.origin = Origin::Policy;
        }
        if setting.name == "max_tokens" && shortened {
            setting.origin = Origin::Policy;
        }
    }
}

/// The answer that holds the winner, with the winner first, and the `outputs` best candidates where more are asked for.
fn answer(outcome: &Outcome, outputs: usize) -> Option<Generation> {
    let choice = |index: usize| {
        let (answer, row) = &outcome.answers[index];
        let found = answer.choices.get(*row).cloned();
        found.unwrap_or_else(|| Choice::from(&**answer))
    };
    let best = *outcome.order.first()?;
    let (source, row) = outcome.answers.get(best)?;
    let mut answer = Generation::clone(source);
    let first = choice(best);
    if let Some(trace) = &mut answer.trace {
        trace.lead(*row);
    }
    answer.choices = match outputs {
        0 | 1 => Vec::new(),
        _ => outcome
            .order
            .iter()
            .take(outputs)
            .map(|index| choice(*index))
            .collect(),
    };
    answer.text = first.text;
    answer.tokens = first.tokens;
    answer.finish_reason = first.finish_reason;
    answer.stop_text = first.stop_text;
    answer.logprobs = first.logprobs;
    answer.usage.completion_tokens = outcome.total_tokens;
    // What was said of one of several rows need not be true of the winner.
    answer.warnings.retain(|warning| {
        warning.code != "constraint_unfinished"
            || outcome.winner().is_some_and(|w| !w.constraints_ok)
    });
    Some(answer)
}

/// Replaces the rows of a step by the numbers of outputs and candidates that were asked for.
fn count(settings: &mut Vec<Setting>, request: &GenerateRequest, rules: &Rules) {
    settings.retain(|setting| setting.name != "n" && setting.name != "best_of_n");
    let given = |asked: Option<usize>| match asked {
        Some(_) => Origin::Request,
        None => Origin::BuiltIn,
    };
    let controls = &request.controls;
    let ruled = |setting: &&Setting| {
        let counts = ["optimization.best_of_n", "sampling.num_candidates"];
        counts.contains(&setting.name.as_str()) && setting.value == rules.candidates
    };
    let origin = rules.settings.iter().find(ruled).map(|s| s.origin);
    let mut add = |name: &str, value: usize, origin: Origin| {
        settings.push(Setting {
            name: name.to_owned(),
            value: value.into(),
            origin,
        });
    };
    add("n", controls.n.unwrap_or(1), given(controls.n));
    let origin = origin.unwrap_or(given(controls.best_of_n));
    add("best_of_n", rules.candidates, origin);
    settings.sort_by(|a, b| a.name.cmp(&b.name));
}
