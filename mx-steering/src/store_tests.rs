//! The store, alone and with others.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::point::Site;
use crate::vector::Method;

fn vector(value: f32, name: &str) -> SteeringVector {
    let directions = [(Site::ResidPost.at(1), vec![value, 1.0])].into();
    SteeringVector::new(Method::Caa, directions)
        .unwrap()
        .named(name)
}

#[test]
fn keep_list_rename_label_delete() {
    let folder = tempfile::tempdir().unwrap();
    let store = VectorStore::new(folder.path().join("vectors"));
    assert!(store.list().unwrap().0.is_empty());
    assert!(store.get("none").unwrap_err().is_not_found());
    let (a, b) = (
        store.put(&vector(1.0, "a")).unwrap(),
        store.put(&vector(2.0, "b")).unwrap(),
    );
    let names = || {
        store
            .list()
            .unwrap()
            .0
            .into_iter()
            .map(|s| s.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["a", "b"]);
    assert_eq!(store.get("b").unwrap().id(), b);
    assert_eq!(store.get(&a[..12]).unwrap().name, "a");
    assert_eq!(store.rename("a", "honesty").unwrap(), a);
    assert_eq!(store.label(&a, "character").unwrap(), a);
    let got = store.get("honesty").unwrap();
    assert_eq!(
        (got.label.as_str(), got.direction(Site::ResidPost.at(1))),
        ("character", Some(&[1.0, 1.0][..]))
    );
    // the same numbers under another name are the same vector
    assert_eq!(store.put(&vector(2.0, "c")).unwrap(), b);
    assert_eq!(names(), ["c", "honesty"]);
    assert_eq!(store.delete("c").unwrap(), b);
    assert!(store.delete("c").unwrap_err().is_not_found());
}

#[test]
fn names_are_checked_and_ambiguity_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = VectorStore::new(folder.path());
    store.put(&vector(1.0, "same")).unwrap();
    store.put(&vector(2.0, "same")).unwrap();
    assert!(matches!(
        store.get("same"),
        Err(StoreError::Ambiguous { .. })
    ));
    for bad in ["a\nb", "sv_0123456789abcdef01234567", &"x".repeat(201)] {
        assert!(
            matches!(store.rename("same", bad), Err(StoreError::Name { .. })),
            "{bad}"
        );
    }
    // a reference is never a path
    assert!(store.get("../same").unwrap_err().is_not_found());
}

#[test]
fn a_damaged_file_does_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = VectorStore::new(folder.path());
    store.put(&vector(1.0, "good")).unwrap();
    std::fs::write(folder.path().join("sv_00ff.safetensors"), b"nonsense").unwrap();
    std::fs::write(folder.path().join("notes.txt"), b"mine").unwrap();
    let (good, damaged) = store.list().unwrap();
    assert_eq!((good.len(), damaged.len()), (1, 1));
    assert!(damaged[0].to_string().contains("sv_00ff"));
    assert_eq!(store.get("good").unwrap().name, "good");
}

#[test]
fn changes_of_many_threads_all_survive() {
    let folder = tempfile::tempdir().unwrap();
    let store = VectorStore::new(folder.path());
    let id = store.put(&vector(1.0, "shared")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            // a store of its own, as another process has
            let (store, id) = (VectorStore::new(folder.path()), id.clone());
            scope.spawn(move || {
                for step in 0..5 {
                    store
                        .change(&id, |vector| {
                            let pairs = vector.provenance.pairs.unwrap_or_default();
                            vector.provenance.pairs = Some(pairs + 1);
                        })
                        .unwrap();
                    store
                        .put(&super::tests::vector(
                            1000.0 + 100.0 * thread as f32 + step as f32,
                            "",
                        ))
                        .unwrap();
                    assert!(store.list().unwrap().1.is_empty());
                }
            });
        }
    });
    assert_eq!(store.get(&id).unwrap().provenance.pairs, Some(20));
    assert_eq!(store.list().unwrap().0.len(), 21);
    let left = std::fs::read_dir(folder.path()).unwrap();
    let temporary = left.filter(|e| {
        e.as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|e| e == "tmp")
    });
    assert_eq!(temporary.count(), 0);
}
