//! A request on a loaded model: the plan, and the loop that carries it out.
//!
//! ```text
//! session step → mask → sampler chain → draw → stop detector → incremental text
//! ```
//!
//! The plan is compiled once ([`Plan::new`]); [`Run`] is the loop, an iterator that owns all its state. Cancelling is
//! dropping it or setting its [`Cancel`](mx_runtime::session::Cancel) flag.

mod clock;
pub(crate) mod combine;
mod constraint;
pub(crate) mod lane;
mod loaded;
mod logprobs;
mod mask;
pub(crate) mod output;
mod prompt;
mod run;
mod stop;
pub(crate) mod target;
pub(crate) mod union;

pub use crate::generation::Chunk;
pub use crate::generation::TokenLogprobs;
pub use loaded::Loaded;
pub use mask::TokenMask;
pub use run::Run;
pub use stop::{StopDetector, StopStep};

use crate::error::Error;
use crate::generation::Warning;
use crate::request::{Constraints, Decoding, GenerateRequest, Overflow, Prompt, Settings};
use crate::steering::{Vectors, Watching};
use crate::trace::{Named, NamedModel};
use mx_constrain::{Constraint, ConstraintSpec};
use mx_runtime::hooks::HookPlan;
use mx_runtime::model::Model;
use mx_runtime::tokenizer::Tokenizer;
use mx_sampling::{GREEDY_BELOW, SamplingOptions};
use mx_steering::apply::SteeringSpec;
use std::collections::BTreeMap;
use std::sync::Arc;
use union::Union;

/// What a request may name: further models, steering vectors.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Resources {
    /// Loaded models besides the main one, by the names that requests use.
    pub models: BTreeMap<String, Loaded>,
    /// Where steering vectors are looked up.
    pub vectors: Vectors,
    /// What chat templates take for now, in seconds since 1970; the clock's moment unless given.
    pub moment: Option<u64>,
}

/// Everything that a generation needs, worked out before the first step.
#[derive(Debug)]
pub struct Plan {
    pub(crate) model: Loaded,
    /// The model that drafts.
    pub(crate) draft: Option<Loaded>,
    /// The models that decide together with the main one.
    pub(crate) ensemble: Vec<Loaded>,
    /// What they decide about, where their vocabularies differ.
    pub(crate) union: Option<Arc<Union>>,
    pub(crate) settings: Settings,
    /// The sampler chain: that of the settings, less what the members of an ensemble do themselves.
    pub(crate) chain: SamplingOptions,
    /// Temperature of each member of an ensemble.
    pub(crate) member_temperature: f64,
    /// What the output must look like.
    pub(crate) constraint: Option<Constraint>,
    /// Edits inside the forward pass.
    pub(crate) hooks: Option<Arc<HookPlan>>,
    /// Behaviours that are watched for.
    pub(crate) watching: Option<Watching>,
    pub(crate) prompt: Vec<u32>,
    /// Whether the text to come goes on where the prompt stops.
    pub(crate) continued: bool,
    pub(crate) eos_tokens: Vec<u32>,
    pub(crate) warnings: Vec<Warning>,
    /// What a trace needs beside all this; `None` where none was asked for.
    pub(crate) traced: Option<Box<Traced>>,
}

/// What a trace remembers of a plan.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) request: GenerateRequest,
    pub(crate) moment: Option<u64>,
    /// The other models by the names of the request.
    pub(crate) others: Vec<NamedModel>,
    /// Fingerprint of the edits.
    pub(crate) steering: Option<String>,
}

impl Plan {
    /// Resolves the settings, turns the prompt into tokens and checks that it fits.
    ///
    /// # Errors
    /// [`Error`] for anything in the request that cannot be carried out.
    pub fn new(
        model: impl Into<Loaded>,
        request: &GenerateRequest,
        seed: impl FnOnce() -> u64,
    ) -> Result<Self, Error> {
        Plan::with(model, &Resources::default(), request, seed)
    }

