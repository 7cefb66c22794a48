//! Policies on the service: run, save, compare, evaluate, tune, publish.

use super::{Axionic, Policy, listed};
use crate::call::Call;
use crate::error::Error;
use crate::http::{Ask, segment};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A run of a policy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PolicyRunRequest {
    /// The text to continue.
    pub prompt: String,
    /// The policy; this or `policy_id` must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// A saved policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
    /// The model; `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Most tokens to generate; 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
    /// Whether the answer carries a trace; `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_trace: Option<bool>,
    /// Fields that this version does not know; they are sent as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRun {
    /// The text.
    pub output: String,
    /// Whether constraints and verifiers accept it.
    pub accepted: bool,
    /// The policy's id, if it has one.
    #[serde(default)]
    pub policy_id: Option<String>,
    /// Its score.
    #[serde(default)]
    pub score: f64,
    /// Milliseconds it took.
    #[serde(default)]
    pub latency_ms: i64,
    /// Tokens it has.
    #[serde(default)]
    pub tokens: i64,
    /// Whether the constraints are satisfied.
    #[serde(default = "yes")]
    pub constraints_ok: bool,
    /// Whether the verifiers accept it.
    #[serde(default = "yes")]
    pub verifier_ok: bool,
    /// What happened, if it was asked for.
    #[serde(default)]
    pub trace: Option<Map<String, Value>>,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn yes() -> bool {
    true
}

/// One prompt, several policies.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CompareRequest {
    /// The text to continue.
    pub prompt: String,
    /// The policies.
    pub policies: Vec<Policy>,
    /// Most tokens to generate; 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
}

/// One policy, several prompts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EvaluatePolicyRequest {
    /// The texts to continue.
    pub prompts: Vec<String>,
    /// The policy; this or `policy_id` must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// A saved policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
    /// Most tokens to generate; 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
}

