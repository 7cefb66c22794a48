//! Policies on real models: what is asked is what is done, and is said.

use crate::remote::Server;
use crate::{default_model, scripted, tiny};
use mx::policy::{
    Budget, CandidateKind, CodeLimits, LocalTrace, Policy, PolicyPreset, PolicyRun, PolicyStore,
    PolicyTrace, Search, constructors,
};
use mx::server::ServerKind;
use mx::{
    Client, Error, ErrorKind, Fallback, FinishReason, GenerateRequest, Method, Origin, Route,
};
use mx_tests::scripted::Script;
use serde_json::{Value, json};
use std::collections::HashSet;

fn policy(value: Value) -> Policy {
    serde_json::from_value(value).unwrap()
}

fn client() -> Client {
    Client::with_model(tiny())
}

fn raw(prompt: &str) -> GenerateRequest {
    GenerateRequest::new(prompt)
        .raw(true)
        .seed(3)
        .max_tokens(12)
}

fn run(client: &Client, request: &GenerateRequest, value: Value) -> PolicyRun {
    let policies = client.policies();
    policies.run_with(request, &policy(value)).unwrap()
}

fn trace(run: &PolicyRun) -> &LocalTrace {
    match &run.trace {
        Some(PolicyTrace::Local(trace)) => trace,
        other => panic!("{other:?}"),
    }
}

fn kinds(run: &PolicyRun) -> Vec<CandidateKind> {
    trace(run).candidates.iter().map(|c| c.kind).collect()
}

fn warned(run: &PolicyRun, code: &str) -> bool {
    run.warnings.iter().any(|warning| warning.code == code)
}

#[test]
fn an_empty_policy_changes_nothing() {
    let client = client();
    for request in [
        raw("Hello"),
        raw("Hello").method(Method::TopP).temperature(1.5),
        raw("Hello")
            .temperature(1.0)
            .json_schema(
                json!({"type": "object", "required": ["colour"], "additionalProperties": false,
                "properties": {"colour": {"enum": ["black as the night", "white"]}}}),
            )
            .max_tokens(80),
        raw("Hello")
            .regex("(yes|no), and that is certainly all there is to say")
            .max_tokens(80),
    ] {
        let plain = client.run(&request).unwrap();
        let judged = client
            .run(&request.clone().policy(Policy::default()))
            .unwrap();
        assert_eq!(judged.tokens, plain.tokens);
        assert_eq!(judged.settings, plain.settings);
        assert_eq!(judged.warnings, plain.warnings);
        // Nor does a policy that judges by log-probabilities change what is drawn.
        let sure = json!({"confidence_triggered_regeneration": true, "confidence_threshold": 0.0});
        let sure = policy(json!({"optimization": sure}));
        let judged_by_them = client.run(&request.policy(sure)).unwrap();
        assert_eq!(judged_by_them.tokens, plain.tokens);
        let run = judged.policy.unwrap();
        assert!(run.accepted && run.trace.is_none());
        assert_eq!((run.score, run.tokens), (1.0, plain.tokens.len()));
    }
}

#[test]
fn every_value_says_where_it_comes_from() {
    let request = raw("x").temperature(0.9).policy(policy(json!({
        "sampling": {"method": "top-p", "temperature": 0.2, "top_p": 0.6, "top_k": null},
        "constraints": {"stop_sequences": ["@@"], "regex_pattern": "[a-f]+"},
    })));
    let answer = client().run(&request).unwrap();
    let origin = |name: &str| {
        let setting = answer.settings.iter().find(|s| s.name == name);
        setting.map(|s| (s.value.clone(), s.origin))
    };
    assert_eq!(origin("temperature"), Some((json!(0.9), Origin::Request)));
    assert_eq!(origin("top_p"), Some((json!(0.6), Origin::Policy)));
    assert_eq!(origin("top_k"), Some((json!(0), Origin::Policy)));
    assert_eq!(
        origin("sampling_method"),
        Some((json!("top-p"), Origin::Policy))
    );
    assert_eq!(origin("stop"), Some((json!(["@@"]), Origin::Policy)));
    assert_eq!(
        origin("regex_pattern"),
        Some((json!("[a-f]+"), Origin::Policy))
    );
    assert_eq!(origin("seed"), Some((json!(3), Origin::Request)));
    assert_eq!(origin("ignore_eos"), Some((json!(false), Origin::BuiltIn)));
    let mut request = raw("x");
    request.steering.steering_preset = Some("json_compliance".to_owned());
    let answer = client().run(&request.max_tokens(200)).unwrap();
    let setting = answer
        .settings
        .iter()
        .find(|s| s.name == "json_mode")
        .unwrap();
    assert_eq!(setting.origin, Origin::Preset);
    assert!(
        serde_json::from_str::<Value>(&answer.text)
            .unwrap()
            .is_object()
    );
}

