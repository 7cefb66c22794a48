//! Typed clients for remote generation: the Axionic API and OpenAI-compatible servers.
//!
//! **Not built yet.** Until then `mx` runs locally, and a request routed to a remote service is refused.
