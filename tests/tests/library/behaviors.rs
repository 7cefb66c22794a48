//! Behaviours in requests: scored token by token, corrected by steering or by writing the text again.

use crate::tiny;
use mx::pipeline::Loaded;
use mx::request::BehaviorWatch;
use mx::steering::{BehaviourStore, KeptBehaviour, ModelReader, Vectors, tokenise};
use mx::{Client, GenerateRequest, Generation};
use mx_steering::behaviour::{Correction, Polarity, Sae, TrainOptions, create_behaviour, train};
use mx_steering::make::{Reader, TokenPair, unwatched};
use mx_steering::presets::PresetRef;
use mx_steering::{ModelIdentity, Site, SteeringVector};
use std::path::Path;
use std::sync::Arc;

const TOKENS: usize = 16;

fn text(seed: u32, upper: bool) -> Vec<u32> {
    let from = if upper { 130 } else { 10 };
    (0..14)
        .map(|t| from + (t * 29 + seed * 17 + t * seed) % 100)
        .collect()
}

/// A client of the tiny model whose store has the behaviour `upper`.
fn client(folder: &Path) -> Client {
    let model = Loaded::from(tiny());
    let point = Site::ResidPre.at(2);
    let width = model.config().d_model;
    let mut reader = ModelReader::new(&model);
    let mut rows = Vec::new();
    for seed in 0..16 {
        let read = reader.read(&text(seed, seed % 2 == 0), &[point]).unwrap();
        rows.extend_from_slice(&read[0][width..]);
    }
    let options = TrainOptions {
        features: 48,
        k: 8,
        epochs: 4,
        ..TrainOptions::default()
    };
    let (mut sae, _) = train(&rows, width, &options, &mut unwatched).unwrap();
    sae.point = Some(point);
    let pairs: Vec<TokenPair> = (40..46)
        .map(|seed| TokenPair {
            prompt_len: 1,
            positive: text(seed, true),
            negative: Some(text(seed, false)),
        })
        .collect();
    let behaviour = create_behaviour("upper", &pairs, &sae, &mut reader, &mut unwatched).unwrap();
    let saved = folder.join("sae");
    sae.save(&saved).unwrap();
    assert_eq!(Sae::load(&saved, &Default::default()).unwrap(), sae);
    let store = BehaviourStore::new(folder.join("behaviors"));
    store
        .put(&KeptBehaviour {
            behaviour,
            sae: saved,
            model: ModelIdentity::default(),
        })
        .unwrap();
    let mut client = Client::with_model(tiny());
    client.set_vectors(Vectors::default().with_behaviours(store));
    client
}

fn request() -> GenerateRequest {
    GenerateRequest::new("A text.")
        .max_tokens(TOKENS)
        .temperature(0.0)
}

fn watched(change: impl FnOnce(&mut BehaviorWatch)) -> GenerateRequest {
    let mut watch = BehaviorWatch::new("upper");
    watch.strength = Some(20.0);
    change(&mut watch);
    let mut request = request();
    request.steering.behaviors = vec![watch];
    request
}

fn run(client: &Client, request: &GenerateRequest) -> Generation {
    let mut run = client.stream(request).unwrap();
    let streamed: String = run.by_ref().map(|chunk| chunk.unwrap().text).collect();
    let answer = run.into_generation();
    assert_eq!(streamed, answer.text);
    answer
}

#[test]
fn watching_changes_nothing_and_scores_every_token_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(folder.path());
    let plain = run(&client, &request());
    let answer = run(
        &client,
        &watched(|watch| watch.correction = Some(Correction::Report)),
    );
    assert_eq!(answer.tokens, plain.tokens);
    assert!(plain.behaviors.is_empty());
    let report = &answer.behaviors[0];
    assert_eq!(report.behavior, "upper");
    assert_eq!(report.scores.len(), answer.tokens.len() - 1);
    assert!(
        report
            .scores
            .iter()
            .all(|drift| (0.0..=1.0).contains(&drift.score))
    );
    assert!(report.scores.iter().any(|drift| drift.score != 0.5));
    assert_eq!((report.steered_tokens, report.regenerations), (0, 0));
    // by name alone, and in the words of Mechanex
    for json in [
        r#"{"prompt": "A text.", "temperature": 0, "max_tokens": 16, "behaviors": ["upper"]}"#,
        r#"{"prompt": "A text.", "temperature": 0, "max_tokens": 16, "behavior_names": ["upper"]}"#,
    ] {
        let request: GenerateRequest = serde_json::from_str(json).unwrap();
        assert_eq!(run(&client, &request).behaviors.len(), 1);
    }
}

