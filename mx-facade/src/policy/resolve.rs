//! A policy as a layer below a request.

use super::constraints::Requirements;
use super::verify::Verifier;
use super::{Nullable, Policy, SamplingControls, SteeringControls};
use crate::error::Error;
use crate::generation::Warning;
use crate::request::{GenerateRequest, Method, Origin, Setting, Steering, Voting};
use mx_steering::apply::{Steer, SteeringSpec, TokenClass, VectorRef, parse_layers};
use mx_steering::presets::{Preset, PresetKind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::str::FromStr;

/// `top_k` and `top_p` of a policy that has null for them: they keep every token.
const ALL_TOKENS: i64 = 0;
const ALL_MASS: f64 = 1.0;
/// The contract's defaults of the two.
const CONTRACT_TOP_K: i64 = 50;
const CONTRACT_TOP_P: f64 = 0.9;
/// The only language whose code is checked.
const LANGUAGE: &str = "python";
/// The model that a policy without an own one names.
const ANY_MODEL: &str = "default";

/// A request with its policy's values beneath its own.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The request that is run: no policy, no constraint that is no mask, no number of outputs.
    pub(crate) request: GenerateRequest,
    /// Names whose values came from elsewhere than the request.
    pub(crate) origins: BTreeMap<String, Origin>,
    /// What outputs must satisfy.
    pub(crate) required: Requirements,
    /// What is verified.
    pub(crate) verifiers: Vec<Verifier>,
}

