//! The client: a model and the settings of an application.

use crate::error::Error;
use crate::generation::{Generation, Route};
use crate::pipeline::{Loaded, Plan, Resources, Run};
use crate::policy::{self, CodeLimits, Policies, Policy, PolicyStore};
use crate::remote::{Address, Server};
use crate::request::{GenerateRequest, GrammarSyntax, Method, Overflow, Prompt};
use crate::route::{self, ExecutionMode, Fallback};
use crate::steering::{BehaviourStore, Vectors};
use crate::stream::{Fallen, Stream};
use crate::trace::Trace;
use mx_remote::{
    BASE_URL_VARIABLE, CredentialStore, KEY_VARIABLE, Secret, ServerKind, Surroundings,
};
use mx_runtime::device::DeviceId;
use mx_runtime::model::{LoadOptions, Model};
use mx_runtime::source::{self, ModelRef, NoProgress, Progress, Store};
use mx_steering::store::VectorStore;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

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
#[derive(Debug)]
pub struct Client {
    address: Address,
    mode: ExecutionMode,
    fallback: Fallback,
    model_name: Option<String>,
    options: LoadOptions,
    store: Option<Store>,
    sources: source::Options,
    model: Option<Loaded>,
    /// What requests may name besides the main model.
    resources: Resources,
    policies: PolicyStore,
    /// Whether generated code may be run, and within which limits.
    code: Option<CodeLimits>,
}

/// Sets up a [`Client`].
#[derive(Debug, Default)]
pub struct ClientBuilder {
    address: Address,
    mode: ExecutionMode,
    fallback: Fallback,
    model: Option<String>,
    options: LoadOptions,
    store: Option<Store>,
    sources: source::Options,
    resources: Resources,
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

    /// The local model: a path, a name of the [catalogue](mx_runtime::source::known_models), or a hub repository.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// The device of local models.
    pub fn device(mut self, device: DeviceId) -> Self {
        self.options.device = device;
        self
    }

    /// Everything about how local models are loaded: device, engine, threads.
    pub fn load_options(mut self, options: LoadOptions) -> Self {
        self.options = options;
        self
    }

    /// Where models are installed; without one, only paths can be loaded.
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// How models are fetched.
    pub fn sources(mut self, sources: source::Options) -> Self {
        self.sources = sources;
        self
    }

    /// Where steering vectors are looked up; without one only files can be named, and presets are made anew.
    pub fn vectors(mut self, vectors: Vectors) -> Self {
        self.resources.vectors = vectors;
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

    /// Takes key and address of the remote service, store and sources from environment variables, as the program `mx`
    /// does: `MECHANEX_API_KEY`, else the file `.mechanex/config.json` in `$HOME`; `MECHANEX_BASE_URL`; for the others
    /// see [`home`](crate::home) and [`Options::from_env`](source::Options::from_env). What was set by
    /// [`key`](Self::key) and [`base_url`](Self::base_url) goes before.
    pub fn from_env(mut self, env: &dyn Fn(&str) -> Option<String>) -> Self {
        self.store = crate::home::models_dir(env).map(Store::new);
        if let Some(folder) = crate::home::vectors_dir(env) {
            self.resources.vectors = Vectors::new(VectorStore::new(folder));
        }
        if let Some(folder) = crate::home::behaviours_dir(env) {
            let vectors = std::mem::take(&mut self.resources.vectors);
            self.resources.vectors = vectors.with_behaviours(BehaviourStore::new(folder));
        }
        if let Some(folder) = crate::home::policies_dir(env) {
            self.policies = PolicyStore::new(folder);
        }
        self.sources = source::Options::from_env(env);
        self.address.around = surroundings(env);
        self
    }

    /// The client. Nothing is loaded or fetched yet.
    pub fn build(self) -> Client {
        Client {
            address: self.address,
            mode: self.mode,
            fallback: self.fallback,
            model_name: self.model,
            options: self.options,
            store: self.store,
            sources: self.sources,
            model: None,
            resources: self.resources,
            policies: self.policies,
            code: self.code,
        }
    }
}

impl Client {
    /// Sets up a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A client of a model that is already loaded.
    pub fn with_model(model: Arc<Model>) -> Self {
        let mut client = Client::builder().build();
        client.set_loaded(model);
        client
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
        if policy::governs(request) {
            return policy::answer(self, request);
        }
        if self.route()? == Route::Local {
            return self.start(request)?.complete();
        }
        let error = match self.server()?.generate(request, random_seed) {
            Ok(generation) => return Ok(generation),
            Err(error) => error,
        };
        if !self.falls_back(&error) {
            return Err(error);
        }
        let mut generation = self.start(request)?.complete()?;
        route::fell_back(&mut generation, &error);
        Ok(generation)
    }

