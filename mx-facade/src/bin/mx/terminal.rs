//! What is written where.

use mx::FinishReason;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Writes data to stdout at once.
pub(crate) fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A line on stderr. A stderr that is gone is no reason to stop.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// An error and its causes, on stderr.
pub(crate) fn report(error: &anyhow::Error) {
    let label = if colour() {
        "\x1b[1;31merror\x1b[0m"
    } else {
        "error"
    };
    note(format_args!("{label}: {error}"));
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // causes are often part of the message above them already
        if !said.contains(&cause) {
            note(format_args!("  because {cause}"));
            said = cause;
        }
    }
}

/// A warning on stderr.
pub(crate) fn warn(message: impl Display) {
    let label = if colour() {
        "\x1b[1;33mwarning\x1b[0m"
    } else {
        "warning"
    };
    note(format_args!("{label}: {message}"));
}

/// Whether stderr shows colour: on terminals, unless NO_COLOR is set.
fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether the error is that the reader of stdout has gone away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Text for a person: control characters of untrusted names and tokens are spelled out.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let spelled = c.is_control().then(|| c.escape_default().to_string());
            spelled
                .unwrap_or_else(|| c.to_string())
                .chars()
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// A table with columns of equal width.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// What is to be said at the end of an answer: its warnings, and whether it was cut.
pub(crate) fn end(generation: &mx::Generation) {
    for warning in &generation.warnings {
        warn(&warning.message);
    }
    let cut = |finish| finish == FinishReason::Length;
    let mut longest = cut(generation.finish_reason).then_some(generation.tokens.len());
    for choice in &generation.choices {
        longest = longest.max(cut(choice.finish_reason).then_some(choice.tokens.len()));
    }
    match longest {
        // A server does not name the tokens.
        Some(0) => note("(stopped at --max-tokens)"),
        Some(count) => note(format_args!(
            "(stopped after {count} tokens; --max-tokens allows more)"
        )),
        None => {}
    }
}
