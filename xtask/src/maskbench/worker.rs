//! Engines at work where a hang or a crash costs one schema and no more.
//!
//! A worker is either a process, which can be killed and whose memory is watched, or a thread, which is left behind
//! when it does not answer. Both take cases and give lines.

use super::case::Case;
use super::clock::Clock;
use super::engine::{EngineKind, Remotes};
use super::line::{Header, Line, Status};
use super::runner::{Runner, empty_line, process_memory_kb};
use super::vocabulary::Words;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often the memory of a process is looked at while it works.
const WATCH: Duration = Duration::from_millis(50);

/// How long a worker may take to read its vocabulary.
const START: Duration = Duration::from_secs(120);

/// What a worker needs to begin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// The engine.
    pub engine: EngineKind,
    /// The model whose vocabulary is used.
    pub model: PathBuf,
    /// Schemas that others may refer to.
    pub remotes: Remotes,
    /// The clock.
    pub clock: Clock,
}

/// Bounds on one schema.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time for everything: compiling and all instances.
    pub deadline: Duration,
    /// Memory of a worker process in KiB.
    pub memory_kb: u64,
}

/// Where engines work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In processes of their own: this program, started with these arguments, must call [`serve`].
    Process {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// In threads of this process.
    Thread,
}

/// The work of a worker process: reads a [`Setup`], then cases, and answers each with a line.
///
/// # Errors
/// When what comes in is not that, or the vocabulary cannot be read.
pub fn serve(input: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
    let mut lines = input.lines();
    let setup = lines.next().context("no setup")??;
    let setup: Setup = serde_json::from_str(&setup)?;
    let words = Arc::new(Words::read(&setup.model)?);
    let runner = Runner::new(setup.engine, words, &setup.remotes, setup.clock)?;
    let mut send = |text: String| -> anyhow::Result<()> {
        output.write_all(text.as_bytes())?;
        output.write_all(b"\n")?;
        Ok(output.flush()?)
    };
    send(serde_json::to_string(runner.header())?)?;
    for case in lines {
        let case: Case = serde_json::from_str(&case?)?;
        send(serde_json::to_string(&runner.run(&case))?)?;
    }
    Ok(())
}

/// A worker that is replaced when it fails.
pub(super) struct Worker<'a> {
    setup: &'a Setup,
    words: Option<&'a Arc<Words>>,
    place: &'a Place,
    bounds: Bounds,
    header: Header,
    link: Option<Link>,
}

enum Link {
    Process {
        child: Child,
        input: ChildStdin,
        answers: Receiver<String>,
    },
    Thread {
        cases: Sender<Case>,
        answers: Receiver<Line>,
    },
}

/// Why there is no line.
enum Loss {
    Late,
    Ended(String),
    TooLarge(u64),
}

impl<'a> Worker<'a> {
    /// Starts a worker. `words` saves a thread from reading the vocabulary again.
    pub(super) fn start(
        setup: &'a Setup,
        words: Option<&'a Arc<Words>>,
        place: &'a Place,
        bounds: Bounds,
    ) -> anyhow::Result<Self> {
        let (link, header) = link(setup, words, place)?;
        Ok(Worker {
            setup,
            words,
            place,
            bounds,
            header,
            link: Some(link),
        })
    }

    /// The facts of the run, from the first worker.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Runs a schema.
    ///
    /// # Errors
    /// Where a worker was lost and no new one starts.
    pub(super) fn run(&mut self, case: &Case) -> anyhow::Result<Line> {
        let mut current = match self.link.take() {
            Some(link) => link,
            None => link(self.setup, self.words, self.place)?.0,
        };
        let loss = match current.ask(case, self.bounds) {
            Ok(line) => {
                self.link = Some(current);
                return Ok(line);
            }
            Err(loss) => loss,
        };
        current.end();
        let mut line = empty_line(&self.header, case);
        (line.status, line.error) = match loss {
            Loss::Late => (
                Status::Timeout,
                Some(format!("no answer in {:?}", self.bounds.deadline)),
            ),
            Loss::Ended(how) => (Status::Crash, Some(how)),
            Loss::TooLarge(kb) => {
                let limit = self.bounds.memory_kb;
                (
                    Status::Crash,
                    Some(format!("{kb} KiB of memory, at most {limit}")),
                )
            }
        };
        Ok(line)
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.end();
        }
    }
}

