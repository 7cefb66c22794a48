//! Steering vectors on the service.

use super::Axionic;
use crate::call::{Call, StreamCall};
use crate::http::{Ask, Auth, Repeat, segment};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Contrastive examples from which a vector is made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SteeringRequest {
    /// The text before each answer.
    pub prompts: Vec<String>,
    /// Wanted continuations.
    pub positive_answers: Vec<String>,
    /// Unwanted continuations. The service wants the field, but takes null.
    pub negative_answers: Option<Vec<String>>,
    /// Layers; the service's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_idxs: Option<Vec<i64>>,
    /// `caa`, `few-shot` or another that the service has; `caa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// A category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Steps of few-shot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fewshot_iterations: Option<i64>,
    /// Learning rate of few-shot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fewshot_lr: Option<f64>,
    /// Steps of the refinement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refine_steps: Option<i64>,
    /// Learning rate of the refinement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refine_lr: Option<f64>,
    /// Below it a component is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity_threshold: Option<f64>,
    /// Fields that this version does not know; they are sent as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A vector that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreatedVector {
    /// Its id.
    pub steering_vector_id: String,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A vector's values by layer: the layer's number, or the path of a hook.
pub type VectorLayers = BTreeMap<String, LayerValues>;

/// The values of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LayerValues {
    /// One vector, of shape `[d_model]`.
    Row(Vec<f32>),
    /// Several, of shape `[rows, d_model]`.
    Rows(Vec<Vec<f32>>),
}

/// A persona for which the service writes contrastive examples.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PairsRequest {
    /// Its name.
    pub persona_name: String,
    /// What it is like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona_description: Option<String>,
    /// What its opposite is like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_description: Option<String>,
    /// Pairs wanted; 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_pairs: Option<u32>,
    /// Pairs written at once; 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
}

/// Contrastive examples that the service wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pairs {
    /// The persona's name.
    pub persona: String,
    /// What it is like.
    pub persona_description: String,
    /// How many there are.
    pub total_pairs: i64,
    /// The pairs, in the service's form.
    pub pairs: Vec<Map<String, Value>>,
    /// Their mean score.
    pub avg_final_score: f64,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A test of a vector.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EvaluateVectorRequest {
    /// The vector.
    pub steering_vector_id: String,
    /// Texts that have what it stands for.
    pub positive_texts: Vec<String>,
    /// Texts that have not.
    pub negative_texts: Vec<String>,
    /// Prompts on which a judge compares steered with plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_prompts: Option<Vec<String>>,
    /// What the judge looks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona_description: Option<String>,
    /// Multiplier of the vector; 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<f64>,
    /// The judge; the service's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_model: Option<String>,
}

/// How a vector did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluateVectorAnswer {
    /// How well it tells the texts apart.
    pub cosine_metrics: Map<String, Value>,
    /// What the judge says, if there was one.
    #[serde(default)]
    pub judge_evaluation: Option<Map<String, Value>>,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A vector that the service keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredVector {
    /// Its id.
    pub id: String,
    /// The model it was made for.
    pub model_name: String,
    /// How it was made.
    pub method: String,
    /// A name for people.
    #[serde(default)]
    pub name: Option<String>,
    /// A label.
    #[serde(default)]
    pub label: Option<String>,
    /// A category.
    #[serde(default)]
    pub category: Option<String>,
    /// The places in the model that it has values for.
    #[serde(default)]
    pub nodes: Option<Vec<String>>,
    /// When it was made.
    pub created_at: String,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Axionic {
    /// Makes a vector: `POST /steering/generate`.
    pub fn create_vector(&self, request: &SteeringRequest) -> Call<CreatedVector> {
        self.job(Ask::post(&["steering", "generate"], request))
    }

    /// As [`create_vector`](Self::create_vector), with the reports on the way.
    pub fn create_vector_events(
        &self,
        request: &SteeringRequest,
    ) -> StreamCall<super::JobEvent<CreatedVector>> {
        self.job_events(Ask::post(&["steering", "generate"], request))
    }

    /// Has contrastive examples written: `POST /steering/generate-pairs`.
    pub fn create_pairs(&self, request: &PairsRequest) -> Call<Pairs> {
        self.json(Ask::post(&["steering", "generate-pairs"], request))
    }

    /// Tests a vector: `POST /steering/evaluate`.
    pub fn evaluate_vector(&self, request: &EvaluateVectorRequest) -> Call<EvaluateVectorAnswer> {
        self.json(Ask::post(&["steering", "evaluate"], request))
    }

    /// Downloads a vector's values: `GET /steering/vectors/{id}/download`.
    pub fn download_vector(&self, vector_id: &str) -> Call<VectorLayers> {
        let ask = segment("vector_id", vector_id)
            .map(|id| Ask::get(&["steering", "vectors", id, "download"]));
        Call::one(&self.net, ask, |conn, ask| async move {
            conn.json_file(&ask).await
        })
    }

    /// The account's vectors: `GET /auth/steering-vectors`.
    pub fn vectors(&self) -> Call<Vec<StoredVector>> {
        self.json(Ok(
            Ask::get(&["auth", "steering-vectors"]).with_auth(Auth::Account)
        ))
    }

    /// Gives a vector another label, or none: `PATCH /auth/steering-vectors/{id}`.
    pub fn relabel_vector(&self, vector_id: &str, label: Option<&str>) -> Call<()> {
        let ask = segment("vector_id", vector_id).and_then(|id| {
            let mut ask = Ask::post(&["auth", "steering-vectors", id], &json!({"label": label}))?;
            ask.method = Method::PATCH;
            Ok(ask.repeatable().with_auth(Auth::Account))
        });
        self.done(ask)
    }

    /// Deletes a vector: `DELETE /auth/steering-vectors/{id}`.
    pub fn delete_vector(&self, vector_id: &str) -> Call<()> {
        let ask = segment("vector_id", vector_id).map(|id| {
            Ask::new(
                Method::DELETE,
                &["auth", "steering-vectors", id],
                Repeat::Safe,
            )
            .with_auth(Auth::Account)
        });
        self.done(ask)
    }

    /// Deletes several vectors: `POST /auth/steering-vectors/bulk-delete`.
    pub fn delete_vectors(&self, vector_ids: &[String]) -> Call<()> {
        let ask = Ask::post(
            &["auth", "steering-vectors", "bulk-delete"],
            &json!({"vector_ids": vector_ids}),
        );
        self.done(ask.map(|ask| ask.repeatable().with_auth(Auth::Account)))
    }
}
