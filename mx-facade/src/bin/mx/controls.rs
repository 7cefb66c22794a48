//! Flags of constraints and strategies.

use anyhow::Context;
use clap::Args;
use mx::GenerateRequest;
use mx::request::{BehaviorWatch, DrafterKind, GrammarSyntax, Voting, schema_from_shorthand};
use mx::steer::apply::Steer;
use mx::steer::behaviour::{Correction, Polarity};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// What the output must look like.
#[derive(Args)]
#[command(next_help_heading = "Constraints")]
pub(crate) struct ConstraintFlags {
    /// JSON Schema of the output: a file, JSON text, or fields like `name: string, age: integer?`
    #[arg(long, value_name = "SCHEMA")]
    json_schema: Option<String>,
    /// The output is a JSON object
    #[arg(long)]
    json_object: bool,
    /// Regular expression (ECMA-262) that the whole output matches
    #[arg(long, value_name = "PATTERN")]
    regex: Option<String>,
    /// Grammar of the output: a file (.gbnf, .lark, .ebnf) or its text
    #[arg(long, value_name = "GRAMMAR")]
    grammar: Option<String>,
    /// Notation of the grammar: gbnf, lark, ebnf [default: by the file's name, else gbnf]
    #[arg(long, value_name = "NAME", value_parser = named::<GrammarSyntax>)]
    grammar_syntax: Option<GrammarSyntax>,
    /// A text that the output may be; give it several times
    #[arg(long, value_name = "TEXT")]
    choice: Vec<String>,
}

/// What steers the model.
#[derive(Args)]
#[command(next_help_heading = "Steering")]
pub(crate) struct SteeringFlags {
    /// Vector or preset: ID|NAME|FILE|PRESET[:STRENGTH][@LAYERS], for example brevity:0.5 or sv_1a2b@10-14; may be
    /// given several times
    #[arg(long, value_name = "VECTOR")]
    steer: Vec<Steer>,
    /// Behaviour to watch for, by its name; may be given several times. Its scores stand in --json
    #[arg(long, value_name = "NAME")]
    behavior: Vec<String>,
    /// What is done about drift into a behaviour: steer, regenerate, report [default: steer]
    #[arg(long, value_name = "NAME", value_parser = named::<Correction>, requires = "behavior")]
    correction: Option<Correction>,
    /// Whether the behaviours are to be suppressed or maintained [default: suppress]
    #[arg(long, value_name = "NAME", value_parser = named::<Polarity>, requires = "behavior")]
    polarity: Option<Polarity>,
    /// Score between 0 and 1 at which a token counts as drift [default: 0.5]
    #[arg(
        long,
        value_name = "SCORE",
        allow_negative_numbers = true,
        requires = "behavior"
    )]
    drift_threshold: Option<f64>,
    /// Strength of the correction [default: 1]
    #[arg(
        long,
        value_name = "S",
        allow_negative_numbers = true,
        requires = "behavior"
    )]
    correction_strength: Option<f32>,
    /// Steer against the behaviours from the first token on, whatever is seen
    #[arg(long, requires = "behavior")]
    force_steering: bool,
}

impl SteeringFlags {
    /// Puts what was typed into a request.
    pub(crate) fn apply(&self, request: &mut GenerateRequest) {
        if !self.steer.is_empty() {
            let spec = request.steering.steering.get_or_insert_default();
            spec.vectors.extend(self.steer.iter().cloned());
        }
        let watches = self.behavior.iter().map(|name| {
            let mut watch = BehaviorWatch::new(name);
            watch.correction = self.correction;
            watch.polarity = self.polarity;
            watch.threshold = self.drift_threshold;
            watch.strength = self.correction_strength;
            watch
        });
        request.steering.behaviors.extend(watches);
        request.steering.force_steering = self.force_steering.then_some(true);
    }
}

