//! The laws of matchers.

use crate::testing::{Random, check_mask, random_vocabulary};
use crate::{ConstrainError, Constraint, Limits, Vocabulary};

fn letters() -> Vocabulary {
    let tokens = ["a", "b", "ab", "ba", "aab", "c", "abc"]
        .map(Some)
        .into_iter()
        .chain([None, None, Some("a")]);
    Vocabulary::new(tokens, &[7, 8]).unwrap()
}

#[test]
fn rollback_returns_to_where_it_was() {
    let mut random = Random::new(11);
    let vocabulary = random_vocabulary(
        &mut random,
        b"abc019 ",
        &["a", "b", "c", "0", "19", " "],
        300,
    );
    let constraint = Constraint::regex(&vocabulary, "([a-c]{1,4}[0-9]* ?)+").unwrap();
    let mut matcher = constraint.matcher().unwrap();
    let mut masks: Vec<Vec<u32>> = Vec::new();
    let mut tokens = Vec::new();
    for _ in 0..300 {
        if random.below(3) == 0 && !tokens.is_empty() {
            let back = 1 + random.below(tokens.len());
            matcher.rollback(back).unwrap();
            tokens.truncate(tokens.len() - back);
            masks.truncate(tokens.len() + 1);
            assert_eq!(
                check_mask(&mut matcher, "behind rollback"),
                masks[tokens.len()]
            );
        } else {
            let allowed = check_mask(&mut matcher, "on the way");
            masks.truncate(tokens.len());
            masks.push(allowed.clone());
            let token = *random.pick(&allowed);
            matcher.commit(token).unwrap();
            tokens.push(token);
            masks.push(check_mask(&mut matcher, "behind commit"));
        }
        assert_eq!(matcher.committed(), tokens.len());
        let mut fresh = constraint.matcher().unwrap();
        assert_eq!(fresh.commit_while_allowed(&tokens).unwrap(), tokens.len());
        assert_eq!(
            check_mask(&mut fresh, "fresh"),
            check_mask(&mut matcher, "same")
        );
    }
    let given = tokens.len() + 1;
    assert_eq!(
        matcher.rollback(given),
        Err(ConstrainError::RollbackTooFar {
            given,
            committed: tokens.len()
        })
    );
    assert_eq!(matcher.committed(), tokens.len());
    matcher.reset();
    assert_eq!(matcher.committed(), 0);
}

#[test]
fn clones_go_their_own_ways() {
    let constraint = Constraint::regex(&letters(), "(ab)*c").unwrap();
    let mut first = constraint.matcher().unwrap();
    first.commit(2).unwrap();
    let mut second = first.clone();
    second.commit(5).unwrap();
    assert!(second.must_stop().unwrap() && !first.is_accepting().unwrap());
    first.rollback(1).unwrap();
    assert_eq!((first.committed(), second.committed()), (0, 2));
    second.rollback(2).unwrap();
    assert_eq!(
        check_mask(&mut first, "first"),
        check_mask(&mut second, "second")
    );
}

#[test]
fn the_end_is_allowed_where_the_text_may_end_and_nothing_behind_it() {
    let mut matcher = Constraint::regex(&letters(), "a+")
        .unwrap()
        .matcher()
        .unwrap();
    assert_eq!(matcher.mask().unwrap().iter().collect::<Vec<_>>(), [0, 9]);
    assert!(!matcher.allows(7).unwrap() && matcher.why_not(7).unwrap().unwrap().byte.is_none());
    matcher.commit(0).unwrap();
    assert_eq!(
        matcher.mask().unwrap().iter().collect::<Vec<_>>(),
        [0, 7, 8, 9]
    );
    assert!(matcher.is_accepting().unwrap() && !matcher.must_stop().unwrap());
    matcher.commit(8).unwrap();
    assert!(matcher.is_ended() && matcher.must_stop().unwrap());
    assert_eq!(matcher.mask().unwrap().iter().collect::<Vec<_>>(), [7, 8]);
    assert!(matches!(
        matcher.commit(0),
        Err(ConstrainError::TokenRefused { token: 0, .. })
    ));
    matcher.commit(7).unwrap();
    matcher.rollback(2).unwrap();
    assert!(!matcher.is_ended());
    assert_eq!(
        matcher.mask().unwrap().iter().collect::<Vec<_>>(),
        [0, 7, 8, 9]
    );
}

