//! What can go wrong with a chat template.

use std::path::PathBuf;

use minijinja::ErrorKind;

use super::TemplateLimits;

/// Error of reading, compiling or rendering a chat template.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that should hold a template holds something else.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The template is no valid Jinja.
    #[error("chat template, line {line}: {message} (near {excerpt:?})")]
    Syntax {
        /// Line in the template, from 1.
        line: usize,
        /// That line, shortened.
        excerpt: String,
        /// What is wrong.
        message: String,
    },
    /// The template failed on these messages.
    #[error("chat template, line {line}: {message} (at {excerpt:?})")]
    Render {
        /// Line in the template, from 1; 0 if unknown.
        line: usize,
        /// That line, shortened.
        excerpt: String,
        /// What went wrong.
        message: String,
    },
    /// The template refused the messages with `raise_exception`.
    #[error("the chat template refuses these messages: {message}")]
    Raised {
        /// What the template says.
        message: String,
        /// Line in the template, from 1; 0 if unknown.
        line: usize,
    },
    /// The template asks for the date and none was given.
    #[error("the chat template calls strftime_now, but no date was given in the render options")]
    MissingDate,
    /// A date is not one of the calendar.
    #[error("date field {field} = {given}, wanted {wanted}")]
    BadDate {
        /// The field.
        field: &'static str,
        /// Its value.
        given: i64,
        /// The values allowed.
        wanted: &'static str,
    },
    /// An extra variable has the name of one that the template is given anyway.
    #[error("the extra variable {name:?} would replace a variable of every chat template")]
    ReservedVariable {
        /// The name.
        name: String,
    },
    /// A value exceeds one of [`TemplateLimits`].
    #[error("{what} exceeds the limit {limit_name} = {limit}")]
    LimitExceeded {
        /// What was too large.
        what: &'static str,
        /// The field of `TemplateLimits`.
        limit_name: &'static str,
        /// Its value.
        limit: u64,
        /// The value found, where it is known.
        given: Option<u64>,
    },
    /// There is no room for the stack that the limits ask for.
    #[error("no stack of {bytes} bytes for the chat template: {source}")]
    Stack {
        /// Size of the stack.
        bytes: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// The template engine panicked, which is a fault of the engine.
    #[error("the template engine panicked on this template")]
    EnginePanicked,
    /// Every character that could mark user text occurs in the texts themselves.
    #[error("no character is left to mark user text with: the messages use all that qualify")]
    NoMarkLeft,
}

impl TemplateError {
    pub(super) fn limit(
        what: &'static str,
        given: usize,
        limit_name: &'static str,
        limit: usize,
    ) -> Self {
        Self::LimitExceeded {
            what,
            limit_name,
            limit: limit as u64,
            given: Some(given as u64),
        }
    }

    /// Finds out what an error of the engine means.
    pub(super) fn from_engine(
        error: &minijinja::Error,
        source: &str,
        limits: &TemplateLimits,
    ) -> Self {
        let line = error.line().unwrap_or(0);
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(current) = cause {
            match current.downcast_ref() {
                Some(Marker::Raised(message)) => {
                    return Self::Raised {
                        message: message.clone(),
                        line,
                    };
                }
                Some(Marker::MissingDate) => return Self::MissingDate,
                Some(Marker::Nesting) => {
                    return Self::LimitExceeded {
                        what: "nesting of a value",
                        limit_name: "nesting",
                        limit: limits.nesting as u64,
                        given: None,
                    };
                }
                None => {}
            }
            let engine = current.downcast_ref::<minijinja::Error>();
            match engine.map(minijinja::Error::kind) {
                Some(ErrorKind::OutOfFuel) => {
                    return Self::LimitExceeded {
                        what: "rendering the chat template",
                        limit_name: "fuel",
                        limit: limits.fuel,
                        given: None,
                    };
                }
                Some(ErrorKind::WriteFailure) => {
                    return Self::LimitExceeded {
                        what: "the prompt",
                        limit_name: "output_bytes",
                        limit: limits.output_bytes as u64,
                        given: None,
                    };
                }
                _ => {}
            }
            cause = current.source();
        }
        let excerpt = excerpt(source, line);
        let message = message(error);
        match error.kind() {
            ErrorKind::SyntaxError | ErrorKind::BadEscape => Self::Syntax {
                line,
                excerpt,
                message,
            },
            _ => Self::Render {
                line,
                excerpt,
                message,
            },
        }
    }
}

/// Causes that functions of ours report through the engine.
#[derive(Debug, thiserror::Error)]
pub(super) enum Marker {
    #[error("{0}")]
    Raised(String),
    #[error("no date was given")]
    MissingDate,
    #[error("value nested too deeply")]
    Nesting,
}

impl From<Marker> for minijinja::Error {
    fn from(marker: Marker) -> Self {
        Self::new(ErrorKind::InvalidOperation, marker.to_string()).with_source(marker)
    }
}

fn message(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn excerpt(source: &str, line: usize) -> String {
    const SHOWN: usize = 100;
    let line = line
        .checked_sub(1)
        .and_then(|at| source.lines().nth(at))
        .unwrap_or_default();
    line.trim().chars().take(SHOWN).collect()
}
