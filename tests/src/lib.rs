//! Tests of the mx workspace through its public surfaces; here is what several of them use.
//!
//! The tests themselves are two programs, so that the engines are linked twice and not once a file:
//! `tests/library` calls the crates, `tests/program` runs `mx` as a process.
#![allow(
    clippy::unwrap_used,
    reason = "a helper that cannot go on fails the test that called it"
)]

pub mod data;
pub mod gguf;
pub mod http;
pub mod mx;
pub mod scripted;
