//! The native service: generation, policies, steering, behaviours, models, account.

mod account;
mod behaviors;
mod generate;
mod job;
mod models;
mod nullable;
mod policies;
mod policy;
mod steering;

pub(crate) use account::refresh;
pub use account::{AccountUser, ApiKeyItem, AuthAnswer, LoggedIn};
pub use behaviors::{
    Behavior, BehaviorRequest, CreatedBehavior, RecomputeAnswer, RecomputeRequest, RecomputeResult,
};
pub use generate::{
    BehaviorText, Generated, RunRequest, RunSteeredRequest, SaeRunRequest, Sampled, SamplingRequest,
};
pub use job::JobEvent;
pub use models::{GraphNode, HostedModel, SetModel};
pub use nullable::Nullable;
pub use policies::{
    AutoTuneAnswer, AutoTuneRequest, CompareRequest, EvaluatePolicyAnswer, EvaluatePolicyRequest,
    PolicyPreset, PolicyRun, PolicyRunRequest, PolicyTrial, PublishPresetRequest,
};
pub use policy::{
    ConstraintControls, ModelTarget, Objective, OptimizationControls, Policy, SamplingControls,
    SteeringControls, TaskProfile, VerifierControls,
};
pub use steering::{
    CreatedVector, EvaluateVectorAnswer, EvaluateVectorRequest, LayerValues, Pairs, PairsRequest,
    SteeringRequest, StoredVector, VectorLayers,
};

use crate::call::{Call, StreamCall};
use crate::credentials::{CredentialStore, Credentials, Keyring, Surroundings};
use crate::error::{Error, MAX_MESSAGE_BYTES, Result};
use crate::http::{Ask, Conn, Net};
use crate::openai::{OpenAi, ServerKind};
use crate::options::Transport;
use crate::secret::{Secret, clean};
use crate::stream::Events;
use job::Job;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// Where the native service is when nothing else is said.
pub const DEFAULT_BASE_URL: &str = "https://api.axioniclabs.ai";

/// A client of the native service. Cloning is cheap, and clones share connections and session.
///
/// Every method returns a [`Call`]: `await` it, or [`wait`](Call::wait) for it.
#[derive(Debug, Clone)]
pub struct Axionic {
    net: Arc<Net>,
}

/// What an [`Axionic`] client is made of.
#[derive(Debug)]
pub struct AxionicOptions {
    /// The service's address; [`DEFAULT_BASE_URL`].
    pub base_url: String,
    /// Key and session.
    pub credentials: Credentials,
    /// The file in which a new key or session is kept; without one they last as long as the client.
    pub store: Option<CredentialStore>,
    /// Whether requests may go out without any credential, as to a server of one's own; `false`.
    pub anonymous: bool,
    /// How requests travel.
    pub transport: Transport,
}

impl Default for AxionicOptions {
    fn default() -> Self {
        AxionicOptions {
            base_url: DEFAULT_BASE_URL.to_owned(),
            credentials: Credentials::default(),
            store: None,
            anonymous: false,
            transport: Transport::default(),
        }
    }
}

impl AxionicOptions {
    /// Options with a key and nothing from the surroundings.
    pub fn with_key(key: impl Into<Secret>) -> Self {
        AxionicOptions {
            credentials: Credentials::key(key),
            ..AxionicOptions::default()
        }
    }

    /// Options as the vendor's client finds them: the key as [`Credentials::find`] does, the address from the
    /// surroundings, new keys and sessions kept in the credentials file.
    ///
    /// # Errors
    ///
    /// As for [`Credentials::find`].
    pub fn find(key: Option<Secret>, around: &Surroundings) -> Result<Self> {
        Ok(AxionicOptions {
            base_url: around
                .base_url
                .clone()
                .unwrap_or_else(|| DEFAULT_BASE_URL.to_owned()),
            credentials: Credentials::find(key, around)?,
            store: around.store.clone(),
            ..AxionicOptions::default()
        })
    }
}

