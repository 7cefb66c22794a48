//! The part of an output that is meant: its JSON, its code.

use serde_json::Value;

/// The JSON value of an output: the whole text, else the object from its first `{` to its last `}`.
pub(crate) fn json(text: &str) -> Option<Value> {
    let text = text.trim();
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let (first, last) = (text.find('{')?, text.rfind('}')?);
    let value: Value = serde_json::from_str(text.get(first..=last)?).ok()?;
    value.is_object().then_some(value)
}

/// The code of an output: its first fenced block, else the whole text.
pub(crate) fn code(text: &str) -> &str {
    const FENCE: &str = "```";
    let Some((_, rest)) = text.split_once(FENCE) else {
        return text;
    };
    // Behind the fence stands the language's name.
    let Some((_, block)) = rest.split_once('\n') else {
        return text;
    };
    block.split_once(FENCE).map_or(block, |(block, _)| block)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn json_is_the_whole_text_or_its_object() {
        assert_eq!(json(" [1] ").unwrap(), serde_json::json!([1]));
        assert_eq!(
            json("so: {\"a\": {}}. Done").unwrap()["a"],
            serde_json::json!({})
        );
        assert_eq!(json("}{"), None);
        assert_eq!(json("no braces"), None);
        assert_eq!(json("[1] and [2]"), None);
    }

    #[test]
    fn code_is_the_first_block_or_all() {
        assert_eq!(code("x = 1"), "x = 1");
        assert_eq!(
            code("Here:\n```python\na = 1\n```\nand\n```\nb\n```"),
            "a = 1\n"
        );
        assert_eq!(code("```py\nunfinished"), "unfinished");
        assert_eq!(code("``` no line"), "``` no line");
    }
}
