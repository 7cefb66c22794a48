//! The remote route: the same request, answered by a server.
//!
//! A request is put into the server's own words by mx-remote. What a server cannot be told is refused before anything is
//! sent, with the name of the field.

mod conformance;
pub(crate) mod native;
mod openai;

pub(crate) use openai::LARGEST_SEED;

use crate::error::Error;
use crate::generation::{
    Choice, Chunk, EngineInfo, FinishReason, Generation, Route, Usage, Warning,
};
use crate::request::{GenerateRequest, Method, Origin, Setting};
use conformance::Conformance;
use mx_remote::{
    Axionic, AxionicOptions, Cancel, Credentials, OpenAi, OpenAiOptions, Secret, ServerKind,
    Surroundings,
};
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
    /// Where the key of the vendor's service is looked for when none is given.
    pub(crate) around: Surroundings,
}

impl Address {
    /// Whether there is anything to send a request to: a named server, or a key of the vendor's service.
    ///
    /// # Errors
    /// [`Error::Remote`] for a credentials file that cannot be read.
    pub(crate) fn is_known(&self) -> Result<bool, Error> {
        if self.kind.is_some() || self.key.is_some() {
            return Ok(true);
        }
        Ok(!Credentials::find(None, &self.around)?.is_empty())
    }

    /// A client of this server; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Remote`] for an address that cannot be used.
    pub(crate) fn open(&self) -> Result<Server, Error> {
        let Some(kind) = self.kind else {
            let mut options = AxionicOptions::find(self.key.clone(), &self.around)?;
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
    /// Protocol and address, for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Server::Native(client) => format!("axionic, {}", client.base_url()),
            Server::OpenAi(client, model) => {
                format!("{model} on {}, {}", client.kind().name(), client.base_url())
            }
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what the server cannot be told, [`Error::Remote`] for what went wrong there.
    pub(crate) fn generate(
        &self,
        request: &GenerateRequest,
        seed: impl FnOnce() -> u64,
        cancel: Cancel,
    ) -> Result<Generation, Error> {
        request.known()?;
        request.constraints.check()?;
        match self {
            Server::Native(client) => native::generate(client, request, cancel),
            Server::OpenAi(client, model) => openai::generate(client, model, request, seed, cancel),
        }
    }
}

impl Server {
    /// Answers a request, and judges the answer by the request's constraints.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub(crate) fn answer(
        &self,
        request: &GenerateRequest,
        seed: impl FnOnce() -> u64,
    ) -> Result<Generation, Error> {
        let mut answer = self.generate(request, seed, Cancel::never())?;
        if let Server::OpenAi(..) = self {
            Conformance::new(request)?.judge(&mut answer);
        }
        Ok(answer)
    }

    /// Starts a request; it is sent at once.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub(crate) fn stream(
        &self,
        request: &GenerateRequest,
        seed: impl FnOnce() -> u64,
        cancel: Cancel,
    ) -> Result<Streaming, Error> {
        request.known()?;
        request.constraints.check()?;
        Ok(match self {
            Server::Native(client) => Streaming::whole(native::generate(client, request, cancel)?),
            Server::OpenAi(client, model) => {
                let live = openai::Live::open(client, model, request, seed, cancel)?;
                Streaming::Live(Box::new(live))
            }
        })
    }
}

/// An answer of a server on its way.
pub(crate) enum Streaming {
    /// One that comes in pieces.
    Live(Box<openai::Live>),
    /// One that came whole, since the server sends no pieces.
    Whole(Box<Whole>),
}

/// A whole answer, handed out as one chunk an output.
pub(crate) struct Whole {
    generation: Generation,
    next: usize,
}

impl Streaming {
    /// An answer that is there already.
    pub(crate) fn whole(generation: Generation) -> Self {
        let whole = Whole {
            generation,
            next: 0,
        };
        Streaming::Whole(Box::new(whole))
    }

    pub(crate) fn next(&mut self) -> Option<Result<Chunk, Error>> {
        match self {
            Streaming::Live(live) => live.next(),
            Streaming::Whole(whole) => whole.next().map(Ok),
        }
    }

    pub(crate) fn into_generation(self) -> Generation {
        match self {
            Streaming::Live(live) => live.into_generation(),
            Streaming::Whole(whole) => whole.generation,
        }
    }
}

impl Whole {
    fn next(&mut self) -> Option<Chunk> {
        let answer = &self.generation;
        let (text, finish) = match (answer.choices.get(self.next), self.next) {
            (Some(choice), _) => (choice.text.clone(), choice.finish_reason),
            (None, 0) => (answer.text.clone(), answer.finish_reason),
            (None, _) => return None,
        };
        let index = self.next;
        self.next += 1;
        Some(Chunk {
            index,
            token: None,
            text,
            finish_reason: Some(finish),
        })
    }
}

/// The answer to a request that never reached a server.
pub(crate) fn nothing() -> Generation {
    let answer = Answer {
        choices: Vec::new(),
        usage: Usage::default(),
        seed: 0,
        method: None,
        model: String::new(),
        server: ("none", String::new()),
        settings: Map::new(),
        warnings: Vec::new(),
    };
    answer.into_generation()
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
    choices: Vec<Choice>,
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
        let (protocol, address) = self.server;
        let first = self.choices.first().cloned().unwrap_or_default();
        let choices = match self.choices.len() {
            0 | 1 => Vec::new(),
            _ => self.choices,
        };
        let setting = |(name, value)| Setting {
            name,
            value,
            origin: Origin::Request,
        };
        Generation {
            text: first.text,
            tokens: first.tokens,
            finish_reason: first.finish_reason,
            stop_text: None,
            logprobs: Vec::new(),
            served_logprobs: first.served_logprobs,
            behaviors: Vec::new(),
            choices,
            usage: self.usage,
            seed: self.seed,
            method: self.method.unwrap_or_default(),
            route: Route::Remote,
            model: self.model,
            engine: EngineInfo {
                engine: protocol.to_owned(),
                device: address,
                weights: "remote".to_owned(),
            },
            warnings: self.warnings,
            settings: self.settings.into_iter().map(setting).collect(),
            trace: None,
            policy: None,
        }
    }
}

/// Why a text ended, in the server's words.
fn finish_reason(reason: Option<&str>, warnings: &mut Vec<Warning>) -> FinishReason {
    match reason {
        Some("length") => FinishReason::Length,
        Some("stop" | "eos") | None => FinishReason::Stop,
        Some(other) => {
            let message = format!("the server ended the text for the reason {other:?}");
            warnings.push(Warning::new("finish_reason", message));
            FinishReason::Stop
        }
    }
}
