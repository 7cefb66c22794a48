//! From the pieces of a stream to the whole answer.

use super::chat::{
    ChatAnswer, ChatChoice, ChatChunk, ChatChunkChoice, ChatDelta, ChatMessage, MessageContent,
};
use super::completions::{CompletionAnswer, CompletionChoice};
use super::logprobs::Logprobs;
use crate::error::{Error, Result};
use crate::http;
use crate::secret::Secret;
use crate::sse::SseEvent;
use crate::stream::{Decode, End};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::marker::PhantomData;

const DONE: &str = "[DONE]";

impl ChatAnswer {
    /// Puts an answer together from the pieces of its stream; [`ChatGatherer`] does so piece by piece.
    pub fn gather(chunks: impl IntoIterator<Item = ChatChunk>) -> Self {
        let mut gatherer = ChatGatherer::default();
        chunks.into_iter().for_each(|chunk| gatherer.add(chunk));
        gatherer.into_answer()
    }
}

/// Puts an answer together while its pieces come, and keeps no piece.
#[derive(Debug, Clone, Default)]
pub struct ChatGatherer {
    answer: ChatAnswer,
    choices: BTreeMap<u32, (ChatChoice, ToolCalls)>,
}

impl ChatGatherer {
    /// Takes the next piece.
    pub fn add(&mut self, chunk: ChatChunk) {
        let answer = &mut self.answer;
        head(&mut answer.id, chunk.id);
        head(&mut answer.model, chunk.model);
        answer.usage = chunk.usage.or(answer.usage.take());
        answer.extra.extend(chunk.extra);
        for piece in chunk.choices {
            let (choice, calls) = self.choices.entry(piece.index).or_default();
            add(choice, calls, piece);
        }
    }

    /// The answer as far as it came, its choices in the order of their indices.
    pub fn into_answer(self) -> ChatAnswer {
        let finish = |(index, (mut choice, calls)): (u32, (ChatChoice, ToolCalls))| {
            choice.index = index;
            if !calls.is_empty() {
                choice.message.tool_calls = Some(calls.into_values().map(Value::Object).collect());
            }
            choice
        };
        ChatAnswer {
            choices: self.choices.into_iter().map(finish).collect(),
            ..self.answer
        }
    }
}

type ToolCalls = BTreeMap<u64, Map<String, Value>>;

fn add(choice: &mut ChatChoice, calls: &mut ToolCalls, piece: ChatChunkChoice) {
    let message = &mut choice.message;
    if let Some(role) = piece.delta.role {
        message.role = role;
    }
    if let Some(text) = piece.delta.content {
        match &mut message.content {
            Some(MessageContent::Text(all)) => all.push_str(&text),
            _ => message.content = Some(MessageContent::Text(text)),
        }
    }
    for (position, call) in piece.delta.tool_calls.into_iter().flatten().enumerate() {
        let index = call
            .get("index")
            .and_then(Value::as_u64)
            .unwrap_or(position as u64);
        merge(calls.entry(index).or_default(), call);
    }
    merge(&mut message.extra, piece.delta.extra);
    choice.finish_reason = piece.finish_reason.or(choice.finish_reason.take());
    extend(&mut choice.logprobs, piece.logprobs);
    choice.extra.extend(piece.extra);
}

