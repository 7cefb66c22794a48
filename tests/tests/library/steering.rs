//! mx-steering on models of mx-runtime: its edits are the runtime's, its methods work on a real forward pass.

use crate::tiny;
use burn::prelude::*;
use mx_runtime::engine::burn::{BurnEngine, HookSite};
use mx_runtime::engine::{Engine, Row, RowHooks, StepOutput, Want};
use mx_runtime::hooks::{self, HookPlan};
use mx_steering::apply::{Edit, Gate, Operator, Plan, Steer, SteeringSpec, TokenClass, VectorRef};
use mx_steering::behaviour::{Monitor, MonitorOptions, TrainOptions, create_behaviour, train};
use mx_steering::make::few_shot::{FewShotOptions, Start, SteeredModel, Target, few_shot};
use mx_steering::make::{Reader, Recipe, TokenPair, make, unwatched};
use mx_steering::tensor::TensorPlan;
use mx_steering::{ModelShape, Site, SteeringVector};
use std::ops::ControlFlow;
use std::sync::Arc;
use xtask::golden::steering::{
    EngineReader, EngineSteered, hook_plan, hook_point, runtime_edit, shape,
};

const TOKENS: [u32; 9] = [5, 60, 7, 80, 9, 100, 11, 12, 13];
const PROMPT: usize = 6;

fn engine() -> Arc<dyn Engine> {
    Arc::clone(tiny().engine())
}

/// The burn engine of the tiny model, whatever engine the model runs on.
fn burn_engine() -> BurnEngine {
    mx_runtime::files::ModelFiles::open(&mx_tests::data::gguf("llama_gqa_tied"))
        .unwrap()
        .burn_engine(mx_runtime::device::DeviceId::Flex)
        .unwrap()
}

fn wave(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (0.7 * i as f32 + seed).sin()).collect()
}

/// Logits of all tokens with a runtime plan.
fn logits(engine: &dyn Engine, plan: &HookPlan) -> Vec<f32> {
    let mut sequence = engine.new_sequence();
    let mut output = StepOutput::new();
    let row = Row {
        sequence: &mut sequence,
        tokens: &TOKENS,
        want: Want::All,
        hooks: Some(RowHooks {
            plan,
            prompt_len: PROMPT,
        }),
    };
    engine.step(&mut [row], &mut output).unwrap();
    output.logits(0).iter().flatten().copied().collect()
}

fn close(a: &[f32], b: &[f32], within: f32) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() < within * (1.0 + b.abs()))
}

fn pairs() -> Vec<TokenPair> {
    [
        ([5, 60, 7], [80, 81], [90, 9]),
        ([8, 3, 70], [80, 33], [91, 7]),
        ([44, 2, 6], [81, 50], [90, 30]),
    ]
    .into_iter()
    .map(|(prompt, positive, negative)| TokenPair {
        prompt_len: 3,
        positive: [prompt.as_slice(), &positive].concat(),
        negative: Some([prompt.as_slice(), &negative].concat()),
    })
    .collect()
}

/// Edits of every kind at `d_model` numbers.
fn edits(d_model: usize) -> Vec<Edit> {
    let (u, v) = (wave(d_model, 1.0), wave(d_model, 2.0));
    let point = Site::ResidMid.at(1);
    let gate = Gate {
        direction: u.clone(),
        threshold: 0.1,
    };
    vec![
        Edit::add(point, v.clone(), 2.0).at(TokenClass::SkipFirst),
        Edit::add(Site::MlpOut.at(0), v.clone(), -1.0).keeping_norm(),
        Edit::ablate(Site::ResidPre.at(0), &u, 1.0)
            .unwrap()
            .at(TokenClass::GeneratedOnly),
        Edit::clamp(Site::AttnOut.at(2), &v, 3.0, 0.5)
            .unwrap()
            .gated(gate),
        Edit::affine(Site::ResidPost.at(2), vec![v.clone()], vec![u], Some(v))
            .at("-2..7".parse().unwrap()),
    ]
}

