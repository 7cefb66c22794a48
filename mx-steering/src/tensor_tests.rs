//! Tensors against the definition on slices.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::point::Site;

const D: usize = 6;

fn point() -> Point {
    Site::ResidMid.at(2)
}

fn numbers(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (0.7 * i as f32 + seed).sin()).collect()
}

fn edits() -> Vec<Edit> {
    let (u, v, w) = (numbers(D, 1.0), numbers(D, 2.0), numbers(D, 3.0));
    let affine = Edit::affine(
        point(),
        vec![v.clone(), w.clone()],
        vec![u.clone(), v.clone()],
        Some(w.clone()),
    );
    vec![
        Edit::add(point(), v.clone(), 1.5),
        Edit::add(point(), w.clone(), -2.0)
            .keeping_norm()
            .at(TokenClass::SkipFirst),
        Edit::ablate(point(), &u, 0.75)
            .unwrap()
            .at("-2..-1".parse().unwrap()),
        Edit::clamp(point(), &w, 3.0, 1.0)
            .unwrap()
            .gated(Gate::below(&u, 0.1)),
        affine.at(TokenClass::FromLastPrompt),
        Edit::add(point(), v, 0.0),
    ]
}

#[test]
fn tensors_and_slices_agree() {
    let device = Device::flex();
    let (first, prompt_len, seq) = (3, 6, 5);
    for edit in edits() {
        let rows = numbers(2 * seq * D, 0.5);
        let mut expected = rows.clone();
        expected
            .chunks_exact_mut(seq * D)
            .for_each(|sequence| edit.apply_rows(sequence, D, first, prompt_len));
        let plan = Plan {
            edits: vec![edit.clone()],
            ..Plan::default()
        };
        let x = Tensor::<3>::from_data(TensorData::new(rows.clone(), [2, seq, D]), &device);
        let got = TensorPlan::new(&plan, &device)
            .apply(point(), x, first, prompt_len)
            .unwrap();
        let got: Vec<f32> = got.try_into_vec_as().unwrap();
        for (index, (a, b)) in got.iter().zip(&expected).enumerate() {
            assert!(
                (a - b).abs() < 1e-5,
                "{edit:?} [{index}]: {a}, expected {b}"
            );
        }
        assert_eq!(edit.is_identity(), expected == rows);
    }
}

#[test]
fn rows_of_a_batch_have_plans_of_their_own() {
    let device = Device::flex();
    let plan = |strength| {
        let edits = vec![Edit::add(point(), vec![1.0; D], strength)];
        TensorPlan::new(
            &Plan {
                edits,
                ..Plan::default()
            },
            &device,
        )
    };
    let (one, two) = (plan(1.0), plan(2.0));
    let x = Tensor::<3>::zeros([3, 1, D], &device);
    let plans = [Some(&one), None, Some(&two)];
    let got = TensorPlan::apply_each(&plans, point(), x.clone(), &[0; 3], &[1; 3]).unwrap();
    let got: Vec<f32> = got.try_into_vec_as().unwrap();
    assert_eq!([got[0], got[D], got[2 * D]], [1.0, 0.0, 2.0]);
    assert!(TensorPlan::apply_each(&plans[..2], point(), x.clone(), &[0; 3], &[1; 3]).is_err());
    let narrow = x.narrow(2, 0, 3);
    assert!(one.apply(point(), narrow, 0, 1).is_err());
}
