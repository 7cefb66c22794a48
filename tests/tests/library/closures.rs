//! Closures on burn tensors, which only the burn engine has.

use crate::tiny;
use burn::prelude::Tensor;
use mx_runtime::engine::burn::{BurnEngine, HookSite};
use mx_runtime::engine::{EngineError, Row, RowHooks, Sequence, StepOutput, Want};
use mx_runtime::hooks::{Edit, HookPlan, HookPoint, TokenClass};

const TEXTS: [&[u32]; 3] = [&[5, 6, 7, 8], &[9], &[10, 11, 12]];

/// A step over [`TEXTS`] with this closure; the logits of all tokens.
fn step(hook: &mut dyn FnMut(HookSite, Tensor<3>) -> Tensor<3>) -> Result<Vec<f32>, EngineError> {
    let model = tiny();
    let engine: &BurnEngine = model.engine().as_any().downcast_ref().unwrap();
    let mut sequences: Vec<Sequence> = TEXTS
        .iter()
        .map(|_| model.engine().new_sequence())
        .collect();
    let mut rows: Vec<Row<'_>> = sequences
        .iter_mut()
        .zip(TEXTS)
        .map(|(sequence, tokens)| Row {
            sequence,
            tokens,
            want: Want::All,
            hooks: None,
        })
        .collect();
    let mut output = StepOutput::new();
    let result = engine.step_with(&mut rows, &mut output, &mut |site, x| hook(site, x));
    let logits = (0..TEXTS.len()).flat_map(|row| {
        output
            .logits(row)
            .iter()
            .flatten()
            .copied()
            .collect::<Vec<_>>()
    });
    result.map(|()| logits.collect())
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs()))
}

#[test]
fn a_closure_sees_every_point_of_every_row() {
    let mut seen = Vec::new();
    let plain = step(&mut |site, x| {
        let [batch, tokens, width] = x.dims();
        assert_eq!((batch, width, site.first_position), (1, 48, 0));
        assert_eq!(tokens, TEXTS[site.row].len());
        seen.push((site.point, site.row));
        x
    })
    .unwrap();
    assert_eq!(seen.len(), (5 * 3 + 1) * TEXTS.len());
    assert!(seen.contains(&(HookPoint::Final, 2)) && seen.contains(&(HookPoint::MlpOut(1), 0)));
    let again = step(&mut |_, x| x).unwrap();
    assert!(close(&plain, &again));
}

#[test]
fn a_closure_does_what_the_same_edit_does() {
    let (point, row) = (HookPoint::ResidMid(1), 2);
    let by_closure = step(&mut |site, x| {
        if (site.point, site.row) == (point, row) {
            x + 0.5
        } else {
            x
        }
    })
    .unwrap();
    let model = tiny();
    let edit = Edit::add(point, vec![1.0; 48], 0.5).at(TokenClass::All);
    let plan = HookPlan::new([edit], [], model.config()).unwrap();
    let mut by_edit = Vec::new();
    for (index, tokens) in TEXTS.into_iter().enumerate() {
        let mut sequence = model.engine().new_sequence();
        let hooks = (index == row).then_some(RowHooks {
            plan: &plan,
            prompt_len: 0,
        });
        let mut output = StepOutput::new();
        let batch = Row {
            sequence: &mut sequence,
            tokens,
            want: Want::All,
            hooks,
        };
        model.engine().step(&mut [batch], &mut output).unwrap();
        by_edit.extend(output.logits(0).iter().flatten().copied());
    }
    assert!(close(&by_closure, &by_edit));
    assert!(!close(&by_closure, &step(&mut |_, x| x).unwrap()));
}

#[test]
fn a_closure_that_changes_the_shape_is_refused() {
    let error = step(&mut |_, x| x.clone().narrow(1, 0, 1).repeat_dim(1, 2)).unwrap_err();
    let given = vec![1, 2, 48];
    assert!(
        matches!(&error, EngineError::HookShape { given: g, .. } if *g == given),
        "{error:?}"
    );
}