#[test]
fn candidates_are_rows_and_a_seed_names_them() {
    let client = client();
    let value = json!({"optimization": {"best_of_n": 4}});
    let first = run(&client, &raw("Hi"), value.clone());
    let again = run(&client, &raw("Hi"), value.clone());
    assert_eq!(first.output, again.output);
    let outputs: Vec<&String> = trace(&first).candidates.iter().map(|c| &c.output).collect();
    assert_eq!(outputs.iter().collect::<HashSet<_>>().len(), 4);
    // The same rows as a plain request has.
    let plain = client.run(&raw("Hi").n(4)).unwrap();
    let texts: Vec<&String> = plain.choices.iter().map(|choice| &choice.text).collect();
    assert_eq!(outputs, texts);
    // And the same choice as the request's own best_of_n makes.
    let best = client.run(&raw("Hi").best_of_n(4)).unwrap();
    assert_eq!(first.output, best.text);
    let other = run(&client, &raw("Hi").seed(4), value);
    assert_ne!(other.output, first.output);
    let request = raw("Hi").n(2).best_of_n(4).policy(Policy::default());
    let several = client.run(&request).unwrap();
    assert_eq!(several.choices.len(), 2);
    assert_eq!(several.choices[0].text, best.text);
}

/// The trace is that of the answer, and says where its values come from.
#[test]
fn a_trace_is_that_of_the_winner() {
    let client = client();
    let mut moved = 0;
    for seed in 0..6 {
        let mut request = raw("Hi").seed(seed).policy(policy(json!({
            "sampling": {"temperature": 0.8}, "optimization": {"best_of_n": 4},
        })));
        request.include_trace = Some(true);
        let answer = client.run(&request).unwrap();
        let found = answer.trace.as_ref().unwrap();
        assert_eq!(found.text, answer.text);
        let tokens: Vec<u32> = found.steps.iter().map(|step| step.token).collect();
        assert_eq!(tokens, answer.tokens);
        assert_eq!(found.further.len(), 3);
        moved += usize::from(found.stream != 0);
        let origin = |name: &str| {
            let setting = found.settings.iter().find(|s| s.name == name);
            setting.map(|s| (s.value.clone(), s.origin))
        };
        assert_eq!(origin("temperature"), Some((json!(0.8), Origin::Policy)));
        assert_eq!(origin("seed"), Some((json!(seed), Origin::Request)));
        assert_eq!(origin("best_of_n"), Some((json!(4), Origin::Policy)));
        assert_ne!(
            origin("logprobs").map(|(_, origin)| origin),
            Some(Origin::Request)
        );
        let again = mx::trace::replay(&client, found).unwrap();
        assert!(again.same, "{:?}", again.diff);
    }
    assert!(moved > 0, "another row than the first won");
}

/// What a whole object of the contract states beside its method does not act.
#[test]
fn a_method_activates_its_own_truncation() {
    let client = client();
    let settings = |sampling: Value| {
        let run = run(&client, &raw("Hi"), json!({"sampling": sampling}));
        let settings = run.generation.unwrap().settings;
        ["top_k", "top_p"].map(|name| {
            let found = settings.iter().find(|s| s.name == name);
            found.map(|s| s.value.clone())
        })
    };
    let whole = |method: &str| settings(json!({"method": method, "top_k": 50, "top_p": 0.9}));
    assert_eq!(whole("top-p"), [None, Some(json!(0.9))]);
    assert_eq!(whole("top-k"), [Some(json!(50)), None]);
    assert_eq!(whole("min-p"), [None, None]);
    let both = settings(json!({"method": "top-p", "top_k": 40, "top_p": 0.9}));
    assert_eq!(both, [Some(json!(40)), Some(json!(0.9))]);
}

