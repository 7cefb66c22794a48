//! Everything combines: constraint, method, steering, drafts, several outputs and log-probabilities in one request.

use crate::tiny;
use mx::request::DrafterKind;
use mx::steer::apply::{Steer, VectorRef};
use mx::{Client, ErrorKind, FinishReason, GenerateRequest, Method};
use serde_json::json;

/// Between three and nine small letters, then an exclamation mark.
const PATTERN: &str = "[a-z]{3,9}!";

fn matches(text: &str) -> bool {
    let Some(letters) = text.strip_suffix('!') else {
        return false;
    };
    (3..=9).contains(&letters.len()) && letters.bytes().all(|b| b.is_ascii_lowercase())
}

fn client() -> Client {
    let mut client = Client::with_model(tiny());
    client.add_model("same", tiny());
    client
}

/// A vector for one layer of the tiny model, as numbers in the request.
fn inline(strength: f32) -> Steer {
    let width = tiny().config().d_model;
    let numbers: Vec<f32> = (0..width)
        .map(|i| ((i * 7 % 5) as f32 - 2.0) / 3.0)
        .collect();
    Steer::new(VectorRef::Inline([("1".to_owned(), numbers)].into())).strength(strength)
}

fn request(method: Method) -> GenerateRequest {
    let mut request = GenerateRequest::new("hello")
        .raw(true)
        .max_tokens(16)
        .method(method)
        .seed(5);
    if method == Method::Ensemble {
        request.controls.ensemble_models = vec!["same".to_owned()];
    }
    if method == Method::ConstrainedBeam {
        request.controls.beam_width = Some(3);
    }
    request
}

