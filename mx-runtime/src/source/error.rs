//! What can go wrong between a name and a model file on disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SourceKind;

/// An error below the surface of another one (a TLS failure, a broken zip directory).
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a model could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The text is no model reference.
    #[error(
        "{given:?} is no model reference: {reason} (wanted a known name, a path, org/repo, org/repo@revision or org/repo:file.gguf)"
    )]
    BadReference {
        /// The text as it was given.
        given: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The text can only be a path, and nothing is there.
    #[error("no file or folder {}{}", path.display(), list(", in that folder: ", found))]
    NoSuchPath {
        /// The path that was looked for.
        path: PathBuf,
        /// Model files and folders beside it, a bounded number.
        found: Vec<String>,
    },
    /// A short name that neither the catalogue nor the model folder has.
    #[error("no model is called {name:?}; known: {}{}; not a path in the current folder; a hub repository is written org/repo", known.join(", "), list("; installed: ", installed))]
    UnknownName {
        /// The name as it was given.
        name: String,
        /// Every short name of the catalogue.
        known: Vec<&'static str>,
        /// Every model in the model folder.
        installed: Vec<String>,
    },
    /// There is a file or folder, but no model in it.
    #[error("{place} holds no model: {reason}{}", list("; it has: ", found))]
    NotAModel {
        /// The path or repository.
        place: String,
        /// What is missing.
        reason: &'static str,
        /// What is there instead, a bounded number of names.
        found: Vec<String>,
    },
    /// Several model files, and none was named.
    #[error("{place} holds several models, name one of: {}", files.join(", "))]
    Ambiguous {
        /// The path or repository.
        place: String,
        /// The candidates, a bounded number.
        files: Vec<String>,
    },
    /// The named file is not in the repository.
    #[error(
        "{place} has no file {wanted:?}{}",
        list("; model files there: ", found)
    )]
    NoSuchFile {
        /// The repository and its revision.
        place: String,
        /// The file that was asked for.
        wanted: String,
        /// Model files that are there, a bounded number.
        found: Vec<String>,
    },
    /// A name out of a listing or a manifest that would leave its folder.
    #[error("{place} names the file {name:?}, which is not allowed: {reason}")]
    UnsafeName {
        /// Who gave the name.
        place: String,
        /// The name.
        name: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// The manifest of an installed model cannot be read.
    #[error("the manifest {} is unusable: {reason}", path.display())]
    Manifest {
        /// The manifest file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// More bytes than a limit of [`Limits`](super::Limits) allows.
    #[error("{what} has at least {given} bytes, limit {limit_name} is {limit}")]
    TooLarge {
        /// The file or answer.
        what: String,
        /// Bytes announced or already read.
        given: u64,
        /// The limit's value.
        limit: u64,
        /// The limit's field name.
        limit_name: &'static str,
    },
    /// More files than [`Limits::max_files`](super::Limits::max_files).
    #[error("{what} lists {given} files, limit max_files is {limit}")]
    TooManyFiles {
        /// The repository.
        what: String,
        /// Files listed.
        given: usize,
        /// The limit's value.
        limit: usize,
    },
    /// A file has another length than its source promised.
    #[error("{what} has {given} bytes, wanted {wanted}")]
    SizeMismatch {
        /// The file.
        what: String,
        /// Its length.
        given: u64,
        /// The length promised.
        wanted: u64,
    },
    /// A file has another content than its source promised.
    #[error("{what} has SHA-256 {given}, wanted {wanted}")]
    ChecksumMismatch {
        /// The file.
        what: String,
        /// SHA-256 of its content, in hexadecimal.
        given: String,
        /// The SHA-256 promised.
        wanted: String,
    },
    /// The model is not here and the network may not be used.
    #[error("{what} is not on this machine and {switch} forbids the network")]
    Offline {
        /// The model or repository.
        what: String,
        /// The option that forbids it.
        switch: &'static str,
    },
    /// An option's value makes no sense.
    #[error("{option} is {given:?}, wanted {wanted}")]
    BadOption {
        /// The option's or variable's name.
        option: &'static str,
        /// Its value.
        given: String,
        /// What would be accepted.
        wanted: &'static str,
    },
    /// The client could not be set up (no trusted certificates, for instance).
    #[error("cannot set up the HTTPS client: {source}")]
    Client {
        /// The reason.
        source: Cause,
    },
    /// The server could not be reached, or the connection broke.
    #[error("cannot reach {url}: {}", innermost(&**source))]
    Network {
        /// The address asked, without query.
        url: String,
        /// The reason.
        source: Cause,
    },
    /// The server did not answer in time.
    #[error("{url} did not answer within {:.1} s", after.as_secs_f64())]
    NoAnswer {
        /// The address asked, without query.
        url: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server began to answer and then sent (almost) nothing more.
    #[error("{url} stalled after {got} bytes: less than {min_bytes} bytes in {:.1} s", after.as_secs_f64())]
    Stalled {
        /// The address asked, without query.
        url: String,
        /// Bytes of the file that are here.
        got: u64,
        /// The least that counts as progress.
        min_bytes: u64,
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection ended before the file did.
    #[error("{url} broke off after {got}{} bytes", wanted.map(|w| format!(" of {w}")).unwrap_or_default())]
    CutOff {
        /// The address asked, without query.
        url: String,
        /// Bytes of the file that are here.
        got: u64,
        /// Bytes it should have.
        wanted: Option<u64>,
    },
    /// The server refused.
    #[error("{url} answered {status}{}", status_help(*status))]
    Status {
        /// The address asked, without query.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server answered with something that cannot be used.
    #[error("{url} answered with something unusable: {reason}")]
    BadAnswer {
        /// The address asked, without query.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No package client runs on this machine.
    #[error("no package client found (tried {})", tried.join(", "))]
    NoPackageClient {
        /// The commands that were tried.
        tried: Vec<String>,
    },
    /// The package client failed.
    #[error("`{command}` failed{}{}", code.map(|c| format!(" with exit code {c}")).unwrap_or_default(), tail(output))]
    PackageClient {
        /// The command line.
        command: String,
        /// Its exit code, absent when a signal or this library ended it.
        code: Option<i32>,
        /// The last lines it wrote.
        output: Vec<String>,
    },
    /// The package client was ended because nothing came.
    #[error("`{command}` got no answer within {:.0} s{}", after.as_secs_f64(), tail(output))]
    PackageSilent {
        /// The command line.
        command: String,
        /// How long it was waited for.
        after: Duration,
        /// The last lines it wrote.
        output: Vec<String>,
    },
    /// A package does not hold what the catalogue says.
    #[error("the package {} is unusable: {reason}", path.display())]
    Package {
        /// The package file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// Every source was tried and none had the model.
    #[error("{}", NoSource { name, tried, by_hand })]
    NoSource {
        /// The model.
        name: String,
        /// Every source with its reason, in the order tried.
        tried: Vec<Tried>,
        /// Commands that fetch the model by hand.
        by_hand: Vec<String>,
    },
}

/// One source that did not have the model.
#[derive(Debug)]
pub struct Tried {
    /// Which source.
    pub source: SourceKind,
    /// Where exactly: a folder, an address, a package.
    pub place: String,
    /// Why it failed.
    pub error: Box<SourceError>,
}

impl SourceError {
    /// Whether the caller's [`Progress`](super::Progress) asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Whether a source was given up because it did not answer in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::NoAnswer { .. } | Self::Stalled { .. } | Self::PackageSilent { .. }
        )
    }

    /// Whether a later attempt may succeed with nothing changed here.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Network { .. } | Self::CutOff { .. } => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::NoSource { tried, .. } => tried.iter().any(|t| t.error.is_retryable()),
            other => other.is_timeout(),
        }
    }

    /// Whether the bytes that came are not the bytes that were promised.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        matches!(
            self,
            Self::SizeMismatch { .. } | Self::ChecksumMismatch { .. }
        )
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}

struct NoSource<'a> {
    name: &'a str,
    tried: &'a [Tried],
    by_hand: &'a [String],
}

impl fmt::Display for NoSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no source has the model {}", self.name)?;
        for Tried {
            source,
            place,
            error,
        } in self.tried
        {
            write!(f, "\n  {source} ({place}): {error}")?;
        }
        if !self.by_hand.is_empty() {
            write!(f, "\nto fetch it by hand:")?;
            for command in self.by_hand {
                write!(f, "\n  {command}")?;
            }
        }
        Ok(())
    }
}

fn list(before: &str, names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("{before}{}", names.join(", "))
    }
}

fn tail(lines: &[String]) -> String {
    lines
        .iter()
        .fold(String::new(), |all, line| all + "\n    " + line)
}

/// HTTP libraries say "error sending request" first and the reason last.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

fn status_help(status: u16) -> &'static str {
    match status {
        401 => {
            " (unauthorised: the repository does not exist, is private, or HF_TOKEN is missing or wrong)"
        }
        403 => {
            " (forbidden: the licence may have to be accepted on the model's page, with an account whose token is in HF_TOKEN)"
        }
        404 => " (not found: no such repository, revision or file)",
        429 => " (too many requests)",
        _ => "",
    }
}
