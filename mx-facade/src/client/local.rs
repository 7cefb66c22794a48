//! The models of this machine.

use super::{Client, ClientBuilder, random_seed};
use crate::error::Error;
use crate::generation::Generation;
use crate::pipeline::{Loaded, Plan, Resources, Run};
use crate::request::{GenerateRequest, Settings};
use crate::route::Fallback;
use crate::steering::{BehaviourStore, Vectors};
use crate::stream::{Fallen, Stream};
use crate::trace::Trace;
use mx_runtime::device::DeviceId;
use mx_runtime::model::{LoadOptions, Model};
use mx_runtime::source::{self, ModelRef, NoProgress, Progress, Store};
use mx_steering::store::VectorStore;
use std::sync::Arc;

/// The local models of a client, and how they are found.
#[derive(Debug, Clone, Default)]
pub(super) struct Local {
    name: Option<String>,
    options: LoadOptions,
    store: Option<Store>,
    sources: source::Options,
    model: Option<Loaded>,
    /// What requests may name besides the main model.
    resources: Resources,
}

impl Local {
    pub(super) fn take_env(&mut self, env: &dyn Fn(&str) -> Option<String>) {
        self.store = crate::home::models_dir(env).map(Store::new);
        if let Some(folder) = crate::home::vectors_dir(env) {
            self.resources.vectors = Vectors::new(VectorStore::new(folder));
        }
        if let Some(folder) = crate::home::behaviours_dir(env) {
            let vectors = std::mem::take(&mut self.resources.vectors);
            self.resources.vectors = vectors.with_behaviours(BehaviourStore::new(folder));
        }
        self.sources = source::Options::from_env(env);
    }

    /// Whether there is a model to answer, be it only by name.
    pub(super) fn is_named(&self) -> bool {
        self.model.is_some() || self.name.is_some()
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.model.is_some()
    }

    pub(super) fn check(request: &GenerateRequest) -> Result<(), Error> {
        Settings::check(request)
    }

    pub(super) fn run(&self, request: &GenerateRequest) -> Result<Generation, Error> {
        Settings::check(request)?;
        let (model, resources) = self.parts()?;
        Run::new(Plan::with(model, resources, request, random_seed)?)?.complete()
    }

    pub(super) fn stream(&self, request: &GenerateRequest) -> Result<Stream, Error> {
        Settings::check(request)?;
        let (model, resources) = self.parts()?;
        let plan = Plan::with(model, resources, request, random_seed)?;
        Ok(Stream::local(Run::new(plan)?))
    }

    /// What answers when a server fails.
    pub(super) fn fallen(&self, policy: Fallback) -> Option<Fallen> {
        Some(Fallen {
            policy,
            model: self.model.clone()?,
            resources: self.resources.clone(),
        })
    }

    fn parts(&self) -> Result<(Loaded, &Resources), Error> {
        let model = self.model.as_ref().ok_or_else(|| {
            Error::unsupported("a model that is not loaded", "call Client::load first")
        })?;
        Ok((model.clone(), &self.resources))
    }
}

impl ClientBuilder {
    /// The local model: a path, a name of the [catalogue](mx_runtime::source::known_models), or a hub repository.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.local.name = Some(model.into());
        self
    }

    /// The device of local models.
    pub fn device(mut self, device: DeviceId) -> Self {
        self.local.options.device = device;
        self
    }

    /// Everything about how local models are loaded: device, engine, threads.
    pub fn load_options(mut self, options: LoadOptions) -> Self {
        self.local.options = options;
        self
    }

    /// Where models are installed; without one, only paths can be loaded.
    pub fn store(mut self, store: Store) -> Self {
        self.local.store = Some(store);
        self
    }

    /// How models are fetched.
    pub fn sources(mut self, sources: source::Options) -> Self {
        self.local.sources = sources;
        self
    }

    /// Where steering vectors are looked up; without one only files can be named, and presets are made anew.
    pub fn vectors(mut self, vectors: Vectors) -> Self {
        self.local.resources.vectors = vectors;
        self
    }
}

impl Client {
    /// A client of a model that is already loaded.
    pub fn with_model(model: Arc<Model>) -> Self {
        let mut client = Client::builder().build();
        client.set_loaded(model);
        client
    }

    /// Starts a request on the loaded model: the loop itself, which takes and gives sessions and masks.
    ///
    /// # Errors
    /// As [`run`](Client::run), and [`Error::Unsupported`] with no model loaded.
    pub fn start(&self, request: &GenerateRequest) -> Result<Run, Error> {
        self.start_with(&self.local.resources, request)
    }

    fn start_with(&self, resources: &Resources, request: &GenerateRequest) -> Result<Run, Error> {
        Settings::check(request)?;
        let (model, _) = self.local_parts()?;
        Run::new(Plan::with(model, resources, request, random_seed)?)
    }

    /// The run of a trace, on the models loaded here.
    pub(crate) fn repeat(&self, trace: &Trace) -> Result<Run, Error> {
        let resources = Resources {
            moment: trace.moment,
            ..self.local.resources.clone()
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
        self.local.parts()
    }

    /// Chooses another local model and unloads the present one.
    pub fn set_model(&mut self, model: impl Into<String>) {
        self.local.name = Some(model.into());
        self.local.model = None;
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
        if self.local.model.is_some() {
            return Ok(());
        }
        let name = self.local.name.clone().ok_or(Error::NoModel)?;
        self.local.model = Some(self.fetch(&name, progress)?);
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
        Settings::check(request)?;
        self.load_with(progress)?;
        for name in request.controls.models() {
            if !self.local.resources.models.contains_key(name) {
                let model = self.fetch(name, progress)?;
                self.local.resources.models.insert(name.to_owned(), model);
            }
        }
        Ok(())
    }

    /// Takes a model that is already loaded as the main one.
    pub fn set_loaded(&mut self, model: Arc<Model>) {
        self.local.name = Some(model.name().to_owned());
        self.local.model = Some(model.into());
    }

    /// Sets where steering vectors are looked up.
    pub fn set_vectors(&mut self, vectors: Vectors) {
        self.local.resources.vectors = vectors;
    }

    /// Adds a loaded model that requests may name besides the main one.
    pub fn add_model(&mut self, name: impl Into<String>, model: Arc<Model>) {
        self.local
            .resources
            .models
            .insert(name.into(), model.into());
    }

    /// Finds, fetches and loads a model.
    fn fetch(&self, name: &str, progress: &mut dyn Progress) -> Result<Loaded, Error> {
        let reference = ModelRef::parse(name)?;
        let (path, name) = match (&reference, &self.local.store) {
            (ModelRef::Path(path), None) => (path.clone(), None),
            (_, None) => {
                let reason = "the client has no model folder; set one with store or from_env";
                return Err(Error::unsupported(format!("model {name}"), reason));
            }
            (_, Some(store)) => {
                let resolved = source::resolve(&reference, store, &self.local.sources, progress)?;
                (resolved.path, Some(resolved.name))
            }
        };
        let mut model = Model::load(&path, &self.local.options)?;
        if let Some(name) = name {
            model = model.named(name);
        }
        Ok(Arc::new(model).into())
    }

    /// Frees the loaded model; it can be loaded again.
    pub fn unload(&mut self) {
        self.local.model = None;
    }

    /// The loaded model.
    pub fn model(&self) -> Option<&Arc<Model>> {
        self.local.model.as_deref()
    }
}
