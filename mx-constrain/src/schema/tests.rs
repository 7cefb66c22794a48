//! The machine against texts, and against a validator.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::reader::Reader;
use super::{Formats, Lexical, PropertyOrder, SchemaOptions, Whitespace};
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
    check(
        json!({"type": "object", "if": {"properties": {"k": {"const": "a"}}, "required": ["k"]},
               "then": {"required": ["x"]}, "else": {"properties": {"x": false}}}),
        &[
            r#"{"k":"a","x":1}"#,
            r#"{"x":1,"k":"a"}"#,
            r#"{"k":"b"}"#,
            "{}",
        ],
        &[r#"{"k":"a"}"#, r#"{"k":"b","x":1}"#, r#"{"x":1}"#],
    );
    check(
        json!({"type": "array", "contains": {"type": "string"}, "minContains": 2, "maxContains": 2, "uniqueItems": true}),
        &[r#"["a",1,"b"]"#, r#"[{"a":1},{"a":2},"a","b"]"#],
        &[
            r#"["a"]"#,
            r#"["a","a"]"#,
            r#"["a","b","c"]"#,
            r#"["a","b",{"x":[1,2],"y":0},{"y":0.0,"x":[1.0,2]}]"#,
        ],
    );
}

#[test]
fn numbers_are_exact() {
    check(
        json!({"minimum": 0.1, "maximum": 1e30, "multipleOf": 0.01, "type": "number"}),
        &["0.1", "0.29", "1000000000000000000000000000000", "19.99"],
        &[
            "0.09",
            "0.295",
            "1000000000000000000000000000000.01",
            "1000000000000000000000000000001",
            "-1",
        ],
    );
    check(
        json!({"type": "integer", "exclusiveMinimum": -3, "maximum": 1e308}),
        &["-2", "0", "123456789012345678901234567890"],
        &["-3", "1.5", "01"],
    );
    check(
        json!({"enum": [1.5, 1200, -0.0]}),
        &["1.5", "1200", "0"],
        &["1.50001", "120", "2"],
    );
    check(
        json!({"type": "number", "not": {"multipleOf": 3}, "minimum": 3, "maximum": 7}),
        &["4", "5", "6.5"],
        &["3", "6", "8"],
    );
}

#[test]
fn strings_are_read_decoded() {
    check(
        json!({"pattern": "^[a-zé\u{1f600}\n]{2}$", "type": "string"}),
        &[
            "\"ab\"",
            r#""\u0061b""#,
            r#""\ud83d\ude00a""#,
            r#""\n\n""#,
            "\"\u{1f600}é\"",
        ],
        &[
            "\"a\"",
            "\"abc\"",
            r#""\u0041b""#,
            r#""\ud83da""#,
            r#""\ude00a""#,
        ],
    );
    check(
        json!({"minLength": 2, "maxLength": 2, "type": "string"}),
        &[r#""\ud83d\ude00a""#, "\"é\u{1f600}\""],
        &[r#""\ud83d\ude00""#, "\"abc\""],
    );
    check(
        json!({"type": "string", "not": {"enum": ["a", "ab"]}}),
        &["\"abc\"", "\"\""],
        &["\"a\"", "\"ab\"", r#""a\u0062""#],
    );
}

#[test]
fn names_are_had_once() {
    check(
        json!({"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": {"type": "null"},
               "propertyNames": {"maxLength": 3}}),
        &[r#"{"x1":1,"y":null}"#, "{}"],
        &[
            r#"{"x1":null}"#,
            r#"{"y":1}"#,
            r#"{"y":null,"y":null}"#,
            r#"{"yyyy":null}"#,
        ],
    );
}

#[test]
fn dead_ends_are_seen_before() {
    let refused = json!({"type": "object", "properties": {"a": {"allOf": [{"type": "string"}, {"type": "integer"}]}}, "required": ["a"]});
    assert!(matches!(
        compile(&refused, &flexible()),
        Err(ConstrainError::Unsatisfiable { .. })
    ));
    let endless = json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}}});
    assert!(matches!(
        compile(&endless, &flexible()),
        Err(ConstrainError::Unsatisfiable { .. })
    ));
    check(
        json!({"type": "object", "properties": {"a": {"enum": []}, "b": {"type": "string"}}, "additionalProperties": false}),
        &[r#"{"b":""}"#],
        &["{\"a"],
    );
    check(
        json!({"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": true, "minItems": 2}),
        &[r#"["b","a"]"#],
        &[r#"["a","a"]"#, r#"["a"]"#, r#"["a","b","#],
    );
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let cases = [
        (
            json!({"properties": {"a": {"pattern": "(a)\\1"}}}),
            "/properties/a",
            "pattern",
        ),
        (json!({"items": {"$ref": "other.json"}}), "/items", "$ref"),
        (json!({"anyOf": [{"type": "text"}]}), "/anyOf/0", "type"),
        (json!({"allOf": [{"$ref": "#"}]}), "/allOf/0", "$ref"),
        (json!({"multipleOf": 0}), "", "multipleOf"),
    ];
    for (schema, place, word) in cases {
        match compile(&schema, &flexible()) {
            Err(ConstrainError::Schema {
                pointer, keyword, ..
            }) => {
                assert_eq!(
                    (keyword.as_str(), pointer == place || word == "$ref"),
                    (word, true),
                    "{schema}: {pointer}"
                );
            }
            other => panic!("{schema}: {other:?}"),
        }
    }
}

#[test]
fn options_have_their_consequences() {
    let schema = json!({"type": "object", "properties": {"b": {"type": "integer"}, "a": {"enum": [1, 2]}}, "required": ["a"]});
    let cases = [
        (Whitespace::Compact, r#"{"b":1,"a":2}"#, r#"{"b": 1,"a":2}"#),
        (
            Whitespace::PythonLike,
            r#"{"b": 1, "a": 2}"#,
            r#"{"b":1,"a":2}"#,
        ),
        (
            Whitespace::Bounded(2),
            "{\n \"b\":1,\"a\":2}",
            "{   \"b\":1,\"a\":2}",
        ),
    ];
    for (whitespace, good, bad) in cases {
        let mut machine = compile(
            &schema,
            &SchemaOptions {
                whitespace,
                ..Default::default()
            },
        )
        .unwrap();
        assert_eq!(read(&mut machine, good), Ok(Ok(())), "{good}");
        assert!(read(&mut machine, bad).unwrap().is_err(), "{bad}");
    }
    let declared = SchemaOptions {
        property_order: PropertyOrder::Declared,
        ..flexible()
    };
    let mut machine = compile(&schema, &declared).unwrap();
    assert_eq!(read(&mut machine, r#"{"b":1,"a":2,"c":0}"#), Ok(Ok(())));
    assert!(read(&mut machine, r#"{"a":2,"b":1}"#).unwrap().is_err());
    let strict = SchemaOptions {
        formats: Formats::Strict,
        ..flexible()
    };
    assert!(compile(&json!({"format": "colour"}), &strict).is_err());
    let full = SchemaOptions {
        lexical: Lexical::Full,
        ..flexible()
    };
    let mut machine = compile(&schema, &full).unwrap();
    assert_eq!(read(&mut machine, r#"{"\u0061":2.0}"#), Ok(Ok(())));
}

#[test]
fn hostile_schemas_end() {
    let deep = (0..200).fold(json!({"type": "integer"}), |inner, _| json!({"not": inner}));
    let _ = compile(&deep, &flexible());
    let wide: Vec<Value> = (0..12).map(|i| json!({"oneOf": [{"required": [format!("a{i}")]}, {"required": [format!("b{i}")]}]})).collect();
    let mut machine = compile(&json!({"type": "object", "allOf": wide}), &flexible()).unwrap();
    let _ = read(&mut machine, r#"{"a0":1,"b1":2}"#);
    let long = json!({"type": "array", "minItems": 1_000_000, "items": {"type": "string", "minLength": 100_000}});
    let mut machine = compile(&long, &flexible()).unwrap();
    assert!(read(&mut machine, "[\"a\"]").unwrap().is_err());
    let numbers = json!({"multipleOf": 0.000_000_123, "minimum": 1e300, "maximum": 1.000_001e300});
    let _ = compile(&numbers, &flexible());
}
