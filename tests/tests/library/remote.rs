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
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    pub(crate) fn start(status: u16, answer: &Value) -> Self {
        Server::says(status, "application/json", answer.to_string())
    }

    /// A server that streams these events and hangs up.
    fn streams(events: &[&str]) -> Self {
        let body = events.iter().map(|e| format!("data: {e}\n\n")).collect();
        Server::says(200, "text/event-stream", body)
    }

    fn says(status: u16, kind: &'static str, body: String) -> Self {
        Server::answers(status, kind, move |_| body.clone())
    }

    /// A server whose answer depends on what it is asked.
    pub(crate) fn answers(
        status: u16,
        kind: &'static str,
        answer: impl Fn(&Value) -> String + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
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
                let body = answer(&sent);
                seen.lock().unwrap().push((lines.concat(), sent));
                // A client may hang up at any time.
                let _ = write!(
                    reader.get_mut(),
                    "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Server { url, asked }
    }

    pub(crate) fn last(&self) -> (String, Value) {
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
    // The service searches: the pattern of a request is that of the whole text.
    assert_eq!(
        body["policy"]["constraints"]["regex_pattern"],
        r"\A(?:a+)\Z"
    );
    assert_eq!(body["policy"]["optimization"]["best_of_n"], 2);
}

#[test]
fn the_native_service_is_told_everything_or_refused() {
    let answer = json!({"output": "no number", "accepted": true, "score": 1.0, "tokens": 1, "trace": {"stage": 1}});
    let server = Server::start(200, &answer);
    let client = Client::builder()
        .base_url(&server.url)
        .key("ax_secret")
        .build();
    for (field, value) in [
        ("raw", json!(true)),
        ("on_overflow", json!("truncate_prompt")),
        ("length_penalty", json!(0.5)),
        ("draft_layers", json!(3)),
        ("ensemble_weights", json!([1.0, 2.0])),
        ("force_steering", json!(true)),
    ] {
        let request = json!({"prompt": "x", field: value});
        let request: GenerateRequest = serde_json::from_value(request).unwrap();
        let error = client.run(&request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{field}: {error}");
    }
    assert!(server.asked.lock().unwrap().is_empty());
    // What comes back is judged by the request's own constraint, whatever the service says of it.
    let mut request = GenerateRequest::new("x")
        .regex("[0-9]+")
        .include_trace(true);
    request.steering.steering_preset = Some("brevity".to_owned());
    let answer = client.run(&request).unwrap();
    assert!(
        answer
            .warnings
            .iter()
            .any(|w| w.code == "constraint_broken"),
        "{:?}",
        answer.warnings
    );
    let kept = serde_json::to_value(&answer).unwrap();
    assert_eq!(kept["policy"]["trace"], json!({"stage": 1}));
    let steering = server.last().1["policy"]["steering"].clone();
    assert_eq!(steering, json!({"enabled": true, "preset": "brevity"}));
    // The steering of a request replaces that of its policy.
    let policy = json!({"steering": {"enabled": true, "vector_id": "old", "strength": 3.0}});
    let mut request = GenerateRequest::new("x").policy(serde_json::from_value(policy).unwrap());
    let layers = json!({"prompt": "x", "steering_vector": {"4": [1.0]}, "steering_strength": 2.0});
    let layers: GenerateRequest = serde_json::from_value(layers).unwrap();
    request.steering = layers.steering;
    client.run(&request).unwrap();
    let steering = server.last().1["policy"]["steering"].clone();
    assert_eq!(
        steering,
        json!({"enabled": true, "strength": 2.0, "vector": {"4": [1.0]}})
    );
}

#[test]
fn parameters_of_absent_methods_are_named() {
    let server = Server::start(200, &chat_answer());
    let client = openai(&server, ServerKind::Vllm);
    let request = json!({"prompt": "x", "beam_width": 3, "voting": "majority", "ads_beta": 0.2, "speculative_steps": 2});
    let request: GenerateRequest = serde_json::from_value(request).unwrap();
    let answer = client.run(&request).unwrap();
    for name in ["beam_width", "voting", "ads_beta", "speculative_steps"] {
        let named = |w: &mx::Warning| w.code == "no_effect" && w.message.starts_with(name);
        assert!(answer.warnings.iter().any(named), "{name}");
    }
}

#[test]
fn an_answer_with_too_few_texts_is_an_error() {
    let nothing = json!({"id": "1", "model": "m", "choices": []});
    let server = Server::start(200, &nothing);
    let client = openai(&server, ServerKind::Vllm);
    let error = client.run(&GenerateRequest::new("x")).unwrap_err();
    assert!(error.to_string().contains("choices has 0"), "{error}");
    let server = Server::start(200, &chat_answer());
    let error = openai(&server, ServerKind::Vllm)
        .run(&GenerateRequest::new("x").n(2))
        .unwrap_err();
    assert!(
        error.to_string().contains("choices has 1, wanted 2"),
        "{error}"
    );
    for events in [&["[DONE]"][..], &[r#"{"choices": []}"#, "[DONE]"]] {
        let server = Server::streams(events);
        let client = openai(&server, ServerKind::Vllm);
        let mut stream = client.request("x").stream().unwrap();
        let error = stream.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Remote, "{error}");
        assert!(stream.next().is_none());
    }
    let server = Server::streams(&[&piece(7, "who", None), "[DONE]"]);
    let client = openai(&server, ServerKind::Vllm);
    let error = client.request("x").stream().unwrap().next().unwrap();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("choice 7"), "{error}");
}

#[test]
fn every_output_that_a_server_does_not_end_is_cancelled() {
    let half = [
        piece(0, "a", Some("stop")),
        piece(1, "b", None),
        piece(2, "c", None),
    ];
    let half: Vec<&str> = half.iter().map(String::as_str).collect();
    let server = Server::streams(&half);
    let client = openai(&server, ServerKind::Vllm);
    let mut stream = client.request("x").n(3).stream().unwrap();
    assert!(stream.by_ref().any(|chunk| chunk.is_err()));
    let answer = stream.into_generation();
    let ends: Vec<_> = answer.choices.iter().map(|c| c.finish_reason).collect();
    let cancelled = FinishReason::Cancelled;
    assert_eq!(ends, [FinishReason::Stop, cancelled, cancelled]);
    // One that says that it has said everything is taken at its word, with a warning.
    let server = Server::streams(&[&piece(0, "a", None), "[DONE]"]);
    let client = openai(&server, ServerKind::Vllm);
    let mut stream = client.request("x").stream().unwrap();
    assert!(stream.by_ref().all(|chunk| chunk.is_ok()));
    let answer = stream.into_generation();
    assert_eq!(answer.finish_reason, FinishReason::Stop);
    assert!(answer.warnings.iter().any(|w| w.code == "finish_reason"));
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

fn piece(index: u32, text: &str, finish: Option<&str>) -> String {
    json!({"id": "1", "model": "theirs", "choices": [
        {"index": index, "delta": {"content": text}, "finish_reason": finish}]})
    .to_string()
}

#[test]
fn a_stream_comes_piece_by_piece_and_is_gathered() {
    let pieces = [
        piece(0, "He", None),
        piece(1, "Go", None),
        piece(0, "y", Some("stop")),
        piece(1, "od", Some("length")),
        json!({"id": "1", "model": "theirs", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).to_string(),
        "[DONE]".to_owned(),
    ];
    let events: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let server = Server::streams(&events);
    let client = openai(&server, ServerKind::Vllm);
    let mut stream = client.request("x").n(2).seed(5).stream().unwrap();
    assert!(
        server.asked.lock().unwrap().is_empty(),
        "sent when asked for"
    );
    let chunks: Vec<_> = stream.by_ref().map(Result::unwrap).collect();
    let texts: Vec<_> = chunks.iter().map(|c| (c.index, &*c.text)).collect();
    assert_eq!(texts, [(0, "He"), (1, "Go"), (0, "y"), (1, "od")]);
    assert_eq!(chunks[2].finish_reason, Some(FinishReason::Stop));
    let answer = stream.into_generation();
    assert_eq!(
        (answer.text.as_str(), answer.route, answer.seed),
        ("Hey", Route::Remote, 5)
    );
    assert_eq!(answer.model, "theirs");
    assert_eq!(answer.choices[1].text, "Good");
    assert_eq!(answer.choices[1].finish_reason, FinishReason::Length);
    assert_eq!(answer.usage.completion_tokens, 4);
    assert_eq!(server.last().1["stream"], true);
}

#[test]
fn a_stream_that_is_cut_gives_its_error_and_what_had_come() {
    let server = Server::streams(&[&piece(0, "Hal", None)]);
    let client = openai(&server, ServerKind::Vllm);
    let mut stream = client.request("x").stream().unwrap();
    assert_eq!(stream.next().unwrap().unwrap().text, "Hal");
    let error = stream.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote, "{error}");
    assert!(stream.next().is_none());
    let answer = stream.into_generation();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason),
        ("Hal", FinishReason::Cancelled)
    );
}

