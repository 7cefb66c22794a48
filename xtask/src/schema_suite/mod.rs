//! `cargo xtask schema-suite`: the official JSON Schema test suite through a constrained-decoding engine.
//!
//! A group of the suite is a schema with instances, so it runs as a case of [`maskbench`](crate::maskbench). The
//! remote schemas of the suite are registered by the caller, formats follow the draft's own rule: asserted up to
//! draft 7, annotations from 2019-09 on, except in the optional tests of the formats themselves.

mod text;

use crate::maskbench::{Case, Counts, Draft, Formats, Instance, Line, Remotes, Rules};
use anyhow::{Context, bail};
use serde_json::Value;
use std::path::Path;

/// Where the names of optional tests begin.
const OPTIONAL: &str = "optional/";

/// Where the names of the tests begin that want formats asserted in every draft.
const FORMATS: &str = "optional/format/";

/// One draft of the suite.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The groups, as cases; their dataset is the file of the group.
    pub cases: Vec<Case>,
    /// The schemas that others refer to.
    pub remotes: Remotes,
}

/// Reads a draft of the suite.
///
/// # Errors
/// For a file that cannot be read or is no suite.
pub fn read(path: &Path) -> anyhow::Result<Suite> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    parse(&text).with_context(|| path.display().to_string())
}

/// Reads a draft of the suite from its text.
///
/// # Errors
/// For text that is no suite.
pub fn parse(text: &str) -> anyhow::Result<Suite> {
    let (mut draft, mut files, mut remotes) = (None, None, "{}");
    for (key, value) in text::members(text)? {
        match key.as_str() {
            "draft" => draft = Some(serde_json::from_str::<Draft>(value)?),
            "files" => files = Some(value),
            "remotes" => remotes = value,
            _ => {}
        }
    }
    let draft = draft.context("no draft")?;
    let mut cases = Vec::new();
    for (file, groups) in text::members(files.context("no files")?)? {
        for (index, group) in text::elements(groups)?.into_iter().enumerate() {
            let case = group_case(&file, group, draft);
            cases.push(case.with_context(|| format!("{file}: group {index}"))?);
        }
    }
    let remotes = text::members(remotes)?
        .into_iter()
        .map(|(address, schema)| Ok((address, serde_json::from_str(schema)?)))
        .collect::<anyhow::Result<_>>()?;
    Ok(Suite { cases, remotes })
}

fn group_case(file: &str, group: &str, draft: Draft) -> anyhow::Result<Case> {
    let (mut description, mut schema, mut tests) = (String::new(), None, Vec::new());
    for (key, value) in text::members(group)? {
        match key.as_str() {
            "description" => description = serde_json::from_str(value)?,
            "schema" => schema = Some(serde_json::from_str::<Value>(value)?),
            "tests" => {
                tests = text::elements(value)?
                    .into_iter()
                    .map(instance)
                    .collect::<anyhow::Result<_>>()?;
            }
            _ => {}
        }
    }
    let asserts = matches!(draft, Draft::D4 | Draft::D6 | Draft::D7) || file.starts_with(FORMATS);
    Ok(Case {
        id: format!("{file}: {description}"),
        dataset: file.to_owned(),
        features: Vec::new(),
        schema: schema.context("no schema")?,
        tests,
        rules: Rules {
            draft: Some(draft),
            formats: match asserts {
                true => Formats::Assert,
                false => Formats::Annotate,
            },
        },
    })
}

fn instance(test: &str) -> anyhow::Result<Instance> {
    let (mut why, mut data, mut valid) = (None, None, None);
    for (key, value) in text::members(test)? {
        match key.as_str() {
            "description" => why = Some(serde_json::from_str(value)?),
            "data" => data = Some(text::spaced(value)),
            "valid" => valid = Some(serde_json::from_str(value)?),
            _ => {}
        }
    }
    match (data, valid) {
        (Some(text), Some(valid)) => Ok(Instance { valid, text, why }),
        _ => bail!("a test without data or validity"),
    }
}

/// The counts of required and of optional groups.
pub fn counts(lines: &[Line]) -> (Counts, Counts) {
    let optional = |line: &&Line| line.dataset.starts_with(OPTIONAL);
    (
        Counts::of(lines.iter().filter(|line| !optional(line))),
        Counts::of(lines.iter().filter(optional)),
    )
}
