//! Steps that cannot be made change nothing.

use super::Subject;
use mx_runtime::engine::{EngineError, Row, RowHooks, Sequence, StepOutput, Want};
use mx_runtime::hooks::{Capture, Edit, HookError, HookPlan, HookPoint, TokenClass};

/// A batch of three good rows with a bad one at every place in turn: the error is what `expected` says, and all
/// sequences go on as if nothing had been tried.
fn check(
    subject: &Subject,
    bad: &dyn Fn() -> Sequence,
    tokens: &[u32],
    hooks: Option<RowHooks<'_>>,
    expected: &dyn Fn(usize, &EngineError) -> bool,
) {
    for place in 0..4 {
        let mut good: Vec<Sequence> = (0..3u64)
            .map(|row| subject.fresh(&subject.tokens(4 + row as usize, row)).0)
            .collect();
        let mut wrong = bad();
        let before = wrong.tokens().to_vec();
        let mut rows: Vec<Row<'_>> = good
            .iter_mut()
            .map(|sequence| Row {
                sequence,
                tokens: &[5, 6],
                want: Want::All,
                hooks: None,
            })
            .collect();
        rows.insert(
            place,
            Row {
                sequence: &mut wrong,
                tokens,
                want: Want::All,
                hooks,
            },
        );
        let error = subject
            .engine
            .step(&mut rows, &mut StepOutput::new())
            .unwrap_err();
        assert!(expected(place, &error), "at {place}: {error:?}");
        assert_eq!(wrong.tokens(), before);
        for (row, sequence) in (0u64..).zip(&mut good) {
            assert_eq!(sequence.tokens(), subject.tokens(4 + row as usize, row));
            let whole = [sequence.tokens(), &[9, 8]].concat();
            let given = subject.grow(sequence, &[9, 8]);
            subject.agree(
                &given,
                &subject.fresh_end(&whole, 2),
                "a good row after a refusal",
            );
        }
    }
}

pub(crate) fn a_token_out_of_range(subject: &Subject) {
    let vocab = subject.config().vocab;
    for token in [vocab as u32, u32::MAX] {
        check(
            subject,
            &|| subject.fresh(&[1, 2]).0,
            &[3, token, 4],
            None,
            &|_, error| *error == EngineError::TokenOutOfRange { token, vocab },
        );
    }
}

pub(crate) fn a_row_without_tokens(subject: &Subject) {
    check(
        subject,
        &|| subject.fresh(&[1, 2]).0,
        &[],
        None,
        &|place, error| *error == EngineError::EmptyRow { row: place },
    );
}

pub(crate) fn a_full_context(subject: &Subject) {
    let limit = subject.config().max_context;
    let tokens = subject.tokens(limit, 1);
    let mut full = subject.engine.new_sequence();
    for part in tokens.chunks(64) {
        subject.grow(&mut full, part);
    }
    assert_eq!(full.len(), limit, "a context can be filled to its end");
    check(subject, &|| full.fork(), &[1], None, &|_, error| {
        *error
            == EngineError::ContextFull {
                used: limit,
                wanted: 1,
                limit,
            }
    });
    let almost = || {
        let mut sequence = full.fork();
        sequence.truncate(limit - 1);
        sequence
    };
    check(subject, &almost, &[1, 2], None, &|_, error| {
        *error
            == EngineError::ContextFull {
                used: limit - 1,
                wanted: 2,
                limit,
            }
    });
    let last = tokens[limit - 1];
    let given = subject.grow(&mut almost(), &[last]);
    subject.agree(&given, &subject.fresh_end(&tokens, 1), "the last place");
    let longer = subject.tokens(limit + 1, 2);
    check(
        subject,
        &|| subject.engine.new_sequence(),
        &longer,
        None,
        &|_, error| {
            *error
                == EngineError::ContextFull {
                    used: 0,
                    wanted: limit + 1,
                    limit,
                }
        },
    );
}

