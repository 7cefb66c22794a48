//! Servers that misbehave, and what the clients make of them.

use crate::server::*;
use mx_remote::axionic::{PolicyRunRequest, RunRequest};
use mx_remote::openai::ChatRequest;
use mx_remote::{Cancel, Error, Limits, ServerKind, Timeouts, Transport};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Long enough that a test which needs it has failed.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(300);

fn generate(server: &Server, transport: Transport) -> Result<String, Error> {
    axionic(server, transport)
        .generate(&RunRequest::new("Hi"))
        .wait()
        .map(|g| g.output)
}

fn with_read_timeout(read: Duration) -> Transport {
    Transport {
        timeouts: Timeouts {
            read: Some(read),
            ..Timeouts::default()
        },
        ..quick()
    }
}

fn with_limits(limits: Limits) -> Transport {
    Transport { limits, ..quick() }
}

fn raw(text: &str) -> Answer {
    vec![Part::Send(text.as_bytes().to_vec())]
}

#[test]
fn a_cut_in_the_middle_of_an_event_is_an_error() {
    for text in [
        "data: {\"status\": \"processing\"}\n\ndata: {\"status\": \"comp",
        "data: {\"status\": \"processing\"}\n\n",
        "",
        ": only a comment\n\n",
    ] {
        let server = Server::start(vec![events(text)]);
        let error = generate(&server, quick()).unwrap_err();
        assert!(matches!(error, Error::Cut { .. }), "{text:?}: {error}");
        assert!(error.is_retryable() && error.is_connection());
        // The text may have been generated: it is not asked for again.
        assert_eq!(server.asked().len(), 1);
    }
    // A body that promises more than it brings.
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = Server::start(vec![raw(&format!("{head}10\r\ndata: "))]);
    assert!(matches!(
        generate(&server, quick()).unwrap_err(),
        Error::Cut { got: 0 | 6, .. }
    ));
}

#[test]
fn a_missing_last_blank_line_is_forgiven() {
    for end in ["", "\n", "\r\n", "\n\n"] {
        let server = Server::start(vec![events(&format!(
            "data: {{\"status\": \"complete\", \"result\": {{\"output\": \"x\"}}}}{end}"
        ))]);
        assert_eq!(generate(&server, quick()).unwrap(), "x", "{end:?}");
    }
}

#[test]
fn every_chunking_of_a_stream_gives_the_same_text() {
    let text = "data: {\"status\": \"processing\"}\r\n\r\ndata: {\"status\": \"complete\",\r\ndata: \"result\": {\"output\": \"é😀\"}}\r\n\r\n";
    for size in [1, 2, 3, 7, 64, 1000] {
        let mut answer = String::from("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
        for piece in text.as_bytes().chunks(size) {
            answer.extend(format!("{:x};ext=1\r\n", piece.len()).as_bytes());
            answer.extend(piece);
            answer.extend(b"\r\n");
        }
        answer.extend(b"0\r\nx-trailer: 1\r\n\r\n");
        let server = Server::start(vec![vec![Part::Send(answer)]]);
        assert_eq!(generate(&server, quick()).unwrap(), "é😀", "{size}");
    }
}

#[test]
fn silence_ends_after_the_read_timeout() {
    let answers = [
        // Before the head, in the head, after the head, in the middle of an event.
        vec![Part::Pause(LONG)],
        vec![
            Part::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Part::Pause(LONG),
        ],
        vec![stream_head(), Part::Pause(LONG)],
        vec![
            stream_head(),
            Part::Send(b"data: {".to_vec()),
            Part::Pause(LONG),
        ],
    ];
    for answer in answers {
        let server = Server::start(vec![answer]);
        let begun = Instant::now();
        let error = generate(&server, with_read_timeout(SHORT)).unwrap_err();
        assert!(
            matches!(error, Error::Timeout { limit: "read", after, .. } if after == SHORT),
            "{error}"
        );
        assert!(error.is_timeout() && begun.elapsed() < LONG / 2);
        assert!(server.hung_up_on(LONG).is_some());
    }
}

#[test]
fn a_slow_reader_is_not_a_silent_server() {
    let piece = |text: &str| {
        Part::Send(format!("data: {{\"choices\": [{{\"index\": 0, \"delta\": {{\"content\": \"{text}\"}}}}]}}\n\n").into_bytes())
    };
    let done = Part::Send(b"data: [DONE]\n\n".to_vec());
    let short = Duration::from_millis(100);
    let server = Server::start(vec![vec![
        stream_head(),
        piece("a"),
        Part::Pause(short),
        piece("b"),
        done,
    ]]);
    let read = Duration::from_secs(2);
    let client = openai(&server, ServerKind::Vllm, with_read_timeout(read));
    let mut stream = client
        .chat_stream(&ChatRequest::new("m", "Hi"))
        .wait()
        .unwrap();
    assert_eq!(stream.next().unwrap().unwrap().text(), "a");
    std::thread::sleep(read + short);
    assert_eq!(stream.next().unwrap().unwrap().text(), "b");
    assert!(stream.next().is_none());
}

#[test]
fn a_slow_drip_ends_with_the_total_time() {
    let drip = Part::Drip(vec![b'x'; 100_000], Duration::from_millis(5));
    let json_head =
        Part::Send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec());
    let server = Server::start(vec![vec![json_head, drip.clone()]]);
    let client = axionic(&server, with_read_timeout(LONG));
    let error = client.models(None).timeout(SHORT).wait().unwrap_err();
    assert!(
        matches!(error, Error::Timeout { limit: "total", .. }),
        "{error}"
    );
    assert!(server.hung_up_on(LONG).is_some());

    let server = Server::start(vec![vec![stream_head(), drip]]);
    let client = axionic(&server, with_read_timeout(LONG));
    let error = client
        .generate(&RunRequest::new("Hi"))
        .timeout(SHORT)
        .wait()
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Timeout {
                limit: "stream_total",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn endless_streams_end_at_their_limits() {
    let endless = |bytes: &str| {
        Server::start(vec![vec![
            stream_head(),
            Part::Forever(bytes.as_bytes().to_vec()),
        ]])
    };
    let line = "data: {\"status\": \"processing\"}\n\n".repeat(100);
    let cases = [
        (
            endless(&line),
            Limits {
                max_stream_bytes: 100_000,
                ..Limits::default()
            },
            "max_stream_bytes",
        ),
        (
            endless("data: x\n"),
            Limits {
                max_event_bytes: 5000,
                ..Limits::default()
            },
            "max_event_bytes",
        ),
        (
            endless("x"),
            Limits {
                max_line_bytes: 5000,
                ..Limits::default()
            },
            "max_line_bytes",
        ),
    ];
    for (server, limits, name) in cases {
        let error = generate(&server, with_limits(limits)).unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { limit_name, .. } if limit_name == name),
            "{name}: {error}"
        );
        assert!(error.to_string().contains(name));
        assert!(server.hung_up_on(LONG).is_some(), "{name}");
    }
}

