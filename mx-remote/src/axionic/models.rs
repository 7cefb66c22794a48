//! The service's models, the graph of the chosen one, and the service's health.

use super::{Axionic, listed};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::http::{Ask, Auth, Conn, segment};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Names that an error lists.
const MAX_LISTED: usize = 64;

/// A model that the service offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostedModel {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub description: Option<String>,
    /// Its name at the hub.
    #[serde(default)]
    pub hf_model_name: Option<String>,
    /// Its sparse autoencoders.
    #[serde(default)]
    pub sae_release_id: Option<String>,
    /// Whether it is the default.
    #[serde(default)]
    pub is_default: bool,
    /// Whether it can be used.
    #[serde(default)]
    pub is_active: bool,
    /// Whether it can be trained.
    #[serde(default)]
    pub trainable: bool,
    /// Whether it can only generate.
    #[serde(default)]
    pub inference_only: bool,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A place in a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphNode {
    /// Its name, such as `blocks.6.hook_resid_post`.
    pub name: String,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A choice of model that the service has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetModel {
    /// Whether the name was found in the list. `false` when the list could not be had.
    pub checked: bool,
}

#[derive(Deserialize)]
struct Graph {
    graph: Vec<GraphNode>,
}

impl Axionic {
    /// The models on offer, all or those that can be trained: `GET /models`.
    pub fn models(&self, trainable: Option<bool>) -> Call<Vec<HostedModel>> {
        let mut ask = Ask::get(&["models"]);
        if let Some(trainable) = trainable {
            ask.query.push(("trainable", trainable.to_string()));
        }
        Call::one(&self.net, Ok(ask), |conn, ask| async move {
            models(&conn, &ask).await
        })
    }

    /// Chooses the model of the key: `POST /auth/api-keys/set-model`. A name that is not on offer is refused before; it
    /// may be a model's name, id, or name at the hub.
    pub fn set_model(&self, name: &str) -> Call<SetModel> {
        let name = segment("model_name", name).map(str::to_owned);
        Call::many(&self.net, |conn| async move {
            let name = name?;
            let checked = match models(&conn, &Ask::get(&["models"])).await {
                Ok(models) => check(&name, &models).map(|()| true)?,
                // Without a list the service itself decides.
                Err(Error::NotFound(_) | Error::Api(_) | Error::BadAnswer { .. }) => false,
                Err(error) => return Err(error),
            };
            conn.any(&choose(&name)?).await?;
            Ok(SetModel { checked })
        })
    }

    /// The places in the chosen model: `GET /graph`.
    pub fn graph(&self) -> Call<Vec<GraphNode>> {
        Call::one(
            &self.net,
            Ok(Ask::get(&["graph"])),
            |conn, ask| async move { conn.json::<Graph>(&ask).await.map(|answer| answer.graph) },
        )
    }

    /// Whether the service is well, in its own words: `GET /health`.
    pub fn health(&self) -> Call<Value> {
        let ask = Ask::get(&["health"]).with_auth(Auth::None);
        Call::one(&self.net, Ok(ask), |conn, ask| async move {
            conn.any(&ask).await
        })
    }

    /// The service's figures, as text: `GET /metrics`.
    pub fn metrics(&self) -> Call<String> {
        let ask = Ask::get(&["metrics"]).with_auth(Auth::None);
        Call::one(&self.net, Ok(ask), |conn, ask| async move {
            conn.text(&ask).await
        })
    }
}

/// The request that chooses a model.
pub(super) fn choose(name: &str) -> Result<Ask> {
    let ask = Ask::post(
        &["auth", "api-keys", "set-model"],
        &json!({"model_name": name}),
    )?;
    Ok(ask.repeatable().with_auth(Auth::Account))
}

async fn models(conn: &Conn, ask: &Ask) -> Result<Vec<HostedModel>> {
    listed(conn, ask, "models").await
}

fn check(name: &str, models: &[HostedModel]) -> Result<()> {
    let names = |m: &HostedModel| {
        m.name == name || m.id == name || m.hf_model_name.as_deref() == Some(name)
    };
    if models.iter().any(names) {
        return Ok(());
    }
    Err(Error::UnknownModel {
        given: name.to_owned(),
        known: models
            .iter()
            .take(MAX_LISTED)
            .map(|m| m.name.clone())
            .collect(),
    })
}