    /// Starts a request, on whichever route; nothing is computed or sent before the first chunk is asked for.
    ///
    /// # Errors
    /// As [`run`](Client::run), for what can be known beforehand.
    pub fn stream(&self, request: &GenerateRequest) -> Result<Stream, Error> {
        if policy::governs(request) {
            return Err(Error::unsupported(
                "streaming under a policy",
                "a whole output is judged before it is known that it is the answer; use Client::run",
            ));
        }
        if self.route()? == Route::Local {
            return Ok(Stream::local(self.start(request)?));
        }
        let server = self.address.open()?;
        let model = self.model.clone();
        let fallback = model.map(|model| Fallen {
            policy: self.fallback,
            model,
            resources: self.resources.clone(),
        });
        Ok(Stream::remote(server, request.clone(), fallback))
    }

    /// Starts a request on the loaded model: the loop itself, which takes and gives sessions and masks.
    ///
    /// # Errors
    /// As [`run`](Client::run), and [`Error::Unsupported`] with no model loaded.
    pub fn start(&self, request: &GenerateRequest) -> Result<Run, Error> {
        self.start_with(&self.resources, request)
    }

    fn start_with(&self, resources: &Resources, request: &GenerateRequest) -> Result<Run, Error> {
        let (model, _) = self.local_parts()?;
        Run::new(Plan::with(model, resources, request, random_seed)?)
    }

    /// Where the next request runs.
    ///
    /// # Errors
    /// [`Error::NoModel`] with neither server nor model, [`Error::Request`] for the mode remote without a server.
    pub fn route(&self) -> Result<Route, Error> {
        let has_model = self.model.is_some() || self.model_name.is_some();
        // Whoever wants to stay here is not asked for credentials.
        let has_server = self.mode != ExecutionMode::Local && self.address.is_known()?;
        route::decide(self.mode, has_server, has_model)
    }

    /// Protocol and address of the server that a remote request goes to, for people.
    ///
    /// # Errors
    /// [`Error::Remote`] for an address that cannot be used.
    pub fn server_name(&self) -> Result<String, Error> {
        Ok(self.address.open()?.name())
    }

    /// The run of a trace, on the models loaded here.
    pub(crate) fn repeat(&self, trace: &Trace) -> Result<Run, Error> {
        let resources = Resources {
            moment: trace.moment,
            ..self.resources.clone()
        };
        let request = GenerateRequest {
            seed: Some(trace.seed),
            include_trace: Some(true),
            ..trace.request.clone()
        };
        self.start_with(&resources, &request)
    }

    /// The loaded model, and what requests may name besides it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without one.
    pub(crate) fn local_parts(&self) -> Result<(Loaded, &Resources), Error> {
        let model = self.model.as_ref().ok_or_else(|| {
            Error::unsupported("a model that is not loaded", "call Client::load first")
        })?;
        Ok((model.clone(), &self.resources))
    }

    /// The server of the remote route.
    pub(crate) fn server(&self) -> Result<Server, Error> {
        self.address.open()
    }