/// How many outputs, and how their tokens are found.
#[derive(Args)]
#[command(next_help_heading = "Strategies")]
pub(crate) struct StrategyFlags {
    /// Outputs to print, 1 to 64
    #[arg(long, value_name = "N")]
    outputs: Option<usize>,
    /// Candidates to generate, of which the best is printed, 1 to 64
    #[arg(long, value_name = "N")]
    best_of: Option<usize>,
    /// Log-probabilities of every token and of the N most likely ones (with --json)
    #[arg(long, value_name = "N")]
    logprobs: Option<usize>,
    /// Write a trace of every token to a file, for `mx trace`
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Model that drafts tokens for the main one to verify
    #[arg(long, value_name = "MODEL")]
    draft_model: Option<String>,
    /// Who drafts: model, prompt-lookup, self (the model's own first blocks)
    #[arg(long, value_name = "NAME", value_parser = named::<DrafterKind>)]
    drafter: Option<DrafterKind>,
    /// Blocks of the drafter self [default: a third of the model's]
    #[arg(long, value_name = "N")]
    draft_layers: Option<usize>,
    /// Drafted tokens of the first round [default: 4]
    #[arg(long, value_name = "N")]
    speculative_steps: Option<usize>,
    /// Model that decides together with the main one; may be given several times
    #[arg(long, value_name = "MODEL")]
    ensemble: Vec<String>,
    /// How an ensemble decides: average, product, majority [default: average]
    #[arg(long, value_name = "NAME", value_parser = named::<Voting>)]
    voting: Option<Voting>,
    /// Beams of a beam search [default: 4]
    #[arg(long, value_name = "N")]
    beam_width: Option<usize>,
    /// Phrase that the output of a beam search contains; may be given several times
    #[arg(long, value_name = "TEXT")]
    must_include: Vec<String>,
    /// Largest subset of the method ads [default: 8]
    #[arg(long, value_name = "N")]
    ads_subset_size: Option<usize>,
    /// Share of the full repulsion of the method ads [default: 0.3]
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    ads_beta: Option<f64>,
}

impl ConstraintFlags {
    /// Puts what was typed into a request.
    pub(crate) fn apply(&self, request: &mut GenerateRequest) -> anyhow::Result<()> {
        let constraints = &mut request.constraints;
        constraints.json_schema = self.json_schema.as_deref().map(schema).transpose()?;
        constraints.json_mode = self.json_object.then_some(true);
        constraints.regex_pattern.clone_from(&self.regex);
        constraints.choices.clone_from(&self.choice);
        constraints.grammar_syntax = self.grammar_syntax;
        if let Some(given) = &self.grammar {
            let path = Path::new(given);
            if !path.is_file() {
                constraints.grammar = Some(given.clone());
                return Ok(());
            }
            let text = std::fs::read_to_string(path);
            constraints.grammar = Some(text.with_context(|| format!("cannot read {given}"))?);
            let by_name = match path.extension().and_then(|e| e.to_str()) {
                Some("lark") => Some(GrammarSyntax::Lark),
                Some("ebnf") => Some(GrammarSyntax::Ebnf),
                _ => None,
            };
            constraints.grammar_syntax = self.grammar_syntax.or(by_name);
        }
        Ok(())
    }
}

impl StrategyFlags {
    /// Puts what was typed into a request.
    pub(crate) fn apply(&self, request: &mut GenerateRequest) {
        let controls = &mut request.controls;
        controls.n = self.outputs;
        controls.best_of_n = self.best_of;
        controls.logprobs = self.logprobs;
        controls.draft_model.clone_from(&self.draft_model);
        controls.drafter = self.drafter;
        controls.draft_layers = self.draft_layers;
        controls.speculative_steps = self.speculative_steps;
        controls.ensemble_models.clone_from(&self.ensemble);
        controls.voting = self.voting;
        controls.beam_width = self.beam_width;
        controls.must_include.clone_from(&self.must_include);
        controls.ads_subset_size = self.ads_subset_size;
        controls.ads_beta = self.ads_beta;
        request.include_trace = self.trace.is_some().then_some(true);
    }
}

/// A schema from a file, from JSON text, or from the short form.
fn schema(given: &str) -> anyhow::Result<serde_json::Value> {
    let path = Path::new(given);
    let trimmed = given.trim_start();
    let text = match path.is_file() {
        true => std::fs::read_to_string(path).with_context(|| format!("cannot read {given}"))?,
        false if trimmed.starts_with('{') || matches!(given.trim(), "true" | "false") => {
            given.to_owned()
        }
        false => return Ok(schema_from_shorthand(given)?),
    };
    serde_json::from_str(&text).map_err(|error| {
        mx::Error::Request {
            field: "json_schema".to_owned(),
            given: format!("not JSON: {error}"),
            wanted: "a JSON Schema".to_owned(),
        }
        .into()
    })
}

/// A value by its name in JSON.
pub(crate) fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}
