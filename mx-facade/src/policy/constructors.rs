//! Policies for common tasks, as the service's client makes them.

use super::Policy;
use crate::error::Error;
use serde_json::{Value, json};

/// Builds a policy from its JSON.
fn policy(value: Value) -> Result<Policy, Error> {
    serde_json::from_value(value)
        .map_err(|error| Error::request("policy", error, "fields of the service's contract"))
}

/// JSON that satisfies a schema, and nothing else: a mask on every token, two candidates, two retries.
///
/// # Errors
/// [`Error::Request`] for a schema that is no object.
pub fn strict_json_extraction(schema: &Value, name: &str) -> Result<Policy, Error> {
    policy(json!({
        "name": name,
        "task_profile": {"name": "strict_json_extraction"},
        "sampling": {"method": "guided-generation", "temperature": 0.2, "top_p": 0.9},
        "constraints": {"json_mode": true, "json_schema": schema},
        "verifiers": {"enabled": ["syntax", "json_schema"], "repair_on_failure": true},
        "optimization": {"best_of_n": 2, "retry_on_failure": 2},
    }))
}

/// A tool's name and arguments, quickly: speculative decoding, one candidate, a budget of 1200 ms.
///
/// # Errors
/// Never; the signature is that of the others.
pub fn fast_tool_router(name: &str) -> Result<Policy, Error> {
    policy(json!({
        "name": name,
        "task_profile": {"name": "fast_tool_router"},
        "objective": {"name": "latency", "latency_budget_ms": 1200},
        "sampling": {"method": "speculative-decoding", "temperature": 0.1, "top_k": 30, "speculative_steps": 6},
        "constraints": {"json_mode": true, "required_fields": ["tool_name", "arguments"]},
        "verifiers": {"enabled": ["syntax", "tool_args"], "repair_on_failure": true},
        "optimization": {"best_of_n": 1, "retry_on_failure": 1, "fallback_methods": ["top-k"]},
    }))
}

/// Answers that differ: determinantal sampling, three candidates at spread temperatures.
///
/// # Errors
/// Never; the signature is that of the others.
pub fn diverse_chatbot(name: &str) -> Result<Policy, Error> {
    policy(json!({
        "name": name,
        "task_profile": {"name": "diverse_chatbot"},
        "sampling": {
            "method": "ads", "temperature": 0.9, "top_p": 0.95, "ads_subset_size": 16, "ads_beta": 0.35,
            "num_candidates": 3, "diversity_strength": 0.7,
        },
        "optimization": {"best_of_n": 3, "retry_on_failure": 0},
    }))
}

/// Several models vote on every token, and further samples must repeat what they say.
///
/// # Errors
/// Never; the signature is that of the others.
pub fn ensemble_vote(models: &[String], name: &str) -> Result<Policy, Error> {
    policy(json!({
        "name": name,
        "task_profile": {"name": "ensemble_vote"},
        "sampling": {
            "method": "ensemble-sampling", "ensemble_models": models, "voting": "majority", "temperature": 0.4,
            "top_p": 0.9,
        },
        "verifiers": {"enabled": ["factuality"], "repair_on_failure": false},
    }))
}

/// A steering preset at strength 0.35, with one retry.
///
/// # Errors
/// Never; the signature is that of the others.
pub fn steering_preset(preset: &str, name: &str, sampling_method: &str) -> Result<Policy, Error> {
    policy(json!({
        "name": name,
        "task_profile": {"name": "steering_preset"},
        "sampling": {"method": sampling_method, "temperature": 0.7, "top_p": 0.9},
        "steering": {"enabled": true, "preset": preset, "strength": 0.35},
        "optimization": {"retry_on_failure": 1},
    }))
}
