//! Repetition, refusals, redirects, renewal of sessions.

use crate::server::*;
use mx_remote::axionic::{Policy, PolicyRunRequest, RunRequest};
use mx_remote::openai::ChatRequest;
use mx_remote::{
    Axionic, AxionicOptions, CredentialStore, Credentials, Error, OpenAi, Retry, ServerKind,
    Session, Transport,
};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn run() -> PolicyRunRequest {
    PolicyRunRequest {
        prompt: "Hi".into(),
        policy: Some(Policy::default()),
        ..Default::default()
    }
}

const RUN: &str = r#"{"output": "x", "accepted": true}"#;

#[test]
fn what_changes_nothing_is_repeated_after_any_failure_of_the_server() {
    for status in [429, 500, 502, 503, 504] {
        let server = Server::start(vec![
            reply(status, &[], "oops"),
            reply(status, &[], "oops"),
            json("[]"),
        ]);
        assert_eq!(axionic(&server, quick()).models(None).wait().unwrap(), []);
        assert_eq!(server.asked().len(), 3, "{status}");
    }
    // A broken connection, before and within the answer.
    let cut = vec![Part::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n["
            .to_vec(),
    )];
    let server = Server::start(vec![vec![], json("[]")]);
    assert_eq!(axionic(&server, quick()).models(None).wait().unwrap(), []);
    let server = Server::start(vec![cut]);
    assert!(matches!(
        axionic(&server, quick()).models(None).wait().unwrap_err(),
        Error::Cut { .. }
    ));
}

#[test]
fn a_generation_is_repeated_only_when_it_has_not_begun() {
    for (status, times) in [(429, 3), (503, 3), (500, 1), (502, 1), (504, 1), (400, 1)] {
        let server = Server::start(vec![reply(
            status,
            &["x-request-id: r-7"],
            r#"{"detail": "busy"}"#,
        )]);
        let error = axionic(&server, quick())
            .run_policy(&run())
            .wait()
            .unwrap_err();
        assert_eq!(
            (error.status(), error.request_id()),
            (Some(status), Some("r-7"))
        );
        assert!(error.to_string().contains("busy"), "{error}");
        assert_eq!(server.asked().len(), times, "{status}");
    }
    // The request arrived and the connection broke: who knows what happened.
    let server = Server::start(vec![vec![], json(RUN)]);
    let error = axionic(&server, quick())
        .run_policy(&run())
        .wait()
        .unwrap_err();
    assert!(
        matches!(error, Error::Connection { begun: true, .. }),
        "{error}"
    );
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn retry_after_is_kept() {
    let server = Server::start(vec![reply(429, &["retry-after: 1"], ""), json(RUN)]);
    let begun = Instant::now();
    assert_eq!(
        axionic(&server, quick())
            .run_policy(&run())
            .wait()
            .unwrap()
            .output,
        "x"
    );
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");

    let server = Server::start(vec![reply(429, &["retry-after: 3600"], ""), json(RUN)]);
    let error = axionic(&server, quick())
        .run_policy(&run())
        .wait()
        .unwrap_err();
    assert!(matches!(error, Error::RateLimit(_)));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));

    // A wait that would be over too late is not begun.
    let server = Server::start(vec![reply(429, &["retry-after: 20"], ""), json(RUN)]);
    let begun = Instant::now();
    let error = axionic(&server, quick())
        .run_policy(&run())
        .timeout(Duration::from_secs(10))
        .wait()
        .unwrap_err();
    assert!(
        matches!(error, Error::RateLimit(_)) && begun.elapsed() < Duration::from_secs(15),
        "{error}"
    );

    let no_retries = Transport {
        retry: Retry {
            max_retries: 0,
            ..Retry::default()
        },
        ..Transport::default()
    };
    let server = Server::start(vec![reply(429, &["retry-after: 0"], ""), json(RUN)]);
    assert!(
        axionic(&server, no_retries)
            .run_policy(&run())
            .wait()
            .is_err()
    );
}