#[test]
fn confidence_is_the_mean_probability_of_the_tokens() {
    let client = client();
    let plain = client.run(&raw("Hi").logprobs(0)).unwrap();
    let mean = plain.logprobs.iter().map(|t| t.logprob).sum::<f64>() / plain.logprobs.len() as f64;
    let mut request = raw("Hi");
    request.checks.confidence_triggered_regeneration = Some(true);
    request.checks.confidence_threshold = Some(0.0);
    request.include_trace = Some(true);
    let sure = client.run(&request).unwrap();
    assert_eq!(sure.tokens, plain.tokens);
    assert!(sure.logprobs.is_empty(), "nobody asked for them");
    let judged = sure.policy.unwrap();
    assert!((judged.confidence.unwrap() - mean.exp()).abs() < 1e-12);
    assert_eq!(trace(&judged).candidates.len(), 1);
    request.checks.confidence_threshold = Some(1.0);
    let doubted = client.run(&request).unwrap();
    let judged = doubted.policy.unwrap();
    assert_eq!(trace(&judged).retry_events[0].trigger, "confidence");
    assert!(judged.accepted && warned(&judged, "low_confidence"));
}

#[test]
fn constraints_are_masks() {
    let client = client();
    let request = raw("x").max_tokens(160);
    for seed in 0..4 {
        let request = request.clone().seed(seed);
        let found = run(
            &client,
            &request,
            json!({
                "constraints": {"json_schema": {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}},
                    "required": ["a"], "additionalProperties": false}},
                "verifiers": {"enabled": ["syntax", "json_schema"]},
            }),
        );
        assert!(found.accepted, "{found:?}");
        assert_eq!(kinds(&found).len(), 1);
        let value: Value = serde_json::from_str(&found.output).unwrap();
        assert!(value["a"].is_u64());

        let tools = json!({"add": {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"],
            "additionalProperties": false}, "stop": {"type": "object", "additionalProperties": false}});
        let found = run(
            &client,
            &request,
            json!({
                "constraints": {"tool_schema": tools}, "verifiers": {"enabled": ["tool_args"]},
            }),
        );
        let value: Value = serde_json::from_str(&found.output).unwrap();
        match value["tool_name"].as_str().unwrap() {
            "add" => assert!([1, 2].contains(&value["arguments"]["n"].as_i64().unwrap())),
            name => assert_eq!((name, &value["arguments"]), ("stop", &json!({}))),
        }

        let found = run(
            &client,
            &request,
            json!({
                "constraints": {"regex_pattern": "[a-e]{8}", "forbidden_terms": ["A", "dE"]},
            }),
        );
        assert!(
            found.accepted && !warned(&found, "checked_afterwards"),
            "{found:?}"
        );
        assert!(!found.output.contains('a') && !found.output.contains("de"));
        assert_eq!(found.output.len(), 8);

        let grammar = "start: (\"x\" | \"yy\") \";\"";
        let found = run(
            &client,
            &request,
            json!({"constraints": {"grammar": grammar}}),
        );
        assert!(["x;", "yy;"].contains(&found.output.as_str()), "{found:?}");
        let found = run(
            &client,
            &request,
            json!({"constraints": {"grammar": "regex: [0-9]{3}"}}),
        );
        assert!(found.output.parse::<u32>().is_ok(), "{found:?}");
    }
}

#[test]
fn forbidden_terms_never_appear() {
    let client = client();
    let request = raw("x").max_tokens(48).temperature(1.5);
    let plain = client.run(&request).unwrap();
    let letters: Vec<String> = plain
        .text
        .chars()
        .filter(char::is_ascii_alphabetic)
        .map(String::from)
        .collect();
    assert!(!letters.is_empty(), "{plain:?}");
    let found = run(
        &client,
        &request,
        json!({
            "constraints": {"forbidden_terms": letters}, "verifiers": {"enabled": ["forbidden_terms"]},
        }),
    );
    let lower = found.output.to_lowercase();
    assert!(
        letters
            .iter()
            .all(|letter| !lower.contains(&letter.to_lowercase()))
    );
    assert!(found.accepted);
}

