//! The libraries, seen from outside.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]
