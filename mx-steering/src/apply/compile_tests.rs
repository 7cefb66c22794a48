//! Requests compiled to edits.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::apply::{
    Comparison, Operator, PromptCondition, Schedule, Steer, Step, TokenClass, TokenCondition,
};
use crate::point::Site;
use crate::vector::{Measured, Method, Units};

const D: usize = 4;
const PROMPT: usize = 5;

fn vector(layers: &[usize]) -> SteeringVector {
    let directions = layers
        .iter()
        .map(|&l| (Site::ResidPost.at(l), vec![0.0, 3.0, 4.0, l as f32 * 0.0]))
        .collect();
    SteeringVector::new(Method::Caa, directions)
        .unwrap()
        .named("v")
}

fn other() -> SteeringVector {
    let directions = [(Site::ResidPost.at(2), vec![2.0, 0.0, 0.0, 0.0])].into();
    SteeringVector::new(Method::Caa, directions)
        .unwrap()
        .named("other")
}

fn model() -> ModelShape {
    ModelShape::new(D, 6)
}

fn compile_with(spec: &SteeringSpec, v: &SteeringVector) -> Result<Plan, SteeringError> {
    let (v, other) = (Arc::new(v.clone()), Arc::new(other()));
    spec.compile(&model(), PROMPT, &mut |name| match name {
        "v" => Ok(Arc::clone(&v)),
        "other" => Ok(Arc::clone(&other)),
        _ => Err("not here".into()),
    })
}

fn compile(steer: Steer) -> Plan {
    compile_with(&steer.into(), &vector(&[2, 3])).unwrap()
}

fn fails(steer: Steer) -> String {
    compile_with(&steer.into(), &vector(&[2, 3]))
        .unwrap_err()
        .to_string()
}

/// The row after a plan's edits at layer 2, at a position.
fn run(plan: &Plan, row: [f32; D], position: usize) -> [f32; D] {
    let mut row = row;
    for edit in plan.edits.iter().filter(|edit| edit.point.layer == 2) {
        edit.apply_rows(&mut row, D, position, PROMPT);
    }
    row
}

#[test]
fn one_edit_a_layer_of_the_vector() {
    let plan = compile(Steer::new("v").strength(2.0));
    assert_eq!(
        plan.points(),
        [Site::ResidPost.at(2), Site::ResidPost.at(3)]
    );
    assert_eq!(
        plan.edits[0],
        Edit::add(Site::ResidPost.at(2), vec![0.0, 3.0, 4.0, 0.0], 2.0)
    );
    assert_eq!(
        compile(Steer::new("v").layers([3])).points(),
        [Site::ResidPost.at(3)]
    );
    let mut steer = Steer::new("v").strength(2.0);
    steer.layer_strengths = [(3, 0.0), (2, 0.5)].into();
    assert_eq!(
        compile(steer).edits,
        [Edit::add(
            Site::ResidPost.at(2),
            vec![0.0, 3.0, 4.0, 0.0],
            1.0
        )]
    );
    let mut steer = Steer::new("v");
    steer.site = Some(Site::ResidPre);
    assert_eq!(
        compile(steer).points(),
        [Site::ResidPre.at(2), Site::ResidPre.at(3)]
    );
}

#[test]
fn strength_nothing_and_measured() {
    let plan = compile(Steer::new("v").strength(0.0));
    assert!(plan.is_empty() && matches!(plan.warnings[..], [Warning::NoEffect { .. }]));
    let mut v = vector(&[2]);
    v.measured = Some(Measured {
        strength: Some(0.25),
        ..Measured::default()
    });
    let plan = compile_with(&Steer::new("v").into(), &v).unwrap();
    assert_eq!(plan.edits[0].terms[0].a, 0.25);
}

#[test]
fn units() {
    let strength = |units: Units, v: &SteeringVector| {
        let mut steer = Steer::new("v").strength(2.0);
        steer.units = Some(units);
        compile_with(&steer.into(), v).map(|plan| plan.edits[0].terms[0].a)
    };
    let mut v = vector(&[2]);
    assert_eq!(strength(Units::Unit, &v).unwrap(), 0.4);
    let error = strength(Units::RELATIVE, &v).unwrap_err().to_string();
    assert!(error.contains("resid_post.2"), "{error}");
    // the same row under its other name
    v.stream_norms = [(Site::ResidPre.at(3), 50.0)].into();
    assert!((strength(Units::RELATIVE, &v).unwrap() - 2.0 * 0.1 * 50.0 / 5.0).abs() < 1e-6);
    // a push of 10 beside a stream of 8
    v.stream_norms = [(Site::ResidPost.at(2), 8.0)].into();
    let plan = compile_with(&Steer::new("v").strength(2.0).into(), &v).unwrap();
    assert!(
        matches!(plan.warnings[..], [Warning::Strong { percent, .. }] if (percent - 125.0).abs() < 1e-3)
    );
}

