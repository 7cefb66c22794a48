//! A request on its way to a client.

use super::Client;
use crate::error::Error;
use crate::generation::Generation;
use crate::policy::Policy;
use crate::request::{GenerateRequest, GrammarSyntax, Method, Overflow};
use crate::stream::Stream;

/// A request on its way to a [`Client`]; the setters are those of [`GenerateRequest`].
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub(super) client: &'a Client,
    pub(super) request: GenerateRequest,
}

/// Forwards setters to [`GenerateRequest`].
macro_rules! setters {
    ($($name:ident($argument:ident: $kind:ty)),+ $(,)?) => {
        $(
            #[doc = concat!("See [`GenerateRequest::", stringify!($name), "`].")]
            pub fn $name(mut self, $argument: $kind) -> Self {
                self.request = self.request.$name($argument);
                self
            }
        )+
    };
}

impl Request<'_> {
    setters! {
        system(text: impl Into<String>),
        raw(raw: bool),
        max_tokens(tokens: usize),
        method(method: Method),
        temperature(temperature: f64),
        top_k(k: i64),
        top_p(p: f64),
        min_p(p: f64),
        seed(seed: u64),
        n(outputs: usize),
        best_of_n(candidates: usize),
        policy(policy: Policy),
        policy_id(id: impl Into<String>),
        logprobs(top: usize),
        json_schema(schema: serde_json::Value),
        regex(pattern: impl Into<String>),
        steer(steer: mx_steering::apply::Steer),
        choices(texts: impl IntoIterator<Item = impl Into<String>>),
        stop(text: impl Into<String>),
        on_overflow(overflow: Overflow),
        include_trace(include: bool),
    }

    /// See [`GenerateRequest::grammar`].
    pub fn grammar(mut self, syntax: GrammarSyntax, text: impl Into<String>) -> Self {
        self.request = self.request.grammar(syntax, text);
        self
    }

    /// Changes anything else of the request.
    ///
    /// ```no_run
    /// # fn ask(client: &mx::Client) -> Result<(), mx::Error> {
    /// let answer = client
    ///     .request("Copy this: one two three one two three")
    ///     .with(|request| request.controls.speculative_steps = Some(8))
    ///     .method(mx::Method::Speculative)
    ///     .run()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with(mut self, change: impl FnOnce(&mut GenerateRequest)) -> Self {
        change(&mut self.request);
        self
    }

    /// The request as data.
    pub fn into_inner(self) -> GenerateRequest {
        self.request
    }

    /// Answers the request.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn run(self) -> Result<Generation, Error> {
        self.client.run(&self.request)
    }

    /// Starts the request.
    ///
    /// # Errors
    /// As [`Client::stream`].
    pub fn stream(self) -> Result<Stream, Error> {
        self.client.stream(&self.request)
    }
}
