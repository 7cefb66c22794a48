//! Real schemas and the official suite: read from `MX_DATA_DIR`, skipped where that is absent.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::tests::{flexible, read};
use super::{Draft, Formats, Lexical, SchemaOptions};
use crate::{ByteSet, Limits};

fn data() -> PathBuf {
    match std::env::var_os("MX_DATA_DIR") {
        Some(folder) => folder.into(),
        None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data").into(),
    }
}

/// What became of one schema: passed, or why not.
fn judge(schema: &Value, options: &SchemaOptions, tests: &[(bool, String)]) -> Result<(), String> {
    let limits = Limits::default();
    let mut machine = match super::reader(schema, options, &ByteSet::ALL, &limits) {
        Ok((machine, _)) => machine,
        // A schema that nothing satisfies is refused; that is right when it has no valid instance.
        Err(crate::ConstrainError::Unsatisfiable { .. })
            if tests.iter().all(|(valid, _)| !valid) =>
        {
            return Ok(());
        }
        Err(error) => return Err(format!("compile: {error}")),
    };
    for (valid, text) in tests {
        match (valid, read(&mut machine, text)) {
            (true, Ok(Ok(()))) | (false, Ok(Err(_))) => {}
            (true, Ok(Err(at))) => {
                let from = (0..=at.saturating_sub(60))
                    .rev()
                    .find(|&i| text.is_char_boundary(i))
                    .unwrap();
                let to = (at..text.len())
                    .find(|&i| text.is_char_boundary(i))
                    .unwrap_or(text.len());
                return Err(format!(
                    "OVER at {at}: {} <|> {}",
                    &text[from..to],
                    text[to..].chars().take(30).collect::<String>()
                ));
            }
            (false, Ok(Ok(()))) => {
                return Err(format!(
                    "UNDER: {}",
                    text.chars().take(600).collect::<String>()
                ));
            }
            (_, Err(error)) => return Err(format!("run: {error}")),
        }
    }
    Ok(())
}

#[test]
fn real_schemas() {
    let Ok(lines) = std::fs::read_to_string(data().join("maskbench_dev.jsonl")) else {
        return;
    };
    let options = SchemaOptions {
        lexical: Lexical::Full,
        ..flexible()
    };
    let (mut total, mut failed, mut under) = (0, Vec::new(), 0);
    let only = std::env::var("MX_ONLY").ok();
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let id = case["id"].as_str().unwrap();
        if only.as_ref().is_some_and(|only| only != id) {
            continue;
        }
        total += 1;
        let tests: Vec<(bool, String)> = case["tests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| {
                (
                    t["valid"].as_bool().unwrap(),
                    t["text"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        let begun = std::time::Instant::now();
        if let Err(why) = judge(&case["schema"], &options, &tests) {
            under += usize::from(why.starts_with("UNDER"));
            failed.push(format!("{id}: {why}"));
        }
        if begun.elapsed().as_millis() > 300 {
            failed.push(format!("{id}: SLOW {:?}", begun.elapsed()));
        }
    }
    assert_eq!(under, 0, "{}", failed.join("\n"));
    assert!(
        failed.len() * 50 <= total,
        "{} of {total}\n{}",
        failed.len(),
        failed.join("\n")
    );
}

fn suite(name: &str, draft: Draft, formats: Formats) -> (usize, usize, BTreeMap<String, String>) {
    let Ok(text) = std::fs::read_to_string(data().join("json_schema_test_suite").join(name)) else {
        return (0, 0, BTreeMap::new());
    };
    let file: Value = serde_json::from_str(&text).unwrap();
    let documents = file["remotes"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(uri, v)| (uri.clone(), v.clone()))
        .collect();
    let options = SchemaOptions {
        draft: Some(draft),
        formats,
        lexical: Lexical::Full,
        documents,
        ..flexible()
    };
    let (mut total, mut passed, mut failed) = (0, 0, BTreeMap::new());
    for (file, groups) in file["files"].as_object().unwrap() {
        let optional = file.starts_with("optional");
        let mut options = options.clone();
        if file.starts_with("optional/format") {
            options.formats = Formats::Assert;
        }
        for group in groups.as_array().unwrap() {
            let tests: Vec<(bool, String)> = group["tests"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| (t["valid"].as_bool().unwrap(), t["data"].to_string()))
                .collect();
            let verdict = judge(&group["schema"], &options, &tests);
            if !optional {
                total += 1;
                passed += usize::from(verdict.is_ok());
            }
            if let Err(why) = verdict {
                failed.insert(
                    format!("{file}: {}", group["description"].as_str().unwrap()),
                    why,
                );
            }
        }
    }
    (total, passed, failed)
}

fn report(failed: &BTreeMap<String, String>) -> String {
    failed
        .iter()
        .map(|(name, why)| format!("{name}: {why}\n"))
        .collect()
}

#[test]
fn official_suite_2020_12() {
    let (total, passed, failed) = suite("draft2020-12.json", Draft::Draft202012, Formats::Annotate);
    assert!(
        passed * 100 >= total * 99,
        "{passed} of {total}\n{}",
        report(&failed)
    );
}

#[test]
fn official_suite_2019_09() {
    let (total, passed, failed) = suite("draft2019-09.json", Draft::Draft201909, Formats::Annotate);
    assert!(
        passed * 100 >= total * 99,
        "{passed} of {total}\n{}",
        report(&failed)
    );
}

#[test]
fn official_suite_7() {
    let (total, passed, failed) = suite("draft7.json", Draft::Draft7, Formats::Annotate);
    assert!(
        passed * 100 >= total * 99,
        "{passed} of {total}\n{}",
        report(&failed)
    );
}