#[test]
fn operators_do_what_their_formula_says() {
    let row = [1.0, 2.0, 3.0, 4.0];
    let projection = |row: [f32; D]| 0.6 * row[1] + 0.8 * row[2];
    let of = |operator, strength| {
        run(
            &compile(Steer::new("v").operator(operator).strength(strength)),
            row,
            0,
        )
    };
    assert!(projection(of(Operator::Ablate, 1.0)).abs() < 1e-6);
    assert!((projection(of(Operator::Ablate, 0.5)) - projection(row) / 2.0).abs() < 1e-6);
    assert!((projection(of(Operator::Clamp { value: -7.0 }, 1.0)) + 7.0).abs() < 1e-5);
    let with = || VectorRef::from("other");
    let turned = of(
        Operator::Rotate {
            with: with(),
            degrees: 90.0,
        },
        1.0,
    );
    // (along v, along other) = (3.6, 1) becomes (−1, 3.6)
    assert!((projection(turned) + 1.0).abs() < 1e-5 && (turned[0] - 3.6).abs() < 1e-5);
    let half = of(
        Operator::Rotate {
            with: with(),
            degrees: 180.0,
        },
        0.5,
    );
    assert!(turned.iter().zip(half).all(|(a, b)| (a - b).abs() < 1e-5));
    let aimed = of(
        Operator::RotateTo {
            with: with(),
            degrees: 0.0,
        },
        1.0,
    );
    assert!(
        (projection(aimed) - (3.6f32 * 3.6 + 1.0).sqrt()).abs() < 1e-2 && aimed[0].abs() < 1e-2
    );
    let kept = {
        let mut steer = Steer::new("v");
        steer.keep_norm = true;
        run(&compile(steer), row, 0)
    };
    let norm = |row: [f32; D]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((norm(kept) - norm(row)).abs() < 1e-5 && kept != row);
}

#[test]
fn token_classes_and_schedules() {
    let zero = [0.0; D];
    let third = |plan: &Plan, position| run(plan, zero, position)[1] / 3.0;
    let plan = compile(Steer::new("v").tokens("-2..".parse().unwrap()));
    assert_eq!([2, 3, 4, 9].map(|p| third(&plan, p)), [0.0, 1.0, 1.0, 1.0]);
    let mut steer = Steer::new("v").tokens(TokenClass::GeneratedOnly);
    steer.schedule = Schedule::Steps {
        steps: vec![Step {
            tokens: 2,
            factor: 2.0,
        }],
        then: 0.5,
    };
    let plan = compile(steer);
    assert_eq!(
        [4, 5, 6, 7, 50].map(|p| third(&plan, p)),
        [0.0, 2.0, 2.0, 0.5, 0.5]
    );
    let mut steer = Steer::new("v").tokens("3..5".parse().unwrap());
    steer.schedule = Schedule::Ramp {
        from: 1.0,
        to: 0.0,
        tokens: 4,
    };
    let plan = compile(steer);
    assert_eq!([2, 3, 4, 5].map(|p| third(&plan, p)), [0.0, 1.0, 0.75, 0.0]);
}

#[test]
fn rows_of_a_vector_go_to_positions_of_their_own() {
    let directions = [(
        Site::ResidPre.at(2),
        (0..3 * D).map(|i| i as f32 + 1.0).collect(),
    )]
    .into();
    let v = SteeringVector::with_rows(Method::ActAdd, 3, directions).unwrap();
    let plan = compile_with(&Steer::new("v").tokens("1..".parse().unwrap()).into(), &v).unwrap();
    let first = |position| run(&plan, [0.0; D], position)[0];
    assert_eq!([0, 1, 2, 3, 4].map(first), [0.0, 1.0, 5.0, 9.0, 0.0]);
}

#[test]
fn conditions_gate_each_row() {
    let mut steer = Steer::new("v");
    steer.condition = Some(TokenCondition {
        vector: Some("other".into()),
        threshold: 2.0,
        when: Comparison::Above,
    });
    let plan = compile(steer.clone());
    assert_eq!(run(&plan, [1.9, 0.0, 0.0, 0.0], 0)[1], 0.0);
    assert_eq!(run(&plan, [2.1, 0.0, 0.0, 0.0], 0)[1], 3.0);
    steer.condition = Some(TokenCondition {
        vector: None,
        threshold: 0.0,
        when: Comparison::Below,
    });
    let plan = compile(steer);
    assert_eq!(run(&plan, [0.0, 1.0, 0.0, 0.0], 0)[1], 1.0);
    assert_eq!(run(&plan, [0.0, -1.0, 0.0, 0.0], 0)[1], 2.0);
}

