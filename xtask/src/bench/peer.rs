//! llama.cpp as a peer, through its Python package where one is installed.

use anyhow::{Context, ensure};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Answers lines `decode N`, `prefill N` and `rows N` with the seconds that N tokens, or 16 steps of N rows, took.
const SCRIPT: &str = r#"
import sys, time
import llama_cpp as L
model, threads = sys.argv[1], int(sys.argv[2])
llm = L.Llama(model, n_ctx=2048, n_batch=512, n_ubatch=512, n_threads=threads,
              n_threads_batch=threads, verbose=False)
ids = [(i * 7919) % 40000 + 20 for i in range(1024)]
MOST = 16
params = L.llama_context_default_params()
params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = MOST * 256, 512, 512, MOST
params.n_threads = params.n_threads_batch = threads
many = L.llama_init_from_model(llm._model.model, params)
batch = L.llama_batch_init(512, 0, 1)

def decode(tokens):
    batch.n_tokens = len(tokens)
    for i, (token, position, sequence, wanted) in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
        batch.seq_id[i][0], batch.logits[i] = sequence, wanted
    assert L.llama_decode(many, batch) == 0
    L.llama_synchronize(many)

def rows(count):
    memory = L.llama_get_memory(many)
    L.llama_memory_clear(memory, True)
    decode([(ids[i], i, 0, 0) for i in range(64)])
    for sequence in range(1, count):
        L.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
    start = time.perf_counter()
    for i in range(16):
        decode([(ids[64 + i], 64 + i, sequence, 1) for sequence in range(count)])
    return time.perf_counter() - start

llm.reset(); llm.eval(ids[:32])
print("ready", L.__version__, flush=True)
for line in sys.stdin:
    what, n = line.split()
    n = int(n)
    llm.reset()
    if what == "prefill":
        start = time.perf_counter(); llm.eval(ids[:n]); took = time.perf_counter() - start
    elif what == "rows":
        took = rows(n)
    else:
        llm.eval(ids[:64])
        start = time.perf_counter()
        for i in range(n):
            llm.eval([ids[64 + i]])
        took = time.perf_counter() - start
    print(took, flush=True)
"#;

/// Writes the model again with 4-bit weights of the kind that llama.cpp is fastest with.
const QUANTISE: &str = r#"
import sys
import llama_cpp as L
params = L.llama_model_quantize_default_params()
params.ftype, params.allow_requantize = L.LLAMA_FTYPE_MOSTLY_Q4_0, True
sys.exit(L.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), params))
"#;

/// Steps that the answer to `rows` has timed.
pub(super) const ROW_STEPS: usize = 16;

/// The model file quantised again by the peer; removed in the end.
#[derive(Debug)]
pub(super) struct Requantised(PathBuf);

impl Requantised {
    /// `None` where the package is not installed.
    pub(super) fn make(model: &Path) -> Option<Self> {
        let name = format!("mx-bench-{}.gguf", std::process::id());
        let file = Requantised(std::env::temp_dir().join(name));
        let status = Command::new("python3")
            .args(["-c", QUANTISE])
            .arg(model)
            .arg(&file.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success()).then_some(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Requantised {
    fn drop(&mut self) {
        // It was never written where the package is missing.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A running llama.cpp.
#[derive(Debug)]
pub(super) struct Peer {
    /// How tables call it.
    pub(super) name: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts the peer; `None` where the package is not installed.
    pub(super) fn start(
        name: &'static str,
        model: &Path,
        threads: usize,
    ) -> anyhow::Result<Option<Self>> {
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
            name,
            child,
            input,
            output,
        };
        let ready = peer.line()?;
        Ok(ready.starts_with("ready").then_some(peer))
    }

    /// Seconds that `count` tokens take, or [`ROW_STEPS`] steps of `count` rows.
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
