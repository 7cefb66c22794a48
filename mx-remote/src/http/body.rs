//! The body of an answer, read piece by piece within limits and times.

use super::send::Conn;
use super::shown;
use crate::cancel::{Stopped, Watch};
use crate::error::{Error, Result};
use bytes::Bytes;
use http_body::Body as _;
use reqwest::Response;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Reads the body of one answer.
#[derive(Debug)]
pub(crate) struct BodyReader {
    /// Gone once the end has come, so that the connection is free or closed.
    body: Option<Pin<Box<reqwest::Body>>>,
    url: String,
    watch: Watch,
    read_timeout: Option<Duration>,
    total: Option<(Instant, Duration, &'static str)>,
    /// Whether somebody waits. Silence counts from then on: a slow reader is not the server's fault.
    waiting: bool,
    got: u64,
    limit: (u64, &'static str),
}

impl BodyReader {
    pub(super) fn new(response: Response, conn: &Conn, limit: (u64, &'static str)) -> Result<Self> {
        let url = shown(response.url());
        if let Some(given) = response.content_length().filter(|n| *n > limit.0) {
            return Err(too_large(&url, given, limit));
        }
        Ok(BodyReader {
            body: Some(Box::pin(response.into())),
            url,
            watch: Watch::new(conn.cancel.clone(), None),
            read_timeout: conn.read_timeout,
            total: conn.total,
            waiting: false,
            got: 0,
            limit,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn got(&self) -> u64 {
        self.got
    }

    /// Frees the connection; nothing more comes.
    pub(crate) fn close(&mut self) {
        self.body = None;
    }

    /// The next piece, or the proper end.
    pub(crate) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if self.body.is_some() && !std::mem::replace(&mut self.waiting, true) {
            self.rearm();
        }
        let piece = self.poll_waiting(context);
        self.waiting = piece.is_pending();
        piece
    }

    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(stopped) = self.watch.poll(context) {
            self.body = None;
            return Poll::Ready(Some(Err(self.stopped(stopped))));
        }
        loop {
            let frame = match body.as_mut().poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    self.body = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.body = None;
                    let reason = super::send::reason(&error);
                    let (url, got) = (self.url.clone(), self.got);
                    return Poll::Ready(Some(Err(Error::Cut { url, got, reason })));
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            // Trailers are of no interest.
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            self.got += piece.len() as u64;
            if self.got > self.limit.0 {
                self.body = None;
                return Poll::Ready(Some(Err(too_large(&self.url, self.got, self.limit))));
            }
            return Poll::Ready(Some(Ok(piece)));
        }
    }

    /// All of it.
    pub(crate) async fn whole(mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = std::future::poll_fn(|c| self.poll_piece(c)).await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    /// As much of it as comes properly, at most `most` bytes.
    pub(super) async fn beginning(mut self, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(Ok(piece)) = std::future::poll_fn(|c| self.poll_piece(c)).await {
            let room = most - all.len();
            all.extend_from_slice(&piece[..piece.len().min(room)]);
            if all.len() == most {
                break;
            }
        }
        all
    }

    fn rearm(&mut self) {
        let silence = self
            .read_timeout
            .and_then(|t| Instant::now().checked_add(t));
        let total = self.total.map(|(at, ..)| at);
        self.watch
            .set_deadline(silence.into_iter().chain(total).min());
    }

    fn stopped(&self, stopped: Stopped) -> Error {
        super::send::stopped(stopped, &self.url, self.read_timeout, self.total)
    }
}

fn too_large(url: &str, given: u64, (limit, limit_name): (u64, &'static str)) -> Error {
    Error::TooLarge {
        what: format!("the answer of {url}"),
        given,
        limit,
        limit_name,
    }
}