#[test]
fn what_no_mask_carries_is_checked_and_repaired_and_given_up() {
    let client = client();
    let request = raw("x").max_tokens(40);
    let found = run(
        &client,
        &request,
        json!({
            "constraints": {"json_schema": {"type": "object", "additionalProperties": false}, "regex_pattern": "zzz"},
            "verifiers": {"enabled": ["regex"], "max_retries": 1},
            "optimization": {"retry_on_failure": 1, "fallback_methods": ["min-p", "greedy"]},
        }),
    );
    assert!(!found.accepted && !found.constraints_ok && !found.verifier_ok);
    assert!((found.score - (1.0 - 0.4 - 1.0)).abs() < 1e-12);
    assert!(warned(&found, "checked_afterwards") && warned(&found, "not_accepted"));
    use CandidateKind::*;
    assert_eq!(kinds(&found), [Round, Round, Repair, Fallback, Fallback]);
    let methods: Vec<&str> = trace(&found).candidates[3..]
        .iter()
        .map(|c| c.sampling_method.as_str())
        .collect();
    assert_eq!(methods, ["min-p", "greedy"]);
    let generation = found.generation.unwrap();
    assert_eq!(generation.text, found.output);
}

#[test]
fn weak_rows_are_given_up_early() {
    let client = client();
    let request = raw("Hi").max_tokens(48);
    let value = |prune: bool| json!({"optimization": {"best_of_n": 4, "branch_and_prune": prune}});
    let (kept, pruned) = (
        run(&client, &request, value(false)),
        run(&client, &request, value(true)),
    );
    let given_up: Vec<_> = trace(&pruned)
        .candidates
        .iter()
        .filter(|c| c.pruned)
        .collect();
    assert!(!given_up.is_empty() && given_up.len() <= 2, "{pruned:?}");
    assert!(
        given_up
            .iter()
            .all(|c| c.tokens >= 12 && c.tokens < 48 && !c.accepted)
    );
    assert!(pruned.total_tokens < kept.total_tokens);
    // The rows that go on are what they would have been.
    for (a, b) in trace(&pruned)
        .candidates
        .iter()
        .zip(&trace(&kept).candidates)
    {
        assert!(a.pruned || a.output == b.output);
    }
}

#[test]
fn budgets_cut_and_say_so() {
    let client = client();
    let found = run(
        &client,
        &raw("Hi").max_tokens(40),
        json!({
            "objective": {"token_budget": 10}, "optimization": {"best_of_n": 2},
        }),
    );
    assert_eq!(found.budget, Some(Budget::TokenBudget));
    assert_eq!(found.total_tokens, 10);
    assert!(warned(&found, "budget"));
    let settings = &found.generation.as_ref().unwrap().settings;
    let max_tokens = settings.iter().find(|s| s.name == "max_tokens").unwrap();
    assert_eq!(
        (&max_tokens.value, max_tokens.origin),
        (&json!(5), Origin::Policy)
    );

    let endless = scripted(&Script::repeats("ab").context(100_000));
    let request = GenerateRequest::new("a").raw(true).max_tokens(90_000);
    let found = run(
        &endless,
        &request,
        json!({"objective": {"latency_budget_ms": 50}}),
    );
    assert_eq!(found.budget, Some(Budget::LatencyBudgetMs));
    assert_eq!(
        found.generation.unwrap().finish_reason,
        FinishReason::Cancelled
    );
}

#[test]
fn schedules_reach_the_sampler() {
    let client = client();
    let mut request = raw("Hi");
    request.checks.adaptive_temperature_schedule = vec![0.0, 5.0];
    request.controls.best_of_n = Some(2);
    request.include_trace = Some(true);
    let found = client.run(&request).unwrap().policy.unwrap();
    let candidates = &trace(&found).candidates;
    let greedy = client.run(&raw("Hi").method(Method::Greedy)).unwrap();
    let temperatures: Vec<_> = candidates.iter().map(|c| c.temperature.unwrap()).collect();
    assert_eq!(temperatures, [0.0, 5.0]);
    assert_eq!(candidates[0].output, greedy.text);
    let seed = candidates[1].seed;
    let hot = client.run(&raw("Hi").temperature(5.0).seed(seed)).unwrap();
    assert_eq!(candidates[1].output, hot.text);
}

