//! Behaviours seen through a sparse autoencoder: noticed while the model writes, and corrected.
//!
//! An [`Sae`] turns a row of the stream into a sparse code. A [`Behaviour`] is the mean code of a behaviour's examples
//! against counterexamples; the [`Monitor`] compares each new token's code with it, and where the model drifts into the
//! behaviour it steers away, or asks for the text to be written again.

mod create;
mod monitor;
mod sae;
mod sae_config;
mod sae_files;
mod train;

pub use create::{Behaviour, create_behaviour};
pub use monitor::{Correction, Decision, Drift, Monitor, MonitorOptions, Polarity};
pub use sae::{Architecture, Normalisation, Sae, SaeParts};
pub use train::{TrainOptions, train};

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