#[test]
fn bodies_and_heads_are_bounded() {
    let limits = || {
        with_limits(Limits {
            max_answer_bytes: 1000,
            ..Limits::default()
        })
    };
    // Announced, and not announced.
    let announced = reply(200, &["content-type: application/json"], &"[".repeat(2000));
    let mut endless = raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
    endless.push(Part::Forever(b"[1, ".to_vec()));
    for answer in [announced, endless] {
        let server = Server::start(vec![answer]);
        let error = axionic(&server, limits()).models(None).wait().unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooLarge {
                    limit_name: "max_answer_bytes",
                    ..
                }
            ),
            "{error}"
        );
    }
    let mut head = raw("HTTP/1.1 200 OK\r\n");
    head.push(Part::Forever(
        b"x-header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".to_vec(),
    ));
    let server = Server::start(vec![head]);
    let error = axionic(&server, quick()).models(None).wait().unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error}");
    assert!(error.to_string().contains("too large"), "{error}");
    // A refusal's endless text is read in part.
    let mut refusal = raw("HTTP/1.1 400 No\r\ncontent-type: text/plain\r\n\r\n");
    refusal.push(Part::Forever(b"no no no ".to_vec()));
    let server = Server::start(vec![refusal]);
    let error = axionic(&server, quick()).models(None).wait().unwrap_err();
    assert_eq!(error.status(), Some(400));
    assert!(error.to_string().len() < 3000);
}

#[test]
fn deep_json_is_an_error() {
    let server = Server::start(vec![json(&"[".repeat(1_000_000))]);
    let error = axionic(&server, quick()).models(None).wait().unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error}");
    let deep = format!("data: {}\n\n", "{\"a\":".repeat(1_000_000));
    let server = Server::start(vec![events(&deep)]);
    assert!(generate(&server, quick()).is_err());
}