#[test]
fn every_cell_of_the_matrix_works() {
    let client = client();
    let mut cells = 0;
    for method in Method::all() {
        for steered in [false, true] {
            for n in [1, 2] {
                for logprobs in [None, Some(2)] {
                    for drafts in [
                        None,
                        Some(DrafterKind::PromptLookup),
                        Some(DrafterKind::Model),
                    ] {
                        let beam = matches!(method, Method::Beam | Method::ConstrainedBeam);
                        let mut request = request(method).regex(PATTERN).n(n);
                        request.controls.logprobs = logprobs;
                        request.controls.drafter = drafts;
                        if drafts == Some(DrafterKind::Model) {
                            request.controls.draft_model = Some("same".to_owned());
                        }
                        if steered {
                            request = request.steer(inline(4.0));
                        }
                        let cell = format!(
                            "{method:?} steered {steered} n {n} logprobs {logprobs:?} drafts {drafts:?}"
                        );
                        let answer = match client.run(&request) {
                            Ok(answer) => answer,
                            Err(error) => {
                                assert!(beam && drafts.is_some(), "{cell}: {error}");
                                assert_eq!(error.kind(), ErrorKind::Unsupported, "{cell}");
                                continue;
                            }
                        };
                        assert!(matches(&answer.text), "{cell}: {:?}", answer.text);
                        assert_eq!(answer.finish_reason, FinishReason::Stop, "{cell}");
                        assert_eq!(answer.choices.len(), if n == 1 { 0 } else { n }, "{cell}");
                        for choice in &answer.choices {
                            assert!(matches(&choice.text), "{cell}: {:?}", choice.text);
                        }
                        if logprobs.is_some() {
                            assert_eq!(answer.logprobs.len(), answer.tokens.len(), "{cell}");
                        }
                        // Streamed and in one piece are the same.
                        let mut stream = client.stream(&request).unwrap();
                        let chunks: Vec<_> = stream.by_ref().map(Result::unwrap).collect();
                        let first = chunks.iter().filter(|c| c.index == 0).map(|c| &*c.text);
                        assert_eq!(first.collect::<String>(), answer.text, "{cell}");
                        cells += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cells, 10 * 24 + 2 * 8);
}

#[test]
fn every_kind_of_constraint_is_kept() {
    let client = client();
    let base = || {
        GenerateRequest::new("hello")
            .raw(true)
            .max_tokens(120)
            .temperature(1.0)
            .top_k(0)
    };
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 70},
        "b": {"enum": ["x", "y"]}}, "required": ["a", "b"], "additionalProperties": false});
    for seed in 0..12 {
        let answer = client
            .run(&base().json_schema(schema.clone()).seed(seed))
            .unwrap();
        if answer.finish_reason == FinishReason::Stop {
            let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
            assert!((3..=70).contains(&value["a"].as_i64().unwrap()), "{value}");
            assert!(value["b"] == "x" || value["b"] == "y", "{value}");
        } else {
            assert!(
                answer
                    .warnings
                    .iter()
                    .any(|w| w.code == "constraint_unfinished")
            );
        }
        let chosen = client
            .run(&base().choices(["yes", "no"]).seed(seed))
            .unwrap();
        assert!(chosen.text == "yes" || chosen.text == "no");
        let grammar = "root ::= \"(\" root \")\" | \"x\"";
        let nested = base()
            .grammar(mx::request::GrammarSyntax::Gbnf, grammar)
            .seed(seed);
        let nested = client.run(&nested).unwrap();
        if nested.finish_reason == FinishReason::Stop {
            let depth = nested.text.find('x').unwrap();
            assert_eq!(
                nested.text,
                format!("{}x{}", "(".repeat(depth), ")".repeat(depth))
            );
        }
    }
    let error = client
        .run(&base().json_schema(json!({"type": "nothing"})))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    let error = client.run(&base().regex("a(")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    let error = client.run(&base().regex("a").choices(["a"])).unwrap_err();
    assert!(error.to_string().contains("choices"), "{error}");
}

#[test]
fn strength_zero_is_the_plain_model_bit_for_bit() {
    let client = client();
    let plain = request(Method::TopK)
        .temperature(1.5)
        .logprobs(3)
        .max_tokens(12);
    let none = plain.clone().steer(inline(0.0));
    let (a, b) = (client.run(&plain).unwrap(), client.run(&none).unwrap());
    assert_eq!((&a.tokens, &a.logprobs), (&b.tokens, &b.logprobs));
    assert!(
        b.warnings
            .iter()
            .any(|warning| warning.message.contains("strength 0")),
        "{:?}",
        b.warnings
    );
    let pushed = client.run(&plain.clone().steer(inline(4.0))).unwrap();
    assert_ne!(pushed.logprobs, a.logprobs);
    // The seed's own fields do the same.
    let width = tiny().config().d_model;
    let numbers: Vec<f32> = (0..width)
        .map(|i| ((i * 7 % 5) as f32 - 2.0) / 3.0)
        .collect();
    let mut flat: GenerateRequest = serde_json::from_value(json!({
        "prompt": "hello", "steering_vector": {"1": numbers}, "steering_strength": 4.0
    }))
    .unwrap();
    flat.raw = Some(true);
    flat.seed = plain.seed;
    flat.max_tokens = plain.max_tokens;
    flat.sampling = plain.sampling.clone();
    flat.controls = plain.controls.clone();
    assert_eq!(client.run(&flat).unwrap().logprobs, pushed.logprobs);
    // Without a strength the seed's default is 0, and that is said.
    flat.steering.steering_strength = None;
    let without = client.run(&flat).unwrap();
    assert_eq!(without.logprobs, a.logprobs);
    assert!(!without.warnings.is_empty());
}

#[test]
fn a_vector_that_does_not_fit_is_refused_with_both_widths() {
    let steer = Steer::new(VectorRef::Inline([("0".to_owned(), vec![1.0; 5])].into()));
    let error = client()
        .run(&request(Method::TopK).steer(steer))
        .unwrap_err();
    let width = tiny().config().d_model.to_string();
    assert!(
        error.to_string().contains('5') && error.to_string().contains(&width),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    let error = client()
        .run(&request(Method::TopK).steer(Steer::new("sv_nothing")))
        .unwrap_err();
    assert!(error.to_string().contains("sv_nothing"), "{error}");
    let error = client()
        .run(&request(Method::TopK).steer(Steer::new("json_compliance")))
        .unwrap_err();
    assert!(error.to_string().contains("json_mode"), "{error}");
}

#[test]
fn forced_text_is_not_asked_for() {
    let client = client();
    let mut request = request(Method::TopK)
        .regex("the answer is certainly (yes|no)")
        .include_trace(true);
    request.max_tokens = Some(60);
    let answer = client.run(&request).unwrap();
    let steps = answer.trace.unwrap().steps;
    let forced = steps
        .iter()
        .filter(|s| s.source == mx::trace::TokenSource::Forced)
        .count();
    assert!(forced * 2 > steps.len(), "{forced} of {}", steps.len());
    assert!(answer.text.starts_with("the answer is certainly "));
    // With log-probabilities the same tokens come, by the same way.
    request.controls.logprobs = Some(0);
    let reported = client.run(&request).unwrap();
    assert_eq!(reported.tokens, answer.tokens);
    let again = reported.trace.unwrap().steps;
    for ((step, was), report) in again.iter().zip(&steps).zip(&reported.logprobs) {
        assert_eq!((step.source, step.uniform), (was.source, was.uniform));
        assert_eq!(step.raw_logprob, Some(report.logprob));
    }
}

/// A schema, a pattern and a choice of which much is forced, some of it at the end.
fn forcing() -> Vec<GenerateRequest> {
    let schema = json!({"type": "object", "required": ["name", "colour"], "additionalProperties": false,
        "properties": {"name": {"type": "string", "maxLength": 12},
            "colour": {"enum": ["black as the night", "white"]}}});
    let base = || request(Method::TopP).max_tokens(80).temperature(1.0);
    vec![
        base().json_schema(schema),
        base().regex("the (cat|dog) is certainly [a-z]{4} and nothing else at all"),
        base()
            .regex(format!("(yes|no){}", "; one two three".repeat(16)))
            .max_tokens(400),
        base()
            .regex("(yes|no), and this text is cut in the middle of what is forced")
            .max_tokens(20),
    ]
}

#[test]
fn logprobs_change_no_token() {
    let client = client();
    for request in forcing() {
        for (n, candidates) in [(1, 1), (2, 2), (1, 3)] {
            for drafter in [None, Some(DrafterKind::PromptLookup)] {
                let mut request = request.clone().n(n);
                if candidates > n {
                    request = request.best_of_n(candidates);
                }
                request.controls.drafter = drafter;
                let cell = format!(
                    "n {n} of {candidates}, {drafter:?}, {:?}",
                    request.constraints
                );
                let plain = client.run(&request).unwrap();
                let reported = client.run(&request.logprobs(2)).unwrap();
                assert_eq!(reported.tokens, plain.tokens, "{cell}");
                assert_eq!(reported.text, plain.text, "{cell}");
                assert_eq!(reported.logprobs.len(), reported.tokens.len(), "{cell}");
                for (a, b) in reported.choices.iter().zip(&plain.choices) {
                    assert_eq!(a.tokens, b.tokens, "{cell}");
                    assert_eq!(a.logprobs.len(), a.tokens.len(), "{cell}");
                }
            }
        }
    }
}

#[test]
fn a_choice_among_candidates_draws_what_outputs_draw() {
    let client = client();
    for request in forcing() {
        let all = client.run(&request.clone().n(3)).unwrap();
        let best = client.run(&request.best_of_n(3)).unwrap();
        assert!(
            all.choices
                .iter()
                .any(|choice| choice.tokens == best.tokens)
        );
    }
}

#[test]
fn a_run_that_is_stopped_has_the_logprobs_of_what_it_has() {
    let client = client();
    for request in forcing() {
        let mut stream = client.stream(&request.logprobs(0)).unwrap();
        for chunk in stream.by_ref().take(2) {
            chunk.unwrap();
        }
        let part = stream.into_generation();
        assert_eq!(part.logprobs.len(), part.tokens.len());
    }
}
