//! The parameters of decoding strategies: how many outputs, which search, which drafts, which models together.

use mx_sampling::Method;
use mx_sampling::strategy::determinantal::AdsOptions;
use serde::{Deserialize, Serialize};

use super::origin::{Origin, Origins};
use crate::error::Error;
use crate::generation::Warning;

/// Beams of a beam search unless the request says otherwise.
const DEFAULT_BEAM_WIDTH: usize = 4;
/// Drafted tokens of the first round unless the request says otherwise; the number then follows the acceptance.
const DEFAULT_SPECULATIVE_STEPS: usize = 4;
/// Most outputs, candidates or beams of one request.
const MAX_ROWS: usize = 64;
/// Most log-probabilities beside the chosen token's.
const MAX_LOGPROBS: usize = 128;
/// What a request names in place of a draft model, to draft by the model's own first blocks.
const SELF: &str = "self";
/// Most drafted tokens a round.
const MAX_SPECULATIVE_STEPS: usize = 64;

/// Parameters of a [`GenerateRequest`](super::GenerateRequest) that choose among strategies; in JSON they stand beside
/// its other fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Controls {
    /// Outputs to return, 1 to 64; 1 unless given. Output `i` draws from random stream `i` of the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<usize>,
    /// Candidates to generate side by side, of which the `n` best are returned; 1 to 64. The best has the largest mean
    /// log-probability a token under the model's own law, the lower index on ties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_of_n: Option<usize>,
    /// Log-probabilities of every token, and of so many of the most likely ones, under the model's own law; 0 to 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<usize>,
    /// Largest subset of `ads`, 1 to 64; 8 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ads_subset_size: Option<usize>,
    /// Share of the full repulsion of `ads`, 0 up to (not including) 1; 0.3 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ads_beta: Option<f64>,
    /// Beams of a beam search, 1 to 64; 4 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beam_width: Option<usize>,
    /// Exponent of the length by which a finished beam's score is divided; 1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_penalty: Option<f64>,
    /// Phrases that the output of a beam search must contain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub must_include: Vec<String>,
    /// The model that drafts; it must be loaded into the client. `self` is the drafter of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_model: Option<String>,
    /// Who drafts; the draft model where one is named, otherwise the text so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drafter: Option<DrafterKind>,
    /// Blocks that the drafter `self` runs through, at least 1 and fewer than the model has; a third of them unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_layers: Option<usize>,
    /// Drafted tokens of the first round, 1 to 64; 4 unless given. The number then follows what is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculative_steps: Option<usize>,
    /// Models that decide together with the main one; they must be loaded into the client. Where vocabularies differ they
    /// decide over byte strings: a model's law over them is that of its tokens at the temperature, added up where several
    /// have the same bytes, control tokens left out, all tokens that end a text being one. The text so far is read by
    /// each model in its own tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ensemble_models: Vec<String>,
    /// Weights of the main model and of the ensemble's others, in this order; equal unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ensemble_weights: Vec<f64>,
    /// How the models of an ensemble come to one law; `average` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voting: Option<Voting>,
}

impl Controls {
    /// The models that the request names beside the main one, which must be loaded for it.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        let names = self.ensemble_models.iter().chain(&self.draft_model);
        names.map(String::as_str).filter(|name| *name != SELF)
    }

    /// The ranges of what does not depend on model and method.
    pub(super) fn check(&self) -> Result<(), Error> {
        let counts = [
            ("logprobs", self.logprobs, 0, MAX_LOGPROBS),
            ("beam_width", self.beam_width, 1, MAX_ROWS),
            ("draft_layers", self.draft_layers, 1, usize::MAX),
            (
                "speculative_steps",
                self.speculative_steps,
                1,
                MAX_SPECULATIVE_STEPS,
            ),
        ];
        for (field, given, least, most) in counts {
            if let Some(given) = given {
                in_range(field, given, least, most)?;
            }
        }
        let default = AdsOptions::default();
        check_ads(&AdsOptions {
            subset_size: self.ads_subset_size.unwrap_or(default.subset_size),
            beta: self.ads_beta.unwrap_or(default.beta),
            ..default
        })?;
        if let Some(length_penalty) = self.length_penalty {
            check_length_penalty(length_penalty)?;
        }
        let members = self.ensemble_models.len() + 1;
        match self.ensemble_weights.is_empty() || members == 1 {
            true => Ok(()),
            false => check_weights(&self.ensemble_weights, members),
        }
    }

    /// The ranges of the numbers of outputs, where no policy has its own.
    pub(super) fn check_rows(&self) -> Result<(), Error> {
        let n = self.n.unwrap_or(1);
        in_range("n", n, 1, MAX_ROWS)?;
        in_range("best_of_n", self.best_of_n.unwrap_or(n), n, MAX_ROWS)
    }
}

