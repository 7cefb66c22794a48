//! Constrained decoding: schemas of our own with instances, judged token by token.

use mx_tests::data;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use xtask::golden::Models;
use xtask::maskbench::{
    self, Bounds, Case, Clock, Counts, EngineKind, Outcome, Place, Remotes, Setup, Words, failures,
};
use xtask::schema_suite;

/// Only a hang takes this long for one schema, however busy the machine is.
const HANG: Duration = Duration::from_secs(600);

/// Runs cases on the vocabulary of a model.
fn run(cases: &[Case], model: &Path, remotes: Remotes) -> Outcome {
    let words = Arc::new(Words::read(model).unwrap());
    let setup = Setup {
        engine: EngineKind::Mx,
        model: model.to_owned(),
        remotes,
        clock: Clock::Wall,
    };
    let bounds = Bounds {
        deadline: HANG,
        ..Bounds::default()
    };
    maskbench::run(cases, &setup, Some(&words), &Place::Thread, bounds).unwrap()
}

fn our_cases() -> Vec<Case> {
    maskbench::read(&data::path("constrain/schemas.jsonl"), None).unwrap()
}

/// A file of the third-party data; `None` where it is not on this machine.
fn third_party(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("MX_DATA_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = folder.join(name);
    if !path.exists() {
        eprintln!("skipped: {name} is not on this machine");
    }
    path.exists().then_some(path)
}

fn every_instance_is_right(model: &Path) {
    let cases = our_cases();
    assert!(cases.len() > 40);
    let outcome = run(&cases, model, Remotes::new());
    let wrong = failures(&cases, &outcome.lines);
    assert!(wrong.is_empty(), "{wrong}");
    let counts = Counts::of(&outcome.lines);
    assert_eq!(counts.pass, cases.len(), "{counts:?}");
    // A run that judged nothing must not look like success.
    let judged: usize = outcome.lines.iter().map(|line| line.tests.len()).sum();
    assert_eq!(
        judged,
        cases.iter().map(|case| case.tests.len()).sum::<usize>()
    );
    assert!(
        outcome
            .lines
            .iter()
            .all(|line| line.masks().count() > line.tests.len())
    );
}

#[test]
fn every_instance_is_right_on_a_small_vocabulary() {
    every_instance_is_right(&data::gguf("llama_gqa_tied"));
}

#[test]
fn every_instance_is_right_on_real_vocabularies() {
    let models = Models::on_this_machine();
    for (name, model) in [("smollm2", models.smollm2), ("gemma3", models.gemma3)] {
        match model {
            Some(model) => every_instance_is_right(&model),
            None => eprintln!("skipped: {name} has not been fetched"),
        }
    }
}

#[test]
fn no_invalid_instance_of_the_development_schemas_goes_through() {
    const STEP: usize = 13;
    let Some(file) = third_party("maskbench_dev.jsonl") else {
        return;
    };
    let cases: Vec<Case> = maskbench::read(&file, None)
        .unwrap()
        .into_iter()
        .step_by(STEP)
        .collect();
    let outcome = run(&cases, &data::gguf("llama_gqa_tied"), Remotes::new());
    let (counts, wrong) = (Counts::of(&outcome.lines), failures(&cases, &outcome.lines));
    let lost = counts.under + counts.timeout + counts.crash + counts.runtime_error;
    assert_eq!(lost, 0, "{wrong}");
    assert!(
        counts.pass_rate() >= 98.0,
        "{}: {wrong}",
        counts.pass_rate()
    );
}

#[test]
fn the_official_suite_is_never_under_constrained() {
    for (draft, least) in [
        ("draft7", 97.0),
        ("draft2019-09", 95.0),
        ("draft2020-12", 95.0),
    ] {
        let Some(file) = third_party(&format!("json_schema_test_suite/{draft}.json")) else {
            continue;
        };
        let suite = schema_suite::read(&file).unwrap();
        let outcome = run(&suite.cases, &data::gguf("llama_gqa_tied"), suite.remotes);
        let (required, _) = schema_suite::counts(&outcome.lines);
        let wrong = failures(&suite.cases, &outcome.lines);
        assert_eq!(
            required.under + required.timeout + required.crash,
            0,
            "{wrong}"
        );
        assert!(
            required.pass_rate() >= least,
            "{draft} {}: {wrong}",
            required.pass_rate()
        );
    }
}

/// A sample of `cargo xtask validity`: the default model under schemas of ours.
#[test]
fn what_the_default_model_finishes_validates() {
    let Some(model) = Models::on_this_machine().smollm2 else {
        eprintln!("skipped: the default model is not on this machine");
        return;
    };
    let options = xtask::validity::Options {
        schemas: 10,
        runs: 2,
        max_tokens: 120,
    };
    let report =
        xtask::validity::run(&data::path("constrain/schemas.jsonl"), &model, options).unwrap();
    assert_eq!(
        (report.invalid.len(), report.refused.len()),
        (0, 0),
        "{report:?}"
    );
    assert_eq!((report.schemas, report.valid + report.cut), (10, 20));
    assert!(report.valid >= 3, "{report:?}");
}
