//! The client: a model and the settings of an application.

#[cfg(not(feature = "local"))]
mod absent;
mod builder;
#[cfg(feature = "local")]
mod local;
mod request;

#[cfg(not(feature = "local"))]
use absent::Local;
#[cfg(not(feature = "local"))]
pub(crate) use absent::absent;
pub use builder::ClientBuilder;
#[cfg(feature = "local")]
use local::Local;
pub use request::Request;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::generation::{Generation, Route};
use crate::policy::{self, CodeLimits, Policies, PolicyStore};
use crate::remote::{Address, Server};
use crate::request::{GenerateRequest, Prompt};
use crate::route::{self, ExecutionMode, Fallback};
use crate::stream::Stream;
use mx_remote::Secret;
use std::hash::{BuildHasher, RandomState};

/// Answers requests. There is no global client: an application makes its own.
///
/// ```no_run
/// let mut client = mx::Client::builder().model("smollm2").build();
/// client.load()?;
/// let text = client.generate("Why is the sky blue?")?;
/// let answer = client.request("Name a colour.").max_tokens(8).temperature(0.0).run()?;
/// println!("{text}\n{} ({:?})", answer.text, answer.finish_reason);
/// # Ok::<(), mx::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
    mode: ExecutionMode,
    fallback: Fallback,
    local: Local,
    policies: PolicyStore,
    code: Option<CodeLimits>,
}

impl Client {
    /// Sets up a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The text that follows from a prompt, with all settings at their defaults.
    ///
    /// # Errors
    /// As [`run`](Client::run).
    pub fn generate(&self, prompt: impl Into<Prompt>) -> Result<String, Error> {
        Ok(self.run(&GenerateRequest::new(prompt))?.text)
    }

    /// A request to be given its settings and then [`run`](Request::run) or [streamed](Request::stream).
    pub fn request(&self, prompt: impl Into<Prompt>) -> Request<'_> {
        Request {
            client: self,
            request: GenerateRequest::new(prompt),
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`Error`] for anything that cannot be carried out as asked.
    pub fn run(&self, request: &GenerateRequest) -> Result<Generation, Error> {
        request.check()?;
        if policy::governs(request) {
            return policy::answer(self, request, Cancel::new());
        }
        if self.route()? == Route::Local {
            return self.local.run(request);
        }
        let error = match self.server()?.answer(request, random_seed) {
            Ok(generation) => return Ok(generation),
            Err(error) => error,
        };
        if !self.falls_back(&error) {
            return Err(error);
        }
        let mut generation = self.local.run(request)?;
        route::fell_back(&mut generation, &error);
        Ok(generation)
    }

    /// Starts a request, on whichever route; nothing is computed or sent before the first chunk is asked for. Under a
    /// [policy](crate::policy) the text comes as one chunk an output, once it is judged.
    ///
    /// # Errors
    /// As [`run`](Client::run), for what can be known beforehand.
    pub fn stream(&self, request: &GenerateRequest) -> Result<Stream, Error> {
        request.check()?;
        if policy::governs(request) {
            self.route()?;
            return Ok(Stream::judged(self.clone(), request.clone()));
        }
        if self.route()? == Route::Local {
            return self.local.stream(request);
        }
        let server = self.address.open()?;
        let fallback = self.local.fallen(self.fallback);
        Ok(Stream::remote(server, request.clone(), fallback))
    }

    /// Checks what can be known of a request before a model is loaded or a server asked: the [ranges of its
    /// values](GenerateRequest::check), then whether there is a route, then, where that is the local one, what settings
    /// are to each other.
    ///
    /// # Errors
    /// As [`run`](Client::run), for what can be known beforehand.
    pub fn check(&self, request: &GenerateRequest) -> Result<(), Error> {
        request.check()?;
        match self.route()? {
            Route::Local => Local::check(request),
            _ => Ok(()),
        }
    }

    /// Where the next request runs.
    ///
    /// # Errors
    /// [`Error::NoModel`] with neither server nor model, [`Error::Request`] for the mode remote without a server.
    pub fn route(&self) -> Result<Route, Error> {
        // Whoever wants to stay here is not asked for credentials.
        let has_server = self.mode != ExecutionMode::Local && self.address.is_known()?;
        route::decide(self.mode, has_server, self.local.is_named())
    }

    /// Protocol and address of the server that a remote request goes to, for people.
    ///
    /// # Errors
    /// [`Error::Remote`] for an address that cannot be used.
    pub fn server_name(&self) -> Result<String, Error> {
        Ok(self.address.open()?.name())
    }

    /// The server of the remote route.
    pub(crate) fn server(&self) -> Result<Server, Error> {
        self.address.open()
    }

    /// Whether a failed remote request is answered by the loaded model.
    pub(crate) fn falls_back(&self, error: &Error) -> bool {
        self.local.is_loaded() && self.fallback.allows(error)
    }

    /// The calls about policies: run, save, list, compare, evaluate, tune, publish.
    pub fn policies(&self) -> Policies<'_> {
        Policies::new(self)
    }

    /// Where policies are kept.
    pub fn policy_store(&self) -> &PolicyStore {
        &self.policies
    }

    /// Sets where policies are kept.
    pub fn set_policy_store(&mut self, policies: PolicyStore) {
        self.policies = policies;
    }

    /// Lets generated code run, or no longer; see [`ClientBuilder::allow_code_execution`].
    pub fn set_code_execution(&mut self, limits: Option<CodeLimits>) {
        self.code = limits;
    }

    pub(crate) fn code_limits(&self) -> Option<CodeLimits> {
        self.code
    }

    /// Sets the key of the remote service.
    pub fn set_key(&mut self, key: impl Into<String>) {
        self.address.key = Some(Secret::new(key));
    }

    /// Sets where requests run.
    pub fn set_execution_mode(&mut self, mode: ExecutionMode) {
        self.mode = mode;
    }

    /// Where requests run.
    pub fn execution_mode(&self) -> ExecutionMode {
        self.mode
    }

    /// What happens when a remote call fails.
    pub fn fallback(&self) -> Fallback {
        self.fallback
    }

    /// Address of the remote service, if one was set.
    pub fn base_url(&self) -> Option<&str> {
        self.address.base_url.as_deref()
    }
}

/// A seed nobody chose. 53 bits, so that it survives readers that keep numbers as doubles.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().hash_one(0u8) >> 11
}