impl Resolved {
    /// Puts a policy beneath a request. `model` names the local model; without one a server generates, and is sent no
    /// constraint but those that request or policy give.
    ///
    /// # Errors
    /// [`Error::Request`] and [`Error::Unsupported`] naming the field of the policy.
    pub(crate) fn new(
        policy: &Policy,
        request: &GenerateRequest,
        model: Option<&str>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, Error> {
        unknown(policy, warnings);
        same_model(policy, model)?;
        let mut merged = request.clone();
        let mut origins = BTreeMap::new();
        let mut layer = sampling_of(policy)?;
        if let Some(stop) = policy
            .constraints
            .value()
            .and_then(|c| c.stop_sequences.value())
        {
            layer.stop.clone_from(stop);
        }
        let mut verifiers = enabled(policy, request)?;
        let mut preset = preset_of(request, &mut merged);
        // A strength alone is one for what the policy steers by.
        let strength = merged.steering.steering_strength;
        let unsteered = Steering {
            steering_strength: strength,
            ..Steering::default()
        };
        if preset.is_none()
            && merged.steering == unsteered
            && let Some(block) = policy.steering.value()
        {
            steering(block, &mut layer, warnings)?;
            preset = preset_of(&layer.clone(), &mut layer);
            if strength.is_some() && layer.steering != Steering::default() {
                merged.steering.steering_strength = None;
                let spec = layer.steering.steering.iter_mut();
                spec.flat_map(|spec| &mut spec.vectors)
                    .for_each(|vector| vector.strength = strength);
                if layer.steering.steering_preset.is_some() {
                    layer.steering.steering_strength = strength;
                }
            }
        }
        own_truncation(policy, merged.sampling_method, &mut layer);
        below(&mut merged, &layer, Origin::Policy, &mut origins);
        let json_preset = preset == Some(Preset::JsonCompliance);
        for verifier in preset.map(preset_verifiers).unwrap_or_default() {
            if !verifiers.contains(verifier) {
                verifiers.push(*verifier);
            }
        }
        let tool_call = verifiers.contains(&Verifier::ToolArgs);
        let mut required = Requirements::new(&request.constraints, policy, tool_call, warnings)?;
        required.json |= json_preset;
        // A preset checks what there is to check.
        let asked = enabled(policy, request)?;
        verifiers.retain(|verifier| {
            asked.contains(verifier)
                || match verifier {
                    Verifier::JsonSchema => required.schema.is_some(),
                    Verifier::Regex => required.regex.is_some(),
                    _ => true,
                }
        });
        let (mask, left) = required.mask(model.is_some())?;
        if !left.is_empty() {
            let message = format!(
                "checked when the output is finished, since a mask carries one constraint: {}",
                left.join(", ")
            );
            warnings.push(Warning::new("checked_afterwards", message));
        }
        let given = named(&request.constraints);
        for name in named(&mask)
            .keys()
            .filter(|name| !given.contains_key(*name))
        {
            let origin = match json_preset && name == "json_mode" {
                true => Origin::Preset,
                false => Origin::Policy,
            };
            origins.insert(name.clone(), origin);
        }
        merged.constraints = mask;
        if merged.sampling_method == Some(Method::Guided) && !merged.is_constrained() {
            let wanted = "a constraint beside it";
            return Err(Error::request(
                "sampling.method",
                Method::Guided.name(),
                wanted,
            ));
        }
        let request = super::rules::without_checks(merged);
        Ok(Resolved {
            request,
            origins,
            required,
            verifiers,
        })
    }

    /// Says of each setting where it really came from.
    pub(crate) fn relabel(&self, settings: &mut [Setting]) {
        for setting in settings {
            if setting.origin == Origin::Request
                && let Some(origin) = self.origins.get(&setting.name)
            {
                setting.origin = *origin;
            }
        }
    }
}

/// A whole object of the contract states `top_k` and `top_p` whatever its method is: one that still has its default there
/// and is not the method's own truncation is no wish of anybody. One that stands alone, or has another value, acts.
fn own_truncation(policy: &Policy, asked: Option<Method>, layer: &mut GenerateRequest) {
    let Some(block) = policy.sampling.value() else {
        return;
    };
    let Some(method) = asked.or(layer.sampling_method) else {
        return;
    };
    let stated = block.top_k.value().zip(block.top_p.value());
    let Some((top_k, top_p)) = stated else {
        return;
    };
    if method != Method::TopK && *top_k == CONTRACT_TOP_K {
        layer.sampling.top_k = None;
    }
    if method != Method::TopP && *top_p == CONTRACT_TOP_P {
        layer.sampling.top_p = None;
    }
}

/// Fills what the request leaves open from a layer, and notes the names.
fn below(
    request: &mut GenerateRequest,
    layer: &GenerateRequest,
    origin: Origin,
    origins: &mut BTreeMap<String, Origin>,
) {
    let given = named(request);
    for name in named(layer).keys() {
        if name != "prompt" && !given.contains_key(name) {
            origins.insert(name.clone(), origin);
        }
    }
    request.sampling_method = request.sampling_method.or(layer.sampling_method);
    request.sampling = request.sampling.or(&layer.sampling);
    if request.stop.is_empty() {
        request.stop.clone_from(&layer.stop);
    }
    if request.steering.is_empty() {
        if !layer.steering.is_empty() {
            // What a vector, a preset and a strength come to.
            origins.insert("steering".to_owned(), origin);
        }
        request.steering.clone_from(&layer.steering);
    }
    let (own, other) = (&mut request.controls, &layer.controls);
    own.ads_subset_size = own.ads_subset_size.or(other.ads_subset_size);
    own.ads_beta = own.ads_beta.or(other.ads_beta);
    own.beam_width = own.beam_width.or(other.beam_width);
    own.speculative_steps = own.speculative_steps.or(other.speculative_steps);
    own.voting = own.voting.or(other.voting);
    if own.draft_model.is_none() && own.drafter.is_none() {
        own.draft_model.clone_from(&other.draft_model);
    }
    if own.ensemble_models.is_empty() {
        own.ensemble_models.clone_from(&other.ensemble_models);
    }
}

/// What is given, by name.
fn named(value: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// What a policy says of sampling, as a request.
pub(super) fn sampling_of(policy: &Policy) -> Result<GenerateRequest, Error> {
    let mut layer = GenerateRequest::default();
    if let Some(block) = policy.sampling.value() {
        sampling(block, &mut layer)?;
    }
    Ok(layer)
}

/// The sampling block as fields of a request.
fn sampling(block: &SamplingControls, layer: &mut GenerateRequest) -> Result<(), Error> {
    let method = block.method.value().map(|name| Method::from_name(name));
    layer.sampling_method = method.transpose()?;
    let chain = &mut layer.sampling;
    chain.temperature = block.temperature.value().copied();
    chain.top_k = match &block.top_k {
        Nullable::Null => Some(ALL_TOKENS),
        other => other.value().copied(),
    };
    chain.top_p = match &block.top_p {
        Nullable::Null => Some(ALL_MASS),
        other => other.value().copied(),
    };
    chain.min_p = block.min_p.value().copied();
    chain.typical_p = block.typical_p.value().copied();
    chain.frequency_penalty = block.frequency_penalty.value().copied();
    chain.presence_penalty = block.presence_penalty.value().copied();
    chain.repetition_penalty = block.repetition_penalty.value().copied();
    let count = |name: &str, given: &Nullable<i64>| {
        given
            .value()
            .map(|given| {
                usize::try_from(*given)
                    .map_err(|_| Error::request(name, given, "a number of at least 0"))
            })
            .transpose()
    };
    let method = layer.sampling_method;
    let controls = &mut layer.controls;
    // A policy states every parameter of every method; those of other methods are no wish of anybody.
    if method == Some(Method::Ads) {
        controls.ads_subset_size = count("sampling.ads_subset_size", &block.ads_subset_size)?;
        controls.ads_beta = block.ads_beta.value().copied();
    }
    if matches!(method, Some(Method::Beam | Method::ConstrainedBeam)) {
        controls.beam_width = count("sampling.beam_width", &block.beam_width)?;
    }
    if matches!(method, Some(Method::Speculative | Method::Ssd)) {
        controls.draft_model = block.draft_model.value().cloned();
        controls.speculative_steps = count("sampling.speculative_steps", &block.speculative_steps)?;
    }
    controls.ensemble_models = block.ensemble_models.value().cloned().unwrap_or_default();
    if !controls.ensemble_models.is_empty() {
        layer.sampling_method = Some(Method::Ensemble);
        // By the contract an ensemble votes unless told otherwise.
        controls.voting = Some(match block.voting.value() {
            Some(name) => serde_json::from_value(Value::from(name.as_str())).map_err(|_| {
                Error::request("sampling.voting", name, "average, product or majority")
            })?,
            None => Voting::Majority,
        });
    }
    Ok(())
}

/// The steering block as fields of a request.
fn steering(
    block: &SteeringControls,
    layer: &mut GenerateRequest,
    warnings: &mut Vec<Warning>,
) -> Result<(), Error> {
    let sources = [
        ("vector_id", block.vector_id.value().is_some()),
        ("vector", block.vector.value().is_some()),
        ("preset", block.preset.value().is_some()),
        ("file_url", block.file_url.value().is_some()),
    ];
    let named: Vec<&str> = sources
        .iter()
        .filter_map(|(name, given)| given.then_some(*name))
        .collect();
    if block.enabled.value() != Some(&true) {
        if !named.is_empty() {
            let message = format!(
                "the policy's steering ({}) is not enabled: nothing steers",
                named.join(", ")
            );
            warnings.push(Warning::new("steering_disabled", message));
        }
        return Ok(());
    }
    if let Some(method) = block
        .method
        .value()
        .filter(|m| *m == "steering-perceptrons")
    {
        return Err(Error::unsupported(
            format!("steering.method {method}"),
            "its vendor publishes no definition of it",
        ));
    }
    let (first, others) = match named.split_first() {
        Some(found) => found,
        None => {
            let message = "the policy's steering is enabled but names no vector, preset or file";
            warnings.push(Warning::new("no_effect", message));
            return Ok(());
        }
    };
    if !others.is_empty() {
        let wanted = format!("absent beside steering.{first}");
        return Err(Error::request(
            &format!("steering.{}", others[0]),
            "given",
            wanted,
        ));
    }
    let strength = block.strength.value().map(|strength| *strength as f32);
    if let Some(preset) = block.preset.value() {
        Preset::from_str(preset)?;
        layer.steering.steering_preset = Some(preset.clone());
        layer.steering.steering_strength = strength;
        if block.layer_scope.value().is_none_or(Vec::is_empty) && tokens(block).is_none() {
            return Ok(());
        }
    }
    let vector = match (block.vector.value(), block.file_url.value()) {
        (Some(layers), _) => VectorRef::Inline(
            serde_json::from_value(Value::Object(layers.clone())).map_err(|error| {
                Error::request("steering.vector", error, "layers and lists of numbers")
            })?,
        ),
        (None, Some(url)) => VectorRef::Reference(local_file(url)?),
        (None, None) => VectorRef::Reference(
            block
                .vector_id
                .value()
                .or(block.preset.value())
                .cloned()
                .unwrap_or_default(),
        ),
    };
    let preset = layer.steering.steering_preset.take();
    layer.steering.steering_strength = None;
    let mut steer = Steer::new("");
    steer.vector = vector;
    // By the contract a vector acts at strength 1; a preset has a strength of its own.
    steer.strength = strength.or(preset.is_none().then_some(1.0));
    if let Some(scope) = block.layer_scope.value().filter(|scope| !scope.is_empty()) {
        let mut layers = Vec::new();
        for text in scope {
            layers.extend(parse_layers(layer_of(text))?);
        }
        steer.layers = Some(layers);
    }
    if let Some(class) = tokens(block) {
        steer.tokens = class;
    }
    layer.steering.steering = Some(SteeringSpec::from(steer));
    Ok(())
}

/// `blocks.12.hook_resid_pre` names layer 12, and so does `12`.
fn layer_of(text: &str) -> &str {
    let inner = text.strip_prefix("blocks.").unwrap_or(text);
    inner.split_once('.').map_or(inner, |(layer, _)| layer)
}

/// The positions that are steered; `None` for all.
fn tokens(block: &SteeringControls) -> Option<TokenClass> {
    let (start, end) = (
        block.token_start.value().copied(),
        block.token_end.value().copied(),
    );
    (start.is_some() || end.is_some()).then(|| TokenClass::Range {
        start: start.unwrap_or(0),
        end,
    })
}

/// The file of a `file:` address or path; nothing is fetched from elsewhere.
fn local_file(url: &str) -> Result<String, Error> {
    if let Some(path) = url.strip_prefix("file://") {
        return Ok(path.to_owned());
    }
    match url.contains("://") {
        true => Err(Error::unsupported(
            format!("steering.file_url {url}"),
            "vectors are not fetched: take it into the store and name it by vector_id",
        )),
        false => Ok(url.to_owned()),
    }
}

/// The preset that a request names. One that is a constraint is taken out of the steering.
fn preset_of(given: &GenerateRequest, request: &mut GenerateRequest) -> Option<Preset> {
    let name = given.steering.steering_preset.as_deref()?;
    let preset = Preset::from_str(name).ok()?;
    if preset.kind() == PresetKind::Constraint {
        request.steering.steering_preset = None;
        request.steering.steering_strength = None;
    }
    Some(preset)
}

/// What a preset has checked.
fn preset_verifiers(preset: Preset) -> &'static [Verifier] {
    match preset {
        Preset::Truthfulness | Preset::SafetyStyle => &[Verifier::Factuality],
        Preset::JsonCompliance => &[Verifier::Syntax, Verifier::JsonSchema],
        Preset::FormatRigidity => &[Verifier::Regex],
        _ => &[],
    }
}

/// The verifiers that a policy and a request ask for.
fn enabled(policy: &Policy, request: &GenerateRequest) -> Result<Vec<Verifier>, Error> {
    let mut verifiers = Vec::new();
    let block = policy.verifiers.value();
    let names = block.and_then(|block| block.enabled.value());
    for name in names.into_iter().flatten() {
        let verifier = Verifier::from_name(name)?;
        if !verifiers.contains(&verifier) {
            verifiers.push(verifier);
        }
    }
    let tests = !request.checks.code_unit_tests.is_empty();
    if tests && !verifiers.contains(&Verifier::UnitTests) {
        verifiers.push(Verifier::UnitTests);
    }
    let code = [Verifier::UnitTests, Verifier::CodeCompile];
    if let Some(language) = block.and_then(|block| block.code_language.value())
        && language != LANGUAGE
        && code.iter().any(|verifier| verifiers.contains(verifier))
    {
        return Err(Error::unsupported(
            format!("verifiers.code_language {language}"),
            format!("only {LANGUAGE} is checked"),
        ));
    }
    Ok(verifiers)
}

/// Refuses a policy that names another model than the one there is.
fn same_model(policy: &Policy, model: Option<&str>) -> Result<(), Error> {
    let Some(target) = policy.model.value() else {
        return Ok(());
    };
    if let Some(url) = target.base_url.value() {
        return Err(Error::unsupported(
            format!("model.base_url {url}"),
            "the server is the client's: set it there",
        ));
    }
    match (target.model.value(), model) {
        (Some(wanted), Some(model)) if wanted != ANY_MODEL && wanted != model => {
            Err(Error::unsupported(
                format!("model.model {wanted}"),
                format!("the client's model is {model}"),
            ))
        }
        _ => Ok(()),
    }
}

/// Names the fields that this version does not know.
fn unknown(policy: &Policy, warnings: &mut Vec<Warning>) {
    fn block(name: &str, extra: Option<&Map<String, Value>>, found: &mut Vec<String>) {
        found.extend(
            extra
                .into_iter()
                .flat_map(Map::keys)
                .map(|field| format!("{name}{field}")),
        );
    }
    let mut found = Vec::new();
    block("", Some(&policy.extra), &mut found);
    macro_rules! blocks {
        ($($name:ident),+) => {
            $(block(
                concat!(stringify!($name), "."),
                policy.$name.value().map(|block| &block.extra),
                &mut found,
            );)+
        };
    }
    blocks!(
        model,
        task_profile,
        objective,
        sampling,
        steering,
        constraints,
        verifiers,
        optimization
    );
    for field in found {
        if field != "constraints.grammar_syntax" {
            let message = format!("the policy's field {field} is unknown and has no effect");
            warnings.push(Warning::new("unknown_field", message));
        }
    }
}
