//! Captures, and hooks that must change nothing.

use super::{Subject, rows_at};
use mx_runtime::engine::{Row, RowHooks, Sequence, StepOutput, Want};
use mx_runtime::hooks::{Capture, Edit, HookPlan, HookPoint, TokenClass};

pub(crate) const PROMPT: usize = 10;
pub(crate) const LENGTH: usize = 16;

/// Every kind of class, for a prompt of [`PROMPT`] tokens.
pub(crate) const CLASSES: [TokenClass; 10] = [
    TokenClass::All,
    TokenClass::PromptOnly,
    TokenClass::LastPrompt,
    TokenClass::GeneratedOnly,
    TokenClass::FromLastPrompt,
    TokenClass::SkipFirst,
    TokenClass::Range { start: 3, end: 12 },
    TokenClass::Range { start: 5, end: 5 },
    TokenClass::Range { start: 9, end: 4 },
    TokenClass::Range {
        start: 14,
        end: usize::MAX,
    },
];

/// Ways to compute [`LENGTH`] tokens: at once, prompt and tokens, chunks across every border.
pub(crate) const CHUNKS: [&[usize]; 4] = [&[16], &[10, 1, 1, 1, 1, 1, 1], &[4, 5, 3, 4], &[1; 16]];

/// A plan that captures these points at all tokens.
pub(crate) fn capturing(subject: &Subject, edits: Vec<Edit>, points: &[HookPoint]) -> HookPlan {
    let captures = points.iter().map(|&point| Capture {
        point,
        tokens: TokenClass::All,
    });
    HookPlan::new(edits, captures, subject.config()).unwrap()
}

pub(crate) fn captures_follow_the_token_class(subject: &Subject) {
    let tokens = subject.tokens(LENGTH, 1);
    let width = subject.config().d_model;
    let points = [
        HookPoint::ResidPre(0),
        HookPoint::MlpOut(subject.config().layers - 1),
        HookPoint::Final,
    ];
    let whole = subject.hooked(
        &tokens,
        &capturing(subject, vec![], &points),
        PROMPT,
        &[LENGTH],
    );
    for class in CLASSES {
        let captures = points.map(|point| Capture {
            point,
            tokens: class,
        });
        let plan = HookPlan::new([], captures, subject.config()).unwrap();
        let positions = class.positions(PROMPT);
        let (start, end) = (positions.start, positions.end.min(LENGTH));
        for chunks in CHUNKS {
            let outcome = subject.hooked(&tokens, &plan, PROMPT, chunks);
            for point in points {
                let what = format!("{class:?} at {point} in {chunks:?}");
                let (first, given) = rows_at(&outcome.captures, point, width);
                let wanted = rows_at(&whole.captures, point, width).1;
                if start >= end {
                    assert!(given.is_empty(), "{what}");
                    continue;
                }
                assert_eq!(
                    (first, given.len()),
                    (start, (end - start) * width),
                    "{what}"
                );
                subject.agree(&given, &wanted[start * width..end * width], &what);
            }
        }
    }
}

pub(crate) fn captures_stand_in_the_order_of_the_pass(subject: &Subject) {
    let points = subject.points();
    let backwards: Vec<HookPoint> = points.iter().rev().copied().collect();
    let outcome = subject.hooked(
        &subject.tokens(3, 1),
        &capturing(subject, vec![], &backwards),
        3,
        &[3],
    );
    let order: Vec<HookPoint> = outcome
        .captures
        .iter()
        .map(|captured| captured.point)
        .collect();
    assert_eq!(order, points);
    assert!(
        outcome
            .captures
            .iter()
            .all(|captured| captured.row == 0 && captured.first_position == 0)
    );
}

/// Numbers of `b` added to those of `a`.
pub(crate) fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

pub(crate) fn the_stream_adds_up(subject: &Subject) {
    let width = subject.config().d_model;
    let plan = capturing(subject, vec![], &subject.points());
    let outcome = subject.hooked(&subject.tokens(LENGTH, 1), &plan, PROMPT, &[LENGTH]);
    let at = |point| rows_at(&outcome.captures, point, width).1;
    for layer in 0..subject.config().layers {
        let mid = at(HookPoint::ResidMid(layer));
        subject.defined(
            &mid,
            &sum(
                &at(HookPoint::ResidPre(layer)),
                &at(HookPoint::AttnOut(layer)),
            ),
            "resid_mid",
        );
        let post = at(HookPoint::ResidPost(layer));
        subject.defined(
            &post,
            &sum(&mid, &at(HookPoint::MlpOut(layer))),
            "resid_post",
        );
        if layer + 1 < subject.config().layers {
            subject.defined(
                &at(HookPoint::ResidPre(layer + 1)),
                &post,
                "resid_pre of the next block",
            );
        }
    }
}