#[test]
fn steering_of_a_policy_steers_only_when_enabled() {
    let client = client();
    let width = client.model().unwrap().config().d_model;
    let vector: Vec<f32> = (0..width)
        .map(|i| if i % 2 == 0 { 3.0 } else { -3.0 })
        .collect();
    let block = |enabled: bool| {
        json!({"steering": {"enabled": enabled, "vector": {"1": vector.clone()}, "strength": 4.0,
            "layer_scope": ["blocks.1.hook_resid_pre"], "token_start": 0}})
    };
    let request = raw("Hi").method(Method::Greedy);
    let plain = client.run(&request).unwrap();
    let off = run(&client, &request, block(false));
    assert_eq!(off.output, plain.text);
    assert!(warned(&off, "steering_disabled"));
    let on = run(&client, &request, block(true));
    assert_ne!(on.output, plain.text);
    // A strength of the request is one for the policy's vector.
    let mut weak = request.clone();
    weak.steering.steering_strength = Some(0.0);
    assert_eq!(run(&client, &weak, block(true)).output, plain.text);
    let settings = &on.generation.as_ref().unwrap().settings;
    let steering = settings.iter().find(|s| s.name == "steering").unwrap();
    assert_eq!(steering.origin, Origin::Policy);
}

#[test]
fn unknown_fields_are_kept_and_reported() {
    let client = client();
    let value = json!({"id": "p1", "sampling": {"future": 1}, "later": {"x": [null]}});
    let id = client.policies().save(&policy(value.clone())).unwrap();
    assert_eq!(id, "p1");
    let back = client.policies().get("p1").unwrap();
    assert_eq!(serde_json::to_value(&back).unwrap(), value);
    let found = run(&client, &raw("x"), value);
    let unknown: Vec<_> = found
        .warnings
        .iter()
        .filter(|w| w.code == "unknown_field")
        .collect();
    assert_eq!(unknown.len(), 2, "{:?}", found.warnings);
    assert!(
        unknown
            .iter()
            .any(|w| w.message.contains("sampling.future"))
    );
    assert_eq!(found.policy_id.as_deref(), Some("p1"));
    let answer = client.run(&raw("x").policy_id("p1")).unwrap();
    assert_eq!(answer.policy.unwrap().policy_id.as_deref(), Some("p1"));
    let missing = client.run(&raw("x").policy_id("p2")).unwrap_err();
    assert!(
        matches!(missing, Error::PolicyStore(_)) && missing.kind() == ErrorKind::InvalidRequest
    );
    let both = client.run(&raw("x").policy_id("p1").policy(Policy::default()));
    assert_eq!(both.unwrap_err().kind(), ErrorKind::InvalidRequest);
    let null: GenerateRequest = serde_json::from_value(json!({
        "prompt": "x", "policy": null, "policy_id": null, "adaptive_temperature_schedule": null, "code_unit_tests": null,
    }))
    .unwrap();
    assert!(null.checks.is_empty());
}

#[test]
fn policies_are_kept_where_the_client_says() {
    let folder = tempfile::tempdir().unwrap();
    let store = PolicyStore::new(folder.path());
    let one = Client::builder().policies(store.clone()).build();
    // Neither a model nor a server is needed for keeping policies.
    let id = one.policies().save(&policy(json!({"name": "N"}))).unwrap();
    let two = Client::builder().policies(store).build();
    assert_eq!(two.policies().list().unwrap().len(), 1);
    let preset = PolicyPreset::new("shared", two.policies().get(&id).unwrap());
    let preset = two.policies().publish_preset(&preset).unwrap();
    assert_eq!(one.policies().list_presets(true).unwrap()[0].id, preset);
    let clone = one.policies().clone_preset(&preset).unwrap();
    assert_ne!(clone, id);
    one.policies().delete(&id).unwrap();
    assert!(two.policies().get(&id).is_err());
    assert!(two.policies().get(&clone).is_ok());
    let text = std::fs::read_to_string(folder.path().join(format!("{clone}.json"))).unwrap();
    assert!(text.contains("\n  \"name\": \"N\""), "readable: {text}");
}

