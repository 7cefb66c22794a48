//! Random schemas against a validator, in both directions.

#![allow(clippy::unwrap_used)]

use serde_json::{Map, Value, json};

use super::tests::{Run, flexible, read};
use super::{Lexical, SchemaOptions};
use crate::{ByteSet, ConstrainError, Limits};

/// A small generator of random numbers: the same seed gives the same tests everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.roll(list.len() as u64) as usize]
    }
}

const KEYS: [&str; 4] = ["a", "b", "ab", "c"];
const PATTERNS: [&str; 5] = ["^a", "b$", "^[a-c]+$", "x", "^(a|b)$"];

fn value(dice: &mut Dice, depth: u32) -> Value {
    match dice.roll(if depth == 0 { 6 } else { 10 }) {
        0 => Value::Null,
        1 => json!(dice.chance(50)),
        2 => json!(dice.roll(5) as i64 - 1),
        3 => json!((dice.roll(9) as f64 - 2.0) / 2.0),
        4 | 5 => json!(*dice.pick(&["", "a", "b", "ab", "ba", "abc", "x", "\u{e9}"])),
        6 | 7 => (0..dice.roll(4)).map(|_| value(dice, depth - 1)).collect(),
        _ => {
            let mut map = Map::new();
            for _ in 0..dice.roll(4) {
                map.insert(
                    (*dice.pick(&["a", "b", "ab", "c", "x", "d"])).into(),
                    value(dice, depth - 1),
                );
            }
            Value::Object(map)
        }
    }
}

fn schema(dice: &mut Dice, depth: u32) -> Value {
    if depth == 0 || dice.chance(8) {
        return match dice.roll(6) {
            0 => json!(true),
            1 => json!(false),
            2 => json!({"const": value(dice, 1)}),
            3 => json!({"enum": [value(dice, 0), value(dice, 0), value(dice, 1)]}),
            _ => {
                json!({"type": *dice.pick(&["null", "boolean", "integer", "number", "string", "array", "object"])})
            }
        };
    }
    let mut out = Map::new();
    for _ in 0..1 + dice.roll(3) {
        let (keyword, says): (&str, Value) = match dice.roll(38) {
            0 | 1 => (
                "type",
                json!(*dice.pick(&["integer", "number", "string", "array", "object"])),
            ),
            2 => (
                "type",
                json!([
                    *dice.pick(&["null", "string"]),
                    *dice.pick(&["array", "object", "integer"])
                ]),
            ),
            3 => ("minimum", json!(dice.roll(4) as i64 - 1)),
            4 => ("exclusiveMaximum", json!(dice.roll(6) as f64 / 2.0)),
            5 => ("multipleOf", json!(*dice.pick(&[1.0, 0.5, 2.0, 3.0]))),
            6 => ("minLength", json!(dice.roll(3))),
            7 => ("maxLength", json!(dice.roll(3))),
            8 => ("pattern", json!(*dice.pick(&PATTERNS))),
            9 | 10 => ("properties", named(dice, depth)),
            11 => (
                "patternProperties",
                json!({(*dice.pick(&PATTERNS)): schema(dice, depth - 1)}),
            ),
            12 => ("additionalProperties", schema(dice, depth - 1)),
            13 => ("propertyNames", json!({"pattern": *dice.pick(&PATTERNS)})),
            14 => ("propertyNames", json!({"maxLength": dice.roll(3)})),
            15 | 16 => ("required", json!([*dice.pick(&KEYS)])),
            17 => ("minProperties", json!(dice.roll(3))),
            18 => ("maxProperties", json!(dice.roll(3))),
            19 => (
                "dependentRequired",
                json!({(*dice.pick(&KEYS)): [*dice.pick(&KEYS)]}),
            ),
            20 => (
                "dependentSchemas",
                json!({(*dice.pick(&KEYS)): schema(dice, depth - 1)}),
            ),
            21 => ("items", schema(dice, depth - 1)),
            22 => (
                "prefixItems",
                json!([schema(dice, depth - 1), schema(dice, depth - 1)]),
            ),
            23 => ("contains", schema(dice, depth - 1)),
            24 => ("minContains", json!(dice.roll(3))),
            25 => ("maxContains", json!(dice.roll(3))),
            26 => ("minItems", json!(dice.roll(3))),
            27 => ("maxItems", json!(dice.roll(3))),
            28 => ("uniqueItems", json!(true)),
            29 => ("unevaluatedItems", schema(dice, depth - 1)),
            30 => ("unevaluatedProperties", schema(dice, depth - 1)),
            31 => (
                "allOf",
                json!([schema(dice, depth - 1), schema(dice, depth - 1)]),
            ),
            32 => (
                "anyOf",
                json!([schema(dice, depth - 1), schema(dice, depth - 1)]),
            ),
            33 | 34 => (
                "oneOf",
                json!([
                    schema(dice, depth - 1),
                    schema(dice, depth - 1),
                    schema(dice, depth - 1)
                ]),
            ),
            35 => ("not", schema(dice, depth - 1)),
            36 => {
                out.insert("then".into(), schema(dice, depth - 1));
                out.insert("else".into(), schema(dice, depth - 1));
                ("if", schema(dice, depth - 1))
            }
            _ => ("$ref", json!("#/$defs/d")),
        };
        out.insert(keyword.into(), says);
    }
    Value::Object(out)
}

