//! Setting up a client.

use super::{Client, Local};
use crate::policy::{CodeLimits, PolicyStore};
use crate::remote::Address;
use crate::route::{ExecutionMode, Fallback};
use mx_remote::{
    BASE_URL_VARIABLE, CredentialStore, KEY_VARIABLE, Secret, ServerKind, Surroundings,
};
use std::path::Path;

/// Sets up a [`Client`].
#[derive(Debug, Default)]
pub struct ClientBuilder {
    address: Address,
    mode: ExecutionMode,
    fallback: Fallback,
    pub(super) local: Local,
    policies: PolicyStore,
    code: Option<CodeLimits>,
}

impl ClientBuilder {
    /// The key of the remote service.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.address.key = Some(Secret::new(key));
        self
    }

    /// Address of the remote service.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.address.base_url = Some(url.into());
        self
    }

    /// The remote service is a server of this kind that speaks OpenAI's protocol, at the [base URL](Self::base_url);
    /// `model` is the model's name there. Without it the service speaks the vendor's own protocol.
    pub fn server(mut self, kind: ServerKind, model: impl Into<String>) -> Self {
        self.address.kind = Some(kind);
        self.address.model = Some(model.into());
        self
    }

    /// Where requests run.
    pub fn mode(mut self, mode: ExecutionMode) -> Self {
        self.mode = mode;
        self
    }

    /// What to do when a remote call fails.
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// Where policies are kept; without one in memory.
    pub fn policies(mut self, policies: PolicyStore) -> Self {
        self.policies = policies;
        self
    }

    /// Lets the verifiers `code_compile` and `unit_tests` run generated code in a process of its own, within these
    /// limits. They are no container: code of an attacker belongs into one.
    pub fn allow_code_execution(mut self, limits: CodeLimits) -> Self {
        self.code = Some(limits);
        self
    }

    /// Takes everything from environment variables, as the program `mx` does: key and address of the remote service from
    /// `MECHANEX_API_KEY`, else the file `.mechanex/config.json` in `$HOME`, and `MECHANEX_BASE_URL`; the folders of
    /// models, vectors and policies as [`home`](crate::home) says, and what concerns fetching models. What was set by
    /// [`key`](Self::key) and [`base_url`](Self::base_url) goes before.
    pub fn from_env(mut self, env: &dyn Fn(&str) -> Option<String>) -> Self {
        if let Some(folder) = crate::home::policies_dir(env) {
            self.policies = PolicyStore::new(folder);
        }
        self.address.around = surroundings(env);
        self.local.take_env(env);
        self
    }

    /// The client. Nothing is loaded or fetched yet.
    pub fn build(self) -> Client {
        Client {
            address: self.address,
            mode: self.mode,
            fallback: self.fallback,
            local: self.local,
            policies: self.policies,
            code: self.code,
        }
    }
}

/// What the environment says about the vendor's service.
fn surroundings(env: &dyn Fn(&str) -> Option<String>) -> Surroundings {
    let read = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    Surroundings {
        key: read(KEY_VARIABLE).map(|key| Secret::new(key.trim())),
        base_url: read(BASE_URL_VARIABLE),
        store: read("HOME").map(|home| CredentialStore::in_home(Path::new(&home))),
    }
}
