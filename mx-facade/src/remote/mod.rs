//! The remote route: the same request, answered by a server.
//!
//! A request is put into the server's own words by mx-remote. What a server cannot be told is refused before anything is
//! sent, with the name of the field.

pub(crate) mod native;
mod openai;

use crate::error::Error;
use crate::generation::{FinishReason, Generation, Route, Usage, Warning};
use crate::request::{GenerateRequest, Method, Origin, Setting};
use mx_remote::{Axionic, AxionicOptions, OpenAi, OpenAiOptions, Secret, ServerKind};
use mx_runtime::engine::EngineInfo;
use mx_sampling::SamplingOptions;
use serde_json::{Map, Value};

/// Where remote requests go.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    /// The vendor's own protocol.
    Native(Axionic),
    /// OpenAI's protocol, and the model's name there.
    OpenAi(OpenAi, String),
}

/// How a server is found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Address {
    pub(crate) base_url: Option<String>,
    pub(crate) key: Option<Secret>,
    pub(crate) kind: Option<ServerKind>,
    pub(crate) model: Option<String>,
}

impl Address {
    /// A client of this server; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Remote`] for an address that cannot be used.
    pub(crate) fn open(&self) -> Result<Server, Error> {
        let Some(kind) = self.kind else {
            let mut options = AxionicOptions::default();
            if let Some(key) = &self.key {
                options = AxionicOptions::with_key(key.clone());
            }
            if let Some(url) = &self.base_url {
                options.base_url.clone_from(url);
            }
            return Ok(Server::Native(Axionic::new(options)?));
        };
        let url = self
            .base_url
            .as_deref()
            .ok_or_else(|| Error::request("base_url", "absent", "the address of the server"))?;
        let mut options = OpenAiOptions::new(url, kind);
        options.key.clone_from(&self.key);
        let model = self.model.clone().unwrap_or_default();
        Ok(Server::OpenAi(OpenAi::new(options)?, model))
    }
}

impl Server {
    /// Answers a request.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what the server cannot be told, [`Error::Remote`] for what went wrong there.
    pub(crate) fn generate(
        &self,
        request: &GenerateRequest,
        seed: impl FnOnce() -> u64,
    ) -> Result<Generation, Error> {
        if let Some(field) = request.unknown.keys().next() {
            return Err(Error::UnknownField {
                field: field.clone(),
            });
        }
        request.constraints.check()?;
        match self {
            Server::Native(client) => native::generate(client, request),
            Server::OpenAi(client, model) => openai::generate(client, model, request, seed),
        }
    }
}

/// Refuses a field that is given.
fn refuse(given: bool, field: &str, reason: &str) -> Result<(), Error> {
    match given {
        true => Err(Error::unsupported(
            format!("{field} on the remote route"),
            reason,
        )),
        false => Ok(()),
    }
}

/// The sampling parameters to send: those given, completed by what a method needs that was named.
fn sampling(request: &GenerateRequest) -> SamplingOptions {
    match request.sampling_method {
        Some(Method::Greedy) => SamplingOptions {
            temperature: Some(0.0),
            ..request.sampling.clone()
        },
        Some(method) => request
            .sampling
            .or(&method.options(&SamplingOptions::default())),
        None => request.sampling.clone(),
    }
}

/// What was set, by name.
fn named(options: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// What an answer of a server has.
struct Answer {
    text: String,
    finish_reason: Option<String>,
    choices: Vec<crate::Choice>,
    usage: Usage,
    seed: u64,
    method: Option<Method>,
    model: String,
    /// The protocol and the address.
    server: (&'static str, String),
    settings: Map<String, Value>,
    warnings: Vec<Warning>,
}

impl Answer {
    fn into_generation(self) -> Generation {
        let mut warnings = self.warnings;
        let finish_reason = match self.finish_reason.as_deref() {
            Some("length") => FinishReason::Length,
            Some("stop" | "eos") | None => FinishReason::Stop,
            Some(other) => {
                let message = format!("the server ended the text for the reason {other:?}");
                warnings.push(Warning::new("finish_reason", message));
                FinishReason::Stop
            }
        };
        let (protocol, address) = self.server;
        Generation {
            text: self.text,
            tokens: Vec::new(),
            finish_reason,
            stop_text: None,
            logprobs: Vec::new(),
            choices: self.choices,
            usage: self.usage,
            seed: self.seed,
            method: self.method.unwrap_or_default(),
            route: Route::Remote,
            model: self.model,
            engine: EngineInfo::new(protocol, address, "remote".to_owned()),
            warnings,
            settings: self
                .settings
                .into_iter()
                .map(|(name, value)| Setting {
                    name,
                    value,
                    origin: Origin::Request,
                })
                .collect(),
            trace: None,
            policy: None,
        }
    }
}
