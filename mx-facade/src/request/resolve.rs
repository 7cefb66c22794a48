//! Request over policy over preset over model over built-in defaults, with the origin of every value.

use super::origin::{Origin, Origins, Setting};
use super::{Decoding, GenerateRequest, Method, Overflow, Strategy};
use crate::error::Error;
use crate::generation::Warning;
use mx_runtime::config::GenerationDefaults;
use mx_sampling::SamplingOptions;
use mx_steering::apply::SteeringSpec;

/// Most new tokens unless the request says otherwise.
const DEFAULT_MAX_TOKENS: usize = 128;

/// The values that a request is run with.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// The sampling method.
    pub method: Method,
    /// The sampling chain.
    pub sampling: SamplingOptions,
    /// How many outputs, by which search, with which drafts and models.
    pub strategy: Strategy,
    /// What steers the model.
    pub steering: SteeringSpec,
    /// Most new tokens.
    pub max_tokens: usize,
    /// Seed of the random stream.
    pub seed: u64,
    /// Texts that end the generation.
    pub stop: Vec<String>,
    /// Whether the tokens that end a text are ruled out.
    pub ignore_eos: bool,
    /// What to do with a prompt that does not fit.
    pub on_overflow: Overflow,
    /// Whether the answer carries a trace.
    pub include_trace: bool,
    /// Every value above with its origin, sorted by name.
    pub origins: Vec<Setting>,
}

