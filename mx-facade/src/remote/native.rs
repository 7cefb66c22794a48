//! The vendor's own protocol: every request is the run of a policy, which carries all that the service knows.

use super::{Answer, Conformance, named, refuse, sampling};
use crate::error::Error;
use crate::generation::{Choice, Generation, Usage, Warning};
use crate::request::{Controls, GenerateRequest, Overflow, Prompt, Steering};
use mx_remote::axionic::{Policy, PolicyRun, PolicyRunRequest};
use mx_remote::{Axionic, Cancel};
use mx_steering::apply::VectorRef;
use serde_json::{Map, Value, json};

/// Sampling parameters that the contract knows.
const KNOWN: [&str; 8] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
];

/// Objects that replace the one below them as a whole.
const WHOLE: [&str; 2] = ["json_schema", "steering"];

/// Answers a request; the answer says how the service judged it.
pub(super) fn generate(
    client: &Axionic,
    request: &GenerateRequest,
    cancel: Cancel,
) -> Result<Generation, Error> {
    let (mut generation, run) = run(client, request, None, cancel)?;
    let mut run = crate::policy::run_of(run);
    run.warnings.clone_from(&generation.warnings);
    generation.policy = Some(Box::new(run));
    Ok(generation)
}

/// Answers a request by a policy, over which the request stands.
pub(crate) fn run(
    client: &Axionic,
    request: &GenerateRequest,
    base: Option<&Policy>,
    cancel: Cancel,
) -> Result<(Generation, PolicyRun), Error> {
    let Prompt::Text(prompt) = &request.prompt else {
        return Err(Error::unsupported(
            "a conversation or tokens on the native remote route",
            "the service takes a text",
        ));
    };
    check(request)?;
    let mut body = json!({});
    if let Some(base) = base {
        body = serde_json::to_value(base).unwrap_or(body);
    }
    over(&mut body, policy(request)?);
    let policy: Policy = serde_json::from_value(body.clone())
        .map_err(|error| Error::request("policy", error, "fields of the service's contract"))?;
    let run = client
        .run_policy(&PolicyRunRequest {
            prompt: prompt.clone(),
            policy: Some(policy),
            max_new_tokens: request.max_tokens.and_then(|n| u32::try_from(n).ok()),
            include_trace: request.include_trace,
            ..PolicyRunRequest::default()
        })
        .cancel(cancel)
        .wait()?;
    let mut warnings = vec![Warning::new(
        "seed",
        "the service draws its own random numbers and does not report their seed",
    )];
    let judged = run.clone();
    if !run.accepted {
        let message = format!(
            "the service does not accept its own output (constraints {}, verifiers {})",
            run.constraints_ok, run.verifier_ok
        );
        warnings.push(Warning::new("not_accepted", message));
    }
    let answer = Answer {
        choices: vec![Choice::of_text(run.output)],
        usage: Usage {
            completion_tokens: usize::try_from(run.tokens).unwrap_or(0),
            ..Usage::default()
        },
        seed: 0,
        method: request.sampling_method,
        model: "default".to_owned(),
        server: ("axionic", client.base_url().to_owned()),
        settings: match body {
            Value::Object(map) => map,
            _ => Map::new(),
        },
        warnings,
    };
    let mut generation = answer.into_generation();
    Conformance::new(request)?.judge(&mut generation);
    Ok((generation, judged))
}

/// Refuses what the contract has no field for. Every field of a request is named here or in [`policy`], so that a new one
/// is not forgotten.
fn check(request: &GenerateRequest) -> Result<(), Error> {
    let GenerateRequest {
        prompt: _,
        system,
        raw,
        max_tokens: _,
        sampling_method: _,
        sampling: _,
        controls,
        constraints,
        steering,
        // Put into the policy before this.
        checks: _,
        seed,
        stop: _,
        ignore_eos,
        on_overflow,
        include_trace: _,
        unknown: _,
    } = request;
    let Controls {
        n,
        best_of_n: _,
        logprobs,
        ads_subset_size: _,
        ads_beta: _,
        beam_width: _,
        length_penalty,
        must_include,
        draft_model: _,
        drafter,
        draft_layers,
        speculative_steps: _,
        ensemble_models: _,
        ensemble_weights,
        voting: _,
    } = controls;
    let Steering {
        steering: spec,
        steering_vector: _,
        steering_strength: _,
        steering_preset: _,
        behaviors,
        force_steering,
    } = steering;
    for (given, field) in [
        (system.is_some(), "system"),
        (*raw == Some(true), "raw"),
        (seed.is_some(), "seed"),
        (*ignore_eos == Some(true), "ignore_eos"),
        (
            *on_overflow == Some(Overflow::TruncatePrompt),
            "on_overflow",
        ),
        (n.is_some_and(|n| n > 1), "n"),
        (logprobs.is_some(), "logprobs"),
        (length_penalty.is_some(), "length_penalty"),
        (!must_include.is_empty(), "must_include"),
        (drafter.is_some(), "drafter"),
        (draft_layers.is_some(), "draft_layers"),
        (!ensemble_weights.is_empty(), "ensemble_weights"),
        (!constraints.choices.is_empty(), "choices"),
    ] {
        refuse(given, field, "the service's contract has no field for it")?;
    }
    refuse(
        !behaviors.is_empty() || *force_steering == Some(true),
        "behaviors",
        "they are watched for inside the model: run it locally",
    )?;
    refuse(
        spec.is_some(),
        "steering",
        "the service takes one vector: use steering_vector and steering_strength",
    )
}

