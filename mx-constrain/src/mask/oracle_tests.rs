//! Masks against the naive way: every token, byte by byte.

use std::sync::{Arc, Mutex};

use super::Engine;
use crate::testing::{ArrayMachine, Random, check_mask, random_vocabulary};
use crate::{Constraint, ConstraintSpec, Limits, Matcher, RegexMode, RegexSyntax, Vocabulary};

const BYTES: &[u8] = b"abcxyzABZ019 -_/.,:\"\\[]{}\n\xc3\xa4\xb6\xe6\x97\xa5";
const PIECES: &[&str] = &[
    "a", "b", "c", "xy", "z", "A", "Z", "0", "1", "9", " ", "-", "_", "/", ".", ",", "\"", "\\",
    "[", "]", "ä", "日", "\n", "abc", "99",
];

const PATTERNS: &[&str] = &[
    "[a-z]*",
    "[a-z0-9-]+",
    "[a-z]{1,7}",
    "[A-Z][a-z]+( [A-Z][a-z]+)*",
    ".*",
    "[^/]+/[^/]+",
    "(?!abc)[a-z]{3,40}",
    "\"[^\"]{0,9}\"",
    "[a-z]{2}[0-9]{2}|[a-z]{3}ä+",
    "(abc|xyz)*9",
    "[ä日a]{0,4}",
    "a{3}b{40}c?",
    "[^a]{33,}",
    "(?=.*9)(?=.*[A-Z])[a-zA-Z0-9]{4,12}",
    "\\w+\\b.\\b\\w+",
    "",
];

fn walk(mut matcher: Matcher, random: &mut Random, steps: usize, context: &str) {
    for _ in 0..steps {
        let allowed = check_mask(&mut matcher, context);
        let completion = matcher.completion().unwrap();
        let mut finished = matcher.clone();
        assert!(
            finished.commit_bytes(&completion).unwrap(),
            "{context}: {completion:?}"
        );
        assert!(
            finished.is_accepting().unwrap(),
            "{context}: {completion:?}"
        );
        assert_eq!(
            matcher.must_stop().unwrap(),
            allowed.iter().all(|&t| matcher.vocabulary().is_eos(t)),
            "{context}"
        );
        if allowed.is_empty() {
            return;
        }
        let token = *random.pick(&allowed);
        matcher.commit(token).unwrap();
    }
}

#[test]
fn masks_of_patterns_are_exact() {
    let mut random = Random::new(1);
    for round in 0..6 {
        let vocabulary = random_vocabulary(&mut random, BYTES, PIECES, 100 + 300 * round);
        for pattern in PATTERNS {
            for mode in [RegexMode::Full, RegexMode::Search] {
                let spec = ConstraintSpec::Regex {
                    pattern: (*pattern).to_owned(),
                    syntax: RegexSyntax::Ecma262,
                    mode,
                };
                let constraint =
                    Constraint::compile(&vocabulary, &spec, &Limits::default()).unwrap();
                for _ in 0..3 {
                    walk(
                        constraint.matcher().unwrap(),
                        &mut random,
                        12,
                        &format!("{pattern} {mode:?}"),
                    );
                }
            }
        }
    }
}

#[test]
fn masks_of_frames_are_exact() {
    let mut random = Random::new(2);
    let pieces = &[
        "[", "]", ",", "\"", "]]", "\",\"", "\"]", "[[", "1", "23", "a", "bc", "ä", "[\"", "],[",
        "日",
    ];
    for round in 0..8 {
        let vocabulary =
            random_vocabulary(&mut random, b"[],\"0123abc\xc3\xa4", pieces, 200 * round);
        let engine = Engine::new(
            Box::new(ArrayMachine),
            vocabulary.clone(),
            Limits::default(),
        );
        let engine = Arc::new(Mutex::new(engine));
        for _ in 0..30 {
            walk(
                Matcher::new(Arc::clone(&engine), vocabulary.clone()),
                &mut random,
                14,
                "arrays",
            );
        }
    }
}

#[test]
fn small_caches_change_nothing() {
    let mut random = Random::new(3);
    let vocabulary = random_vocabulary(&mut random, BYTES, PIECES, 900);
    let limits = Limits {
        mask_cache_bytes: 2_000,
        ..Limits::default()
    };
    for pattern in PATTERNS {
        let constraint =
            Constraint::compile(&vocabulary, &ConstraintSpec::regex(*pattern), &limits).unwrap();
        for _ in 0..3 {
            walk(constraint.matcher().unwrap(), &mut random, 10, pattern);
        }
    }
}

#[test]
fn masks_of_a_large_vocabulary_are_exact() {
    // Enough tokens that subtrees are skipped and slices cut by length.
    let mut random = Random::new(4);
    let vocabulary = random_vocabulary(&mut random, BYTES, PIECES, 12_000);
    for pattern in [
        "[a-z]{1,9}",
        "[a-z-]+",
        "[^/]+",
        ".{0,40}",
        "[A-Z][a-z]+",
        "\"[a-z ]*\"",
        "[a-zä]{0,3}[0-9]*",
    ] {
        let constraint = Constraint::regex(&vocabulary, pattern).unwrap();
        for _ in 0..4 {
            walk(constraint.matcher().unwrap(), &mut random, 8, pattern);
        }
    }
}

#[test]
fn choices_are_followed_to_their_ends() {
    let mut random = Random::new(5);
    let vocabulary = random_vocabulary(&mut random, BYTES, PIECES, 500);
    let choices = [
        "abc",
        "abcx",
        "xyz",
        "9",
        "日",
        "q is not in the alphabet",
        "a-b/c",
    ];
    let constraint = Constraint::choices(&vocabulary, choices).unwrap();
    for _ in 0..40 {
        let mut matcher = constraint.matcher().unwrap();
        let mut text = Vec::new();
        while !matcher.is_ended() {
            let allowed = check_mask(&mut matcher, "choices");
            let token = *random.pick(&allowed);
            text.extend_from_slice(vocabulary.bytes_of(token).unwrap_or_default());
            matcher.commit(token).unwrap();
        }
        let text = String::from_utf8(text).unwrap();
        assert!(
            choices.contains(&text.as_str()) && !text.contains('q'),
            "{text}"
        );
    }
    assert!(Constraint::choices(&vocabulary, ["q"]).is_err());
    assert!(Constraint::choices::<String>(&vocabulary, []).is_err());
}

#[test]
fn a_token_of_a_missing_byte_is_a_dead_end_seen_before_it() {
    // `b` is in no token, so that `ab` cannot be written and only `c` is left.
    let vocabulary = Vocabulary::new([Some("a"), Some("c"), Some("d"), None], &[3]).unwrap();
    let constraint = Constraint::regex(&vocabulary, "ab|cd|a[^\\0-\\u{10ffff}]").unwrap();
    let mut matcher = constraint.matcher().unwrap();
    assert_eq!(matcher.mask().unwrap().iter().collect::<Vec<_>>(), [1]);
    assert!(matches!(
        Constraint::regex(&vocabulary, "ab"),
        Err(crate::ConstrainError::Unsatisfiable { .. })
    ));
}
