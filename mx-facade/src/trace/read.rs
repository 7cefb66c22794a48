//! Reading traces that someone else may have written.

use super::{TRACE_VERSION, Trace, TraceError};
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bounds on what a trace file may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Size of the file. 32 MiB; a traced token takes about 2 KiB. Memory stays within some 40 times of it.
    pub bytes: u64,
    /// Tokens of all outputs. 1 000 000.
    pub steps: usize,
    /// Tokens of the prompt. 4 194 304.
    pub prompt_tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 32 << 20,
            steps: 1_000_000,
            prompt_tokens: 1 << 22,
        }
    }
}

/// Reads a trace, or an answer that carries one (what `mx generate --json --trace` prints).
///
/// # Errors
/// [`TraceError`] for a file that cannot be read, is too large, of another version, or no trace.
pub fn read(path: &Path, limits: &Limits) -> Result<Trace, TraceError> {
    let failed = |source| TraceError::Io {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    // One byte more than allowed tells that there is more; a length that the system reports is not trusted.
    file.take(limits.bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    parse(&bytes, limits)
}

/// The trace in some bytes of JSON.
///
/// # Errors
/// As [`read`].
pub fn parse(json: &[u8], limits: &Limits) -> Result<Trace, TraceError> {
    let given = json.len() as u64;
    if given > limits.bytes {
        let limit = limits.bytes;
        return Err(TraceError::TooLarge { given, limit });
    }
    let outer: Versions = serde_json::from_slice(json)?;
    let wrapped = outer.version.is_none() && outer.trace.is_some();
    let version = match (outer.version, outer.trace) {
        (None, Some(inner)) => inner.version,
        (version, _) => version,
    };
    if let Some(given) = version.filter(|given| *given != u64::from(TRACE_VERSION)) {
        let wanted = TRACE_VERSION;
        return Err(TraceError::Version { given, wanted });
    }
    let trace: Trace = match wrapped {
        true => serde_json::from_slice::<Wrapped>(json)?.trace,
        false => serde_json::from_slice(json)?,
    };
    let further = trace.further.iter().map(|output| output.steps.len());
    let steps = further.sum::<usize>() + trace.steps.len();
    at_most("steps", steps, "steps", limits.steps)?;
    let prompt = trace.prompt_tokens.len();
    at_most(
        "prompt tokens",
        prompt,
        "prompt_tokens",
        limits.prompt_tokens,
    )?;
    Ok(trace)
}

/// The version of a trace, or of the one inside an answer.
#[derive(Deserialize)]
struct Versions {
    version: Option<u64>,
    trace: Option<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: Option<u64>,
}

/// An answer that carries a trace.
#[derive(Deserialize)]
struct Wrapped {
    trace: Trace,
}

fn at_most(
    what: &'static str,
    given: usize,
    limit_name: &'static str,
    limit: usize,
) -> Result<(), TraceError> {
    match given > limit {
        true => Err(TraceError::TooMany {
            what,
            given,
            limit_name,
            limit,
        }),
        false => Ok(()),
    }
}