/// Continues texts and objects; anything else is replaced. What names a thing comes once.
fn merge(all: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (name, value) in piece {
        match (all.get_mut(&name), value) {
            (_, Value::Null) => {}
            (Some(Value::String(_)), Value::String(_))
                if matches!(name.as_str(), "id" | "type" | "name") => {}
            (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
            (Some(Value::Object(inner)), Value::Object(more)) => merge(inner, more),
            (_, value) => {
                if name != "index" {
                    all.insert(name, value);
                }
            }
        }
    }
}

impl CompletionAnswer {
    /// Puts an answer together from the pieces of its stream; [`CompletionGatherer`] does so piece by piece.
    pub fn gather(chunks: impl IntoIterator<Item = CompletionAnswer>) -> Self {
        let mut gatherer = CompletionGatherer::default();
        chunks.into_iter().for_each(|chunk| gatherer.add(chunk));
        gatherer.into_answer()
    }
}

/// Puts an answer together while its pieces come, and keeps no piece.
#[derive(Debug, Clone, Default)]
pub struct CompletionGatherer {
    answer: CompletionAnswer,
    choices: BTreeMap<u32, CompletionChoice>,
}

impl CompletionGatherer {
    /// Takes the next piece.
    pub fn add(&mut self, chunk: CompletionAnswer) {
        let answer = &mut self.answer;
        head(&mut answer.id, chunk.id);
        head(&mut answer.model, chunk.model);
        answer.usage = chunk.usage.or(answer.usage.take());
        answer.extra.extend(chunk.extra);
        for piece in chunk.choices {
            let choice = self.choices.entry(piece.index).or_default();
            choice.index = piece.index;
            choice.text.push_str(&piece.text);
            choice.finish_reason = piece.finish_reason.or(choice.finish_reason.take());
            extend(&mut choice.logprobs, piece.logprobs);
            choice.extra.extend(piece.extra);
        }
    }

    /// The answer as far as it came, its choices in the order of their indices.
    pub fn into_answer(self) -> CompletionAnswer {
        CompletionAnswer {
            choices: self.choices.into_values().collect(),
            ..self.answer
        }
    }
}

fn head(all: &mut String, piece: String) {
    if all.is_empty() {
        *all = piece;
    }
}

fn extend(all: &mut Option<Logprobs>, piece: Option<Logprobs>) {
    if let Some(piece) = piece {
        all.get_or_insert_default().tokens.extend(piece.tokens);
    }
}

/// A piece of a stream.
pub(super) trait Chunk: DeserializeOwned + Send {
    /// The form of an answer that came whole.
    type Whole: DeserializeOwned;

    fn of_whole(whole: Self::Whole) -> Self;

    /// The choices that this piece is about, and whether each ended with it.
    fn choices(&self) -> impl Iterator<Item = (u32, bool)>;
}

impl Chunk for ChatChunk {
    type Whole = ChatAnswer;

    fn of_whole(whole: ChatAnswer) -> Self {
        let choice = |choice: ChatChoice| {
            let text = choice
                .message
                .content
                .is_some()
                .then(|| choice.message.text());
            let ChatMessage {
                role,
                tool_calls,
                extra,
                ..
            } = choice.message;
            let object = |call| match call {
                Value::Object(call) => Some(call),
                _ => None,
            };
            ChatChunkChoice {
                index: choice.index,
                delta: ChatDelta {
                    role: Some(role),
                    content: text,
                    tool_calls: tool_calls
                        .map(|calls| calls.into_iter().filter_map(object).collect()),
                    extra,
                },
                finish_reason: choice.finish_reason,
                logprobs: choice.logprobs,
                extra: choice.extra,
            }
        };
        ChatChunk {
            id: whole.id,
            model: whole.model,
            choices: whole.choices.into_iter().map(choice).collect(),
            usage: whole.usage,
            extra: whole.extra,
        }
    }

    fn choices(&self) -> impl Iterator<Item = (u32, bool)> {
        let about = |c: &ChatChunkChoice| (c.index, c.finish_reason.is_some());
        self.choices.iter().map(about)
    }
}

impl Chunk for CompletionAnswer {
    type Whole = CompletionAnswer;

    fn of_whole(whole: CompletionAnswer) -> Self {
        whole
    }

    fn choices(&self) -> impl Iterator<Item = (u32, bool)> {
        let about = |c: &CompletionChoice| (c.index, c.finish_reason.is_some());
        self.choices.iter().map(about)
    }
}

/// Reads OpenAI's streams: pieces until `[DONE]`. A stream that ends without it is complete when every choice has said
/// why it ended.
pub(super) struct Pieces<C> {
    known: Vec<Secret>,
    wanted: usize,
    ended: BTreeSet<u32>,
    kind: PhantomData<fn() -> C>,
}

impl<C> Pieces<C> {
    /// `wanted` choices are expected.
    pub(super) fn new(known: Vec<Secret>, wanted: usize) -> Self {
        Pieces {
            known,
            wanted,
            ended: BTreeSet::new(),
            kind: PhantomData,
        }
    }
}

impl<C: Chunk> Decode<C> for Pieces<C> {
    fn event(&mut self, event: SseEvent, out: &mut VecDeque<C>) -> Result<bool> {
        const STREAM: &str = "the stream";
        let data = event.data.trim();
        if data == DONE {
            return Ok(true);
        }
        let value: Value = http::parse(STREAM, data.as_bytes(), &self.known)?;
        let is_error = value.get("error").is_some_and(|e| !e.is_null())
            || value.get("object").and_then(Value::as_str) == Some("error");
        if is_error {
            let mut failure = http::failure(data, &self.known);
            failure.url = STREAM.into();
            return Err(Error::Api(Box::new(failure)));
        }
        let chunk: C = http::parse(STREAM, data.as_bytes(), &self.known)?;
        for (index, ended) in chunk.choices() {
            if index as usize >= self.wanted {
                let reason = format!("choice {index}, where {} were asked for", self.wanted);
                let url = STREAM.to_owned();
                return Err(Error::BadAnswer { url, reason });
            }
            if ended {
                self.ended.insert(index);
            }
        }
        out.push_back(chunk);
        Ok(false)
    }

    fn end(&mut self, unfinished: Option<SseEvent>, out: &mut VecDeque<C>) -> Result<End> {
        if let Some(event) = unfinished
            && self.event(event, out).unwrap_or(false)
        {
            return Ok(End::Complete);
        }
        if self.ended.len() >= self.wanted {
            return Ok(End::Complete);
        }
        Ok(End::TooEarly("the stream ended before its text did"))
    }

    fn whole(&mut self, url: &str, body: &[u8], out: &mut VecDeque<C>) -> Result<()> {
        out.push_back(C::of_whole(http::parse(url, body, &self.known)?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pieces_make_a_whole() {
        let lines = [
            r#"{"id":"1","model":"m","created":5,"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{"content":"He"},"logprobs":{"content":[{"token":"He","logprob":-1}]}}]}"#,
            r#"{"id":"1","choices":[{"index":1,"delta":{"role":"assistant","reasoning_content":"hm"}}]}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{"content":"y"},"logprobs":{"content":[{"token":"y","logprob":-2}]}}]}"#,
            r#"{"id":"1","choices":[{"index":1,"delta":{"reasoning_content":"m","tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\""}}]}}]}"#,
            r#"{"id":"1","choices":[{"index":1,"delta":{"content":null,"tool_calls":[{"index":0,"function":{"arguments":":1}"}},{"index":1,"id":"d","function":{"name":"g","arguments":""}}]}}]}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"},{"index":1,"delta":{},"finish_reason":"tool_calls"}]}"#,
            r#"{"id":"1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#,
        ];
        let answer = ChatAnswer::gather(lines.map(|line| serde_json::from_str(line).unwrap()));
        let value = serde_json::to_value(&answer).unwrap();
        let calls = &value["choices"][1]["message"]["tool_calls"];
        assert_eq!(answer.text(), "Hey");
        assert_eq!(answer.choices[0].logprobs.as_ref().unwrap().tokens.len(), 2);
        assert_eq!(
            calls[0],
            serde_json::json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}})
        );
        assert_eq!(calls[1]["function"]["name"], "g");
        assert_eq!(value["choices"][1]["message"]["reasoning_content"], "hmm");
        assert_eq!(
            answer.choices[1].finish_reason.as_deref(),
            Some("tool_calls")
        );
        assert_eq!(answer.usage.unwrap().total_tokens, Some(5));
    }
}
