//! Steering of local models: where vectors come from, and how they become edits of the forward pass.

mod behaviours;
mod edits;
mod few_shot;
mod measured;
mod neutral;
mod preset;
mod reader;
mod texts;
mod watch;

pub use behaviours::{BehaviourStore, KeptBehaviour};
pub use few_shot::{ResumedModel, make_few_shot};
pub use measured::MeasuredModel;
pub use neutral::NeutralDamage;
pub use reader::ModelReader;
pub use texts::tokenise;
pub(crate) use watch::Watching;

use crate::error::Error;
use crate::pipeline::Loaded;
use mx_runtime::config::ModelConfig;
use mx_runtime::hooks::HookPlan;
use mx_steering::apply::{Plan, SteeringSpec, VectorRef};
use mx_steering::presets::{PresetKind, PresetRef};
use mx_steering::store::VectorStore;
use mx_steering::{ModelShape, SteeringVector, format};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// Where vectors are looked up: a file by its path, a preset by its name, anything else in a store.
#[derive(Debug, Clone, Default)]
pub struct Vectors {
    store: Option<VectorStore>,
    behaviours: Option<BehaviourStore>,
}

impl Vectors {
    /// Vectors of this store; presets made for a model are kept there too.
    pub fn new(store: VectorStore) -> Self {
        Vectors {
            store: Some(store),
            behaviours: None,
        }
    }

    /// With the behaviours of this store.
    pub fn with_behaviours(mut self, behaviours: BehaviourStore) -> Self {
        self.behaviours = Some(behaviours);
        self
    }

    /// The behaviour that a request names.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a store, [`Error::Request`] for one that is not kept.
    pub fn behaviour(&self, name: &str) -> Result<KeptBehaviour, Error> {
        match &self.behaviours {
            Some(behaviours) => behaviours.get(name),
            None => Err(Error::unsupported(
                format!("the behaviour {name}"),
                "the client has no store of behaviours",
            )),
        }
    }

    /// The store.
    pub fn store(&self) -> Option<&VectorStore> {
        self.store.as_ref()
    }

    /// The vector that a reference names.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a preset that is no vector, the error of the file or the store otherwise.
    pub fn find(&self, reference: &str, model: &Loaded) -> Result<Arc<SteeringVector>, Error> {
        if let Ok(preset) = PresetRef::from_str(reference) {
            return match preset.preset.kind() {
                PresetKind::Vector => preset::vector(preset, model, self.store.as_ref()),
                PresetKind::Constraint => Err(Error::unsupported(
                    format!("the preset {reference} as a vector"),
                    "it is a constraint on the output: use json_mode or json_schema",
                )),
                PresetKind::CallersPairs => Err(Error::unsupported(
                    format!("the preset {reference} without pairs"),
                    "it is made from pairs of the domain: make a vector from yours",
                )),
            };
        }
        let path = Path::new(reference);
        if path.is_file() {
            return Ok(Arc::new(format::load(path, &format::Limits::default())?));
        }
        match &self.store {
            Some(store) => Ok(Arc::new(store.get(reference)?)),
            None => Err(Error::unsupported(
                format!("the steering vector {reference}"),
                "it is no file, and the client has no vector store",
            )),
        }
    }

    /// What a request's steering does to a model, for a prompt of so many tokens.
    ///
    /// # Errors
    /// [`Error::Steering`] for a vector that cannot be found or does not fit.
    pub fn compile(
        &self,
        spec: &SteeringSpec,
        model: &Loaded,
        prompt: &[u32],
    ) -> Result<Plan, Error> {
        let shape = shape(model);
        let mut resolve = |reference: &str| self.find(reference, model).map_err(Into::into);
        let conditioned = spec.vectors.iter().any(|v| v.prompt_condition.is_some());
        let mut plan = match conditioned {
            false => spec.compile(&shape, prompt.len(), &mut resolve)?,
            true => {
                let mut reader = ModelReader::new(model);
                let mut means = |point| reader.mean(prompt, point);
                let decided = spec.decided(&mut resolve, &mut means)?;
                decided.compile(&shape, prompt.len(), &mut resolve)?
            }
        };
        for steer in &spec.vectors {
            if let VectorRef::Reference(reference) = &steer.vector
                && let Ok(preset) = PresetRef::from_str(reference)
            {
                let vector = self.find(reference, model)?;
                plan.warnings.extend(preset.preset.warning(&vector));
            }
        }
        Ok(plan)
    }
}

/// The edits of a plan as the engines take them.
///
/// # Errors
/// [`Error::Engine`] for a place that the model does not have.
pub fn hooks(plan: &Plan, model: &Loaded) -> Result<HookPlan, Error> {
    hooks_of(plan, model.config())
}

/// As [`hooks`], for an engine's configuration.
///
/// # Errors
/// As [`hooks`].
pub fn hooks_of(plan: &Plan, config: &ModelConfig) -> Result<HookPlan, Error> {
    let edits = plan.edits.iter().map(edits::edit);
    Ok(HookPlan::new(edits, [], config).map_err(mx_runtime::engine::EngineError::from)?)
}

/// What vectors need to know of a model.
pub fn shape(model: &Loaded) -> ModelShape {
    let config = model.config();
    let mut shape = ModelShape::new(config.d_model, config.layers);
    shape.name = Some(model.name().to_owned());
    shape.digest = model.fingerprint().map(str::to_owned);
    shape
}

/// What a preset's vector is kept under: a hash of the model's files, so that a copy under another name finds it and
/// another model under the same name does not; the name where the files cannot be read.
pub fn identity(model: &Loaded) -> String {
    let digest = model.fingerprint().map(str::to_owned);
    digest.unwrap_or_else(|| model.name().to_owned())
}