fn named(dice: &mut Dice, depth: u32) -> Value {
    let mut map = Map::new();
    for _ in 0..1 + dice.roll(3) {
        map.insert((*dice.pick(&KEYS)).into(), schema(dice, depth - 1));
    }
    Value::Object(map)
}

fn root(dice: &mut Dice) -> Value {
    let mut out = match schema(dice, 3) {
        Value::Object(map) => map,
        other => Map::from_iter([("not".to_owned(), json!({ "not": other }))]),
    };
    out.insert(
        "$schema".into(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    out.insert("$defs".into(), json!({"d": schema(dice, 1)}));
    Value::Object(out)
}

fn options() -> SchemaOptions {
    SchemaOptions {
        lexical: Lexical::Full,
        ..flexible()
    }
}

/// The seeds to try: `MX_SEED=from..to`, or the first ones.
fn seeds(count: u64) -> (u64, u64) {
    let given = std::env::var("MX_SEED").ok();
    let range = given.as_deref().and_then(|text| text.split_once(".."));
    range
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)))
        .unwrap_or((0, count))
}

#[test]
fn agrees_with_a_validator() {
    let (from, to) = seeds(2_000);
    let mut wrong = Vec::new();
    for seed in from..to {
        let mut dice = Dice(seed);
        let schema = root(&mut dice);
        let Ok(validator) = jsonschema::options()
            .should_validate_formats(false)
            .build(&schema)
        else {
            continue;
        };
        let mut machine =
            match super::reader(&schema, &options(), &ByteSet::ALL, &Limits::default()) {
                Ok((machine, _)) => Some(machine),
                Err(ConstrainError::Unsatisfiable { .. }) => None,
                // The random definition refers to itself.
                Err(ConstrainError::Schema { keyword, .. }) if keyword == "$ref" => continue,
                Err(error) => {
                    wrong.push(format!("seed {seed}: {error}"));
                    continue;
                }
            };
        for _ in 0..12 {
            let instance = value(&mut dice, 3);
            let text = instance.to_string();
            let valid = validator.is_valid(&instance);
            let taken = match &mut machine {
                Some(machine) => read(machine, &text),
                None => Ok(Err(0)),
            };
            match taken {
                Ok(taken) if taken.is_ok() == valid => {}
                other => wrong.push(format!(
                    "seed {seed}: valid {valid}, {other:?}: {text} under {schema}"
                )),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.len(),
        wrong[..wrong.len().min(12)].join("\n")
    );
}

#[test]
fn no_dead_ends_and_what_is_written_is_valid() {
    let (from, to) = seeds(1_000);
    let mut wrong = Vec::new();
    for seed in from..to {
        let mut dice = Dice(seed);
        let schema = root(&mut dice);
        let Ok(validator) = jsonschema::options()
            .should_validate_formats(false)
            .build(&schema)
        else {
            continue;
        };
        let Ok((mut machine, _)) =
            super::reader(&schema, &options(), &ByteSet::ALL, &Limits::default())
        else {
            continue;
        };
        for _ in 0..4 {
            if let Some(complaint) = walk(&mut machine, &validator, &mut dice) {
                wrong.push(format!("seed {seed}: {complaint} under {schema}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.len(),
        wrong[..wrong.len().min(12)].join("\n")
    );
}

#[test]
fn ways_out_lead_out() {
    let mut wrong = Vec::new();
    let (mut known, mut all) = (0, 0);
    for seed in 0..700u64 {
        let mut dice = Dice(seed);
        let schema = root(&mut dice);
        let Ok((mut machine, _)) =
            super::reader(&schema, &options(), &ByteSet::ALL, &Limits::default())
        else {
            continue;
        };
        for _ in 0..6 {
            let mut run = Run::new(&mut machine);
            let mut text = Vec::new();
            for _ in 0..dice.roll(30) {
                let byte = *dice.pick(b"\"}]:,nulltrefalse0123ab{[");
                if run.push(byte).unwrap() {
                    text.push(byte);
                }
            }
            all += 1;
            for step in 0.. {
                if run.accepting().unwrap() {
                    known += 1;
                    break;
                }
                let Some(byte) = run.way_out().unwrap() else {
                    break;
                };
                if step > 2_000 || !run.push(byte).unwrap() {
                    let text = String::from_utf8_lossy(&text);
                    wrong.push(format!("seed {seed}: no way out behind {text} with {byte}"));
                    break;
                }
                text.push(byte);
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}",
        wrong[..wrong.len().min(8)].join("\n")
    );
    assert!(
        known * 10 > all * 7,
        "only {known} of {all} ways out are known"
    );
}

/// Writes a random text; what is wrong with it.
fn walk(
    machine: &mut super::reader::Reader,
    validator: &jsonschema::Validator,
    dice: &mut Dice,
) -> Option<String> {
    const FAVOURED: &[u8] = b"\"}]:,nulltrefalse0123ab{[";
    const LONGEST: usize = 400;
    let mut run = Run::new(machine);
    let mut text = Vec::new();
    loop {
        if run.accepting().unwrap() && (dice.chance(40) || text.len() > 60) {
            break;
        }
        let mut taken = false;
        for _ in 0..40 {
            let byte = *dice.pick(FAVOURED);
            if run.push(byte).unwrap() {
                text.push(byte);
                taken = true;
                break;
            }
        }
        if !taken {
            // By order: closing and printable characters first.
            let order = b"\"}],:"
                .iter()
                .copied()
                .chain(b'!'..=b'~')
                .chain([b' '])
                .chain(0x80..=0xff)
                .chain(0..=0x1f);
            for byte in order {
                if run.push(byte).unwrap() {
                    text.push(byte);
                    taken = true;
                    break;
                }
            }
        }
        if !taken {
            let text = String::from_utf8_lossy(&text);
            return (!run.accepting().unwrap()).then(|| format!("dead end behind {text}"));
        }
        if text.len() > LONGEST {
            return None;
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    // The validator reads large numbers as binary fractions, whose multiples are not exact.
    let long = text
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() > 12);
    let large = text
        .split(['e', 'E'])
        .skip(1)
        .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if long || large {
        return None;
    }
    let Ok(instance) = serde_json::from_str::<Value>(&text) else {
        return Some(format!("no JSON: {text}"));
    };
    (!validator.is_valid(&instance)).then(|| format!("not valid: {text}"))
}
