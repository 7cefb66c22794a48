//! `cargo xtask golden DIR`: runs every golden file below a folder.
//!
//! A file is recognised by its `format` field, not by its name, so any folder of the same layout works. Every kind
//! reports `kind: N passed, N failed, N skipped`; what is not built yet is skipped with its reason.

mod compare;
mod engines;
mod gguf_hostile;
mod gguf_model;
mod hostile;
mod quant_blocks;
mod safetensors_hostile;
mod sampling;
mod smollm2;
pub mod steering;
mod steering_extract;
mod steering_formats;
mod steering_smollm2;
mod tally;
mod tiny_model;
mod tiny_tokenizer;
mod tokenizer;
mod walk;

pub use tally::Tally;
pub use walk::{Found, find};

use mx_runtime::device::DeviceId;
use mx_runtime::source::{self, ModelRef, NoProgress, Store};
use std::path::{Path, PathBuf};

/// What the goldens run on.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Device of the burn engine.
    pub device: DeviceId,
    /// Real models that some goldens belong to.
    pub models: Models,
}

/// Where the real models are; `None` where one has not been fetched.
#[derive(Debug, Clone, Default)]
pub struct Models {
    /// The default model.
    pub smollm2: Option<PathBuf>,
    /// The second model, for its tokenizer.
    pub gemma3: Option<PathBuf>,
}

impl Models {
    /// The models that are on this machine; nothing is fetched.
    pub fn on_this_machine() -> Self {
        let env = |name: &str| std::env::var(name).ok();
        let find = |name: &str| {
            let store = Store::new(mx::home::models_dir(&env)?);
            let mut options = source::Options::from_env(&env);
            options.offline = true;
            let reference = ModelRef::parse(name).ok()?;
            source::resolve(&reference, &store, &options, &mut NoProgress)
                .ok()
                .map(|m| m.path)
        };
        Models {
            smollm2: find("smollm2"),
            gemma3: find("gemma3-270m"),
        }
    }

    /// The default model's GGUF file.
    pub fn smollm2(&self) -> Option<&Path> {
        self.smollm2.as_deref()
    }

    /// Gemma 3 270M's GGUF file.
    pub fn gemma3(&self) -> Option<&Path> {
        self.gemma3.as_deref()
    }
}

/// Runs every golden below `dir` and returns one tally a kind, sorted by kind.
///
/// # Errors
/// When `dir` cannot be read. A golden that cannot be read is a failure of its kind.
pub fn run(dir: &Path, options: &Options) -> anyhow::Result<Vec<Tally>> {
    let mut tallies: Vec<Tally> = Vec::new();
    for found in find(dir)? {
        let results = one(&found, options).unwrap_or_else(|error| {
            let mut tally = Tally::new(found.kind.name());
            tally.check(&found.path.display().to_string(), Err(format!("{error:#}")));
            vec![tally]
        });
        for result in results {
            match tallies.iter_mut().find(|tally| tally.kind == result.kind) {
                Some(tally) => tally.absorb(result),
                None => tallies.push(result),
            }
        }
    }
    tallies.sort_by(|a, b| a.kind.cmp(&b.kind));
    Ok(tallies)
}

/// The report: a line a kind, its failures, and why cases were skipped (each once, or every case with `all`).
pub fn report(tallies: &[Tally], all: bool) -> String {
    let mut text = String::new();
    for Tally {
        kind,
        passed,
        failed,
        skipped,
    } in tallies
    {
        let (failures, skips) = (failed.len(), skipped.len());
        text += &format!("{kind}: {passed} passed, {failures} failed, {skips} skipped\n");
        for failure in failed {
            text += &format!("  failed  {failure}\n");
        }
        let mut reasons: Vec<(&str, usize)> = Vec::new();
        for case in skipped {
            if all {
                text += &format!("  skipped {case}\n");
                continue;
            }
            let reason = case
                .rsplit_once(": ")
                .map_or(case.as_str(), |(_, reason)| reason);
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => reasons.push((reason, 1)),
            }
        }
        for (reason, count) in reasons {
            text += &format!("  skipped {count}: {reason}\n");
        }
    }
    text
}

fn one(found: &Found, options: &Options) -> anyhow::Result<Vec<Tally>> {
    use walk::Kind;
    let path = &found.path;
    let folder = path.parent().unwrap_or(path);
    let skip = |reason: &str| {
        let mut tally = Tally::new(found.kind.name());
        tally.skip(&path.display().to_string(), reason);
        Ok(vec![tally])
    };
    match &found.kind {
        Kind::Sampling => sampling::run(path),
        Kind::TinyModel => tiny_model::run(folder, options.device),
        Kind::GgufModel => gguf_model::run(folder, options.device),
        Kind::Smollm2 => smollm2::run(path, options.device, &options.models),
        Kind::Tokenizer => tokenizer::run(path, &options.models),
        Kind::TinyTokenizer => Ok(vec![tiny_tokenizer::run(folder)?]),
        Kind::QuantBlocks => Ok(vec![quant_blocks::run(path)?]),
        Kind::GgufHostile => Ok(vec![gguf_hostile::run(folder)?]),
        Kind::SafetensorsHostile => Ok(vec![safetensors_hostile::run(folder)?]),
        Kind::Extraction => Ok(vec![steering_extract::run(path, options.device)?]),
        Kind::SteeringFormats => Ok(vec![steering_formats::run(folder)?]),
        Kind::Unknown(format) => skip(&format!("format {format:?} is not known here")),
    }
}