#[test]
fn an_edit_means_the_same_in_both_crates() {
    let engine = engine();
    for edit in edits(engine.config().d_model) {
        let mut ours = wave(engine.config().d_model, 5.0);
        let mut theirs = ours.clone();
        edit.apply(&mut ours);
        runtime_edit(&edit, PROMPT).unwrap().apply(&mut theirs);
        assert_eq!(ours, theirs, "{edit:?}");
        // and so does its JSON, for the classes that both name
        if !matches!(edit.tokens, TokenClass::Range { .. }) {
            let json = serde_json::to_string(&edit).unwrap();
            let read: hooks::Edit = serde_json::from_str(&json).unwrap();
            assert_eq!(read, runtime_edit(&edit, PROMPT).unwrap());
        }
    }
}

#[test]
fn tensors_steer_as_the_engine_does() {
    let engine = burn_engine();
    let plan = Plan {
        edits: edits(engine.config().d_model),
        ..Plan::default()
    };
    let by_engine = logits(&engine, &hook_plan(&plan, PROMPT, &engine).unwrap());
    let tensors = TensorPlan::new(&plan, engine.device());
    let mut hook = |site: HookSite, x: Tensor<3>| match site.point.to_string().parse() {
        Ok(point) => tensors
            .apply(point, x, site.first_position, PROMPT)
            .unwrap(),
        // the place behind the last norm has no name here
        Err(_) => x,
    };
    let rows = engine.forward(&[&TOKENS], &mut hook).unwrap();
    let by_tensor: Vec<f32> = rows[0].clone().try_into_vec_as().unwrap();
    assert!(close(&by_engine, &by_tensor, 1e-4));
    assert!(!close(
        &by_engine,
        &logits(&engine, &HookPlan::default()),
        1e-2
    ));
}

