//! A short way to write a flat JSON Schema.

use crate::error::Error;
use serde_json::{Map, Value, json};

/// The JSON Schema of an object from a list like `name: string, age: integer?, colour: red|green, tags: string[]`.
///
/// The fields stand in this order in the output, and no others. A type is `string`, `integer`, `number`, `boolean`,
/// `null`, or a list of texts parted by `|` of which the field is one; `[]` behind it makes a list, a `?` at the end makes
/// the field optional. `string`, `date`, `time`, `date-time`, `email`, `uri` and `uuid` are strings, the last six of that
/// format.
///
/// ```
/// let schema = mx::request::schema_from_shorthand("name: string, age: integer?")?;
/// assert_eq!(schema["properties"]["age"]["type"], "integer");
/// assert_eq!(schema["required"], serde_json::json!(["name"]));
/// # Ok::<(), mx::Error>(())
/// ```
///
/// # Errors
/// [`Error::Request`] naming the part that cannot be read.
pub fn schema_from_shorthand(text: &str) -> Result<Value, Error> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for part in text.split(',') {
        let refuse = |wanted: &str| Error::request("json_schema", part.trim(), wanted);
        let (name, kind) = part
            .split_once(':')
            .map(|(name, kind)| (name.trim(), kind.trim()))
            .filter(|(name, kind)| !name.is_empty() && !kind.is_empty())
            .ok_or_else(|| refuse("a JSON Schema, a file that holds one, or NAME: TYPE, …"))?;
        let (kind, optional) = match kind.strip_suffix('?') {
            Some(kind) => (kind.trim_end(), true),
            None => (kind, false),
        };
        let schema = match kind.strip_suffix("[]") {
            Some(kind) => one(kind).map(|items| json!({"type": "array", "items": items})),
            None => one(kind),
        };
        let schema = schema.ok_or_else(|| {
            refuse("a type: string, integer, number, boolean, null, date, time, date-time, email, uri, uuid or A|B")
        })?;
        if properties.insert(name.to_owned(), schema).is_some() {
            return Err(refuse("every name once"));
        }
        if !optional {
            required.push(Value::from(name));
        }
    }
    Ok(json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    }))
}

fn one(kind: &str) -> Option<Value> {
    Some(match kind.trim() {
        kind @ ("string" | "integer" | "number" | "boolean" | "null") => json!({"type": kind}),
        format @ ("date" | "time" | "date-time" | "email" | "uri" | "uuid") => {
            json!({"type": "string", "format": format})
        }
        choices if choices.contains('|') => {
            let choices: Vec<&str> = choices.split('|').map(str::trim).collect();
            json!({ "enum": choices })
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_of_field() {
        let schema =
            schema_from_shorthand("a: string, b : integer ?, c: red | green, d: number[], e:date")
                .unwrap();
        assert_eq!(schema["properties"]["c"], json!({"enum": ["red", "green"]}));
        assert_eq!(
            schema["properties"]["d"],
            json!({"type": "array", "items": {"type": "number"}})
        );
        assert_eq!(schema["properties"]["e"]["format"], "date");
        assert_eq!(schema["required"], json!(["a", "c", "d", "e"]));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, word) in [
            ("name", "name"),
            ("a: strin", "strin"),
            ("a: string, a: null", "once"),
            ("", "NAME: TYPE"),
        ] {
            let error = schema_from_shorthand(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