/// Puts the fields of an object over those of another, block by block. A vector replaces what steered before it, as a
/// schema replaces a schema.
fn over(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (name, value) in above {
                match below.get_mut(&name) {
                    Some(Value::Object(block))
                        if !WHOLE.contains(&name.as_str()) && value.is_object() =>
                    {
                        let mut inner = Value::Object(std::mem::take(block));
                        over(&mut inner, value);
                        below.insert(name, inner);
                    }
                    _ => {
                        below.insert(name, value);
                    }
                }
            }
        }
        (below, above) => *below = above,
    }
}

/// The request as a policy of the contract.
fn policy(request: &GenerateRequest) -> Result<Value, Error> {
    let mut chain = Map::new();
    for (name, value) in named(&sampling(request)) {
        refuse(
            !KNOWN.contains(&name.as_str()),
            &name,
            "the service's contract has no field for it",
        )?;
        chain.insert(name, value);
    }
    let controls = &request.controls;
    if let Some(method) = request.sampling_method {
        chain.insert("method".to_owned(), method.name().into());
    }
    let mut optional = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            chain.insert(name.to_owned(), value);
        }
    };
    optional("ads_subset_size", controls.ads_subset_size.map(Value::from));
    optional("ads_beta", controls.ads_beta.map(Value::from));
    optional("beam_width", controls.beam_width.map(Value::from));
    optional("draft_model", controls.draft_model.clone().map(Value::from));
    optional(
        "speculative_steps",
        controls.speculative_steps.map(Value::from),
    );
    if !controls.ensemble_models.is_empty() {
        optional("ensemble_models", Some(json!(controls.ensemble_models)));
    }
    optional("voting", controls.voting.map(|voting| json!(voting)));
    let mut policy = json!({"sampling": chain});
    let given = &request.constraints;
    let mut constraints = Map::new();
    if let Some(schema) = &given.json_schema {
        constraints.insert("json_mode".to_owned(), true.into());
        constraints.insert("json_schema".to_owned(), schema.clone());
    }
    if given.json_mode == Some(true) {
        constraints.insert("json_mode".to_owned(), true.into());
    }
    if let Some(pattern) = &given.regex_pattern {
        // The service searches; a request's pattern is the whole text's.
        let whole = format!(r"\A(?:{pattern})\Z");
        constraints.insert("regex_pattern".to_owned(), whole.into());
    }
    if let Some(grammar) = &given.grammar {
        constraints.insert("grammar".to_owned(), grammar.as_str().into());
    }
    if !request.stop.is_empty() {
        constraints.insert("stop_sequences".to_owned(), json!(request.stop));
    }
    if !constraints.is_empty() {
        policy["constraints"] = Value::Object(constraints);
    }
    if let Some(n) = controls.best_of_n {
        policy["optimization"] = json!({"best_of_n": n});
    }
    if !request.steering.is_empty() {
        let mut steering = json!({"enabled": true});
        if let Some(strength) = request.steering.steering_strength {
            steering["strength"] = strength.into();
        }
        match &request.steering.steering_vector {
            Some(VectorRef::Reference(id)) => steering["vector_id"] = id.as_str().into(),
            Some(VectorRef::Inline(layers)) => steering["vector"] = json!(layers),
            None => {}
        }
        if let Some(preset) = &request.steering.steering_preset {
            steering["preset"] = preset.as_str().into();
        }
        policy["steering"] = steering;
    }
    Ok(policy)
}