#[test]
fn code_is_run_only_when_allowed() {
    // A script says no byte twice.
    let mut client = scripted(&Script::says("\nx=1"));
    let request = GenerateRequest::new("go").max_tokens(8);
    let mut tested = request.clone();
    tested.checks.code_unit_tests = vec!["assert x == 1".to_owned(), "assert x > 0".to_owned()];
    let refused = client.run(&tested).unwrap_err();
    assert!(matches!(refused, Error::Sandbox(_)) && refused.kind() == ErrorKind::Unsupported);
    client.set_code_execution(Some(CodeLimits::default()));
    let answer = match client.run(&tested) {
        Err(Error::Sandbox(error)) => {
            eprintln!("SKIPPED code_is_run_only_when_allowed: {error}");
            return;
        }
        other => other.unwrap(),
    };
    assert_eq!(answer.text, "x=1");
    assert!(answer.policy.unwrap().accepted);
    tested
        .checks
        .code_unit_tests
        .push("assert x == 2".to_owned());
    let judged = client.run(&tested).unwrap().policy.unwrap();
    assert!(!judged.accepted && (judged.score - 0.1).abs() < 1e-12);
    assert!(
        judged.reason.contains("test 3: AssertionError"),
        "{}",
        judged.reason
    );
    let compiled = run(
        &client,
        &request,
        json!({"verifiers": {"enabled": ["code_compile"]}}),
    );
    assert!(compiled.accepted);
    let broken = scripted(&Script::says("\nx=("));
    let mut broken = broken;
    broken.set_code_execution(Some(CodeLimits::default()));
    let judged = run(
        &broken,
        &request,
        json!({"verifiers": {"enabled": ["code_compile"]}}),
    );
    assert!(judged.reason.contains("SyntaxError"), "{}", judged.reason);
}

#[test]
fn a_policy_streams_once_it_is_judged() {
    let client = client();
    let request = raw("Hi").policy(policy(json!({"optimization": {"best_of_n": 3}})));
    let whole = client.run(&request).unwrap();
    let mut stream = client.stream(&request).unwrap();
    let chunks: Vec<_> = stream.by_ref().map(Result::unwrap).collect();
    let text: String = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
    assert_eq!(text, whole.text);
    let streamed = stream.into_generation();
    assert_eq!(streamed.tokens, whole.tokens);
    assert!(streamed.policy.unwrap().accepted);
}

#[test]
fn comparing_evaluating_and_tuning() {
    let client = client();
    let request = raw("x").max_tokens(6);
    let policies = client.policies();
    let two = [
        policy(json!({"name": "a"})),
        policy(json!({"constraints": {"regex_pattern": "[0-9]+"}})),
    ];
    let runs = policies.compare(&request, &two).unwrap();
    assert_eq!(runs.len(), 2);
    assert!(runs[1].output.chars().all(|c| c.is_ascii_digit()));
    assert!(policies.compare(&request, &[]).is_err());

    let prompts = ["one".to_owned(), "two".to_owned(), "three".to_owned()];
    let found = policies.evaluate(&prompts, &two[1], &request).unwrap();
    assert_eq!(
        (found.num_prompts, found.pass_count + found.fail_count),
        (3, 3)
    );
    let tokens: usize = found.outputs.iter().map(|run| run.tokens).sum();
    assert!((found.avg_tokens - tokens as f64 / 3.0).abs() < 1e-12);
    assert!(policies.evaluate(&[], &two[0], &request).is_err());

    let search = Search::new()
        .over("optimization.best_of_n", [1, 2])
        .over("sampling.temperature", [0.1, 0.9])
        .over("sampling.method", ["top-k", "greedy"]);
    let grid = search.grid(&two[1]).unwrap();
    let described: Vec<(String, f64, i64)> = grid
        .iter()
        .map(|policy| {
            let sampling = policy.sampling.value().unwrap();
            let method = sampling.method.value().unwrap().clone();
            let best_of = policy
                .optimization
                .value()
                .unwrap()
                .best_of_n
                .value()
                .copied();
            (
                method,
                *sampling.temperature.value().unwrap(),
                best_of.unwrap(),
            )
        })
        .collect();
    let wanted = ["top-k", "greedy"].iter().flat_map(|method| {
        [(0.1, 1), (0.1, 2), (0.9, 1), (0.9, 2)].map(|(t, n)| ((*method).to_owned(), t, n))
    });
    assert_eq!(described, wanted.collect::<Vec<_>>());
    let tuned = policies
        .auto_tune(&prompts[..1], &two[1], &search.max_trials(3), &request)
        .unwrap();
    assert_eq!(tuned.trials.len(), 3);
    let best = tuned
        .trials
        .iter()
        .find(|trial| trial.policy == tuned.best_policy)
        .unwrap();
    assert_eq!(best, &tuned.best_trial);
    for trial in &tuned.trials {
        let key = |t: &mx::policy::Trial| (t.success_rate, t.avg_score, -t.avg_latency_ms);
        assert!(key(best) >= key(trial));
    }
    let wrong = Search::new().over("sampling.top_k", [1]);
    assert!(matches!(
        wrong.grid(&two[0]),
        Err(Error::UnknownField { .. })
    ));
    let wrong = Search::new().over("sampling.method", ["nonsense"]);
    assert!(wrong.grid(&two[0]).is_err());
}

