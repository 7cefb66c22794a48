#![allow(clippy::unwrap_used)]

use std::sync::Barrier;

use super::super::NoProgress;
use super::*;

fn install(store: &Store, name: &str, content: &str) -> StoredModel {
    let staging = store.stage(name, &mut NoProgress).unwrap();
    let path = staging.model().join("m.gguf");
    fs::write(&path, content).unwrap();
    let sha256 = sha256_file(&path, &mut NoProgress).unwrap();
    let file = ManifestFile::of(&staging.model(), "m.gguf", sha256).unwrap();
    staging
        .commit(&Manifest::new("test".into(), None, vec![file]))
        .unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("models"));
    (folder, store)
}

#[test]
fn installed_listed_and_removed() {
    let (_folder, store) = store();
    assert!(store.list().unwrap().is_empty());
    assert_eq!(store.get("a").unwrap(), None);
    let model = install(&store, "a", "first");
    assert_eq!(fs::read_to_string(&model.path).unwrap(), "first");
    assert_eq!(
        (model.bytes, model.state.clone(), model.linked),
        (5, StoredState::Intact, false)
    );
    assert!(model.installed > 1_700_000_000);
    assert_eq!(store.get("a").unwrap(), Some(model.clone()));
    install(&store, "b", "x");
    assert_eq!(
        store
            .list()
            .unwrap()
            .iter()
            .map(|m| m.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert!(
        !store.root().join(PARTIAL).join("a").exists(),
        "the working folder is gone"
    );

    let removed = store.remove("a").unwrap().unwrap();
    assert_eq!((removed.bytes, removed.kept), (5, None));
    assert_eq!(store.remove("a").unwrap(), None);
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn an_alias_is_the_same_model() {
    let (_folder, store) = store();
    install(&store, "default", "x");
    assert_eq!(
        store.get("SmolLM2-135M-Instruct").unwrap().unwrap().name,
        "smollm2"
    );
    assert!(store.remove("smollm2").unwrap().is_some());
}

#[test]
fn a_newer_installation_replaces_the_older() {
    let (_folder, store) = store();
    install(&store, "a", "first");
    install(&store, "a", "second");
    let model = store.get("a").unwrap().unwrap();
    assert_eq!(fs::read_to_string(&model.path).unwrap(), "second");
}

#[test]
fn an_abandoned_installation_is_no_model_and_is_cleared() {
    let (_folder, store) = store();
    let staging = store.stage("a", &mut NoProgress).unwrap();
    fs::write(staging.model().join("half"), "ha").unwrap();
    drop(staging);
    assert_eq!(store.get("a").unwrap(), None);
    assert!(store.list().unwrap().is_empty());
    assert!(!store.partial("a").exists(), "nothing stays of it");
    // As a killed process leaves it.
    fs::create_dir_all(store.partial("a").join(NEW)).unwrap();
    fs::write(store.partial("a").join(NEW).join("half"), "ha").unwrap();
    install(&store, "a", "whole");
    assert!(
        !store
            .get("a")
            .unwrap()
            .unwrap()
            .path
            .with_file_name("half")
            .exists()
    );

    fs::create_dir_all(store.partial("b").join(NEW)).unwrap();
    assert!(
        store.remove("b").unwrap().is_some(),
        "what an interrupted fetch left can be removed"
    );
}

#[test]
fn old_leftovers_of_other_models_are_swept() {
    let (_folder, store) = store();
    let old = store.partial("dead");
    fs::create_dir_all(&old).unwrap();
    let yesterday = SystemTime::now() - STALE - Duration::from_secs(60);
    File::open(&old).unwrap().set_modified(yesterday).unwrap();
    fs::create_dir_all(store.partial("young")).unwrap();
    install(&store, "a", "x");
    assert!(!old.exists());
    assert!(store.partial("young").exists());
}

#[test]
fn change_and_damage_are_told_apart() {
    let (_folder, store) = store();
    let model = install(&store, "a", "content");
    let rewrite = |content: &str, seconds: u64| {
        fs::write(&model.path, content).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options()
            .write(true)
            .open(&model.path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    assert_eq!(
        store.verify("a", &mut NoProgress).unwrap(),
        Some(model.clone())
    );

    rewrite("content", 1000);
    assert!(matches!(
        store.get("a").unwrap().unwrap().state,
        StoredState::Changed { .. }
    ));
    assert_eq!(
        store.verify("a", &mut NoProgress).unwrap().unwrap().state,
        StoredState::Intact
    );
    assert_eq!(
        store.get("a").unwrap().unwrap().state,
        StoredState::Intact,
        "the new time is noted"
    );

    rewrite("c0ntent", 2000);
    assert!(matches!(
        store.verify("a", &mut NoProgress),
        Err(SourceError::ChecksumMismatch { .. })
    ));
    rewrite("short", 3000);
    assert!(matches!(
        store.verify("a", &mut NoProgress),
        Err(SourceError::SizeMismatch { .. })
    ));
    fs::remove_file(&model.path).unwrap();
    assert!(matches!(
        store.get("a").unwrap().unwrap().state,
        StoredState::Changed { .. }
    ));
    assert!(matches!(
        store.verify("a", &mut NoProgress),
        Err(SourceError::Io { .. })
    ));
    assert_eq!(store.verify("none", &mut NoProgress).unwrap(), None);
}

#[test]
fn a_linked_model_lies_elsewhere() {
    let (folder, store) = store();
    let file = folder.path().join("elsewhere.gguf");
    fs::write(&file, "x").unwrap();
    let sha256 = sha256_file(&file, &mut NoProgress).unwrap();
    let model = store
        .link("a", &file, sha256, "hub org/repo".into(), &mut NoProgress)
        .unwrap();
    assert!(model.linked && model.path == file && model.state == StoredState::Intact);
    assert_eq!(store.get("a").unwrap().unwrap(), model);
    assert_eq!(
        store.remove("a").unwrap().unwrap().kept.unwrap(),
        folder.path()
    );
    assert!(file.exists());
}

#[test]
fn broken_and_foreign_folders_are_shown_or_skipped() {
    let (_folder, store) = store();
    install(&store, "good", "x");
    fs::create_dir(store.root().join("foreign")).unwrap();
    fs::write(store.root().join("file"), "x").unwrap();
    fs::create_dir(store.root().join("broken")).unwrap();
    fs::write(store.root().join("broken").join(MANIFEST), "{").unwrap();
    let list = store.list().unwrap();
    assert_eq!(
        list.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        ["broken", "good"]
    );
    assert!(matches!(list[0].state, StoredState::Unreadable { .. }));
    assert!(matches!(
        store.verify("broken", &mut NoProgress),
        Err(SourceError::Manifest { .. })
    ));
    assert!(store.remove("broken").unwrap().is_some());
}

#[test]
fn names_cannot_leave_the_folder() {
    let (_folder, store) = store();
    for bad in ["..", "../x", "/etc", "", ".locks", ".partial", "a/b"] {
        assert!(
            matches!(store.get(bad), Err(SourceError::UnsafeName { .. })),
            "{bad:?}"
        );
        assert!(
            matches!(store.remove(bad), Err(SourceError::UnsafeName { .. })),
            "{bad:?}"
        );
    }
}

#[test]
fn only_one_installs_at_a_time() {
    let (_folder, store) = store();
    let held = store.stage("a", &mut NoProgress).unwrap();
    assert!(
        matches!(store.remove("a"), Err(SourceError::Io { .. })),
        "not while it is being installed"
    );
    struct Impatient;
    impl Progress for Impatient {
        fn start(&mut self, what: &str, _total: Option<u64>) {
            assert!(what.contains("another process"));
        }
        fn advance(&mut self, _done: u64) {}
        fn finish(&mut self) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    assert!(matches!(
        store.stage("a", &mut Impatient),
        Err(SourceError::Cancelled)
    ));
    assert!(store.stage("b", &mut NoProgress).is_ok());
    drop(held);
    assert!(store.stage("a", &mut Impatient).is_ok());
}

#[test]
fn many_at_once_leave_one_whole_model() {
    const THREADS: usize = 4;
    let (_folder, store) = store();
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for i in 0..THREADS {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                barrier.wait();
                install(store, "a", &i.to_string().repeat(1000));
            });
        }
    });
    let model = store.verify("a", &mut NoProgress).unwrap().unwrap();
    assert_eq!(model.bytes, 1000);
    assert!(
        fs::read_dir(store.root().join(PARTIAL))
            .unwrap()
            .next()
            .is_none()
    );
}
