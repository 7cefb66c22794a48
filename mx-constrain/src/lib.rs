//! JSON Schema, regex and grammar constraints as token masks.
//!
//! **Not built yet.** This crate will compile constraints into automata over bytes and give, at each step, the tokens
//! that keep the text inside the constraint, as bit words over the vocabulary.
