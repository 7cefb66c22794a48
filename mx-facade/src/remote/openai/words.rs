//! A request in the words of OpenAI's protocol.

use super::super::{named, refuse, sampling};
use crate::error::Error;
use crate::generation::Warning;
use crate::request::{
    Constraints, Content, Controls, GenerateRequest, GrammarSyntax, Method, Overflow, Prompt,
};
use mx_remote::openai::{ChatMessage, Constraint, JsonSchema, Params};
use serde_json::Value;

/// Sampling parameters and their names in [`Params`]; what is not here has no name at any server.
const NAMES: [(&str, &str); 14] = [
    ("temperature", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("typical_p", "typical_p"),
    ("top_n_sigma", "top_n_sigma"),
    ("xtc_probability", "xtc_probability"),
    ("xtc_threshold", "xtc_threshold"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("repetition_penalty", "repetition_penalty"),
    ("penalty_last_n", "repeat_last_n"),
    ("min_new_tokens", "min_tokens"),
    ("logit_bias", "logit_bias"),
];

/// Refuses what OpenAI's protocol has no words for. Every field of a request is named here or in [`params`], so that a new
/// one is not forgotten.
pub(super) fn check(request: &GenerateRequest) -> Result<(), Error> {
    let rows = "it works on rows of logits, which the server does not hand out";
    let GenerateRequest {
        prompt: _,
        system: _,
        raw: _,
        max_tokens: _,
        sampling_method,
        sampling: _,
        controls,
        constraints: _,
        steering,
        // Run by a policy, before this.
        checks: _,
        seed: _,
        stop: _,
        ignore_eos: _,
        on_overflow,
        include_trace,
        unknown: _,
    } = request;
    if let Some(method) = *sampling_method
        && !method.is_local()
        && method != Method::Guided
    {
        refuse(true, &format!("sampling method {}", method.name()), rows)?;
    }
    refuse(controls.best_of_n.is_some(), "best_of_n", rows)?;
    refuse(controls.draft_model.is_some(), "draft_model", rows)?;
    refuse(controls.drafter.is_some(), "drafter", rows)?;
    refuse(
        !controls.ensemble_models.is_empty(),
        "ensemble_models",
        rows,
    )?;
    refuse(!controls.must_include.is_empty(), "must_include", rows)?;
    refuse(
        !steering.is_empty(),
        "steering",
        "OpenAI's protocol has no field for it",
    )?;
    refuse(
        *on_overflow == Some(Overflow::TruncatePrompt),
        "on_overflow",
        "OpenAI's protocol has no field for it",
    )?;
    refuse(
        *include_trace == Some(true),
        "include_trace",
        "the server does not say what it did",
    )
}

/// Parameters of methods that [`check`] refuses: beside any other method they do nothing.
pub(super) fn name_what_has_no_effect(request: &GenerateRequest, warnings: &mut Vec<Warning>) {
    let Controls {
        n: _,
        best_of_n: _,
        logprobs: _,
        ads_subset_size,
        ads_beta,
        beam_width,
        length_penalty,
        must_include: _,
        draft_model: _,
        drafter: _,
        draft_layers,
        speculative_steps,
        ensemble_models: _,
        ensemble_weights,
        voting,
    } = &request.controls;
    for (name, given) in [
        ("ads_subset_size", ads_subset_size.is_some()),
        ("ads_beta", ads_beta.is_some()),
        ("beam_width", beam_width.is_some()),
        ("length_penalty", length_penalty.is_some()),
        ("draft_layers", draft_layers.is_some()),
        ("speculative_steps", speculative_steps.is_some()),
        ("ensemble_weights", !ensemble_weights.is_empty()),
        ("voting", voting.is_some()),
    ] {
        if given {
            let message = format!("{name} has no effect without the method it belongs to");
            warnings.push(Warning::new("no_effect", message));
        }
    }
}

pub(super) fn params(request: &GenerateRequest, seed: u64) -> Result<Params, Error> {
    let mut map = serde_json::Map::new();
    for (name, value) in named(&sampling(request)) {
        let Some((_, theirs)) = NAMES.iter().find(|(ours, _)| *ours == name) else {
            refuse(true, &name, "no server has a name for it")?;
            continue;
        };
        map.insert((*theirs).to_owned(), value);
    }
    let mut params: Params = serde_json::from_value(Value::Object(map)).map_err(|error| {
        Error::request("sampling", error, "parameters in the ranges of the server")
    })?;
    params.max_tokens = Some(u32::try_from(request.max_tokens.unwrap_or(128)).unwrap_or(u32::MAX));
    params.n = request.controls.n.and_then(|n| u32::try_from(n).ok());
    params.stop.clone_from(&request.stop);
    params.ignore_eos = request.ignore_eos;
    let logprobs = request.controls.logprobs;
    params.logprobs = logprobs.map(|top| u32::try_from(top).unwrap_or(u32::MAX));
    params.seed = Some(seed);
    params.constraint = constraint(&request.constraints);
    Ok(params)
}

fn constraint(given: &Constraints) -> Option<Constraint> {
    if let Some(schema) = &given.json_schema {
        return Some(Constraint::JsonSchema(JsonSchema::new(schema.clone())));
    }
    if let Some(pattern) = &given.regex_pattern {
        return Some(Constraint::Regex(pattern.clone()));
    }
    if let Some(text) = &given.grammar {
        use mx_remote::openai::GrammarSyntax as Theirs;
        let syntax = match given.grammar_syntax.unwrap_or_default() {
            GrammarSyntax::Gbnf => Theirs::Gbnf,
            GrammarSyntax::Lark => Theirs::Lark,
            GrammarSyntax::Ebnf => Theirs::Ebnf,
        };
        let text = text.clone();
        return Some(Constraint::Grammar { syntax, text });
    }
    if !given.choices.is_empty() {
        return Some(Constraint::Choice(given.choices.clone()));
    }
    (given.json_mode == Some(true)).then_some(Constraint::JsonObject)
}

/// The conversation to send.
pub(super) fn messages(request: &GenerateRequest) -> Result<Vec<ChatMessage>, Error> {
    let mut messages = Vec::new();
    messages.extend(request.system.as_deref().map(ChatMessage::system));
    match &request.prompt {
        Prompt::Text(text) => messages.push(ChatMessage::user(text)),
        Prompt::Tokens(_) => {}
        Prompt::Chat(turns) => {
            for turn in turns {
                let Some(Content::Text(text)) = &turn.content else {
                    return Err(Error::unsupported(
                        "a message in parts on the remote route",
                        "only texts are sent",
                    ));
                };
                messages.push(ChatMessage::new(&turn.role, text));
            }
        }
    }
    Ok(messages)
}