/// Who proposes the tokens that the model then verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DrafterKind {
    /// A smaller model.
    Model,
    /// The text so far: what followed the last occurrence of its ending (Saxena 2023).
    PromptLookup,
    /// The model itself, left after its first blocks through the final norm and the head (self-speculation by early
    /// exit: Draft & Verify 2023, LayerSkip 2024). It needs no second model and no memory for weights.
    #[serde(rename = "self", alias = "early-exit")]
    EarlyExit,
}

/// How several models come to one law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Voting {
    /// The weighted mean of the models' laws.
    #[default]
    Average,
    /// Their weighted geometric mean: one model's zero is a veto.
    Product,
    /// Every model votes for its most likely token; ties go to the larger mean probability. Nothing is drawn.
    Majority,
}

/// What of [`Controls`] a request is run with.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Strategy {
    /// Outputs to return.
    pub n: usize,
    /// Candidates to generate, at least `n`.
    pub candidates: usize,
    /// Log-probabilities to report.
    pub logprobs: Option<usize>,
    /// How the next tokens are found.
    pub decoding: Decoding,
    /// The other models of an ensemble.
    pub ensemble: Option<Ensemble>,
}

/// How the next tokens are found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Decoding {
    /// Row by row: each output draws its own tokens.
    Rows {
        /// The law of `ads` on top of the chain.
        ads: Option<AdsOptions>,
        /// Speculative decoding.
        drafts: Option<Drafts>,
    },
    /// Beam search over all rows together.
    Beam(Beam),
}

/// Settings of speculative decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drafts {
    /// Who drafts.
    pub kind: DrafterKind,
    /// The draft model's name, for [`DrafterKind::Model`].
    pub model: Option<String>,
    /// Blocks of the draft, for [`DrafterKind::EarlyExit`], where the request says so.
    pub layers: Option<usize>,
    /// Drafted tokens of the first round.
    pub steps: usize,
    /// Whether drafts for likely outcomes are made while the target verifies (`ssd`).
    pub ahead: bool,
}

/// Settings of a beam search.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Beam {
    /// Number of beams.
    pub width: usize,
    /// Exponent of the length.
    pub length_penalty: f64,
    /// Phrases every output contains.
    pub must_include: Vec<String>,
}

/// Settings of an ensemble.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Ensemble {
    /// Names of the models beside the main one.
    pub models: Vec<String>,
    /// One weight a model, the main one first.
    pub weights: Vec<f64>,
    /// How they come to one law.
    pub voting: Voting,
}

