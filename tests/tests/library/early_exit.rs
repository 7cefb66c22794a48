//! Self-speculation: the first blocks of a model draft for all of them.

use crate::{load, tiny};
use mx::request::DrafterKind;
use mx::trace::TokenSource;
use mx::{Client, ErrorKind, GenerateRequest, Method};
use mx_runtime::device::DeviceId;
use mx_runtime::engine::{Engine, Row, StepOutput, Want};
use mx_runtime::model::{EngineChoice, LoadOptions, Model};
use mx_tests::data;
use std::sync::Arc;

fn request(tokens: usize) -> GenerateRequest {
    let mut request = GenerateRequest::new("one two three one two three one two")
        .raw(true)
        .max_tokens(tokens)
        .seed(3);
    request.ignore_eos = Some(true);
    request
}

fn drafting(mut request: GenerateRequest, method: Method) -> GenerateRequest {
    request.sampling_method = Some(method);
    request.controls.draft_model = Some("self".to_owned());
    request.controls.draft_layers = Some(1);
    request
}

fn logits(engine: &dyn Engine, tokens: &[u32]) -> Vec<f32> {
    let mut sequence = engine.new_sequence();
    let mut output = StepOutput::new();
    let row = Row {
        sequence: &mut sequence,
        tokens,
        want: Want::All,
        hooks: None,
    };
    engine.step(&mut [row], &mut output).unwrap();
    output.logits(0).iter().flatten().copied().collect()
}

/// Both engines, on models small enough for both.
fn engines() -> Vec<Arc<Model>> {
    [EngineChoice::Cpu, EngineChoice::Burn]
        .into_iter()
        .map(|engine| {
            let mut options = LoadOptions::on(DeviceId::Flex);
            options.engine = engine;
            options.cpu.exact = true;
            Arc::new(Model::load(&data::gguf("llama_q64_q8_0"), &options).unwrap())
        })
        .collect()
}

#[test]
fn all_blocks_are_the_model_and_fewer_are_not() {
    let tokens = [5, 9, 30, 7];
    let mut shallow: Vec<Vec<f32>> = Vec::new();
    for model in engines() {
        let engine = model.engine();
        let layers = engine.config().layers;
        let whole = logits(&**engine, &tokens);
        let all = engine.early_exit(layers).unwrap();
        assert_eq!(logits(&*all, &tokens), whole);
        let one = engine.early_exit(1).unwrap();
        assert_eq!(one.config().layers, 1);
        let short = logits(&*one, &tokens);
        assert_ne!(short, whole);
        shallow.push(short);
        assert!(engine.early_exit(0).is_none());
        assert!(engine.early_exit(layers + 1).is_none());
        // The view has sequences of its own.
        let mut foreign = one.new_sequence();
        let row = Row {
            sequence: &mut foreign,
            tokens: &tokens,
            want: Want::Last,
            hooks: None,
        };
        assert!(engine.step(&mut [row], &mut StepOutput::new()).is_err());
        // And the model is as it was.
        assert_eq!(logits(&**engine, &tokens), whole);
    }
    let [cpu, burn] = &shallow[..] else { panic!() };
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3 * (1.0 + b.abs());
    assert!(
        cpu.iter().zip(burn).all(near),
        "the engines agree on the view"
    );
}

#[test]
fn greedy_is_plain_greedy() {
    let client = Client::with_model(tiny());
    let plain = client.run(&request(40).method(Method::Greedy)).unwrap();
    for method in [Method::Greedy, Method::Speculative, Method::Ssd] {
        let mut drafted = drafting(request(40), method).include_trace(true);
        drafted.sampling.temperature = Some(0.0);
        if method == Method::Greedy {
            drafted.sampling.temperature = None;
        }
        let answer = client.run(&drafted).unwrap();
        assert_eq!(answer.tokens, plain.tokens, "{method:?}");
        let (proposed, stood) = answer.trace.unwrap().drafts();
        assert!(proposed > 10 && stood <= proposed, "{stood} of {proposed}");
        if method == Method::Ssd {
            assert!(answer.warnings.iter().any(|w| w.code == "ssd_degraded"));
        }
    }
}