#[test]
fn conditions_on_the_prompt_are_decided_once() {
    let mut steer = Steer::new("v");
    steer.prompt_condition = Some(PromptCondition {
        vector: "other".into(),
        threshold: 0.5,
        when: Comparison::Above,
    });
    let spec = SteeringSpec {
        vectors: vec![steer, Steer::new("other")],
        edits: vec![],
    };
    let resolve = |_: &str| Ok(Arc::new(other()));
    assert_eq!(
        spec.prompt_conditions(&model(), &mut resolve.clone())
            .unwrap(),
        [(0, Site::ResidPost.at(2))]
    );
    let decide = |mean: [f32; D]| {
        let decided = spec
            .decided(&mut resolve.clone(), &mut |_| Ok(mean.to_vec()))
            .unwrap();
        assert!(
            decided
                .vectors
                .iter()
                .all(|steer| steer.prompt_condition.is_none())
        );
        decided.vectors.len()
    };
    assert_eq!(decide([3.0, 0.1, 0.0, 0.0]), 2);
    assert_eq!(decide([0.1, 3.0, 0.0, 0.0]), 1);
}

#[test]
fn operators_have_an_order_and_additions_are_summed() {
    let add = |strength| Steer::new("v").strength(strength).layers([2]);
    let spec = SteeringSpec {
        vectors: vec![
            add(1.0),
            Steer::new("v")
                .operator(Operator::Clamp { value: 1.0 })
                .layers([2]),
            Steer::new("other").strength(3.0),
            Steer::new("v").operator(Operator::Ablate).layers([2]),
            add(2.0).tokens(TokenClass::LastPrompt),
            add(0.5),
        ],
        edits: vec![Edit::add(Site::ResidPost.at(2), vec![9.0; D], 1.0)],
    };
    let plan = compile_with(&spec, &vector(&[2])).unwrap();
    let kinds: Vec<(f32, f32)> = plan
        .edits
        .iter()
        .map(|e| (e.terms[0].a, e.terms[0].b))
        .collect();
    assert_eq!(
        kinds,
        [(0.0, -1.0), (1.0, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, -1.0)]
    );
    // ablate, direct, the sum of three, the one of another class, clamp
    assert_eq!(plan.edits[2].terms[0].w, [6.0, 4.5, 6.0, 0.0]);
    assert_ne!(plan.digest(), Plan::default().digest());
    assert_eq!(
        plan.digest(),
        compile_with(&spec, &vector(&[2])).unwrap().digest()
    );
}

#[test]
fn everywhere_writes_every_stream_site() {
    let mut steer = Steer::new("v").operator(Operator::Ablate).layers([2]);
    steer.everywhere = true;
    let points = compile(steer.clone()).points();
    assert_eq!(points.len(), 1 + 2 * 6);
    assert_eq!(points[0], Site::ResidPre.at(0));
    steer.layers = None;
    assert!(fails(steer).contains("exactly one place"));
}

#[test]
fn what_does_not_fit_is_named() {
    assert!(fails(Steer::new("nobody")).contains("\"nobody\": not here"));
    assert!(
        fails(Steer::new("v").layers([7])).contains("layer 7; it has resid_post.2, resid_post.3")
    );
    assert!(fails(Steer::new("v").strength(f32::NAN)).contains("NaN"));
    assert!(
        fails(
            Steer::new("v")
                .strength(f32::MAX)
                .tokens(TokenClass::All)
                .operator(Operator::Clamp { value: 10.0 })
        )
        .contains("inf")
    );
    let to = |degrees| Operator::RotateTo {
        with: "other".into(),
        degrees,
    };
    assert!(fails(Steer::new("v").operator(to(0.0)).strength(0.5)).contains("angle is a target"));
    assert!(fails(Steer::new("v").operator(to(f64::INFINITY))).contains("degrees"));
    let mut gated = Steer::new("v").operator(to(0.0));
    gated.condition = Some(TokenCondition {
        vector: None,
        threshold: 0.0,
        when: Comparison::Above,
    });
    assert!(fails(gated).contains("one gate"));
    let parallel = Operator::Rotate {
        with: "v".into(),
        degrees: 3.0,
    };
    assert!(fails(Steer::new("v").operator(parallel)).contains("rotation plane"));
    let inline = VectorRef::Inline([("9".to_owned(), vec![1.0; D])].into());
    assert!(fails(Steer::new(inline)).contains("layer 9 does not exist, the model has 6 layers"));
    let narrow = VectorRef::Inline([("1".to_owned(), vec![1.0; 3])].into());
    assert!(fails(Steer::new(narrow)).contains("3 numbers, the width wanted is 4"));
    let spec = SteeringSpec {
        vectors: vec![],
        edits: vec![Edit::add(Site::ResidPre.at(0), vec![1.0], 1.0)],
    };
    assert!(compile_with(&spec, &vector(&[2])).is_err());
}

#[test]
fn inline_vectors_act_where_mechanex_acts() {
    let inline = VectorRef::Inline([("2".to_owned(), vec![1.0; D])].into());
    assert_eq!(compile(Steer::new(inline)).points(), [Site::ResidPre.at(2)]);
}
