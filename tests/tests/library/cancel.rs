//! Cancelling: between tokens, and inside a prompt.

use crate::{scripted, tiny};
use mx::pipeline::{Plan, Run};
use mx::{FinishReason, GenerateRequest};
use mx_runtime::config::ModelConfig;
use mx_runtime::engine::{Engine, EngineError, EngineInfo, Row, Sequence, StepOutput, Want};
use mx_runtime::session::{Cancel, Session};
use mx_tests::scripted::Script;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An engine that sets a flag at the end of a certain step.
#[derive(Debug)]
struct Interrupting {
    inner: Arc<dyn Engine>,
    cancel: Cancel,
    steps: AtomicUsize,
    after: usize,
}

impl Engine for Interrupting {
    fn config(&self) -> &ModelConfig {
        self.inner.config()
    }

    fn info(&self) -> &EngineInfo {
        self.inner.info()
    }

    fn new_sequence(&self) -> Sequence {
        self.inner.new_sequence()
    }

    fn step(&self, rows: &mut [Row<'_>], output: &mut StepOutput) -> Result<(), EngineError> {
        if self.steps.fetch_add(1, Ordering::Relaxed) + 1 == self.after {
            self.cancel.cancel();
        }
        self.inner.step(rows, output)
    }

    fn embedding(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.inner.embedding(tokens)
    }

    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }
}

/// A session of the tiny model in which the flag is set during step `after`, with prompts in chunks of 4 tokens.
fn interrupted(after: usize) -> (Arc<Interrupting>, Session, Cancel) {
    let cancel = Cancel::new();
    let inner = Arc::clone(tiny().engine());
    let engine = Arc::new(Interrupting {
        inner,
        cancel: cancel.clone(),
        steps: AtomicUsize::new(0),
        after,
    });
    let session = Session::new(Arc::clone(&engine) as Arc<dyn Engine>).with_prefill_chunk(4);
    (engine, session, cancel)
}

#[test]
fn a_prefill_stops_between_chunks_and_leaves_the_session_as_it_was() {
    let prompt: Vec<u32> = (10..40).collect();
    let (engine, mut session, cancel) = interrupted(4);
    session.step(&[7, 8, 9], Want::None).unwrap();
    assert_eq!(
        session.prefill(&prompt, &cancel).unwrap_err(),
        EngineError::Cancelled
    );
    assert_eq!(
        engine.steps.load(Ordering::Relaxed),
        4,
        "no chunk was begun after the flag"
    );
    assert_eq!(session.tokens(), [7, 8, 9]);
    let again = session
        .prefill(&prompt, &Cancel::new())
        .unwrap()
        .logits(0)
        .last()
        .unwrap()
        .to_vec();
    let mut fresh = Session::new(Arc::clone(tiny().engine()));
    let whole = [&[7, 8, 9], prompt.as_slice()].concat();
    let wanted = fresh
        .prefill(&whole, &Cancel::new())
        .unwrap()
        .logits(0)
        .last()
        .unwrap()
        .to_vec();
    let close = again
        .iter()
        .zip(&wanted)
        .all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs()));
    assert!(close && session.tokens() == whole);
}

#[test]
fn a_flag_that_is_set_stops_before_anything() {
    let (engine, mut session, cancel) = interrupted(0);
    cancel.cancel();
    assert_eq!(
        session.prefill(&[1, 2], &cancel).unwrap_err(),
        EngineError::Cancelled
    );
    assert_eq!(engine.steps.load(Ordering::Relaxed), 0);
    let client = scripted(&Script::repeats("xab"));
    let mut run = client
        .request("x")
        .raw(true)
        .stream()
        .unwrap()
        .with_cancel(cancel);
    let chunk = run.next().unwrap().unwrap();
    assert_eq!(
        (chunk.token, chunk.finish_reason),
        (None, Some(FinishReason::Cancelled))
    );
    assert!(run.next().is_none());
}

#[test]
fn a_run_cancelled_in_its_prompt_says_so() {
    let (engine, session, cancel) = interrupted(3);
    let request = GenerateRequest::new((10..40).collect::<Vec<u32>>()).seed(1);
    let plan = || Plan::new(tiny(), &request, || 0).unwrap();
    let mut run = Run::new(plan())
        .unwrap()
        .with_session(session)
        .with_cancel(cancel);
    assert_eq!(
        run.next().unwrap().unwrap().finish_reason,
        Some(FinishReason::Cancelled)
    );
    assert_eq!(engine.steps.load(Ordering::Relaxed), 3);
    let (answer, session) = run.into_parts();
    assert_eq!((answer.text.as_str(), answer.tokens.len()), ("", 0));
    // The session serves the same request afterwards.
    let again = Run::new(plan())
        .unwrap()
        .with_session(session)
        .complete()
        .unwrap();
    assert_eq!(
        again.tokens,
        Run::new(plan()).unwrap().complete().unwrap().tokens
    );
}

#[test]
fn a_run_cancelled_between_tokens_keeps_what_there_is() {
    let client = scripted(&Script::repeats("xab").context(100_000));
    let mut run = client
        .request("x")
        .raw(true)
        .max_tokens(90_000)
        .stream()
        .unwrap();
    let cancel = run.cancel_handle();
    for _ in 0..5 {
        assert_eq!(run.next().unwrap().unwrap().finish_reason, None);
    }
    cancel.cancel();
    assert_eq!(
        run.next().unwrap().unwrap().finish_reason,
        Some(FinishReason::Cancelled)
    );
    assert!(run.next().is_none());
    let answer = run.into_generation();
    assert_eq!((answer.text.as_str(), answer.tokens.len()), ("ababa", 5));
    assert_eq!(answer.finish_reason, FinishReason::Cancelled);
}

#[test]
fn what_was_held_back_comes_out_when_a_run_is_cancelled_or_left() {
    // The text so far may become a stop text.
    let client = scripted(&Script::repeats("xab").context(100_000));
    let begin = || {
        client
            .request("x")
            .raw(true)
            .stop("abab!")
            .max_tokens(1000)
            .stream()
            .unwrap()
    };
    let mut run = begin();
    let mut text: String = run
        .by_ref()
        .take(3)
        .map(|chunk| chunk.unwrap().text)
        .collect();
    assert_eq!(text, "");
    run.cancel_handle().cancel();
    text += &run.next().unwrap().unwrap().text;
    assert_eq!(text, "aba");
    assert_eq!(run.into_generation().text, "aba");
    let mut left = begin();
    left.by_ref().take(3).for_each(drop);
    let answer = left.into_generation();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason),
        ("aba", FinishReason::Cancelled)
    );
}

#[test]
fn cancelling_from_another_thread_ends_a_long_run() {
    let client = scripted(&Script::repeats("xab").context(1_000_000));
    let mut run = client
        .request("x")
        .raw(true)
        .max_tokens(900_000)
        .stream()
        .unwrap();
    let cancel = run.cancel_handle();
    run.next().unwrap().unwrap();
    let other = std::thread::spawn(move || cancel.cancel());
    let last = run.by_ref().last().unwrap().unwrap();
    assert_eq!(last.finish_reason, Some(FinishReason::Cancelled));
    other.join().unwrap();
}
