//! Masks of schemas and grammars against the naive way.

use serde_json::{Value, json};

use crate::testing::{Random, check_mask, random_vocabulary};
use crate::{
    ConstrainError, Constraint, ConstraintSpec, GrammarSyntax, Limits, Matcher, SchemaOptions,
    Whitespace,
};

const PIECES: &[&str] = &[
    "\"", "\":", "\",\"", "{\"", "}", "},", "]", "[", ", ", ": ", ",", "name", "na", "tags", "a",
    "b", "xyz", " ", "  ", "\n", "1", "23", "-", ".5", "e", "true", "null", "false", "\\", "\\u",
    "\\n", "ä", "日", "\"}", "\"]", "[\"",
];

fn bytes() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0x20..0x7f).collect();
    bytes.extend(b"\n\t\r\xc3\xa4\xe6\x97\xa5");
    bytes
}

fn schemas() -> Vec<Value> {
    vec![
        json!({}),
        json!({"type": "object", "properties": {"name": {"type": "string"}, "tags": {"type": "array"}}, "required": ["name"]}),
        json!({"type": "object", "properties": {"name": {"enum": ["a", "ab", 12, null]}}, "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "uniqueItems": true}),
        json!({"type": "string", "pattern": "^[a-z]{1,40}$"}),
        json!({"type": "string", "pattern": "^[^/]+$", "minLength": 2}),
        json!({"anyOf": [{"type": "integer", "minimum": 5}, {"type": "object", "minProperties": 1}]}),
        json!({"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": {"type": "string"}}),
        json!({"type": "string", "pattern": "^([a-z]+ ){0,3}[a-z]+$", "minLength": 1, "maxLength": 20}),
        json!({"type": "string", "pattern": "^[a-z]*x$", "minLength": 6, "maxLength": 8}),
        json!({"type": "string", "pattern": "b$", "minLength": 4}),
        json!({"allOf": [{"pattern": "a"}, {"pattern": "^[^b]*$"}, {"type": "string", "maxLength": 12}]}),
        json!({"allOf": [{"pattern": "a"}, {"pattern": "^[^1]*$"}], "type": "string"}),
        json!({"type": "string", "pattern": "^.*\\.x$"}),
        json!({"type": "string", "pattern": "^([a-z]|%[0-9a-f]{2}|[ä-ö])*$"}),
        json!({"type": "string", "not": {"enum": ["name", "na", "tags"]}, "pattern": "^[a-z]{2,6}$"}),
        json!({"type": "string", "format": "uri"}),
        json!({"enum": ["name", "na", "nab", "tags\"", "a\\b", "日", "", "xyz xyz"]}),
        json!({"type": "object", "properties": {"name": true, "na": {"type": "integer"}, "tags": {"enum": ["a", "ab"]}, "日": true}, "required": ["na"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"a\"b": true, "a": true}, "additionalProperties": false}),
        json!({"type": "object", "properties": {"name": true}, "patternProperties": {"^[a-z]{1,5}$": {"type": "integer"}}, "additionalProperties": false}),
        json!({"type": "object", "patternProperties": {"na(a|b)": {"type": "integer"}, "x_[a-z]+": {"type": "string"}, "[a-z]*": true}}),
        json!({"type": "object", "propertyNames": {"pattern": "^[a-z]+$", "maxLength": 4}, "additionalProperties": {"type": "number"}}),
        json!({"type": "object", "patternProperties": {"^x": false}, "properties": {"xyz": true}}),
        json!({"type": "array", "items": {"type": "number", "multipleOf": 0.5, "maximum": 30}}),
        json!({"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "number"}], "items": {"not": {"type": "null"}}}),
    ]
}

/// Walks at random. A mask may leave out a token that is allowed where states share their mask, but never a byte that
/// could be the way on, and it never holds a token that is refused.
fn walk(mut matcher: Matcher, random: &mut Random, context: &str) -> usize {
    let mut left_out = 0;
    for _ in 0..40 {
        let len = matcher.vocabulary().len() as u32;
        let allowed: Vec<u32> = (0..len)
            .filter(|&token| matcher.allows(token).unwrap())
            .collect();
        let mask: Vec<u32> = matcher.mask().unwrap().iter().collect();
        assert_eq!(mask.len(), matcher.mask().unwrap().count(), "{context}");
        for token in &mask {
            assert!(
                allowed.contains(token),
                "{context}: {:?}",
                matcher.vocabulary().bytes_of(*token)
            );
        }
        for token in &allowed {
            let single = matcher
                .vocabulary()
                .bytes_of(*token)
                .is_none_or(|bytes| bytes.len() == 1);
            let bytes = matcher.vocabulary().bytes_of(*token);
            assert!(
                !single || mask.contains(token),
                "{context}: {bytes:?} is left out"
            );
        }
        left_out += allowed.len() - mask.len();
        if mask.is_empty() || matcher.is_ended() {
            break;
        }
        matcher.commit(*random.pick(&mask)).unwrap();
    }
    left_out
}

#[test]
fn masks_of_schemas_are_sound_and_lead_on() {
    let mut random = Random::new(21);
    let mut left_out = 0;
    let mut walks = 0;
    for round in 0..2 {
        let vocabulary = random_vocabulary(&mut random, &bytes(), PIECES, 300 + 500 * round);
        for schema in schemas() {
            for whitespace in [
                Whitespace::Compact,
                Whitespace::Flexible,
                Whitespace::Bounded(2),
            ] {
                let options = SchemaOptions {
                    whitespace,
                    ..SchemaOptions::default()
                };
                let spec = ConstraintSpec::JsonSchema {
                    schema: schema.clone(),
                    options,
                };
                let constraint =
                    Constraint::compile(&vocabulary, &spec, &Limits::default()).unwrap();
                for _ in 0..3 {
                    let context = format!("{schema} {whitespace:?}");
                    let here = walk(constraint.matcher().unwrap(), &mut random, &context);
                    // Only states of free names share masks that leave something out.
                    let closed = schema["additionalProperties"] == false
                        && schema.get("patternProperties").is_none();
                    if closed || schema["type"] == "string" || schema.get("enum").is_some() {
                        assert_eq!(here, 0, "{context}");
                    }
                    left_out += here;
                    walks += 1;
                }
            }
        }
    }
    assert!(
        left_out < walks * 40,
        "hardly any token is left out: {left_out} in {walks} walks"
    );
}

#[test]
fn completions_of_schemas_end_them() {
    let mut random = Random::new(22);
    let vocabulary = random_vocabulary(&mut random, &bytes(), PIECES, 400);
    let (mut found, mut given_up) = (0, 0);
    for schema in schemas() {
        let constraint = Constraint::json_schema(&vocabulary, &schema).unwrap();
        for _ in 0..4 {
            let mut matcher = constraint.matcher().unwrap();
            for _ in 0..random.below(20) {
                let allowed: Vec<u32> = matcher.mask().unwrap().iter().collect();
                if allowed.is_empty() || matcher.is_ended() {
                    break;
                }
                matcher.commit(*random.pick(&allowed)).unwrap();
            }
            if matcher.is_ended() {
                continue;
            }
            let mut finished = matcher.clone();
            let completion = match matcher.completion() {
                Ok(completion) => completion,
                Err(ConstrainError::Limit { .. }) => {
                    given_up += 1;
                    continue;
                }
                Err(error) => panic!("{schema}: {error}"),
            };
            found += 1;
            assert!(finished.commit_bytes(&completion).unwrap(), "{schema}");
            assert!(finished.is_accepting().unwrap(), "{schema}");
            assert!(
                matcher.tokens_to_finish().unwrap() <= completion.len(),
                "{schema}"
            );
        }
    }
    assert!(
        found > 10 && given_up * 4 <= found,
        "{found} found, {given_up} given up"
    );
}

#[test]
fn masks_of_grammars_are_exact() {
    let mut random = Random::new(23);
    let grammars = [
        "root ::= value\nvalue ::= \"[\" (value (\",\" value)*)? \"]\" | string | [0-9]+\nstring ::= \"\\\"\" [^\"\\\\]* \"\\\"\"",
        "root ::= \"a\" root \"b\" | \"\"",
        "root ::= [a-z]+ (\" \" [a-z]+){0,3} \".\"?",
    ];
    let vocabulary = random_vocabulary(&mut random, &bytes(), PIECES, 500);
    for grammar in grammars {
        let constraint = Constraint::grammar(&vocabulary, GrammarSyntax::Gbnf, grammar).unwrap();
        for _ in 0..6 {
            let mut matcher = constraint.matcher().unwrap();
            for _ in 0..20 {
                let allowed = check_mask(&mut matcher, grammar);
                if allowed.is_empty() || matcher.is_ended() {
                    break;
                }
                matcher.commit(*random.pick(&allowed)).unwrap();
            }
        }
    }
}
