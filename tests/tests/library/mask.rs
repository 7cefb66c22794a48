//! The place where constraints plug in.

use crate::tiny;
use mx::pipeline::{Plan, Run, TokenMask};
use mx::{Error, ErrorKind, FinishReason, GenerateRequest};
use std::sync::{Arc, Mutex};

/// What a mask was told.
type Committed = Arc<Mutex<Vec<u32>>>;

/// Allows the `n`-th list of tokens at step `n`, the last one from there on.
struct Script {
    allowed: Vec<Vec<u32>>,
    words: Vec<u32>,
    committed: Committed,
}

impl TokenMask for Script {
    fn mask(&mut self) -> Result<Option<&[u32]>, Error> {
        let step = self.committed.lock().unwrap().len();
        let allowed = &self.allowed[step.min(self.allowed.len() - 1)];
        self.words.fill(0);
        for token in allowed {
            self.words[*token as usize / 32] |= 1 << (token % 32);
        }
        Ok(Some(&self.words))
    }

    fn commit(&mut self, token: u32) -> Result<(), Error> {
        self.committed.lock().unwrap().push(token);
        Ok(())
    }
}

fn run(mask: Box<dyn TokenMask>, max_tokens: usize) -> Run {
    let request = GenerateRequest::new("hello")
        .raw(true)
        .max_tokens(max_tokens)
        .temperature(2.0)
        .top_k(0);
    Run::new(Plan::new(tiny(), &request, || 7).unwrap())
        .unwrap()
        .with_mask(mask)
}

fn script(allowed: &[&[u32]]) -> (Box<dyn TokenMask>, Committed) {
    let committed = Committed::default();
    let allowed = allowed.iter().map(|tokens| tokens.to_vec()).collect();
    (
        Box::new(Script {
            allowed,
            words: vec![0; 10],
            committed: Arc::clone(&committed),
        }),
        committed,
    )
}

#[test]
fn only_allowed_tokens_come() {
    let (mask, committed) = script(&[&[40, 41, 300]]);
    let answer = run(mask, 60).complete().unwrap();
    assert_eq!(answer.tokens.len(), 60);
    for token in [40, 41, 300] {
        assert!(
            answer.tokens.contains(&token),
            "{token} is allowed and likely to come among 60"
        );
    }
    assert!(
        answer
            .tokens
            .iter()
            .all(|token| [40, 41, 300].contains(token))
    );
    assert_eq!(*committed.lock().unwrap(), answer.tokens);
}

#[test]
fn a_mask_is_asked_at_every_step() {
    let (mask, _) = script(&[&[50], &[319], &[31, 32], &[60]]);
    let tokens = run(mask, 5).complete().unwrap().tokens;
    assert_eq!(
        (&tokens[..2], &tokens[3..]),
        (&[50, 319][..], &[60, 60][..])
    );
    assert!([31, 32].contains(&tokens[2]));
}

#[test]
fn an_end_that_a_mask_forces_ends_the_text() {
    let (mask, _) = script(&[&[50], &[2]]);
    let answer = run(mask, 60).complete().unwrap();
    assert_eq!(
        (answer.tokens, answer.finish_reason),
        (vec![50, 2], FinishReason::Stop)
    );
}

#[test]
fn a_mask_of_everything_changes_nothing() {
    let all: Vec<u32> = (0..320).collect();
    let (mask, _) = script(&[&all]);
    let masked = run(mask, 40).complete().unwrap();
    struct Nothing;
    impl TokenMask for Nothing {
        fn mask(&mut self) -> Result<Option<&[u32]>, Error> {
            Ok(None)
        }
        fn commit(&mut self, _: u32) -> Result<(), Error> {
            Ok(())
        }
    }
    assert_eq!(masked, run(Box::new(Nothing), 40).complete().unwrap());
}

#[test]
fn a_mask_of_nothing_is_an_error_that_ends_the_run() {
    let (mask, _) = script(&[&[50], &[]]);
    let mut run = run(mask, 60);
    assert_eq!(run.next().unwrap().unwrap().token, Some(50));
    let error = run.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sampling, "{error}");
    assert!(run.next().is_none());
    let answer = run.into_generation();
    assert_eq!(answer.tokens, [50], "what there was is kept");
}

#[test]
fn errors_of_a_mask_come_out() {
    struct Broken(bool);
    impl TokenMask for Broken {
        fn mask(&mut self) -> Result<Option<&[u32]>, Error> {
            if self.0 {
                Err(Error::Cancelled)
            } else {
                Ok(Some(&[1]))
            }
        }
        fn commit(&mut self, _: u32) -> Result<(), Error> {
            Ok(())
        }
    }
    assert!(matches!(
        run(Box::new(Broken(true)), 5).complete(),
        Err(Error::Cancelled)
    ));
    // One word for 320 tokens.
    let error = run(Box::new(Broken(false)), 5).complete().unwrap_err();
    assert!(matches!(error, Error::Sampling(_)), "{error:?}");
}