pub(crate) fn a_sequence_of_another_engine(subject: &Subject) {
    let foreign = || {
        let mut sequence = subject.stranger.new_sequence();
        let row = Row {
            sequence: &mut sequence,
            tokens: &[1, 2],
            want: Want::None,
            hooks: None,
        };
        subject
            .stranger
            .step(&mut [row], &mut StepOutput::new())
            .unwrap();
        sequence
    };
    let expected =
        |place: usize, error: &EngineError| *error == EngineError::ForeignSequence { row: place };
    check(subject, &foreign, &[3], None, &expected);
    check(subject, &|| foreign().fork(), &[3], None, &expected);
    check(
        subject,
        &|| subject.stranger.new_sequence(),
        &[3],
        None,
        &expected,
    );
}

pub(crate) fn hooks_that_do_not_fit(subject: &Subject) {
    let config = subject.config();
    let (layers, width) = (config.layers, config.d_model);
    let vector = subject.vector(1);
    let plan = |edits: Vec<Edit>, points: &[HookPoint]| {
        let captures = points.iter().map(|&point| Capture {
            point,
            tokens: TokenClass::All,
        });
        HookPlan::new(edits, captures, config)
    };
    let point = HookPoint::ResidMid(layers);
    let layer = HookError::Layer {
        point,
        given: layers,
        last: layers - 1,
    };
    assert_eq!(plan(vec![], &[point]), Err(layer.clone()));
    assert_eq!(
        plan(vec![Edit::add(point, vector.clone(), 1.0)], &[]),
        Err(layer.clone())
    );
    assert_eq!(
        plan(vec![Edit::add(point, vector.clone(), 0.0)], &[]),
        Err(layer),
        "strength 0 excuses nothing"
    );
    let point = HookPoint::ResidPre(0);
    for given in [0, width - 1, width + 1] {
        let short = Edit::add(point, vec![1.0; given], 1.0);
        assert_eq!(
            plan(vec![short], &[]),
            Err(HookError::Width {
                point,
                given,
                wanted: width
            })
        );
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut broken = vector.clone();
        broken[width / 2] = bad;
        let mut edits = vec![
            Edit::add(point, broken.clone(), 1.0),
            Edit::add(point, vector.clone(), bad),
        ];
        let good = Edit::add(point, vector.clone(), 1.0);
        for change in 0..4 {
            let mut edit = good.clone();
            match change {
                0 => edit.terms[0].b = bad,
                1 => edit.terms[0].u = Some(broken.clone()),
                2 => {
                    edit.gate = Some(mx_runtime::hooks::Gate {
                        direction: broken.clone(),
                        threshold: 0.0,
                    })
                }
                _ => {
                    edit.gate = Some(mx_runtime::hooks::Gate {
                        direction: vector.clone(),
                        threshold: bad,
                    })
                }
            }
            edits.push(edit);
        }
        for edit in edits {
            assert!(
                matches!(plan(vec![edit], &[]), Err(HookError::NotFinite { .. })),
                "{bad}"
            );
        }
    }
    assert!(
        plan(
            vec![Edit::add(HookPoint::Final, vector, 1.0)],
            &subject.points()
        )
        .is_ok()
    );
}

/// A plan is checked against a model when it is made; the engine must not trust that it was its own.
pub(crate) fn a_plan_of_another_model(subject: &Subject) {
    let mut wider = subject.config().clone();
    wider.d_model += 1;
    let edit = Edit::add(HookPoint::ResidPre(0), vec![1.0; wider.d_model], 1.0);
    let plan = HookPlan::new([edit], [], &wider).unwrap();
    let hooks = Some(RowHooks {
        plan: &plan,
        prompt_len: 2,
    });
    check(
        subject,
        &|| subject.fresh(&[1, 2]).0,
        &[3],
        hooks,
        &|_, error| matches!(error, EngineError::Hook(_)),
    );
    let mut deeper = subject.config().clone();
    deeper.layers += 1;
    let edit = Edit::add(
        HookPoint::ResidPre(deeper.layers - 1),
        subject.vector(1),
        1.0,
    );
    let plan = HookPlan::new([edit], [], &deeper).unwrap();
    let hooks = Some(RowHooks {
        plan: &plan,
        prompt_len: 2,
    });
    check(
        subject,
        &|| subject.fresh(&[1, 2]).0,
        &[3],
        hooks,
        &|_, error| matches!(error, EngineError::Hook(_)),
    );
}