#[test]
fn wrong_types_and_wrong_contents_are_errors() {
    let html = "<html><body>Please log in, ax_0123456789abcdef0123456789abcdef0123456789abcdef</body></html>";
    let cases = [
        (json("{\"models\": 7}"), "unusable"),
        (json("[{\"id\": 7}]"), "unusable"),
        (json("null"), "unusable"),
        (json("not json"), "unusable"),
        (json("[{\"id\": \"a\""), "its JSON ends too early"),
        (json(""), "its JSON ends too early"),
        (
            reply(200, &["content-type: text/html"], html),
            "text/html instead of JSON: <html>",
        ),
        (
            reply(
                200,
                &["content-type: application/json", "content-encoding: gzip"],
                "xx",
            ),
            "encoded as gzip",
        ),
        (raw("SSH-2.0-OpenSSH_9.2\r\n"), "no HTTP answer"),
        (raw(""), "cannot reach"),
    ];
    for (answer, wanted) in cases {
        let server = Server::start(vec![answer]);
        let error = axionic(&server, quick()).models(None).wait().unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(wanted), "{wanted}: {text}");
        assert!(!text.contains("0123456789abcdef"), "{text}");
    }
    for (answer, wanted) in [
        (
            events("data: {\"status\": \"complete\", \"result\": {\"output\": 7}}\n\n"),
            "a result that is not one",
        ),
        (
            events("data: {\"status\": \"complete\"}\n\n"),
            "a result that is not one",
        ),
        (
            events("data: {\"status\": \"error\", \"message\": \"out of memory\"}\n\n"),
            "out of memory",
        ),
        (events("data: [1]\n\ndata: [DONE]\n\n"), "no result"),
        (
            reply(200, &["content-type: text/html"], html),
            "text/html instead of a stream",
        ),
        (
            json("{\"status\": \"error\", \"message\": \"gone\"}"),
            "gone",
        ),
    ] {
        let server = Server::start(vec![answer]);
        let error = generate(&server, quick()).unwrap_err();
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn plain_json_instead_of_a_stream_is_understood() {
    for body in [
        "{\"output\": \"x\"}",
        "{\"status\": \"complete\", \"result\": {\"output\": \"x\"}}",
    ] {
        let server = Server::start(vec![json(body)]);
        assert_eq!(generate(&server, quick()).unwrap(), "x");
    }
}

#[test]
fn cancelling_ends_a_call_wherever_it_waits() {
    let never = || vec![Part::Pause(LONG)];
    let streaming = || {
        vec![
            stream_head(),
            Part::Drip(
                b"data: {\"status\": \"processing\"}\n\n".repeat(10_000),
                Duration::from_millis(1),
            ),
        ]
    };
    let limited = || reply(429, &["retry-after: 50"], "");
    for answer in [never(), streaming(), limited()] {
        let server = Server::start(vec![answer]);
        let flag = Arc::new(AtomicBool::new(false));
        let setter = std::thread::spawn({
            let flag = Arc::clone(&flag);
            move || {
                std::thread::sleep(Duration::from_millis(150));
                flag.store(true, Ordering::Relaxed);
                Instant::now()
            }
        });
        let client = axionic(&server, quick());
        let error = client
            .generate(&RunRequest::new("Hi"))
            .cancel(flag)
            .wait()
            .unwrap_err();
        let late = Instant::now().duration_since(setter.join().unwrap());
        assert!(error.is_cancelled(), "{error}");
        // 50 ms are promised; a machine with much other work gets more.
        assert!(late < LONG / 4, "{late:?}");
    }
}

#[test]
fn a_cancel_that_is_set_already_sends_nothing() {
    let server = Server::start(vec![json("[]")]);
    let asked = Arc::new(AtomicUsize::new(0));
    let cancel = Cancel::when({
        let asked = Arc::clone(&asked);
        move || asked.fetch_add(1, Ordering::Relaxed) < usize::MAX
    });
    let error = axionic(&server, quick())
        .models(None)
        .cancel(cancel)
        .wait()
        .unwrap_err();
    assert!(error.is_cancelled() && asked.load(Ordering::Relaxed) > 0);
    assert!(server.asked().is_empty());
}

#[test]
fn dropping_a_stream_hangs_up_at_once() {
    let answer = || {
        vec![
            stream_head(),
            Part::Drip(
                b"data: {\"choices\": []}\n\n".repeat(10_000),
                Duration::from_millis(1),
            ),
        ]
    };
    // Blocking, and the client lives on.
    let server = Server::start(vec![answer()]);
    let client = openai(&server, ServerKind::Vllm, quick());
    let mut stream = client
        .chat_stream(&ChatRequest::new("m", "Hi"))
        .wait()
        .unwrap();
    assert!(stream.next().unwrap().is_ok());
    drop(stream);
    assert!(server.hung_up_on(LONG / 2).is_some());
    // Async, on a runtime that goes on.
    let server = Server::start(vec![answer()]);
    let client = openai(&server, ServerKind::Vllm, quick());
    block_on(async {
        let mut stream = client
            .chat_stream(&ChatRequest::new("m", "Hi"))
            .await
            .unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        drop(stream);
        for _ in 0..1000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if server.hung_up_on(Duration::ZERO).is_some() {
                return;
            }
        }
        panic!("the connection is still open");
    });
}

#[test]
fn the_server_that_is_not_there() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let client = mx_remote::Axionic::new(mx_remote::AxionicOptions {
        base_url: format!("http://{address}"),
        transport: quick(),
        ..mx_remote::AxionicOptions::with_key(KEY)
    })
    .unwrap();
    let error = client
        .run_policy(&PolicyRunRequest {
            policy_id: Some("p".into()),
            ..Default::default()
        })
        .wait()
        .unwrap_err();
    assert!(
        matches!(error, Error::Connection { begun: false, .. }),
        "{error}"
    );
    assert!(error.is_connection() && error.is_retryable() && !error.is_timeout());
}
