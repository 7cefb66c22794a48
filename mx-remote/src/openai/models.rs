//! The models of a server, and what kind of server it is.

use super::OpenAi;
use super::kind::ServerKind;
use crate::call::Call;
use crate::error::Result;
use crate::http::{Ask, Conn, segment};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The first version of vLLM with `structured_outputs`.
const STRUCTURED_OUTPUTS: (u64, u64) = (0, 11);

/// A model that a server offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferedModel {
    /// Its name.
    pub id: String,
    /// Who the server says it belongs to, which often is the server's own name.
    #[serde(default)]
    pub owned_by: Option<String>,
    /// Whatever else the server says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a server turned out to be.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Detected {
    /// Its kind, if it gave itself away.
    pub kind: Option<ServerKind>,
    /// Its version, if it told.
    pub version: Option<String>,
    /// Its models.
    pub models: Vec<OfferedModel>,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<OfferedModel>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

impl OpenAi {
    /// The models on offer: `GET /models`.
    pub fn models(&self) -> Call<Vec<OfferedModel>> {
        Call::one(
            &self.net,
            Ok(Ask::get(&["models"])),
            |conn, ask| async move { list(&conn, &ask).await },
        )
    }

    /// A model by its name: `GET /models/{id}`.
    pub fn model(&self, id: &str) -> Call<OfferedModel> {
        let ask = segment("model", id).map(|id| Ask::get(&["models", id]));
        Call::one(
            &self.net,
            ask,
            |conn, ask| async move { conn.json(&ask).await },
        )
    }

    /// Finds out what kind of server this is, by what it says about its models; of a vLLM also the version, on which
    /// the names of its constraints depend. Use [`with_kind`](OpenAi::with_kind) with the result.
    pub fn detect(&self) -> Call<Detected> {
        Call::many(&self.net, |conn| async move {
            let models = list(&conn, &Ask::get(&["models"])).await?;
            let mut kind = models.iter().find_map(|m| owner(m.owned_by.as_deref()?));
            let mut version = None;
            if kind == Some(ServerKind::Vllm) {
                version = match conn.json::<Version>(&Ask::get(&["version"]).above()).await {
                    Ok(answer) => Some(answer.version),
                    Err(error) if error.is_cancelled() || error.is_connection() => {
                        return Err(error);
                    }
                    // A proxy may hide it; then the current form is the best guess.
                    Err(_) => None,
                };
                if version
                    .as_deref()
                    .is_some_and(|v| parse(v) < STRUCTURED_OUTPUTS)
                {
                    kind = Some(ServerKind::VllmLegacy);
                }
            }
            Ok(Detected {
                kind,
                version,
                models,
            })
        })
    }
}

async fn list(conn: &Conn, ask: &Ask) -> Result<Vec<OfferedModel>> {
    conn.json::<ModelList>(ask).await.map(|list| list.data)
}

fn owner(name: &str) -> Option<ServerKind> {
    match name {
        "vllm" => Some(ServerKind::Vllm),
        "sglang" => Some(ServerKind::Sglang),
        "llamacpp" => Some(ServerKind::LlamaServer),
        "me" => Some(ServerKind::LlamaCppPython),
        "openai" | "openai-internal" | "system" => Some(ServerKind::OpenAi),
        _ => None,
    }
}

/// Major and minor version; the newest when they cannot be read, as in builds from a repository.
fn parse(version: &str) -> (u64, u64) {
    let mut parts = version
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => (u64::MAX, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert!(parse("0.10.2") < STRUCTURED_OUTPUTS);
        assert!(parse("0.11.0") >= STRUCTURED_OUTPUTS);
        assert!(parse("v1.2") >= STRUCTURED_OUTPUTS);
        assert!(parse("dev") >= STRUCTURED_OUTPUTS);
    }
}
