//! Where a model folder keeps its chat template.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{TemplateError, TemplateLimits};
use crate::files::open_regular;

/// A chat template found in a model folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTemplate {
    /// The file that holds it.
    pub path: PathBuf,
    /// The template to use: the one named `default`, or the first.
    pub source: String,
    /// All templates of the file by name, the one above included.
    pub named: Vec<(String, String)>,
}

const DEFAULT: &str = "default";
const FIELD: &str = "chat_template";
/// A file with a template in its own right is the newer way and goes first.
const JINJA_FILE: &str = "chat_template.jinja";
const JSON_FILES: [&str; 2] = ["chat_template.json", "tokenizer_config.json"];

/// Looks for the chat template of a model folder: `chat_template.jinja`, then
/// `chat_template.json`, then `tokenizer_config.json`. `None` if none of them has one.
///
/// # Errors
/// If a file cannot be read, is too large, is no valid JSON, or has a template of the wrong form.
pub fn find_chat_template(
    folder: &Path,
    limits: &TemplateLimits,
) -> Result<Option<FoundTemplate>, TemplateError> {
    let path = folder.join(JINJA_FILE);
    if path.exists() {
        let source = read(&path, limits.source_bytes, "source_bytes")?;
        let named = vec![(DEFAULT.to_owned(), source.clone())];
        return Ok(Some(FoundTemplate {
            path,
            source,
            named,
        }));
    }
    for file in JSON_FILES {
        let path = folder.join(file);
        if !path.exists() {
            continue;
        }
        let bad = |reason: String| TemplateError::BadFile {
            path: path.clone(),
            reason,
        };
        let content = read(&path, limits.config_bytes, "config_bytes")?;
        let content: Value =
            serde_json::from_str(&content).map_err(|e| bad(format!("no valid JSON: {e}")))?;
        let field = &content[FIELD];
        if field.is_null() {
            continue;
        }
        let named = named_templates(field);
        let Some((_, source)) = named.first().cloned() else {
            return Err(bad(format!(
                "{FIELD} is neither a text nor a list of objects with name and template"
            )));
        };
        return Ok(Some(FoundTemplate {
            path,
            source,
            named,
        }));
    }
    Ok(None)
}

/// The templates of a `chat_template` field by name, the default one first. Empty if the field has
/// another form.
pub(crate) fn named_templates(field: &Value) -> Vec<(String, String)> {
    if let Some(source) = field.as_str() {
        return vec![(DEFAULT.to_owned(), source.to_owned())];
    }
    let text = |entry: &Value, name: &str| entry[name].as_str().map(str::to_owned);
    let entries = field.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut named: Vec<_> = entries
        .iter()
        .filter_map(|entry| text(entry, "name").zip(text(entry, "template")))
        .collect();
    if let Some(at) = named.iter().position(|(name, _)| name == DEFAULT) {
        named[..=at].rotate_right(1);
    }
    named
}

fn read(path: &Path, limit: usize, limit_name: &'static str) -> Result<String, TemplateError> {
    let io = |source| TemplateError::Io {
        path: path.to_owned(),
        source,
    };
    let file = open_regular(path).map_err(io)?;
    let mut content = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut content)
        .map_err(io)?;
    if content.len() > limit {
        return Err(TemplateError::limit(
            "file with a template",
            content.len(),
            limit_name,
            limit,
        ));
    }
    String::from_utf8(content).map_err(|e| TemplateError::BadFile {
        path: path.to_owned(),
        reason: format!("no valid UTF-8: {e}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_default_template_goes_first() {
        let field = json!([
            {"name": "rag", "template": "r"},
            {"name": "tool_use", "template": "t"},
            {"name": "default", "template": "d"},
            {"name": "broken"},
        ]);
        let names: Vec<_> = named_templates(&field)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["default", "rag", "tool_use"]);
        assert_eq!(
            named_templates(&json!("x")),
            [("default".to_owned(), "x".to_owned())]
        );
        assert!(named_templates(&json!(3)).is_empty());
    }

    #[test]
    fn files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let limits = TemplateLimits::default();
        let find = || find_chat_template(folder.path(), &limits);
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(find().unwrap(), None);
        write("tokenizer_config.json", r#"{"chat_template": "c"}"#);
        assert_eq!(find().unwrap().unwrap().source, "c");
        write(
            "chat_template.json",
            r#"{"chat_template": [{"name": "x", "template": "j"}]}"#,
        );
        assert_eq!(find().unwrap().unwrap().source, "j");
        write("chat_template.json", r#"{"chat_template": 1}"#);
        assert!(matches!(find(), Err(TemplateError::BadFile { .. })));
        write("chat_template.jinja", "f");
        assert_eq!(find().unwrap().unwrap().source, "f");
        write("chat_template.jinja", &"x".repeat(limits.source_bytes + 1));
        assert!(matches!(find(), Err(TemplateError::LimitExceeded { .. })));
    }
}
