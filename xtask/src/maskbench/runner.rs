//! One schema through one engine, on one thread: compile, then every instance token by token.

use super::case::Case;
use super::clock::Clock;
use super::engine::{self, Compiled, Engine, EngineKind, Refused, Remotes, allows};
use super::line::{Header, Line, Status, Verdict};
use super::vocabulary::Words;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// An engine, its vocabulary, and what its lines begin with.
pub(super) struct Runner {
    words: Arc<Words>,
    engine: Box<dyn Engine>,
    clock: Clock,
    header: Header,
}

impl Runner {
    /// Makes the engine's form of a vocabulary and measures how long that takes.
    pub(super) fn new(
        kind: EngineKind,
        words: Arc<Words>,
        remotes: &Remotes,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let started = clock.start();
        let engine = engine::make(kind, &words, remotes)?;
        let init_ns = started.elapsed_ns();
        let header = Header {
            header: 1,
            engine: kind.name().into(),
            version: engine.version(),
            vocab: words.name.clone(),
            vocab_size: words.bytes.len(),
            options: engine.options(),
            init_ns,
            init_rss_kb: memory_kb("VmRSS:"),
            clock: clock.name().into(),
            clock_ns: clock.cost(),
        };
        Ok(Runner {
            words,
            engine,
            clock,
            header,
        })
    }

    /// The facts of this run.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Runs a schema. A panic of the engine is a crash of this schema.
    pub(super) fn run(&self, case: &Case) -> Line {
        let mut line = empty_line(&self.header, case);
        let ended = catch_unwind(AssertUnwindSafe(|| self.measure(case, &mut line)));
        match ended {
            Ok(Ok(())) => {}
            Ok(Err((status, error))) => (line.status, line.error) = (status, Some(error)),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                let text = text.unwrap_or_else(|| "no message".into());
                (line.status, line.error) = (Status::Crash, Some(format!("panic: {text}")));
            }
        }
        line.rss_kb = memory_kb("VmRSS:");
        line.peak_rss_kb = memory_kb("VmHWM:");
        line
    }

    fn measure(&self, case: &Case, line: &mut Line) -> Result<(), (Status, String)> {
        let failed = |error| (Status::RuntimeError, error);
        let started = self.clock.start();
        let compiled = self.engine.compile(&case.schema, &case.rules);
        line.compile_ns = started.elapsed_ns();
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(Refused::Other(error)) => return Err((Status::CompileError, error)),
            Err(Refused::Empty(error)) => {
                line.error = Some(error);
                for instance in &case.tests {
                    let tokens = self.tokens(&instance.text).map_err(failed)?;
                    let mut verdict = unjudged(instance.valid, tokens.len());
                    verdict.stop = 0;
                    line.tests.push(verdict);
                }
                return Ok(());
            }
        };

        let mut first = compiled.start().map_err(failed)?;
        let started = self.clock.start();
        let mask = first.mask().map(drop);
        line.first_mask_ns = started.elapsed_ns().max(1);
        mask.map_err(failed)?;
        drop(first);

        for instance in &case.tests {
            let tokens = self.tokens(&instance.text).map_err(failed)?;
            let verdict = self.feed(&*compiled, &tokens, instance.valid, line);
            line.tests.push(verdict.map_err(failed)?);
        }
        Ok(())
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, String> {
        self.words.encode(text).map_err(|error| error.to_string())
    }

    fn feed(
        &self,
        compiled: &dyn Compiled,
        tokens: &[u32],
        valid: bool,
        line: &mut Line,
    ) -> Result<Verdict, String> {
        let mut verdict = unjudged(valid, tokens.len());
        let mut session = compiled.start()?;
        for (index, &token) in tokens.iter().enumerate() {
            let started = self.clock.start();
            let mask = session.mask();
            line.mask_ns.push(started.elapsed_ns());
            if !allows(mask?, token) {
                verdict.stop = i64::try_from(index).unwrap_or(i64::MAX);
                return Ok(verdict);
            }
            let started = self.clock.start();
            let committed = session.commit(token);
            line.commit_ns.push(started.elapsed_ns());
            committed?;
        }
        let started = self.clock.start();
        let mask = session.mask();
        line.mask_ns.push(started.elapsed_ns());
        let mask = mask?;
        verdict.end_ok = Some(self.words.eos.iter().any(|&eos| allows(mask, eos)));
        Ok(verdict)
    }
}

/// The verdict on an instance before its first token.
fn unjudged(valid: bool, n_tok: usize) -> Verdict {
    Verdict {
        valid,
        n_tok,
        stop: -1,
        end_ok: None,
    }
}

/// A line that says nothing yet.
pub(super) fn empty_line(header: &Header, case: &Case) -> Line {
    Line {
        engine: header.engine.clone(),
        version: header.version.clone(),
        vocab: header.vocab.clone(),
        id: case.id.clone(),
        dataset: case.dataset.clone(),
        status: Status::Ok,
        error: None,
        compile_ns: 0,
        first_mask_ns: 0,
        mask_ns: Vec::new(),
        commit_ns: Vec::new(),
        tests: Vec::new(),
        rss_kb: 0,
        peak_rss_kb: 0,
    }
}

/// A field of this process's memory in KiB; 0 where the system does not tell.
fn memory_kb(field: &str) -> u64 {
    process_memory_kb("self", field)
}

/// A field of a process's memory in KiB; 0 where the system does not tell.
pub(super) fn process_memory_kb(process: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
