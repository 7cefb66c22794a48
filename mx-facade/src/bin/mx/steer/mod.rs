//! `mx steer`.

mod behavior;
mod eval;
mod make;
mod progress;

use crate::{load, terminal};
use anyhow::Context;
use behavior::BehaviorCommand;
use clap::Subcommand;
use eval::{EvalFlags, PlotFlags};
use make::MakeFlags;
use mx::steer::SteeringVector;
use mx::steer::format::{self, Format, Limits};
use mx::steer::store::VectorStore;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum SteerCommand {
    /// Make a vector from contrastive pairs
    Make(Box<MakeFlags>),
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
    Eval(Box<EvalFlags>),
    /// Draw how belief in the answers of pairs follows the strength, as SVG
    Plot(Box<PlotFlags>),
    /// Make and list behaviours, which a generation can be watched for
    Behavior {
        #[command(subcommand)]
        command: BehaviorCommand,
    },
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

pub(crate) fn run(command: &SteerCommand) -> anyhow::Result<u8> {
    match command {
        SteerCommand::Make(flags) => make::run(flags)?,
        SteerCommand::List { json } => list(*json)?,
        SteerCommand::Show { vector } => show(vector)?,
        SteerCommand::Eval(flags) => eval::eval(flags)?,
        SteerCommand::Plot(flags) => eval::plot(flags)?,
        SteerCommand::Behavior { command } => behavior::run(command)?,
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
