//! A client of a build without local models.

use crate::error::Error;
use crate::generation::Generation;
use crate::request::GenerateRequest;
use crate::route::Fallback;
use crate::stream::{Fallen, Stream};

/// No local models.
#[derive(Debug, Clone, Default)]
pub(super) struct Local;

impl Local {
    pub(super) fn take_env(&mut self, _env: &dyn Fn(&str) -> Option<String>) {}

    pub(super) fn is_named(&self) -> bool {
        false
    }

    pub(super) fn is_loaded(&self) -> bool {
        false
    }

    pub(super) fn check(_request: &GenerateRequest) -> Result<(), Error> {
        Err(absent())
    }

    pub(super) fn run(&self, _request: &GenerateRequest) -> Result<Generation, Error> {
        Err(absent())
    }

    pub(super) fn stream(&self, _request: &GenerateRequest) -> Result<Stream, Error> {
        Err(absent())
    }

    pub(super) fn fallen(&self, _policy: Fallback) -> Option<Fallen> {
        None
    }
}

pub(crate) fn absent() -> Error {
    let reason = "this build has the remote route only; build it with the feature local";
    Error::unsupported("a local model", reason)
}
