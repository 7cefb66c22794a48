//! The program `mx`, seen from outside.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod chat;
mod default_model;
mod generate;
mod help;
mod models;
mod pipes;
mod policy;
mod refusals;
mod steer;
mod tokenize;
mod trace;

use mx_tests::data;
use mx_tests::mx::Home;
use mx_tests::scripted::Script;

/// A tiny random model with tokenizer and chat template; its context is 256 tokens.
fn tiny() -> String {
    data::gguf("llama_gqa_tied").display().to_string()
}

/// A home with a scripted model as `scripted.gguf` in its folder, which is also the current one.
fn home_with(script: &Script) -> Home {
    let home = Home::new();
    script.write(home.path());
    home
}
