//! `cargo xtask sae`: a small sparse autoencoder trained on a model's own activations.
//!
//! Rows are read from the pairs that mx-steering bundles, as the model is used: in its chat template. Enough to try
//! behaviours on a model that nobody has published an autoencoder for; no more than that.

use anyhow::Context;
use clap::Args;
use mx::pipeline::Loaded;
use mx::steering::{ModelReader, tokenise};
use mx_runtime::model::{LoadOptions, Model};
use mx_steering::behaviour::{Sae, TrainOptions, train};
use mx_steering::make::{Progress, Reader};
use mx_steering::presets::PresetRef;
use mx_steering::{Site, format::pairs::Pair};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What can be chosen.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Folder for cfg.json and sae_weights.safetensors
    pub out: PathBuf,
    /// GGUF file or folder of the model, where it is not the default one in the model folder
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Layer whose input is read [default: two thirds of the depth]
    #[arg(long)]
    pub layer: Option<usize>,
    /// Features
    #[arg(long, default_value_t = 256)]
    pub features: usize,
    /// Features active in a row
    #[arg(long, default_value_t = 16)]
    pub k: usize,
    /// Rounds over all rows
    #[arg(long, default_value_t = 8)]
    pub epochs: usize,
    /// Most texts read
    #[arg(long, default_value_t = 160)]
    pub texts: usize,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The autoencoder, with its place.
    pub sae: Sae,
    /// Rows that it was trained on.
    pub rows: usize,
    /// Share of the variance that it does not explain, after each round.
    pub unexplained: Vec<f64>,
}

/// Reads and trains.
///
/// # Errors
/// For a model that does not load or has no such layer, and options out of range.
pub fn run(model: &Path, options: &Options) -> anyhow::Result<Trained> {
    let model = Loaded::from(Arc::new(Model::load(model, &LoadOptions::default())?));
    let (layers, width) = (model.config().layers, model.config().d_model);
    let layer = options.layer.unwrap_or(layers * 2 / 3);
    let point = Site::ResidPre.at(layer);
    let mut reader = ModelReader::new(&model);
    let mut rows = Vec::new();
    for text in texts(&model, options.texts)? {
        let read = reader.read(&text, &[point]);
        let read = read.map_err(|error| anyhow::anyhow!("{error}"))?;
        // the attention sink would be the only thing it learns
        rows.extend_from_slice(
            read.first()
                .and_then(|rows| rows.get(width..))
                .unwrap_or_default(),
        );
    }
    let training = TrainOptions {
        features: options.features,
        k: options.k,
        epochs: options.epochs,
        ..TrainOptions::default()
    };
    let mut go_on = |_: Progress| ControlFlow::Continue(());
    let (mut sae, unexplained) = train(&rows, width, &training, &mut go_on)?;
    sae.point = Some(point);
    Ok(Trained {
        sae,
        rows: rows.len() / width,
        unexplained,
    })
}

/// The model's file: the one given, or the default one.
///
/// # Errors
/// Where it has not been fetched.
pub fn model(options: &Options) -> anyhow::Result<PathBuf> {
    let known = || crate::golden::Models::on_this_machine().smollm2;
    let found = options.model.clone().or_else(known);
    found.context("the default model has not been fetched")
}

/// Both poles of the bundled pairs, taking turns between the presets.
fn texts(model: &Loaded, most: usize) -> anyhow::Result<Vec<Vec<u32>>> {
    let presets = PresetRef::bundled().into_iter();
    let lists: Vec<Vec<Pair>> = presets
        .map(|preset| preset.preset.pairs(preset.tone))
        .collect::<Result<_, _>>()?;
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let mut texts = Vec::new();
    for index in 0..longest {
        for pair in lists.iter().filter_map(|list| list.get(index)) {
            if texts.len() >= most {
                return Ok(texts);
            }
            for tokens in tokenise(std::slice::from_ref(pair), model)? {
                texts.push(tokens.positive);
                texts.extend(tokens.negative);
            }
        }
    }
    Ok(texts)
}
