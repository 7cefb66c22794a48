//! Where a request runs.

use crate::error::Error;
use crate::generation::{Generation, Route, Warning};
use serde::{Deserialize, Serialize};

/// Where requests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionMode {
    /// Remote with a key, else local.
    #[default]
    Auto,
    /// Always remote; needs a key.
    Remote,
    /// Always local.
    Local,
}

/// What to do when a remote call fails and a local model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// Report the failure.
    Never,
    /// Run locally when the server could not be reached.
    OnConnectionFailure,
    /// Run locally whatever failed.
    #[default]
    OnRemoteFailure,
}

/// Decides the route.
///
/// | mode | key or server | model named or loaded | route |
/// |---|---|---|---|
/// | auto | yes | any | remote |
/// | auto | no | yes | local |
/// | auto | no | no | error |
/// | remote | yes | any | remote |
/// | remote | no | any | error |
/// | local | any | yes | local |
/// | local | any | no | error |
pub(crate) fn decide(
    mode: ExecutionMode,
    has_server: bool,
    has_model: bool,
) -> Result<Route, Error> {
    let remote = match mode {
        ExecutionMode::Remote if !has_server => {
            let wanted = "a key or a server beside the execution mode remote";
            return Err(Error::request("key", "absent", wanted));
        }
        ExecutionMode::Remote => true,
        ExecutionMode::Auto => has_server,
        ExecutionMode::Local => false,
    };
    match (remote, has_model) {
        (true, _) => Ok(Route::Remote),
        (false, true) => Ok(Route::Local),
        (false, false) => Err(Error::NoModel),
    }
}

/// Writes into an answer that it came from here because the server failed.
pub(crate) fn fell_back(generation: &mut Generation, error: &Error) {
    generation.route = Route::Fallback;
    if let Some(trace) = &mut generation.trace {
        trace.route = Route::Fallback;
        trace.fallback = Some(error.to_string());
    }
    let message = format!("the remote call failed, the loaded model answered: {error}");
    let warning = Warning::new("fallback", message);
    generation.warnings.insert(0, warning);
}

impl Fallback {
    /// Whether a request that failed remotely may run here.
    pub(crate) fn allows(self, error: &Error) -> bool {
        let Error::Remote(error) = error else {
            return false;
        };
        if error.is_cancelled() || error.is_request() {
            return false;
        }
        match self {
            Fallback::Never => false,
            Fallback::OnConnectionFailure => error.is_connection(),
            Fallback::OnRemoteFailure => true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_table_holds() {
        use ExecutionMode::*;
        let route = |mode, server, model| decide(mode, server, model).ok();
        for model in [true, false] {
            assert_eq!(route(Auto, true, model), Some(Route::Remote));
            assert_eq!(route(Remote, true, model), Some(Route::Remote));
            assert_eq!(route(Remote, false, model), None);
        }
        assert_eq!(route(Auto, false, true), Some(Route::Local));
        assert_eq!(route(Auto, false, false), None);
        for server in [true, false] {
            assert_eq!(route(Local, server, true), Some(Route::Local));
            assert_eq!(route(Local, server, false), None);
        }
    }
}