#[test]
fn drift_is_steered_against_from_the_next_token_on() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(folder.path());
    let plain = run(&client, &request());
    // every token drifts: the first one is free, the others are steered
    let steered = run(&client, &watched(|watch| watch.threshold = Some(0.0)));
    let report = &steered.behaviors[0];
    assert!(
        report
            .scores
            .iter()
            .all(|drift| drift.drifts || drift.score == 0.0)
    );
    assert!(report.steered_tokens > 0);
    assert_eq!(steered.tokens[0], plain.tokens[0]);
    assert_ne!(steered.tokens, plain.tokens);
    // nothing drifts, or nothing is done
    for request in [
        watched(|watch| watch.threshold = Some(1.0)),
        watched(|watch| (watch.threshold, watch.strength) = (Some(0.0), Some(0.0))),
        watched(|watch| (watch.threshold, watch.polarity) = (Some(0.0), Some(Polarity::Maintain))),
    ] {
        assert_eq!(run(&client, &request).tokens, plain.tokens);
    }
    // the other way round, and what is judged is the row without the correction
    let kept = run(
        &client,
        &watched(|watch| (watch.threshold, watch.polarity) = (Some(1.0), Some(Polarity::Maintain))),
    );
    assert_ne!(kept.tokens, steered.tokens);
}

#[test]
fn a_text_begun_again_is_the_one_steered_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(folder.path());
    let again = |watch: &mut BehaviorWatch| {
        watch.threshold = Some(0.0);
        watch.correction = Some(Correction::Regenerate);
        watch.patience = Some(4);
    };
    let forced = |watch: &mut BehaviorWatch| {
        watch.force_steering = Some(true);
        watch.correction = Some(Correction::Report);
    };
    let (again_request, forced_request) = (watched(again), watched(forced));
    let (rewritten, steered) = (run(&client, &again_request), run(&client, &forced_request));
    assert_ne!(steered.tokens, run(&client, &request()).tokens);
    assert_eq!(rewritten.tokens, steered.tokens);
    assert_eq!(rewritten.text, steered.text);
    let report = &rewritten.behaviors[0];
    assert_eq!(report.regenerations, 1);
    assert!(report.discarded_tokens >= 4, "{report:?}");
    assert_eq!(report.scores.len(), rewritten.tokens.len() - 1);
    // the request's own word holds for those that do not say
    let mut whole = watched(|watch| watch.correction = Some(Correction::Report));
    whole.steering.force_steering = Some(true);
    assert_eq!(run(&client, &whole).tokens, steered.tokens);
    // with several outputs under a constraint each is begun again and satisfies it
    let mut several = again_request.clone();
    several.constraints.regex_pattern = Some("[a-z]{3,9}[.]".to_owned());
    several.controls.n = Some(2);
    several.sampling.temperature = Some(1.0);
    several.max_tokens = Some(40);
    several.seed = Some(5);
    if let Some(watch) = several.steering.behaviors.first_mut() {
        watch.patience = Some(1);
    }
    let answers = run_all(&client, &several);
    assert_eq!(answers.choices.len(), 2);
    for choice in &answers.choices {
        assert_eq!(choice.behaviors[0].regenerations, 1);
        let letters = choice.text.strip_suffix('.').unwrap();
        assert!(
            (3..=9).contains(&letters.len()) && letters.bytes().all(|b| b.is_ascii_lowercase())
        );
    }
}

fn run_all(client: &Client, request: &GenerateRequest) -> Generation {
    client.run(request).unwrap()
}

