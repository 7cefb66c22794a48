//! Where a request runs.

use crate::error::Error;
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

/// Decides the route: `Ok` means local.
///
/// | mode | key | model named or loaded | route |
/// |---|---|---|---|
/// | auto | yes | any | remote |
/// | auto | no | yes | local |
/// | auto | no | no | error |
/// | remote | any | any | remote |
/// | local | any | yes | local |
/// | local | any | no | error |
///
/// Remote execution is not built yet: that route is [`Error::Unsupported`], and nothing falls back silently.
pub(crate) fn decide(mode: ExecutionMode, has_key: bool, has_model: bool) -> Result<(), Error> {
    let remote = match mode {
        ExecutionMode::Remote => true,
        ExecutionMode::Auto => has_key,
        ExecutionMode::Local => false,
    };
    match (remote, has_model) {
        (true, _) => Err(Error::unsupported(
            "remote execution",
            "it is not built yet; set the execution mode to local",
        )),
        (false, true) => Ok(()),
        (false, false) => Err(Error::NoModel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        use ExecutionMode::*;
        let local = |mode, key, model| decide(mode, key, model).is_ok();
        assert!(local(Auto, false, true));
        assert!(local(Local, true, true));
        for (mode, key, model) in [
            (Auto, true, true),
            (Auto, false, false),
            (Remote, true, true),
            (Local, true, false),
        ] {
            assert!(!local(mode, key, model), "{mode:?} {key} {model}");
        }
    }
}