#[test]
fn misuse_is_an_error_and_moves_nothing() {
    let mut matcher = Constraint::regex(&letters(), "abc")
        .unwrap()
        .matcher()
        .unwrap();
    assert_eq!(
        matcher.allows(10),
        Err(ConstrainError::NoSuchToken {
            token: 10,
            vocab: 10
        })
    );
    assert_eq!(
        matcher.commit(99),
        Err(ConstrainError::NoSuchToken {
            token: 99,
            vocab: 10
        })
    );
    let refused = matcher.commit(3).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "token 3 is not allowed here: `abc` wants one of [a]"
    );
    let why = matcher.why_not(4).unwrap().unwrap();
    assert_eq!((why.read, why.byte), (1, Some(b'a')));
    assert_eq!(matcher.why_not(6).unwrap(), None);
    assert_eq!(matcher.committed(), 0);
    let mut row = [0.0; 9];
    assert!(matches!(
        matcher.mask().unwrap().apply(&mut row),
        Err(ConstrainError::Length { given: 9, .. })
    ));
    assert!(Vocabulary::new([Some("a")], &[1]).is_err());
}

#[test]
fn masks_are_applied_to_rows_longer_than_the_vocabulary() {
    let mut random = Random::new(12);
    let vocabulary = random_vocabulary(&mut random, b"abc", &["a", "b", "c"], 200);
    let mut matcher = Constraint::regex(&vocabulary, "[ab]*")
        .unwrap()
        .matcher()
        .unwrap();
    let mask = matcher.mask().unwrap();
    let mut row = vec![1.0; vocabulary.len() + 77];
    mask.apply(&mut row).unwrap();
    for (token, logit) in row.iter().enumerate() {
        let allowed = mask.contains(token as u32);
        assert_eq!(
            *logit,
            if allowed { 1.0 } else { f32::NEG_INFINITY },
            "token {token}"
        );
    }
    let mut words = vec![7; vocabulary.mask_words()];
    mask.copy_to(&mut words).unwrap();
    assert_eq!(words, mask.words());
    assert!(mask.copy_to(&mut words[1..]).is_err());
}

#[test]
fn forced_text_is_found_and_cut_where_tokens_may_reach_across() {
    let vocabulary = Vocabulary::new(
        [
            "{", "\"", "na", "me", "\":", " ", "name", "x", "\": ", "e\"", ":", "n", "a", "m", "e",
        ]
        .map(Some),
        &[],
    )
    .unwrap();
    let mut matcher = Constraint::regex(&vocabulary, "\\{\"name\": ?x*")
        .unwrap()
        .matcher()
        .unwrap();
    assert_eq!(matcher.forced_bytes().unwrap(), b"{\"name\":");
    // `":` may go on as `": `, so that it is left to the model.
    let tokens = matcher.fast_forward(|_| vec![0, 1, 6, 4]).unwrap();
    assert_eq!(tokens, [0, 1, 6]);
    assert_eq!(
        matcher.fast_forward(|_| vec![0, 7]).unwrap(),
        [0],
        "what does not spell the text is not used"
    );
    assert!(matcher.fast_forward(|_| vec![99]).unwrap().is_empty());
    assert_eq!(matcher.forced_token().unwrap(), Some(0));
    assert_eq!(matcher.tokens_to_finish().unwrap(), 4, "{{ \" name \":");
    assert_eq!(
        matcher
            .commit_while_allowed(&[0, 1, 6, 4, 7, 7, 1])
            .unwrap(),
        6
    );
    assert_eq!(matcher.tokens_to_finish().unwrap(), 0);
    assert_eq!(matcher.forced_bytes().unwrap(), b"");
}

#[test]
fn long_texts_are_dropped_without_recursion() {
    let mut matcher = Constraint::regex(&letters(), "a*")
        .unwrap()
        .matcher()
        .unwrap();
    for _ in 0..200_000 {
        matcher.commit(0).unwrap();
    }
    let clone = matcher.clone();
    drop(matcher);
    drop(clone);
}

#[test]
fn worn_engines_are_replaced_for_new_matchers() {
    let limits = Limits {
        max_states: 60,
        max_dfa_states: 60,
        ..Limits::default()
    };
    let spec = crate::ConstraintSpec::regex("[ab]{50}");
    let constraint = Constraint::compile(&letters(), &spec, &limits).unwrap();
    let mut old = constraint.matcher().unwrap();
    for _ in 0..45 {
        old.commit(0).unwrap();
    }
    let mut new = constraint.matcher().unwrap();
    new.commit(0).unwrap();
    for _ in 0..5 {
        old.commit(1).unwrap();
    }
    assert!(old.must_stop().unwrap() && !new.is_accepting().unwrap());
}

#[test]
fn matchers_cross_threads() {
    fn sends<T: Send>() {}
    fn shares<T: Send + Sync>() {}
    sends::<crate::Matcher>();
    shares::<Constraint>();
    shares::<Vocabulary>();
    let constraint = Constraint::regex(&letters(), "(ab)*c").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut matcher = constraint.matcher().unwrap();
                for _ in 0..100 {
                    assert_eq!(
                        matcher.mask().unwrap().iter().collect::<Vec<_>>(),
                        [0, 2, 5, 6, 9]
                    );
                    matcher.commit(2).unwrap();
                }
            });
        }
    });
}
