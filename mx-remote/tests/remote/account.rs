//! Accounts, keys, models, vectors, behaviours of the native service.

use crate::server::*;
use mx_remote::axionic::{JobEvent, LayerValues, PolicyRunRequest, RunRequest, SteeringRequest};
use mx_remote::{Axionic, AxionicOptions, CredentialStore, Error, Secret};

const SESSION: &str = r#"{"user": {"id": "u", "email": "a@b"},
    "session": {"access_token": "jwt-token", "refresh_token": "refresh", "expires_in": 60}}"#;
const NO_SESSION: &str = r#"{"user": {"id": "u", "email": "a@b"}, "session": null}"#;

fn stranger(server: &Server) -> (tempfile::TempDir, CredentialStore, Axionic) {
    let folder = tempfile::tempdir().unwrap();
    let store = CredentialStore::in_home(folder.path());
    let options = AxionicOptions {
        base_url: server.url(),
        store: Some(store.clone()),
        transport: quick(),
        ..AxionicOptions::default()
    };
    (folder, store, Axionic::new(options).unwrap())
}

fn password() -> Secret {
    Secret::new("correct horse")
}

#[test]
fn without_credentials_nothing_is_sent() {
    let server = Server::start(vec![json("[]")]);
    let (_folder, _store, client) = stranger(&server);
    assert!(!client.has_credentials());
    let error = client.models(None).wait().unwrap_err();
    assert!(
        matches!(error, Error::MissingCredentials { ref path } if path == "/models"),
        "{error}"
    );
    assert!(client.openai().is_err());
    assert!(server.asked().is_empty());
    // A server of one's own may want none.
    let open = AxionicOptions {
        base_url: server.url(),
        anonymous: true,
        ..AxionicOptions::default()
    };
    Axionic::new(open).unwrap().models(None).wait().unwrap();
    assert_eq!(server.asked()[0].header("x-api-key"), None);
}

