//! Running generated Python: only where the caller allowed it, in a process of its own, within limits.
//!
//! Every test is a fresh `python3 -I -B` with an empty environment and an empty folder of its own. The process limits
//! itself before the code runs (memory, CPU time, file size, open files, no core file; for users other than root no
//! further processes or threads), and an audit hook refuses further processes, connections, foreign functions, and files
//! outside the folder: none is changed, and of those none is read but Python's own modules. On Linux with Landlock the
//! kernel enforces the latter two, whatever becomes of the hook. Whatever is left of
//! the process group is killed at the end. This keeps mistakes and simple mischief in; it is no container, and code of
//! an attacker belongs into one.

use crate::error::Error;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What runs before the code.
const PROLOGUE: &str = include_str!("prologue.py");
/// What runs before that, where code is run and not only compiled.
const LAUNCH: &str = include_str!("launch.py");
/// Names under which Python is looked for.
const NAMES: [&str; 2] = ["python3", "python"];
/// Time that Python may take to say where it is.
const FIND_TIME: Duration = Duration::from_secs(20);
/// Time that a compilation may take.
const COMPILE_TIME: Duration = Duration::from_secs(10);
/// Time beyond a test's own that Python may take to start.
const START_TIME: Duration = Duration::from_secs(5);
/// Time that a killed process may take to end.
const END_TIME: Duration = Duration::from_secs(5);
/// What is asked of the prologue.
const COMPILE: &str = "compile";
const TEST: &str = "test";
/// Characters of a reason.
const REASON_CHARS: usize = 300;

/// Bounds on generated code that is run; its time is the policy's `unit_test_timeout_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeLimits {
    /// Address space in bytes; 512 MiB.
    pub memory_bytes: u64,
    /// Bytes of a file that it writes in its folder; 1 MiB.
    pub file_bytes: u64,
    /// Files open at once; 32.
    pub open_files: u64,
    /// Bytes of output; 64 KiB.
    pub output_bytes: u64,
    /// Bytes of the code and of a test; 1 MiB.
    pub code_bytes: usize,
}

impl Default for CodeLimits {
    fn default() -> Self {
        CodeLimits {
            memory_bytes: 512 << 20,
            file_bytes: 1 << 20,
            open_files: 32,
            output_bytes: 64 << 10,
            code_bytes: 1 << 20,
        }
    }
}

/// Why generated code cannot be run at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The caller did not allow it.
    #[error(
        "the verifiers code_compile and unit_tests run generated code, which the caller has not allowed"
    )]
    NotAllowed,
    /// There is no Python.
    #[error("neither python3 nor python can be started: {reason}")]
    NoPython {
        /// Why the last one could not.
        reason: String,
    },
    /// Folder, process or pipe failed.
    #[error("cannot {what} for a test of generated code: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// A Python in which generated code is run.
#[derive(Debug)]
pub(crate) struct Sandbox {
    python: PathBuf,
    timeout: Duration,
    limits: CodeLimits,
}

/// How a process ended.
struct Ended {
    out: Vec<u8>,
    err: Vec<u8>,
    /// Whether it was killed for taking too long, or its own alarm ended it.
    timed_out: bool,
    /// Whether more was written than is read.
    flooded: bool,
}

impl Sandbox {
    /// Finds Python.
    ///
    /// # Errors
    /// [`SandboxError::NoPython`].
    pub(crate) fn find(timeout: Duration, limits: CodeLimits) -> Result<Self, SandboxError> {
        let mut reason = String::new();
        for name in NAMES {
            // A launcher may stand in Python's place, and want the environment that the tests will not have.
            let mut command = Command::new(name);
            command.args(["-I", "-c", "import sys; print(sys.executable)"]);
            match run(command, b"", FIND_TIME, limits.output_bytes) {
                Ok(ended) => {
                    let path = String::from_utf8_lossy(&ended.out).trim().to_owned();
                    if !ended.timed_out && !path.is_empty() {
                        return Ok(Sandbox {
                            python: path.into(),
                            timeout,
                            limits,
                        });
                    }
                    reason = format!("{name} does not say where it is");
                }
                Err(error) => reason = error.to_string(),
            }
        }
        Err(SandboxError::NoPython { reason })
    }

    /// Why code does not compile; `None` where it does. It is not run.
    pub(crate) fn compile(&self, code: &str) -> Result<Option<String>, Error> {
        self.task(COMPILE, code, "", COMPILE_TIME)
    }

    /// Why a test fails after the code; `None` where it passes.
    pub(crate) fn test(&self, code: &str, test: &str) -> Result<Option<String>, Error> {
        self.task(TEST, code, test, self.timeout)
    }

