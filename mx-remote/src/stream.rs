//! The stream of a call: its events as they come.

use crate::blocking::Blocking;
use crate::error::{Error, Result};
use crate::http::{BodyReader, Opened};
use crate::options::Limits;
use crate::sse::{SseEvent, SseParser};
use futures_core::Stream;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What a protocol makes of the events of its stream.
pub(crate) trait Decode<E>: Send {
    /// Takes an event. `true` means that the stream is complete.
    fn event(&mut self, event: SseEvent, out: &mut VecDeque<E>) -> Result<bool>;

    /// Takes the end of the connection, which came before the stream was complete, with the event that no blank line
    /// ended.
    fn end(&mut self, unfinished: Option<SseEvent>, out: &mut VecDeque<E>) -> Result<End>;

    /// Takes an answer that came whole, as JSON, instead of a stream.
    fn whole(&mut self, url: &str, body: &[u8], out: &mut VecDeque<E>) -> Result<()>;
}

/// Whether a stream may end as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    TooEarly(&'static str),
}

/// The events of a stream, for async code: [`next`](Events::next), or as a [`Stream`]. After an error nothing more
/// comes. Dropping it closes the connection, which tells the server to stop.
pub struct Events<E> {
    body: Option<BodyReader>,
    parser: Option<SseParser>,
    decode: Box<dyn Decode<E>>,
    ready: VecDeque<E>,
    /// Comes after what is ready.
    failed: Option<Error>,
}

impl<E> Events<E> {
    pub(crate) fn new(
        opened: Opened,
        limits: &Limits,
        mut decode: Box<dyn Decode<E>>,
    ) -> Result<Self> {
        let mut ready = VecDeque::new();
        let body = match opened {
            Opened::Events(body) => Some(body),
            Opened::Json { url, body } => {
                decode.whole(&url, &body, &mut ready)?;
                None
            }
        };
        Ok(Events {
            body,
            parser: Some(SseParser::new(limits)),
            decode,
            ready,
            failed: None,
        })
    }

    /// The next event; nothing after the last one.
    pub async fn next(&mut self) -> Option<Result<E>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<E>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Some(Err(error)));
            }
            let (Some(body), Some(parser)) = (self.body.as_mut(), self.parser.as_mut()) else {
                return Poll::Ready(None);
            };
            let step = match body.poll_piece(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => {
                    let fed = parser.feed(&piece);
                    // The events before the one that is too long are good.
                    let taken = take(parser, &mut *self.decode, &mut self.ready);
                    taken.and_then(|complete| fed.map(|()| complete))
                }
                Poll::Ready(Some(Err(error))) => Err(error),
                Poll::Ready(None) => self.ended().map(|()| true),
            };
            match step {
                Ok(false) => {}
                Ok(true) => self.close(),
                Err(error) => {
                    self.failed = Some(error);
                    self.close();
                }
            }
        }
    }

    fn ended(&mut self) -> Result<()> {
        let unfinished = match self.parser.take() {
            Some(parser) => parser.into_unfinished()?,
            None => None,
        };
        match self.decode.end(unfinished, &mut self.ready)? {
            End::Complete => Ok(()),
            End::TooEarly(reason) => Err(Error::Cut {
                url: self
                    .body
                    .as_ref()
                    .map(|b| b.url().to_owned())
                    .unwrap_or_default(),
                got: self.body.as_ref().map_or(0, BodyReader::got),
                reason: reason.to_owned(),
            }),
        }
    }

    fn close(&mut self) {
        if let Some(body) = &mut self.body {
            body.close();
        }
        self.body = None;
        self.parser = None;
    }
}

fn take<E>(
    parser: &mut SseParser,
    decode: &mut dyn Decode<E>,
    out: &mut VecDeque<E>,
) -> Result<bool> {
    while let Some(event) = parser.next_event() {
        if decode.event(event, out)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl<E: Unpin> Stream for Events<E> {
    type Item = Result<E>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(context)
    }
}

impl<E> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("open", &self.body.is_some())
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}

/// The events of a stream as an iterator that waits for each of them. After an error nothing more comes. Dropping it
/// closes the connection, which tells the server to stop.
pub struct BlockingEvents<E> {
    events: Option<Events<E>>,
    blocking: Arc<Blocking>,
}

impl<E> BlockingEvents<E> {
    pub(crate) fn new(events: Events<E>, blocking: Arc<Blocking>) -> Self {
        BlockingEvents {
            events: Some(events),
            blocking,
        }
    }
}

impl<E> Iterator for BlockingEvents<E> {
    type Item = Result<E>;

    fn next(&mut self) -> Option<Result<E>> {
        let events = self.events.as_mut()?;
        self.blocking.run(events.next()).unwrap_or_else(|error| {
            self.events = None;
            Some(Err(error))
        })
    }
}

impl<E> Drop for BlockingEvents<E> {
    fn drop(&mut self) {
        let open = self
            .events
            .take()
            .is_some_and(|events| events.body.is_some());
        if open {
            self.blocking.settle();
        }
    }
}

impl<E> fmt::Debug for BlockingEvents<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockingEvents").field(&self.events).finish()
    }
}