#[test]
fn a_vector_is_made_compiled_and_acts() {
    let engine = engine();
    let model = shape(engine.as_ref());
    let recipe = Recipe::caa([Site::ResidPost.at(0), Site::ResidPost.at(1)]);
    let vector = make(
        &recipe,
        &pairs(),
        &mut EngineReader(Arc::clone(&engine)),
        &mut unwatched,
    )
    .unwrap();
    assert!(vector.stream_norms.values().all(|norm| *norm > 0.0));
    let vector = Arc::new(vector);
    let run = |spec: &SteeringSpec| {
        let plan = spec
            .compile(&model, PROMPT, &mut |_| Ok(Arc::clone(&vector)))
            .unwrap();
        let hooks = hook_plan(&plan, PROMPT, engine.as_ref()).unwrap();
        (plan, logits(engine.as_ref(), &hooks))
    };
    let plain = logits(engine.as_ref(), &HookPlan::default());
    let steer = || Steer::new("v");
    let (_, none) = run(&steer().strength(0.0).into());
    assert!(
        plain
            .iter()
            .zip(&none)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
    let (_, there) = run(&steer().strength(3.0).into());
    assert!(!close(&plain, &there, 1e-2));
    // two halves are a whole, and what is added is taken away again
    let twice = SteeringSpec {
        vectors: vec![steer().strength(1.5), steer().strength(1.5)],
        edits: vec![],
    };
    assert!(close(&run(&twice).1, &there, 1e-4));
    let back = SteeringSpec {
        vectors: vec![steer().strength(3.0), steer().strength(-3.0)],
        edits: vec![],
    };
    assert!(close(&run(&back).1, &plain, 1e-4));
    // generated tokens alone leave the prompt's logits as they were
    let (_, late) = run(&steer()
        .strength(3.0)
        .tokens(TokenClass::GeneratedOnly)
        .into());
    let vocab = engine.config().vocab;
    assert_eq!(plain[..PROMPT * vocab], late[..PROMPT * vocab]);
    assert!(!close(
        &plain[PROMPT * vocab..],
        &late[PROMPT * vocab..],
        1e-2
    ));
    // a rotation to an angle is many edits and runs on any engine
    let other = [(Site::ResidPost.at(0), wave(model.d_model, 9.0))].into();
    let other = Arc::new(SteeringVector::new(mx_steering::Method::Caa, other).unwrap());
    let turn = Operator::RotateTo {
        with: VectorRef::from("other"),
        degrees: 40.0,
    };
    let spec = SteeringSpec::from(steer().operator(turn).layers([0]));
    let plan = spec
        .compile(&model, PROMPT, &mut |name| {
            Ok(Arc::clone(if name == "other" { &other } else { &vector }))
        })
        .unwrap();
    assert!(plan.edits.len() > 10);
    let turned = logits(
        engine.as_ref(),
        &hook_plan(&plan, PROMPT, engine.as_ref()).unwrap(),
    );
    assert!(!close(&plain, &turned, 1e-3));
}

#[test]
fn a_vector_of_another_model_is_refused_with_both_numbers() {
    let engine = engine();
    let vector = SteeringVector::new(
        mx_steering::Method::Caa,
        [(Site::ResidPost.at(1), vec![1.0; 8])].into(),
    )
    .unwrap();
    let vector = Arc::new(vector);
    let spec = SteeringSpec::from(Steer::new("v"));
    let compile =
        |model: &ModelShape| spec.compile(model, PROMPT, &mut |_| Ok(Arc::clone(&vector)));
    let error = compile(&shape(engine.as_ref())).unwrap_err();
    assert!(error.is_mismatch());
    assert!(
        error.to_string().contains("8 numbers") && error.to_string().contains("48"),
        "{error}"
    );
    assert!(
        compile(&ModelShape::new(8, 1))
            .unwrap_err()
            .to_string()
            .contains("layer 1")
    );
}

#[test]
fn few_shot_raises_the_answer_it_was_asked_for() {
    let engine = burn_engine();
    let targets = Target::of_pairs(&pairs());
    let point = Site::ResidPre.at(1);
    let run = |start: Start, watch: &mut mx_steering::make::Watch<'_>| {
        let options = FewShotOptions {
            start,
            ..FewShotOptions::default()
        };
        let d_model = engine.config().d_model;
        few_shot(
            &[point],
            &targets,
            d_model,
            engine.device(),
            &options,
            &mut EngineSteered(&engine),
            watch,
        )
    };
    let (vector, descents) = run(Start::Seed(3), &mut unwatched).unwrap();
    let losses = &descents[0].losses;
    assert!(losses[losses.len() - 1] < 0.8 * losses[0], "{losses:?}");
    assert_eq!(run(Start::Seed(3), &mut unwatched).unwrap().0, vector);
    let mut watch = |progress: mx_steering::make::Progress| match progress.done {
        0..4 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    assert!(run(Start::Seed(3), &mut watch).unwrap_err().is_cancelled());

    // through the request, the answer's probability really rises
    let vector = Arc::new(vector);
    let log_probability = |strength: f32| {
        let spec = SteeringSpec::from(Steer::new("v").strength(strength));
        let plan = spec
            .compile(&shape(&engine), 3, &mut |_| Ok(Arc::clone(&vector)))
            .unwrap();
        let hooks = hook_plan(&plan, 3, &engine).unwrap();
        let pair = &pairs()[0];
        let mut sequence = engine.new_sequence();
        let mut output = StepOutput::new();
        let row = Row {
            sequence: &mut sequence,
            tokens: &pair.positive,
            want: Want::All,
            hooks: Some(RowHooks {
                plan: &hooks,
                prompt_len: 3,
            }),
        };
        engine.step(&mut [row], &mut output).unwrap();
        let lines: Vec<f32> = output
            .logits(0)
            .iter()
            .skip(2)
            .take(2)
            .flatten()
            .copied()
            .collect();
        mx_steering::evaluate::answer_log_probability(&lines, &pair.positive[3..]).unwrap()
    };
    assert!(log_probability(1.0) > log_probability(0.0) + 0.5);
    assert!(hook_point(point).is_ok());
}

#[test]
fn an_autoencoder_trained_on_a_model_notices_a_behaviour() {
    let engine = engine();
    let d_model = engine.config().d_model;
    let point = Site::ResidPre.at(2);
    let mut reader = EngineReader(Arc::clone(&engine));
    // texts of two kinds: tokens from the lower and from the upper part of the vocabulary
    let text = |seed: u32, upper: bool| -> Vec<u32> {
        let from = if upper { 130 } else { 10 };
        (0..14)
            .map(|t| from + (t * 29 + seed * 17 + t * seed) % 100)
            .collect()
    };
    let mut rows = Vec::new();
    for seed in 0..30 {
        let read = reader.read(&text(seed, seed % 2 == 0), &[point]).unwrap();
        // position 0 is left out, as everywhere
        rows.extend_from_slice(&read[0][d_model..]);
    }
    let options = TrainOptions {
        features: 96,
        k: 8,
        epochs: 12,
        ..TrainOptions::default()
    };
    let (mut sae, unexplained) = train(&rows, d_model, &options, &mut unwatched).unwrap();
    let (first, last) = (unexplained[0], unexplained[unexplained.len() - 1]);
    assert!(last < 0.9 * first && last < 0.7, "{unexplained:?}");
    sae.point = Some(point);

    let pairs: Vec<TokenPair> = (40..52)
        .map(|seed| TokenPair {
            prompt_len: 1,
            positive: text(seed, true),
            negative: Some(text(seed, false)),
        })
        .collect();
    let behaviour = create_behaviour("upper", &pairs, &sae, &mut reader, &mut unwatched).unwrap();
    let monitor = Monitor::new(
        &Arc::new(behaviour.clone()),
        &Arc::new(sae.clone()),
        MonitorOptions::default(),
    )
    .unwrap();
    // on texts that neither was made from
    let mut mean_score = |upper: bool| {
        let mut scores = Vec::new();
        for seed in 60..66 {
            let read = reader.read(&text(seed, upper), &[point]).unwrap();
            scores.extend(
                read[0]
                    .chunks_exact(d_model)
                    .skip(1)
                    .map(|row| monitor.score(row).unwrap()),
            );
        }
        scores.iter().sum::<f64>() / scores.len() as f64
    };
    let (with, without) = (mean_score(true), mean_score(false));
    assert!(
        with > without + 0.02,
        "{with} with the behaviour, {without} without"
    );
}

#[test]
fn a_resumed_descent_is_the_whole_one() {
    let engine = burn_engine();
    let d_model = engine.config().d_model;
    let beginning = [5, 60, 7, 80];
    let pair = |prompt: &[u32], positive: &[u32], negative: Option<&[u32]>| TokenPair {
        prompt_len: beginning.len() + prompt.len(),
        positive: [&beginning, prompt, positive].concat(),
        negative: negative.map(|negative| [&beginning, prompt, negative].concat()),
    };
    let with_beginning = [
        pair(&[8, 3], &[80, 33, 4], Some(&[91])),
        pair(&[8, 3], &[12], None),
        pair(&[44], &[81, 50], Some(&[90, 30])),
        pair(&[], &[9, 9], Some(&[10, 2, 3, 4])),
    ];
    let alone = [pair(&[1, 2], &[3, 4], Some(&[5]))];
    for pairs in [&with_beginning[..], &pairs(), &alone] {
        let targets = Target::of_pairs(pairs);
        for (batch, place, same) in [
            (16, Site::ResidPre.at(0), Site::ResidPre.at(0)),
            (2, Site::ResidPre.at(2), Site::ResidPre.at(2)),
            (1, Site::ResidPost.at(0), Site::ResidPre.at(1)),
        ] {
            let options = FewShotOptions {
                iterations: 3,
                batch,
                ..FewShotOptions::default()
            };
            let run = |point, start: Start, model: &mut dyn SteeredModel| {
                let options = FewShotOptions {
                    start,
                    ..options.clone()
                };
                few_shot(
                    &[point],
                    &targets,
                    d_model,
                    engine.device(),
                    &options,
                    model,
                    &mut unwatched,
                )
                .unwrap()
                .1
                .remove(0)
            };
            let start = || Start::Vector(wave(d_model, 0.3));
            let whole = run(same, start(), &mut EngineSteered(&engine));
            let resumed = run(
                place,
                start(),
                &mut mx::steering::ResumedModel::new(&engine),
            );
            let narrow = |losses: &[f64]| losses.iter().map(|x| *x as f32).collect::<Vec<_>>();
            assert!(
                close(&narrow(&whole.losses), &narrow(&resumed.losses), 1e-3),
                "{place}: {:?} {:?}",
                whole.losses,
                resumed.losses
            );
            assert!(close(&whole.first_gradient, &resumed.first_gradient, 1e-3));
        }
    }
}

#[test]
fn resuming_refuses_what_does_not_fit() {
    use mx_runtime::engine::burn::ResumedRow;
    let engine = burn_engine();
    let d_model = engine.config().d_model;
    let layers = engine.config().layers;
    assert!(engine.sequence_above(layers).is_err());
    let mut sequence = engine.sequence_above(1).unwrap();
    let mut other = burn_engine().sequence_above(1).unwrap();
    let rows = |tokens: usize, width: usize| Tensor::<2>::zeros([tokens, width], engine.device());
    let ask = |sequence: &mut _, hidden: Tensor<2>, layer: usize| {
        let row = ResumedRow {
            sequence,
            hidden,
            lines: 0..9,
        };
        let mut keep = |_: HookSite, x: Tensor<3>| x;
        engine
            .resume(layer, &mut [row], &mut keep)
            .map(|logits| logits[0].dims())
    };
    assert!(ask(&mut sequence, rows(2, d_model), 2).is_err());
    assert!(ask(&mut other, rows(2, d_model), 1).is_err());
    assert!(ask(&mut sequence, rows(0, d_model), 1).is_err());
    assert!(ask(&mut sequence, rows(2, d_model + 1), 1).is_err());
    assert!(
        ask(
            &mut sequence,
            rows(engine.config().max_context + 1, d_model),
            1
        )
        .is_err()
    );
    let vocab = engine.config().vocab;
    assert_eq!(ask(&mut sequence, rows(2, d_model), 1), Ok([2, vocab]));
    assert_eq!((sequence.len(), sequence.layer()), (2, 1));
}

#[test]
fn a_preset_whose_effect_is_not_shown_says_so_when_it_is_used() {
    use mx_steering::evaluate::Estimate;
    use mx_steering::presets::{Preset, Tone};
    use mx_steering::store::VectorStore;
    let folder = tempfile::tempdir().unwrap();
    let model = mx::pipeline::Loaded::from(tiny());
    let width = model.config().d_model;
    let identity = mx::steering::identity(&model);
    let told = |low: f64| {
        let store = VectorStore::new(folder.path().join(low.to_string()));
        let directions = [(Site::ResidPost.at(1), wave(width, 0.5))].into();
        let mut vector = SteeringVector::new(mx_steering::Method::Caa, directions).unwrap();
        vector.measured.get_or_insert_default().effect = Some(Estimate {
            mean: 1.0,
            low,
            high: 2.0,
            n: 16,
        });
        store
            .put(&vector.named(Preset::Brevity.cache_name(Tone::default(), &identity)))
            .unwrap();
        let mut client = mx::Client::with_model(tiny());
        client.set_vectors(mx::steering::Vectors::new(store));
        let mut request = mx::GenerateRequest::new("x").max_tokens(2).temperature(0.0);
        request.steering.steering_preset = Some("brevity".to_owned());
        let warnings = client.run(&request).unwrap().warnings;
        warnings
            .iter()
            .any(|warning| warning.message.contains("includes none"))
    };
    assert!(told(-0.5) && told(0.0));
    assert!(!told(0.5));
}

#[test]
fn the_preset_that_is_a_constraint_is_one() {
    let client = mx::Client::with_model(tiny());
    let mut request = mx::GenerateRequest::new("x").max_tokens(24);
    request.steering.steering_preset = Some("json_compliance".to_owned());
    let answer = client.run(&request).unwrap();
    assert!(answer.text.trim_start().starts_with('{'), "{}", answer.text);
    // and below the client, where no policy is asked
    let plan = mx::pipeline::Plan::new(tiny(), &request, || 0).unwrap();
    assert!(plan.warnings().iter().any(|w| w.code == "constraint"));
    let text = mx::pipeline::Run::new(plan)
        .unwrap()
        .complete()
        .unwrap()
        .text;
    assert!(text.trim_start().starts_with('{'), "{text}");
}
