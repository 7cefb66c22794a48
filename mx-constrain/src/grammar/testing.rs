//! What the tests of this folder share: reading a text with a machine, frame stack included.

use crate::{
    ByteSet, ConstrainError, Limits,
    machine::{Machine, State, Step},
};

use super::GrammarSyntax;

/// A machine and the frames of one text.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) frames: Vec<State>,
}

impl Reader {
    pub(super) fn new(machine: &dyn Machine) -> Self {
        Self {
            frames: vec![machine.start()],
        }
    }

    /// Reads a byte; `false` when it is refused.
    pub(super) fn read(
        &mut self,
        machine: &mut dyn Machine,
        byte: u8,
    ) -> Result<bool, ConstrainError> {
        let top = *self
            .frames
            .last()
            .expect("the bottom frame is never closed");
        match machine.step(top, byte)? {
            Step::Dead => Ok(false),
            Step::Stay(state) => {
                *self.frames.last_mut().expect("not empty") = state;
                Ok(true)
            }
            Step::Push { parent, child } => {
                *self.frames.last_mut().expect("not empty") = parent;
                self.frames.push(child);
                Ok(true)
            }
            Step::Pop(verdict) => {
                self.frames.pop();
                let parent = *self.frames.last().expect("the bottom frame never pops");
                match machine.resume(parent, verdict)? {
                    None => Ok(false),
                    Some(state) => {
                        *self.frames.last_mut().expect("not empty") = state;
                        Ok(true)
                    }
                }
            }
        }
    }

    pub(super) fn top(&self) -> State {
        *self.frames.last().expect("not empty")
    }

    pub(super) fn is_accepting(&self, machine: &mut dyn Machine) -> Result<bool, ConstrainError> {
        Ok(self.frames.len() == 1 && machine.accepting(self.frames[0])?)
    }

    /// Follows `toward_end` until the text may end; the bytes read.
    pub(super) fn complete(
        &mut self,
        machine: &mut dyn Machine,
    ) -> Result<Vec<u8>, ConstrainError> {
        let mut read = Vec::new();
        while !self.is_accepting(machine)? {
            let byte = machine
                .toward_end(self.top())?
                .expect("a state that does not accept knows a way");
            assert!(
                self.read(machine, byte)?,
                "the way to the end is refused after {read:?}"
            );
            read.push(byte);
            assert!(
                read.len() < 1_000,
                "the way to the end does not end: {:?}",
                &read[..60]
            );
        }
        Ok(read)
    }
}

pub(super) fn machine(syntax: GrammarSyntax, text: &str) -> Box<dyn Machine> {
    try_machine(syntax, text).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

pub(super) fn try_machine(
    syntax: GrammarSyntax,
    text: &str,
) -> Result<Box<dyn Machine>, ConstrainError> {
    super::machine(syntax, text, &ByteSet::ALL, &Limits::default()).map(|(machine, _)| machine)
}

/// Number of bytes read before one is refused, and whether the text may end after the last.
pub(super) fn run(machine: &mut dyn Machine, text: &[u8]) -> (usize, bool) {
    let mut reader = Reader::new(machine);
    for (index, &byte) in text.iter().enumerate() {
        let live = machine.live(reader.top()).expect("no limit").contains(byte);
        let read = reader.read(machine, byte).expect("no limit");
        assert!(live || !read, "a byte outside `live` was read");
        if !read {
            return (index, false);
        }
    }
    (text.len(), reader.is_accepting(machine).expect("no limit"))
}

pub(super) fn accepts(machine: &mut dyn Machine, text: &str) -> bool {
    run(machine, text.as_bytes()).1
}

/// Checks texts against a grammar.
pub(super) fn check(syntax: GrammarSyntax, grammar: &str, accepted: &[&str], refused: &[&str]) {
    let mut machine = machine(syntax, grammar);
    for text in accepted {
        let (read, end) = run(machine.as_mut(), text.as_bytes());
        assert!(
            end,
            "{text:?} should be accepted, stopped after {read} bytes:\n{grammar}"
        );
    }
    for text in refused {
        assert!(
            !accepts(machine.as_mut(), text),
            "{text:?} should be refused:\n{grammar}"
        );
    }
}

/// The folder of third-party data, or `None` with a message.
pub(super) fn data(path: &str) -> Option<String> {
    let root = std::env::var("MX_DATA_DIR").unwrap_or_else(|_| "../shared/data".to_owned());
    let root = match root.starts_with('/') {
        true => std::path::PathBuf::from(root),
        false => std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(root),
    };
    let file = root.join(path);
    match std::fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "skipped: {} ({error})", file.display());
            None
        }
    }
}
