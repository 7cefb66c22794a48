//! JSON as text: the parts of a document exactly as they are written.
//!
//! An instance is judged by its text: `1.0`, `1` and a number of fifty digits must arrive as they stand in the file,
//! which a parsed value does not keep.

use anyhow::{Context, bail};

/// The members of an object, in order, each with its text.
///
/// # Errors
/// For text that is no object.
pub(super) fn members(text: &str) -> anyhow::Result<Vec<(String, &str)>> {
    let mut rest = text.trim();
    rest = rest.strip_prefix('{').context("no object")?.trim_start();
    let mut members = Vec::new();
    while !rest.starts_with('}') {
        let (key, after) = value(rest)?;
        let key: String = serde_json::from_str(key)?;
        let after = after.strip_prefix(':').context("no colon after a key")?;
        let (member, after) = value(after.trim_start())?;
        members.push((key, member));
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None => after,
        };
    }
    Ok(members)
}

/// The elements of an array, in order, each as its text.
///
/// # Errors
/// For text that is no array.
pub(super) fn elements(text: &str) -> anyhow::Result<Vec<&str>> {
    let mut rest = text.trim();
    rest = rest.strip_prefix('[').context("no array")?.trim_start();
    let mut elements = Vec::new();
    while !rest.starts_with(']') {
        let (element, after) = value(rest)?;
        elements.push(element);
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None => after,
        };
    }
    Ok(elements)
}

/// The text with `", "` and `": "` as separators and no other white space between its parts, and strings with as few
/// escapes as JSON allows: as Python writes it with `ensure_ascii=False`.
pub(super) fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len() * 5 / 4);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let end = string_end(rest).unwrap_or(rest.len());
            let (string, after) = rest.split_at(end);
            let plain = serde_json::from_str::<String>(string)
                .and_then(|content| serde_json::to_string(&content));
            // A string with half a surrogate pair has no other spelling.
            spaced.push_str(plain.as_deref().unwrap_or(string));
            rest = after;
            continue;
        }
        if !first.is_ascii_whitespace() {
            spaced.push(first);
        }
        if matches!(first, ',' | ':') {
            spaced.push(' ');
        }
        rest = &rest[first.len_utf8()..];
    }
    spaced
}

/// The value at the start of a text, and what follows it without leading white space.
fn value(text: &str) -> anyhow::Result<(&str, &str)> {
    let end = match text.as_bytes().first() {
        None => bail!("the text ends where a value should begin"),
        Some(b'"') => string_end(text).context("a string without end")?,
        Some(b'{' | b'[') => nested_end(text).context("a value without end")?,
        Some(_) => text
            .find([',', ']', '}', ' ', '\n', '\r', '\t'])
            .unwrap_or(text.len()),
    };
    anyhow::ensure!(
        end > 0,
        "no value before {:?}",
        text.chars().next().unwrap_or_default()
    );
    Ok((&text[..end], text[end..].trim_start()))
}

/// Where the string at the start of a text ends, its closing quote included.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(index + 1),
            _ => {}
        }
    }
    None
}

/// Where the object or array at the start of a text ends.
fn nested_end(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(byte) = text.as_bytes().get(at) {
        at += match byte {
            b'"' => string_end(&text[at..])?,
            _ => 1,
        };
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(at),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{elements, members, spaced};

    #[test]
    fn members_and_elements_keep_their_text() {
        let text = r#" {"a" : 1.0, "b\"}": [1, {"x": "]"}] ,"c":{}, "d":"," } "#;
        let found = members(text).unwrap();
        let wanted = [
            ("a", "1.0"),
            ("b\"}", r#"[1, {"x": "]"}]"#),
            ("c", "{}"),
            ("d", r#"",""#),
        ];
        let found: Vec<(&str, &str)> = found.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        assert_eq!(found, wanted);
        assert_eq!(
            elements(r#"[1e400,"a",[], null]"#).unwrap(),
            ["1e400", "\"a\"", "[]", "null"]
        );
        assert!(elements("[]").unwrap().is_empty() && members("{}").unwrap().is_empty());
    }

    #[test]
    fn broken_text_is_an_error() {
        for text in [
            "", "[", "{", "[1", "{\"a\"}", "{\"a\":}", "{\"a", "[\"", "[,", "[1,",
        ] {
            assert!(elements(text).is_err() && members(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spacing_is_that_of_python() {
        let text = "{\"a\":[1,2.50 ,\"x,y:z\\u0041\\n\"],\n\"\\ud800\":{}}";
        assert_eq!(
            spaced(text),
            "{\"a\": [1, 2.50, \"x,y:zA\\n\"], \"\\ud800\": {}}"
        );
    }
}
