//! Every request that can be built, and every kind of answer, against the service's contract.
//!
//! The contract is not ours to ship: without it the tests say so and pass.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use super::*;
use crate::http::Ask;
use crate::openai::{
    AxionicParams, ChatMessage, ChatRequest, CompletionPrompt, CompletionRequest, Params,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn contract() -> Option<Value> {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    let folder = std::env::var_os("MX_DATA_DIR").map_or_else(default, PathBuf::from);
    let path = folder.join("axionic_openapi.json");
    match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(_) => {
            eprintln!("skipped: no contract at {}", path.display());
            None
        }
    }
}

fn client() -> Axionic {
    let options = AxionicOptions {
        base_url: "http://localhost:1".into(),
        ..AxionicOptions::with_key("ax_0")
    };
    Axionic::new(options).unwrap()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

fn object(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

fn full_policy() -> Policy {
    Policy {
        id: "p".to_owned().into(),
        name: "n".to_owned().into(),
        description: Nullable::Null,
        metadata: object(json!({"any": [1, null]})).into(),
        model: ModelTarget {
            base_url: Nullable::Null,
            model: "default".to_owned().into(),
            ..Default::default()
        }
        .into(),
        task_profile: TaskProfile {
            name: "general".to_owned().into(),
            category: "c".to_owned().into(),
            description: Nullable::Null,
            ..Default::default()
        }
        .into(),
        objective: Objective {
            name: "quality".to_owned().into(),
            maximize: true.into(),
            latency_budget_ms: 1200.into(),
            token_budget: Nullable::Null,
            ..Default::default()
        }
        .into(),
        sampling: SamplingControls {
            method: "ads".to_owned().into(),
            temperature: 0.7.into(),
            top_k: Nullable::Null,
            top_p: 0.9.into(),
            min_p: 0.1.into(),
            typical_p: Nullable::Null,
            frequency_penalty: 0.1.into(),
            presence_penalty: 0.1.into(),
            repetition_penalty: 1.1.into(),
            ads_subset_size: 16.into(),
            ads_beta: 0.35.into(),
            beam_width: 4.into(),
            num_candidates: 3.into(),
            diversity_strength: 0.7.into(),
            draft_model: "d".to_owned().into(),
            speculative_steps: 4.into(),
            ensemble_models: texts(&["a", "b"]).into(),
            voting: "majority".to_owned().into(),
            adaptive_temperature: true.into(),
            adaptive_temperature_schedule: vec![0.7, 0.5].into(),
            adaptive_top_p: true.into(),
            adaptive_top_p_schedule: vec![0.9].into(),
            ..Default::default()
        }
        .into(),
        steering: SteeringControls {
            enabled: true.into(),
            method: "caa".to_owned().into(),
            strength: 1.0.into(),
            vector_id: "v".to_owned().into(),
            vector: object(json!({"8": [0.5]})).into(),
            preset: "brevity".to_owned().into(),
            file_url: Nullable::Null,
            layer_scope: texts(&["8"]).into(),
            token_start: 1.into(),
            token_end: Nullable::Null,
            ..Default::default()
        }
        .into(),
        constraints: ConstraintControls {
            json_mode: true.into(),
            json_schema: object(json!({"type": "object"})).into(),
            regex_pattern: "a+".to_owned().into(),
            grammar: Nullable::Null,
            required_fields: texts(&["a"]).into(),
            forbidden_terms: texts(&["b"]).into(),
            stop_sequences: texts(&["\n"]).into(),
            tool_schema: object(json!({})).into(),
            ..Default::default()
        }
        .into(),
        verifiers: VerifierControls {
            enabled: texts(&["syntax"]).into(),
            repair_on_failure: true.into(),
            rerank: false.into(),
            max_retries: 1.into(),
            code_language: "python".to_owned().into(),
            code_unit_tests: texts(&["assert True"]).into(),
            unit_test_timeout_ms: 1500.into(),
            ..Default::default()
        }
        .into(),
        optimization: OptimizationControls {
            best_of_n: 2.into(),
            retry_on_failure: 1.into(),
            self_revision_loops: 0.into(),
            branch_and_prune: false.into(),
            fallback_methods: texts(&["top-k"]).into(),
            confidence_triggered_regeneration: true.into(),
            confidence_threshold: 0.5.into(),
            ..Default::default()
        }
        .into(),
        extra: Map::new(),
    }
}

fn full_run() -> RunRequest {
    RunRequest {
        prompt: "Hi".into(),
        max_tokens: Some(5),
        sampling_method: Some("top-k".into()),
        temperature: Some(0.5),
        top_k: Some(50),
        top_p: Some(0.9),
        ads_subset_size: Some(8),
        ads_beta: Some(0.3),
        steering_vector_id: Some("v".into()),
        steering_strength: Some(1.5),
        extra: Map::new(),
    }
}

/// Every request of the client, smallest and largest.
fn requests() -> Vec<Ask> {
    let c = client();
    let password = Secret::new("pw");
    let mut asks = Vec::new();
    macro_rules! add {
        ($($call:expr),* $(,)?) => { $(asks.push((*$call.ask.unwrap()).clone());)* };
    }
    macro_rules! add_stream {
        ($($call:expr),* $(,)?) => { add!($($call.0),*) };
    }
    add!(c.generate(&RunRequest::new("Hi")), c.generate(&full_run()));
    add_stream!(c.generate_events(&full_run()));
    add!(
        c.run_steered(&RunSteeredRequest {
            run: RunRequest::new("Hi"),
            multiplier: None
        }),
        c.run_steered(&RunSteeredRequest {
            run: full_run(),
            multiplier: Some(2.0)
        }),
        c.sample(&SamplingRequest {
            prompt: "Hi".into(),
            ..Default::default()
        }),
        c.sample(&SamplingRequest {
            prompt: "Hi".into(),
            method: Some("ads".into()),
            params: Some(object(json!({"ads_beta": 0.3}))),
            max_new_tokens: Some(8),
            json_schema: Some(object(json!({"type": "object"}))),
            regex_pattern: Some("a".into()),
            grammar: Some("g".into()),
            draft_model: Some("d".into()),
            ensemble_models: Some(texts(&["a"])),
            best_of_n: Some(2),
            policy: Some(full_policy()),
            policy_id: Some("p".into()),
            extra: Map::new(),
        }),
        c.generate_with_behaviors(&SaeRunRequest {
            prompt: "Hi".into(),
            ..Default::default()
        }),
        c.generate_with_behaviors(&SaeRunRequest {
            prompt: "Hi".into(),
            max_new_tokens: Some(5),
            behavior_names: Some(texts(&["b"])),
            force_steering: Some(texts(&["b"])),
            extra: Map::new(),
        }),
    );
    add_stream!(c.generate_with_behaviors_events(&SaeRunRequest {
        prompt: "Hi".into(),
        ..Default::default()
    }));
    let run = PolicyRunRequest {
        prompt: "Hi".into(),
        policy: Some(Policy::default()),
        ..Default::default()
    };
    let full_policy_run = PolicyRunRequest {
        prompt: "Hi".into(),
        policy: Some(full_policy()),
        policy_id: Some("p".into()),
        model: Some("default".into()),
        max_new_tokens: Some(5),
        include_trace: Some(false),
        extra: Map::new(),
    };
    add!(
        c.run_policy(&run),
        c.run_policy(&full_policy_run),
        c.run_saved_policy(
            "p",
            &PolicyRunRequest {
                prompt: "Hi".into(),
                ..Default::default()
            }
        ),
        c.save_policy(&Policy::default()),
        c.save_policy(&full_policy()),
        c.policies(),
        c.policy("p"),
        c.compare_policies(&CompareRequest::default()),
        c.compare_policies(&CompareRequest {
            prompt: "Hi".into(),
            policies: vec![Policy::default(), full_policy()],
            max_new_tokens: Some(5),
        }),
        c.evaluate_policy(&EvaluatePolicyRequest {
            prompts: texts(&["Hi"]),
            policy: Some(full_policy()),
            policy_id: Some("p".into()),
            max_new_tokens: Some(5),
        }),
        c.auto_tune(&AutoTuneRequest {
            base_policy_id: Some("p".into()),
            ..Default::default()
        }),
        c.auto_tune(&AutoTuneRequest {
            prompts: texts(&["Hi"]),
            base_policy: Some(full_policy()),
            base_policy_id: Some("p".into()),
            search_space: BTreeMap::from([(
                "sampling.temperature".into(),
                vec![json!(0.5), json!("x")]
            )]),
            max_trials: Some(3),
            max_new_tokens: Some(5),
        }),
        c.policy_presets(true),
        c.publish_preset(&PublishPresetRequest::default()),
        c.publish_preset(&PublishPresetRequest {
            name: "n".into(),
            policy: full_policy(),
            visibility: Some("public".into()),
            tags: texts(&["t"]),
            description: Some("d".into()),
        }),
        c.clone_preset("p"),
    );
    let vector = SteeringRequest {
        prompts: texts(&["a"]),
        positive_answers: texts(&["b"]),
        negative_answers: Some(texts(&["c"])),
        layer_idxs: Some(vec![8, 9]),
        method: Some("caa".into()),
        name: Some("n".into()),
        label: Some("l".into()),
        category: Some("c".into()),
        fewshot_iterations: Some(20),
        fewshot_lr: Some(0.1),
        refine_steps: Some(1),
        refine_lr: Some(0.1),
        sparsity_threshold: Some(0.01),
        extra: Map::new(),
    };
    add!(
        c.create_vector(&SteeringRequest::default()),
        c.create_vector(&vector),
        c.create_pairs(&PairsRequest {
            persona_name: "n".into(),
            ..Default::default()
        }),
        c.create_pairs(&PairsRequest {
            persona_name: "n".into(),
            persona_description: Some("d".into()),
            negative_description: Some("e".into()),
            num_pairs: Some(5),
            batch_size: Some(5),
        }),
        c.evaluate_vector(&EvaluateVectorRequest::default()),
        c.evaluate_vector(&EvaluateVectorRequest {
            steering_vector_id: "v".into(),
            positive_texts: texts(&["a"]),
            negative_texts: texts(&["b"]),
            test_prompts: Some(texts(&["c"])),
            persona_description: Some("d".into()),
            multiplier: Some(1.5),
            judge_model: Some("j".into()),
        }),
        c.download_vector("v"),
        c.vectors(),
        c.relabel_vector("v", Some("l")),
        c.relabel_vector("v", None),
        c.delete_vector("v"),
        c.delete_vectors(&texts(&["v"])),
        c.create_behavior(&BehaviorRequest::default()),
        c.create_behavior(&BehaviorRequest {
            behavior_name: "b".into(),
            prompts: Some(texts(&["a"])),
            positive_answers: texts(&["b"]),
            negative_answers: texts(&["c"]),
            description: Some("d".into()),
            steering_vector_id: Some("v".into()),
            layer_names: Some(texts(&["l"])),
            extra: Map::new(),
        }),
        c.behaviors(),
        c.rename_behavior("b", "c"),
        c.recompute_baselines(&RecomputeRequest {
            model_id: "m".into(),
            behavior_ids: None
        }),
        c.recompute_baselines(&RecomputeRequest {
            model_id: "m".into(),
            behavior_ids: Some(texts(&["b"]))
        }),
        c.models(None),
        c.models(Some(true)),
        c.graph(),
        c.health(),
        c.metrics(),
        c.log_in("a@b", &password),
        c.sign_up("a@b", &password),
        c.who_am_i(),
        c.keys(),
        c.create_key(None),
        c.create_key(Some("n")),
        c.delete_key("k"),
        c.verify_key(),
        c.balance(),
    );
    add_stream!(c.create_vector_events(&vector));
    asks.push(account::refresh(&Secret::new("r")).unwrap());
    asks.push(models::choose("m").unwrap());
    let openai = c.openai().unwrap();
    let params = Params {
        max_tokens: Some(5),
        n: Some(2),
        stop: texts(&["\n"]),
        temperature: Some(0.5),
        top_k: Some(5),
        top_p: Some(0.5),
        frequency_penalty: Some(0.5),
        presence_penalty: Some(0.5),
        logit_bias: BTreeMap::from([(5, -1.0)]),
        user: Some("u".into()),
        axionic: Some(AxionicParams {
            sampling_method: Some("ads".into()),
            ads_subset_size: Some(8),
            ads_beta: Some(0.3),
            steering_vector: Some(crate::openai::SteeringVectorParam::Layers(object(
                json!({"8": [1.0]}),
            ))),
            steering_vector_id: Some("v".into()),
            steering_strength: Some(1.0),
            behavior_names: Some(texts(&["b"])),
            force_steering: Some(texts(&["b"])),
            policy: Some(full_policy()),
            policy_id: Some("p".into()),
        }),
        ..Params::default()
    };
    let mut named = ChatMessage::user("Hi");
    named.extra.insert("name".into(), "n".into());
    let chat = ChatRequest {
        model: "m".into(),
        messages: vec![ChatMessage::system("x"), named],
        params: params.clone(),
        ..Default::default()
    };
    let completion = CompletionRequest {
        model: "m".into(),
        prompt: CompletionPrompt::Texts(texts(&["a", "b"])),
        params: Params {
            logprobs: Some(3),
            ..params
        },
        suffix: Some("s".into()),
        echo: Some(true),
        best_of: Some(2),
    };
    let surface = [
        openai.chat(&ChatRequest::new("", "Hi")).ask,
        openai.chat(&chat).ask,
        openai.chat_stream(&chat).0.ask,
        openai.complete(&CompletionRequest::new("m", "Hi")).ask,
        openai.complete(&completion).ask,
        openai.complete_stream(&completion).0.ask,
    ];
    for ask in surface {
        let mut ask = (*ask.unwrap()).clone();
        ask.path.insert(0, "v1".into());
        asks.push(ask);
    }
    asks
}

/// The contract's path of a request, `{…}` standing for any one part.
fn template<'a>(contract: &'a Value, ask: &Ask) -> Option<(&'a str, &'a Value)> {
    let method = ask.method.as_str().to_lowercase();
    let fits = |path: &str| {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        parts.len() == ask.path.len()
            && parts
                .iter()
                .zip(&ask.path)
                .all(|(p, a)| p.starts_with('{') || p == a)
    };
    let paths = contract["paths"].as_object().unwrap();
    // A path without variables goes before one with.
    let mut found: Vec<_> = paths.iter().filter(|(path, _)| fits(path)).collect();
    found.sort_by_key(|(path, _)| path.matches('{').count());
    found
        .iter()
        .find_map(|(path, operations)| Some((path.as_str(), operations.get(&method)?)))
}

/// A schema out of the contract, with everything it refers to.
fn schema(contract: &Value, schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema["components"] = contract["components"].clone();
    schema
}

/// Fields of a value that its schema does not name. The contract forbids none, so that a slip would go unnoticed.
fn unnamed(contract: &Value, schema: &Value, value: &Value, path: &str, out: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = &contract["components"]["schemas"][name.rsplit('/').next().unwrap()];
        return unnamed(contract, target, value, path, out);
    }
    for option in schema["anyOf"].as_array().into_iter().flatten() {
        let kind = option["type"].as_str();
        let fits = option.get("$ref").is_some() && value.is_object()
            || kind == Some("object") && value.is_object()
            || kind == Some("array") && value.is_array();
        if fits {
            unnamed(contract, option, value, path, out);
        }
    }
    match (value, schema["properties"].as_object()) {
        (Value::Object(fields), Some(known)) => {
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                match known.get(name) {
                    Some(schema) => unnamed(contract, schema, field, &path, out),
                    None => out.push(path),
                }
            }
        }
        (Value::Array(items), _) => {
            for item in items {
                unnamed(contract, &schema["items"], item, path, out);
            }
        }
        _ => {}
    }
}

