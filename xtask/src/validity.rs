//! `cargo xtask validity`: generations of a real model under real schemas; every one that finishes must validate.

use crate::maskbench;
use anyhow::Context;
use mx::{Client, FinishReason, GenerateRequest};
use mx_runtime::model::{LoadOptions, Model};
use std::path::Path;
use std::sync::Arc;

/// What is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Schemas taken from the file, evenly spread over it.
    pub schemas: usize,
    /// Generations for each.
    pub runs: usize,
    /// Longest generation.
    pub max_tokens: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            schemas: 100,
            runs: 10,
            max_tokens: 256,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Schemas that were generated under.
    pub schemas: usize,
    /// Generations that finished and validate.
    pub valid: usize,
    /// Generations cut by the length.
    pub cut: usize,
    /// Schemas that were refused, with the reason.
    pub refused: Vec<String>,
    /// Generations that finished and do not validate: id, text, reason.
    pub invalid: Vec<String>,
}

/// Generates under the schemas of a file in the format of `maskbench`, at temperature 1.
///
/// # Errors
/// When the file or the model cannot be read, or a generation fails.
pub fn run(file: &Path, model: &Path, options: Options) -> anyhow::Result<Report> {
    let cases = maskbench::read(file, None)?;
    let model = Arc::new(Model::load(model, &LoadOptions::default())?);
    let client = Client::with_model(model);
    let mut report = Report::default();
    let wanted = options.schemas.min(cases.len());
    for at in 0..wanted {
        let case = &cases[at * cases.len() / wanted];
        let judge = jsonschema::options()
            .should_validate_formats(false)
            .build(&case.schema);
        let judge = match judge {
            Ok(judge) => judge,
            Err(error) => {
                report.refused.push(format!("{}: judge: {error}", case.id));
                continue;
            }
        };
        let mut request = GenerateRequest::new("Write a short JSON document.")
            .json_schema(case.schema.clone())
            .temperature(1.0)
            .top_k(0)
            .max_tokens(options.max_tokens)
            .seed(at as u64);
        request.controls.n = Some(options.runs);
        let answer = match client.run(&request) {
            Ok(answer) => answer,
            Err(error @ mx::Error::Constrain(_)) => {
                report.refused.push(format!("{}: {error}", case.id));
                continue;
            }
            Err(error) => return Err(error).with_context(|| case.id.clone()),
        };
        report.schemas += 1;
        let single = [mx::Choice::from(&answer)];
        let choices = match answer.choices.is_empty() {
            true => &single[..],
            false => &answer.choices,
        };
        for choice in choices {
            if choice.finish_reason != FinishReason::Stop {
                report.cut += 1;
                continue;
            }
            let verdict = match serde_json::from_str(&choice.text) {
                Ok(value) => judge.validate(&value).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match verdict {
                Ok(()) => report.valid += 1,
                Err(reason) => {
                    let line = format!("{}: {} ({reason})", case.id, choice.text);
                    report.invalid.push(line);
                }
            }
        }
    }
    Ok(report)
}
