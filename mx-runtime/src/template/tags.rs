//! `{% generation %}` blocks, which the engine does not know.

/// Turns generation blocks into `with` blocks: both open a scope of their own, and white space
/// control works the same. Lines keep their numbers.
pub(super) fn neutralise_generation(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find('{') {
        let (before, tag) = rest.split_at(open);
        text.push_str(before);
        let (length, renamed) = match tag.as_bytes().get(1) {
            Some(b'#') => (tag.find("#}").map_or(tag.len(), |end| end + 2), None),
            Some(b'{') => (end_of_tag(tag, "}}"), None),
            Some(b'%') => statement(tag),
            _ => (1, None),
        };
        match renamed {
            Some(renamed) => text.push_str(&renamed),
            None => text.push_str(&tag[..length]),
        }
        rest = &tag[length..];
    }
    text.push_str(rest);
    text
}

/// The length of a statement, which for `raw` is the whole block, and its new text.
fn statement(tag: &str) -> (usize, Option<String>) {
    let length = end_of_tag(tag, "%}");
    let Some((start, name)) = keyword(tag) else {
        return (length, None);
    };
    match name {
        "raw" => (end_of_raw(tag, length), None),
        "generation" | "endgeneration" => {
            let new = if name == "generation" {
                "with"
            } else {
                "endwith"
            };
            let end = start + name.len();
            (
                length,
                Some(format!("{}{new}{}", &tag[..start], &tag[end..length])),
            )
        }
        _ => (length, None),
    }
}

/// Position and text of the first word of a statement.
fn keyword(tag: &str) -> Option<(usize, &str)> {
    let inner = tag.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner).trim_start();
    let start = tag.len() - inner.len();
    let end = inner.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some((start, &inner[..end]))
}

/// Where a tag ends. Texts in quotes may contain the end mark.
fn end_of_tag(tag: &str, mark: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in tag.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if tag[at..].starts_with(mark) => return at + mark.len(),
            None if matches!(character, '"' | '\'') => quote = Some(character),
            None => {}
        }
    }
    tag.len()
}

fn end_of_raw(tag: &str, opening: usize) -> usize {
    let mut at = opening;
    while let Some(next) = tag[at..].find("{%") {
        at += next;
        let length = end_of_tag(&tag[at..], "%}");
        if keyword(&tag[at..]).is_some_and(|(_, name)| name == "endraw") {
            return at + length;
        }
        at += 2;
    }
    tag.len()
}

#[cfg(test)]
mod tests {
    use super::neutralise_generation;

    #[test]
    fn only_statements_are_renamed() {
        let cases = [
            (
                "{% generation %}a{% endgeneration %}",
                "{% with %}a{% endwith %}",
            ),
            (
                "{%- generation -%}\n{%-endgeneration%}",
                "{%- with -%}\n{%-endwith%}",
            ),
            ("{# {% generation %} #}", "{# {% generation %} #}"),
            ("{{ '{% generation %}' }}", "{{ '{% generation %}' }}"),
            (
                "{% set a = '%}{% generation %}' %}",
                "{% set a = '%}{% generation %}' %}",
            ),
            (
                "{% raw %}{% generation %}{% endraw %}x",
                "{% raw %}{% generation %}{% endraw %}x",
            ),
            ("{% set generation = 1 %}{ %", "{% set generation = 1 %}{ %"),
            ("{% generation", "{% generation"),
            ("é{", "é{"),
        ];
        for (source, wanted) in cases {
            assert_eq!(neutralise_generation(source), wanted);
        }
    }
}
