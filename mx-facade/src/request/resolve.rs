//! Request over policy over preset over model over built-in defaults, with the origin of every value.

use super::origin::{Origin, Origins, Setting};
use super::{Decoding, GenerateRequest, Method, Overflow, Strategy};
use crate::error::Error;
use crate::generation::Warning;
use mx_runtime::config::GenerationDefaults;
use mx_sampling::{GREEDY_BELOW, Order, SamplingOptions, Step};
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
    /// Checks a request for a model of this machine, before it is loaded: every [range](GenerateRequest::check), and
    /// what settings are to each other. Under a policy only the ranges, since the policy decides the rest.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn check(request: &GenerateRequest) -> Result<(), Error> {
        request.check()?;
        if crate::policy::governs(request) {
            return Ok(());
        }
        let model = GenerationDefaults::default();
        let settings = Settings::resolve(request, &model, || 0, &mut Vec::new())?;
        Ok(settings.sampling.check()?)
    }

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
        request.check()?;
        let mut origins = Origins::default();
        let (method, method_origin) = match request.sampling_method {
            Some(method) => (method, Origin::Request),
            None => (Method::default(), Origin::BuiltIn),
        };
        origins.add("sampling_method", method.name(), method_origin);

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
            let why = "a beam search ranks by the model's own law";
            drop_what_only_draws(&mut asked, why, warnings);
        } else if greedy {
            let why = "the method greedy takes the most likely token";
            drop_what_only_draws(&mut asked, why, warnings);
        } else if let Some(zero) = asked
            .temperature
            .filter(|t| (0.0..GREEDY_BELOW).contains(t))
        {
            let why = "the temperature 0 takes the most likely token";
            asked.temperature = None;
            drop_what_only_draws(&mut asked, why, warnings);
            asked.temperature = Some(zero);
        }
        let mut recommended = match greedy || beam {
            true => penalties_of(model),
            false => recommended_by(model),
        };
        let mut built_in = match beam {
            true => SamplingOptions::default(),
            false => method.options(&SamplingOptions::default()),
        };
        yield_to(&asked, &mut recommended, &mut built_in, warnings);
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

/// Takes out of the recommendation and the defaults what cannot stand beside what was asked for: truncations beside
/// mirostat, which truncates itself, and steps that an explicit order does not list.
fn yield_to(
    asked: &SamplingOptions,
    recommended: &mut SamplingOptions,
    built_in: &mut SamplingOptions,
    warnings: &mut Vec<Warning>,
) {
    let mirostat = asked.mirostat.is_some_and(|version| version != 0);
    let order = match &asked.order {
        Some(Order::Explicit(steps)) => Some(steps),
        _ => None,
    };
    let goes = |step: Step| {
        let unlisted = order.is_some_and(|steps| !steps.contains(&step));
        unlisted || (mirostat && step != Step::Temperature)
    };
    macro_rules! give_way {
        ($($field:ident: $step:expr),+ $(,)?) => {
            $(if goes($step) {
                built_in.$field = None;
                if let Some(value) = recommended.$field.take() {
                    let reason = match mirostat {
                        true => "mirostat truncates itself",
                        false => "the order does not list it",
                    };
                    let name = stringify!($field);
                    let message = format!("{name} {value}, which the model recommends, is left out: {reason}");
                    warnings.push(Warning::new("recommendation_ignored", message));
                }
            })+
        };
    }
    give_way!(
        temperature: Step::Temperature,
        top_k: Step::TopK,
        top_p: Step::TopP,
        min_p: Step::MinP,
        typical_p: Step::Typical,
    );
    if order.is_some_and(|steps| !steps.contains(&Step::Repetition)) {
        recommended.repetition_penalty = None;
    }
}

/// Where nothing is drawn, temperature and truncations have nothing to act on.
fn drop_what_only_draws(asked: &mut SamplingOptions, why: &str, warnings: &mut Vec<Warning>) {
    macro_rules! drop {
        ($($field:ident),+ $(,)?) => {
            $(if asked.$field.take().is_some() {
                let message = format!("{} has no effect: {why}", stringify!($field));
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
    fn defaults_make_room_for_mirostat_and_for_an_order() {
        let model = GenerationDefaults {
            top_p: Some(0.75),
            ..GenerationDefaults::default()
        };
        let ask = |json: &str| {
            let request: GenerateRequest = serde_json::from_str(json).unwrap();
            resolve(&request, &model)
        };
        let (settings, warnings) = ask(r#"{"prompt": "x", "mirostat": 2}"#);
        assert_eq!(
            (settings.sampling.top_k, settings.sampling.top_p),
            (None, None)
        );
        assert_eq!(settings.sampling.temperature, Some(0.7));
        assert_eq!(warnings[0].code, "recommendation_ignored");
        let (settings, _) = ask(r#"{"prompt": "x", "order": ["top_p", "temp"], "top_p": 0.5}"#);
        assert_eq!(
            (settings.sampling.top_k, settings.sampling.top_p),
            (None, Some(0.5))
        );
        // What was asked for itself stays, and is refused where it excludes something.
        let (settings, _) = ask(r#"{"prompt": "x", "mirostat": 2, "top_k": 5}"#);
        assert_eq!(settings.sampling.top_k, Some(5));
    }

    #[test]
    fn where_nothing_is_drawn_truncations_are_reported() {
        for json in [
            r#"{"prompt": "x", "method": "greedy", "top_k": 3, "min_p": 0.3}"#,
            r#"{"prompt": "x", "temperature": 0.0, "top_k": 3, "xtc_probability": 0.3}"#,
        ] {
            let request: GenerateRequest = serde_json::from_str(json).unwrap();
            let (_, warnings) = resolve(&request, &GenerationDefaults::default());
            let codes: Vec<_> = warnings.iter().map(|w| w.code.as_str()).collect();
            assert_eq!(codes, ["no_effect", "no_effect"], "{json}");
        }
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
