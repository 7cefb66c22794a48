//! Steering of local models: where vectors come from, and how they become edits of the forward pass.

mod edits;
mod measured;
mod preset;
mod reader;

pub use measured::MeasuredModel;
pub use reader::ModelReader;

use crate::error::Error;
use crate::pipeline::Loaded;
use mx_runtime::hooks::HookPlan;
use mx_steering::apply::{Plan, SteeringSpec, VectorRef};
use mx_steering::format::pairs::Pair;
use mx_steering::make::TokenPair;
use mx_steering::presets::{Preset, PresetKind};
use mx_steering::store::VectorStore;
use mx_steering::{ModelShape, SteeringVector, format};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// Where vectors are looked up: a file by its path, a preset by its name, anything else in a store.
#[derive(Debug, Clone, Default)]
pub struct Vectors {
    store: Option<VectorStore>,
}

impl Vectors {
    /// Vectors of this store; presets made for a model are kept there too.
    pub fn new(store: VectorStore) -> Self {
        Vectors { store: Some(store) }
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
        if let Ok(preset) = Preset::from_str(reference) {
            return match preset.kind() {
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
                && let Ok(preset) = Preset::from_str(reference)
            {
                plan.warnings
                    .extend(preset.warning(&*self.find(reference, model)?));
            }
        }
        Ok(plan)
    }
}

/// Contrastive pairs as tokens of a model; conversations are rendered in its chat template.
///
/// # Errors
/// [`Error::Unsupported`] for a model without a tokenizer, [`Error::Tokenizer`], [`Error::Template`].
pub fn tokenise(pairs: &[Pair], model: &Loaded) -> Result<Vec<TokenPair>, Error> {
    preset::tokenise(pairs, model)
}

/// The edits of a plan as the engines take them.
///
/// # Errors
/// [`Error::Engine`] for a place that the model does not have.
pub fn hooks(plan: &Plan, model: &Loaded) -> Result<HookPlan, Error> {
    let edits = plan.edits.iter().map(edits::edit);
    Ok(HookPlan::new(edits, [], model.config()).map_err(mx_runtime::engine::EngineError::from)?)
}

/// What vectors need to know of a model.
pub fn shape(model: &Loaded) -> ModelShape {
    let config = model.config();
    let mut shape = ModelShape::new(config.d_model, config.layers);
    shape.name = Some(model.name().to_owned());
    shape
}