impl Strategy {
    /// Works out what the controls mean under a method.
    ///
    /// # Errors
    /// [`Error::Request`] for a value out of range or a parameter that the method lacks,
    /// [`Error::Unsupported`] for controls that exclude each other.
    pub(super) fn resolve(
        controls: &Controls,
        method: Method,
        constrained: bool,
        origins: &mut Origins,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, Error> {
        let n = origins.or("n", controls.n, 1);
        in_range("n", n, 1, MAX_ROWS)?;
        let candidates = origins.or("best_of_n", controls.best_of_n, n);
        in_range("best_of_n", candidates, n, MAX_ROWS)?;
        if let Some(top) = controls.logprobs {
            in_range("logprobs", top, 0, MAX_LOGPROBS)?;
            origins.add("logprobs", top, Origin::Request);
        }
        if method == Method::Guided && !constrained {
            return Err(Error::request(
                "sampling_method",
                method.name(),
                "json_schema, regex_pattern, grammar or choices beside it",
            ));
        }
        let ensemble = ensemble(controls, method, origins)?;
        let decoding = match method {
            Method::Beam | Method::ConstrainedBeam => {
                Decoding::Beam(beam(controls, method, constrained, origins)?)
            }
            _ => Decoding::Rows {
                ads: ads(controls, method, origins)?,
                drafts: drafts(controls, method, origins)?,
            },
        };
        name_what_has_no_effect(controls, method, &decoding, warnings);
        Ok(Strategy {
            n,
            candidates,
            logprobs: controls.logprobs,
            decoding,
            ensemble,
        })
    }
}

fn ads(
    controls: &Controls,
    method: Method,
    origins: &mut Origins,
) -> Result<Option<AdsOptions>, Error> {
    if method != Method::Ads {
        return Ok(None);
    }
    let default = AdsOptions::default();
    let options = AdsOptions {
        subset_size: origins.or(
            "ads_subset_size",
            controls.ads_subset_size,
            default.subset_size,
        ),
        beta: origins.or("ads_beta", controls.ads_beta, default.beta),
        ..default
    };
    check_ads(&options)?;
    Ok(Some(options))
}

fn check_ads(options: &AdsOptions) -> Result<(), Error> {
    options.check()?;
    match options.beta >= 1.0 {
        true => Err(Error::request(
            "ads_beta",
            options.beta,
            "0 up to, not including, 1",
        )),
        false => Ok(()),
    }
}

fn check_length_penalty(given: f64) -> Result<(), Error> {
    match given.is_finite() {
        true => Ok(()),
        false => Err(Error::request("length_penalty", given, "a finite number")),
    }
}

fn check_weights(weights: &[f64], members: usize) -> Result<(), Error> {
    let usable =
        weights.iter().all(|w| *w >= 0.0 && w.is_finite()) && weights.iter().any(|w| *w > 0.0);
    match weights.len() == members && usable {
        true => Ok(()),
        false => Err(Error::request(
            "ensemble_weights",
            format!("{weights:?}"),
            format!("{members} numbers of at least 0, not all 0: the main model's first"),
        )),
    }
}

/// Drafts are made under the two methods of that name, and under any other one when they are asked for: the law of the
/// output stays the same.
fn drafts(
    controls: &Controls,
    method: Method,
    origins: &mut Origins,
) -> Result<Option<Drafts>, Error> {
    let asked = controls.draft_model.is_some() || controls.drafter.is_some();
    if !asked && !matches!(method, Method::Speculative | Method::Ssd) {
        return Ok(None);
    }
    let itself = controls.draft_model.as_deref() == Some(SELF);
    let kind = match (controls.drafter, &controls.draft_model) {
        (None | Some(DrafterKind::EarlyExit), Some(_)) if itself => {
            (DrafterKind::EarlyExit, Origin::Request)
        }
        (Some(DrafterKind::EarlyExit), Some(model)) => {
            let wanted = "absent, or self, under the drafter self";
            return Err(Error::request("draft_model", model, wanted));
        }
        (Some(DrafterKind::Model), Some(_)) if itself => {
            let wanted = "a model's name beside the drafter model; self is a drafter of its own";
            return Err(Error::request("draft_model", SELF, wanted));
        }
        (Some(DrafterKind::PromptLookup), Some(model)) => {
            let wanted = "absent under the drafter prompt-lookup";
            return Err(Error::request("draft_model", model, wanted));
        }
        (Some(DrafterKind::Model), None) => {
            let wanted = "a model's name beside the drafter model";
            return Err(Error::request("draft_model", "absent", wanted));
        }
        (Some(kind), _) => (kind, Origin::Request),
        (None, Some(_)) => (DrafterKind::Model, Origin::BuiltIn),
        (None, None) => (DrafterKind::PromptLookup, Origin::BuiltIn),
    };
    origins.add_serde("drafter", &kind.0, kind.1);
    if let Some(model) = &controls.draft_model {
        origins.add("draft_model", model.as_str(), Origin::Request);
    }
    if let Some(layers) = controls
        .draft_layers
        .filter(|_| kind.0 == DrafterKind::EarlyExit)
    {
        origins.add("draft_layers", layers, Origin::Request);
    }
    let steps = origins.or(
        "speculative_steps",
        controls.speculative_steps,
        DEFAULT_SPECULATIVE_STEPS,
    );
    in_range("speculative_steps", steps, 1, MAX_SPECULATIVE_STEPS)?;
    Ok(Some(Drafts {
        kind: kind.0,
        model: controls.draft_model.clone().filter(|_| !itself),
        layers: controls.draft_layers,
        steps,
        ahead: method == Method::Ssd,
    }))
}

fn beam(
    controls: &Controls,
    method: Method,
    constrained: bool,
    origins: &mut Origins,
) -> Result<Beam, Error> {
    if method == Method::ConstrainedBeam && !constrained && controls.must_include.is_empty() {
        return Err(Error::request(
            "sampling_method",
            method.name(),
            "a constraint or must_include beside it; beam-search needs none",
        ));
    }
    if controls
        .must_include
        .iter()
        .any(|phrase| phrase.trim().is_empty())
    {
        let wanted = "phrases with at least one visible character";
        return Err(Error::request("must_include", "an empty phrase", wanted));
    }
    if controls.draft_model.is_some() || controls.drafter.is_some() {
        return Err(Error::unsupported(
            "drafts under a beam search",
            "a round ranks the continuations of all beams together, so no single draft can be accepted before it",
        ));
    }
    if controls.best_of_n.is_some() {
        return Err(Error::unsupported(
            "best_of_n under a beam search",
            "the search already returns its best hypotheses; use beam_width and n",
        ));
    }
    let votes = controls.voting == Some(Voting::Majority) && !controls.ensemble_models.is_empty();
    if votes && !controls.must_include.is_empty() {
        return Err(Error::unsupported(
            "must_include under the voting majority",
            "a vote leaves one token a step, so no search can lead it towards a phrase",
        ));
    }
    let width = origins.or("beam_width", controls.beam_width, DEFAULT_BEAM_WIDTH);
    in_range("beam_width", width, controls.n.unwrap_or(1), MAX_ROWS)?;
    let length_penalty = origins.or("length_penalty", controls.length_penalty, 1.0);
    check_length_penalty(length_penalty)?;
    if !controls.must_include.is_empty() {
        origins.add_serde("must_include", &controls.must_include, Origin::Request);
    }
    Ok(Beam {
        width,
        length_penalty,
        must_include: controls.must_include.clone(),
    })
}

fn ensemble(
    controls: &Controls,
    method: Method,
    origins: &mut Origins,
) -> Result<Option<Ensemble>, Error> {
    if controls.ensemble_models.is_empty() {
        if method == Method::Ensemble {
            let wanted = "at least one model beside the main one";
            return Err(Error::request("ensemble_models", "absent", wanted));
        }
        return Ok(None);
    }
    let members = controls.ensemble_models.len() + 1;
    origins.add_serde(
        "ensemble_models",
        &controls.ensemble_models,
        Origin::Request,
    );
    let weights = match controls.ensemble_weights.as_slice() {
        [] => vec![1.0; members],
        weights => weights.to_vec(),
    };
    check_weights(&weights, members)?;
    origins.add_serde(
        "ensemble_weights",
        &weights,
        match controls.ensemble_weights.is_empty() {
            true => Origin::BuiltIn,
            false => Origin::Request,
        },
    );
    let voting = match controls.voting {
        Some(voting) => (voting, Origin::Request),
        None => (Voting::default(), Origin::BuiltIn),
    };
    origins.add_serde("voting", &voting.0, voting.1);
    Ok(Some(Ensemble {
        models: controls.ensemble_models.clone(),
        weights,
        voting: voting.0,
    }))
}

/// Parameters of a strategy that is not used.
fn name_what_has_no_effect(
    controls: &Controls,
    method: Method,
    decoding: &Decoding,
    warnings: &mut Vec<Warning>,
) {
    let beam = matches!(decoding, Decoding::Beam(_));
    let drafts = matches!(
        decoding,
        Decoding::Rows {
            drafts: Some(_),
            ..
        }
    );
    let early_exit = matches!(
        decoding,
        Decoding::Rows { drafts: Some(drafts), .. } if drafts.kind == DrafterKind::EarlyExit
    );
    let ads = matches!(decoding, Decoding::Rows { ads: Some(_), .. });
    let ensemble = !controls.ensemble_models.is_empty();
    for (name, given, used) in [
        ("ads_subset_size", controls.ads_subset_size.is_some(), ads),
        ("ads_beta", controls.ads_beta.is_some(), ads),
        ("beam_width", controls.beam_width.is_some(), beam),
        ("length_penalty", controls.length_penalty.is_some(), beam),
        ("must_include", !controls.must_include.is_empty(), beam),
        ("draft_layers", controls.draft_layers.is_some(), early_exit),
        (
            "speculative_steps",
            controls.speculative_steps.is_some(),
            drafts,
        ),
        (
            "ensemble_weights",
            !controls.ensemble_weights.is_empty(),
            ensemble,
        ),
        ("voting", controls.voting.is_some(), ensemble),
    ] {
        if given && !used {
            let message = format!("{name} has no effect under the method {}", method.name());
            warnings.push(Warning::new("no_effect", message));
        }
    }
}

fn in_range(field: &str, given: usize, least: usize, most: usize) -> Result<(), Error> {
    match (least..=most).contains(&given) {
        true => Ok(()),
        false => Err(Error::request(field, given, format!("{least} to {most}"))),
    }
}