#[test]
fn a_linked_vector_corrects_in_place_of_the_direction() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(folder.path());
    let direct = run(&client, &watched(|watch| watch.force_steering = Some(true)));
    let store = BehaviourStore::new(folder.path().join("behaviors"));
    let mut kept = store.get("upper").unwrap();
    let link = |kept: &mut KeptBehaviour, vector: &SteeringVector, name: &str| {
        let file = folder.path().join(name);
        mx_steering::format::save(vector, &file).unwrap();
        kept.behaviour.steering_vector_id = Some(file.display().to_string());
        store.put(kept).unwrap();
        run(&client, &watched(|watch| watch.force_steering = Some(true)))
    };
    let same = kept.behaviour.vector().unwrap();
    assert_eq!(
        link(&mut kept, &same, "same.safetensors").tokens,
        direct.tokens
    );
    let other = same.scaled(-1.0).unwrap();
    assert_ne!(
        link(&mut kept, &other, "other.safetensors").tokens,
        direct.tokens
    );
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(folder.path());
    let refused = |request: &GenerateRequest, wanted: &str| {
        let error = client.run(request).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    };
    let mut request = watched(|_| ());
    request.controls.drafter = Some(mx::request::DrafterKind::PromptLookup);
    request.sampling_method = Some(mx::Method::Speculative);
    refused(&request, "drafts");
    let mut request = watched(|_| ());
    request.sampling_method = Some(mx::Method::Beam);
    refused(&request, "beam");
    refused(
        &watched(|watch| watch.behavior = "lower".to_owned()),
        "upper",
    );
    refused(
        &watched(|watch| watch.behavior = "../upper".to_owned()),
        "letters",
    );
    refused(&watched(|watch| watch.threshold = Some(2.0)), "threshold");
    let unknown = r#"{"prompt": "x", "behaviors": [{"behavior": "upper", "treshold": 0.5}]}"#;
    assert!(serde_json::from_str::<GenerateRequest>(unknown).is_err());
    // an autoencoder of another width
    let store = BehaviourStore::new(folder.path().join("behaviors"));
    let mut kept = store.get("upper").unwrap();
    let (sae, _) = train(
        &[1.0, 2.0, 3.0, 5.0],
        2,
        &TrainOptions {
            features: 4,
            k: 2,
            ..TrainOptions::default()
        },
        &mut unwatched,
    )
    .unwrap();
    kept.sae = folder.path().join("narrow");
    sae.save(&kept.sae).unwrap();
    store.put(&kept).unwrap();
    refused(&watched(|_| ()), "2");
}

#[test]
fn an_autoencoder_of_the_default_model_tells_tones_apart() {
    let Some(path) = xtask::golden::Models::on_this_machine().smollm2 else {
        eprintln!("skipped: the default model has not been fetched");
        return;
    };
    let options = xtask::sae::Options {
        out: std::path::PathBuf::new(),
        model: None,
        layer: None,
        features: 64,
        k: 8,
        epochs: 3,
        texts: 32,
    };
    let trained = xtask::sae::run(&path, &options).unwrap();
    let left = trained.unexplained[trained.unexplained.len() - 1];
    assert!(
        trained.rows > 500 && left < 0.8,
        "{} rows, {left}",
        trained.rows
    );
    let model = Loaded::from(crate::load(&path));
    let tone: PresetRef = "tone_control.formal".parse().unwrap();
    let pairs = tokenise(&tone.preset.pairs(tone.tone).unwrap(), &model).unwrap();
    let mut reader = ModelReader::new(&model);
    let (made, held_out) = (&pairs[..12], &pairs[24..]);
    let behaviour =
        create_behaviour("formal", made, &trained.sae, &mut reader, &mut unwatched).unwrap();
    let monitor = mx_steering::behaviour::Monitor::new(
        &Arc::new(behaviour),
        &Arc::new(trained.sae.clone()),
        Default::default(),
    )
    .unwrap();
    let point = trained.sae.point.unwrap();
    let width = model.config().d_model;
    let mut right = 0;
    for pair in held_out {
        let mut score = |tokens: &[u32]| {
            let read = reader.read(tokens, &[point]).unwrap();
            let scores: Vec<f64> = read[0]
                .chunks_exact(width)
                .skip(pair.prompt_len)
                .map(|row| monitor.score(row).unwrap())
                .collect();
            scores.iter().sum::<f64>() / scores.len() as f64
        };
        let negative = pair.negative.as_deref().unwrap();
        right += usize::from(score(&pair.positive) > score(negative));
    }
    assert!(
        right * 4 >= held_out.len() * 3,
        "{right} of {}",
        held_out.len()
    );
}
