//! Traces: what they say, how they are read, compared, repeated and questioned.

use crate::{load, scripted, tiny};
use mx::request::Voting;
use mx::steer::apply::{Steer, VectorRef};
use mx::trace::{self, Limits, TokenSource, Trace, TraceError, Verdict};
use mx::{Client, Error, ErrorKind, GenerateRequest, Method};
use mx_runtime::engine::{Row, StepOutput, Want};
use mx_tests::data;
use mx_tests::scripted::Script;
use serde_json::json;

fn request() -> GenerateRequest {
    GenerateRequest::new("one two three one two")
        .raw(true)
        .max_tokens(14)
        .seed(11)
        .temperature(1.1)
        .include_trace(true)
}

fn client() -> Client {
    let mut client = Client::with_model(tiny());
    client.add_model("same", tiny());
    client
}

fn traced(request: &GenerateRequest) -> Trace {
    client().run(request).unwrap().trace.unwrap()
}

fn vector(strength: f32) -> Steer {
    let width = tiny().config().d_model;
    let numbers: Vec<f32> = (0..width)
        .map(|i| ((i * 7 % 5) as f32 - 2.0) / 3.0)
        .collect();
    Steer::new(VectorRef::Inline([("1".to_owned(), numbers)].into())).strength(strength)
}

/// Requests of every kind, each to be repeated bit for bit.
fn every_kind() -> Vec<(&'static str, GenerateRequest)> {
    let with = |change: &dyn Fn(&mut GenerateRequest)| {
        let mut request = request();
        change(&mut request);
        request
    };
    vec![
        ("plain", request()),
        ("greedy", request().method(Method::Greedy)),
        ("ads", request().method(Method::Ads)),
        (
            "beam",
            with(&|r| {
                r.sampling_method = Some(Method::Beam);
                r.sampling.temperature = None;
            }),
        ),
        ("lookup", request().method(Method::Speculative)),
        (
            "draft",
            with(&|r| r.controls.draft_model = Some("same".to_owned())),
        ),
        (
            "self",
            with(&|r| {
                r.controls.draft_model = Some("self".to_owned());
                r.controls.draft_layers = Some(1);
            }),
        ),
        (
            "ssd",
            with(&|r| {
                r.sampling_method = Some(Method::Ssd);
                r.controls.draft_model = Some("same".to_owned());
            }),
        ),
        (
            "ensemble",
            with(&|r| {
                r.controls.ensemble_models = vec!["same".to_owned()];
                r.controls.voting = Some(Voting::Product);
            }),
        ),
        ("constraint", request().regex("[a-z]{3,9}!")),
        ("forced", request().regex("the answer is (yes|no)")),
        ("steered", request().steer(vector(3.0))),
        ("several", request().n(3)),
        ("best", request().best_of_n(4)),
        (
            "penalties",
            with(&|r| {
                r.sampling.repetition_penalty = Some(1.3);
                r.sampling.xtc_probability = Some(0.5);
                r.sampling.xtc_threshold = Some(0.05);
            }),
        ),
        ("stopped", request().stop("e")),
    ]
}

