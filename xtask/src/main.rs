//! `cargo xtask`: goldens, benchmarks and checks of the workspace.

#![allow(clippy::print_stdout, reason = "this is a program")]

use anyhow::Context;
use clap::{Parser, Subcommand};
use mx_runtime::device::DeviceId;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use xtask::maskbench::command::{Answer, Maskbench, SchemaSuite, WORKER};
use xtask::{bench, golden, maskbench, model, sae, tidy, validity};

/// Goldens, benchmarks and checks of the mx workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure: decode, prefill, sampling, constrain, steering, strategies or all
    Bench {
        /// Names of benchmarks
        #[arg(default_value = "all")]
        names: Vec<String>,
        /// GGUF file of the model, where it is not the default one in the model folder
        #[arg(long, value_name = "FILE")]
        model: Option<PathBuf>,
        /// Timed runs of each case
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Write the records to a file, as one JSON array
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Run schemas with instances through a constrained-decoding engine; exit 1 where ours is unsound
    Maskbench(Maskbench),
    /// Run the official JSON Schema test suite through the same; exit 1 where ours is unsound
    SchemaSuite(SchemaSuite),
    /// What a worker process of both runs
    #[command(name = WORKER, hide = true)]
    MaskbenchWorker,
    /// Generate under real schemas with a real model; exit 1 where a finished output does not validate
    Validity {
        /// Schemas in the format of `maskbench`
        file: PathBuf,
        /// GGUF file of the model, where it is not the default one in the model folder
        #[arg(long, value_name = "FILE")]
        model: Option<PathBuf>,
        /// Schemas taken from the file, evenly spread over it
        #[arg(long, default_value_t = 100)]
        schemas: usize,
        /// Generations for each, 1 to 64
        #[arg(long, default_value_t = 10)]
        runs: usize,
        /// Longest generation
        #[arg(long, default_value_t = 256)]
        max_tokens: usize,
    },
    /// Train a small sparse autoencoder on a model's own activations, in SAELens' form
    Sae(sae::Options),
    /// Make models from models
    Model {
        #[command(subcommand)]
        command: model::ModelCommand,
    },
    /// Check what ARCHITECTURE.md promises; exit 1 where something is wrong
    Tidy,
    /// Run every golden file found below a folder; exit 1 on any failure
    Golden {
        /// The folder
        dir: PathBuf,
        /// Device of the burn engine
        #[arg(long, default_value_t)]
        device: DeviceId,
        /// The default model's GGUF file, where it is not in the model folder
        #[arg(long, value_name = "FILE")]
        smollm2: Option<PathBuf>,
        /// Gemma 3 270M's GGUF file, where it is not in the model folder
        #[arg(long, value_name = "FILE")]
        gemma3: Option<PathBuf>,
        /// Name every skipped case
        #[arg(long)]
        skipped: bool,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Bench {
            names,
            model,
            runs,
            json,
        } => {
            let model = model.or_else(|| golden::Models::on_this_machine().smollm2);
            println!("{}", serde_json::to_string_pretty(&bench::Machine::read())?);
            let records = bench::run(
                &names,
                &bench::Options {
                    model,
                    runs: runs.max(1),
                },
            )?;
            print!("{}", bench::table(&records));
            if let Some(file) = json {
                std::fs::write(file, serde_json::to_string_pretty(&records)? + "\n")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Maskbench(command) => Ok(told(&command.run()?)),
        Command::SchemaSuite(command) => Ok(told(&command.run()?)),
        Command::MaskbenchWorker => {
            maskbench::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Validity {
            file,
            model,
            schemas,
            runs,
            max_tokens,
        } => {
            let model = model.or_else(|| golden::Models::on_this_machine().smollm2);
            let model =
                model.context("the default model is not in the model folder; give --model")?;
            let options = validity::Options {
                schemas,
                runs,
                max_tokens,
            };
            let report = validity::run(&file, &model, options)?;
            report
                .refused
                .iter()
                .for_each(|line| println!("refused {line}"));
            report
                .invalid
                .iter()
                .for_each(|line| println!("INVALID {line}"));
            println!(
                "{} schemas: {} generations valid, {} cut by the length, {} invalid; {} schemas refused",
                report.schemas,
                report.valid,
                report.cut,
                report.invalid.len(),
                report.refused.len()
            );
            Ok(match report.invalid.is_empty() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            })
        }
        Command::Sae(options) => {
            let trained = sae::run(&sae::model(&options)?, &options)?;
            trained
                .sae
                .save(&options.out)
                .map_err(anyhow::Error::from)?;
            let left = trained.unexplained.last().copied().unwrap_or(1.0);
            println!(
                "{} rows, {} features; {:.1} % of the variance explained; written to {}",
                trained.rows,
                options.features,
                100.0 * (1.0 - left),
                options.out.display()
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Model {
            command: model::ModelCommand::Truncate { layers, model, out },
        } => {
            let model = model.or_else(|| golden::Models::on_this_machine().smollm2);
            let model =
                model.context("the default model is not in the model folder; give --model")?;
            let made = model::truncate(&model, layers, &out)?;
            println!(
                "{}: {} of {} blocks, {} tensors, {} bytes",
                out.display(),
                made.layers[1],
                made.layers[0],
                made.tensors,
                made.bytes
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Tidy => {
            let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
            let wrong = tidy::run(root)?;
            wrong.iter().for_each(|line| println!("{line}"));
            Ok(if wrong.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Golden {
            dir,
            device,
            smollm2,
            gemma3,
            skipped,
        } => {
            let found = golden::Models::on_this_machine();
            let models = golden::Models {
                smollm2: smollm2.or(found.smollm2),
                gemma3: gemma3.or(found.gemma3),
            };
            let tallies = golden::run(&dir, &golden::Options { device, models })?;
            print!("{}", golden::report(&tallies, skipped));
            let clean = tallies.iter().all(|tally| tally.failed.is_empty());
            Ok(if clean {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

/// Prints what a command found.
fn told(answer: &Answer) -> ExitCode {
    print!("{}", answer.text);
    match answer.sound {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