#[test]
fn every_request_is_as_the_contract_wants_it() {
    let Some(contract) = contract() else { return };
    let mut seen = BTreeSet::new();
    for ask in requests() {
        let shown = format!("{} {}", ask.method, ask.shown_path());
        let (path, operation) =
            template(&contract, &ask).unwrap_or_else(|| panic!("{shown} is not in the contract"));
        seen.insert(format!("{} {path}", ask.method));
        let wanted = &operation["requestBody"]["content"]["application/json"]["schema"];
        let body: Option<Value> = ask
            .body
            .as_ref()
            .map(|b| serde_json::from_slice(b).unwrap());
        match (&body, wanted.is_null()) {
            (Some(body), false) => {
                let validator = jsonschema::validator_for(&schema(&contract, wanted)).unwrap();
                let errors: Vec<String> =
                    validator.iter_errors(body).map(|e| e.to_string()).collect();
                assert!(errors.is_empty(), "{shown}: {errors:?} in {body}");
                let mut strange = Vec::new();
                unnamed(&contract, wanted, body, "", &mut strange);
                // What the published client sends and the contract has not.
                assert!(strange.is_empty(), "{shown}: {strange:?}");
            }
            // The clone call sends an empty object where the contract has no body.
            (body, true) => assert!(
                body.as_ref().is_none_or(|b| *b == json!({})),
                "{shown} has a body"
            ),
            (None, false) => panic!("{shown} has no body"),
        }
        for (name, _) in &ask.query {
            let named = |p: &Value| p["in"] == "query" && p["name"] == *name;
            assert!(
                operation["parameters"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(named),
                "{shown}: {name}"
            );
        }
    }
    let mut all = BTreeSet::new();
    for (path, operations) in contract["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            all.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let missing: Vec<_> = all.difference(&seen).collect();
    assert!(missing.is_empty(), "no call for {missing:?}");
}

#[test]
fn the_check_itself_notices_slips() {
    let Some(contract) = contract() else { return };
    let wanted = json!({"$ref": "#/components/schemas/PolicyRunRequest"});
    let validator = jsonschema::validator_for(&schema(&contract, &wanted)).unwrap();
    for bad in [
        json!({}),
        json!({"prompt": 7}),
        json!({"prompt": "x", "policy": {"sampling": {"top_k": "many"}}}),
    ] {
        assert!(!validator.is_valid(&bad), "{bad}");
    }
    let mut out = Vec::new();
    let slip = json!({"prompt": "x", "promt": 1, "policy": {"sampling": {"topk": 1}}});
    unnamed(&contract, &wanted, &slip, "", &mut out);
    assert_eq!(out, [".promt", ".policy.sampling.topk"]);
}

/// How a sample answer treats what may be absent.
#[derive(Clone, Copy, PartialEq)]
enum Filling {
    /// Absent.
    Least,
    /// There.
    Most,
    /// Null, where that is allowed.
    Nulls,
}

/// An answer that a schema allows.
fn sample(contract: &Value, schema: &Value, filling: Filling) -> Value {
    if let Some(name) = schema["$ref"].as_str() {
        let target = &contract["components"]["schemas"][name.rsplit('/').next().unwrap()];
        return sample(contract, target, filling);
    }
    if let Some(options) = schema["anyOf"].as_array() {
        let null = options.iter().any(|o| o["type"] == "null");
        return if null && filling == Filling::Nulls {
            Value::Null
        } else {
            sample(contract, &options[0], filling)
        };
    }
    match schema["type"].as_str() {
        Some("string") => json!("text"),
        Some("integer") => json!(7),
        Some("number") => json!(0.5),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") if filling == Filling::Least => json!([]),
        Some("array") => json!([sample(contract, &schema["items"], filling)]),
        _ => {
            let required: Vec<&str> = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let fields = schema["properties"].as_object().into_iter().flatten();
            let mut object: Map<String, Value> = fields
                .filter(|(name, _)| filling != Filling::Least || required.contains(&name.as_str()))
                .map(|(name, field)| (name.clone(), sample(contract, field, filling)))
                .collect();
            if filling == Filling::Most {
                object.insert("of_a_later_version".into(), json!([1]));
            }
            Value::Object(object)
        }
    }
}

/// Reads samples of an answer; what can be written again keeps every field.
fn answers<T: serde::de::DeserializeOwned + Serialize>(contract: &Value, name: &str) {
    let wanted = json!({"$ref": format!("#/components/schemas/{name}")});
    let validator = jsonschema::validator_for(&schema(contract, &wanted)).unwrap();
    for filling in [Filling::Least, Filling::Most, Filling::Nulls] {
        let sample = sample(contract, &wanted, filling);
        assert!(
            validator.is_valid(&sample),
            "{name}: the sample is wrong: {sample}"
        );
        let read: T = serde_json::from_value(sample.clone())
            .unwrap_or_else(|e| panic!("{name}: {e}: {sample}"));
        let again = serde_json::to_value(&read).unwrap();
        if filling == Filling::Most {
            for (field, value) in sample.as_object().unwrap() {
                assert_eq!(again.get(field), Some(value), "{name}.{field}");
            }
        }
    }
}

/// For answers with secrets in them, which are not written again.
fn reads<T: serde::de::DeserializeOwned>(contract: &Value, name: &str) {
    let wanted = json!({"$ref": format!("#/components/schemas/{name}")});
    for filling in [Filling::Least, Filling::Most, Filling::Nulls] {
        let sample = sample(contract, &wanted, filling);
        serde_json::from_value::<T>(sample.clone())
            .unwrap_or_else(|e| panic!("{name}: {e}: {sample}"));
    }
}

#[test]
fn every_answer_of_the_contract_is_read() {
    let Some(contract) = contract() else { return };
    let c = &contract;
    answers::<PolicyRun>(c, "PolicyRunResponse");
    answers::<EvaluatePolicyAnswer>(c, "PolicyEvaluateResponse");
    answers::<AutoTuneAnswer>(c, "PolicyAutoTuneResponse");
    answers::<PolicyPreset>(c, "PolicyPresetRecord");
    answers::<Policy>(c, "RuntimePolicy");
    answers::<Sampled>(c, "SamplingResponse");
    answers::<Pairs>(c, "GeneratePairsResponse");
    answers::<EvaluateVectorAnswer>(c, "EvaluateResponse");
    answers::<StoredVector>(c, "SteeringVectorItem");
    answers::<CreatedBehavior>(c, "BehaviorResponse");
    answers::<RecomputeAnswer>(c, "RecomputeBaselinesResponse");
    answers::<HostedModel>(c, "HostedModel");
    answers::<AccountUser>(c, "AuthUser");
    reads::<AuthAnswer>(c, "AuthResponse");
    reads::<ApiKeyItem>(c, "ApiKeyItem");
}

#[test]
fn a_policy_of_the_contract_comes_back_unchanged() {
    let Some(contract) = contract() else { return };
    let wanted = json!({"$ref": "#/components/schemas/RuntimePolicy"});
    for filling in [Filling::Least, Filling::Most, Filling::Nulls] {
        let policy = sample(&contract, &wanted, filling);
        let read: Policy = serde_json::from_value(policy.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), policy);
    }
}
