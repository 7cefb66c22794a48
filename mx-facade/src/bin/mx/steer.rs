//! `mx steer`.

use crate::flags::ModelFlags;
use crate::interrupt::Interrupt;
use crate::{load, terminal};
use anyhow::Context;
use clap::{Args, Subcommand};
use mx::steer::SteeringVector;
use mx::steer::apply::parse_layers;
use mx::steer::evaluate::LogitShift;
use mx::steer::format::pairs::Negatives;
use mx::steer::format::{self, Format, Limits, pairs};
use mx::steer::make::{Progress, Recipe, make};
use mx::steer::plot::Chart;
use mx::steer::presets::{Preset, PresetModel, PresetReport, Split, measure, tune};
use mx::steer::store::VectorStore;
use mx::steering::{MeasuredModel, ModelReader, Vectors, shape, tokenise};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Strengths that `eval` tries for a preset, relative to the stream.
const STRENGTHS: [f32; 6] = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0];
/// Most that a preset may raise the perplexity of neutral text.
const MAX_PERPLEXITY_RATIO: f64 = 1.3;
/// Strengths of the logit shift, unless others are given.
const SHIFT: [f32; 5] = [-1.0, -0.5, 0.5, 1.0, 2.0];

#[derive(Subcommand)]
pub(crate) enum SteerCommand {
    /// Make a vector from contrastive pairs
    Make(MakeFlags),
    /// List the vectors of the store
    List {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Describe a vector: an id, a name or a file
    Show {
        /// The vector
        vector: String,
    },
    /// Measure a preset: its own metric, and what it does to neutral text
    Eval(EvalFlags),
    /// Draw how belief in the answers of pairs follows the strength, as SVG
    Plot(PlotFlags),
    /// Write a vector to a file: .safetensors, .json (Mechanex) or .gguf (llama.cpp)
    Export {
        /// The vector
        vector: String,
        /// The file
        file: PathBuf,
    },
    /// Take a vector file into the store
    Import {
        /// The file
        file: PathBuf,
        /// Name of the vector [default: that in the file, else the file's]
        #[arg(long)]
        name: Option<String>,
    },
    /// Give a vector another name
    Rename {
        /// The vector
        vector: String,
        /// The new name
        name: String,
    },
    /// Give a vector a label
    Label {
        /// The vector
        vector: String,
        /// The label
        label: String,
    },
    /// Delete a vector
    Rm {
        /// The vector
        vector: String,
    },
}

#[derive(Args)]
pub(crate) struct MakeFlags {
    /// Pairs, one JSON object a line: prompt, positive_answer, negative_answer
    pairs: PathBuf,
    /// Method: caa, caa_mechanex, mean_difference, pca_diff, pca_center, repe
    #[arg(long, default_value = "caa")]
    method: String,
    /// Layers, for example 10-14,20 [default: eight from two thirds of the depth on]
    #[arg(long)]
    layers: Option<String>,
    /// Name of the vector [default: that of the file]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    model: ModelFlags,
}

#[derive(Args)]
pub(crate) struct EvalFlags {
    /// The preset
    preset: String,
    /// Measure at this strength instead of choosing one
    #[arg(long, allow_negative_numbers = true)]
    strength: Option<f32>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelFlags,
}

#[derive(Args)]
pub(crate) struct PlotFlags {
    /// The vector
    vector: String,
    /// Pairs, one JSON object a line
    pairs: PathBuf,
    /// The file to write
    #[arg(long, default_value = "shift.svg")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelFlags,
}

pub(crate) fn run(command: &SteerCommand) -> anyhow::Result<u8> {
    match command {
        SteerCommand::Make(flags) => make_vector(flags)?,
        SteerCommand::List { json } => list(*json)?,
        SteerCommand::Show { vector } => show(vector)?,
        SteerCommand::Eval(flags) => eval(flags)?,
        SteerCommand::Plot(flags) => plot(flags)?,
        SteerCommand::Export { vector, file } => export(vector, file)?,
        SteerCommand::Import { file, name } => import(file, name.as_deref())?,
        SteerCommand::Rename { vector, name } => said(store()?.rename(vector, name))?,
        SteerCommand::Label { vector, label } => said(store()?.label(vector, label))?,
        SteerCommand::Rm { vector } => said(store()?.delete(vector))?,
    }
    Ok(0)
}

fn store() -> anyhow::Result<VectorStore> {
    let dir = mx::home::vectors_dir(&load::env).ok_or_else(|| {
        anyhow::anyhow!("there is no home folder; set MX_HOME to a folder for vectors")
    })?;
    Ok(VectorStore::new(dir))
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(terminal::data(text)?)
}

/// Prints an id.
fn said(id: Result<String, mx::steer::store::StoreError>) -> anyhow::Result<()> {
    print(&format!("{}\n", id.map_err(mx::Error::from)?))
}

/// A vector by id, name or file.
fn vector(reference: &str) -> anyhow::Result<SteeringVector> {
    let path = Path::new(reference);
    let found = match path.is_file() {
        true => format::load(path, &Limits::default()).map_err(mx::Error::from),
        false => store()?.get(reference).map_err(mx::Error::from),
    };
    Ok(found?)
}

fn make_vector(flags: &MakeFlags) -> anyhow::Result<()> {
    let pairs = pairs::load(&flags.pairs, Negatives::Required, &Limits::default())
        .map_err(mx::Error::from)?;
    let layers = flags.layers.as_deref().map(parse_layers).transpose();
    let layers = layers.map_err(mx::Error::from)?.unwrap_or_default();
    let interrupt = Interrupt::install()?;
    let model = load::model(&flags.model, &interrupt)?;
    let tokens = tokenise(&pairs, &model)?;
    let recipe = Recipe::named(&flags.method, &layers, &shape(&model)).map_err(mx::Error::from)?;
    let cancel = interrupt.current();
    let mut watch = |_: Progress| match cancel.is_cancelled() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let mut made = make(&recipe, &tokens, &mut ModelReader::new(&model), &mut watch)
        .map_err(mx::Error::from)?;
    made.model = shape(&model).identity();
    made.name = match &flags.name {
        Some(name) => name.clone(),
        None => flags
            .pairs
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    made.provenance.source = Some(format!("{} pairs", pairs.len()));
    said(store()?.put(&made))
}

fn list(json: bool) -> anyhow::Result<()> {
    let (summaries, damaged) = store()?.list().map_err(mx::Error::from)?;
    for error in damaged {
        terminal::warn(error);
    }
    if json {
        return print(&(serde_json::to_string_pretty(&summaries)? + "\n"));
    }
    for vector in &summaries {
        let model = vector.model.as_deref().unwrap_or("?");
        print(&format!(
            "{}  {}  {}  {}\n",
            vector.id,
            terminal::printable(&vector.name),
            vector.method,
            terminal::printable(model)
        ))?;
    }
    Ok(())
}

fn show(reference: &str) -> anyhow::Result<()> {
    let vector = vector(reference)?;
    let norms = vector.norms();
    let mut lines = vec![
        format!("id      {}", vector.id()),
        format!("name    {}", terminal::printable(&vector.name)),
        format!("label   {}", terminal::printable(&vector.label)),
        format!("method  {}", vector.method.name()),
        format!("model   {}", vector.model.name.as_deref().unwrap_or("?")),
        format!("width   {}", vector.d_model()),
    ];
    lines.extend(
        norms
            .iter()
            .map(|(point, norm)| format!("{point}  norm {norm:.4}")),
    );
    if let Some(measured) = &vector.measured {
        lines.push(format!("measured {}", serde_json::to_string(measured)?));
    }
    print(&(lines.join("\n") + "\n"))
}

fn eval(flags: &EvalFlags) -> anyhow::Result<()> {
    let preset = Preset::from_str(&flags.preset).map_err(mx::Error::from)?;
    let interrupt = Interrupt::install()?;
    let model = load::model(&flags.model, &interrupt)?;
    let store = store()?;
    let vectors = Vectors::new(store.clone());
    if !flags.model.quiet {
        terminal::note("making the preset's vector for this model, unless it is kept already");
    }
    let mut vector = vectors.find(preset.name(), &model)?.as_ref().clone();
    let cancel = interrupt.current();
    let mut watch = |_: Progress| match cancel.is_cancelled() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let metric = preset.default_metric();
    let mut measured = MeasuredModel::new(&model);
    let report = match flags.strength {
        Some(strength) => measure(
            preset,
            &metric,
            &vector,
            strength,
            Split::All,
            &mut measured,
            &mut watch,
        ),
        None => tune(
            preset,
            &metric,
            &mut vector,
            &STRENGTHS,
            MAX_PERPLEXITY_RATIO,
            &mut measured,
            &mut watch,
        ),
    };
    let report = report.map_err(mx::Error::from)?;
    if flags.strength.is_none() {
        store.put(&vector).map_err(mx::Error::from)?;
    }
    if let Some(warning) = report.warning() {
        terminal::warn(warning);
    }
    if flags.json {
        return print(&(serde_json::to_string_pretty(&report)? + "\n"));
    }
    print(&format!(
        "{}: {}\n{}",
        preset,
        report.metric,
        PresetReport::table(std::slice::from_ref(&report))
    ))
}

fn plot(flags: &PlotFlags) -> anyhow::Result<()> {
    let pairs = pairs::load(&flags.pairs, Negatives::Required, &Limits::default())
        .map_err(mx::Error::from)?;
    let vector = vector(&flags.vector)?;
    let interrupt = Interrupt::install()?;
    let model = load::model(&flags.model, &interrupt)?;
    let mut measured = MeasuredModel::new(&model);
    let mut score = |strength: f32, index: usize| {
        let steer = (strength != 0.0).then_some((&vector, strength));
        measured
            .belief(&pairs[index], steer)
            .map_err(mx::steer::SteeringError::Model)
    };
    let shift = LogitShift::measure(&SHIFT, pairs.len(), 1, &mut score).map_err(mx::Error::from)?;
    let svg = Chart::of_shift(&vector.display_name(), &shift).to_svg();
    std::fs::write(&flags.out, svg)
        .with_context(|| format!("cannot write {}", flags.out.display()))?;
    print(&shift.table().to_string())
}

fn export(reference: &str, file: &Path) -> anyhow::Result<()> {
    let format = Format::of_path(file).ok_or_else(|| mx::Error::Request {
        field: "file".to_owned(),
        given: file.display().to_string(),
        wanted: "a name ending in .safetensors, .json or .gguf".to_owned(),
    })?;
    let (bytes, warnings) = format::write(&vector(reference)?, format).map_err(mx::Error::from)?;
    warnings.iter().for_each(terminal::warn);
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

fn import(file: &Path, name: Option<&str>) -> anyhow::Result<()> {
    let mut vector = format::load(file, &Limits::default()).map_err(mx::Error::from)?;
    if let Some(name) = name {
        vector.name = name.to_owned();
    }
    said(store()?.put(&vector))
}