/// Every constructor names fields of the contract only, and runs.
#[test]
fn constructors_make_policies_that_run() {
    let mut client = client();
    client.add_model("other", tiny());
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
        "additionalProperties": false});
    for made in [
        constructors::strict_json_extraction(&schema, "s").unwrap(),
        constructors::fast_tool_router("f").unwrap(),
        constructors::diverse_chatbot("d").unwrap(),
        constructors::ensemble_vote(&["other".to_owned()], "e").unwrap(),
        constructors::steering_preset("json_compliance", "p", "top-k").unwrap(),
    ] {
        let name = made.name.value().unwrap().clone();
        let run = client
            .policies()
            .run_with(&raw("x").max_tokens(100), &made)
            .unwrap();
        assert!(!warned(&run, "unknown_field"), "{name}: {:?}", run.warnings);
        let candidates = &trace(&run).candidates;
        let temperatures: Vec<_> = candidates.iter().filter_map(|c| c.temperature).collect();
        match name.as_str() {
            "s" => {
                assert_eq!(candidates.len(), 2);
                assert!(run.accepted, "{run:?}");
                assert_eq!(candidates[0].sampling_method, "guided-generation");
            }
            "f" => assert_eq!(candidates[0].sampling_method, "speculative-decoding"),
            "d" => {
                assert_eq!(candidates.len(), 3);
                let mut sorted: Vec<f64> = temperatures
                    .iter()
                    .map(|t| (t * 100.0).round() / 100.0)
                    .collect();
                sorted.sort_by(f64::total_cmp);
                assert_eq!(sorted, [0.9, 0.97, 1.04]);
            }
            "e" => assert!(
                candidates
                    .iter()
                    .all(|c| c.sampling_method == "ensemble-sampling")
            ),
            // A random model need not come to an end of its object.
            _ => {
                assert!(run.output.trim_start().starts_with('{'), "{run:?}");
                let settings = &run.generation.as_ref().unwrap().settings;
                let json = settings.iter().find(|s| s.name == "json_mode").unwrap();
                assert_eq!(json.origin, Origin::Preset);
            }
        }
    }
}

#[test]
fn the_service_runs_policies_itself() {
    let answer = json!({"output": "ok", "accepted": false, "score": 0.4, "latency_ms": 7, "tokens": 2,
        "constraints_ok": true, "verifier_ok": false, "trace": {"candidates": []}, "policy_id": null});
    let server = Server::start(200, &answer);
    let client = Client::builder().key("ax_1").base_url(&server.url).build();
    let mut request = GenerateRequest::new("Q").temperature(0.3).max_tokens(9);
    request.checks.confidence_threshold = Some(0.7);
    let inline = json!({"name": "N", "sampling": {"temperature": 0.9, "top_k": null, "future": 1},
        "verifiers": {"enabled": ["factuality"]}});
    let run = client
        .policies()
        .run_with(&request, &policy(inline))
        .unwrap();
    assert_eq!(
        (run.output.as_str(), run.accepted, run.score),
        ("ok", false, 0.4)
    );
    assert!(matches!(run.trace, Some(PolicyTrace::Remote(_))));
    assert_eq!(run.generation.as_ref().unwrap().route, Route::Remote);
    let (head, body) = server.last();
    assert!(head.starts_with("POST /policies/run"), "{head}");
    assert_eq!(body["max_new_tokens"], 9);
    let sent = &body["policy"];
    assert_eq!(
        sent["sampling"],
        json!({"temperature": 0.3, "top_k": null, "future": 1})
    );
    assert_eq!(sent["verifiers"], json!({"enabled": ["factuality"]}));
    assert_eq!(sent["optimization"]["confidence_threshold"], 0.7);
    assert_eq!(
        client.policies().delete("x").unwrap_err().kind(),
        ErrorKind::Unsupported
    );

    let saved = Server::start(200, &json!({"policy_id": "p9"}));
    let client = Client::builder().key("ax_1").base_url(&saved.url).build();
    assert_eq!(
        client
            .policies()
            .save(&policy(json!({"name": "N"})))
            .unwrap(),
        "p9"
    );
    assert!(saved.last().0.starts_with("POST /policies/save"));
}

