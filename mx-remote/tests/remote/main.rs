//! The clients against a scripted server, through their public surface.
#![allow(clippy::unwrap_used, unreachable_pub, clippy::print_stderr)]

mod account;
mod hostile;
mod openai;
mod repetition;
mod server;
mod tls;
