//! Controlled text generation on local models.
//!
//! ```no_run
//! let mut client = mx::Client::builder().model("model.gguf").build();
//! client.load()?;
//! println!("{}", client.generate("Why is the sky blue?")?);
//! # Ok::<(), mx::Error>(())
//! ```

pub mod client;
pub mod error;
pub mod generation;
pub mod home;
pub mod pipeline;
pub mod request;
pub mod route;
pub mod trace;

pub use client::{Client, ClientBuilder, Request};
pub use error::{Error, ErrorKind};
pub use generation::{FinishReason, Generation, Route, Usage, Warning};
pub use request::{GenerateRequest, Method, Origin, Overflow, Prompt, Setting, Settings};
pub use route::{ExecutionMode, Fallback};

pub use mx_runtime as runtime;
pub use mx_sampling as sampling;
