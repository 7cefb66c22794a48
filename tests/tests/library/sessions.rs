//! Sessions that serve several requests.

use crate::{load, tiny};
use mx::pipeline::{Plan, Run};
use mx::{Error, GenerateRequest, Generation};
use mx_runtime::engine::{EngineError, Want};
use mx_runtime::hooks::{Capture, Edit, HookPlan, HookPoint, TokenClass};
use mx_runtime::session::{Cancel, Session};
use mx_tests::data;
use std::sync::Arc;

fn run(prompt: &[u32], seed: u64) -> Run {
    let request = GenerateRequest::new(prompt.to_vec())
        .seed(seed)
        .temperature(1.1)
        .top_k(0)
        .max_tokens(15);
    Run::new(Plan::new(tiny(), &request, || 0).unwrap()).unwrap()
}

fn parts(mut run: Run) -> (Generation, Session) {
    run.by_ref().for_each(|chunk| drop(chunk.unwrap()));
    run.into_parts()
}

#[test]
fn a_session_that_is_used_again_gives_the_same_tokens() {
    let prompt: Vec<u32> = (30..60).collect();
    let (first, mut session) = parts(run(&prompt, 1));
    assert_eq!(first.usage.cached_tokens, 0);
    // The same prompt, one that goes on after the answer, one that turns off early, one that is another altogether.
    let longer = [prompt.as_slice(), &first.tokens, &[40, 41]].concat();
    let forked = [&prompt[..12], &[99, 98, 97]].concat();
    let shorter = prompt[..7].to_vec();
    for (wanted, cached) in [
        (prompt.clone(), 29),
        (longer.clone(), usize::MAX),
        (longer, usize::MAX),
        (forked, 12),
        (shorter, 6),
        (vec![200, 201], 0),
    ] {
        for seed in [3, 4] {
            let (reused, back) = parts(run(&wanted, seed).with_session(session));
            let (fresh, _) = parts(run(&wanted, seed));
            assert_eq!(reused.tokens, fresh.tokens);
            assert_eq!(reused.usage.prompt_tokens, wanted.len());
            let last = reused.usage.cached_tokens;
            assert!(
                last < wanted.len(),
                "the last token is computed for its logits"
            );
            if cached != usize::MAX && seed == 3 {
                assert_eq!(last, cached, "{wanted:?}");
            }
            session = back;
        }
    }
}

#[test]
fn a_session_of_another_model_is_refused() {
    let foreign = Session::new(Arc::clone(load(&data::gguf("llama_q64_q8_0")).engine()));
    let error = run(&[5, 6], 1)
        .with_session(foreign)
        .complete()
        .unwrap_err();
    assert!(
        matches!(error, Error::Engine(EngineError::ForeignSequence { .. })),
        "{error:?}"
    );
}

#[test]
fn a_forked_session_goes_its_own_way() {
    let engine = Arc::clone(tiny().engine());
    let mut session = Session::new(engine);
    session.prefill(&[5, 6, 7], &Cancel::new()).unwrap();
    let mut fork = session.fork();
    let a = session
        .step(&[8], Want::Last)
        .unwrap()
        .logits(0)
        .last()
        .unwrap()
        .to_vec();
    let b = fork
        .step(&[9], Want::Last)
        .unwrap()
        .logits(0)
        .last()
        .unwrap()
        .to_vec();
    assert_ne!(a, b);
    assert_eq!(
        (session.tokens(), fork.tokens()),
        (&[5, 6, 7, 8][..], &[5, 6, 7, 9][..])
    );
    fork.truncate(3);
    let again = fork
        .step(&[8], Want::Last)
        .unwrap()
        .logits(0)
        .last()
        .unwrap()
        .to_vec();
    assert!(a.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-4));
    assert_eq!(fork.room(), 256 - 4);
}

#[test]
fn a_prefill_gives_the_captures_of_all_chunks() {
    let model = tiny();
    let capture = Capture {
        point: HookPoint::ResidPost(1),
        tokens: TokenClass::All,
    };
    let prompt: Vec<u32> = (50..73).collect();
    let rows = |chunk: usize| {
        let plan = HookPlan::new([], [capture], model.config()).unwrap();
        let mut session = Session::new(Arc::clone(model.engine()))
            .with_hooks(Arc::new(plan))
            .with_prefill_chunk(chunk);
        let captures = session
            .prefill(&prompt, &Cancel::new())
            .unwrap()
            .take_captures();
        captures
            .into_iter()
            .flat_map(|captured| captured.values)
            .collect::<Vec<f32>>()
    };
    let whole = rows(256);
    assert_eq!(whole.len(), prompt.len() * model.config().d_model);
    for chunk in [1, 5, 22, 0] {
        let given = rows(chunk);
        assert_eq!(given.len(), whole.len());
        assert!(
            given
                .iter()
                .zip(&whole)
                .all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs())),
            "chunk {chunk}"
        );
    }
}

#[test]
fn token_classes_know_the_prompt_of_a_session() {
    let model = tiny();
    let edit = Edit::add(HookPoint::ResidPre(0), vec![1.0; 48], 1.0).at(TokenClass::GeneratedOnly);
    let capture = Capture {
        point: HookPoint::ResidPre(0),
        tokens: TokenClass::GeneratedOnly,
    };
    let plan = Arc::new(HookPlan::new([edit], [capture], model.config()).unwrap());
    let mut plain = Session::new(Arc::clone(model.engine()));
    let mut steered = Session::new(Arc::clone(model.engine()))
        .with_hooks(plan)
        .with_prefill_chunk(3);
    let prompt = [5, 6, 7, 8, 9];
    let a = plain
        .prefill(&prompt, &Cancel::new())
        .unwrap()
        .logits(0)
        .last()
        .unwrap()
        .to_vec();
    let output = steered.prefill(&prompt, &Cancel::new()).unwrap();
    assert!(
        output.captures().is_empty(),
        "no token of a prompt is generated"
    );
    let b = output.logits(0).last().unwrap().to_vec();
    assert!(
        a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4),
        "the logits after the prompt are unedited"
    );
    let output = steered.step(&[10], Want::Last).unwrap();
    assert_eq!(output.captures().len(), 1);
    assert_eq!(output.captures()[0].first_position, 5);
}

#[test]
fn refusals_leave_a_session_as_it_was() {
    let mut session = Session::new(Arc::clone(tiny().engine()));
    session.prefill(&[5, 6], &Cancel::new()).unwrap();
    let full = EngineError::ContextFull {
        used: 2,
        wanted: 255,
        limit: 256,
    };
    assert_eq!(
        session.prefill(&[1; 255], &Cancel::new()).unwrap_err(),
        full
    );
    assert_eq!(
        session.prefill(&[], &Cancel::new()).unwrap_err(),
        EngineError::EmptyRow { row: 0 }
    );
    assert!(session.step(&[320], Want::Last).is_err());
    assert_eq!(session.tokens(), [5, 6]);
    // The first chunks are good, the last one is not.
    let mut session = session.with_prefill_chunk(2);
    let outside = EngineError::TokenOutOfRange {
        token: 999,
        vocab: 320,
    };
    assert_eq!(
        session
            .prefill(&[1, 2, 3, 4, 999], &Cancel::new())
            .unwrap_err(),
        outside
    );
    assert_eq!(session.tokens(), [5, 6]);
}
