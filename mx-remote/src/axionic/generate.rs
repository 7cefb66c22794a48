//! Generation: `/generate`, `/steering/run`, `/sampling/generate`, `/sae/generate`.

use super::{Axionic, JobEvent, Policy};
use crate::call::{Call, StreamCall};
use crate::http::Ask;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A plain generation. What is not given has the service's default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunRequest {
    /// The text to continue.
    pub prompt: String,
    /// Most tokens to generate; 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The sampling method's name; `top-k`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_method: Option<String>,
    /// Temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Keeps the most likely tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// Keeps the smallest set of tokens with this mass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Candidates per step of ads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ads_subset_size: Option<i64>,
    /// Quality against diversity of ads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ads_beta: Option<f64>,
    /// A stored vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steering_vector_id: Option<String>,
    /// Multiplier of the vector; 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steering_strength: Option<f64>,
    /// Fields that this version does not know; they are sent as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl RunRequest {
    /// A request with everything left to the service.
    pub fn new(prompt: impl Into<String>) -> Self {
        RunRequest {
            prompt: prompt.into(),
            ..RunRequest::default()
        }
    }
}

/// A steered generation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunSteeredRequest {
    /// Multiplier of the vector; 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<f64>,
    /// The rest.
    #[serde(flatten)]
    pub run: RunRequest,
}

/// A generation of which the answer says what method was used.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SamplingRequest {
    /// The text to continue.
    pub prompt: String,
    /// The sampling method's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The method's parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Map<String, Value>>,
    /// Most tokens to generate; 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
    /// The schema that the output must satisfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Map<String, Value>>,
    /// The pattern that the output must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex_pattern: Option<String>,
    /// The grammar that the output must follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<String>,
    /// The small model of ssd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft_model: Option<String>,
    /// Models of ensemble-sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ensemble_models: Option<Vec<String>>,
    /// Candidates of which the best wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_of_n: Option<u32>,
    /// A policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// A saved policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
    /// Fields that this version does not know; they are sent as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A generation under watch of behaviours.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SaeRunRequest {
    /// The text to continue.
    pub prompt: String,
    /// Most tokens to generate; 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
    /// The behaviours that are watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior_names: Option<Vec<String>>,
    /// The behaviours whose vector is always applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_steering: Option<Vec<String>>,
    /// Fields that this version does not know; they are sent as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The result of a generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// The text.
    pub output: String,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The result of a generation that names its method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// The text.
    pub output: String,
    /// The method that was really used.
    pub method_used: String,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The result of a generation under watch of behaviours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BehaviorText {
    /// The text.
    pub text: String,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Axionic {
    /// Generates text: `POST /generate`.
    pub fn generate(&self, request: &RunRequest) -> Call<Generated> {
        self.job(Ask::post(&["generate"], request))
    }

    /// As [`generate`](Self::generate), with the reports on the way.
    pub fn generate_events(&self, request: &RunRequest) -> StreamCall<JobEvent<Generated>> {
        self.job_events(Ask::post(&["generate"], request))
    }

    /// Generates steered text: `POST /steering/run`.
    pub fn run_steered(&self, request: &RunSteeredRequest) -> Call<Generated> {
        self.job(Ask::post(&["steering", "run"], request))
    }

    /// Generates text and learns what method was used: `POST /sampling/generate`.
    pub fn sample(&self, request: &SamplingRequest) -> Call<Sampled> {
        self.json(Ask::post(&["sampling", "generate"], request))
    }

    /// Generates text under watch of behaviours: `POST /sae/generate`.
    pub fn generate_with_behaviors(&self, request: &SaeRunRequest) -> Call<BehaviorText> {
        self.job(Ask::post(&["sae", "generate"], request))
    }

    /// As [`generate_with_behaviors`](Self::generate_with_behaviors), with the reports on the way.
    pub fn generate_with_behaviors_events(
        &self,
        request: &SaeRunRequest,
    ) -> StreamCall<JobEvent<BehaviorText>> {
        self.job_events(Ask::post(&["sae", "generate"], request))
    }
}