    /// Whether a failed remote request is answered by the loaded model.
    pub(crate) fn falls_back(&self, error: &Error) -> bool {
        self.model.is_some() && self.fallback.allows(error)
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

    /// Chooses another local model and unloads the present one.
    pub fn set_model(&mut self, model: impl Into<String>) {
        self.model_name = Some(model.into());
        self.model = None;
    }

    /// Loads the chosen model, fetching it if need be. Does nothing when it is loaded.
    ///
    /// # Errors
    /// [`Error::NoModel`] when none was chosen; [`Error::Source`] and [`Error::Load`].
    pub fn load(&mut self) -> Result<(), Error> {
        self.load_with(&mut NoProgress)
    }

    /// [`load`](Client::load), reporting what is fetched.
    ///
    /// # Errors
    /// As [`load`](Client::load).
    pub fn load_with(&mut self, progress: &mut dyn Progress) -> Result<(), Error> {
        if self.model.is_some() {
            return Ok(());
        }
        let name = self.model_name.clone().ok_or(Error::NoModel)?;
        self.model = Some(self.fetch(&name, progress)?);
        Ok(())
    }

    /// Loads every model that a request names: the main one, the one that drafts, those of an ensemble.
    ///
    /// # Errors
    /// As [`load`](Client::load).
    pub fn load_for(
        &mut self,
        request: &GenerateRequest,
        progress: &mut dyn Progress,
    ) -> Result<(), Error> {
        self.load_with(progress)?;
        for name in request.controls.models() {
            if !self.resources.models.contains_key(name) {
                let model = self.fetch(name, progress)?;
                self.resources.models.insert(name.to_owned(), model);
            }
        }
        Ok(())
    }

    /// Takes a model that is already loaded as the main one.
    pub fn set_loaded(&mut self, model: Arc<Model>) {
        self.model_name = Some(model.name().to_owned());
        self.model = Some(model.into());
    }

    /// Sets where steering vectors are looked up.
    pub fn set_vectors(&mut self, vectors: Vectors) {
        self.resources.vectors = vectors;
    }

    /// Adds a loaded model that requests may name besides the main one.
    pub fn add_model(&mut self, name: impl Into<String>, model: Arc<Model>) {
        self.resources.models.insert(name.into(), model.into());
    }

    /// Finds, fetches and loads a model.
    fn fetch(&self, name: &str, progress: &mut dyn Progress) -> Result<Loaded, Error> {
        let reference = ModelRef::parse(name)?;
        let (path, name) = match (&reference, &self.store) {
            (ModelRef::Path(path), None) => (path.clone(), None),
            (_, None) => {
                let reason = "the client has no model folder; set one with store or from_env";
                return Err(Error::unsupported(format!("model {name}"), reason));
            }
            (_, Some(store)) => {
                let resolved = source::resolve(&reference, store, &self.sources, progress)?;
                (resolved.path, Some(resolved.name))
            }
        };
        let mut model = Model::load(&path, &self.options)?;
        if let Some(name) = name {
            model = model.named(name);
        }
        Ok(Arc::new(model).into())
    }

    /// Frees the loaded model; it can be loaded again.
    pub fn unload(&mut self) {
        self.model = None;
    }

    /// The loaded model.
    pub fn model(&self) -> Option<&Arc<Model>> {
        self.model.as_deref()
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

/// A request on its way to a [`Client`]; the setters are those of [`GenerateRequest`].
#[derive(Debug, Clone)]
pub struct Request<'a> {
    client: &'a Client,
    request: GenerateRequest,
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

/// What the environment says about the vendor's service.
fn surroundings(env: &dyn Fn(&str) -> Option<String>) -> Surroundings {
    let read = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    Surroundings {
        key: read(KEY_VARIABLE).map(|key| Secret::new(key.trim())),
        base_url: read(BASE_URL_VARIABLE),
        store: read("HOME").map(|home| CredentialStore::in_home(Path::new(&home))),
    }
}

/// A seed nobody chose. 53 bits, so that it survives readers that keep numbers as doubles.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().hash_one(0u8) >> 11
}
