//! Where models come from: a path, our model folder, the hub, a Python package.
//!
//! [`ModelRef::parse`] understands what a user wrote; [`resolve`] finds the model, fetching it when it is not on this
//! machine, and returns the path that a loader opens. [`Store`] is our model folder, [`cached_models`] looks into the
//! hub's.
//!
//! # Example
//!
//! ```no_run
//! use mx_runtime::source::{ModelRef, NoProgress, Options, Store, resolve};
//!
//! # fn main() -> Result<(), mx_runtime::source::SourceError> {
//! let store = Store::new("/home/me/.local/share/mx/models");
//! let options = Options::from_env(&|name| std::env::var(name).ok());
//! let model = resolve(&ModelRef::parse("smollm2")?, &store, &options, &mut NoProgress)?;
//! assert!(model.path.ends_with("SmolLM2-135M-Instruct.Q4_1.gguf"));
//! # Ok(())
//! # }
//! ```
//!
//! # Trust
//!
//! A model of the catalogue is compared with a SHA-256 that is compiled in, whatever source it comes from, once: later
//! only length and time of the file are compared, and [`Store::verify`] hashes again. A repository's weights are
//! compared with the SHA-256 that the hub names. Names out of listings never leave their folder. A token is sent to
//! the hub's own address only.
//!
//! # Interruption
//!
//! A fetch that is cancelled or killed leaves no half model. What it had is used by the next one (a file of the hub
//! goes on at its last byte, a finished package is kept) or cleared by it. Processes that want the same model at once
//! wait for one of them.
//!
//! # Blocking
//!
//! Everything here blocks. In asynchronous code call it where blocking is allowed, such as tokio's `spawn_blocking`.

mod cache;
mod choose;
mod client;
mod download;
mod error;
mod hash;
mod http;
mod hub;
mod known;
mod local;
mod lock;
mod manifest;
mod names;
mod options;
mod package;
mod progress;
mod reference;
mod resolve;
mod store;
mod wheel;

#[cfg(test)]
mod test_server;

pub use cache::{CachedModel, cached_models, remove_cached};
pub use error::{Cause, SourceError, Tried};
pub use hash::sha256_file;
pub use known::{DEFAULT_MODEL, Known, PackagePart, known_model, known_models};
pub use options::{Limits, Options, PackageClient, Secret};
pub use progress::{NoProgress, Progress};
pub use reference::ModelRef;
pub use resolve::{ResolvedModel, SourceKind, resolve};
pub use store::{Removed, Store, StoredModel, StoredState};
