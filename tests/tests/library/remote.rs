//! The remote route: what is sent, what comes back, and what happens when it fails.

use crate::tiny;
use mx::server::ServerKind;
use mx::{
    Client, ErrorKind, ExecutionMode, Fallback, FinishReason, GenerateRequest, Method, Route,
};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A server that gives one answer to everything and keeps what it was asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    fn start(status: u16, answer: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, body) = (Arc::clone(&asked), answer.to_string());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let (mut lines, mut length) = (Vec::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    lines.push(line);
                }
                let mut sent = vec![0; length];
                if lines.is_empty() || reader.read_exact(&mut sent).is_err() {
                    continue;
                }
                let sent = serde_json::from_slice(&sent).unwrap_or(Value::Null);
                seen.lock().unwrap().push((lines.concat(), sent));
                // A client may hang up at any time.
                let _ = write!(
                    reader.get_mut(),
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Server { url, asked }
    }

    fn last(&self) -> (String, Value) {
        self.asked.lock().unwrap().last().cloned().unwrap()
    }
}

fn chat_answer() -> Value {
    json!({"id": "1", "model": "their-model", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "{\"a\": 1}"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
}

fn openai(server: &Server, kind: ServerKind) -> Client {
    Client::builder()
        .base_url(format!("{}/v1", server.url))
        .server(kind, "their-model")
        .key("secret-key")
        .build()
}

#[test]
fn a_request_is_put_into_the_words_of_the_server() {
    let server = Server::start(200, &chat_answer());
    let client = openai(&server, ServerKind::Vllm);
    let schema = json!({"type": "object"});
    let answer = client
        .request("Say it")
        .system("Be brief.")
        .method(Method::MinP)
        .temperature(0.5)
        .json_schema(schema.clone())
        .stop("END")
        .seed(9)
        .max_tokens(5)
        .run()
        .unwrap();
    assert_eq!(answer.text, "{\"a\": 1}");
    assert_eq!(
        (answer.route, answer.finish_reason),
        (Route::Remote, FinishReason::Length)
    );
    assert_eq!(
        (answer.usage.prompt_tokens, answer.usage.completion_tokens),
        (7, 5)
    );
    assert_eq!((answer.seed, answer.model.as_str()), (9, "their-model"));
    let (head, body) = server.last();
    assert!(head.starts_with("POST /v1/chat/completions"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("authorization: bearer secret-key"),
        "{head}"
    );
    assert_eq!(
        body["messages"][0],
        json!({"role": "system", "content": "Be brief."})
    );
    assert_eq!(body["min_p"], 0.05);
    assert_eq!(body["temperature"], 0.5);
    assert_eq!(body["seed"], 9);
    assert_eq!(body["max_tokens"], 5);
    assert!(
        body.to_string().contains("json_schema") || body.to_string().contains("structured_outputs")
    );
    assert!(
        !format!("{client:?} {answer:?}").contains("secret-key"),
        "a key never prints"
    );
}

#[test]
fn what_a_server_cannot_be_told_is_refused_before_anything_is_sent() {
    let server = Server::start(200, &chat_answer());
    let client = openai(&server, ServerKind::OpenAi);
    type Change = fn(GenerateRequest) -> GenerateRequest;
    let cases: [(&str, Change); 6] = [
        ("beam-search", |r| r.method(Method::Beam)),
        ("top_k", |r| r.top_k(5)),
        ("no_repeat_ngram_size", |mut r| {
            r.sampling.no_repeat_ngram_size = Some(3);
            r
        }),
        ("best_of_n", |r| r.best_of_n(3)),
        ("constraint", |r| r.regex("a+")),
        ("steering", |r| {
            r.steer(mx::steer::apply::Steer::new("brevity"))
        }),
    ];
    for (field, change) in cases {
        let error = client.run(&change(GenerateRequest::new("x"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{field}: {error}");
        assert!(error.to_string().contains(field), "{field}: {error}");
    }
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn the_native_service_gets_a_policy() {
    let answer = json!({"output": "Hi", "accepted": false, "score": 0.1, "tokens": 1, "constraints_ok": false});
    let server = Server::start(200, &answer);
    let client = Client::builder()
        .base_url(&server.url)
        .key("ax_secret")
        .build();
    let mut request = GenerateRequest::new("x")
        .method(Method::Ads)
        .regex("a+")
        .best_of_n(2);
    request.controls.ads_beta = Some(0.2);
    let answer = client.run(&request).unwrap();
    assert_eq!((answer.text.as_str(), answer.route), ("Hi", Route::Remote));
    assert!(answer.warnings.iter().any(|w| w.code == "not_accepted"));
    let (head, body) = server.last();
    assert!(head.starts_with("POST /policies/run"), "{head}");
    assert_eq!(body["policy"]["sampling"]["method"], "ads");
    assert_eq!(body["policy"]["sampling"]["ads_beta"], 0.2);
    assert_eq!(body["policy"]["constraints"]["regex_pattern"], "a+");
    assert_eq!(body["policy"]["optimization"]["best_of_n"], 2);
}

#[test]
fn a_failure_falls_back_only_as_the_rule_says_and_is_reported() {
    let failing = Server::start(400, &json!({"error": {"message": "no"}}));
    let nowhere = "http://127.0.0.1:9/v1";
    for (fallback, url, falls_back) in [
        (
            Fallback::OnRemoteFailure,
            format!("{}/v1", failing.url),
            true,
        ),
        (
            Fallback::OnConnectionFailure,
            format!("{}/v1", failing.url),
            false,
        ),
        (Fallback::OnConnectionFailure, nowhere.to_owned(), true),
        (Fallback::Never, nowhere.to_owned(), false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = mx_tests::scripted::Script::says("\nab").write(folder.path());
        let mut client = Client::builder()
            .base_url(&url)
            .server(ServerKind::Vllm, "m")
            .fallback(fallback)
            .model(path.display().to_string())
            .build();
        client.load().unwrap();
        let result = client.run(&GenerateRequest::new("x").seed(1));
        match result {
            Ok(answer) => {
                assert!(falls_back, "{fallback:?} {url}");
                assert_eq!(
                    (answer.text.as_str(), answer.route),
                    ("ab", Route::Fallback)
                );
                assert_eq!(answer.warnings[0].code, "fallback");
            }
            Err(error) => {
                assert!(!falls_back, "{fallback:?} {url}: {error}");
                assert_eq!(error.kind(), ErrorKind::Remote, "{error}");
            }
        }
    }
    // A request that is wrong is wrong in both places.
    let mut client = Client::with_model(tiny());
    client.set_execution_mode(ExecutionMode::Remote);
    let error = client.generate("x").unwrap_err();
    assert!(error.to_string().contains("key"), "{error}");
}
