#![allow(clippy::unwrap_used)]
use super::*;

fn policy(text: &str) -> Policy {
    serde_json::from_str(text).unwrap()
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!(
            "mx-policies-{name}-{}-{:x}",
            std::process::id(),
            crate::client::random_seed()
        );
        Folder(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_policy_comes_back_as_it_was_saved() {
    let folder = Folder::new("back");
    let text = r#"{"id":"mine","name":"N","sampling":{"top_k":null,"future":[1,{"a":null}]},"later":{"x":1.5}}"#;
    for store in [PolicyStore::new(&folder.0), PolicyStore::in_memory()] {
        assert_eq!(store.list().unwrap().0.len(), 0);
        assert_eq!(store.save(&policy(text)).unwrap(), "mine");
        let back = store.get("mine").unwrap();
        assert_eq!(
            serde_json::to_value(&back).unwrap(),
            serde_json::from_str::<Value>(text).unwrap()
        );
        let id = store.save(&policy("{}")).unwrap();
        assert_eq!(store.get(&id).unwrap().id.value(), Some(&id));
        assert_eq!(store.list().unwrap().0.len(), 2);
        store.delete("mine").unwrap();
        assert!(store.get("mine").unwrap_err().is_not_found());
        assert!(store.delete("mine").unwrap_err().is_not_found());
    }
}

#[test]
fn presets_are_published_listed_and_cloned() {
    let folder = Folder::new("presets");
    for store in [PolicyStore::new(&folder.0), PolicyStore::in_memory()] {
        let mut preset = PolicyPreset::new("P", policy(r#"{"id":"old","objective":{"name":"x"}}"#));
        let own = store.publish(&preset).unwrap();
        preset.visibility = "public".to_owned();
        preset.tags = vec!["t".to_owned()];
        store.publish(&preset).unwrap();
        assert_eq!(store.presets(true).unwrap().0.len(), 2);
        let listed = store.presets(false).unwrap().0;
        assert_eq!((listed.len(), listed[0].id.as_str()), (1, own.as_str()));
        let id = store.clone_preset(&own).unwrap();
        assert_ne!(id, "old");
        let cloned = store.get(&id).unwrap();
        assert_eq!(cloned.objective.value().unwrap().name.value().unwrap(), "x");
        // Presets are no policies.
        assert_eq!(store.list().unwrap().0.len(), 1);
        preset.visibility = "secret".to_owned();
        assert!(matches!(
            store.publish(&preset),
            Err(PolicyStoreError::Visibility { .. })
        ));
        assert!(store.clone_preset("none").unwrap_err().is_not_found());
    }
}

#[test]
fn ids_are_file_names() {
    let store = PolicyStore::in_memory();
    for id in [
        "",
        "..",
        "a/b",
        "a\\b",
        ".hidden",
        "a\n",
        "é",
        &"x".repeat(201),
    ] {
        assert!(
            matches!(store.get(id), Err(PolicyStoreError::Id { .. })),
            "{id}"
        );
        let policy = Policy {
            id: id.to_owned().into(),
            ..Policy::default()
        };
        assert!(
            matches!(store.save(&policy), Err(PolicyStoreError::Id { .. })),
            "{id}"
        );
    }
}

#[test]
fn damaged_files_are_named_and_skipped() {
    let folder = Folder::new("damaged");
    let store = PolicyStore::new(&folder.0);
    store.save(&policy(r#"{"id":"good"}"#)).unwrap();
    for (name, text) in [
        ("bad.json", "{"),
        ("wrong.json", r#"{"sampling":{"top_k":"x"}}"#),
        (".x.tmp", ""),
    ] {
        std::fs::write(folder.0.join(name), text).unwrap();
    }
    std::fs::write(folder.0.join("bytes.json"), [0xff, 0xfe]).unwrap();
    let (policies, damaged) = store.list().unwrap();
    assert_eq!((policies.len(), damaged.len()), (1, 3));
    assert!(matches!(
        store.get("bad"),
        Err(PolicyStoreError::Json { .. })
    ));
}

#[test]
fn writers_at_once_leave_whole_files() {
    let folder = Folder::new("writers");
    let store = PolicyStore::new(&folder.0);
    let long = "x".repeat(100_000);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (store, long) = (store.clone(), &long);
            scope.spawn(move || {
                for round in 0..10 {
                    let policy = Policy {
                        id: "shared".to_owned().into(),
                        name: format!("{writer}/{round}").into(),
                        description: long.clone().into(),
                        ..Policy::default()
                    };
                    store.save(&policy).unwrap();
                    let read = store.get("shared").unwrap();
                    assert_eq!(read.description.value().unwrap().len(), long.len());
                }
            });
        }
    });
    let files = std::fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(files, 1, "no temporary files are left");
}
