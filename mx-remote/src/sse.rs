//! Server-sent events, read from any pieces of bytes.

use crate::error::{Error, Result};
use crate::options::Limits;
use std::collections::VecDeque;
use std::time::Duration;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// Its type; `message` unless the stream names another.
    pub event: String,
    /// Its `data` lines, joined by line feeds.
    pub data: String,
    /// The last id that the stream has set, in this event or before; empty when there was none.
    pub id: String,
}

/// A parser of `text/event-stream` as the HTML standard defines it: a byte order mark is skipped, lines end in LF, CR
/// or CRLF, comments and unknown fields are passed over, broken UTF-8 is replaced, and an event that no blank line
/// ends is no event. Where the pieces are cut does not matter, be it inside a character or between CR and LF.
///
/// ```
/// use mx_remote::{Limits, SseParser};
///
/// let mut parser = SseParser::new(&Limits::default());
/// parser.feed(b": hello\r\nevent: tick\r\nda")?;
/// parser.feed(b"ta: 1\r\ndata: 2\r\n\r")?;
/// let event = parser.next_event().expect("the blank line has come");
/// assert_eq!((event.event.as_str(), event.data.as_str()), ("tick", "1\n2"));
/// parser.feed(b"\ndata: never ended\n")?;
/// assert_eq!(parser.next_event(), None);
/// # Ok::<(), mx_remote::Error>(())
/// ```
#[derive(Debug)]
pub struct SseParser {
    max_line: usize,
    max_event: usize,
    /// The unfinished line.
    line: Vec<u8>,
    /// The line feed after a carriage return belongs to it.
    skip_line_feed: bool,
    first_line: bool,
    data: String,
    has_data: bool,
    event: String,
    id: String,
    retry: Option<Duration>,
    ready: VecDeque<SseEvent>,
}

impl SseParser {
    /// A parser at the start of a stream. It takes `max_line_bytes` and `max_event_bytes` from the limits.
    pub fn new(limits: &Limits) -> Self {
        SseParser {
            max_line: limits.max_line_bytes,
            max_event: limits.max_event_bytes,
            line: Vec::new(),
            skip_line_feed: false,
            first_line: true,
            data: String::new(),
            has_data: false,
            event: String::new(),
            id: String::new(),
            retry: None,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] when a line or an event is longer than its limit. The stream is of no use after that.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.skip_line_feed) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let length = self.line.len() + part.len();
            if length > self.max_line {
                let limit = (self.max_line, "max_line_bytes");
                return Err(too_large("a line of the stream", length, limit));
            }
            let Some(end) = end else {
                self.line.extend_from_slice(part);
                return Ok(());
            };
            self.skip_line_feed = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if self.line.is_empty() {
                self.take_line(part)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                self.take_line(&line)?;
                line.clear();
                self.line = line;
            }
        }
        Ok(())
    }

    /// The next complete event.
    pub fn next_event(&mut self) -> Option<SseEvent> {
        self.ready.pop_front()
    }

    /// The wait that the server wishes before a reconnection, if it named one.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// The event that the stream ended in the middle of. The standard drops it. Some servers forget the last blank
    /// line, or even the last line's end; whoever must understand them asks for it.
    ///
    /// # Errors
    ///
    /// As for [`feed`](Self::feed).
    pub fn into_unfinished(mut self) -> Result<Option<SseEvent>> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line)?;
        }
        self.dispatch();
        Ok(self.ready.pop_back())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<()> {
        let first = std::mem::take(&mut self.first_line);
        let line = if first {
            line.strip_prefix(BOM).unwrap_or(line)
        } else {
            line
        };
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let colon = line.iter().position(|&b| b == b':');
        let (field, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                let value = String::from_utf8_lossy(value);
                let length = self.data.len() + usize::from(self.has_data) + value.len();
                if length > self.max_event {
                    let limit = (self.max_event, "max_event_bytes");
                    return Err(too_large("an event of the stream", length, limit));
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(&value);
                self.has_data = true;
            }
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => self.id = String::from_utf8_lossy(value).into_owned(),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let millis = std::str::from_utf8(value).ok().and_then(|t| t.parse().ok());
                self.retry = millis.map(Duration::from_millis).or(self.retry);
            }
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if !std::mem::take(&mut self.has_data) {
            return;
        }
        self.ready.push_back(SseEvent {
            event: if event.is_empty() {
                "message".to_owned()
            } else {
                event
            },
            data,
            id: self.id.clone(),
        });
    }
}

fn too_large(what: &str, given: usize, (limit, limit_name): (usize, &'static str)) -> Error {
    Error::TooLarge {
        what: what.to_owned(),
        given: given as u64,
        limit: limit as u64,
        limit_name,
    }
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