    /// As [`new`](Plan::new), for a request that names further models or steering vectors.
    ///
    /// # Errors
    /// As [`new`](Plan::new), and [`Error::Unsupported`] for a model that is not loaded.
    pub fn with(
        model: impl Into<Loaded>,
        resources: &Resources,
        request: &GenerateRequest,
        seed: impl FnOnce() -> u64,
    ) -> Result<Self, Error> {
        let model = model.into();
        let mut warnings = Vec::new();
        let mut settings = Settings::resolve(request, model.generation(), seed, &mut warnings)?;
        let moment = resources.moment.or_else(clock::now);
        let mut prompt = prompt::tokens(&model, request, moment, &mut warnings)?;
        let whole = prompt.len();
        fit(&model, &settings, &mut prompt, &mut warnings)?;
        let cut = prompt.len() < whole;
        let eos_tokens = model.eos_tokens();
        if settings.sampling.eos_tokens.is_none() {
            settings.sampling.eos_tokens = Some(eos_tokens.clone());
        }
        if settings.ignore_eos {
            let suppressed = settings.sampling.suppress_tokens.get_or_insert_default();
            suppressed.extend(&eos_tokens);
        }
        // A head padded beyond the tokenizer has rows that stand for no text.
        let vocab = model.config().vocab as u32;
        let known = model
            .tokenizer()
            .map_or(vocab, |tokenizer| tokenizer.vocab_size() as u32);
        if known < vocab {
            let suppressed = settings.sampling.suppress_tokens.get_or_insert_default();
            suppressed.extend(known..vocab);
        }
        let named = |field: &str, name: &str| {
            resources.models.get(name).cloned().ok_or_else(|| {
                let reason = "it is not loaded; see Client::load_for";
                Error::unsupported(format!("{field} {name}"), reason)
            })
        };
        let draft = match &settings.strategy.decoding {
            Decoding::Rows {
                drafts: Some(drafts),
                ..
            } => drafts.model.as_deref(),
            _ => None,
        };
        let draft = draft.map(|name| named("draft_model", name)).transpose()?;
        let ensemble = settings.strategy.ensemble.as_ref();
        let ensemble = ensemble
            .into_iter()
            .flat_map(|ensemble| &ensemble.models)
            .map(|name| named("ensemble_models", name))
            .collect::<Result<Vec<_>, _>>()?;
        let mut chain = settings.sampling.clone();
        let mut member_temperature = 1.0;
        let mut union = None;
        if !ensemble.is_empty() {
            if !ensemble
                .iter()
                .all(|other| crate::strategy::same_vocabulary(&model, other))
            {
                union = Some(Arc::new(united(
                    &model, &ensemble, request, &prompt, cut, moment,
                )?));
            }
            // Each member applies the temperature itself; the chain acts on what they decided together.
            if let Some(temperature) = chain.temperature.filter(|t| *t >= GREEDY_BELOW) {
                member_temperature = temperature;
                chain.temperature = Some(1.0);
            }
        }
        let json = request.steering.wants_json().then(|| Constraints {
            json_mode: Some(true),
            ..Constraints::default()
        });
        let json = json.as_ref().and_then(Constraints::spec);
        let spec = request.constraints.spec().or(json);
        let compile = |spec: ConstraintSpec| match &union {
            Some(union) => union.constraint(&spec, &eos_tokens),
            None => model.constraint(&spec),
        };
        let constraint = spec.map(compile).transpose()?;
        let mut hooks = None;
        let mut edits = mx_steering::apply::Plan::default();
        if settings.steering != SteeringSpec::default() {
            let plan_of_edits = resources
                .vectors
                .compile(&settings.steering, &model, &prompt)?;
            let told = plan_of_edits.warnings.iter().map(ToString::to_string);
            warnings.extend(told.map(|told| Warning::new("steering", told)));
            if !plan_of_edits.is_empty() {
                let mut plan = crate::steering::hooks(&plan_of_edits, &model)?;
                if settings.include_trace {
                    plan = plan.watched();
                }
                hooks = Some(Arc::new(plan));
            }
            edits = plan_of_edits;
        }
        let mut watching = None;
        if !request.steering.behaviors.is_empty() {
            alone(&settings, union.is_some())?;
            let made = Watching::new(
                &request.steering.behaviors,
                request.steering.force_steering,
                &resources.vectors,
                &model,
                &edits,
                settings.include_trace,
            )?;
            hooks = Some(made.plan()?);
            watching = Some(made);
        }
        let continued = prompt::is_continued(&model, request);
        let traced = settings.include_trace.then(|| {
            let names = request.controls.models();
            let others = names.filter_map(|name| {
                let model = resources.models.get(name)?;
                Some(NamedModel::of(name, model))
            });
            Box::new(Traced {
                request: GenerateRequest {
                    seed: Some(settings.seed),
                    ..request.clone()
                },
                moment,
                others: others.collect(),
                steering: hooks.as_deref().map(crate::trace::of_edits),
            })
        });
        Ok(Plan {
            model,
            draft,
            ensemble,
            union,
            chain,
            member_temperature,
            constraint,
            hooks,
            watching,
            continued,
            settings,
            prompt,
            eos_tokens,
            warnings,
            traced,
        })
    }