#[test]
fn refusals_have_the_vendors_kinds_and_no_secrets() {
    let echo = format!(r#"{{"detail": "the key {KEY} is bad"}}"#);
    let complaint =
        r#"{"detail": [{"loc": ["body", "prompt"], "msg": "field required", "type": "missing"}]}"#;
    for (status, body, kind) in [
        (401, echo.as_str(), "AuthenticationError"),
        (402, r#"{"detail": "pay"}"#, "InsufficientCreditsError"),
        (404, "gone", "NotFoundError"),
        (422, complaint, "ValidationError"),
        (
            403,
            r#"{"error": {"message": "wait for approval", "code": "pending"}}"#,
            "APIError",
        ),
    ] {
        let server = Server::start(vec![reply(status, &[], body)]);
        let error = axionic(&server, quick())
            .run_policy(&run())
            .wait()
            .unwrap_err();
        assert_eq!(error.vendor_kind(), kind);
        assert!(!format!("{error} {error:?}").contains(KEY), "{error}");
        assert_eq!(server.asked().len(), 1, "{status}");
        match status {
            422 => assert_eq!(error.failure().unwrap().fields[0].field, "body.prompt"),
            403 => assert_eq!(error.failure().unwrap().code.as_deref(), Some("pending")),
            _ => {}
        }
    }
}

fn session(access: &str, refresh: Option<&str>) -> Session {
    let json = serde_json::json!({"access_token": access, "refresh_token": refresh});
    serde_json::from_value(json).unwrap()
}

fn logged_in(server: &Server, store: Option<CredentialStore>) -> Axionic {
    let credentials = Credentials {
        session: Some(session("old-token", Some("refresh-1"))),
        ..Credentials::default()
    };
    let options = AxionicOptions {
        base_url: server.url(),
        credentials,
        store,
        ..AxionicOptions::default()
    };
    Axionic::new(AxionicOptions {
        transport: quick(),
        ..options
    })
    .unwrap()
}

const REFRESHED: &str = r#"{"user": {"id": "u", "email": "e"},
    "session": {"access_token": "new-token", "refresh_token": "refresh-2", "expires_in": 3600}}"#;

#[test]
fn a_refused_session_is_renewed_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = CredentialStore::in_home(folder.path());
    store
        .update(|s| s.access_token = Some("old-token".into()))
        .unwrap();
    let server = Server::start(vec![
        reply(401, &[], ""),
        json(REFRESHED),
        json(RUN),
        json(RUN),
    ]);
    let client = logged_in(&server, Some(store.clone()));
    assert_eq!(client.run_policy(&run()).wait().unwrap().output, "x");
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].header("authorization"), Some("Bearer old-token"));
    assert_eq!(asked[1].line, "POST /auth/refresh HTTP/1.1");
    assert_eq!(asked[1].body, r#"{"refresh_token":"refresh-1"}"#);
    assert_eq!(
        (
            asked[1].header("authorization"),
            asked[1].header("x-api-key")
        ),
        (None, None)
    );
    assert_eq!(asked[2].header("authorization"), Some("Bearer new-token"));
    assert_eq!(asked[2].body, asked[0].body);
    let stored = store.read().unwrap();
    assert_eq!(
        (stored.access_token, stored.refresh_token),
        (Some("new-token".into()), Some("refresh-2".into()))
    );
    // From then on the new one is used.
    client.run_policy(&run()).wait().unwrap();
    assert_eq!(
        server.asked()[3].header("authorization"),
        Some("Bearer new-token")
    );
}