#[test]
fn a_stream_can_be_stopped_from_elsewhere() {
    let server = Server::streams(&[&piece(0, "a", None), &piece(0, "b", Some("stop")), "[DONE]"]);
    let client = openai(&server, ServerKind::Vllm);
    let mut stream = client.request("x").stream().unwrap();
    stream.cancel_handle().cancel();
    let error = stream.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(stream.next().is_none());
    assert_eq!(
        stream.into_generation().finish_reason,
        FinishReason::Cancelled
    );
}

#[test]
fn a_stream_falls_back_before_its_first_chunk() {
    let failing = Server::start(500, &json!({"error": {"message": "down"}}));
    let folder = tempfile::tempdir().unwrap();
    let path = mx_tests::scripted::Script::says("\nab").write(folder.path());
    let mut client = Client::builder()
        .base_url(format!("{}/v1", failing.url))
        .server(ServerKind::Vllm, "m")
        .model(path.display().to_string())
        .build();
    client.load().unwrap();
    let mut stream = client.request("x").seed(1).stream().unwrap();
    let text: String = stream.by_ref().map(|chunk| chunk.unwrap().text).collect();
    let answer = stream.into_generation();
    assert_eq!((&*text, answer.route), ("ab", Route::Fallback));
    assert_eq!(answer.warnings[0].code, "fallback");
    client.set_execution_mode(ExecutionMode::Local);
    let local = client.request("x").seed(1).run().unwrap();
    assert_eq!((local.text, local.route), (text, Route::Local));
}

