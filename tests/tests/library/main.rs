//! The libraries, seen from outside.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[macro_use]
mod engine_suite;

mod behaviors;
mod cancel;
mod client;
mod closures;
mod combinations;
mod constrain;
mod default_model;
mod early_exit;
mod engines;
mod ensembles;
mod fast_mode;
mod finish;
mod goldens;
mod hostile;
mod mask;
mod mutations;
mod policy;
mod real_server;
mod remote;
mod request;
mod resume;
mod sessions;
mod steering;
mod strategies;
mod streaming;
mod trace;

use mx_runtime::device::DeviceId;
use mx_runtime::model::{LoadOptions, Model};
use mx_tests::data;
use mx_tests::scripted::Script;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Loads a model onto the default device.
fn load(path: &Path) -> Arc<Model> {
    Arc::new(Model::load(path, &LoadOptions::on(DeviceId::Flex)).unwrap())
}

/// A tiny random model with a byte-level tokenizer; its context is 256 tokens.
fn tiny() -> Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    Arc::clone(MODEL.get_or_init(|| load(&data::gguf("llama_gqa_tied"))))
}

/// A client of a scripted model.
fn scripted(script: &Script) -> mx::Client {
    let folder = tempfile::tempdir().unwrap();
    mx::Client::with_model(load(&script.write(folder.path())))
}