#[test]
fn a_login_is_used_and_kept() {
    let keys =
        format!(r#"[{{"id": "k", "key": "{KEY}", "created_at": "now", "last_used": null}}]"#);
    let server = Server::start(vec![json(SESSION), json(&keys), json("[]")]);
    let (_folder, store, client) = stranger(&server);
    let found = client
        .log_in_and_find_key("a@b", &password())
        .wait()
        .unwrap();
    assert_eq!(
        (found.user.email.as_str(), found.key),
        ("a@b", Some(KEY.into()))
    );
    let asked = server.asked();
    assert_eq!(
        asked[0].body,
        r#"{"email":"a@b","password":"correct horse"}"#
    );
    assert_eq!(asked[1].header("authorization"), Some("Bearer jwt-token"));
    client.models(None).wait().unwrap();
    assert_eq!(server.asked()[2].header("x-api-key"), Some(KEY));
    let stored = store.read().unwrap();
    assert_eq!(
        (stored.api_key, stored.access_token),
        (Some(KEY.into()), Some("jwt-token".into()))
    );
    client.log_out().unwrap();
    assert!(!client.has_credentials() && !store.path().exists());
}

#[test]
fn a_masked_key_is_not_taken_for_a_key() {
    let server = Server::start(vec![
        json(SESSION),
        json(r#"[{"id": "k", "key": "ax_12…ef", "created_at": "now", "last_used": null}]"#),
    ]);
    let (_folder, _store, client) = stranger(&server);
    let found = client
        .log_in_and_find_key("a@b", &password())
        .wait()
        .unwrap();
    assert_eq!((found.keys.len(), found.key), (1, None));
}

#[test]
fn a_registration_goes_on_to_a_key() {
    let created = format!(r#"{{"api_key": "{KEY}"}}"#);
    // The first login after it may fail once.
    let server = Server::start(vec![
        json(NO_SESSION),
        reply(400, &[], "{}"),
        json(SESSION),
        json(&created),
    ]);
    let (_folder, store, client) = stranger(&server);
    let key = client
        .sign_up_and_create_key("a@b", &password(), "Default Key")
        .wait()
        .unwrap();
    assert_eq!(key, KEY.into());
    let lines: Vec<_> = server.asked().iter().map(|a| a.line.clone()).collect();
    let wanted = [
        "/auth/signup",
        "/auth/login",
        "/auth/login",
        "/auth/api-keys",
    ];
    assert_eq!(lines, wanted.map(|path| format!("POST {path} HTTP/1.1")));
    assert_eq!(server.asked()[3].body, r#"{"name":"Default Key"}"#);
    assert_eq!(store.read().unwrap().api_key, Some(KEY.into()));
    // A refusal does not repeat the password.
    let server = Server::start(vec![reply(
        422,
        &[],
        r#"{"detail": [{"loc": ["body", "password"], "msg": "too short", "type": "x", "input": "correct horse"}]}"#,
    )]);
    let (_folder, _store, client) = stranger(&server);
    let error = client.sign_up("a@b", &password()).wait().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("horse"), "{error}");
    assert!(
        error.to_string().contains("body.password: too short"),
        "{error}"
    );
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A file stands where the folder should be.
    std::fs::write(folder.path().join(".mechanex"), "").unwrap();
    let server = Server::start(vec![json(SESSION)]);
    let options = AxionicOptions {
        base_url: server.url(),
        store: Some(CredentialStore::in_home(folder.path())),
        ..AxionicOptions::default()
    };
    let client = Axionic::new(options).unwrap();
    client.log_in("a@b", &password()).wait().unwrap();
    assert!(client.has_credentials());
    assert!(matches!(
        client.take_store_problem(),
        Some(Error::Store { .. })
    ));
    assert!(client.take_store_problem().is_none());
}

#[test]
fn models_are_chosen_from_the_list() {
    let list = r#"[{"id": "1", "name": "qwen3-0.6b", "base_url": "x", "is_default": true, "is_active": true, "created_at": "t", "required_auth": true}]"#;
    let server = Server::start(vec![json(list), json("{}")]);
    assert!(
        axionic(&server, quick())
            .set_model("qwen3-0.6b")
            .wait()
            .unwrap()
            .checked
    );
    assert_eq!(server.asked()[1].body, r#"{"model_name":"qwen3-0.6b"}"#);
    let server = Server::start(vec![json(&format!(r#"{{"models": {list}}}"#))]);
    let error = axionic(&server, quick())
        .set_model("gpt-5")
        .wait()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"the server offers no model "gpt-5"; it has qwen3-0.6b"#
    );
    assert_eq!(server.asked().len(), 1);
    // Without a list the service decides.
    let server = Server::start(vec![reply(404, &[], ""), json("{}")]);
    assert!(
        !axionic(&server, quick())
            .set_model("gpt-5")
            .wait()
            .unwrap()
            .checked
    );
}

#[test]
fn a_job_reports_on_its_way() {
    let text = "data: {\"status\": \"processing\", \"step\": 1}\n\ndata: hello\n\ndata: {\"status\": \"complete\", \"result\": {\"output\": \"x\", \"more\": 1}}\n\ndata: after\n\n";
    let server = Server::start(vec![events(text)]);
    let stream = axionic(&server, quick())
        .generate_events(&RunRequest::new("Hi"))
        .wait()
        .unwrap();
    let all: Vec<_> = stream.map(Result::unwrap).collect();
    assert_eq!(all.len(), 3);
    assert!(matches!(&all[0], JobEvent::Processing(report) if report["step"] == 1));
    assert_eq!(all[1], JobEvent::Other("hello".into()));
    assert!(
        matches!(&all[2], JobEvent::Complete(result) if result.output == "x" && result.extra["more"] == 1)
    );
    // A result without a status.
    let server = Server::start(vec![events("data: {\"steering_vector_id\": \"v\"}\n\n")]);
    let vector = axionic(&server, quick())
        .create_vector(&SteeringRequest::default())
        .wait()
        .unwrap();
    assert_eq!(vector.steering_vector_id, "v");
}

#[test]
fn vectors_keep_their_values() {
    let values = [
        0.1f32,
        -1.234_567_9e-8,
        f32::MAX,
        f32::MIN_POSITIVE,
        1.0 / 3.0,
    ];
    let body = serde_json::json!({"8": values, "blocks.9.hook_resid_post": [values, values]});
    let server = Server::start(vec![json(&body.to_string())]);
    let vector = axionic(&server, quick())
        .download_vector("v/1")
        .wait()
        .unwrap();
    assert_eq!(
        server.asked()[0].line,
        "GET /steering/vectors/v%2F1/download HTTP/1.1"
    );
    assert_eq!(vector["8"], LayerValues::Row(values.to_vec()));
    assert_eq!(
        vector["blocks.9.hook_resid_post"],
        LayerValues::Rows(vec![values.to_vec(); 2])
    );
}

#[test]
fn both_forms_of_lists_are_read() {
    for body in [
        r#"[{"behavior_name": "b"}]"#,
        r#"{"behaviors": [{"behavior_name": "b"}]}"#,
    ] {
        let server = Server::start(vec![json(body)]);
        assert_eq!(
            axionic(&server, quick()).behaviors().wait().unwrap()[0]["behavior_name"],
            "b"
        );
    }
    for body in [r#"[{"id": "p"}]"#, r#"{"policies": [{"id": "p"}]}"#] {
        let server = Server::start(vec![json(body)]);
        assert_eq!(
            axionic(&server, quick()).policies().wait().unwrap()[0].id,
            "p".to_owned().into()
        );
    }
    for (body, balance) in [
        (r#"{"balance": 12.5}"#, 12.5),
        (r#"{"balance": "0.50"}"#, 0.5),
    ] {
        let server = Server::start(vec![json(body)]);
        assert!((axionic(&server, quick()).balance().wait().unwrap() - balance).abs() < 1e-12);
    }
}

#[test]
fn requests_that_make_no_sense_are_not_sent() {
    let server = Server::start(vec![json("{}")]);
    let client = axionic(&server, quick());
    let nan = RunRequest {
        temperature: Some(f64::NAN),
        ..RunRequest::new("Hi")
    };
    let error = client.generate(&nan).wait().unwrap_err();
    assert_eq!(
        error.to_string(),
        "temperature is NaN, wanted a finite number"
    );
    assert!(error.is_request());
    let error = client
        .run_policy(&PolicyRunRequest::default())
        .wait()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "policy is absent, wanted it or policy_id given"
    );
    let error = client.policy("..").wait().unwrap_err();
    assert!(
        error.to_string().starts_with("policy_id is \"..\""),
        "{error}"
    );
    assert!(server.asked().is_empty());
}

#[test]
fn a_call_can_be_looked_at_before() {
    let server = Server::start(vec![json("{}")]);
    let client = axionic(&server, quick());
    let preview = client.generate(&RunRequest::new("Hi")).preview().unwrap();
    assert_eq!(
        (preview.method.as_str(), preview.path.as_str()),
        ("POST", "/generate")
    );
    assert_eq!(preview.body, Some(serde_json::json!({"prompt": "Hi"})));
    let preview = client.log_in("a@b", &password()).preview().unwrap();
    assert_eq!(
        preview.body,
        Some(serde_json::json!({"email": "a@b", "password": "[secret]"}))
    );
    assert_eq!(
        client.models(Some(true)).preview().unwrap().query,
        [("trainable".to_owned(), "true".to_owned())]
    );
    assert_eq!(client.policy("..").preview(), None);
    assert!(!format!("{:?}", client.log_in("a@b", &password())).contains("horse"));
    assert!(server.asked().is_empty());
}
