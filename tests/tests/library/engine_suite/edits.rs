//! Edits, against their definition [`Edit::apply`].

use super::hooks::{CHUNKS, CLASSES, LENGTH, PROMPT, capturing, sum};
use super::{Subject, rows_at};
use mx_runtime::hooks::{Edit, Gate, HookPlan, HookPoint, Term, TokenClass};

/// One of every kind of edit at `point`, whose rows without edits are `rows`: gates lie between two of them.
fn every_kind(subject: &Subject, point: HookPoint, rows: &[f32]) -> Vec<(&'static str, Edit)> {
    let vector = |salt| subject.vector(salt);
    let direction = vector(9);
    let mut projections: Vec<f32> = rows
        .chunks_exact(direction.len())
        .map(|row| row.iter().zip(&direction).map(|(x, g)| x * g).sum())
        .collect();
    projections.sort_by(f32::total_cmp);
    let middle = projections.len() / 2;
    let gate = Gate {
        direction,
        threshold: f32::midpoint(projections[middle - 1], projections[middle]),
    };
    let affine = |a, b, u: Option<u64>, w| Term {
        a,
        b,
        u: u.map(vector),
        w: vector(w),
    };
    let mut several = Edit::add(point, vector(1), 0.3);
    several.terms = vec![
        affine(0.5, -0.2, Some(2), 3),
        affine(-1.0, 0.1, None, 4),
        affine(0.0, 0.3, Some(3), 2),
    ];
    let mut gated = Edit::add(point, vector(5), 1.5);
    gated.gate = Some(gate.clone());
    let mut everything = several.clone().keeping_norm();
    everything.gate = Some(gate);
    vec![
        ("add", Edit::add(point, vector(1), -1.3)),
        ("ablate", Edit::ablate(point, &vector(2))),
        ("clamp", Edit::clamp(point, &vector(3), 4.0)),
        ("affine terms", several),
        ("gated", gated),
        (
            "add and keep the norm",
            Edit::add(point, vector(6), 2.0).keeping_norm(),
        ),
        ("gated affine terms that keep the norm", everything),
    ]
}

fn applied(edits: &[Edit], rows: &[f32], width: usize) -> Vec<f32> {
    let mut rows = rows.to_vec();
    for row in rows.chunks_exact_mut(width) {
        edits.iter().for_each(|edit| edit.apply(row));
    }
    rows
}

pub(crate) fn every_edit_at_every_point_is_its_definition(subject: &Subject) {
    let width = subject.config().d_model;
    let tokens = subject.tokens(LENGTH, 1);
    let plain = subject.hooked(
        &tokens,
        &capturing(subject, vec![], &subject.points()),
        PROMPT,
        &[LENGTH],
    );
    for point in subject.points() {
        let before = rows_at(&plain.captures, point, width).1;
        for (name, edit) in every_kind(subject, point, &before) {
            let wanted = applied(std::slice::from_ref(&edit), &before, width);
            let outcome = subject.hooked(
                &tokens,
                &capturing(subject, vec![edit], &[point]),
                PROMPT,
                &[LENGTH],
            );
            let what = format!("{name} at {point}");
            subject.defined(&rows_at(&outcome.captures, point, width).1, &wanted, &what);
            subject.differ(&outcome.logits, &plain.logits, &what);
        }
    }
}

pub(crate) fn edits_act_on_what_follows(subject: &Subject) {
    let width = subject.config().d_model;
    let tokens = subject.tokens(LENGTH, 2);
    for layer in 0..subject.config().layers {
        let points = [
            HookPoint::ResidPre(layer),
            HookPoint::AttnOut(layer),
            HookPoint::ResidMid(layer),
            HookPoint::MlpOut(layer),
            HookPoint::ResidPost(layer),
        ];
        for point in &points[..4] {
            let edit = Edit::add(*point, subject.vector(1), 1.0);
            let outcome = subject.hooked(
                &tokens,
                &capturing(subject, vec![edit], &points),
                PROMPT,
                &[LENGTH],
            );
            let at = |index: usize| rows_at(&outcome.captures, points[index], width).1;
            let (pre, attention, mid, mlp, post) = (at(0), at(1), at(2), at(3), at(4));
            // The edited row itself is the only one that is not the sum of what came before.
            if *point != points[2] {
                subject.defined(
                    &mid,
                    &sum(&pre, &attention),
                    &format!("resid_mid after {point}"),
                );
            }
            subject.defined(
                &post,
                &sum(&mid, &mlp),
                &format!("resid_post after {point}"),
            );
        }
    }
}

