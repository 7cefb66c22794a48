//! An answer that comes piece by piece.

use super::{Asked, Body};
use crate::error::Error;
use crate::generation::{Chunk, FinishReason, Generation};
use crate::request::GenerateRequest;
use mx_remote::openai::{ChatAnswer, ChatChunk, CompletionAnswer};
use mx_remote::{BlockingEvents, Cancel, OpenAi};
use std::collections::VecDeque;

/// The pieces of an answer, as they come.
pub(crate) struct Live {
    asked: Asked,
    pieces: Pieces,
    ready: VecDeque<Chunk>,
    /// Whether the caller stopped it.
    cancelled: bool,
}

enum Pieces {
    Chat(BlockingEvents<ChatChunk>, Vec<ChatChunk>),
    Completion(BlockingEvents<CompletionAnswer>, Vec<CompletionAnswer>),
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
        let pieces = match &asked.body {
            Body::Chat(body) => {
                let events = client.chat_stream(body).cancel(cancel).wait()?;
                Pieces::Chat(events, Vec::new())
            }
            Body::Completion(body) => {
                let events = client.complete_stream(body).cancel(cancel).wait()?;
                Pieces::Completion(events, Vec::new())
            }
        };
        Ok(Live {
            asked,
            pieces,
            ready: VecDeque::new(),
            cancelled: false,
        })
    }

    pub(crate) fn next(&mut self) -> Option<Result<Chunk, Error>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(Ok(chunk));
            }
            match self.read()? {
                Ok(()) => {}
                Err(error) if error.is_cancelled() => {
                    self.cancelled = true;
                    return None;
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    /// Takes the next piece apart into chunks.
    fn read(&mut self) -> Option<Result<(), mx_remote::Error>> {
        let ready = &mut self.ready;
        let mut add = |index: u32, text: String, finish: &Option<String>| {
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
                seen.push(piece);
            }
            Pieces::Completion(events, seen) => {
                let piece = match events.next()? {
                    Ok(piece) => piece,
                    Err(error) => return Some(Err(error)),
                };
                for choice in &piece.choices {
                    add(choice.index, choice.text.clone(), &choice.finish_reason);
                }
                seen.push(piece);
            }
        }
        Some(Ok(()))
    }

    /// The answer as far as it came.
    pub(crate) fn into_generation(self) -> Generation {
        let mut ended = true;
        let mut generation = match self.pieces {
            Pieces::Chat(_, seen) => {
                let answer = ChatAnswer::gather(seen);
                ended &= answer.choices.iter().all(|c| c.finish_reason.is_some());
                self.asked.chat(answer)
            }
            Pieces::Completion(_, seen) => {
                let answer = CompletionAnswer::gather(seen);
                ended &= answer.choices.iter().all(|c| c.finish_reason.is_some());
                self.asked.completion(answer)
            }
        };
        if self.cancelled || !ended {
            generation.finish_reason = FinishReason::Cancelled;
        }
        generation
    }
}