impl Link {
    fn ask(&mut self, case: &Case, bounds: Bounds) -> Result<Line, Loss> {
        let ended = |how: &str| Loss::Ended(how.to_owned());
        match self {
            Link::Thread { cases, answers } => {
                cases
                    .send(case.clone())
                    .map_err(|_| ended("the worker ended"))?;
                answers
                    .recv_timeout(bounds.deadline)
                    .map_err(|error| match error {
                        RecvTimeoutError::Timeout => Loss::Late,
                        RecvTimeoutError::Disconnected => ended("the worker ended"),
                    })
            }
            Link::Process {
                child,
                input,
                answers,
            } => {
                let text =
                    serde_json::to_string(case).map_err(|error| ended(&error.to_string()))?;
                let sent = writeln!(input, "{text}").and_then(|()| input.flush());
                if sent.is_err() {
                    return Err(ended(&fate(child)));
                }
                let until = Instant::now() + bounds.deadline;
                loop {
                    let left = until.saturating_duration_since(Instant::now());
                    match answers.recv_timeout(left.min(WATCH)) {
                        Ok(text) => {
                            return serde_json::from_str(&text)
                                .map_err(|error| ended(&error.to_string()));
                        }
                        Err(RecvTimeoutError::Disconnected) => return Err(ended(&fate(child))),
                        Err(RecvTimeoutError::Timeout) if left <= WATCH => return Err(Loss::Late),
                        Err(RecvTimeoutError::Timeout) => {
                            let kb = process_memory_kb(&child.id().to_string(), "VmRSS:");
                            if kb > bounds.memory_kb {
                                return Err(Loss::TooLarge(kb));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Ends a process. A thread ends when its case does.
    fn end(self) {
        if let Link::Process { mut child, .. } = self {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a process that no longer answers ended.
fn fate(child: &mut Child) -> String {
    match child.wait() {
        Ok(status) => format!("the worker ended: {status}"),
        Err(error) => format!("the worker ended: {error}"),
    }
}

fn link(
    setup: &Setup,
    words: Option<&Arc<Words>>,
    place: &Place,
) -> anyhow::Result<(Link, Header)> {
    match place {
        Place::Process { program, arguments } => process(setup, program, arguments),
        Place::Thread => {
            let words = match words {
                Some(words) => Arc::clone(words),
                None => Arc::new(Words::read(&setup.model)?),
            };
            thread(setup, words)
        }
    }
}

fn process(
    setup: &Setup,
    program: &PathBuf,
    arguments: &[String],
) -> anyhow::Result<(Link, Header)> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| program.display().to_string())?;
    let mut input = child.stdin.take().context("no stdin")?;
    let output = BufReader::new(child.stdout.take().context("no stdout")?);
    let (sender, answers) = channel();
    std::thread::spawn(move || {
        // Ends with the process, or when nobody waits any more.
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    writeln!(input, "{}", serde_json::to_string(setup)?)?;
    input.flush()?;
    let Ok(text) = answers.recv_timeout(START) else {
        let _ = child.kill();
        anyhow::bail!("the worker does not start: {}", fate(&mut child));
    };
    let header = serde_json::from_str(&text).context("the worker's header")?;
    let link = Link::Process {
        child,
        input,
        answers,
    };
    Ok((link, header))
}

fn thread(setup: &Setup, words: Arc<Words>) -> anyhow::Result<(Link, Header)> {
    let (cases, incoming) = channel::<Case>();
    let (outgoing, answers) = channel();
    let (ready, header) = channel();
    let (kind, remotes, clock) = (setup.engine, setup.remotes.clone(), setup.clock);
    std::thread::spawn(move || match Runner::new(kind, words, &remotes, clock) {
        Err(error) => drop(ready.send(Err(error))),
        Ok(runner) => {
            drop(ready.send(Ok(runner.header().clone())));
            for case in incoming {
                if outgoing.send(runner.run(&case)).is_err() {
                    break;
                }
            }
        }
    });
    let header = header
        .recv_timeout(START)
        .context("the worker does not start")??;
    Ok((Link::Thread { cases, answers }, header))
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Bounds, Place, Setup, Status, Worker};
    use crate::maskbench::{Case, Clock, EngineKind, Header, Line, Rules};
    use serde_json::Value;
    use std::time::Duration;

    /// A worker that answers its setup with a header and then runs a shell script.
    fn ask(script: &str) -> Line {
        let header = Header {
            header: 1,
            engine: "shell".into(),
            version: String::new(),
            vocab: String::new(),
            vocab_size: 0,
            options: String::new(),
            init_ns: 0,
            init_rss_kb: 0,
            clock: String::new(),
            clock_ns: 0,
        };
        let header = serde_json::to_string(&header).unwrap();
        let script = format!("read setup; echo '{header}'; read case; {script}");
        let place = Place::Process {
            program: "sh".into(),
            arguments: vec!["-c".into(), script],
        };
        let setup = Setup {
            engine: EngineKind::Mx,
            model: "none".into(),
            remotes: Vec::new(),
            clock: Clock::Wall,
        };
        let bounds = Bounds {
            deadline: Duration::from_millis(300),
            memory_kb: 1 << 20,
        };
        let case = Case {
            id: "case".into(),
            dataset: "set".into(),
            features: Vec::new(),
            schema: Value::Bool(true),
            tests: Vec::new(),
            rules: Rules::default(),
        };
        let mut worker = Worker::start(&setup, None, &place, bounds).unwrap();
        let first = worker.run(&case).unwrap();
        // The worker that was lost is replaced.
        assert_eq!(worker.run(&case).unwrap().status, first.status);
        first
    }

    #[test]
    fn a_worker_that_hangs_costs_one_schema() {
        let line = ask("exec sleep 100");
        assert_eq!((line.status, line.id.as_str()), (Status::Timeout, "case"));
    }

    #[test]
    fn a_worker_that_dies_is_a_crash_with_its_reason() {
        let line = ask("exit 7");
        assert_eq!(line.status, Status::Crash);
        assert!(line.error.unwrap().contains('7'));
        assert_eq!(ask("kill -SEGV $$").status, Status::Crash);
        assert_eq!(ask("echo nonsense; exec sleep 100").status, Status::Crash);
    }
}
