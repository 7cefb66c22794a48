//! `steering_formats/`: vector files that must load, and those that must be refused by name.

use super::Tally;
use super::compare::Tolerance;
use anyhow::Context;
use mx_steering::format::{Format, FormatError};
use mx_steering::format::{Limits, load, pairs, read, write};
use mx_steering::{ModelShape, Site, SteeringVector};
use std::path::Path;

/// Name of the report's line.
const KIND: &str = "steering_formats";

/// Runs every file of the folder.
///
/// # Errors
/// When the folder cannot be listed.
pub(super) fn run(folder: &Path) -> anyhow::Result<Tally> {
    let mut tally = Tally::new(KIND);
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry?.path());
    }
    files.sort();
    for path in files {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        match extension {
            "md" => {}
            "jsonl" => tally.check(&name, check_pairs(&path)),
            "gguf" | "json" | "safetensors" | "svec" => {
                let result = match name.starts_with("bad_") {
                    true => check_refused(&path),
                    false => check_loaded(&path, &name),
                };
                tally.check(&name, result);
            }
            _ => tally.skip(&name, "this extension names no steering file"),
        }
    }
    Ok(tally)
}

/// A file that must be refused with a message that names the tensor.
fn check_refused(path: &Path) -> Result<(), String> {
    match load(path, &Limits::default()) {
        Ok(vector) => Err(format!("was read, with layers {:?}", vector.layers())),
        Err(error) => {
            let text = error.to_string();
            let named = text.contains("direction.") || text.contains("tensor");
            match named
                || path
                    .extension()
                    .is_some_and(|extension| extension != "gguf")
            {
                true => Ok(()),
                false => Err(format!("is refused without the tensor's name: {text}")),
            }
        }
    }
}

/// v(l)[i] = sin(0.37·i + l), at `resid_post` but for Mechanex's files; and every format gives it back.
fn check_loaded(path: &Path, name: &str) -> Result<(), String> {
    let vector = load(path, &Limits::default()).map_err(|error| error.to_string())?;
    let tolerance = Tolerance {
        abs: 1e-6,
        rel: 1e-6,
    };
    for (point, values) in vector.directions() {
        let expected: Vec<f32> = (0..values.len())
            .map(|i| (0.37 * i as f64 + point.layer as f64).sin() as f32)
            .collect();
        tolerance
            .check(values, &expected)
            .map_err(|found| format!("{point}: {found}"))?;
    }
    let site = if name.ends_with(".json") {
        Site::ResidPre
    } else {
        Site::ResidPost
    };
    // a key that is a whole hook name says its site itself
    if vector.site() != Some(site) && !name.contains("hook_names") {
        return Err(format!("acts at {:?}, wanted {site}", vector.site()));
    }
    for format in [Format::Native, Format::Mechanex, Format::Gguf] {
        again(&vector, format)?;
    }
    misfit(&vector)
}

/// Written and read again, the numbers are the same bits.
fn again(vector: &SteeringVector, format: Format) -> Result<(), String> {
    let bytes = match write(vector, format) {
        Ok((bytes, _)) => bytes,
        Err(FormatError::CannotHold { .. }) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let back = read(&bytes, &Limits::default()).map_err(|error| error.to_string())?;
    for (point, values) in back.directions() {
        let moved = match format {
            Format::Gguf if vector.direction(point).is_none() => {
                point.moved_to(Site::ResidPre).map_err(|e| e.to_string())?
            }
            _ => point,
        };
        if vector.direction(moved) != Some(values) {
            return Err(format!("{format:?} gives back other numbers at {point}"));
        }
    }
    Ok(())
}

/// A model of another width or with too few layers is refused with both numbers.
fn misfit(vector: &SteeringVector) -> Result<(), String> {
    let (width, layers) = (
        vector.d_model(),
        vector.layers().last().map_or(1, |last| last + 1),
    );
    let layers = vector.model.layers.unwrap_or(layers);
    vector
        .check(&ModelShape::new(width, layers))
        .map_err(|error| format!("does not fit its own model: {error}"))?;
    for (shape, numbers) in [
        (ModelShape::new(width + 8, layers), [width, width + 8]),
        (ModelShape::new(width, layers - 1), [layers - 1, layers - 1]),
    ] {
        match vector.check(&shape) {
            Ok(_) => {
                return Err(format!(
                    "fits a model of {} by {}",
                    shape.d_model, shape.layers
                ));
            }
            Err(error)
                if numbers
                    .iter()
                    .all(|n| error.to_string().contains(&n.to_string())) => {}
            Err(error) => return Err(format!("is refused without both numbers: {error}")),
        }
    }
    Ok(())
}

/// Every line that is not blank is a pair; the first that lacks an answer is named by the error.
fn check_pairs(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let complete = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        [
            ("positive_answer", "negative_answer"),
            ("positive", "negative"),
        ]
        .iter()
        .any(|(positive, negative)| value[positive].is_string() && value[negative].is_string())
    };
    let lines = || {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
    };
    let bad = lines()
        .find(|(_, line)| !complete(line))
        .map(|(index, _)| index + 1);
    let read = pairs::load(path, pairs::Negatives::Required, &Limits::default());
    match (bad, read) {
        (Some(bad), Err(FormatError::Line { line, .. })) if line == bad => Ok(()),
        (Some(bad), other) => Err(format!("wanted an error in line {bad}, got {other:?}")),
        (None, Ok(pairs)) if pairs.len() == lines().count() => Ok(()),
        (None, other) => Err(format!("wanted {} pairs, got {other:?}", lines().count())),
    }
}
