//! Prompts as tokens.

use crate::error::Error;
use crate::generation::Warning;
use crate::request::{GenerateRequest, Message, Prompt};
use mx_runtime::model::Model;
use mx_runtime::template::RenderOptions;
use mx_runtime::tokenizer::{Segment, Specials, Tokenizer};

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

/// A prompt in the words of a model: the token that begins it, and texts and control tokens.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    pub(crate) first: Option<u32>,
    pub(crate) segments: Vec<Segment>,
}

/// The prompt of a request for a second model with a vocabulary of its own. `shown` is the prompt as the main model
/// sees it, as text, where that is all there is: tokens, or a prompt whose beginning was dropped.
pub(super) fn words(
    model: &Model,
    request: &GenerateRequest,
    shown: Option<String>,
    moment: Option<u64>,
) -> Result<Words, Error> {
    let system = request.system.as_deref();
    let text = match (&request.prompt, shown) {
        (_, Some(shown)) => shown,
        (Prompt::Chat(messages), None) => {
            return Ok(Words {
                first: None,
                segments: segments(model, system, messages, moment)?,
            });
        }
        (Prompt::Text(text), None) if !is_continued(model, request) => {
            return Ok(Words {
                first: None,
                segments: segments(model, system, &[Message::new("user", text)], moment)?,
            });
        }
        (Prompt::Text(text), None) => {
            if system.is_some() {
                let what = format!("system beside the model {}", model.name());
                return Err(Error::unsupported(what, "it has no chat template"));
            }
            text.clone()
        }
        (Prompt::Tokens(_), None) => String::new(),
    };
    let special = tokenizer(model)?.special_tokens();
    let mut first = special.bos.filter(|_| special.add_bos);
    if text.is_empty() && first.is_none() {
        first = Some(model.config().bos_token.ok_or(Error::EmptyPrompt)?);
    }
    Ok(Words {
        first,
        segments: vec![Segment::Text(text)],
    })
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
    let segments = segments(model, system, messages, moment)?;
    Ok(tokenizer(model)?.encode_segments(&segments)?)
}

fn segments(
    model: &Model,
    system: Option<&str>,
    messages: &[Message],
    moment: Option<u64>,
) -> Result<Vec<Segment>, Error> {
    let tokenizer = tokenizer(model)?;
    let template = model.chat_template().ok_or_else(|| {
        Error::unsupported("a conversation", "the model has no chat template; use raw")
    })?;
    let system = system.map(|text| Message::new("system", text));
    let all: Vec<_> = system.iter().chain(messages).map(Into::into).collect();
    let options = RenderOptions {
        add_generation_prompt: true,
        date: moment.and_then(super::clock::at),
        ..RenderOptions::default()
    };
    Ok(template.render_segments(&all, &options, tokenizer)?)
}

fn tokenizer(model: &Model) -> Result<&dyn Tokenizer, Error> {
    model
        .tokenizer()
        .map(|tokenizer| tokenizer.as_ref())
        .ok_or_else(|| {
            Error::unsupported("a text prompt", "the model has no tokenizer; use tokens")
        })
}
