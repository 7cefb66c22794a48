//! Prompts as tokens.

use crate::error::Error;
use crate::generation::Warning;
use crate::request::{GenerateRequest, Prompt};
use mx_runtime::model::Model;
use mx_runtime::template::{Message, RenderOptions};
use mx_runtime::tokenizer::{Specials, Tokenizer};

/// The tokens of a request's prompt, at least one.
pub(super) fn tokens(
    model: &Model,
    request: &GenerateRequest,
    moment: Option<u64>,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<u32>, Error> {
    let raw = request.raw == Some(true);
    let tokens = match &request.prompt {
        Prompt::Tokens(_) | Prompt::Text(_) if request.system.is_some() && raw => {
            let wanted = "absent where the prompt is continued as it stands";
            return Err(Error::request("system", "given", wanted));
        }
        Prompt::Tokens(tokens) => in_vocabulary(tokens, model)?,
        Prompt::Chat(_) if raw => {
            return Err(Error::request("raw", true, "false for a conversation"));
        }
        Prompt::Chat(messages) => chat(model, request.system.as_deref(), messages, moment)?,
        Prompt::Text(text) if is_continued(model, request) => {
            if !raw {
                no_template_warning(request, warnings)?;
            }
            plain(model, text)?
        }
        Prompt::Text(text) => chat(
            model,
            request.system.as_deref(),
            &[Message::new("user", text)],
            moment,
        )?,
    };
    if !tokens.is_empty() {
        return Ok(tokens);
    }
    let bos = model.config().bos_token.ok_or(Error::EmptyPrompt)?;
    warnings.push(Warning::new(
        "empty_prompt",
        "the prompt is empty: beginning a new text",
    ));
    Ok(vec![bos])
}

/// Whether the text to come goes on where the prompt stops, and is no text of its own.
pub(super) fn is_continued(model: &Model, request: &GenerateRequest) -> bool {
    match request.prompt {
        Prompt::Chat(_) => false,
        Prompt::Tokens(_) => true,
        Prompt::Text(_) => request.raw.unwrap_or(model.chat_template().is_none()),
    }
}

/// A base model continues what an instruct model would answer; whoever asked should know.
fn no_template_warning(
    request: &GenerateRequest,
    warnings: &mut Vec<Warning>,
) -> Result<(), Error> {
    if request.system.is_some() {
        return Err(Error::unsupported(
            "system",
            "the model has no chat template",
        ));
    }
    let message = "the model has no chat template: the prompt is continued as it stands";
    warnings.push(Warning::new("no_chat_template", message));
    Ok(())
}

fn in_vocabulary(tokens: &[u32], model: &Model) -> Result<Vec<u32>, Error> {
    let vocab = model.config().vocab;
    match tokens.iter().find(|&&token| token as usize >= vocab) {
        Some(token) => Err(Error::request(
            "prompt",
            token,
            format!("token ids below {vocab}"),
        )),
        None => Ok(tokens.to_vec()),
    }
}

/// Text as it stands, special tokens in it taken as text, after the token that begins a text where the model wants one.
fn plain(model: &Model, text: &str) -> Result<Vec<u32>, Error> {
    let tokenizer = tokenizer(model)?;
    let special = tokenizer.special_tokens();
    let mut tokens: Vec<u32> = special
        .bos
        .filter(|_| special.add_bos)
        .into_iter()
        .collect();
    tokens.extend(tokenizer.encode(text, Specials::AsText)?);
    Ok(tokens)
}

/// A conversation through the model's chat template. Special tokens in the messages are taken as text.
fn chat(
    model: &Model,
    system: Option<&str>,
    messages: &[Message],
    moment: Option<u64>,
) -> Result<Vec<u32>, Error> {
    let tokenizer = tokenizer(model)?;
    let template = model.chat_template().ok_or_else(|| {
        Error::unsupported("a conversation", "the model has no chat template; use raw")
    })?;
    let mut all = Vec::with_capacity(messages.len() + 1);
    all.extend(system.map(|text| Message::new("system", text)));
    all.extend_from_slice(messages);
    let options = RenderOptions {
        add_generation_prompt: true,
        date: moment.and_then(super::clock::at),
        ..RenderOptions::default()
    };
    let segments = template.render_segments(&all, &options, tokenizer)?;
    Ok(tokenizer.encode_segments(&segments)?)
}

fn tokenizer(model: &Model) -> Result<&dyn Tokenizer, Error> {
    model
        .tokenizer()
        .map(|tokenizer| tokenizer.as_ref())
        .ok_or_else(|| {
            Error::unsupported("a text prompt", "the model has no tokenizer; use tokens")
        })
}
