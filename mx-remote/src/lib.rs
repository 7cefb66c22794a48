//! Typed clients for text generation on other machines: the native Axionic (Mechanex) service, and servers that speak
//! OpenAI's protocol (vLLM, SGLang, llama-server, llama-cpp-python, OpenAI itself).
//!
//! For programs that generate text on a server and want to know what really happened: what a server cannot honour is
//! refused before anything is sent, a stream that breaks off is an error and not a short text, and a request is
//! repeated only where that cannot do harm. The crate knows no tensor library. Whoever wants the whole of OpenAI's
//! interface, with files, images and assistants, is better served by a client made for that.
//!
//! 1. [A text from a server](#a-text-from-a-server)
//! 2. [As it comes](#as-it-comes)
//! 3. [In async code](#in-async-code)
//! 4. [Servers differ](#servers-differ)
//! 5. [Log-probabilities](#log-probabilities)
//! 6. [The native service](#the-native-service)
//! 7. [Keys and sessions](#keys-and-sessions)
//! 8. [Stopping, waiting, repeating](#stopping-waiting-repeating)
//! 9. [When it fails](#when-it-fails)
//! 10. [What never happens](#what-never-happens)
//!
//! The examples run against a server in the same process; `server` stands for it.
//!
//! # A text from a server
//!
//! ```
//! use mx_remote::openai::ChatRequest;
//! use mx_remote::{OpenAi, OpenAiOptions, ServerKind};
//!
//! # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote/script.rs")); }
//! # let server = script::Server::start(vec![script::json(r#"{"id": "1", "model": "m", "choices":
//! #     [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}]}"#)]);
//! let client = OpenAi::new(OpenAiOptions::new(server.url() + "/v1", ServerKind::Vllm))?;
//! let answer = client.chat(&ChatRequest::new("qwen3-0.6b", "Say hello")).wait()?;
//! assert_eq!(answer.text(), "Hello!");
//! assert_eq!(answer.choices[0].finish_reason.as_deref(), Some("stop"));
//! # Ok::<(), mx_remote::Error>(())
//! ```
//!
//! Every method returns a [`Call`]. [`wait`](Call::wait) makes it on this thread, `.await` in async code.
//!
//! # As it comes
//!
//! ```
//! # use mx_remote::{OpenAi, OpenAiOptions, ServerKind};
//! use mx_remote::openai::{ChatAnswer, ChatRequest};
//!
//! # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote/script.rs")); }
//! # let server = script::Server::start(vec![script::events(concat!(
//! #     "data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"Hel\"}}]}\n\n",
//! #     "data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"lo\"}, \"finish_reason\": \"stop\"}]}\n\n",
//! #     "data: [DONE]\n\n"))]);
//! # let client = OpenAi::new(OpenAiOptions::new(server.url() + "/v1", ServerKind::Vllm))?;
//! let mut chunks = Vec::new();
//! for chunk in client.chat_stream(&ChatRequest::new("qwen3-0.6b", "Say hello")).wait()? {
//!     let chunk = chunk?;
//!     print!("{}", chunk.text());
//!     chunks.push(chunk);
//! }
//! assert_eq!(ChatAnswer::gather(chunks).text(), "Hello");
//! # Ok::<(), mx_remote::Error>(())
//! ```
//!
//! Dropping the iterator closes the connection, which tells the server to stop.
//!
//! # In async code
//!
//! The same client and the same calls on a tokio runtime of the caller's, with its timer and its network on. A stream is
//! a [`futures_core::Stream`] and has a [`next`](Events::next) of its own. The core is async, and `wait` drives it on a
//! runtime on the calling thread: neither face lacks what the other has, and no thread is started but for looking up
//! names, which operating systems offer in blocking form only.
//!
//! ```
//! # use mx_remote::{OpenAi, OpenAiOptions, ServerKind};
//! use mx_remote::openai::ChatRequest;
//!
//! # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote/script.rs")); }
//! # let server = script::Server::start(vec![script::events(concat!(
//! #     "data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"Hi\"}, \"finish_reason\": \"stop\"}]}\n\n",
//! #     "data: [DONE]\n\n"))]);
//! # let client = OpenAi::new(OpenAiOptions::new(server.url() + "/v1", ServerKind::Vllm))?;
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let mut stream = client.chat_stream(&ChatRequest::new("qwen3-0.6b", "Say hello")).await?;
//! while let Some(chunk) = stream.next().await {
//!     assert_eq!(chunk?.text(), "Hi");
//! }
//! # Ok::<(), mx_remote::Error>(())
//! # })?;
//! # Ok::<(), mx_remote::Error>(())
//! ```
//!
//! # Servers differ
//!
//! They share the protocol's core. Everything else has other names, other forms, or is passed over in silence. A request
//! here says what is wanted ([`Params`](openai::Params)); the client says it in the server's words, or refuses and names
//! the field. [`ServerKind`] has the table of who honours what.
//!
//! ```
//! use mx_remote::openai::{ChatRequest, Constraint, Params};
//! use mx_remote::{Error, OpenAi, OpenAiOptions, ServerKind};
//!
//! let request = ChatRequest {
//!     params: Params {
//!         repetition_penalty: Some(1.1),
//!         constraint: Some(Constraint::Choice(vec!["yes".into(), "no".into()])),
//!         ..Default::default()
//!     },
//!     ..ChatRequest::new("m", "Is water wet?")
//! };
//! let client = |kind| OpenAi::new(OpenAiOptions::new("http://localhost:8000/v1", kind));
//!
//! let plan = client(ServerKind::Vllm)?.plan_chat(&request)?;
//! assert_eq!(plan.body["structured_outputs"]["choice"][0], "yes");
//! assert_eq!(plan.body["repetition_penalty"], 1.1);
//!
//! let plan = client(ServerKind::LlamaServer)?.plan_chat(&request)?;
//! assert_eq!(plan.body["grammar"], "root ::= \"yes\" | \"no\"\n");
//! assert_eq!(plan.body["repeat_penalty"], 1.1);
//! assert_eq!(plan.notes.len(), 2); // the choice travels as a grammar, the penalty looks back less far
//!
//! let refused = client(ServerKind::OpenAi)?.plan_chat(&request).unwrap_err();
//! assert!(matches!(refused, Error::Unsupported { field: "repetition_penalty", .. }));
//! # Ok::<(), Error>(())
//! ```
//!
//! [`detect`](OpenAi::detect) finds out what kind a server is. Fields that this crate does not know go into
//! [`extra`](openai::Params::extra) and are sent as they are.
//!
//! # Log-probabilities
//!
//! Chats and completions give them in two forms, and some servers in the one that is not due.
//! [`Logprobs`](openai::Logprobs) reads both.
//!
//! ```
//! # use mx_remote::{OpenAi, OpenAiOptions, ServerKind};
//! use mx_remote::openai::{CompletionRequest, Params};
//!
//! # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote/script.rs")); }
//! # let server = script::Server::start(vec![script::json(r#"{"choices": [{"index": 0, "text": " Paris",
//! #     "logprobs": {"tokens": [" Paris"], "token_logprobs": [-0.1], "top_logprobs": [{" Paris": -0.1, " Lyon": -3.0}]}}]}"#)]);
//! # let client = OpenAi::new(OpenAiOptions::new(server.url() + "/v1", ServerKind::LlamaCppPython))?;
//! let request = CompletionRequest {
//!     params: Params { max_tokens: Some(1), logprobs: Some(2), ..Default::default() },
//!     ..CompletionRequest::new("m", "The capital of France is")
//! };
//! let answer = client.complete(&request).wait()?;
//! let token = &answer.choices[0].logprobs.as_ref().expect("they were asked for").tokens[0];
//! assert_eq!((token.token.as_str(), token.logprob, token.top.len()), (" Paris", Some(-0.1), 2));
//! # Ok::<(), mx_remote::Error>(())
//! ```
//!
//! # The native service
//!
//! [`Axionic`] speaks the vendor's own protocol: generation, policies, steering vectors, behaviours, models, account.
//!
//! ```
//! use mx_remote::axionic::{Policy, PolicyRunRequest, RunRequest, SamplingControls};
//! use mx_remote::{Axionic, AxionicOptions};
//!
//! # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote/script.rs")); }
//! # let server = script::Server::start(vec![
//! #     script::events("data: {\"status\": \"processing\"}\n\ndata: {\"status\": \"complete\", \"result\": {\"output\": \"Hi\"}}\n\n"),
//! #     script::json(r#"{"output": "Hi", "accepted": true, "score": 1.0}"#)]);
//! let client = Axionic::new(AxionicOptions { base_url: server.url(), ..AxionicOptions::with_key("ax_0123") })?;
//! let text = client.generate(&RunRequest { temperature: Some(0.7), ..RunRequest::new("Say hello") }).wait()?.output;
//!
//! let sampling = SamplingControls { method: "ads".to_owned().into(), ads_subset_size: 8.into(), ..Default::default() };
//! let policy = Policy { sampling: sampling.into(), ..Default::default() };
//! let run = PolicyRunRequest { prompt: "Say hello".into(), policy: Some(policy), ..Default::default() };
//! let result = client.run_policy(&run).wait()?;
//! assert!(result.accepted && result.output == text);
//! # Ok::<(), mx_remote::Error>(())
//! ```
//!
//! Fields that this crate does not know are kept, in answers and in policies, and sent back as they came. The service's
//! OpenAI-compatible surface is reached by [`Axionic::openai`].
//!
//! # Keys and sessions
//!
//! [`Credentials::find`] takes the key from the caller, else from `MECHANEX_API_KEY`, else from `~/.mechanex/config.json`,
//! which the vendor's client reads and writes, too. Nothing is looked up behind the caller's back: [`Surroundings`]
//! says where to look.
//!
//! ```no_run
//! use mx_remote::{Axionic, AxionicOptions, Secret, Surroundings};
//!
//! let client = Axionic::new(AxionicOptions::find(None, &Surroundings::of_process())?)?;
//! if !client.has_credentials() {
//!     let password = Secret::new(std::env::var("PASSWORD")?);
//!     client.log_in_and_find_key("someone@example.org", &password).wait()?;
//! }
//! println!("{:.2} USD left", client.balance().wait()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A request carries exactly one credential: paths of the account the session if there is one, all others the key if
//! there is one. A session that is refused is renewed once, and kept in the file. A [`Secret`] prints as `[secret]`,
//! and texts of servers are cleaned of secrets before an error holds them.
//!
//! # Stopping, waiting, repeating
//!
//! A call stops when its [`Cancel`] says so, within 50 ms, wherever it waits. [`Timeouts`], [`Limits`] and [`Retry`] have
//! defaults that suit generation; each says what it counts.
//!
//! ```
//! # use mx_remote::{OpenAi, OpenAiOptions, ServerKind};
//! # use mx_remote::openai::ChatRequest;
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use std::time::Duration;
//!
//! # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote/script.rs")); }
//! # let server = script::Server::start(vec![vec![script::Part::Pause(Duration::from_secs(30))]]);
//! # let client = OpenAi::new(OpenAiOptions::new(server.url() + "/v1", ServerKind::Vllm))?;
//! let stop = Arc::new(AtomicBool::new(false));
//! # let by_hand = Arc::clone(&stop);
//! # std::thread::spawn(move || by_hand.store(true, Ordering::Relaxed));
//! let call = client.chat(&ChatRequest::new("m", "Tell a long story")).cancel(Arc::clone(&stop));
//! // Another thread, a signal handler or a window's button sets the flag.
//! assert!(call.wait().unwrap_err().is_cancelled());
//!
//! let call = client.chat(&ChatRequest::new("m", "Tell a long story")).timeout(Duration::from_millis(200));
//! assert!(call.wait().unwrap_err().is_timeout());
//! # Ok::<(), mx_remote::Error>(())
//! ```
//!
//! # When it fails
//!
//! [`Error`] tells apart what a caller may want to tell apart, and answers the usual questions.
//!
//! ```
//! # use mx_remote::{Axionic, AxionicOptions};
//! use mx_remote::Error;
//! use mx_remote::axionic::RunRequest;
//!
//! # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote/script.rs")); }
//! # let refusal = script::reply(402, &["x-request-id: r-1"], r#"{"detail": "balance is 0.20 USD"}"#);
//! # let server = script::Server::start(vec![refusal]);
//! # let client = Axionic::new(AxionicOptions { base_url: server.url(), ..AxionicOptions::with_key("ax_0123") })?;
//! let error = client.generate(&RunRequest::new("Hi")).wait().unwrap_err();
//! assert!(matches!(error, Error::InsufficientCredits(_)));
//! assert_eq!((error.status(), error.request_id()), (Some(402), Some("r-1")));
//! assert!(!error.is_retryable() && !error.is_connection());
//! assert!(error.to_string().starts_with("insufficient credits: balance is 0.20 USD [402 from "));
//! # Ok::<(), Error>(())
//! ```
//!
//! # What never happens
//!
//! - The key goes to another host. Redirects of reading requests are followed without it, others not at all.
//! - A text is taken for complete that is not: a stream needs its proper end, a body its length.
//! - An answer fills the memory: bodies, lines, events and streams have [`Limits`], and errors name them.
//! - A number that JSON has not (`NaN`, infinities) becomes `null`: it is refused, with the path of its field.
//! - Something is printed, a global is set, or hostile bytes cause a panic.

pub mod axionic;
mod blocking;
mod call;
mod cancel;
mod check;
mod credentials;
mod error;
mod http;
pub mod openai;
mod options;
mod secret;
mod sse;
mod stream;

pub use axionic::{Axionic, AxionicOptions};
pub use call::{Call, CallFuture, Preview, StreamCall};
pub use cancel::{CANCEL_INTERVAL, Cancel};
pub use credentials::{
    BASE_URL_VARIABLE, CredentialStore, Credentials, KEY_VARIABLE, KeyOrigin, Session,
    StoredCredentials, Surroundings,
};
pub use error::{Cause, Error, Failure, FieldProblem, MAX_MESSAGE_BYTES, Result};
pub use openai::{OpenAi, OpenAiOptions, ServerKind};
pub use options::{Limits, Proxy, Retry, Timeouts, Transport};
pub use secret::{REDACTED, Secret};
pub use sse::{SseEvent, SseParser};
pub use stream::{BlockingEvents, Events};
