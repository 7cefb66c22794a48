#![allow(clippy::unwrap_used)]
use super::super::Policy;
use super::super::candidate::CandidateKind::{Fallback, Repair, Revision, Round};
use super::super::generator::Draft;
use super::super::resolve::Resolved;
use super::super::verify::WITNESSES;
use super::*;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::{HashSet, VecDeque};

/// What a scripted candidate is like: its text, tokens and log-probability a token.
#[derive(Debug, Clone)]
struct Line(&'static str, usize, f64);

/// Says what it was told to, and keeps what it was asked. Every job takes `millis`.
struct Scripted {
    lines: VecDeque<Line>,
    asked: Vec<Job>,
    millis: u64,
    now: Cell<u64>,
    sampling: Sampling,
    logprobs: bool,
    remote: bool,
    largest_seed: u64,
}

impl Scripted {
    fn new(lines: &[Line]) -> Self {
        Scripted {
            lines: lines.iter().cloned().collect(),
            asked: Vec::new(),
            millis: 1,
            now: Cell::new(0),
            sampling: Sampling {
                temperature: Some(0.7),
                top_p: Some(0.9),
                deterministic: false,
            },
            logprobs: true,
            remote: false,
            largest_seed: u64::MAX,
        }
    }

    fn texts(texts: &[&'static str]) -> Self {
        let lines: Vec<Line> = texts.iter().map(|text| Line(text, 4, -1.0)).collect();
        Scripted::new(&lines)
    }

    fn rows(&self) -> Vec<usize> {
        self.asked.iter().map(|job| job.rows).collect()
    }
}

impl Generator for Scripted {
    fn sampling(&self, request: &GenerateRequest) -> Result<Sampling, Error> {
        let mut sampling = self.sampling;
        sampling.temperature = request.sampling.temperature.or(sampling.temperature);
        Ok(sampling)
    }

    fn converses(&self, request: &GenerateRequest) -> bool {
        request.raw != Some(true)
    }

    fn is_remote(&self) -> bool {
        self.remote
    }

    fn largest_seed(&self) -> u64 {
        self.largest_seed
    }

    fn generate(&mut self, job: &Job) -> Result<Batch, Error> {
        self.asked.push(job.clone());
        self.now.set(self.now.get() + self.millis);
        let most = job.request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        let drafts = (0..job.rows).map(|_| {
            let Line(text, tokens, logprob) = self.lines.pop_front().expect("the script is over");
            let finish_reason = match tokens > most {
                true => FinishReason::Length,
                false => FinishReason::Stop,
            };
            let tokens = tokens.min(most);
            Draft {
                text: text.to_owned(),
                tokens,
                logprobs: vec![logprob; if self.logprobs { tokens } else { 0 }],
                finish_reason,
                pruned: false,
            }
        });
        Ok(Batch {
            drafts: drafts.collect(),
            answer: Arc::new(crate::remote::nothing()),
            late: false,
        })
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.now.get())
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

fn play(script: &mut Scripted, policy: Value) -> Outcome {
    try_play(script, policy).unwrap()
}

fn try_play(script: &mut Scripted, policy: Value) -> Result<Outcome, Error> {
    let policy: Policy = serde_json::from_value(policy).unwrap();
    let request = GenerateRequest::new("Q").seed(5);
    let mut warnings = Vec::new();
    let resolved = Resolved::new(&policy, &request, None, &mut warnings)?;
    let verifiers = resolved.verifiers.clone();
    let rules = Rules::new(&policy, &request, verifiers, &mut warnings)?;
    let judge = Judge::new(resolved.required.clone(), &rules, None)?;
    let mut outcome = conduct(script, &judge, &rules, &resolved.request)?;
    warnings.append(&mut outcome.warnings);
    outcome.warnings = warnings;
    Ok(outcome)
}

/// Outputs that hold `ok` are accepted.
fn wants_ok(mut rest: Value) -> Value {
    rest["constraints"] = json!({"regex_pattern": "ok"});
    rest
}

/// Nine digits, so that sums compare.
fn rounded(value: Option<f64>) -> f64 {
    (value.unwrap() * 1e9).round() / 1e9
}

fn temperatures(outcome: &Outcome) -> Vec<f64> {
    let candidates = outcome.candidates.iter();
    candidates.map(|c| rounded(c.temperature)).collect()
}

fn kinds(outcome: &Outcome) -> Vec<CandidateKind> {
    outcome.candidates.iter().map(|c| c.kind).collect()
}

#[test]
fn an_empty_policy_is_one_plain_request() {
    let mut script = Scripted::texts(&["a"]);
    let outcome = play(&mut script, json!({}));
    assert_eq!(script.asked.len(), 1);
    let job = &script.asked[0];
    assert_eq!(job.request, GenerateRequest::new("Q").seed(5));
    assert_eq!((job.rows, job.deadline, job.prune_after), (1, None, None));
    let winner = outcome.winner().unwrap();
    assert_eq!((winner.score, winner.accepted), (1.0, true));
    assert_eq!(winner.reason, "accepted");
    assert!(outcome.warnings.is_empty() && outcome.events.is_empty());
}

#[test]
fn candidates_of_a_round_are_rows_of_one_request() {
    let lines = [Line("a", 4, -2.0), Line("b", 4, -1.0), Line("c", 4, -1.0)];
    let mut script = Scripted::new(&lines);
    let policy = json!({"optimization": {"best_of_n": 2}, "sampling": {"num_candidates": 3}});
    let outcome = play(&mut script, policy);
    assert_eq!(script.rows(), [3]);
    // Equal scores: the more likely one, then the first.
    assert_eq!(outcome.order, [1, 2, 0]);
    let first = &outcome.candidates[0];
    assert_eq!((first.seed, first.stream, first.slot), (5, 0, 0));
    assert_eq!(outcome.candidates[2].stream, 2);
}

#[test]
fn without_rerank_the_first_accepted_one_wins() {
    let lines = [
        Line("no", 4, -0.1),
        Line("ok 1", 4, -2.0),
        Line("ok 2", 4, -1.0),
    ];
    for (rerank, wanted) in [(true, "ok 2"), (false, "ok 1")] {
        let policy = json!({"optimization": {"best_of_n": 3}, "verifiers": {"rerank": rerank}});
        let outcome = play(&mut Scripted::new(&lines), wants_ok(policy));
        assert_eq!(outcome.winner().unwrap().output, wanted);
    }
}

#[test]
fn retries_cool_step_by_step_and_stop_when_one_is_accepted() {
    let mut script = Scripted::texts(&["x", "x", "ok", "never asked for"]);
    let policy = wants_ok(json!({"optimization": {"retry_on_failure": 5}}));
    let outcome = play(&mut script, policy);
    assert_eq!(temperatures(&outcome), [0.7, 0.62, 0.46]);
    let top_ps: Vec<f64> = outcome
        .candidates
        .iter()
        .map(|c| rounded(c.top_p))
        .collect();
    assert_eq!(top_ps, [0.9, 0.86, 0.78]);
    // The first round leaves the request alone, the others say what they are drawn with.
    assert_eq!(script.asked[0].request.sampling.temperature, None);
    assert_eq!(
        script.asked[2].request.sampling.top_p,
        outcome.candidates[2].top_p
    );
    assert!(outcome.winner().unwrap().accepted);
    let events: Vec<_> = outcome
        .events
        .iter()
        .map(|e| (e.round, e.trigger, e.winner_score))
        .collect();
    assert_eq!(
        events,
        [(1, "accepted=false", 0.0), (2, "accepted=false", 0.0)]
    );
    let seeds: HashSet<_> = script.asked.iter().map(|j| j.request.seed).collect();
    assert_eq!(seeds.len(), 3);
}

#[test]
fn cooling_has_floors() {
    let policy = json!({
        "optimization": {"retry_on_failure": 9}, "verifiers": {"repair_on_failure": false},
    });
    let outcome = play(&mut Scripted::texts(&["x"; 12]), wants_ok(policy));
    assert_eq!(outcome.candidates.len(), 10);
    let last = outcome.candidates.last().unwrap();
    assert_eq!((last.temperature, last.top_p), (Some(0.05), Some(0.2)));
    assert!(!outcome.winner().unwrap().accepted);
}

#[test]
fn schedules_and_diversity_set_each_slot() {
    let policy = wants_ok(json!({
        "sampling": {"num_candidates": 2, "adaptive_temperature_schedule": [0.1, 0.2, 0.3],
                     "adaptive_top_p": true, "adaptive_top_p_schedule": [0.5]},
        "optimization": {"retry_on_failure": 1}, "verifiers": {"repair_on_failure": false},
    }));
    let mut script = Scripted::texts(&["x"; 4]);
    let outcome = play(&mut script, policy);
    assert_eq!(temperatures(&outcome), [0.1, 0.2, 0.3, 0.3]);
    assert!(outcome.candidates.iter().all(|c| c.top_p == Some(0.5)));
    // Two requests of one row, then one of two.
    assert_eq!(script.rows(), [1, 1, 2]);
    assert_eq!(outcome.candidates[3].slot, 1);

    let policy = json!({"sampling": {"num_candidates": 5, "diversity_strength": 1.0}});
    let outcome = play(&mut Scripted::texts(&["x"; 5]), policy);
    let slots = outcome.candidates.iter().map(|c| c.slot);
    let mut by_slot: Vec<(usize, f64)> = slots.zip(temperatures(&outcome)).collect();
    by_slot.sort_by_key(|(slot, _)| *slot);
    let wanted = [(0, 0.7), (1, 0.8), (2, 0.9), (3, 0.7), (4, 0.8)];
    assert_eq!(by_slot, wanted);
}

#[test]
fn a_switch_without_a_schedule_and_a_schedule_switched_off_are_named() {
    for sampling in [
        json!({"adaptive_temperature": true}),
        json!({"adaptive_top_p": false, "adaptive_top_p_schedule": [0.1]}),
    ] {
        let policy = json!({ "sampling": sampling });
        let outcome = play(&mut Scripted::texts(&["x"]), policy);
        assert_eq!(outcome.warnings.len(), 1, "{:?}", outcome.warnings);
        assert_eq!(outcome.candidates[0].top_p, Some(0.9));
    }
}

#[test]
fn confidence_is_a_probability_and_asks_for_a_second_round() {
    let low = 0.25f64.ln();
    let lines = [Line("a", 3, low), Line("b", 5, 0.75f64.ln())];
    let policy = json!({"optimization": {
        "retry_on_failure": 0, "confidence_triggered_regeneration": true,
    }});
    let outcome = play(&mut Scripted::new(&lines), policy.clone());
    assert_eq!(outcome.events[0].trigger, "confidence");
    let winner = outcome.winner().unwrap();
    assert_eq!(winner.output, "b");
    assert!((winner.confidence.unwrap() - 0.75).abs() < 1e-12);
    // Enough at once.
    let enough = [Line("a", 3, 0.51f64.ln())];
    let outcome = play(&mut Scripted::new(&enough), policy.clone());
    assert_eq!(outcome.candidates.len(), 1);
    // Never enough: the best there is, and a warning.
    let lines = [Line("a", 3, low), Line("b", 5, low - 1.0)];
    let outcome = play(&mut Scripted::new(&lines), policy.clone());
    assert_eq!(outcome.winner().unwrap().output, "a");
    assert_eq!(outcome.warnings.last().unwrap().code, "low_confidence");
    // Whoever has no probabilities cannot be asked for them.
    let mut script = Scripted::new(&lines);
    script.logprobs = false;
    let refused = try_play(&mut script, policy);
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
}

#[test]
fn repairs_are_told_what_was_wrong_and_come_before_fallbacks() {
    let mut script = Scripted::texts(&["bad", "worse", "none", "ok"]);
    let policy = wants_ok(json!({
        "optimization": {"retry_on_failure": 0, "fallback_methods": ["min_p", "greedy", "ads"]},
        "verifiers": {"max_retries": 2},
    }));
    let outcome = play(&mut script, policy);
    assert_eq!(kinds(&outcome), [Round, Repair, Repair, Fallback]);
    let Prompt::Chat(messages) = &script.asked[1].request.prompt else {
        panic!("no conversation");
    };
    let said = serde_json::to_value(messages).unwrap();
    assert_eq!(said[0], json!({"role": "user", "content": "Q"}));
    assert_eq!(said[1], json!({"role": "assistant", "content": "bad"}));
    let told = said[2]["content"].as_str().unwrap();
    assert!(told.contains("does not match the pattern"), "{told}");
    let last = &script.asked[3].request;
    assert_eq!(last.sampling_method, Some(Method::MinP));
    assert_eq!(last.prompt, Prompt::from("Q"));
    assert_eq!(outcome.candidates[3].sampling_method, "min-p");
    let triggers: Vec<_> = outcome.events.iter().map(|e| e.trigger).collect();
    assert_eq!(triggers, ["repair", "repair", "fallback"]);
    let off = wants_ok(json!({
        "optimization": {"retry_on_failure": 0}, "verifiers": {"repair_on_failure": false},
    }));
    let outcome = play(&mut Scripted::texts(&["bad"]), off);
    assert_eq!(outcome.candidates.len(), 1);
}

#[test]
fn revisions_replace_only_by_what_is_accepted() {
    let policy = |loops: usize| wants_ok(json!({"optimization": {"self_revision_loops": loops}}));
    let mut script = Scripted::texts(&["ok 1", "ok 2", "bad", "ok 3"]);
    let outcome = play(&mut script, policy(3));
    assert_eq!(kinds(&outcome), [Round, Revision, Revision, Revision]);
    assert_eq!(outcome.winner().unwrap().output, "ok 3");
    let outcome = play(&mut Scripted::texts(&["ok 1", "bad"]), policy(1));
    assert_eq!(outcome.winner().unwrap().output, "ok 1");
}

#[test]
fn the_token_budget_is_shared_and_ends_the_run() {
    let policy = wants_ok(json!({
        "objective": {"token_budget": 10}, "optimization": {"best_of_n": 3, "retry_on_failure": 5},
    }));
    let lines = [Line("x", 100, -1.0), Line("y", 2, -1.0), Line("z", 3, -1.0)];
    let mut script = Scripted::new(&lines);
    let outcome = play(&mut script, policy);
    // 10 for three rows: 3 for each, and one of them is cut.
    assert_eq!(script.asked[0].request.max_tokens, Some(3));
    assert_eq!(outcome.candidates[0].finish_reason, FinishReason::Length);
    assert_eq!(outcome.budget, Some(Budget::TokenBudget));
    assert_eq!(script.asked.len(), 1);
    assert_eq!(outcome.total_tokens, 8);
    let mut script = Scripted::texts(&["x"]);
    let outcome = play(&mut script, json!({"objective": {"token_budget": 1000}}));
    let asked = script.asked[0].request.max_tokens;
    assert_eq!((outcome.budget, asked), (None, None));
}

#[test]
fn the_latency_budget_ends_the_run() {
    let policy = wants_ok(json!({
        "objective": {"latency_budget_ms": 100}, "optimization": {"retry_on_failure": 5},
    }));
    let mut script = Scripted::texts(&["x"; 9]);
    script.millis = 60;
    let outcome = play(&mut script, policy);
    assert_eq!(script.asked[0].deadline, Some(Duration::from_millis(100)));
    assert_eq!(outcome.candidates.len(), 2);
    assert_eq!(outcome.budget, Some(Budget::LatencyBudgetMs));
}

#[test]
fn a_method_that_draws_nothing_is_not_repeated() {
    let mut script = Scripted::texts(&["x", "y"]);
    script.sampling = Sampling {
        temperature: None,
        top_p: None,
        deterministic: true,
    };
    let policy = wants_ok(json!({
        "optimization": {"retry_on_failure": 3, "best_of_n": 4}, "verifiers": {"repair_on_failure": false},
    }));
    let outcome = play(&mut script, policy);
    assert_eq!(outcome.candidates.len(), 1);
    assert_eq!(outcome.warnings.len(), 2);
}

#[test]
fn factuality_compares_with_further_samples() {
    let policy = json!({
        "verifiers": {"enabled": ["factuality"], "repair_on_failure": false},
        "optimization": {"retry_on_failure": 0},
    });
    let texts = [
        "Born in Leeds, 1912.",
        "York 1934",
        "Ghent 1870",
        "Rome 1801",
        "Oslo 1756",
    ];
    let mut script = Scripted::texts(&texts);
    let outcome = play(&mut script, policy.clone());
    assert_eq!(script.rows(), [1, WITNESSES]);
    let winner = outcome.winner().unwrap();
    assert!(!winner.accepted && !winner.verifier_ok && winner.constraints_ok);
    assert!((winner.score - 0.4).abs() < 1e-12);
    assert!(winner.reason.starts_with("factuality: 0 %"));
    let texts = ["It is Paris.", "Paris", "Paris.", "It is Paris", "Rome"];
    let outcome = play(&mut Scripted::texts(&texts), policy);
    assert!(outcome.winner().unwrap().accepted);
    assert_eq!(outcome.agreement, Some(0.75));
}

/// What could not be compared was not verified.
#[test]
fn factuality_that_is_not_checked_does_not_pass() {
    let policy = json!({
        "objective": {"token_budget": 4},
        "verifiers": {"enabled": ["factuality"], "repair_on_failure": false},
        "optimization": {"retry_on_failure": 0},
    });
    let outcome = play(&mut Scripted::texts(&["It is Paris."]), policy);
    let winner = outcome.winner().unwrap();
    assert!(!winner.accepted && !winner.verifier_ok && winner.constraints_ok);
    assert_eq!(
        winner.reason,
        "factuality: not checked: token_budget leaves no further sample"
    );
    assert_eq!(outcome.agreement, None);
}

/// Witnesses of a vote are no votes: they would all say what the candidate says.
#[test]
fn witnesses_are_drawn_where_the_method_draws_nothing() {
    for (sampling, temperature) in [
        (
            json!({"ensemble_models": ["b"], "voting": "majority"}),
            None,
        ),
        (json!({"method": "beam-search", "beam_width": 4}), None),
        (json!({"method": "top-k", "temperature": 0.0}), Some(0.0)),
    ] {
        let mut script = Scripted::texts(&["Paris"; 9]);
        script.sampling = Sampling {
            temperature,
            top_p: None,
            deterministic: temperature.is_none(),
        };
        let policy = json!({
            "sampling": sampling, "verifiers": {"enabled": ["factuality"], "repair_on_failure": false},
            "optimization": {"retry_on_failure": 0},
        });
        play(&mut script, policy);
        let asked = &script.asked[1].request;
        assert_eq!(asked.sampling.temperature, Some(0.7));
        let ensemble = !asked.controls.ensemble_models.is_empty();
        let average = asked.controls.voting == Some(crate::request::Voting::Average);
        assert_eq!(ensemble, average);
        assert_eq!(asked.controls.beam_width, None);
    }
}

/// What generated code said stays on this machine.
#[test]
fn a_remote_model_is_not_told_what_code_said() {
    let policy = wants_ok(json!({
        "verifiers": {"max_retries": 1, "repair_on_failure": true}, "optimization": {"retry_on_failure": 0},
    }));
    for remote in [false, true] {
        let mut script = Scripted::texts(&["x", "ok"]);
        script.remote = remote;
        play(&mut script, policy.clone());
        let told = serde_json::to_string(&script.asked[1].request.prompt).unwrap();
        assert!(told.contains("does not match the pattern"), "{told}");
    }
    let request = GenerateRequest::new("Q").seed(5);
    let policy: Policy = serde_json::from_value(json!({
        "verifiers": {"enabled": ["unit_tests"], "code_unit_tests": ["assert f() == 2"], "max_retries": 1},
        "optimization": {"retry_on_failure": 0},
    }))
    .unwrap();
    for remote in [false, true] {
        let mut script = Scripted::texts(&["raise ValueError('swordfish')", "def f(): return 2"]);
        script.remote = remote;
        let resolved = Resolved::new(&policy, &request, None, &mut Vec::new()).unwrap();
        let verifiers = resolved.verifiers.clone();
        let rules = Rules::new(&policy, &request, verifiers, &mut Vec::new()).unwrap();
        let limits = Some(super::super::CodeLimits::default());
        let Ok(judge) = Judge::new(resolved.required.clone(), &rules, limits) else {
            return;
        };
        let outcome = conduct(&mut script, &judge, &rules, &resolved.request).unwrap();
        assert!(outcome.candidates[0].reason.contains("swordfish"));
        let told = serde_json::to_string(&script.asked[1].request.prompt).unwrap();
        assert!(told.contains("unit_tests: test 1"), "{told}");
        assert_eq!(
            told.matches("swordfish").count(),
            1 + usize::from(!remote),
            "{told}"
        );
    }
}

/// A seed is one that the generator takes, however many steps there are.
#[test]
fn seeds_fit_the_generator() {
    let policy = wants_ok(json!({
        "verifiers": {"enabled": ["factuality"], "max_retries": 2},
        "optimization": {"best_of_n": 3, "retry_on_failure": 3, "fallback_methods": ["min-p"]},
        "sampling": {"diversity_strength": 1.0},
    }));
    let mut script = Scripted::texts(&["x"; 40]);
    script.largest_seed = 1000;
    play(&mut script, policy);
    let seeds: Vec<u64> = script
        .asked
        .iter()
        .filter_map(|job| job.request.seed)
        .collect();
    assert!(
        seeds.len() > 9 && seeds.iter().all(|seed| *seed <= 1000),
        "{seeds:?}"
    );
}

/// What is greedy stays greedy.
#[test]
fn temperature_zero_never_warms() {
    let policy = |schedule: Value| {
        wants_ok(json!({
            "sampling": {"temperature": 0.0, "adaptive_temperature": true, "adaptive_temperature_schedule": schedule},
            "optimization": {"retry_on_failure": 3, "best_of_n": 2}, "verifiers": {"repair_on_failure": false},
        }))
    };
    let outcome = play(&mut Scripted::texts(&["x"; 9]), policy(json!([])));
    assert_eq!(temperatures(&outcome), [0.0]);
    assert_eq!(outcome.warnings.len(), 3, "{:?}", outcome.warnings);
    // A schedule above it draws.
    let outcome = play(&mut Scripted::texts(&["x"; 9]), policy(json!([0.0, 0.5])));
    assert_eq!(temperatures(&outcome)[..3], [0.0, 0.5, 0.5]);
}

#[test]
fn values_out_of_range_are_named() {
    for (policy, field) in [
        (
            json!({"optimization": {"best_of_n": 0}}),
            "optimization.best_of_n",
        ),
        (
            json!({"optimization": {"best_of_n": 65}}),
            "optimization.best_of_n",
        ),
        (
            json!({"optimization": {"retry_on_failure": -1}}),
            "optimization.retry_on_failure",
        ),
        (
            json!({"optimization": {"retry_on_failure": 1_000_000}}),
            "optimization.retry_on_failure",
        ),
        (
            json!({"optimization": {"confidence_threshold": 1.5}}),
            "optimization.confidence_threshold",
        ),
        (
            json!({"optimization": {"fallback_methods": ["nonsense"]}}),
            "nonsense",
        ),
        (
            json!({"sampling": {"adaptive_top_p_schedule": [2.0]}}),
            "sampling.adaptive_top_p_schedule",
        ),
        (
            json!({"sampling": {"method": "steering-perceptrons"}}),
            "steering-perceptrons",
        ),
        (
            json!({"objective": {"token_budget": 0}}),
            "objective.token_budget",
        ),
        (
            json!({"objective": {"maximize": false}}),
            "objective.maximize",
        ),
        (json!({"verifiers": {"enabled": ["truth"]}}), "truth"),
        (json!({"verifiers": {"enabled": ["grammar"]}}), "grammar"),
        (
            json!({"verifiers": {"enabled": ["unit_tests"]}}),
            "code_unit_tests",
        ),
        (
            json!({"verifiers": {"enabled": ["code_compile"]}}),
            "code_compile",
        ),
        (
            json!({"verifiers": {"enabled": ["code_compile"], "code_language": "rust"}}),
            "code_language",
        ),
        (json!({"constraints": {"regex_pattern": "("}}), "("),
        (json!({"constraints": {"regex_pattern": "a)(b"}}), "a)(b"),
        (
            json!({"constraints": {"json_schema": {"type": "nonsense"}}}),
            "nonsense",
        ),
        (
            json!({"constraints": {"tool_schema": {"tools": 3}}}),
            "tool_schema",
        ),
        (
            json!({"constraints": {"forbidden_terms": [""]}}),
            "forbidden_terms",
        ),
        (
            json!({"steering": {"enabled": true, "preset": "brevity", "vector_id": "v"}}),
            "steering.preset",
        ),
        (
            json!({"steering": {"enabled": true, "file_url": "https://x/y"}}),
            "file_url",
        ),
        (
            json!({"steering": {"enabled": true, "preset": "nonsense"}}),
            "nonsense",
        ),
    ] {
        let error = try_play(&mut Scripted::texts(&["x"]), policy.clone()).unwrap_err();
        assert!(error.to_string().contains(field), "{policy}: {error}");
    }
}
