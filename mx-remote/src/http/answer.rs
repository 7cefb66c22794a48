//! What an answer holds: the result, a stream, or a refusal.

use super::body::BodyReader;
use super::retry::retry_after;
use super::send::Conn;
use super::{Ask, shown};
use crate::error::{Error, Failure, FieldProblem, MAX_MESSAGE_BYTES, Result};
use crate::secret::{Secret, clean};
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::SystemTime;

/// Bytes of a refusal that are read.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
const MAX_FIELD_PROBLEMS: usize = 16;
const MAX_ID_BYTES: usize = 128;
/// Bytes of an unexpected answer that an error shows.
const MAX_EXCERPT_BYTES: usize = 120;
const EVENT_STREAM: &str = "text/event-stream";
const REQUEST_ID_HEADERS: &[&str] = &["x-request-id", "request-id", "x-amzn-requestid", "cf-ray"];

/// An answer to a call that asked for a stream.
#[derive(Debug)]
pub(crate) enum Opened {
    Events(BodyReader),
    /// The server answered at once with JSON.
    Json {
        url: String,
        body: Vec<u8>,
    },
}

/// What an answer should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Json,
    /// JSON, whatever the server calls it: files lie on servers that do not know what is in them.
    JsonFile,
    Text,
    Events,
}

/// What it did hold.
pub(super) enum Got {
    Whole { url: String, body: Vec<u8> },
    Stream(BodyReader),
}

impl Conn {
    /// Sends a request and reads its answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T> {
        let (url, body) = self.whole(ask, Want::Json).await?;
        parse(&url, &body, &self.net.keys.known())
    }

    /// As [`json`](Conn::json), for a file that may lie on another server.
    pub(crate) async fn json_file<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T> {
        let (url, body) = self.whole(ask, Want::JsonFile).await?;
        parse(&url, &body, &self.net.keys.known())
    }

    /// As [`json`](Conn::json), where an empty answer is `null`.
    pub(crate) async fn any(&self, ask: &Ask) -> Result<Value> {
        let (url, body) = self.whole(ask, Want::Json).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        parse(&url, &body, &self.net.keys.known())
    }

    /// Sends a request and reads its answer as text.
    pub(crate) async fn text(&self, ask: &Ask) -> Result<String> {
        let (_, body) = self.whole(ask, Want::Text).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends a request whose answer is a stream of events.
    pub(crate) async fn events(&self, ask: &Ask) -> Result<Opened> {
        Ok(match self.send(ask, Want::Events).await? {
            Got::Stream(body) => Opened::Events(body),
            Got::Whole { url, body } => Opened::Json { url, body },
        })
    }

    async fn whole(&self, ask: &Ask, want: Want) -> Result<(String, Vec<u8>)> {
        match self.send(ask, want).await? {
            Got::Whole { url, body } => Ok((url, body)),
            // Only a call that wants events gets them.
            Got::Stream(body) => Ok((body.url().to_owned(), body.whole().await?)),
        }
    }

    /// Reads a success as far as it is to be read at once.
    pub(super) async fn take(&self, response: Response, want: Want) -> Result<Got> {
        let limits = &self.net.transport.limits;
        let (url, kind) = (shown(response.url()), content_type(response.headers()));
        let fits = match want {
            Want::Json => is_json(&kind) || kind.is_empty() || response.content_length() == Some(0),
            Want::JsonFile | Want::Text => true,
            Want::Events => is_json(&kind) || kind.is_empty() || kind == EVENT_STREAM,
        };
        if !fits {
            let wanted = if want == Want::Events {
                "a stream of events"
            } else {
                "JSON"
            };
            return Err(self.unexpected(response, wanted).await);
        }
        check_encoding(&url, response.headers())?;
        if want == Want::Events && !is_json(&kind) {
            let limit = (limits.max_stream_bytes, "max_stream_bytes");
            return BodyReader::new(response, self, limit).map(Got::Stream);
        }
        let limit = (limits.max_answer_bytes, "max_answer_bytes");
        let body = BodyReader::new(response, self, limit)?.whole().await?;
        Ok(Got::Whole { url, body })
    }

    async fn unexpected(&self, response: Response, wanted: &str) -> Error {
        let (url, kind) = (shown(response.url()), content_type(response.headers()));
        let body = match BodyReader::new(response, self, (u64::MAX, "")) {
            Ok(reader) => reader.beginning(MAX_EXCERPT_BYTES).await,
            Err(_) => Vec::new(),
        };
        let known = self.net.keys.known();
        let (kind, body) = (
            clean(&kind, &known, MAX_ID_BYTES),
            clean(&String::from_utf8_lossy(&body), &known, MAX_EXCERPT_BYTES),
        );
        Error::bad_answer(&url, format!("{kind} instead of {wanted}: {body}"))
    }

    /// Reads a refusal.
    pub(super) async fn refusal(&self, response: Response) -> Error {
        let url = shown(response.url());
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = match BodyReader::new(response, self, (u64::MAX, "")) {
            Ok(reader) => reader.beginning(MAX_REFUSAL_BYTES).await,
            Err(_) => Vec::new(),
        };
        let known = self.net.keys.known();
        let mut failure = failure(&String::from_utf8_lossy(&body), &known);
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        failure.status = Some(status);
        failure.url = url;
        failure.request_id = REQUEST_ID_HEADERS
            .iter()
            .find_map(|name| header(name))
            .map(|id| clean(id, &known, MAX_ID_BYTES));
        failure.retry_after = retry_after(
            header(RETRY_AFTER.as_str()),
            header("retry-after-ms"),
            SystemTime::now(),
        );
        Error::refused(failure)
    }
}

