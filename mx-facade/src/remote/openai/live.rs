//! An answer that comes piece by piece.

use super::super::Conformance;
use super::{Asked, Body};
use crate::error::Error;
use crate::generation::{Chunk, FinishReason, Generation};
use crate::request::GenerateRequest;
use mx_remote::openai::{ChatChunk, ChatGatherer, CompletionAnswer, CompletionGatherer};
use mx_remote::{BlockingEvents, Cancel, OpenAi};
use std::collections::{BTreeSet, VecDeque};

/// The pieces of an answer, as they come.
pub(crate) struct Live {
    asked: Asked,
    pieces: Pieces,
    conformance: Conformance,
    ready: VecDeque<Chunk>,
    /// Outputs of which something came.
    seen: BTreeSet<u32>,
    /// Whether the server said that it has said everything.
    complete: bool,
    /// Whether nothing more comes.
    over: bool,
}

enum Pieces {
    Chat(BlockingEvents<ChatChunk>, ChatGatherer),
    Completion(BlockingEvents<CompletionAnswer>, CompletionGatherer),
}

impl Live {
    /// Sends the request; the server has accepted it when this returns.
    pub(crate) fn open(
        client: &OpenAi,
        model: &str,
        request: &GenerateRequest,
        seed: impl FnOnce() -> u64,
        cancel: Cancel,
    ) -> Result<Self, Error> {
        let asked = Asked::new(client, model, request, seed)?;
        let conformance = Conformance::new(request)?;
        let pieces = match &asked.body {
            Body::Chat(body) => {
                let events = client.chat_stream(body).cancel(cancel).wait()?;
                Pieces::Chat(events, ChatGatherer::default())
            }
            Body::Completion(body) => {
                let events = client.complete_stream(body).cancel(cancel).wait()?;
                Pieces::Completion(events, CompletionGatherer::default())
            }
        };
        Ok(Live {
            asked,
            pieces,
            conformance,
            ready: VecDeque::new(),
            complete: false,
            over: false,
            seen: BTreeSet::new(),
        })
    }

    pub(crate) fn next(&mut self) -> Option<Result<Chunk, Error>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(Ok(chunk));
            }
            if self.over {
                return None;
            }
            match self.read() {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    self.over = true;
                    return (!error.is_cancelled()).then(|| Err(error.into()));
                }
                None => {
                    (self.over, self.complete) = (true, true);
                    if let Err(error) = self.asked.enough(self.seen.len()) {
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    /// Takes the next piece apart into chunks.
    fn read(&mut self) -> Option<Result<(), mx_remote::Error>> {
        let (ready, all) = (&mut self.ready, &mut self.seen);
        let mut add = |index: u32, text: String, finish: &Option<String>| {
            all.insert(index);
            let finish_reason = finish
                .as_deref()
                .map(|reason| super::super::finish_reason(Some(reason), &mut Vec::new()));
            if !text.is_empty() || finish_reason.is_some() {
                ready.push_back(Chunk {
                    index: index as usize,
                    token: None,
                    text,
                    finish_reason,
                });
            }
        };
        match &mut self.pieces {
            Pieces::Chat(events, seen) => {
                let piece = match events.next()? {
                    Ok(piece) => piece,
                    Err(error) => return Some(Err(error)),
                };
                for choice in &piece.choices {
                    let text = choice.delta.content.clone().unwrap_or_default();
                    add(choice.index, text, &choice.finish_reason);
                }
                seen.add(piece);
            }
            Pieces::Completion(events, seen) => {
                let piece = match events.next()? {
                    Ok(piece) => piece,
                    Err(error) => return Some(Err(error)),
                };
                for choice in &piece.choices {
                    add(choice.index, choice.text.clone(), &choice.finish_reason);
                }
                seen.add(piece);
            }
        }
        Some(Ok(()))
    }

    /// The answer as far as it came. Outputs that the server had not ended are cancelled, unless it said that it has said
    /// everything.
    pub(crate) fn into_generation(self) -> Generation {
        let cut = match self.complete {
            true => None,
            false => Some(FinishReason::Cancelled),
        };
        let mut answer = match self.pieces {
            Pieces::Chat(_, seen) => self.asked.chat(seen.into_answer(), cut),
            Pieces::Completion(_, seen) => self.asked.completion(seen.into_answer(), cut),
        };
        self.conformance.judge(&mut answer);
        answer
    }
}
