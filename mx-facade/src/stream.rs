//! An answer on its way, wherever it is made.

use crate::cancel::Cancel;
use crate::client::{Client, random_seed};
use crate::error::Error;
use crate::generation::{Chunk, Generation};
#[cfg(feature = "local")]
use crate::pipeline::{Loaded, Plan, Resources, Run};
use crate::policy;
use crate::remote::{self, Server, Streaming};
use crate::request::GenerateRequest;
#[cfg(feature = "local")]
use crate::route::Fallback;
use std::fmt;

/// An answer on its way: an iterator over [`Chunk`]s that owns its state.
///
/// On the remote route the request is sent when the first chunk is asked for. A server that fails before its first chunk
/// is replaced by the loaded model where [`Fallback`] says so; one that fails later ends the stream with the error, and
/// [`into_generation`](Stream::into_generation) gives what had come.
pub struct Stream {
    source: Source,
    cancel: Cancel,
}

enum Source {
    #[cfg(feature = "local")]
    Local(Box<Run>),
    /// Not sent yet.
    Waiting(Box<Waiting>),
    Remote(Streaming),
    /// To be run by a policy.
    Judged(Box<(Client, GenerateRequest)>),
    /// The loaded model, after the server failed.
    #[cfg(feature = "local")]
    Fallen(Box<Run>, Box<Error>),
    /// The request could not be sent.
    Failed,
}

struct Waiting {
    server: Server,
    request: GenerateRequest,
    #[cfg_attr(not(feature = "local"), allow(dead_code))]
    fallback: Option<Fallen>,
}

/// Nothing answers when the server fails: a build without local models.
#[cfg(not(feature = "local"))]
pub(crate) enum Fallen {}

/// What answers when the server fails.
#[cfg(feature = "local")]
pub(crate) struct Fallen {
    pub(crate) policy: Fallback,
    pub(crate) model: Loaded,
    pub(crate) resources: Resources,
}

impl Stream {
    #[cfg(feature = "local")]
    pub(crate) fn local(run: Run) -> Self {
        Stream {
            cancel: run.cancel_handle().into(),
            source: Source::Local(Box::new(run)),
        }
    }

    pub(crate) fn remote(
        server: Server,
        request: GenerateRequest,
        fallback: Option<Fallen>,
    ) -> Self {
        let waiting = Waiting {
            server,
            request,
            fallback,
        };
        Stream {
            source: Source::Waiting(Box::new(waiting)),
            cancel: Cancel::new(),
        }
    }

    pub(crate) fn judged(client: Client, request: GenerateRequest) -> Self {
        Stream {
            source: Source::Judged(Box::new((client, request))),
            cancel: Cancel::new(),
        }
    }

    /// Stops the answer when the flag is set, instead of the flag it has. Before the first chunk.
    pub fn with_cancel(mut self, cancel: impl Into<Cancel>) -> Self {
        self.cancel = cancel.into();
        #[cfg(feature = "local")]
        if let Source::Local(run) = self.source {
            self.source = Source::Local(Box::new(run.with_cancel(self.cancel.clone())));
        }
        self
    }

    /// A handle that stops the answer, from any thread.
    pub fn cancel_handle(&self) -> Cancel {
        self.cancel.clone()
    }

    /// The answer as far as it was read. Outputs that had not ended are
    /// [cancelled](crate::FinishReason::Cancelled).
    pub fn into_generation(self) -> Generation {
        match self.source {
            #[cfg(feature = "local")]
            Source::Local(run) => run.into_generation(),
            #[cfg(feature = "local")]
            Source::Fallen(run, error) => {
                let mut generation = run.into_generation();
                crate::route::fell_back(&mut generation, &error);
                generation
            }
            Source::Remote(streaming) => streaming.into_generation(),
            Source::Waiting(_) | Source::Judged(_) | Source::Failed => remote::nothing(),
        }
    }

    /// Sends the request, or starts the loaded model in the server's place.
    fn open(&mut self, waiting: Waiting) -> Result<(), Error> {
        let request = &waiting.request;
        let cancel = self.cancel.clone().into();
        let error = match waiting.server.stream(request, random_seed, cancel) {
            Ok(streaming) => {
                self.source = Source::Remote(streaming);
                return Ok(());
            }
            Err(error) => error,
        };
        #[cfg(feature = "local")]
        if let Some(fallen) = waiting.fallback
            && fallen.policy.allows(&error)
        {
            let plan = Plan::with(fallen.model, &fallen.resources, request, random_seed)?;
            let run = Run::new(plan)?.with_cancel(self.cancel.clone());
            self.source = Source::Fallen(Box::new(run), Box::new(error));
            return Ok(());
        }
        Err(error)
    }
}

impl Iterator for Stream {
    type Item = Result<Chunk, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.source, Source::Waiting(_))
            && let Source::Waiting(waiting) = std::mem::replace(&mut self.source, Source::Failed)
            && let Err(error) = self.open(*waiting)
        {
            return Some(Err(error));
        }
        if matches!(self.source, Source::Judged(_))
            && let Source::Judged(waiting) = std::mem::replace(&mut self.source, Source::Failed)
        {
            let (client, request) = *waiting;
            match policy::answer(&client, &request, self.cancel.clone()) {
                Ok(answer) => self.source = Source::Remote(Streaming::whole(answer)),
                Err(error) => return Some(Err(error)),
            }
        }
        match &mut self.source {
            #[cfg(feature = "local")]
            Source::Local(run) | Source::Fallen(run, _) => run.next(),
            Source::Remote(streaming) => streaming.next(),
            Source::Waiting(_) | Source::Judged(_) | Source::Failed => None,
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            #[cfg(feature = "local")]
            Source::Local(_) => "local",
            Source::Waiting(_) => "not sent",
            Source::Judged(_) => "not run",
            Source::Remote(_) => "remote",
            #[cfg(feature = "local")]
            Source::Fallen(..) => "fallback",
            Source::Failed => "failed",
        };
        f.debug_struct("Stream")
            .field("source", &source)
            .field("cancel", &self.cancel)
            .finish()
    }
}