#[test]
fn every_kind_of_request_is_repeated_to_the_last_bit() {
    for (name, request) in every_kind() {
        let trace = traced(&request);
        let text = serde_json::to_string(&trace).unwrap();
        let read = trace::parse(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(read, trace, "{name}: JSON keeps every bit");
        let again = trace::replay(&client(), &read).unwrap();
        assert!(again.same, "{name}: {:?}", again.causes);
        assert!(again.diff.same_laws, "{name}");
        assert_eq!(again.diff.differences, [], "{name}");
    }
}

#[test]
fn watching_changes_no_token() {
    for (name, request) in every_kind() {
        let mut plain = request.clone();
        plain.include_trace = None;
        let (watched, plain) = (client().run(&request), client().run(&plain));
        assert_eq!(watched.unwrap().tokens, plain.unwrap().tokens, "{name}");
    }
}

#[test]
fn a_divergence_is_named_with_both_laws_and_the_reason() {
    let trace = traced(&request());
    // Another model of the same shape of files.
    let other = Client::with_model(load(&data::gguf("llama_q64_q8_0")));
    let replay = trace::replay(&other, &trace).unwrap();
    assert!(!replay.same);
    let at = replay.diff.divergence.as_ref().unwrap();
    let (a, b) = (at.a.as_ref().unwrap(), at.b.as_ref().unwrap());
    assert_ne!(a.token, b.token);
    assert!(a.law.len() > 1 && b.raw_law.len() > 1);
    assert!(
        replay.causes[0].starts_with("model's files"),
        "{:?}",
        replay.causes
    );
    // Another setting.
    let mut changed = trace.clone();
    changed.request.sampling.temperature = Some(0.3);
    let replay = trace::replay(&client(), &changed).unwrap();
    let named = |what: &str| replay.causes.iter().any(|cause| cause.contains(what));
    assert!(!replay.same && named("temperature"), "{:?}", replay.causes);
    // A trace that someone changed: nothing recorded explains it, and the step is named.
    let mut forged = trace.clone();
    forged.steps[4].token ^= 1;
    let replay = trace::replay(&client(), &forged).unwrap();
    assert_eq!(replay.diff.divergence.unwrap().step, 4);
    assert_eq!(replay.causes, [] as [String; 0]);
    let mut forged = trace;
    forged.own_mask = true;
    let error = trace::replay(&client(), &forged).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn two_seeds_part_where_their_tokens_do() {
    let (a, b) = (traced(&request()), traced(&request().seed(12)));
    let diff = trace::diff(&a, &b);
    let common = a
        .tokens()
        .iter()
        .zip(b.tokens())
        .take_while(|(a, b)| **a == *b)
        .count();
    assert_eq!(diff.divergence.unwrap().step, common);
    let what: Vec<&str> = diff.differences.iter().map(|d| d.what.as_str()).collect();
    assert_eq!(what, ["setting seed"]);
    assert!(trace::diff(&a, &a).same_laws);
}

#[test]
fn an_interrupted_run_is_repeated_as_far_as_it_went() {
    let client = client();
    let mut run = client.stream(&request()).unwrap();
    for _ in 0..3 {
        run.next().unwrap().unwrap();
    }
    let trace = run.into_generation().trace.unwrap();
    assert!(trace.steps.len() < 14);
    let again = trace::replay(&client, &trace).unwrap();
    assert!(again.same, "{:?}", again.diff);
    assert!(again.trace.steps.len() > trace.steps.len());
}

/// Logits after some tokens.
fn logits(tokens: &[u32]) -> Vec<f64> {
    let engine = tiny().engine().clone();
    let mut sequence = engine.new_sequence();
    let mut output = StepOutput::new();
    let row = Row {
        sequence: &mut sequence,
        tokens,
        want: Want::Last,
        hooks: None,
    };
    engine.step(&mut [row], &mut output).unwrap();
    let line = output.logits(0).last().unwrap();
    line.iter().map(|x| f64::from(*x)).collect()
}

fn softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = logits
        .iter()
        .map(|x| ((x - max) / temperature).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

#[test]
fn why_names_the_stage_and_the_standing_before_it() {
    let trace = traced(&request().top_k(5).top_p(0.6));
    let step = 3;
    let mut context = trace.prompt_tokens.clone();
    context.extend(&trace.tokens()[..step]);
    let raw = logits(&context);
    let mut ranked: Vec<u32> = (0..raw.len() as u32).collect();
    ranked.sort_by(|a, b| raw[*b as usize].total_cmp(&raw[*a as usize]).then(a.cmp(b)));
    let law = softmax(&raw, 1.0);
    for rank in [0usize, 1, 4, 7, 40] {
        let token = ranked[rank];
        let why = trace::why(&client(), &trace, &token.to_string(), step).unwrap();
        let stood = why.raw.unwrap();
        assert_eq!(stood.rank, rank);
        assert!((stood.probability - law[token as usize]).abs() < 1e-4);
        assert_eq!(why.chosen.token, trace.steps[step].token);
        // The obvious twin of the chain: top-k, then top-p of what is left, at temperature 1.1 between or after.
        let removed = why.stages.iter().find(|stage| stage.removed);
        match &why.verdict {
            Verdict::RemovedBy(stage) => {
                assert_eq!(stage, &removed.unwrap().stage);
                assert_eq!(stage == "top_k", rank >= 5, "{why:?}");
                assert_eq!(removed.unwrap().before.unwrap().rank, rank);
                assert!(why.last.is_none() && why.interval.is_none());
            }
            verdict => {
                assert!(rank < 5, "{verdict:?}");
                let [low, high] = why.interval.unwrap();
                let drawn = (low..high).contains(&why.uniform.unwrap());
                assert_eq!(drawn, *verdict == Verdict::Chosen, "{why:?}");
            }
        }
    }
    // By its text, and what cannot be asked.
    let text = trace.steps[step].text.clone();
    if !text.contains('\u{fffd}') {
        let why = trace::why(&client(), &trace, &text, step).unwrap();
        assert_eq!(why.asked.text, text);
    }
    let refuse = |token: &str, step| trace::why(&client(), &trace, token, step).unwrap_err();
    let error = refuse("1", 14);
    assert!(matches!(
        error,
        Error::Trace(TraceError::NoSuchStep {
            given: 14,
            steps: 14
        })
    ));
    assert!(
        refuse("no such token", 0)
            .to_string()
            .contains("single token")
    );
    assert!(refuse("320", 0).to_string().contains("below 320"));
}

#[test]
fn why_asks_the_constraint() {
    let trace = traced(&request().regex("[a-z]{3,9}!"));
    let token = (0..320u32)
        .find(|id| tiny().tokenizer().unwrap().token_bytes(*id) == Some(b"1"))
        .unwrap();
    let why = trace::why(&client(), &trace, &token.to_string(), 0).unwrap();
    assert_eq!(why.verdict, Verdict::RemovedBy("mask".to_owned()));
    assert!(
        why.constraint.as_ref().unwrap().contains("[a-z]"),
        "{why:?}"
    );
    // Forced text: the model was not asked.
    let trace = traced(&request().regex("the answer is (yes|no)"));
    let forced = trace
        .steps
        .iter()
        .position(|s| s.source == TokenSource::Forced);
    let why = trace::why(&client(), &trace, &token.to_string(), forced.unwrap()).unwrap();
    assert_eq!(why.verdict, Verdict::NotForced);
    assert!(why.raw.is_none() && why.constraint.is_some());
}

#[test]
fn why_answers_under_every_strategy() {
    for (name, request) in every_kind() {
        let trace = traced(&request);
        let last = trace.steps.len() - 1;
        for step in [0, last / 2, last] {
            let own = trace.steps[step].token.to_string();
            let why = trace::why(&client(), &trace, &own, step).unwrap();
            assert_eq!(why.verdict, Verdict::Chosen, "{name} step {step}");
            let other = (trace.steps[step].token + 7) % 250;
            let why = trace::why(&client(), &trace, &other.to_string(), step).unwrap();
            assert_ne!(why.verdict, Verdict::Chosen, "{name} step {step}");
        }
    }
}

#[test]
fn steering_norms_are_those_of_the_edit() {
    let steer = vector(3.0);
    let trace = traced(&request().steer(steer));
    assert!(trace.steering.is_some());
    let width = tiny().config().d_model;
    let squares: f64 = (0..width)
        .map(|i| ((i * 7 % 5) as f64 - 2.0) / 3.0)
        .map(|x| x * x)
        .sum();
    for (index, step) in trace.steps.iter().enumerate() {
        let [norm] = &step.steering[..] else {
            panic!("step {index}: {:?}", step.steering)
        };
        assert!(
            (norm.change - 3.0 * squares.sqrt()).abs() < 1e-3,
            "{norm:?}"
        );
        assert!(norm.row > 0.0);
    }
    // Drafts put several positions into one step; each has its own norm.
    let drafted = traced(&request().steer(vector(3.0)).method(Method::Speculative));
    let plain = traced(&request().steer(vector(3.0)).method(Method::Greedy));
    assert!(drafted.steps.iter().all(|step| step.steering.len() == 1));
    let greedy = {
        let mut greedy = request().steer(vector(3.0)).method(Method::Speculative);
        greedy.sampling.temperature = Some(0.0);
        traced(&greedy)
    };
    assert_eq!(greedy.tokens(), plain.tokens());
    for (a, b) in greedy.steps.iter().zip(&plain.steps) {
        assert!((a.steering[0].row - b.steering[0].row).abs() < 1e-3);
    }
}

#[test]
fn votes_name_every_model() {
    let script = |text: &str| scripted(&Script::says(text)).model().cloned().unwrap();
    let mut client = Client::with_model(script("abc"));
    client.add_model("d", script("adc"));
    let mut request = GenerateRequest::new("a")
        .raw(true)
        .max_tokens(1)
        .method(Method::Greedy)
        .include_trace(true);
    request.controls.ensemble_models = vec!["d".to_owned()];
    request.controls.ensemble_weights = vec![1.0, 3.0];
    let trace = client.run(&request).unwrap().trace.unwrap();
    let [first, second] = &trace.steps[0].votes[..] else {
        panic!("{:?}", trace.steps[0])
    };
    assert_eq!(trace.steps[0].text, "d");
    assert_eq!(second.token, trace.steps[0].token);
    assert_ne!(first.token, second.token);
    assert!(second.of_chosen > 0.99 && first.of_chosen < 0.01);
    assert_eq!((first.weight, second.weight), (1.0, 3.0));
    assert_eq!(trace.others[0].name, "d");
}

#[test]
fn hostile_files_are_refused_within_their_limits() {
    let good = serde_json::to_value(traced(&request())).unwrap();
    let text = serde_json::to_vec(&good).unwrap();
    let parse = |bytes: &[u8]| trace::parse(bytes, &Limits::default());
    for end in 0..text.len() {
        assert!(parse(&text[..end]).is_err(), "cut at {end}");
    }
    let set = |path: &str, value: serde_json::Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        parse(&serde_json::to_vec(&bad).unwrap())
    };
    for (path, value) in [
        ("/steps", json!(7)),
        ("/steps/0/token", json!(-1)),
        ("/steps/0/token", json!(u64::MAX)),
        ("/steps/0/source", json!("dreamed")),
        ("/seed", json!("x")),
        ("/prompt_tokens", json!({"length": 1u64 << 60})),
        ("/model", json!(null)),
    ] {
        assert!(set(path, value.clone()).is_err(), "{path} {value}");
    }
    let error = set("/version", json!(2)).unwrap_err();
    assert!(
        matches!(error, TraceError::Version { given: 2, .. }),
        "{error}"
    );
    assert!(set("/version", json!(u64::MAX)).is_err());
    let mut small = Limits::default();
    small.bytes = 100;
    assert!(matches!(
        trace::parse(&text, &small),
        Err(TraceError::TooLarge { .. })
    ));
    let mut few = Limits::default();
    few.steps = 3;
    let error = trace::parse(&text, &few).unwrap_err();
    assert!(
        error.to_string().contains("steps") && error.to_string().contains('3'),
        "{error}"
    );
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse(format!("{{\"version\":3,\"steps\":{deep}}}").as_bytes()).is_err());
    assert!(parse(b"").is_err() && parse(b"null").is_err() && parse(&[0xff, 0xfe]).is_err());
    // A request that is out of range is refused when it is repeated, and nothing is allocated for it.
    let mut huge: Trace = parse(&text).unwrap();
    huge.request.controls.n = Some(usize::MAX);
    assert_eq!(
        trace::replay(&client(), &huge).unwrap_err().kind(),
        ErrorKind::InvalidRequest
    );
    huge.request.controls.n = None;
    huge.request.max_tokens = Some(usize::MAX);
    assert!(!trace::replay(&client(), &huge).unwrap().same);
}

#[test]
fn an_answer_that_carries_a_trace_is_one() {
    let answer = client().run(&request()).unwrap();
    let text = serde_json::to_vec(&answer).unwrap();
    assert_eq!(
        Some(trace::parse(&text, &Limits::default()).unwrap()),
        answer.trace
    );
}