#[test]
fn log_probabilities_come_as_the_server_gave_them() {
    let answer = json!({"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": "a"},
        "logprobs": {"content": [{"token": "a", "logprob": -0.5,
            "top_logprobs": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]}]}}]});
    let server = Server::start(200, &answer);
    let client = openai(&server, ServerKind::Vllm);
    let answer = client.request("x").logprobs(2).run().unwrap();
    assert_eq!(answer.served_logprobs[0].logprob, Some(-0.5));
    assert_eq!(answer.served_logprobs[0].top[1].token, "b");
    assert!(answer.logprobs.is_empty());
    assert_eq!(server.last().1["top_logprobs"], 2);
}

#[test]
fn the_key_is_the_argument_the_environment_or_the_file() {
    let server = Server::start(200, &json!({"output": "Hi", "accepted": true}));
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().display().to_string();
    let client = |argument: Option<&str>, variable: Option<&str>| {
        let variable = variable.map(str::to_owned);
        let env = |name: &str| match name {
            "HOME" => Some(folder.clone()),
            "MECHANEX_API_KEY" => variable.clone(),
            "MECHANEX_BASE_URL" => Some(server.url.clone()),
            _ => None,
        };
        let builder = Client::builder().from_env(&env);
        match argument {
            Some(key) => builder.key(key).build(),
            None => builder.build(),
        }
    };
    let sent = |client: &Client| {
        client.generate("x").unwrap();
        server.last().0.to_lowercase()
    };
    let error = client(None, None).generate("x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelNotFound, "{error}");
    mx::server::CredentialStore::in_home(home.path())
        .update(|stored| stored.api_key = Some("ax_file".into()))
        .unwrap();
    assert!(sent(&client(None, None)).contains("x-api-key: ax_file"));
    assert!(sent(&client(None, Some("ax_env"))).contains("x-api-key: ax_env"));
    assert!(sent(&client(Some("ax_arg"), Some("ax_env"))).contains("x-api-key: ax_arg"));
    // Whoever stays here sends nothing, whatever keys there are.
    let mut local = client(Some("ax_arg"), None);
    local.set_execution_mode(ExecutionMode::Local);
    assert_eq!(local.route().unwrap_err().kind(), ErrorKind::ModelNotFound);
}
