#![allow(clippy::unwrap_used)]
use super::*;
use crate::http::{Ask, Auth};
use std::fs;

fn store(text: Option<&str>) -> (tempfile::TempDir, CredentialStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = CredentialStore::in_home(folder.path());
    if let Some(text) = text {
        fs::create_dir_all(store.path().parent().unwrap()).unwrap();
        fs::write(store.path(), text).unwrap();
    }
    (folder, store)
}

fn around(key: Option<&str>, store: &CredentialStore) -> Surroundings {
    Surroundings {
        key: key.map(Secret::from),
        base_url: None,
        store: Some(store.clone()),
    }
}

#[test]
fn argument_then_variable_then_file() {
    let (_folder, store) = store(Some(
        r#"{"api_key": "file", "access_token": "a", "refresh_token": "r", "x": [1]}"#,
    ));
    let find = |argument: Option<&str>, key| {
        Credentials::find(argument.map(Secret::from), &around(key, &store)).unwrap()
    };
    let file = KeyOrigin::File(store.path().into());
    for (argument, variable, key, origin) in [
        (Some("arg"), Some("env"), "arg", KeyOrigin::Argument),
        (Some("arg"), None, "arg", KeyOrigin::Argument),
        (None, Some("env"), "env", KeyOrigin::Environment),
        (None, None, "file", file),
    ] {
        let found = find(argument, variable);
        assert_eq!((found.key, found.origin), (Some(key.into()), Some(origin)));
        let session = found.session.unwrap();
        assert_eq!(
            (session.access_token.expose(), session.refresh_token),
            ("a", Some("r".into()))
        );
    }
    let nothing = Credentials::find(None, &Surroundings::default()).unwrap();
    assert!(nothing.is_empty() && nothing.origin.is_none());
}

