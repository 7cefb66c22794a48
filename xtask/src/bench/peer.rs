//! llama.cpp as a peer, through its Python package where one is installed.

use anyhow::{Context, ensure};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Answers lines `decode N` and `prefill N` with the seconds that N tokens took.
const SCRIPT: &str = r#"
import sys, time
import llama_cpp
model, threads = sys.argv[1], int(sys.argv[2])
llm = llama_cpp.Llama(model, n_ctx=2048, n_batch=512, n_ubatch=512, n_threads=threads,
                      n_threads_batch=threads, verbose=False)
ids = [(i * 7919) % 40000 + 20 for i in range(1024)]
llm.reset(); llm.eval(ids[:32])
print("ready", llama_cpp.__version__, flush=True)
for line in sys.stdin:
    what, n = line.split()
    n = int(n)
    llm.reset()
    if what == "prefill":
        start = time.perf_counter(); llm.eval(ids[:n])
    else:
        llm.eval(ids[:64])
        start = time.perf_counter()
        for i in range(n):
            llm.eval([ids[64 + i]])
    print(time.perf_counter() - start, flush=True)
"#;

/// A running llama.cpp.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts the peer; `None` where the package is not installed.
    pub(super) fn start(model: &Path, threads: usize) -> anyhow::Result<Option<Self>> {
        let spawned = Command::new("python3")
            .args(["-c", SCRIPT])
            .arg(model)
            .arg(threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = spawned else {
            return Ok(None);
        };
        let input = child.stdin.take().context("no stdin")?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut peer = Peer {
            child,
            input,
            output,
        };
        let ready = peer.line()?;
        Ok(ready.starts_with("ready").then_some(peer))
    }

    /// Seconds that `count` tokens take.
    pub(super) fn time(&mut self, what: &str, count: usize) -> anyhow::Result<f64> {
        writeln!(self.input, "{what} {count}")?;
        self.input.flush()?;
        self.line()?.trim().parse().context("the peer's answer")
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(line.len() < 4096, "the peer answered {} bytes", line.len());
        Ok(line)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