pub(crate) fn edits_of_one_point_act_in_order(subject: &Subject) {
    let width = subject.config().d_model;
    let tokens = subject.tokens(LENGTH, 3);
    let point = HookPoint::ResidMid(0);
    let plain = subject.hooked(
        &tokens,
        &capturing(subject, vec![], &[point]),
        PROMPT,
        &[LENGTH],
    );
    let before = rows_at(&plain.captures, point, width).1;
    let (add, clamp) = (
        Edit::add(point, subject.vector(1), 2.0),
        Edit::clamp(point, &subject.vector(1), -1.0),
    );
    for edits in [vec![add.clone(), clamp.clone()], vec![clamp, add]] {
        let outcome = subject.hooked(
            &tokens,
            &capturing(subject, edits.clone(), &[point]),
            PROMPT,
            &[LENGTH],
        );
        let given = rows_at(&outcome.captures, point, width).1;
        subject.defined(&given, &applied(&edits, &before, width), "two edits");
    }
}

pub(crate) fn an_edit_touches_its_token_class_only(subject: &Subject) {
    let width = subject.config().d_model;
    let tokens = subject.tokens(LENGTH, 4);
    // Before the first attention no position knows another.
    let point = HookPoint::ResidPre(0);
    let plain = subject.hooked(
        &tokens,
        &capturing(subject, vec![], &[point]),
        PROMPT,
        &[LENGTH],
    );
    let before = rows_at(&plain.captures, point, width).1;
    for class in CLASSES {
        let edit = Edit::clamp(point, &subject.vector(1), 3.0).at(class);
        let mut wanted = before.clone();
        for position in class
            .positions(PROMPT)
            .take_while(|&position| position < LENGTH)
        {
            edit.apply(&mut wanted[position * width..(position + 1) * width]);
        }
        let plan = capturing(subject, vec![edit], &[point]);
        for chunks in CHUNKS {
            let outcome = subject.hooked(&tokens, &plan, PROMPT, chunks);
            subject.defined(
                &rows_at(&outcome.captures, point, width).1,
                &wanted,
                &format!("{class:?} in {chunks:?}"),
            );
        }
    }
}

pub(crate) fn edits_do_not_depend_on_chunks(subject: &Subject) {
    let tokens = subject.tokens(LENGTH, 5);
    for class in CLASSES {
        let edits: Vec<Edit> = (1u64..)
            .zip(subject.points())
            .map(|(salt, point)| Edit::add(point, subject.vector(salt), 0.2).at(class))
            .collect();
        let plan = HookPlan::new(edits, [], subject.config()).unwrap();
        let whole = subject.hooked(&tokens, &plan, PROMPT, &[LENGTH]).logits;
        for chunks in CHUNKS {
            let given = subject.hooked(&tokens, &plan, PROMPT, chunks).logits;
            subject.agree(&given, &whole, &format!("{class:?} in {chunks:?}"));
        }
    }
}

/// An edit of the prompt is remembered by later tokens that are not edited themselves.
pub(crate) fn edits_stay_in_keys_and_values(subject: &Subject) {
    let tokens = subject.tokens(LENGTH, 6);
    let vocab = subject.config().vocab;
    let edit = |class| Edit::add(HookPoint::ResidPre(0), subject.vector(1), 2.0).at(class);
    let run = |edits: Vec<Edit>| {
        subject
            .hooked(
                &tokens,
                &capturing(subject, edits, &[]),
                PROMPT,
                &[PROMPT, LENGTH - PROMPT],
            )
            .logits
    };
    let (plain, prompt, generated) = (
        run(vec![]),
        run(vec![edit(TokenClass::PromptOnly)]),
        run(vec![edit(TokenClass::GeneratedOnly)]),
    );
    let after = PROMPT * vocab;
    subject.differ(
        &prompt[after..after + vocab],
        &plain[after..after + vocab],
        "the first token after an edited prompt",
    );
    subject.agree(
        &generated[..after],
        &plain[..after],
        "the prompt before edited tokens",
    );
    subject.differ(&generated[after..], &plain[after..], "edited tokens");
}

pub(crate) fn an_output_of_one_block_is_the_input_of_the_next(subject: &Subject) {
    let tokens = subject.tokens(LENGTH, 7);
    for layer in 1..subject.config().layers {
        let run = |point| {
            let edit = Edit::clamp(point, &subject.vector(2), 5.0);
            subject
                .hooked(
                    &tokens,
                    &capturing(subject, vec![edit], &[]),
                    PROMPT,
                    &[LENGTH],
                )
                .logits
        };
        subject.agree(
            &run(HookPoint::ResidPost(layer - 1)),
            &run(HookPoint::ResidPre(layer)),
            "the same row by two names",
        );
    }
}
