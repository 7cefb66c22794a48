//! What can be typed.

use crate::controls::{ConstraintFlags, SteeringFlags, StrategyFlags};
use crate::policy::PolicyCommand;
use crate::remote::RouteFlags;
use crate::steer::SteerCommand;
use crate::trace::TraceCommand;
use clap::{Args, Parser, Subcommand};
use mx::Overflow;
use mx::runtime::device::DeviceId;
use mx::runtime::engine::cpu::{Format, KvFormat};
use mx::runtime::model::EngineChoice;
use std::path::PathBuf;

/// Controlled text generation on local models
#[derive(Parser)]
#[command(name = "mx", version, propagate_version = true, after_help = after_help())]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Answer a prompt, streaming the text
    Generate(Box<GenerateFlags>),
    /// Talk with a model
    Chat(Box<ChatFlags>),
    /// Fetch a model into the model folder
    Pull {
        /// Name, hub repository (org/repo[@revision][:file]) or path
        model: String,
    },
    /// List the models on this machine
    List {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Describe a model
    Show {
        /// Name, hub repository or path
        #[arg(default_value = mx::runtime::source::DEFAULT_MODEL)]
        model: String,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Delete a model from the model folder
    Rm {
        /// Name of the model
        model: String,
    },
    /// Turn text into tokens, or tokens into text
    Tokenize(TokenizeFlags),
    /// Make, keep and measure steering vectors
    Steer {
        #[command(subcommand)]
        command: SteerCommand,
    },
    /// Run, keep, compare and tune policies
    Policy {
        #[command(subcommand)]
        command: Box<PolicyCommand>,
    },
    /// Show, compare, repeat and question traces of `mx generate --trace`
    Trace {
        #[command(subcommand)]
        command: TraceCommand,
    },
    /// List the devices of this build and machine
    Devices {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Check this machine: folders, models, devices, sources
    Doctor,
}

#[derive(Args)]
pub(crate) struct GenerateFlags {
    /// The prompt; read from stdin where it is absent or `-`
    pub(crate) prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Continue the prompt as it stands instead of answering it
    #[arg(long)]
    pub(crate) raw: bool,
    /// Print one JSON object with text, tokens, settings and warnings instead of streaming
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    #[command(flatten)]
    pub(crate) sampling: SamplingFlags,
    #[command(flatten)]
    pub(crate) constraint: ConstraintFlags,
    #[command(flatten)]
    pub(crate) strategy: StrategyFlags,
    #[command(flatten)]
    pub(crate) steering: SteeringFlags,
    /// Run by a policy: the id of a saved one, or a file; exit code 1 where the output is not accepted
    #[arg(long, value_name = "ID|FILE")]
    pub(crate) policy: Option<String>,
    /// Let the policy's verifiers run generated Python, in a process of its own with limits
    #[arg(long)]
    pub(crate) allow_code_execution: bool,
    #[command(flatten)]
    pub(crate) route: RouteFlags,
}

#[derive(Args)]
pub(crate) struct ChatFlags {
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    #[command(flatten)]
    pub(crate) sampling: SamplingFlags,
}

/// Which model, and where.
#[derive(Args)]
pub(crate) struct ModelFlags {
    /// Name, model folder, .gguf file or hub repository
    #[arg(short, long, default_value = mx::runtime::source::DEFAULT_MODEL)]
    pub(crate) model: String,
    /// Device: flex, ndarray, wgpu, vulkan, cuda; see `mx devices`
    #[arg(long, default_value_t)]
    pub(crate) device: DeviceId,
    /// Engine: auto, burn, cpu (packed weights, only on the device flex)
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = engine)]
    pub(crate) engine: EngineChoice,
    /// Threads of the CPU engine [default: all processors]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<std::num::NonZeroUsize>,
    /// Let the CPU engine keep activations, keys and values in f32: slower, the reference of the same weights
    #[arg(long)]
    pub(crate) exact: bool,
    /// Quantise every matrix while loading: q8_0, q4_1 or q4_0; only on the CPU engine
    #[arg(long, value_name = "FORMAT", value_parser = weight_format)]
    pub(crate) quantize: Option<Format>,
    /// How the CPU engine stores keys and values: f16, fixed16 (13-bit integers, faster at length) or fixed8 (half
    /// the memory) [default: f16]
    #[arg(long, value_name = "FORMAT", value_parser = kv_format, conflicts_with = "exact")]
    pub(crate) kv: Option<KvFormat>,
    /// Say nothing on stderr but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// How the text is chosen.
#[derive(Args)]
pub(crate) struct SamplingFlags {
    /// System message of a chat model
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Most new tokens [default: 128; chat: 1024]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,
    /// Method: greedy, top-k, top-p, min-p, typical, ads, guided-generation, beam-search, constrained-beam-search,
    /// speculative-decoding, ssd, ensemble-sampling [default: top-k]
    #[arg(long, value_name = "NAME")]
    pub(crate) method: Option<String>,
    /// Softmax temperature, 0 is greedy [default: the model's, else 0.7]
    #[arg(short, long, value_name = "T", allow_negative_numbers = true)]
    pub(crate) temperature: Option<f64>,
    /// Keep the K most likely tokens, 0 keeps all [default: the model's, else 50 under top-k]
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub(crate) top_k: Option<i64>,
    /// Keep the smallest set of tokens with mass P [default: the model's, else 0.9 under top-p]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f64>,
    /// Keep tokens at least P times as likely as the best [default: 0.05 under min-p]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f64>,
    /// Keep locally typical tokens with mass P [default: 0.95 under typical]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) typical_p: Option<f64>,
    /// Divide the logits of tokens that occurred before [default: the model's, else 1]
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub(crate) repetition_penalty: Option<f64>,
    /// Seed of the random stream [default: random, and reported]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Text that ends the generation; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// What to do with a prompt that does not fit: error or truncate_prompt
    #[arg(long, value_name = "CHOICE", value_parser = overflow)]
    pub(crate) on_overflow: Option<Overflow>,
}

#[derive(Args)]
pub(crate) struct TokenizeFlags {
    /// The text; read from stdin where it is absent or `-`
    pub(crate) text: Option<String>,
    /// Name, model folder, .gguf file or hub repository
    #[arg(short, long, default_value = mx::runtime::source::DEFAULT_MODEL)]
    pub(crate) model: String,
    /// Parse special tokens in the text instead of spelling them out
    #[arg(long)]
    pub(crate) specials: bool,
    /// Print the ids alone, on one line
    #[arg(long)]
    pub(crate) ids: bool,
    /// The text is a list of ids: print the text they stand for
    #[arg(long, conflicts_with_all = ["specials", "ids"])]
    pub(crate) decode: bool,
}

pub(crate) fn engine(text: &str) -> Result<EngineChoice, String> {
    match text {
        "auto" => Ok(EngineChoice::Auto),
        "burn" => Ok(EngineChoice::Burn),
        "cpu" => Ok(EngineChoice::Cpu),
        _ => Err("wanted auto, burn or cpu".to_owned()),
    }
}

pub(crate) fn weight_format(text: &str) -> Result<Format, String> {
    match text {
        "q8_0" => Ok(Format::Q8_0),
        "q4_1" => Ok(Format::Q4_1),
        "q4_0" => Ok(Format::Q4_0),
        _ => Err("wanted q8_0, q4_1 or q4_0".to_owned()),
    }
}

pub(crate) fn kv_format(text: &str) -> Result<KvFormat, String> {
    match text {
        "f16" => Ok(KvFormat::F16),
        "fixed16" => Ok(KvFormat::Fixed16),
        "fixed8" => Ok(KvFormat::Fixed8),
        _ => Err("wanted f16, fixed16 or fixed8".to_owned()),
    }
}

fn overflow(text: &str) -> Result<Overflow, String> {
    match text {
        "error" => Ok(Overflow::Error),
        "truncate_prompt" | "truncate-prompt" => Ok(Overflow::TruncatePrompt),
        _ => Err("wanted error or truncate_prompt".to_owned()),
    }
}

fn after_help() -> String {
    let mut text =
        "Exit codes:\n    0  success, or the reader of a pipe went away\n    1  other failures\n"
            .to_owned();
    let mut kinds = mx::ErrorKind::ALL;
    kinds.sort_by_key(|kind| kind.exit_code());
    for kind in kinds {
        text += &format!("  {:>3}  {}\n", kind.exit_code(), kind.meaning());
    }
    text += "\nFolders: MX_HOME, or mx in the system's folder for application data.\n";
    text += "Fetching honours MX_OFFLINE, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.";
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn flags_are_consistent_and_every_one_has_help() {
        let mut command = Arguments::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            for argument in sub.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    sub.get_name(),
                    argument.get_id()
                );
            }
        }
    }
}
