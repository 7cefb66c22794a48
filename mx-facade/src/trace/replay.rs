//! Carrying out a trace again.

use super::diff::Difference;
use super::{Diff, Trace, diff};
use crate::client::Client;
use crate::error::Error;
use crate::generation::FinishReason;
use serde::Serialize;

/// How a repeated run compares with its trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Replay {
    /// Whether text and tokens came out the same; for a run that was interrupted, as far as it went.
    pub same: bool,
    /// The comparison: the trace is `a`, the repeated run `b`.
    pub diff: Diff,
    /// What explains a divergence, most likely first; empty where nothing diverged or nothing known explains it.
    pub causes: Vec<String>,
    /// The trace of the repeated run.
    pub trace: Trace,
}

/// Runs the request of a trace again, on the models of the client, and compares token by token.
///
/// On the CPU engine the same build, model and request give the same bits, whatever the threads, the instruction set and
/// the batch around it. Elsewhere, or where something differs, the answer names the first divergence and what differs.
///
/// # Errors
/// [`Error::Unsupported`] for a trace that cannot be repeated, otherwise as [`Client::run`].
pub fn replay(client: &Client, trace: &Trace) -> Result<Replay, Error> {
    repeatable(trace)?;
    let answer = client.repeat(trace)?.complete()?;
    let mut again = answer
        .trace
        .ok_or_else(|| Error::unsupported("replay", "the repeated run left no trace"))?;
    // A policy's trace begins with the output that it chose.
    let first = again.further.iter().position(|o| o.stream == trace.stream);
    if let Some(row) = first.filter(|_| again.stream != trace.stream) {
        again.lead(row + 1);
    }
    let mut diff = diff(trace, &again);
    if trace.finish_reason == FinishReason::Cancelled {
        forget_what_was_cut(&mut diff, trace, &again);
    }
    let causes = match diff.same_text {
        true => Vec::new(),
        false => diff.differences.iter().map(Difference::to_string).collect(),
    };
    Ok(Replay {
        same: diff.same_text,
        diff,
        causes,
        trace: again,
    })
}

/// Refuses what a trace does not hold.
pub(super) fn repeatable(trace: &Trace) -> Result<(), Error> {
    if trace.own_mask {
        let reason =
            "the tokens were restricted by a mask of the caller, which a trace cannot hold";
        return Err(Error::unsupported("replay", reason));
    }
    Ok(())
}

/// An interrupted run ended where it was stopped: that the repeated one goes on is no divergence.
fn forget_what_was_cut(diff: &mut Diff, trace: &Trace, again: &Trace) {
    if diff.divergence.as_ref().is_some_and(|at| at.a.is_some()) {
        return;
    }
    let starts = |(a, b): (&String, &String)| b.starts_with(a.as_str());
    let mut pairs = std::iter::once((&trace.text, &again.text)).chain(
        trace
            .further
            .iter()
            .map(|o| &o.text)
            .zip(again.further.iter().map(|o| &o.text)),
    );
    if pairs.all(starts) {
        diff.divergence = None;
        diff.same_text = true;
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// Longest value that is printed.
        const LONGEST: usize = 80;
        let short = |value: &serde_json::Value| {
            let text = value.to_string();
            match text.char_indices().nth(LONGEST) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        };
        write!(
            f,
            "{} was {}, is {}",
            self.what,
            short(&self.a),
            short(&self.b)
        )
    }
}