impl Settings {
    /// Merges a request with the model's recommendation and the built-in defaults. `seed` is called when the request
    /// has none.
    ///
    /// # Errors
    /// [`Error::UnknownField`], or [`Error::Request`] for a value that cannot be used.
    pub fn resolve(
        request: &GenerateRequest,
        model: &GenerationDefaults,
        seed: impl FnOnce() -> u64,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, Error> {
        request.known()?;
        if request.max_tokens == Some(0) {
            return Err(Error::request("max_tokens", 0, "1 or more"));
        }
        if request.stop.iter().any(String::is_empty) {
            return Err(Error::request(
                "stop",
                "an empty string",
                "texts of at least one character",
            ));
        }
        let mut origins = Origins::default();
        let (method, method_origin) = match request.sampling_method {
            Some(method) => (method, Origin::Request),
            None => (Method::default(), Origin::BuiltIn),
        };
        origins.add("sampling_method", method.name(), method_origin);

        request.constraints.check()?;
        origins.add_serde_all(&request.constraints, Origin::Request);
        let strategy = Strategy::resolve(
            &request.controls,
            method,
            request.is_constrained(),
            &mut origins,
            warnings,
        )?;

        let steering = request.steering.resolve(&mut origins, warnings);

        let greedy = method == Method::Greedy;
        if let Some(given) = request.sampling.temperature.filter(|t| greedy && *t != 0.0) {
            warnings.push(Warning::new(
                "temperature_ignored",
                format!("temperature {given} has no effect under the method greedy"),
            ));
        }
        let beam = matches!(strategy.decoding, Decoding::Beam(_));
        let mut asked = request.sampling.clone();
        if greedy {
            asked.temperature = None;
        }
        if beam {
            drop_what_only_draws(&mut asked, warnings);
        }
        let recommended = match greedy || beam {
            true => penalties_of(model),
            false => recommended_by(model),
        };
        let built_in = match beam {
            true => SamplingOptions::default(),
            false => method.options(&SamplingOptions::default()),
        };
        let sampling = asked.or(&recommended).or(&built_in);
        origins.add_serde_all(&asked, Origin::Request);
        origins.add_serde_all(&recommended, Origin::Model);
        origins.add_serde_all(&built_in, Origin::BuiltIn);

        let (seed, seed_origin) = match request.seed {
            Some(seed) => (seed, Origin::Request),
            None => (seed(), Origin::Random),
        };
        origins.add("seed", seed, seed_origin);
        let max_tokens = origins.or("max_tokens", request.max_tokens, DEFAULT_MAX_TOKENS);
        let ignore_eos = origins.or("ignore_eos", request.ignore_eos, false);
        let on_overflow = match request.on_overflow {
            Some(choice) => (choice, Origin::Request),
            None => (Overflow::default(), Origin::BuiltIn),
        };
        origins.add_serde("on_overflow", &on_overflow.0, on_overflow.1);
        let include_trace = origins.or("include_trace", request.include_trace, false);
        if !request.stop.is_empty() {
            origins.add_serde("stop", &request.stop, Origin::Request);
        }
        Ok(Settings {
            method,
            sampling,
            strategy,
            steering,
            max_tokens,
            seed,
            stop: request.stop.clone(),
            ignore_eos,
            on_overflow: on_overflow.0,
            include_trace,
            origins: origins.sorted(),
        })
    }
}

/// A beam search ranks by the model's own law: temperature and truncations have nothing to act on.
fn drop_what_only_draws(asked: &mut SamplingOptions, warnings: &mut Vec<Warning>) {
    macro_rules! drop {
        ($($field:ident),+ $(,)?) => {
            $(if asked.$field.take().is_some() {
                let message = concat!(
                    stringify!($field),
                    " has no effect: a beam search ranks by the model's own law",
                );
                warnings.push(Warning::new("no_effect", message));
            })+
        };
    }
    drop!(
        temperature,
        dynatemp_range,
        dynatemp_exponent,
        top_k,
        top_p,
        min_p,
        typical_p,
        epsilon_cutoff,
        eta_cutoff,
        top_n_sigma,
        top_h,
        tail_free,
        xtc_threshold,
        xtc_probability,
        mirostat,
        mirostat_tau,
        mirostat_eta,
        adaptive_p_target,
        adaptive_p_decay,
    );
}

/// What the model's files recommend, as sampling options.
fn recommended_by(model: &GenerationDefaults) -> SamplingOptions {
    SamplingOptions {
        temperature: model.temperature.map(f64::from),
        top_k: model.top_k,
        top_p: model.top_p.map(f64::from),
        min_p: model.min_p.map(f64::from),
        ..penalties_of(model)
    }
}

/// The part of the recommendation that concerns greedy choice too.
fn penalties_of(model: &GenerationDefaults) -> SamplingOptions {
    SamplingOptions {
        repetition_penalty: model.repetition_penalty.map(f64::from),
        ..SamplingOptions::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::Value;

    fn resolve(request: &GenerateRequest, model: &GenerationDefaults) -> (Settings, Vec<Warning>) {
        let mut warnings = Vec::new();
        let settings = Settings::resolve(request, model, || 42, &mut warnings).unwrap();
        (settings, warnings)
    }

    fn origin(settings: &Settings, name: &str) -> Option<(Value, Origin)> {
        let setting = settings
            .origins
            .iter()
            .find(|setting| setting.name == name)?;
        Some((setting.value.clone(), setting.origin))
    }

    #[test]
    fn request_over_model_over_built_in() {
        let model = GenerationDefaults {
            temperature: Some(0.5),
            top_p: Some(0.75),
            ..GenerationDefaults::default()
        };
        let (settings, _) = resolve(&GenerateRequest::new("x").top_p(0.25), &model);
        assert_eq!(settings.sampling.temperature, Some(0.5));
        assert_eq!(
            origin(&settings, "temperature"),
            Some((0.5.into(), Origin::Model))
        );
        assert_eq!(
            origin(&settings, "top_p"),
            Some((0.25.into(), Origin::Request))
        );
        assert_eq!(
            origin(&settings, "top_k"),
            Some((50.into(), Origin::BuiltIn))
        );
        assert_eq!(origin(&settings, "seed"), Some((42.into(), Origin::Random)));
    }

    #[test]
    fn a_method_activates_only_its_own_truncation() {
        let request = GenerateRequest::new("x").method(Method::TopP);
        let (settings, _) = resolve(&request, &GenerationDefaults::default());
        assert_eq!(settings.sampling.top_p, Some(0.9));
        assert_eq!(settings.sampling.top_k, None);
    }

    #[test]
    fn greedy_ignores_a_temperature_and_says_so() {
        let model = GenerationDefaults {
            top_k: Some(3),
            ..GenerationDefaults::default()
        };
        let request = GenerateRequest::new("x")
            .method(Method::Greedy)
            .temperature(0.9);
        let (settings, warnings) = resolve(&request, &model);
        assert_eq!(settings.sampling.temperature, Some(0.0));
        assert_eq!(settings.sampling.top_k, None);
        assert_eq!(warnings[0].code, "temperature_ignored");
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        let refuse = |request: &GenerateRequest| {
            let model = GenerationDefaults::default();
            Settings::resolve(request, &model, || 0, &mut Vec::new())
                .unwrap_err()
                .to_string()
        };
        let mut typo = GenerateRequest::new("x");
        typo.unknown.insert("temprature".to_owned(), Value::Null);
        assert_eq!(refuse(&typo), "field temprature is unknown");
        assert_eq!(
            refuse(&GenerateRequest::new("x").max_tokens(0)),
            "max_tokens is 0, wanted 1 or more"
        );
        assert!(refuse(&GenerateRequest::new("x").stop("")).starts_with("stop is an empty string"));
    }
}
