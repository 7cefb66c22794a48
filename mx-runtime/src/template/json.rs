//! JSON as Python's `json.dumps` writes it, which is what models saw in training.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::error::Marker;

/// The options of `json.dumps` that templates use.
#[derive(Debug, Clone)]
pub(super) struct Style {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

/// Widest indentation. Nothing readable needs more.
const MAX_INDENT: usize = 32;

impl Style {
    pub(super) fn new(
        indent: &Value,
        separators: Option<Vec<String>>,
        ascii: bool,
        sorted: bool,
    ) -> Result<Self, Error> {
        let invalid = |what: &'static str| Error::new(ErrorKind::InvalidOperation, what);
        let indent = match (indent.as_str(), indent.kind()) {
            (Some(text), _) if text.len() <= MAX_INDENT => Some(text.to_owned()),
            (None, ValueKind::None | ValueKind::Undefined) => None,
            (None, ValueKind::Number) => match usize::try_from(indent.clone()) {
                Ok(width) if width <= MAX_INDENT => Some(" ".repeat(width)),
                _ => return Err(invalid("tojson: indent must be 0 to 32")),
            },
            _ => return Err(invalid("tojson: indent must be a number or a short text")),
        };
        let (item, key) = match separators {
            None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
            None => (", ".to_owned(), ": ".to_owned()),
            Some(pair) => match <[String; 2]>::try_from(pair) {
                Ok([item, key]) => (item, key),
                Err(_) => return Err(invalid("tojson: separators must be two texts")),
            },
        };
        Ok(Self {
            indent,
            item,
            key,
            ascii,
            sorted,
        })
    }
}

/// Writes a value. Values nested deeper than `nesting` are refused.
pub(super) fn write(value: &Value, style: &Style, nesting: usize) -> Result<String, Error> {
    let mut writer = Writer {
        style,
        nesting,
        text: String::new(),
    };
    writer.value(value, 0)?;
    Ok(writer.text)
}

struct Writer<'a> {
    style: &'a Style,
    nesting: usize,
    text: String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self
                .text
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value)?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                self.container(('[', ']'), depth, items, |writer, item| {
                    writer.value(&item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.style.sorted {
                    keys.sort();
                }
                self.container(('{', '}'), depth, keys.into_iter(), |writer, key| {
                    writer.key(&key)?;
                    writer.text.push_str(&writer.style.key);
                    writer.value(&value.get_item(&key)?, depth + 1)
                })?;
            }
            other => {
                return Err(Error::new(
                    ErrorKind::BadSerialization,
                    format!("tojson: a value of kind {other} has no JSON form"),
                ));
            }
        }
        Ok(())
    }

    fn container(
        &mut self,
        (open, close): (char, char),
        depth: usize,
        items: impl Iterator<Item = Value>,
        mut each: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if depth >= self.nesting {
            return Err(Marker::Nesting.into());
        }
        self.text.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                self.text.push_str(&self.style.item);
            }
            empty = false;
            self.line(depth + 1);
            each(self, item)?;
        }
        if !empty {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.style.indent {
            self.text.push('\n');
            (0..depth).for_each(|_| self.text.push_str(indent));
        }
    }

    fn key(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            _ => {
                // Python writes other keys as texts of their JSON form.
                self.text.push('"');
                self.value(key, self.nesting)?;
                self.text.push('"');
            }
        }
        Ok(())
    }

    fn number(&mut self, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            self.text.push_str(&value.to_string());
        } else {
            self.text.push_str(&float(f64::try_from(value.clone())?));
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                control if u32::from(control) < 0x20 => self.escape(control),
                other if self.style.ascii && !other.is_ascii() => self.escape(other),
                other => self.text.push(other),
            }
        }
        self.text.push('"');
    }

    fn escape(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            self.text.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

/// A float as Python's `repr` writes it: the shortest digits, with an exponent below 1e-4 and from
/// 1e16 on.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let fixed = value.to_string();
    if fixed.contains('.') {
        fixed
    } else {
        format!("{fixed}.0")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use minijinja::value::Serde;
    use serde_json::json;

    use super::*;

    fn dumps(value: &serde_json::Value, indent: Option<u32>) -> String {
        let indent = indent.map_or(Value::from(()), Value::from);
        let style = Style::new(&indent, None, false, false).unwrap();
        write(&Value::from(Serde(value)), &style, 8).unwrap()
    }

    #[test]
    fn as_python_writes_it() {
        let value = json!({"z": 1, "a": [true, null, 1.0, "<é\n\u{1}\u{7f}\">"], "e": {}, "f": []});
        let plain = "{\"z\": 1, \"a\": [true, null, 1.0, \"<é\\n\\u0001\u{7f}\\\">\"], \"e\": {}, \"f\": []}";
        assert_eq!(dumps(&value, None), plain);
        assert_eq!(
            dumps(&json!({"a": [1, {"b": 2}], "c": []}), Some(2)),
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2\n    }\n  ],\n  \"c\": []\n}"
        );
    }

    #[test]
    fn floats() {
        let cases = [
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (5e-324, "5e-324"),
            (1e16, "1e+16"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (1e100, "1e+100"),
            (123_456.75, "123456.75"),
        ];
        for (value, wanted) in cases {
            assert_eq!(float(value), wanted);
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let mut value = json!(1);
        for _ in 0..9 {
            value = json!([value]);
        }
        let style = Style::new(&Value::from(()), None, false, false).unwrap();
        assert!(write(&Value::from(Serde(&value)), &style, 8).is_err());
        assert!(write(&Value::from(Serde(&value)), &style, 9).is_ok());
    }
}
