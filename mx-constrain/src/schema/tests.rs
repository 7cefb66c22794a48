//! The machine against texts, and against a validator.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::reader::Reader;
use super::{SchemaOptions, Whitespace};
use crate::machine::{Machine, State, Step};
use crate::{ByteSet, ConstrainError, Limits};

/// Reads texts byte by byte.
pub(crate) struct Run<'m> {
    machine: &'m mut dyn Machine,
    stack: Vec<State>,
}

impl<'m> Run<'m> {
    pub(crate) fn new(machine: &'m mut dyn Machine) -> Self {
        let start = machine.start();
        Self {
            machine,
            stack: vec![start],
        }
    }

    /// Whether the byte was taken.
    pub(crate) fn push(&mut self, byte: u8) -> Result<bool, ConstrainError> {
        let Some(top) = self.stack.pop() else {
            return Ok(false);
        };
        match self.machine.step(top, byte)? {
            Step::Dead => {
                self.stack.push(top);
                return Ok(false);
            }
            Step::Stay(next) => self.stack.push(next),
            Step::Push { parent, child } => self.stack.extend([parent, child]),
            Step::Pop(verdict) => {
                let parent = self.stack.pop().unwrap();
                match self.machine.resume(parent, verdict)? {
                    Some(next) => self.stack.push(next),
                    None => {
                        self.stack.extend([parent, top]);
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// The next byte of a short way to the end of the frame on top.
    pub(crate) fn way_out(&mut self) -> Result<Option<u8>, ConstrainError> {
        match self.stack.last() {
            Some(&top) => self.machine.toward_end(top),
            None => Ok(None),
        }
    }

    pub(crate) fn accepting(&mut self) -> Result<bool, ConstrainError> {
        match self.stack.as_slice() {
            [one] => self.machine.accepting(*one),
            _ => Ok(false),
        }
    }
}

pub(crate) fn flexible() -> SchemaOptions {
    SchemaOptions {
        whitespace: Whitespace::Flexible,
        ..Default::default()
    }
}

fn compile(schema: &Value, options: &SchemaOptions) -> Result<Reader, ConstrainError> {
    super::reader(schema, options, &ByteSet::ALL, &Limits::default()).map(|(reader, _)| reader)
}

/// Whether a machine takes a whole text; where it stopped otherwise.
pub(crate) fn read(
    machine: &mut dyn Machine,
    text: &str,
) -> Result<Result<(), usize>, ConstrainError> {
    let mut run = Run::new(machine);
    for (i, &byte) in text.as_bytes().iter().enumerate() {
        if !run.push(byte)? {
            return Ok(Err(i));
        }
    }
    Ok(if run.accepting()? {
        Ok(())
    } else {
        Err(text.len())
    })
}

fn check(schema: Value, good: &[&str], bad: &[&str]) {
    let mut machine = compile(&schema, &flexible()).unwrap();
    for text in good {
        assert_eq!(
            read(&mut machine, text),
            Ok(Ok(())),
            "{schema} must take {text}"
        );
    }
    for text in bad {
        assert!(
            read(&mut machine, text).unwrap().is_err(),
            "{schema} must refuse {text}"
        );
    }
}

#[test]
fn plain_objects() {
    check(
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer", "minimum": 0}},
               "required": ["a"], "additionalProperties": false}),
        &[
            r#"{"a": "x"}"#,
            r#"{"b": 12, "a": "\u00e9\n"}"#,
            r#"{"a":"","b":0}"#,
        ],
        &[
            "{}",
            r#"{"a": 1}"#,
            r#"{"a": "x", "c": 1}"#,
            r#"{"a": "x", "a": "y"}"#,
            r#"{"a":"x","b":-1}"#,
            r#"{"a":"x","b":1.5}"#,
        ],
    );
}

#[test]
fn applicators() {
    check(
        json!({"oneOf": [{"type": "integer"}, {"minimum": 2}], "not": {"const": 7}}),
        &["1", "2.5", "\"x\""],
        &["3", "7"],
    );
}
