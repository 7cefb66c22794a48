//! Behaviours that the service watches for.

use super::{Axionic, listed};
use crate::call::Call;
use crate::http::{Ask, segment};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Examples of a behaviour.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BehaviorRequest {
    /// Its name.
    pub behavior_name: String,
    /// The text before each answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Vec<String>>,
    /// Continuations that show it.
    pub positive_answers: Vec<String>,
    /// Continuations that do not.
    pub negative_answers: Vec<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The vector that corrects it; one is made without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steering_vector_id: Option<String>,
    /// Layers in which it is looked for; the service's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_names: Option<Vec<String>>,
    /// Fields that this version does not know; they are sent as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A behaviour that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreatedBehavior {
    /// Its id.
    pub id: String,
    /// The vector that corrects it.
    pub steering_vector_id: String,
    /// Where its baseline is kept.
    pub sae_baseline_path: String,
    /// When it was made.
    pub created_at: String,
    /// The model it was made for.
    #[serde(default)]
    pub model_id: Option<String>,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A behaviour that the service keeps, as an object: the contract does not name its fields.
pub type Behavior = Map<String, Value>;

/// Behaviours whose baselines are to be computed again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RecomputeRequest {
    /// The model.
    pub model_id: String,
    /// The behaviours; all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior_ids: Option<Vec<String>>,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecomputeAnswer {
    /// The model.
    pub model_id: String,
    /// Behaviours looked at.
    pub total: i64,
    /// Baselines computed.
    pub succeeded: i64,
    /// Baselines that could not be computed.
    pub failed: i64,
    /// Behaviours passed over.
    pub skipped: i64,
    /// One by one.
    pub results: Vec<RecomputeResult>,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What became of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecomputeResult {
    /// Its id.
    pub behavior_id: String,
    /// Its name.
    pub behavior_name: String,
    /// What became of it.
    pub status: String,
    /// Where its baseline is kept.
    #[serde(default)]
    pub baseline_path: Option<String>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Axionic {
    /// Makes a behaviour: `POST /behaviors/create`.
    pub fn create_behavior(&self, request: &BehaviorRequest) -> Call<CreatedBehavior> {
        self.json(Ask::post(&["behaviors", "create"], request))
    }

    /// The behaviours: `GET /behaviors`.
    pub fn behaviors(&self) -> Call<Vec<Behavior>> {
        let ask = Ask::get(&["behaviors"]);
        // The published client wants a list, the contract an object.
        Call::one(&self.net, Ok(ask), |conn, ask| async move {
            listed(&conn, &ask, "behaviors").await
        })
    }

    /// Gives a behaviour another name: `PATCH /behaviors/{id}/rename`.
    pub fn rename_behavior(&self, behavior_id: &str, name: &str) -> Call<()> {
        let ask = segment("behavior_id", behavior_id).and_then(|id| {
            let mut ask = Ask::post(
                &["behaviors", id, "rename"],
                &json!({"behavior_name": name}),
            )?;
            ask.method = Method::PATCH;
            Ok(ask.repeatable())
        });
        self.done(ask)
    }

    /// Computes baselines again: `POST /behaviors/recompute-baselines`.
    pub fn recompute_baselines(&self, request: &RecomputeRequest) -> Call<RecomputeAnswer> {
        self.json(Ask::post(&["behaviors", "recompute-baselines"], request))
    }
}
