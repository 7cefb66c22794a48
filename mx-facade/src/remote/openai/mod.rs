//! Servers that speak OpenAI's protocol.

mod live;
mod words;

pub(super) use live::Live;

use super::{Answer, named};
use crate::error::Error;
use crate::generation::{Choice, FinishReason, Generation, Usage, Warning};
use crate::request::{GenerateRequest, Method, Prompt};
use mx_remote::openai::{
    ChatAnswer, ChatRequest, CompletionAnswer, CompletionRequest, Logprobs, Usage as Counted,
};
use mx_remote::{Cancel, OpenAi};
use serde_json::{Map, Value};

/// Largest seed that every kind of server takes.
pub(crate) const LARGEST_SEED: u64 = (1 << 31) - 1;

/// A request in the words of the server, and what the answer needs besides the server's.
pub(super) struct Asked {
    body: Body,
    seed: u64,
    /// Number of texts.
    wanted: usize,
    method: Option<Method>,
    settings: Map<String, Value>,
    server: (&'static str, String),
    warnings: Vec<Warning>,
}

enum Body {
    Chat(Box<ChatRequest>),
    Completion(Box<CompletionRequest>),
}

/// One text of an answer.
struct Text {
    text: String,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

pub(super) fn generate(
    client: &OpenAi,
    model: &str,
    request: &GenerateRequest,
    seed: impl FnOnce() -> u64,
    cancel: Cancel,
) -> Result<Generation, Error> {
    let asked = Asked::new(client, model, request, seed)?;
    Ok(match &asked.body {
        Body::Chat(body) => {
            let answer = client.chat(body).cancel(cancel).wait()?;
            asked.enough(answer.choices.len())?;
            asked.chat(answer, None)
        }
        Body::Completion(body) => {
            let answer = client.complete(body).cancel(cancel).wait()?;
            asked.enough(answer.choices.len())?;
            asked.completion(answer, None)
        }
    })
}

impl Asked {
    fn new(
        client: &OpenAi,
        model: &str,
        request: &GenerateRequest,
        seed: impl FnOnce() -> u64,
    ) -> Result<Self, Error> {
        words::check(request)?;
        let seed = request.seed.unwrap_or_else(|| seed() & LARGEST_SEED);
        let params = words::params(request, seed)?;
        let mut settings = named(&params);
        settings.insert("server".to_owned(), client.kind().name().into());
        let completion = match &request.prompt {
            Prompt::Text(text) if request.raw == Some(true) => {
                Some(CompletionRequest::new(model, text.as_str()))
            }
            Prompt::Tokens(tokens) => Some(CompletionRequest::new(model, tokens.clone())),
            _ => None,
        };
        let (body, plan) = match completion {
            Some(mut body) => {
                body.params = params;
                let plan = client.plan_completion(&body)?;
                (Body::Completion(Box::new(body)), plan)
            }
            None => {
                let body = ChatRequest {
                    model: model.to_owned(),
                    messages: words::messages(request)?,
                    params,
                    ..ChatRequest::default()
                };
                let plan = client.plan_chat(&body)?;
                (Body::Chat(Box::new(body)), plan)
            }
        };
        let note = |note: &mx_remote::openai::Note| {
            Warning::new("remote", format!("{}: {}", note.field, note.text))
        };
        let mut notes: Vec<_> = plan.notes.iter().map(note).collect();
        words::name_what_has_no_effect(request, &mut notes);
        Ok(Asked {
            body,
            seed,
            wanted: request.controls.n.unwrap_or(1),
            method: request.sampling_method,
            settings,
            server: (client.kind().name(), client.base_url().to_owned()),
            warnings: notes,
        })
    }

    /// Refuses an answer of fewer texts than were asked for.
    fn enough(&self, texts: usize) -> Result<(), Error> {
        match texts >= self.wanted {
            true => Ok(()),
            false => Err(Error::from(mx_remote::Error::BadAnswer {
                url: self.server.1.clone(),
                reason: format!("choices has {texts}, wanted {}", self.wanted),
            })),
        }
    }

    /// The whole answer. `cut` is why a text ended of which the server does not say it.
    fn chat(self, answer: ChatAnswer, cut: Option<FinishReason>) -> Generation {
        let texts = answer.choices.into_iter().map(|choice| Text {
            text: choice.message.text(),
            finish_reason: choice.finish_reason,
            logprobs: choice.logprobs,
        });
        self.answer(answer.model, texts.collect(), answer.usage.as_ref(), cut)
    }

    fn completion(self, answer: CompletionAnswer, cut: Option<FinishReason>) -> Generation {
        let texts = answer.choices.into_iter().map(|choice| Text {
            text: choice.text,
            finish_reason: choice.finish_reason,
            logprobs: choice.logprobs,
        });
        self.answer(answer.model, texts.collect(), answer.usage.as_ref(), cut)
    }

    fn answer(
        self,
        model: String,
        texts: Vec<Text>,
        usage: Option<&Counted>,
        cut: Option<FinishReason>,
    ) -> Generation {
        let mut warnings = self.warnings;
        if cut.is_none() && texts.iter().any(|text| text.finish_reason.is_none()) {
            let message = "the server does not say why its text ended";
            warnings.push(Warning::new("finish_reason", message));
        }
        let choices: Vec<_> = texts
            .into_iter()
            .map(|text| Choice {
                finish_reason: match (text.finish_reason.as_deref(), cut) {
                    (None, Some(cut)) => cut,
                    (reason, _) => super::finish_reason(reason, &mut warnings),
                },
                served_logprobs: text.logprobs.map(|all| all.tokens).unwrap_or_default(),
                text: text.text,
                ..Choice::default()
            })
            .collect();
        Answer {
            choices,
            usage: counted(usage),
            seed: self.seed,
            method: self.method,
            model,
            server: self.server,
            settings: self.settings,
            warnings,
        }
        .into_generation()
    }
}

fn counted(usage: Option<&Counted>) -> Usage {
    let count = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    Usage {
        prompt_tokens: count(usage.and_then(|usage| usage.prompt_tokens)),
        completion_tokens: count(usage.and_then(|usage| usage.completion_tokens)),
        cached_tokens: 0,
    }
}