#[test]
fn every_name_of_it_is_the_same() {
    let client = Client::with_model(tiny());
    let base = || request(24).temperature(1.2).method(Method::Speculative);
    let by_model = drafting(base(), Method::Speculative);
    let mut by_kind = base();
    by_kind.controls.drafter = Some(DrafterKind::EarlyExit);
    by_kind.controls.draft_layers = Some(1);
    let by_json: GenerateRequest =
        serde_json::from_str(r#"{"prompt":"x","drafter":"self","draft_layers":1}"#).unwrap();
    assert_eq!(by_json.controls.drafter, Some(DrafterKind::EarlyExit));
    let (a, b) = (
        client.run(&by_model).unwrap(),
        client.run(&by_kind).unwrap(),
    );
    assert_eq!(a.tokens, b.tokens);
    // A third of the blocks unless given.
    by_kind.controls.draft_layers = None;
    assert!(client.run(&by_kind).is_ok());
}

#[test]
fn what_cannot_be_is_refused() {
    let client = Client::with_model(tiny());
    let layers = tiny().config().layers;
    let refuse = |change: &dyn Fn(&mut GenerateRequest)| {
        let mut request = drafting(request(4), Method::Speculative);
        change(&mut request);
        client.run(&request).unwrap_err()
    };
    for given in [0, layers, usize::MAX] {
        let error = refuse(&|r| r.controls.draft_layers = Some(given));
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
        assert!(error.to_string().contains("draft_layers"), "{error}");
    }
    let error = refuse(&|r| r.controls.drafter = Some(DrafterKind::Model));
    assert!(error.to_string().contains("self"), "{error}");
    let error = refuse(&|r| {
        r.controls.drafter = Some(DrafterKind::EarlyExit);
        r.controls.draft_model = Some("other".to_owned());
    });
    assert!(error.to_string().contains("draft_model"), "{error}");
    let one = load(&data::gguf("llama_gqa_tied"));
    assert!(one.config().layers > 1);
}

#[test]
fn drafts_stand_or_fall_by_the_law() {
    let client = Client::with_model(tiny());
    let traced = drafting(request(60).temperature(1.0), Method::Speculative).include_trace(true);
    let trace = client.run(&traced).unwrap().trace.unwrap();
    let of = |source| trace.steps.iter().filter(|s| s.source == source).count();
    let (proposed, stood) = trace.drafts();
    assert_eq!(of(TokenSource::Drafted), stood);
    assert!(of(TokenSource::Corrected) > 0 && proposed > stood);
    for (index, step) in trace.steps.iter().enumerate() {
        let Some(draft) = &step.draft else { continue };
        let came: Vec<u32> = trace.steps[index..].iter().map(|s| s.token).collect();
        assert_eq!(draft.tokens[..draft.accepted], came[..draft.accepted]);
        if draft.accepted < draft.tokens.len() && index + draft.accepted < trace.steps.len() {
            let corrected = &trace.steps[index + draft.accepted];
            assert_eq!(corrected.source, TokenSource::Corrected);
        }
    }
}

/// A model without its last blocks, as a file.
fn truncated(model: &std::path::Path, layers: usize) -> (tempfile::TempDir, Arc<Model>) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("draft.gguf");
    let made = xtask::model::truncate(model, layers, &out).unwrap();
    assert_eq!(made.bytes, std::fs::metadata(&out).unwrap().len());
    let loaded = load(&out);
    assert_eq!(loaded.config().layers, layers);
    (folder, loaded)
}

#[test]
fn a_truncated_file_is_the_early_exit() {
    for name in [
        "llama_gqa_tied",
        "llama_q64_q8_0",
        "llama3_rope_untied",
        "mistral_swa",
    ] {
        let path = data::gguf(name);
        let whole = load(&path);
        let layers = whole.config().layers - 1;
        let (_folder, file) = truncated(&path, layers);
        let view = whole.engine().early_exit(layers).unwrap();
        let tokens = [5, 9, 30, 7];
        assert_eq!(
            logits(&**file.engine(), &tokens),
            logits(&*view, &tokens),
            "{name}"
        );
        let text = |model: &Model| {
            model
                .tokenizer()
                .unwrap()
                .decode(&[40, 41, 42], false)
                .unwrap()
        };
        assert_eq!(text(&file), text(&whole), "{name}");
    }
}

#[test]
fn a_truncated_copy_drafts_for_the_default_model() {
    let Some(model) = crate::default_model::model("a_truncated_copy_drafts") else {
        return;
    };
    let (_folder, draft) = truncated(model.path(), 10);
    let mut client = Client::with_model(model);
    client.add_model("draft", draft);
    let request = GenerateRequest::new("Count from one to twenty.")
        .max_tokens(24)
        .method(Method::Greedy);
    let plain = client.run(&request).unwrap();
    let mut drafted = request.include_trace(true);
    drafted.controls.draft_model = Some("draft".to_owned());
    let answer = client.run(&drafted).unwrap();
    assert_eq!(answer.tokens, plain.tokens);
    let by_file = answer.trace.unwrap().drafts();
    // The early exit of the same depth proposes the same.
    drafted.controls.draft_model = Some("self".to_owned());
    drafted.controls.draft_layers = Some(10);
    let answer = client.run(&drafted).unwrap();
    assert_eq!(answer.tokens, plain.tokens);
    assert_eq!(answer.trace.unwrap().drafts(), by_file);
    assert!(by_file.0 > 0);
}

#[test]
fn what_cannot_be_truncated_is_refused() {
    let path = data::gguf("llama_gqa_tied");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("draft.gguf");
    let layers = load(&path).config().layers;
    for given in [0, layers, usize::MAX] {
        let error = xtask::model::truncate(&path, given, &out).unwrap_err();
        assert!(error.to_string().contains("layers is"), "{error}");
    }
    assert!(!out.exists());
    std::fs::copy(&path, &out).unwrap();
    assert!(
        xtask::model::truncate(&out, 1, &out).is_err(),
        "not over itself"
    );
    std::fs::write(&out, "GGUF").unwrap();
    let other = folder.path().join("other.gguf");
    assert!(xtask::model::truncate(&out, 1, &other).is_err());
}
