//! Finds the goldens below a folder.

use anyhow::Context;
use std::path::{Path, PathBuf};

/// A golden file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file; for goldens that are a folder, the JSON file in it that describes it.
    pub path: PathBuf,
    /// What it holds.
    pub kind: Kind,
}

/// What a golden file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Cases of every sampling rule, one a line.
    Sampling,
    /// A tiny model beside its `golden.json`.
    TinyModel,
    /// A GGUF model beside its `golden.json`.
    GgufModel,
    /// Runs of the default model.
    Smollm2,
    /// Token ids of real tokenizers.
    Tokenizer,
    /// A tiny tokenizer beside its `golden.json`.
    TinyTokenizer,
    /// Quantised blocks.
    QuantBlocks,
    /// GGUF files that must be refused.
    GgufHostile,
    /// Safetensors files that must be refused.
    SafetensorsHostile,
    /// Steering vectors extracted from a tiny model.
    Extraction,
    /// Steering vector files.
    SteeringFormats,
    /// A format of ours that this version does not know.
    Unknown(String),
}

impl Kind {
    /// The name in the report.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Sampling => "sampling",
            Kind::TinyModel => "tiny_models",
            Kind::GgufModel => "gguf_models",
            Kind::Smollm2 => "smollm2",
            Kind::Tokenizer => "tokenizer",
            Kind::TinyTokenizer => "tiny_tokenizers",
            Kind::QuantBlocks => "gguf_quant_blocks",
            Kind::GgufHostile => "gguf_hostile",
            Kind::SafetensorsHostile => "safetensors_hostile",
            Kind::Extraction => "extraction",
            Kind::SteeringFormats => "steering_formats",
            Kind::Unknown(_) => "unknown",
        }
    }
}

/// All goldens below `dir`, in the order of their paths.
///
/// # Errors
/// When a folder cannot be listed or a JSON file not be read.
pub fn find(dir: &Path) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    visit(dir, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn visit(dir: &Path, found: &mut Vec<Found>) -> anyhow::Result<()> {
    if dir
        .file_name()
        .is_some_and(|name| name == "steering_formats")
    {
        found.push(Found {
            path: dir.join("README.md"),
            kind: Kind::SteeringFormats,
        });
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            visit(&path, found)?;
        } else if let Some(kind) = kind_of(&path)? {
            found.push(Found { path, kind });
        }
    }
    Ok(())
}

/// The kind of one file; `None` for files that are no golden.
fn kind_of(path: &Path) -> anyhow::Result<Option<Kind>> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let text = match extension {
        Some("json" | "jsonl") => {
            std::fs::read_to_string(path).with_context(|| path.display().to_string())?
        }
        _ => return Ok(None),
    };
    if extension == Some("jsonl") {
        let first: serde_json::Value =
            serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or_default();
        let is_case = ["id", "kind", "params", "expect"]
            .iter()
            .all(|key| first.get(key).is_some());
        return Ok(is_case.then_some(Kind::Sampling));
    }
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else {
        return Ok(None);
    };
    let Some(format) = value.get("format").and_then(|format| format.as_str()) else {
        return Ok(None);
    };
    let beside = |name: &str| path.with_file_name(name).exists();
    Ok(Some(match format {
        "mx-tiny-golden/1" => Kind::TinyModel,
        "mx-gguf-golden/1" => Kind::GgufModel,
        "mx-smollm2-golden/1" => Kind::Smollm2,
        "mx-tokenizer-golden/1" if beside("tokenizer.json") => Kind::TinyTokenizer,
        "mx-tokenizer-golden/1" => Kind::Tokenizer,
        "mx-gguf-quant-blocks/1" => Kind::QuantBlocks,
        "mx-gguf-hostile/1" => Kind::GgufHostile,
        "mx-safetensors-hostile/1" => Kind::SafetensorsHostile,
        "mx-tiny-extract/1" => Kind::Extraction,
        // Renderings of chat templates are checked beside the templates' code.
        "mx-chat-templates/1" => return Ok(None),
        other if other.starts_with("mx-") => Kind::Unknown(other.to_owned()),
        _ => return Ok(None),
    }))
}
