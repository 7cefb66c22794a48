//! Servers that speak OpenAI's protocol.

use super::{Answer, named, refuse, sampling};
use crate::error::Error;
use crate::generation::{Choice, Generation, Usage, Warning};
use crate::request::{Constraints, GenerateRequest, GrammarSyntax, Method, Prompt};
use mx_remote::OpenAi;
use mx_remote::openai::{
    ChatMessage, ChatRequest, CompletionRequest, Constraint, JsonSchema, Params, Usage as Counted,
};
use mx_runtime::template::Content;
use serde_json::Value;

/// Largest seed that every kind of server takes.
const LARGEST_SEED: u64 = (1 << 31) - 1;

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

pub(super) fn generate(
    client: &OpenAi,
    model: &str,
    request: &GenerateRequest,
    seed: impl FnOnce() -> u64,
) -> Result<Generation, Error> {
    check(request)?;
    let seed = request.seed.unwrap_or_else(|| seed() & LARGEST_SEED);
    let params = params(request, seed)?;
    let mut settings = named(&params);
    settings.insert("server".to_owned(), client.kind().name().into());
    let plan_notes;
    let (id, texts, usage) = match &request.prompt {
        Prompt::Text(text) if request.raw == Some(true) => {
            let mut wanted = CompletionRequest::new(model, text.as_str());
            wanted.params = params;
            plan_notes = client.plan_completion(&wanted)?.notes;
            let answer = client.complete(&wanted).wait()?;
            let texts: Vec<_> = answer
                .choices
                .into_iter()
                .map(|choice| (choice.text, choice.finish_reason))
                .collect();
            (answer.model, texts, answer.usage)
        }
        Prompt::Tokens(tokens) => {
            let mut wanted = CompletionRequest::new(model, tokens.clone());
            wanted.params = params;
            plan_notes = client.plan_completion(&wanted)?.notes;
            let answer = client.complete(&wanted).wait()?;
            let texts: Vec<_> = answer
                .choices
                .into_iter()
                .map(|choice| (choice.text, choice.finish_reason))
                .collect();
            (answer.model, texts, answer.usage)
        }
        _ => {
            let wanted = ChatRequest {
                model: model.to_owned(),
                messages: messages(request)?,
                params,
                ..ChatRequest::default()
            };
            plan_notes = client.plan_chat(&wanted)?.notes;
            let answer = client.chat(&wanted).wait()?;
            let texts: Vec<_> = answer
                .choices
                .into_iter()
                .map(|choice| (choice.message.text(), choice.finish_reason))
                .collect();
            (answer.model, texts, answer.usage)
        }
    };
    let (text, finish_reason) = texts.first().cloned().unwrap_or_default();
    let choices = match texts.len() {
        0 | 1 => Vec::new(),
        _ => texts
            .into_iter()
            .map(|(text, _)| Choice::of_text(text))
            .collect(),
    };
    let warnings = plan_notes
        .iter()
        .map(|note| Warning::new("remote", format!("{}: {}", note.field, note.text)))
        .collect();
    Ok(Answer {
        text,
        finish_reason,
        choices,
        usage: counted(usage.as_ref()),
        seed,
        method: request.sampling_method,
        model: id,
        server: (client.kind().name(), client.base_url().to_owned()),
        settings,
        warnings,
    }
    .into_generation())
}

/// Refuses what OpenAI's protocol has no words for.
fn check(request: &GenerateRequest) -> Result<(), Error> {
    let rows = "it works on rows of logits, which the server does not hand out";
    let controls = &request.controls;
    if let Some(method) = request.sampling_method
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
        !request.steering.is_empty(),
        "steering",
        "OpenAI's protocol has no field for it",
    )?;
    refuse(
        controls.logprobs.is_some(),
        "logprobs",
        "a server names tokens by their text, and the answer here names them by id; ask mx_remote::OpenAi",
    )?;
    refuse(
        request.include_trace == Some(true),
        "include_trace",
        "the server does not say what it did",
    )
}

fn params(request: &GenerateRequest, seed: u64) -> Result<Params, Error> {
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
fn messages(request: &GenerateRequest) -> Result<Vec<ChatMessage>, Error> {
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

fn counted(usage: Option<&Counted>) -> Usage {
    let count = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    Usage {
        prompt_tokens: count(usage.and_then(|usage| usage.prompt_tokens)),
        completion_tokens: count(usage.and_then(|usage| usage.completion_tokens)),
        cached_tokens: 0,
    }
}