/// How a policy did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluatePolicyAnswer {
    /// Prompts run.
    pub num_prompts: i64,
    /// Part of them that was accepted.
    pub success_rate: f64,
    /// Mean milliseconds.
    pub avg_latency_ms: f64,
    /// Mean tokens.
    pub avg_tokens: f64,
    /// Runs accepted.
    pub pass_count: i64,
    /// Runs not accepted.
    pub fail_count: i64,
    /// The runs.
    pub outputs: Vec<PolicyRun>,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A search for a better policy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AutoTuneRequest {
    /// The texts to continue.
    pub prompts: Vec<String>,
    /// Where to begin; this or `base_policy_id` must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_policy: Option<Policy>,
    /// A saved policy to begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_policy_id: Option<String>,
    /// Values to try, by dotted field, such as `sampling.temperature`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub search_space: BTreeMap<String, Vec<Value>>,
    /// Most combinations tried; 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_trials: Option<u32>,
    /// Most tokens to generate; 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AutoTuneAnswer {
    /// The best policy.
    pub best_policy: Policy,
    /// How it did.
    pub best_trial: PolicyTrial,
    /// How all did.
    pub trials: Vec<PolicyTrial>,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One policy of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyTrial {
    /// The policy.
    pub policy: Policy,
    /// Part of the runs that was accepted.
    pub success_rate: f64,
    /// Mean score.
    pub avg_score: f64,
    /// Mean milliseconds.
    pub avg_latency_ms: f64,
    /// Runs accepted.
    pub pass_count: i64,
    /// Runs not accepted.
    pub fail_count: i64,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A policy to be published.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PublishPresetRequest {
    /// Its name.
    pub name: String,
    /// The policy.
    pub policy: Policy,
    /// `private` or `public`; `private`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A published policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyPreset {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The policy.
    pub policy: Policy,
    /// `private` or `public`.
    #[serde(default)]
    pub visibility: Option<String>,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<PolicyRun>,
}

#[derive(Deserialize)]
struct PolicyId {
    policy_id: String,
}

#[derive(Deserialize)]
struct PresetId {
    preset_id: String,
}

impl Axionic {
    /// Runs a policy: `POST /policies/run`.
    pub fn run_policy(&self, request: &PolicyRunRequest) -> Call<PolicyRun> {
        let given = request.policy.is_some() || request.policy_id.is_some();
        let ask = needs("policy", given, "or policy_id given")
            .and_then(|()| Ask::post(&["policies", "run"], request));
        self.json(ask)
    }

    /// Runs a saved policy: `POST /policies/{id}/run`. The request's own policy is not looked at.
    pub fn run_saved_policy(&self, policy_id: &str, request: &PolicyRunRequest) -> Call<PolicyRun> {
        let ask = segment("policy_id", policy_id)
            .and_then(|id| Ask::post(&["policies", id, "run"], request));
        self.json(ask)
    }

    /// Saves a policy and learns its id: `POST /policies/save`.
    pub fn save_policy(&self, policy: &Policy) -> Call<String> {
        let ask = Ask::post(&["policies", "save"], &json_with("policy", policy));
        Call::one(&self.net, ask, |conn, ask| async move {
            conn.json::<PolicyId>(&ask)
                .await
                .map(|answer| answer.policy_id)
        })
    }

    /// The saved policies: `GET /policies`.
    pub fn policies(&self) -> Call<Vec<Policy>> {
        Call::one(
            &self.net,
            Ok(Ask::get(&["policies"])),
            |conn, ask| async move { listed(&conn, &ask, "policies").await },
        )
    }

    /// A saved policy: `GET /policies/{id}`.
    pub fn policy(&self, policy_id: &str) -> Call<Policy> {
        self.json(segment("policy_id", policy_id).map(|id| Ask::get(&["policies", id])))
    }

    /// Runs several policies on one prompt: `POST /policies/compare`.
    pub fn compare_policies(&self, request: &CompareRequest) -> Call<Vec<PolicyRun>> {
        Call::one(
            &self.net,
            Ask::post(&["policies", "compare"], request),
            |conn, ask| async move {
                conn.json::<Results>(&ask)
                    .await
                    .map(|answer| answer.results)
            },
        )
    }

    /// Runs a policy on several prompts: `POST /policies/evaluate`.
    pub fn evaluate_policy(&self, request: &EvaluatePolicyRequest) -> Call<EvaluatePolicyAnswer> {
        let given = request.policy.is_some() || request.policy_id.is_some();
        let ask = needs("policy", given, "or policy_id given")
            .and_then(|()| Ask::post(&["policies", "evaluate"], request));
        self.json(ask)
    }

    /// Searches for a better policy: `POST /policies/autotune`.
    pub fn auto_tune(&self, request: &AutoTuneRequest) -> Call<AutoTuneAnswer> {
        let given = request.base_policy.is_some() || request.base_policy_id.is_some();
        let ask = needs("base_policy", given, "or base_policy_id given")
            .and_then(|()| Ask::post(&["policies", "autotune"], request));
        self.json(ask)
    }

    /// The published policies: `GET /policies/presets`.
    pub fn policy_presets(&self, include_public: bool) -> Call<Vec<PolicyPreset>> {
        let mut ask = Ask::get(&["policies", "presets"]);
        ask.query
            .push(("include_public", include_public.to_string()));
        self.json(Ok(ask))
    }

    /// Publishes a policy and learns the preset's id: `POST /policies/presets/publish`.
    pub fn publish_preset(&self, request: &PublishPresetRequest) -> Call<String> {
        let ask = Ask::post(&["policies", "presets", "publish"], request);
        Call::one(&self.net, ask, |conn, ask| async move {
            conn.json::<PresetId>(&ask)
                .await
                .map(|answer| answer.preset_id)
        })
    }

    /// Makes an own policy of a published one and learns its id: `POST /policies/presets/{id}/clone`.
    pub fn clone_preset(&self, preset_id: &str) -> Call<String> {
        let ask = segment("preset_id", preset_id)
            .and_then(|id| Ask::post(&["policies", "presets", id, "clone"], &json!({})));
        Call::one(&self.net, ask, |conn, ask| async move {
            conn.json::<PolicyId>(&ask)
                .await
                .map(|answer| answer.policy_id)
        })
    }
}

/// Wraps a request, without the detour over a value that would swallow numbers which JSON has not.
fn json_with<'a, T: Serialize>(name: &'static str, value: &'a T) -> BTreeMap<&'static str, &'a T> {
    BTreeMap::from([(name, value)])
}

fn needs(field: &str, given: bool, wanted: &str) -> Result<(), Error> {
    if given {
        Ok(())
    } else {
        Err(Error::bad_request(field, "absent", &format!("it {wanted}")))
    }
}