    fn task(
        &self,
        mode: &str,
        code: &str,
        test: &str,
        time: Duration,
    ) -> Result<Option<String>, Error> {
        for (what, text) in [("code", code), ("test", test)] {
            if text.len() > self.limits.code_bytes {
                let most = self.limits.code_bytes;
                return Ok(Some(format!(
                    "the {what} has {} bytes, code_bytes allows {most}",
                    text.len()
                )));
            }
        }
        // What ends with this token has come to its end; a process that only exits has not.
        let token = format!(
            "{:016x}{:016x}",
            crate::client::random_seed(),
            crate::client::random_seed()
        );
        let task = serde_json::json!({
            "mode": mode, "code": code, "test": test, "token": token, "reason_chars": REASON_CHARS,
            "seconds": time.as_secs_f64(), "cpu_seconds": time.as_secs() + 1, "memory_bytes": self.limits.memory_bytes,
            "file_bytes": self.limits.file_bytes, "open_files": self.limits.open_files,
        });
        let folder = Scratch::new().map_err(|source| SandboxError::Io {
            what: "make a folder",
            source,
        })?;
        let mut command = Command::new(&self.python);
        command.args(["-I", "-B", "-c"]);
        match mode {
            COMPILE => command.arg(PROLOGUE),
            _ => command.args([LAUNCH, PROLOGUE]),
        };
        command.env_clear().current_dir(&folder.0);
        let input = task.to_string().into_bytes();
        let ended = run(
            command,
            &input,
            time.saturating_add(START_TIME),
            self.limits.output_bytes,
        )
        .map_err(|source| SandboxError::Io {
            what: "start Python",
            source,
        })?;
        if ended.out.ends_with(format!("\n{token}").as_bytes()) {
            return Ok(None);
        }
        Ok(Some(if ended.timed_out {
            format!("it ran longer than {} ms", time.as_millis())
        } else if ended.flooded {
            let most = self.limits.output_bytes;
            format!("it wrote more than output_bytes allows, {most}")
        } else {
            let reason = String::from_utf8_lossy(&ended.err);
            let line = reason.trim().lines().last().unwrap_or_default();
            match line.is_empty() {
                true => "it ended before its test did".to_owned(),
                false => line.chars().take(REASON_CHARS).collect(),
            }
        }))
    }
}

/// Runs a process in a group of its own until its output ends or the time is over, and kills what is left of the group.
fn run(mut command: Command, input: &[u8], time: Duration, most: u64) -> io::Result<Ended> {
    let deadline = Instant::now() + time;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn()?;
    let (out, err) = (
        collect(child.stdout.take(), most),
        collect(child.stderr.take(), most),
    );
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A process that ends early does not read all of it.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let received = out.recv_timeout(left);
    kill(&mut child);
    let timed_out = received.is_err();
    let (out, out_flooded) = match received {
        Ok(read) => read,
        Err(_) => out.recv_timeout(END_TIME).unwrap_or_default(),
    };
    let (err, err_flooded) = err.recv_timeout(END_TIME).unwrap_or_default();
    let status = child.wait()?;
    #[cfg(unix)]
    let rang = std::os::unix::process::ExitStatusExt::signal(&status)
        == Some(nix::sys::signal::Signal::SIGALRM as i32);
    #[cfg(not(unix))]
    let rang = false & status.success();
    Ok(Ended {
        out,
        err,
        timed_out: timed_out || rang,
        flooded: out_flooded || err_flooded,
    })
}

/// The bytes of a pipe, at most so many, and whether there were more; sent at its end. The pipe is closed then, so
/// that whoever goes on writing learns it.
fn collect(pipe: Option<impl Read + Send + 'static>, most: u64) -> Receiver<(Vec<u8>, bool)> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What was read before an error counts.
            let _ = pipe.take(most.saturating_add(1)).read_to_end(&mut bytes);
        }
        let flooded = bytes.len() as u64 > most;
        // Nobody may be waiting any more.
        let _ = sender.send((bytes, flooded));
    });
    receiver
}

/// Kills a process and its group.
fn kill(child: &mut Child) {
    #[cfg(unix)]
    if let Ok(id) = i32::try_from(child.id()) {
        use nix::sys::signal::{Signal, killpg};
        // A group that has ended already is no error.
        let _ = killpg(nix::unistd::Pid::from_raw(id), Signal::SIGKILL);
    }
    // So is a process.
    let _ = child.kill();
}

/// An empty folder that goes away again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let name = format!(
            "mx-test-{}-{:x}",
            std::process::id(),
            crate::client::random_seed()
        );
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that cannot be removed is left to the system's cleaning of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
#[path = "python_tests.rs"]
mod tests;