    /// The constraint of the request in its first state.
    pub(crate) fn mask(&self) -> Result<Option<Box<dyn TokenMask>>, Error> {
        let Some(constraint) = &self.constraint else {
            return Ok(None);
        };
        let mask = constraint::ConstraintMask::new(constraint, self.tokenizer())?;
        Ok(Some(Box::new(mask)))
    }

    /// What is decided about: the model's tokens, or the entries of different vocabularies.
    pub(crate) fn vocab(&self) -> usize {
        match &self.union {
            Some(union) => union.len(),
            None => self.model.config().vocab,
        }
    }

    /// The same as a tokenizer; `None` where the model has none.
    pub(crate) fn tokenizer(&self) -> Option<Arc<dyn Tokenizer>> {
        match &self.union {
            Some(union) => Some(union.tokenizer()),
            None => self.model.tokenizer().cloned(),
        }
    }

    /// A token with its text.
    pub(crate) fn name(&self, token: u32) -> Named {
        let tokenizer = self.tokenizer();
        let bytes = tokenizer.as_ref().and_then(|t| t.token_bytes(token));
        Named {
            token,
            text: String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned(),
        }
    }

    /// The prompt as the model sees it.
    pub fn prompt_tokens(&self) -> &[u32] {
        &self.prompt
    }

    /// The settings and their origins.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was ignored, replaced or cut so far.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Refuses strategies under which a text is not written token by token.
fn alone(settings: &Settings, union: bool) -> Result<(), Error> {
    let refused = |what: &str, reason| Err(Error::unsupported(what, reason));
    if union {
        return refused(
            "behaviors in an ensemble of different tokenizers",
            "what the members decide about are not the main model's tokens, whose rows are scored",
        );
    }
    match &settings.strategy.decoding {
        Decoding::Rows { drafts: None, .. } => Ok(()),
        Decoding::Rows { .. } => refused(
            "behaviors with drafts",
            "every token decides whether the next one is steered, so that a draft is verified under the wrong law",
        ),
        Decoding::Beam(_) => refused(
            "behaviors under a beam search",
            "steering by what a beam has written makes the laws of the beams differ, which a search cannot rank",
        ),
    }
}

/// What the members of an ensemble of different vocabularies decide about. `cut` says that the beginning of the prompt
/// was dropped; every member then reads what the main model reads.
fn united(
    model: &Loaded,
    others: &[Loaded],
    request: &GenerateRequest,
    prompt: &[u32],
    cut: bool,
    moment: Option<u64>,
) -> Result<Union, Error> {
    let shown = match (model.tokenizer(), &request.prompt) {
        (Some(tokenizer), Prompt::Tokens(_)) => Some(tokenizer.decode(prompt, true)?),
        (Some(tokenizer), _) if cut => Some(tokenizer.decode(prompt, true)?),
        _ => None,
    };
    let mut members = Vec::with_capacity(others.len());
    for other in others {
        members.push((other, prompt::words(other, request, shown.clone(), moment)?));
    }
    let union = Union::new(model, members, prompt::is_continued(model, request))?;
    for (index, other) in others.iter().enumerate() {
        let tokens = union.read(index + 1, b"")?.map_or(0, |tokens| tokens.len());
        let limit = other.config().max_context;
        if tokens >= limit {
            return Err(Error::PromptTooLong { tokens, limit });
        }
    }
    Ok(union)
}

/// Refuses a prompt that leaves no room for a token, or drops its beginning if the request says so.
fn fit(
    model: &Model,
    settings: &Settings,
    prompt: &mut Vec<u32>,
    warnings: &mut Vec<Warning>,
) -> Result<(), Error> {
    let limit = model.config().max_context;
    let tokens = prompt.len();
    match settings.on_overflow {
        Overflow::Error if tokens >= limit => Err(Error::PromptTooLong { tokens, limit }),
        Overflow::TruncatePrompt if tokens >= limit => {
            // Half of the context at least stays for the prompt, however much is to be generated.
            let room = settings.max_tokens.min(limit / 2).max(1);
            let keep = limit.saturating_sub(room).max(1);
            let begin = prompt.first().copied();
            let begins = begin.filter(|first| model.config().bos_token == Some(*first) && keep > 1);
            let dropped = tokens - keep;
            prompt.drain(..dropped);
            if let (Some(bos), Some(first)) = (begins, prompt.first_mut()) {
                *first = bos;
            }
            warnings.push(Warning::new(
                "prompt_truncated",
                format!("dropped the first {dropped} of {tokens} prompt tokens to fit {limit}"),
            ));
            Ok(())
        }
        _ => Ok(()),
    }
}
