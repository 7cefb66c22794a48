//! The service's streams: a job reports that it goes on, then its result or its failure.

use crate::error::{Error, Failure, MAX_MESSAGE_BYTES, Result};
use crate::http;
use crate::secret::{Secret, clean};
use crate::sse::SseEvent;
use crate::stream::{Decode, End, Events};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::marker::PhantomData;

/// Bytes of an event that an error shows.
const MAX_EXCERPT_BYTES: usize = 120;
const DONE: &str = "[DONE]";

/// What a job reports. Its result comes last.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum JobEvent<T> {
    /// It goes on; the fields of the report.
    Processing(Map<String, Value>),
    /// Something that is not understood, as it was sent.
    Other(String),
    /// It is complete.
    Complete(T),
}

/// Reads a job's stream. The first event with the status `complete` ends it. Some servers send the result without a
/// status, or forget the blank line after it: the last event is then tried.
pub(super) struct Job<T> {
    known: Vec<Secret>,
    last: Option<Map<String, Value>>,
    kind: PhantomData<fn() -> T>,
}

impl<T> Job<T> {
    pub(super) fn new(known: Vec<Secret>) -> Self {
        Job {
            known,
            last: None,
            kind: PhantomData,
        }
    }

    fn failure(&self, report: &Map<String, Value>) -> Error {
        let text = ["message", "error", "detail"]
            .iter()
            .find_map(|name| report.get(*name)?.as_str());
        let whole = || Value::Object(report.clone()).to_string();
        let message = text.map_or_else(whole, str::to_owned);
        Error::Api(Box::new(Failure {
            message: clean(&message, &self.known, MAX_MESSAGE_BYTES),
            url: "the stream".into(),
            ..Failure::default()
        }))
    }
}

impl<T: DeserializeOwned> Job<T> {
    fn result(&self, report: &Map<String, Value>) -> Result<T> {
        let result = match report.get("result") {
            Some(Value::Object(result)) => result,
            _ => report,
        };
        T::deserialize(Value::Object(result.clone())).map_err(|error| {
            let shown = Value::Object(result.clone()).to_string();
            let reason = format!("a result that is not one ({error}): ");
            let reason = clean(&reason, &self.known, MAX_MESSAGE_BYTES);
            let shown = clean(&shown, &self.known, MAX_EXCERPT_BYTES);
            Error::bad_answer("the stream", reason + &shown)
        })
    }
}

impl<T: DeserializeOwned> Decode<JobEvent<T>> for Job<T> {
    fn event(&mut self, event: SseEvent, out: &mut VecDeque<JobEvent<T>>) -> Result<bool> {
        let Ok(Value::Object(report)) = serde_json::from_str(&event.data) else {
            if event.data.trim() != DONE {
                out.push_back(JobEvent::Other(event.data));
            }
            return Ok(false);
        };
        match report.get("status").and_then(Value::as_str) {
            Some("complete") => {
                out.push_back(JobEvent::Complete(self.result(&report)?));
                return Ok(true);
            }
            Some("error") => return Err(self.failure(&report)),
            Some("processing") => out.push_back(JobEvent::Processing(report)),
            _ => {
                out.push_back(JobEvent::Other(event.data));
                self.last = Some(report);
            }
        }
        Ok(false)
    }

    fn end(
        &mut self,
        unfinished: Option<SseEvent>,
        out: &mut VecDeque<JobEvent<T>>,
    ) -> Result<End> {
        if let Some(event) = unfinished
            && self.event(event, out)?
        {
            return Ok(End::Complete);
        }
        match self.last.take().map(|report| self.result(&report)) {
            Some(Ok(result)) => {
                out.push_back(JobEvent::Complete(result));
                Ok(End::Complete)
            }
            _ => Ok(End::TooEarly("the job reported no result")),
        }
    }

    fn whole(&mut self, url: &str, body: &[u8], out: &mut VecDeque<JobEvent<T>>) -> Result<()> {
        let report: Map<String, Value> = http::parse(url, body, &self.known)?;
        if report.get("status").and_then(Value::as_str) == Some("error") {
            return Err(self.failure(&report));
        }
        out.push_back(JobEvent::Complete(self.result(&report)?));
        Ok(())
    }
}

/// Waits for a job's result.
pub(super) async fn result<T>(mut events: Events<JobEvent<T>>) -> Result<T> {
    while let Some(event) = events.next().await {
        if let JobEvent::Complete(result) = event? {
            return Ok(result);
        }
    }
    Err(Error::bad_answer(
        "the stream",
        "the job reported no result",
    ))
}
