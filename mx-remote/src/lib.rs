//! Typed clients for remote generation: the Axionic API and OpenAI-compatible servers.
