//! A run that was stopped and goes on is the run that never stopped.

use crate::{load, tiny};
use mx::pipeline::{Plan, Resources, Run};
use mx::request::DrafterKind;
use mx::steer::apply::{Steer, VectorRef};
use mx::{ErrorKind, FinishReason, GenerateRequest, Generation, Method};
use mx_runtime::session::Session;
use mx_tests::data;
use std::sync::Arc;

fn request() -> GenerateRequest {
    GenerateRequest::new("one two three one two")
        .raw(true)
        .max_tokens(24)
        .seed(6)
        .temperature(1.2)
}

fn run(request: &GenerateRequest) -> Run {
    let mut resources = Resources::default();
    resources.models.insert("same".to_owned(), tiny().into());
    Run::new(Plan::with(tiny(), &resources, request, || 0).unwrap()).unwrap()
}

/// Runs until there are `tokens` tokens, and stops there.
fn stopped(request: &GenerateRequest, tokens: usize) -> (Generation, Session) {
    let mut run = run(request);
    let mut seen = 0;
    while seen < tokens {
        let Some(chunk) = run.next() else { break };
        seen += usize::from(chunk.unwrap().token.is_some());
    }
    run.into_parts()
}

fn steer(width: usize) -> Steer {
    let numbers: Vec<f32> = (0..width)
        .map(|i| ((i * 7 % 5) as f32 - 2.0) / 3.0)
        .collect();
    Steer::new(VectorRef::Inline([("1".to_owned(), numbers)].into())).strength(3.0)
}

fn kinds() -> Vec<(&'static str, GenerateRequest)> {
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
            "penalties",
            with(&|r| {
                r.sampling.repetition_penalty = Some(1.4);
                r.sampling.frequency_penalty = Some(0.5);
                r.sampling.no_repeat_ngram_size = Some(3);
            }),
        ),
        (
            "xtc",
            with(&|r| {
                r.sampling.xtc_probability = Some(0.5);
                r.sampling.xtc_threshold = Some(0.02);
            }),
        ),
        (
            "mirostat",
            with(&|r| {
                r.sampling.mirostat = Some(2);
                r.sampling.top_k = Some(0);
            }),
        ),
        ("constraint", request().regex("([a-z]{2,5} ){3}[0-9]{4}")),
        (
            "forced",
            request().regex("the answer is (yes|no), and the reason is [a-z]{5}"),
        ),
        ("steered", request().steer(steer(48))),
        (
            "steered and constrained",
            with(&|r| {
                r.sampling.repetition_penalty = Some(1.3);
                *r = r.clone().steer(steer(48)).regex("([a-z]{2,5} ){3}[0-9]{4}");
            }),
        ),
        ("logprobs", request().logprobs(2)),
        (
            "forced, with logprobs",
            request()
                .regex("the answer is (yes|no), and the reason is [a-z]{5}")
                .logprobs(2),
        ),
        ("stop", request().stop("qq").stop("e")),
        (
            "ensemble",
            with(&|r| r.controls.ensemble_models = vec!["same".to_owned()]),
        ),
        (
            "greedy with drafts",
            with(&|r| {
                r.sampling_method = Some(Method::Greedy);
                r.controls.drafter = Some(DrafterKind::PromptLookup);
            }),
        ),
    ]
}

#[test]
fn going_on_is_never_having_stopped() {
    for (name, request) in kinds() {
        let mut request = request;
        if name == "greedy with drafts" || name == "greedy" {
            request.sampling.temperature = None;
        }
        let whole = run(&request).complete().unwrap();
        for cut in [1, 2, 5, 9, 17] {
            let (first, session) = stopped(&request, cut);
            let reached = first.tokens.len();
            assert!(whole.tokens.starts_with(&first.tokens), "{name}");
            for session in [None, Some(session)] {
                let held = session.is_some();
                let mut again = run(&request).behind(&first.tokens).unwrap();
                if let Some(session) = session {
                    again = again.with_session(session);
                }
                let mut text = String::new();
                for chunk in again.by_ref() {
                    text += &chunk.unwrap().text;
                }
                let again = again.into_generation();
                let cell = format!("{name}, stopped behind {reached}, session {held}");
                assert_eq!(again.tokens, whole.tokens, "{cell}");
                assert_eq!(again.text, whole.text, "{cell}");
                assert_eq!(again.finish_reason, whole.finish_reason, "{cell}");
                assert_eq!(again.logprobs.len(), whole.logprobs.len(), "{cell}");
                // The tiny model runs on the burn engine, where several tokens in one step round otherwise.
                for (a, b) in again.logprobs.iter().zip(&whole.logprobs) {
                    assert!((a.logprob - b.logprob).abs() < 1e-4, "{cell}");
                    assert_eq!(a.top.len(), b.top.len(), "{cell}");
                }
                assert!(whole.text.ends_with(&text), "{cell}: {text:?}");
                if first.finish_reason == FinishReason::Cancelled && held && name == "plain" {
                    // All that the session held but the last token, which is computed for its logits.
                    let held = again.usage.prompt_tokens + reached - 2;
                    assert_eq!(again.usage.cached_tokens, held, "{cell}");
                }
            }
        }
    }
}

#[test]
fn the_trace_is_whole_again() {
    // Head dimensions that the CPU engine takes: there every law is the same to the last bit.
    let model = load(&data::gguf("llama_q64_q8_0"));
    assert_eq!(model.engine().info().engine, "cpu");
    let run = |request: &GenerateRequest| {
        Run::new(Plan::new(Arc::clone(&model), request, || 0).unwrap()).unwrap()
    };
    let request = request()
        .steer(steer(model.config().d_model))
        .include_trace(true);
    let whole = run(&request).complete().unwrap().trace.unwrap();
    let again = run(&request).behind(&whole.tokens()[..7]).unwrap();
    let again = again.complete().unwrap().trace.unwrap();
    let diff = mx::trace::diff(&whole, &again);
    assert!(diff.same_text && diff.same_laws, "{diff:?}");
    assert_eq!(again.steps[3].steering, whole.steps[3].steering);
}

#[test]
fn what_was_finished_stays_finished() {
    let whole = run(&request()).complete().unwrap();
    let mut again = run(&request()).behind(&whole.tokens).unwrap();
    let chunks: Vec<_> = again.by_ref().map(Result::unwrap).collect();
    assert_eq!(chunks.len(), 1);
    assert_eq!(chunks[0].finish_reason, Some(whole.finish_reason));
    assert_eq!(again.into_generation().text, whole.text);
    let longer = [&whole.tokens[..], &[5]].concat();
    let error = run(&request())
        .behind(&longer)
        .unwrap()
        .complete()
        .unwrap_err();
    assert!(error.to_string().contains("at most 24"), "{error}");
    // Nothing before it is no prefix.
    assert_eq!(
        run(&request())
            .behind(&[])
            .unwrap()
            .complete()
            .unwrap()
            .tokens,
        whole.tokens
    );
}

#[test]
fn what_cannot_go_on_is_refused() {
    let refuse =
        |request: GenerateRequest, tokens: &[u32]| run(&request).behind(tokens).unwrap_err();
    let error = refuse(request().n(2), &[5]);
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let mut beam = request().method(Method::Beam);
    beam.sampling.temperature = None;
    assert!(refuse(beam, &[5]).to_string().contains("beam search"));
    assert_eq!(refuse(request(), &[320]).kind(), ErrorKind::InvalidRequest);
    // Tokens that the constraint forbids are no prefix of this request.
    let error = run(&request().regex("[0-9]+"))
        .behind(&[100])
        .unwrap()
        .complete();
    assert!(error.is_err());
}
