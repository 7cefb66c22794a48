//! Servers that speak OpenAI's protocol.

mod body;
mod chat;
mod completions;
mod constraint;
mod gather;
mod kind;
mod logprobs;
mod models;
mod params;

pub use body::{Note, Plan};
pub use chat::{
    ChatAnswer, ChatChoice, ChatChunk, ChatChunkChoice, ChatDelta, ChatMessage, ChatRequest,
    MessageContent, Usage,
};
pub use completions::{CompletionAnswer, CompletionChoice, CompletionPrompt, CompletionRequest};
pub use gather::{ChatGatherer, CompletionGatherer};
pub use kind::{Endpoint, ServerKind};
pub use logprobs::{Logprobs, TokenLogprob};
pub use models::{Detected, OfferedModel};
pub use params::{
    AxionicParams, Constraint, Dry, GrammarSyntax, JsonSchema, Mirostat, Params,
    SteeringVectorParam,
};

use crate::call::{Call, StreamCall};
use crate::credentials::{Keyring, check_tokens};
use crate::error::Result;
use crate::http::{Ask, Net};
use crate::options::Transport;
use crate::secret::Secret;
use crate::stream::Events;
use gather::{Chunk, Pieces};
use std::sync::Arc;

/// A client of a server that speaks OpenAI's protocol. Cloning is cheap, and clones share connections.
///
/// Every method returns a [`Call`]: `await` it, or [`wait`](Call::wait) for it.
#[derive(Debug, Clone)]
pub struct OpenAi {
    net: Arc<Net>,
    kind: ServerKind,
}

/// What an [`OpenAi`] client is made of.
#[derive(Debug, Clone)]
pub struct OpenAiOptions {
    /// The server's address, with its version: `http://localhost:8000/v1`.
    pub base_url: String,
    /// The key, if the server wants one.
    pub key: Option<Secret>,
    /// What kind of server it is.
    pub kind: ServerKind,
    /// How requests travel.
    pub transport: Transport,
}

impl OpenAiOptions {
    /// Options for a server without a key.
    pub fn new(base_url: impl Into<String>, kind: ServerKind) -> Self {
        OpenAiOptions {
            base_url: base_url.into(),
            key: None,
            kind,
            transport: Transport::default(),
        }
    }
}

impl OpenAi {
    /// A client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`BadOption`](crate::Error::BadOption) for an option that makes no sense, [`Client`](crate::Error::Client) when
    /// the system has no certificates.
    pub fn new(options: OpenAiOptions) -> Result<Self> {
        check_tokens(&options.key)?;
        let net = Net::new(
            &options.base_url,
            options.transport,
            Keyring::bearer(options.key),
        )?;
        Ok(OpenAi {
            net,
            kind: options.kind,
        })
    }

    /// The same server, taken for another kind.
    pub fn with_kind(&self, kind: ServerKind) -> Self {
        OpenAi {
            net: Arc::clone(&self.net),
            kind,
        }
    }

    /// What kind of server it is taken for.
    pub fn kind(&self) -> ServerKind {
        self.kind
    }

    /// The server's address.
    pub fn base_url(&self) -> &str {
        self.net.base.as_str()
    }

    /// What [`chat`](Self::chat) would send, and what should be known about it.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::Error::Unsupported) for a field that this kind of server cannot honour,
    /// [`BadRequest`](crate::Error::BadRequest) for one that no server could.
    pub fn plan_chat(&self, request: &ChatRequest) -> Result<Plan> {
        chat::plan(self.kind, request, false)
    }

    /// What [`complete`](Self::complete) would send, and what should be known about it.
    ///
    /// # Errors
    ///
    /// As for [`plan_chat`](Self::plan_chat).
    pub fn plan_completion(&self, request: &CompletionRequest) -> Result<Plan> {
        completions::plan(self.kind, request, false)
    }

    /// Continues a conversation: `POST /chat/completions`.
    pub fn chat(&self, request: &ChatRequest) -> Call<ChatAnswer> {
        let ask = self
            .plan_chat(request)
            .and_then(|plan| Ask::post(&["chat", "completions"], &plan.body));
        Call::one(
            &self.net,
            ask,
            |conn, ask| async move { conn.json(&ask).await },
        )
    }

    /// As [`chat`](Self::chat), piece by piece. [`ChatAnswer::gather`] puts the pieces together.
    pub fn chat_stream(&self, request: &ChatRequest) -> StreamCall<ChatChunk> {
        let plan = chat::plan(self.kind, request, true);
        let ask = plan.and_then(|plan| Ask::post(&["chat", "completions"], &plan.body));
        self.pieces(ask, choices(&request.params, 1))
    }

    /// Continues a text: `POST /completions`.
    pub fn complete(&self, request: &CompletionRequest) -> Call<CompletionAnswer> {
        let ask = self
            .plan_completion(request)
            .and_then(|plan| Ask::post(&["completions"], &plan.body));
        Call::one(
            &self.net,
            ask,
            |conn, ask| async move { conn.json(&ask).await },
        )
    }

    /// As [`complete`](Self::complete), piece by piece. [`CompletionAnswer::gather`] puts the pieces together.
    pub fn complete_stream(&self, request: &CompletionRequest) -> StreamCall<CompletionAnswer> {
        let plan = completions::plan(self.kind, request, true);
        let ask = plan.and_then(|plan| Ask::post(&["completions"], &plan.body));
        let prompts = match &request.prompt {
            CompletionPrompt::Texts(texts) => texts.len(),
            _ => 1,
        };
        self.pieces(ask, choices(&request.params, prompts))
    }

    fn pieces<C: Chunk + 'static>(&self, ask: Result<Ask>, wanted: usize) -> StreamCall<C> {
        StreamCall(Call::one(
            &self.net,
            ask.map(Ask::streamed),
            move |conn, ask| async move {
                let opened = conn.events(&ask).await?;
                let decode = Pieces::<C>::new(conn.net.keys.known(), wanted);
                Events::new(opened, &conn.net.transport.limits, Box::new(decode))
            },
        ))
    }
}

fn choices(params: &Params, prompts: usize) -> usize {
    prompts.saturating_mul(params.n.unwrap_or(1) as usize)
}

#[cfg(test)]
#[path = "openai_tests.rs"]
mod tests;
