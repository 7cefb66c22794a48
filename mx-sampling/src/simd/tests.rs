//! Every instruction set computes the same bits.
#![allow(clippy::unwrap_used)]
