//! `mx steer behavior`.

use super::print;
use super::progress::Told;
use crate::flags::ModelFlags;
use crate::interrupt::Interrupt;
use crate::{load, terminal};
use clap::{Args, Subcommand};
use mx::steer::Point;
use mx::steer::behaviour::{Sae, create_behaviour};
use mx::steer::format::pairs::Negatives;
use mx::steer::format::{Limits, pairs};
use mx::steering::{BehaviourStore, KeptBehaviour, ModelReader, shape, tokenise};
use std::path::PathBuf;

#[derive(Subcommand)]
pub(crate) enum BehaviorCommand {
    /// Make a behaviour from pairs whose positive answers show it
    Make(Box<BehaviorFlags>),
    /// List the behaviours, one name a line
    List,
    /// Describe a behaviour as JSON
    Show {
        /// Its name
        name: String,
    },
    /// Delete a behaviour
    Rm {
        /// Its name
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct BehaviorFlags {
    /// Its name
    name: String,
    /// Pairs, one JSON object a line: prompt, positive_answer (shows it), negative_answer (does not)
    pairs: PathBuf,
    /// Folder of a sparse autoencoder in SAELens' form: cfg.json, sae_weights.safetensors
    #[arg(long, value_name = "FOLDER")]
    sae: PathBuf,
    /// Place of the autoencoder, for example resid_pre.20 [default: that in its file]
    #[arg(long, value_name = "SITE.LAYER")]
    at: Option<Point>,
    /// What it is, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Steering vector that corrects it, by id or name [default: the difference of the pairs]
    #[arg(long, value_name = "VECTOR")]
    vector: Option<String>,
    #[command(flatten)]
    model: ModelFlags,
}

pub(super) fn run(command: &BehaviorCommand) -> anyhow::Result<()> {
    let store = store()?;
    match command {
        BehaviorCommand::Make(flags) => make(flags, &store),
        BehaviorCommand::List => {
            let names = store.names().into_iter();
            print(&names.map(|name| name + "\n").collect::<String>())
        }
        BehaviorCommand::Show { name } => {
            print(&(serde_json::to_string_pretty(&store.get(name)?)? + "\n"))
        }
        BehaviorCommand::Rm { name } => {
            store.delete(name)?;
            print(&format!("{name}\n"))
        }
    }
}

fn store() -> anyhow::Result<BehaviourStore> {
    let dir = mx::home::behaviours_dir(&load::env).ok_or_else(|| {
        anyhow::anyhow!("there is no home folder; set MX_HOME to a folder for behaviours")
    })?;
    Ok(BehaviourStore::new(dir))
}

fn make(flags: &BehaviorFlags, store: &BehaviourStore) -> anyhow::Result<()> {
    let limits = Limits::default();
    let pairs = pairs::load(&flags.pairs, Negatives::Required, &limits).map_err(mx::Error::from)?;
    let mut sae = Sae::load(&flags.sae, &limits).map_err(mx::Error::from)?;
    sae.point = flags.at.or(sae.point);
    let interrupt = Interrupt::install()?;
    let model = load::model(&flags.model, &interrupt)?;
    if sae.d_model() != model.config().d_model {
        let what = "autoencoder".to_owned();
        let (given, wanted) = (sae.d_model(), model.config().d_model);
        let error = mx::steer::SteeringError::Width {
            what,
            given,
            wanted,
        };
        return Err(mx::Error::from(error).into());
    }
    let tokens = tokenise(&pairs, &model)?;
    let mut told = Told::new("reading pairs", flags.model.quiet, interrupt.current());
    let mut watch = |progress| told.step(progress);
    let mut reader = ModelReader::new(&model);
    let made = create_behaviour(&flags.name, &tokens, &sae, &mut reader, &mut watch);
    let mut behaviour = made.map_err(mx::Error::from)?;
    drop(told);
    behaviour.description.clone_from(&flags.description);
    behaviour.steering_vector_id.clone_from(&flags.vector);
    if !flags.model.quiet {
        terminal::note(format_args!(
            "{}: {} of {} features, {} pairs",
            behaviour.point,
            behaviour.baseline.len(),
            behaviour.features,
            behaviour.pairs
        ));
    }
    store.put(&KeptBehaviour {
        behaviour,
        sae: std::path::absolute(&flags.sae)?,
        model: shape(&model).identity(),
    })?;
    print(&format!("{}\n", flags.name))
}