/// Logits with these hooks and without any, which must have the same bits.
fn same_bits(subject: &Subject, plan: &HookPlan, what: &str) {
    let tokens = subject.tokens(LENGTH, 2);
    for chunks in CHUNKS {
        let hooked = subject.hooked(&tokens, plan, PROMPT, chunks).logits;
        let mut sequence = subject.engine.new_sequence();
        let mut rest = &tokens[..];
        let mut plain = Vec::new();
        for &chunk in chunks {
            let (now, later) = rest.split_at(chunk);
            plain.extend(subject.grow(&mut sequence, now));
            rest = later;
        }
        let same = hooked
            .iter()
            .zip(&plain)
            .all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && hooked.len() == plain.len(), "{what} in {chunks:?}");
    }
}

pub(crate) fn captures_change_no_bit(subject: &Subject) {
    same_bits(
        subject,
        &capturing(subject, vec![], &subject.points()),
        "captures everywhere",
    );
}

pub(crate) fn edits_that_do_nothing_change_no_bit(subject: &Subject) {
    same_bits(subject, &HookPlan::default(), "an empty plan");
    let nothing = |point| Edit::add(point, subject.vector(1), 0.0);
    let edits: Vec<Edit> = subject.points().into_iter().map(nothing).collect();
    same_bits(
        subject,
        &capturing(subject, edits.clone(), &[]),
        "strength 0",
    );
    let keeping: Vec<Edit> = edits.into_iter().map(Edit::keeping_norm).collect();
    same_bits(
        subject,
        &capturing(subject, keeping, &[]),
        "strength 0 that keeps the norm",
    );
    let nowhere = Edit::add(HookPoint::ResidPre(0), subject.vector(1), 3.0).at(TokenClass::Range {
        start: 99,
        end: 120,
    });
    same_bits(
        subject,
        &capturing(subject, vec![nowhere], &[]),
        "an edit of positions that do not come",
    );
}

pub(crate) fn rows_of_one_batch_have_their_own_hooks(subject: &Subject) {
    let width = subject.config().d_model;
    let last = subject.config().layers - 1;
    let seen = [HookPoint::ResidPost(0), HookPoint::Final];
    let plans = [
        Some(capturing(
            subject,
            vec![Edit::add(HookPoint::ResidPre(0), subject.vector(1), 0.7)],
            &seen,
        )),
        None,
        Some(capturing(
            subject,
            vec![
                Edit::ablate(HookPoint::ResidPost(last), &subject.vector(2))
                    .at(TokenClass::LastPrompt),
            ],
            &seen[..1],
        )),
        Some(capturing(subject, vec![], &seen[1..])),
        Some(capturing(
            subject,
            vec![
                Edit::clamp(HookPoint::AttnOut(0), &subject.vector(3), 2.0)
                    .at(TokenClass::GeneratedOnly),
            ],
            &[],
        )),
    ];
    // Tokens there before, tokens appended.
    let shape = [(0, 6), (4, 3), (9, 1), (2, 9), (7, 4)];
    let texts: Vec<Vec<u32>> = (0u64..)
        .zip(shape)
        .map(|(salt, (before, new))| subject.tokens(before + new, salt))
        .collect();
    let start = |row: usize| -> Sequence {
        let mut sequence = subject.engine.new_sequence();
        if shape[row].0 > 0 {
            subject.grow(&mut sequence, &texts[row][..shape[row].0]);
        }
        sequence
    };
    let hooks = |row: usize| {
        plans[row].as_ref().map(|plan| RowHooks {
            plan,
            prompt_len: 8,
        })
    };
    let mut sequences: Vec<Sequence> = (0..shape.len()).map(start).collect();
    let mut rows: Vec<Row<'_>> = sequences
        .iter_mut()
        .enumerate()
        .map(|(row, sequence)| Row {
            sequence,
            tokens: &texts[row][shape[row].0..],
            want: Want::All,
            hooks: hooks(row),
        })
        .collect();
    let mut output = StepOutput::new();
    subject.engine.step(&mut rows, &mut output).unwrap();
    for row in 0..shape.len() {
        let alone = subject.grow_hooked(&mut start(row), &texts[row][shape[row].0..], hooks(row));
        let given: Vec<f32> = output.logits(row).iter().flatten().copied().collect();
        subject.agree(&given, &alone.logits, &format!("row {row}"));
        let mine: Vec<_> = output
            .captures()
            .iter()
            .filter(|captured| captured.row == row)
            .cloned()
            .collect();
        assert_eq!(mine.len(), alone.captures.len(), "row {row}");
        for point in seen {
            let (first, values) = rows_at(&mine, point, width);
            let (wanted_first, wanted) = rows_at(&alone.captures, point, width);
            assert_eq!(first, wanted_first, "row {row}");
            subject.agree(&values, &wanted, &format!("row {row} at {point}"));
        }
    }
    // The hooks mattered.
    let plain = subject.fresh(&texts[0]).1;
    let first: Vec<f32> = output.logits(0).iter().flatten().copied().collect();
    subject.differ(&first, &plain, "an edited row");
}