/// Reads JSON. What ends too early is a broken answer, everything else an unusable one.
pub(crate) fn parse<T: DeserializeOwned>(url: &str, body: &[u8], known: &[Secret]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() {
            return Error::Cut {
                url: url.to_owned(),
                got: body.len() as u64,
                reason: "its JSON ends too early".into(),
            };
        }
        if let Some(failure) = reported(body, known) {
            let url = url.to_owned();
            return Error::Api(Box::new(Failure { url, ..failure }));
        }
        let reason = clean(&error.to_string(), known, MAX_MESSAGE_BYTES);
        Error::bad_answer(url, reason)
    })
}

/// The failure that some servers and proxies report in the body of a success.
fn reported(body: &[u8], known: &[Secret]) -> Option<Failure> {
    let text = std::str::from_utf8(body).ok()?;
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("error").filter(|error| !error.is_null())?;
    Some(failure(text, known))
}

/// The message of a refusal in any of the forms that servers use: `{"detail": …}`, `{"error": …}`, `{"message": …}`, or
/// bare text.
pub(crate) fn failure(body: &str, known: &[Secret]) -> Failure {
    let clean = |text: &str, max| clean(text.trim(), known, max);
    let Ok(Value::Object(body)) = serde_json::from_str(body) else {
        let message = clean(body, MAX_MESSAGE_BYTES);
        return Failure {
            message,
            ..Failure::default()
        };
    };
    let error = match body.get("error") {
        Some(Value::Object(error)) => error,
        _ => &body,
    };
    let mut failure = Failure::default();
    let texts = [
        body.get("error"),
        body.get("detail"),
        error.get("message"),
        error.get("detail"),
    ];
    if let Some(text) = texts.into_iter().flatten().find_map(Value::as_str) {
        failure.message = clean(text, MAX_MESSAGE_BYTES);
    }
    if let Some(Value::Array(problems)) = body.get("detail") {
        failure.fields = problems
            .iter()
            .take(MAX_FIELD_PROBLEMS)
            .map(|p| problem(p, &clean))
            .collect();
        if failure.message.is_empty() {
            failure.message = format!("{} problems", problems.len());
        }
    }
    if failure.message.is_empty() {
        failure.message = clean(&Value::Object(body.clone()).to_string(), MAX_MESSAGE_BYTES);
    }
    let code = [error.get("code"), error.get("type")];
    failure.code = code.into_iter().flatten().find_map(|code| match code {
        Value::String(text) => Some(clean(text, MAX_ID_BYTES)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    failure
}

fn problem(problem: &Value, clean: &impl Fn(&str, usize) -> String) -> FieldProblem {
    let part = |part: &Value| {
        part.as_str()
            .map_or_else(|| part.to_string(), str::to_owned)
    };
    let field = match problem.get("loc") {
        Some(Value::Array(parts)) => parts.iter().map(part).collect::<Vec<_>>().join("."),
        _ => String::new(),
    };
    let message = match problem.get("msg").and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => problem.to_string(),
    };
    FieldProblem {
        field: clean(&field, MAX_ID_BYTES),
        message: clean(&message, MAX_MESSAGE_BYTES / 8),
    }
}

/// The bare media type, in lowercase.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

fn is_json(kind: &str) -> bool {
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// No encoding was asked for.
fn check_encoding(url: &str, headers: &HeaderMap) -> Result<()> {
    match headers
        .get(CONTENT_ENCODING)
        .map(|v| v.to_str().unwrap_or("?"))
    {
        None | Some("identity" | "") => Ok(()),
        Some(other) => Err(Error::bad_answer(
            url,
            format!("an answer encoded as {other}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_in_every_form() {
        let read = |body: &str| {
            let f = failure(body, &["topsecret".into()]);
            (f.message, f.code.unwrap_or_default(), f.fields.len())
        };
        let text = |t: &str| (t.to_owned(), String::new(), 0);
        assert_eq!(
            read(r#"{"detail": "no such key topsecret"}"#),
            text("no such key [secret]")
        );
        assert_eq!(read("<html>\nBad Gateway"), text("<html> Bad Gateway"));
        assert_eq!(read(""), text(""));
        assert_eq!(read(r#"{"error": "plain"}"#), text("plain"));
        assert_eq!(read(r#"{"what": 1}"#), text(r#"{"what":1}"#));
        assert_eq!(
            read(r#"{"error": {"message": "m", "type": "t", "param": null, "code": null}}"#),
            ("m".into(), "t".into(), 0)
        );
        assert_eq!(
            read(r#"{"object": "error", "message": "m", "type": "t", "code": 400}"#),
            ("m".into(), "400".into(), 0)
        );
        let long = failure(&format!(r#"{{"detail": "{}"}}"#, "x".repeat(100_000)), &[]);
        assert!(long.message.len() < MAX_MESSAGE_BYTES + 4);
    }

    #[test]
    fn complaints_about_fields_are_kept() {
        let body = r#"{"detail": [{"loc": ["body", "prompts", 0], "msg": "field required", "type": "x"}, 7]}"#;
        let failure = failure(body, &[]);
        let fields: Vec<_> = failure
            .fields
            .iter()
            .map(|f| (f.field.as_str(), f.message.as_str()))
            .collect();
        assert_eq!(fields, [("body.prompts.0", "field required"), ("", "7")]);
        assert_eq!(
            failure.to_string(),
            "2 problems; body.prompts.0: field required; : 7 []"
        );
    }
}
