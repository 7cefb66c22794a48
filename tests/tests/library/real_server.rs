//! The remote route against a server that nobody here wrote: llama-cpp-python with the default model's file.
//!
//! Skipped, with a message, where Python has no `llama_cpp.server`; `MX_PEER_PYTHON` names another Python.

use mx::policy::{Policy, PolicyTrace};
use mx::server::ServerKind;
use mx::{Client, ErrorKind, FinishReason, GenerateRequest, Route};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time that the server may take to load its model.
const START: Duration = Duration::from_secs(60);
/// The name that the server gives its model.
const NAME: &str = "smollm2";

/// A server process, ended with the test.
struct Peer {
    process: Child,
    port: u16,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Peer {
    fn start() -> Option<Peer> {
        let python = std::env::var("MX_PEER_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let probe = Command::new(&python)
            .args(["-c", "import llama_cpp.server.app"])
            .stderr(Stdio::null())
            .status();
        if !probe.is_ok_and(|status| status.success()) {
            eprintln!("skipped: {python} has no llama_cpp.server");
            return None;
        }
        let model = crate::default_model::model("real_server")?;
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new(&python)
            .args(["-m", "llama_cpp.server", "--host", "127.0.0.1", "--model"])
            .arg(model.path())
            .args(["--port", &port.to_string(), "--model_alias", NAME])
            .args([
                "--n_ctx",
                "1024",
                "--n_threads",
                "2",
                "--logits_all",
                "true",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut peer = Peer { process, port };
        let end = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(peer.process.try_wait().unwrap().is_none(), "it ended");
            assert!(Instant::now() < end, "it does not listen");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(peer)
    }

    fn client(&self, model: &str) -> Client {
        Client::builder()
            .base_url(format!("http://127.0.0.1:{}/v1", self.port))
            .server(ServerKind::LlamaCppPython, model)
            .build()
    }
}

#[test]
fn a_real_server_answers_every_kind_of_request() {
    let Some(peer) = Peer::start() else { return };
    let client = peer.client(NAME);

    let ask = |text: &str| client.request(text).temperature(0.0).max_tokens(24).seed(1);
    let plain = ask("What is the capital of France?").run().unwrap();
    assert!(plain.text.contains("capital"), "{:?}", plain.text);
    assert_eq!(plain.route, Route::Remote);
    assert!(plain.usage.prompt_tokens > 5 && plain.usage.completion_tokens > 0);

    let mut stream = ask("What is the capital of France?").stream().unwrap();
    let chunks: Vec<_> = stream.by_ref().map(Result::unwrap).collect();
    let text: String = chunks.iter().map(|chunk| &*chunk.text).collect();
    assert!(chunks.len() > 2, "it comes in pieces");
    assert_eq!(text, plain.text);
    let streamed = stream.into_generation();
    assert_eq!(
        (streamed.text, streamed.finish_reason),
        (plain.text, plain.finish_reason)
    );

    let raw = ask("The capital of France is").raw(true).run().unwrap();
    assert!(raw.text.contains("Paris"), "{:?}", raw.text);
    // It takes token ids for a prompt as a list of texts only, and the refusal says so.
    let ids = client.request(vec![504u32, 3575, 282]).max_tokens(4).run();
    assert_eq!(ids.unwrap_err().kind(), ErrorKind::Unsupported);

    let schema = json!({"type": "object", "additionalProperties": false, "required": ["city", "people"],
        "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}}});
    let constrained = ask("Describe a city as JSON.")
        .json_schema(schema)
        .max_tokens(80)
        .run()
        .unwrap();
    let value: Value = serde_json::from_str(&constrained.text).unwrap();
    assert!(
        value["city"].is_string() && value["people"].is_i64(),
        "{value}"
    );

    let counted = ask("Count from one to ten.").logprobs(3).run().unwrap();
    assert!(!counted.served_logprobs.is_empty());
    for token in &counted.served_logprobs {
        assert!(token.logprob.is_some_and(|x| x <= 1e-6), "{token:?}");
        assert_eq!(token.top.len(), 3);
    }

    let whole = ask("Count from one to ten.").max_tokens(40).run().unwrap();
    let word = whole.text.split_whitespace().nth(3).unwrap().to_owned();
    let cut = ask("Count from one to ten.")
        .max_tokens(40)
        .stop(&*word)
        .run();
    let cut = cut.unwrap();
    assert!(!cut.text.contains(&word) && whole.text.starts_with(&cut.text));
    assert_eq!(cut.finish_reason, FinishReason::Stop);

    let short = ask("Tell me a long story.").max_tokens(3).run().unwrap();
    assert_eq!(short.finish_reason, FinishReason::Length);

    // What it cannot do is refused here, what it refuses comes back as its kind.
    let error = ask("x").regex("a+").run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let long = "word ".repeat(3000);
    let error = ask(&long).run().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::InvalidRequest | ErrorKind::Remote),
        "{error}"
    );
}

/// Steps of a policy have seeds that the server takes, whether the run's own is given or drawn.
#[test]
fn a_real_server_makes_candidates_for_a_policy() {
    let Some(peer) = Peer::start() else { return };
    let client = peer.client(NAME);
    let policy = |value: Value| -> Policy { serde_json::from_value(value).unwrap() };
    let extracts = policy(json!({
        "constraints": {"json_schema": {"type": "object", "additionalProperties": false, "required": ["city"],
            "properties": {"city": {"type": "string", "maxLength": 20}}}},
        "verifiers": {"enabled": ["syntax", "json_schema"]},
    }));
    let request = GenerateRequest::new("Describe Paris as JSON.").max_tokens(40);
    let run = client.policies().run_with(&request, &extracts).unwrap();
    assert!(run.accepted, "{run:?}");
    // Nothing is accepted: every step is made, each with a seed of its own.
    let refused = policy(json!({
        "sampling": {"temperature": 0.9},
        "constraints": {"required_fields": ["nothing has this"]},
        "optimization": {"retry_on_failure": 2, "fallback_methods": ["top-p"]},
        "verifiers": {"max_retries": 1},
    }));
    let request = GenerateRequest::new("Say a word.").max_tokens(4);
    for request in [request.clone(), request.seed(7)] {
        let run = client.policies().run_with(&request, &refused).unwrap();
        assert!(!run.accepted);
        let Some(PolicyTrace::Local(trace)) = &run.trace else {
            panic!("{run:?}");
        };
        let seeds: HashSet<u64> = trace.candidates.iter().map(|c| c.seed).collect();
        assert_eq!(seeds.len(), 5, "{:?}", trace.candidates);
    }
}
