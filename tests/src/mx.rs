//! The program `mx` as a process.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

/// Longest time that a run of the program may take; only a hang meets it.
const LIMIT: Duration = Duration::from_secs(120);

/// Beginnings of the variables that cargo sets for a test alone.
const OF_THE_TEST: [&str; 7] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_TMPDIR",
    "OUT_DIR",
];

/// The program under test.
///
/// Cargo tells only tests of its own package where a program lies. This one is built on first use, by the same cargo,
/// with the profile and into the target folder of the test that asks, so it is the program of these sources and is
/// there already after a build of the workspace. `MX_TEST_PROGRAM` names another one to be tested.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("MX_TEST_PROGRAM") {
            return PathBuf::from(path);
        }
        // target/[triple/]profile/deps/test
        let test = std::env::current_exe().unwrap();
        let folder = test.parent().and_then(Path::parent).unwrap();
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") => "dev",
            Some(name) => name,
            None => panic!("{} lies in no profile folder", test.display()),
        };
        let mut target = folder.parent().unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // Cargo describes the package of this test in variables that build scripts read: with them there they would
        // run again, and rebuild what depends on them.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if OF_THE_TEST.iter().any(|prefix| text.starts_with(prefix)) {
                build.env_remove(&name);
            }
        }
        // The features of the whole workspace, not of one package: other features of a shared dependency would compile
        // burn a second time.
        build.args(["build", "--quiet", "--offline", "--workspace"]);
        build.args(["--bin", "mx"]);
        build.args(["--profile", profile]);
        if let Some(triple) = target.file_name().and_then(|name| name.to_str())
            && !target.join("CACHEDIR.TAG").exists()
        {
            build.args(["--target", triple]);
            target = target.parent().unwrap();
        }
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        build
            .arg("--manifest-path")
            .arg(manifest)
            .arg("--target-dir")
            .arg(target);
        let built = build.status().expect("cargo does not start");
        assert!(built.success(), "the program mx does not build: {built}");
        folder.join(format!("mx{}", std::env::consts::EXE_SUFFIX))
    })
}

/// A home folder of its own, in which the program runs without the network.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// All of stdout.
    pub out: String,
    /// All of stderr.
    pub err: String,
}

/// A run that has not ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: Receiver<Vec<u8>>,
    err: Receiver<Vec<u8>>,
}

impl Default for Home {
    fn default() -> Self {
        Home::new()
    }
}

impl Home {
    /// An empty home.
    pub fn new() -> Self {
        Home {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The program with these arguments, in this home and out of reach of the user's own settings.
    pub fn command<A: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(program());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["MX_", "HF_", "XDG_", "MECHANEX_"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.path())
            .env("MX_HOME", self.path().join("mx"))
            .env("HF_HOME", self.path().join("hf"))
            .env("MX_OFFLINE", "1")
            .env("TERM", "xterm-256color")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end, with nothing on stdin.
    pub fn run<A: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        finish(self.command(arguments), b"")
    }

    /// Runs the program to its end with this on stdin.
    pub fn feed<A: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: impl AsRef<[u8]>,
    ) -> Ran {
        finish(self.command(arguments), input.as_ref())
    }
}

/// Runs a command to its end with this on stdin.
pub fn finish(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that needs no input may have ended before it is written.
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    Running::of(child).finish()
}

impl Running {
    /// Watches a process whose stdout and stderr are pipes, if they have not been taken.
    pub fn of(mut child: Child) -> Self {
        let out = collect(child.stdout.take());
        let err = collect(child.stderr.take());
        Running { child, out, err }
    }

    /// Waits for the end; kills the process and fails when it does not come.
    pub fn finish(mut self) -> Ran {
        let Ok(err) = self.err.recv_timeout(LIMIT) else {
            let _ = self.child.kill();
            panic!("the program was still running after {LIMIT:?}");
        };
        let out = self.out.recv_timeout(LIMIT).unwrap();
        let status: ExitStatus = self.child.wait().unwrap();
        let text =
            |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program wrote broken UTF-8");
        Ran {
            code: status.code(),
            out: text(out),
            err: text(err),
        }
    }

    /// Asks the process to stop as Ctrl-C does.
    #[cfg(unix)]
    pub fn interrupt(&self) {
        let command = format!("kill -INT {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(sent.success());
    }
}

/// All bytes of a stream, sent at its end.
fn collect(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

impl Ran {
    /// The same run, which must have succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(
            self.code,
            Some(0),
            "stdout: {}\nstderr: {}",
            self.out,
            self.err
        );
        self
    }

    /// The same run, which must have failed with this exit code, one error on stderr and nothing on stdout.
    pub fn refused(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.out,
            self.err
        );
        assert_eq!(self.out, "", "stderr: {}", self.err);
        assert_eq!(self.err.matches("error: ").count(), 1, "{}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    /// Stdout as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}
