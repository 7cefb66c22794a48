//! The program `mx`.
//!
//! Data goes to stdout, everything else to stderr; progress bars and colour appear on terminals only. A broken pipe is
//! success. The exit codes are those of [`mx::ErrorKind`].

mod chat;
mod controls;
mod doctor;
mod flags;
mod generate;
mod interrupt;
mod load;
mod models;
mod policy;
mod remote;
mod show;
mod steer;
mod terminal;
mod tokenize;
mod trace;

use clap::Parser;
use flags::{Arguments, Command};
use std::process::ExitCode;

/// Exit code of failures that are not in the table.
const FAILURE: u8 = 1;
/// Exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Generate(flags) => generate::run(&flags),
        Command::Chat(flags) => chat::run(&flags),
        Command::Pull { model } => models::pull(&model),
        Command::List { json } => models::list(json),
        Command::Show { model, json } => show::run(&model, json),
        Command::Rm { model } => models::remove(&model),
        Command::Tokenize(flags) => tokenize::run(&flags),
        Command::Steer { command } => steer::run(&command),
        Command::Policy { command } => policy::run(&command),
        Command::Trace { command } => trace::run(&command),
        Command::Devices { json } => doctor::devices(json),
        Command::Doctor => doctor::run(),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if terminal::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::report(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// The exit code of an error, by the table of the library.
fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<mx::Error>())
        .map_or(FAILURE, |error| error.kind().exit_code())
}