#[test]
fn a_session_that_stays_refused_is_an_error_after_one_renewal() {
    let server = Server::start(vec![
        reply(401, &[], ""),
        json(REFRESHED),
        reply(401, &[], r#"{"detail": "no"}"#),
    ]);
    let error = logged_in(&server, None)
        .run_policy(&run())
        .wait()
        .unwrap_err();
    assert!(matches!(error, Error::Authentication(_)));
    assert_eq!(server.asked().len(), 3);
    // A renewal that is refused leaves the first refusal.
    let server = Server::start(vec![
        reply(401, &[], r#"{"detail": "first"}"#),
        reply(401, &[], r#"{"detail": "second"}"#),
    ]);
    let error = logged_in(&server, None)
        .run_policy(&run())
        .wait()
        .unwrap_err();
    assert!(error.to_string().contains("first"), "{error}");
    assert_eq!(server.asked().len(), 2);
    // A key cannot be renewed.
    let server = Server::start(vec![reply(401, &[], "")]);
    assert!(matches!(
        axionic(&server, quick()).run_policy(&run()).wait(),
        Err(Error::Authentication(_))
    ));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_stream_is_renewed_before_it_begins() {
    let result = "data: {\"status\": \"complete\", \"result\": {\"output\": \"x\"}}\n\n";
    let server = Server::start(vec![reply(401, &[], ""), json(REFRESHED), events(result)]);
    let client = logged_in(&server, None);
    assert_eq!(
        client
            .generate(&RunRequest::new("Hi"))
            .wait()
            .unwrap()
            .output,
        "x"
    );
}

#[test]
fn a_redirect_never_carries_the_key_away() {
    let elsewhere = Server::start(vec![json(r#"{"8": [0.5]}"#)]);
    let to = |path: &str| format!("location: {}{path}", elsewhere.url());
    let transport = || Transport {
        headers: vec![("x-team".into(), "blue".into())],
        ..quick()
    };
    // A download may lie elsewhere; it is fetched without any credential.
    let server = Server::start(vec![reply(302, &[&to("/v.json?signature=s3cr3t")], "")]);
    let vector = axionic(&server, transport())
        .download_vector("v")
        .wait()
        .unwrap();
    assert_eq!(vector.len(), 1);
    let asked = &elsewhere.asked()[0];
    assert_eq!(asked.line, "GET /v.json?signature=s3cr3t HTTP/1.1");
    for header in ["x-api-key", "authorization", "x-team", "cookie"] {
        assert_eq!(asked.header(header), None, "{header}");
    }
    assert_eq!(server.asked()[0].header("x-api-key"), Some(KEY));
    assert_eq!(server.asked()[0].header("x-team"), Some("blue"));
    // A text goes nowhere else at all.
    for status in [301, 302, 303, 307, 308] {
        let server = Server::start(vec![reply(status, &[&to("/x?token=s3cr3t")], "")]);
        let error = axionic(&server, quick())
            .run_policy(&run())
            .wait()
            .unwrap_err();
        assert!(matches!(error, Error::Redirect { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cr3t"));
    }
    assert_eq!(elsewhere.asked().len(), 1);
    // On the same server all is well.
    let server = Server::start(vec![
        reply(307, &["location: /elsewhere/run"], ""),
        json(RUN),
    ]);
    axionic(&server, quick()).run_policy(&run()).wait().unwrap();
    let asked = server.asked();
    assert_eq!(
        (asked[1].line.as_str(), asked[1].header("x-api-key")),
        ("POST /elsewhere/run HTTP/1.1", Some(KEY))
    );
    assert_eq!(asked[1].body, asked[0].body);
    // Round and round it does not go.
    let server = Server::start(vec![reply(302, &["location: /models"], "")]);
    let error = axionic(&server, quick()).models(None).wait().unwrap_err();
    assert!(error.to_string().contains("max_redirects"), "{error}");
    assert_eq!(server.asked().len(), 6);
}

#[test]
fn a_proxy_is_used_for_others_and_not_for_this_machine() {
    // The proxy is asked for the whole address, and sees what it forwards.
    let proxy = Server::start(vec![json("[]")]);
    let transport = Transport {
        proxy: mx_remote::Proxy::Url(proxy.url().into()),
        ..quick()
    };
    let options = AxionicOptions {
        base_url: "http://service.invalid".into(),
        transport: transport.clone(),
        ..AxionicOptions::with_key(KEY)
    };
    Axionic::new(options).unwrap().models(None).wait().unwrap();
    assert_eq!(
        proxy.asked()[0].line,
        "GET http://service.invalid/models HTTP/1.1"
    );
    let server = Server::start(vec![json("[]")]);
    axionic(&server, transport).models(None).wait().unwrap();
    assert_eq!((server.asked().len(), proxy.asked().len()), (1, 1));
}

#[test]
fn both_faces_know_where_they_are() {
    let server = Server::start(vec![json(r#"{"data": [{"id": "m", "owned_by": "vllm"}]}"#)]);
    let client = openai(&server, ServerKind::Vllm, quick());
    // Waiting inside async code, and async code without a runtime.
    let waiting = |client: OpenAi| move || client.models().wait();
    let (inside, task, thread) = block_on(async {
        let inside = client.models().wait();
        let task = tokio::spawn({
            let wait = waiting(client.clone());
            async move { wait() }
        });
        let thread = tokio::task::spawn_blocking(waiting(client.clone()));
        (inside, task.await.unwrap(), thread.await.unwrap())
    });
    assert!(matches!(inside, Err(Error::BlockingInAsync)));
    assert!(matches!(task, Err(Error::BlockingInAsync)));
    // A thread for blocking work may wait.
    assert_eq!(thread.unwrap()[0].id, "m");
    let future = client.models().send();
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) =
        std::future::Future::poll(future.as_mut(), &mut context)
    else {
        panic!("a call ran without a runtime");
    };
    assert!(matches!(error, Error::NoRuntime));
    // Both work from one client, in turn, and the client may be dropped in async code.
    assert_eq!(client.models().wait().unwrap()[0].id, "m");
    block_on(async {
        assert_eq!(client.models().await.unwrap()[0].id, "m");
        drop(client);
    });
}

#[test]
fn calls_may_wait_on_several_threads_at_once() {
    let slow = || {
        let mut answer = vec![Part::Pause(Duration::from_millis(100))];
        answer.extend(json(
            r#"{"choices": [{"message": {"role": "assistant", "content": "x"}}]}"#,
        ));
        answer
    };
    let server = Server::start(vec![slow()]);
    let client = openai(&server, ServerKind::OpenAi, quick());
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || {
                client
                    .chat(&ChatRequest::new("m", "Hi"))
                    .wait()
                    .unwrap()
                    .text()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), "x");
    }
    assert_eq!(server.asked().len(), 8);
}

/// Answers `times` requests on each connection and hangs up after the last one. Returns its address and the number of
/// connections so far.
fn keep_alive(times: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || {
                for _ in 0..times {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    // The body is known to end in this brace, which nothing else does.
                    while !head.ends_with(b"{}}") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                        head.push(byte[0]);
                    }
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
                    let _ = write!(stream, "{head}content-length: {}\r\n\r\n{RUN}", RUN.len());
                }
            });
        }
    });
    (url, connections)
}

#[test]
fn connections_are_used_again_and_dead_ones_noticed() {
    let policy = || PolicyRunRequest {
        policy: Some(Policy::default()),
        ..PolicyRunRequest::default()
    };
    let client = |base_url: String| {
        let retry = Retry {
            max_retries: 0,
            ..Retry::default()
        };
        let transport = Transport {
            retry,
            ..Transport::default()
        };
        Axionic::new(AxionicOptions {
            base_url,
            transport,
            ..AxionicOptions::with_key(KEY)
        })
        .unwrap()
    };
    let (url, connections) = keep_alive(100);
    let keeping = client(url);
    for _ in 0..5 {
        keeping.run_policy(&policy()).wait().unwrap();
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    // The server has hung up meanwhile: a generation, which must not be sent twice, does not fail for that.
    let (url, connections) = keep_alive(1);
    let dropped = client(url);
    for _ in 0..5 {
        dropped.run_policy(&policy()).wait().unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 5);
}
