//! Controlled text generation: one request, every control real, nothing silent.
//!
//! ```no_run
//! let env = |name: &str| std::env::var(name).ok();
//! let mut client = mx::Client::builder().from_env(&env).model("smollm2").build();
//! client.load()?;
//! println!("{}", client.generate("Why is the sky blue?")?);
//! # Ok::<(), mx::Error>(())
//! ```
//!
//! # Asking for more
//!
//! [`Client::request`] takes settings and gives a [`Generation`]: text, tokens, finish reason, usage, the seed, warnings,
//! and every setting with where it came from.
//!
//! ```no_run
//! # fn ask(client: &mx::Client) -> Result<(), mx::Error> {
//! let answer = client
//!     .request("Name three colours.")
//!     .system("Be brief.")
//!     .method(mx::Method::TopP)
//!     .top_p(0.8)
//!     .max_tokens(32)
//!     .stop("\n\n")
//!     .seed(7)
//!     .run()?;
//! for setting in &answer.settings {
//!     println!("{} = {} ({:?})", setting.name, setting.value, setting.origin);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Streaming
//!
//! [`Request::stream`] gives a [`Stream`], an iterator of chunks that owns its state, on whichever route. Text is given out
//! when it is certain: no half characters, no beginning of a stop text. Dropping the stream cancels it; so does its
//! [`cancel_handle`](Stream::cancel_handle), from any thread. [`Client::start`] gives the loop over the loaded model itself.
//!
//! ```no_run
//! # fn ask(client: &mx::Client) -> Result<(), mx::Error> {
//! let mut run = client.request("Tell me a story.").stream()?;
//! for chunk in run.by_ref() {
//!     print!("{}", chunk?.text);
//! }
//! let answer = run.into_generation();
//! # Ok(())
//! # }
//! ```
//!
//! # Requests as data
//!
//! [`GenerateRequest`] is plain serde data with the same fields everywhere. Values are merged request over policy over
//! preset over the model's own recommendation over built-in defaults. A field that does not exist is an error, and so is a value out of range.
//!
//! # Restricting tokens
//!
//! [`GenerateRequest::json_schema`], [`regex`](GenerateRequest::regex), [`grammar`](GenerateRequest::grammar) and
//! [`choices`](GenerateRequest::choices) constrain the output; [`pipeline::TokenMask`] is where a mask of your own plugs in:
//! bit words of allowed tokens before every choice.
//!
//! # Policies
//!
//! A [`policy`] says how candidates are made, constrained, judged, chosen and made again. [`Client::policies`] runs, keeps,
//! compares and tunes them; a request may name one.
//!
//! # Errors
//!
//! One [`Error`]; its [`kind`](Error::kind) maps to exit codes and HTTP status.
//!
//! # Features
//!
//! `local` (default): models on this machine; without it the library has the remote route only and compiles no burn.
//! `cli` (default): the program `mx`. `ndarray`, `wgpu`, `vulkan` and `cuda` add devices; see [`runtime::device`].

mod cancel;
pub mod client;
pub mod error;
pub mod generation;
pub mod home;
#[cfg(feature = "local")]
pub mod pipeline;
pub mod policy;
mod remote;
pub mod request;
pub mod route;
#[cfg(feature = "local")]
pub mod steering;
#[cfg(feature = "local")]
mod strategy;
mod stream;
pub mod trace;

pub use cancel::Cancel;
pub use client::{Client, ClientBuilder, Request};
pub use error::{Error, ErrorKind};
pub use generation::{
    BehaviorReport, Choice, Chunk, FinishReason, Generation, Route, Usage, Warning,
};
pub use policy::Policy;
#[cfg(feature = "local")]
pub use request::Settings;
pub use request::{
    Constraints, Controls, GenerateRequest, Message, Method, Origin, Overflow, Prompt, Setting,
};
pub use route::{ExecutionMode, Fallback};
pub use stream::Stream;

pub use mx_constrain as constrain;
pub use mx_remote as server;
#[cfg(feature = "local")]
pub use mx_runtime as runtime;
pub use mx_sampling as sampling;
pub use mx_steering as steer;