#[test]
fn a_broken_file_is_an_error_unless_it_is_not_needed() {
    let broken = [
        r#"{"api_key": "hunter22"#,
        r#"["hunter22"]"#,
        r#"{"api_key": ["hunter22"]}"#,
        "hunter22",
        "\u{0}",
    ];
    for text in broken {
        let (_folder, store) = store(Some(text));
        let error = Credentials::find(None, &around(None, &store)).unwrap_err();
        assert!(
            matches!(error, Error::Store { action: "read", .. }),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        let found = Credentials::find(Some("arg".into()), &around(None, &store)).unwrap();
        assert_eq!(found.key, Some("arg".into()));
        assert!(found.file_problem.is_some());
        // What is not understood is not overwritten.
        assert!(store.update(|s| s.api_key = Some("k".into())).is_err());
        assert_eq!(fs::read_to_string(store.path()).unwrap(), text);
    }
    let (_folder, huge) = self::store(Some(&" ".repeat(1 << 21)));
    assert!(
        huge.read()
            .unwrap_err()
            .to_string()
            .contains("longer than 1 MiB")
    );
    let (_folder, empty) = self::store(Some(r#"{"api_key": "", "access_token": null}"#));
    assert_eq!(empty.read().unwrap(), StoredCredentials::default());
}

#[test]
fn writing_merges_and_keeps_others_out() {
    let (_folder, store) = store(None);
    assert_eq!(store.read().unwrap(), StoredCredentials::default());
    store.update(|s| s.api_key = Some("k1".into())).unwrap();
    let text = fs::read_to_string(store.path()).unwrap();
    assert_eq!(text, "{\n  \"api_key\": \"k1\"\n}\n");
    fs::write(
        store.path(),
        r#"{"theme": {"dark": true}, "api_key": "k1"}"#,
    )
    .unwrap();
    store.update(|s| s.access_token = Some("a".into())).unwrap();
    store.update(|s| s.api_key = None).unwrap();
    let value: serde_json::Value =
        serde_json::from_slice(&fs::read(store.path()).unwrap()).unwrap();
    assert_eq!(
        value,
        serde_json::json!({"theme": {"dark": true}, "access_token": "a"})
    );
    assert_eq!(store.read().unwrap().others, ["theme"]);
    // Nothing is left beside it.
    assert_eq!(
        fs::read_dir(store.path().parent().unwrap())
            .unwrap()
            .count(),
        1
    );
    store.delete().unwrap();
    store.delete().unwrap();
    assert!(!store.path().exists());
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_it() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let (folder, store) = store(Some("{}"));
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o644)).unwrap();
    store.update(|s| s.api_key = Some("k".into())).unwrap();
    assert_eq!(fs::metadata(store.path()).unwrap().mode() & 0o777, 0o600);

    let fresh = CredentialStore::in_home(&folder.path().join("new"));
    fresh.update(|s| s.api_key = Some("k".into())).unwrap();
    assert_eq!(fs::metadata(fresh.path()).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(fresh.path().parent().unwrap()).unwrap().mode() & 0o777,
        0o700
    );

    let link = folder.path().join("link.json");
    symlink(store.path(), &link).unwrap();
    CredentialStore::at(&link)
        .update(|s| s.api_key = Some("k2".into()))
        .unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(store.read().unwrap().api_key, Some("k2".into()));
}

#[test]
fn one_credential_per_request_by_its_path() {
    let session = || Session {
        access_token: "jwt".into(),
        refresh_token: None,
        expires_in: None,
    };
    let ring = |key: Option<&str>, with_session: bool, anonymous| {
        let credentials = Credentials {
            key: key.map(Secret::from),
            session: with_session.then(session),
            ..Credentials::default()
        };
        Keyring::native(credentials, None, anonymous).unwrap()
    };
    let pick = |ring: &Keyring, auth| {
        let picked = ring.pick(&Ask::get(&["x"]).with_auth(auth));
        picked.map(|p| p.map(|p| format!("{}: {}", p.header, p.value.to_str().unwrap())))
    };
    let (key, jwt) = (
        Some("x-api-key: k".to_owned()),
        Some("authorization: Bearer jwt".to_owned()),
    );
    for (ring, account, service) in [
        (ring(Some("k"), true, false), &jwt, &key),
        (ring(Some("k"), false, false), &key, &key),
        (ring(None, true, false), &jwt, &jwt),
        (ring(None, false, true), &None, &None),
    ] {
        assert_eq!(pick(&ring, Auth::Account).unwrap(), *account);
        assert_eq!(pick(&ring, Auth::Service).unwrap(), *service);
        assert_eq!(pick(&ring, Auth::None).unwrap(), None);
    }
    let error = pick(&ring(None, false, false), Auth::Service).unwrap_err();
    assert!(matches!(error, Error::MissingCredentials { .. }));
    assert!(Keyring::native(Credentials::key("a\nb"), None, false).is_err());
    assert!(Keyring::native(Credentials::key(""), None, false).is_err());
}

#[test]
fn a_session_is_renewed_once_for_all_who_were_refused() {
    let (_folder, store) = store(None);
    let credentials = Credentials {
        session: Some(Session {
            access_token: "old".into(),
            refresh_token: Some("r1".into()),
            expires_in: None,
        }),
        ..Credentials::default()
    };
    let ring = Keyring::native(credentials, Some(store.clone()), false).unwrap();
    assert_eq!(ring.refresh_token_after(&"old".into()), Some("r1".into()));
    ring.set_session(Session {
        access_token: "new".into(),
        refresh_token: None,
        expires_in: Some(1),
    });
    assert_eq!(ring.refresh_token_after(&"old".into()), None);
    assert_eq!(ring.refresh_token_after(&"new".into()), Some("r1".into()));
    let stored = store.read().unwrap();
    assert_eq!(
        (stored.access_token, stored.refresh_token),
        (Some("new".into()), Some("r1".into()))
    );
    assert!(ring.take_store_problem().is_none());
    ring.clear().unwrap();
    assert!(!ring.has_any() && !store.path().exists());
}