#[test]
fn other_servers_make_candidates_for_the_rule() {
    let choice = |index: usize, text: &str| json!({"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    let server = Server::answers(200, "application/json", move |asked| {
        let n = asked["n"].as_u64().unwrap_or(1) as usize;
        let texts = ["no", "yes 7"].into_iter().cycle().take(n);
        let choices: Vec<Value> = texts.enumerate().map(|(i, t)| choice(i, t)).collect();
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 2 * n});
        json!({"id": "1", "model": "m", "choices": choices, "usage": usage}).to_string()
    });
    let client = Client::builder()
        .server(ServerKind::OpenAi, "m")
        .base_url(&server.url)
        .fallback(Fallback::Never)
        .build();
    let request = GenerateRequest::new("Q").seed(1);
    let run = client.policies().run_with(
        &request,
        &policy(json!({
            "optimization": {"best_of_n": 2}, "verifiers": {"enabled": ["factuality"]},
        })),
    );
    let run = run.unwrap();
    assert_eq!(trace(&run).candidates.len(), 2);
    let asked = server.asked.lock().unwrap();
    assert_eq!((asked.len(), &asked[0].1["n"]), (2, &json!(2)));
    let witnesses = asked[1].1["n"].as_u64().unwrap() as usize;
    assert!(witnesses > 2);
    assert_eq!(run.total_tokens, 2 * 2 + 2 * witnesses);
    assert_eq!(run.generation.unwrap().route, Route::Remote);
}

/// A server that does not answer is not waited for longer than the budget, nor after the caller has gone.
#[test]
fn a_silent_server_is_left() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::builder()
        .server(ServerKind::OpenAi, "m")
        .base_url(format!("http://{}", silent.local_addr().unwrap()))
        .fallback(Fallback::Never)
        .build();
    let request = GenerateRequest::new("Q").seed(1);
    let started = std::time::Instant::now();
    let budget = policy(json!({"objective": {"latency_budget_ms": 100}}));
    let error = client.policies().run_with(&request, &budget).unwrap_err();
    assert!(error.to_string().contains("latency_budget_ms"), "{error}");
    let cancel = mx::Cancel::new();
    let stop = cancel.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        stop.cancel();
    });
    let policies = client.policies().with_cancel(cancel);
    assert!(policies.run_with(&request, &Policy::default()).is_err());
    thread.join().unwrap();
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn the_default_model_extracts_and_is_steered() {
    let Some(model) = default_model::model("the_default_model_extracts_and_is_steered") else {
        return;
    };
    let client = Client::with_model(model);
    let schema = json!({"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
        "required": ["name", "age"], "additionalProperties": false});
    let made = constructors::strict_json_extraction(&schema, "people").unwrap();
    let request = GenerateRequest::new("Extract name and age as JSON: Ada is 36 years old.")
        .seed(1)
        .max_tokens(48);
    let run = client.policies().run_with(&request, &made).unwrap();
    assert!(run.accepted, "{run:?}");
    let value: Value = serde_json::from_str(&run.output).unwrap();
    assert!(value["age"].is_i64() && value["name"].is_string());
    assert_eq!(trace(&run).candidates.len(), 2);
    assert!(run.confidence.is_some_and(|c| c > 0.0 && c <= 1.0));

    let request = GenerateRequest::new("The capital of France is")
        .raw(true)
        .seed(1)
        .max_tokens(3);
    let sure =
        policy(json!({"sampling": {"temperature": 0.1}, "verifiers": {"enabled": ["factuality"]}}));
    let run = client.policies().run_with(&request, &sure).unwrap();
    assert!(run.output.contains("Paris") && run.accepted, "{run:?}");
    assert!(trace(&run).agreement.unwrap() >= 0.5);
    let unsure = policy(
        json!({"sampling": {"method": "top-p", "temperature": 2.0, "top_p": 1.0},
        "verifiers": {"enabled": ["factuality"], "repair_on_failure": false}, "optimization": {"retry_on_failure": 0}}),
    );
    let request = GenerateRequest::new("My neighbour's telephone number is")
        .raw(true)
        .seed(2)
        .max_tokens(12);
    let run = client.policies().run_with(&request, &unsure).unwrap();
    assert!(
        !run.accepted && run.reason.contains("factuality"),
        "{run:?}"
    );
}