impl Axionic {
    /// A client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::BadOption`] for an option that makes no sense, [`Error::Client`] when the system has no certificates.
    pub fn new(options: AxionicOptions) -> Result<Self> {
        let AxionicOptions {
            base_url,
            credentials,
            store,
            anonymous,
            transport,
        } = options;
        let keys = Keyring::native(credentials, store, anonymous)?;
        Ok(Axionic {
            net: Net::new(&base_url, transport, keys)?,
        })
    }

    /// The service's address.
    pub fn base_url(&self) -> &str {
        self.net.base.as_str()
    }

    /// Whether there is a key or a session.
    pub fn has_credentials(&self) -> bool {
        self.net.keys.has_any()
    }

    /// Uses another key from now on; `persist` keeps it in the credentials file, too.
    ///
    /// # Errors
    ///
    /// [`Error::BadOption`] for a key that no header can carry.
    pub fn set_key(&self, key: impl Into<Secret>, persist: bool) -> Result<()> {
        self.net.keys.set_key(key.into(), persist)
    }

    /// Why a new key or session could not be kept in the credentials file, if it could not. It is told once; the call
    /// that brought the key or session has succeeded.
    pub fn take_store_problem(&self) -> Option<Error> {
        self.net.keys.take_store_problem()
    }

    /// A client of the service's OpenAI-compatible surface, with the key of now.
    ///
    /// # Errors
    ///
    /// [`Error::MissingCredentials`] without a key or session.
    pub fn openai(&self) -> Result<OpenAi> {
        let picked = self.net.keys.known().into_iter().next();
        let Some(key) = picked else {
            return Err(Error::MissingCredentials { path: "/v1".into() });
        };
        let mut base = self.net.base.clone();
        if let Ok(mut path) = base.path_segments_mut() {
            path.pop_if_empty().push("v1");
        }
        OpenAi::new(crate::openai::OpenAiOptions {
            base_url: base.to_string(),
            key: Some(key),
            kind: ServerKind::Axionic,
            transport: self.net.transport.clone(),
        })
    }

    fn json<T: DeserializeOwned + Send + 'static>(&self, ask: Result<Ask>) -> Call<T> {
        Call::one(
            &self.net,
            ask,
            |conn, ask| async move { conn.json(&ask).await },
        )
    }

    /// For answers of which nothing but success matters.
    fn done(&self, ask: Result<Ask>) -> Call<()> {
        Call::one(&self.net, ask, |conn, ask| async move {
            conn.any(&ask).await.map(|_| ())
        })
    }

    fn job<T: DeserializeOwned + Send + 'static>(&self, ask: Result<Ask>) -> Call<T> {
        Call::one(&self.net, ask.map(Ask::streamed), |conn, ask| async move {
            let opened = conn.events(&ask).await?;
            let decode = Job::<T>::new(conn.net.keys.known());
            job::result(Events::new(
                opened,
                &conn.net.transport.limits,
                Box::new(decode),
            )?)
            .await
        })
    }

    fn job_events<T: DeserializeOwned + Send + 'static>(
        &self,
        ask: Result<Ask>,
    ) -> StreamCall<JobEvent<T>> {
        StreamCall(Call::one(
            &self.net,
            ask.map(Ask::streamed),
            |conn, ask| async move {
                let opened = conn.events(&ask).await?;
                let decode = Job::<T>::new(conn.net.keys.known());
                Events::new(opened, &conn.net.transport.limits, Box::new(decode))
            },
        ))
    }
}

/// A list, bare or as a field of an object: servers write both.
async fn listed<T: DeserializeOwned>(conn: &Conn, ask: &Ask, field: &str) -> Result<Vec<T>> {
    let list = match conn.json(ask).await? {
        Value::Object(mut object) => object.remove(field).unwrap_or_default(),
        other => other,
    };
    serde_json::from_value(list).map_err(|error| {
        let error = clean(
            &error.to_string(),
            &conn.net.keys.known(),
            MAX_MESSAGE_BYTES,
        );
        Error::bad_answer(
            conn.net.base.as_str(),
            format!("no list of {field}: {error}"),
        )
    })
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod contract_tests;
