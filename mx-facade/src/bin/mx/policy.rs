//! `mx policy`.

use crate::flags::{ModelFlags, SamplingFlags};
use crate::interrupt::Interrupt;
use crate::remote::RouteFlags;
use crate::{FAILURE, load, terminal};
use anyhow::Context;
use clap::{Args, Subcommand};
use mx::GenerateRequest;
use mx::policy::{CodeLimits, Policy, PolicyPreset, PolicyRun, PolicyStore, Search, constructors};
use mx::request::schema_from_shorthand;
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Run a policy on a prompt; exit code 1 where the output is not accepted
    Run {
        /// Id of a saved policy, or a file
        policy: String,
        /// The prompt; read from stdin where it is absent or `-`
        prompt: Option<String>,
        /// One JSON object with result, score and trace instead of the text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        how: RunFlags,
    },
    /// Run several policies on one prompt
    Compare {
        /// Ids of saved policies, or files
        #[arg(required = true)]
        policies: Vec<String>,
        /// The prompt; read from stdin where it is absent
        #[arg(long, value_name = "TEXT")]
        prompt: Option<String>,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        how: RunFlags,
    },
    /// Run a policy on every line of a file
    Evaluate {
        /// Id of a saved policy, or a file
        policy: String,
        /// File with a prompt on every line; stdin where it is absent or `-`
        prompts: Option<PathBuf>,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        how: RunFlags,
    },
    /// Search for a better policy over the prompts of a file, and print it
    Tune {
        /// Id of a saved policy, or a file
        policy: String,
        /// File with a prompt on every line; stdin where it is absent or `-`
        prompts: Option<PathBuf>,
        /// Values to try, for example sampling.temperature=0.2,0.7; may be given for sampling.method,
        /// sampling.temperature, sampling.top_p and optimization.best_of_n
        #[arg(long = "over", value_name = "FIELD=VALUE,…", required = true)]
        over: Vec<String>,
        /// Most combinations tried [default: 24]
        #[arg(long, value_name = "N")]
        max_trials: Option<usize>,
        /// One JSON object with all trials instead of the best policy
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        how: RunFlags,
    },
    /// List the saved policies
    List {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print a saved policy
    Show {
        /// Its id, or a file
        policy: String,
    },
    /// Save the policy of a file and print its id
    Save {
        /// The file; stdin where it is `-`
        file: PathBuf,
        /// Its id [default: that in the file, else a new one]
        #[arg(long)]
        id: Option<String>,
    },
    /// Delete a saved policy
    Delete {
        /// Its id
        id: String,
    },
    /// Print a policy for a common task, to be changed or saved
    New {
        #[command(subcommand)]
        which: Constructor,
    },
    /// List the published presets
    Presets {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Publish a policy as a preset and print the preset's id
    Publish {
        /// Id of a saved policy, or a file
        policy: String,
        /// The preset's name
        #[arg(long)]
        name: String,
        /// Show it to others: visibility public instead of private
        #[arg(long)]
        public: bool,
        /// A word to find it by; may be given several times
        #[arg(long)]
        tag: Vec<String>,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
    },
    /// Save the policy of a preset as an own one and print its id
    Clone {
        /// The preset's id
        preset: String,
    },
}

/// Policies for common tasks.
#[derive(Subcommand)]
pub(crate) enum Constructor {
    /// JSON that satisfies a schema, and nothing else
    StrictJsonExtraction {
        /// JSON Schema: a file, JSON text, or fields like `name: string, age: integer?`
        schema: String,
    },
    /// A tool's name and arguments, quickly
    FastToolRouter,
    /// Answers that differ
    DiverseChatbot,
    /// Several models vote on every token
    EnsembleVote {
        /// The models beside the main one
        #[arg(required = true)]
        models: Vec<String>,
    },
    /// A steering preset
    SteeringPreset {
        /// The preset, for example brevity
        preset: String,
        /// The sampling method
        #[arg(long, default_value = "top-k")]
        method: String,
    },
}

/// How a policy is run.
#[derive(Args)]
pub(crate) struct RunFlags {
    /// Let the verifiers code_compile and unit_tests run generated Python, in a process of its own with limits
    #[arg(long)]
    allow_code_execution: bool,
    /// Continue the prompt as it stands instead of answering it
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    route: RouteFlags,
}

pub(crate) fn run(command: &PolicyCommand) -> anyhow::Result<u8> {
    match command {
        PolicyCommand::Run {
            policy,
            prompt,
            json,
            how,
        } => run_one(policy, prompt.as_deref(), *json, how),
        PolicyCommand::Compare {
            policies,
            prompt,
            json,
            how,
        } => compare(policies, prompt.as_deref(), *json, how),
        PolicyCommand::Evaluate {
            policy,
            prompts,
            json,
            how,
        } => evaluate(policy, prompts.as_deref(), *json, how),
        PolicyCommand::Tune {
            policy,
            prompts,
            over,
            max_trials,
            json,
            how,
        } => tune(policy, prompts.as_deref(), over, *max_trials, *json, how),
        PolicyCommand::List { json } => list(*json),
        PolicyCommand::Show { policy } => print(&find(policy)?),
        PolicyCommand::Save { file, id } => {
            let mut policy = parse(&text_of(file)?, &file.display().to_string())?;
            if let Some(id) = id {
                policy.id = id.clone().into();
            }
            line(&store()?.save(&policy).map_err(mx::Error::from)?)
        }
        PolicyCommand::Delete { id } => {
            store()?.delete(id).map_err(mx::Error::from)?;
            Ok(0)
        }
        PolicyCommand::New { which } => print(&made(which)?),
        PolicyCommand::Presets { json } => presets(*json),
        PolicyCommand::Publish {
            policy,
            name,
            public,
            tag,
            description,
        } => {
            let mut preset = PolicyPreset::new(name, find(policy)?);
            if *public {
                preset.visibility = "public".to_owned();
            }
            preset.tags.clone_from(tag);
            preset.description.clone_from(description);
            line(&store()?.publish(&preset).map_err(mx::Error::from)?)
        }
        PolicyCommand::Clone { preset } => {
            line(&store()?.clone_preset(preset).map_err(mx::Error::from)?)
        }
    }
}

fn run_one(policy: &str, prompt: Option<&str>, json: bool, how: &RunFlags) -> anyhow::Result<u8> {
    let prompt = crate::generate::text_or_stdin(prompt, "a prompt")?;
    let policy = find(policy)?;
    let request = how.request(&prompt)?;
    let (client, interrupt) = how.client(&request, [&policy])?;
    let policies = client.policies().with_cancel(interrupt.current());
    let run = policies.run_with(&request, &policy)?;
    if json {
        print_json(&run)?;
    } else {
        let end = if run.output.ends_with('\n') { "" } else { "\n" };
        terminal::data(&format!("{}{end}", run.output))?;
    }
    told(&run, how);
    if !how.model.quiet {
        let judged = if run.accepted {
            "accepted"
        } else {
            "not accepted"
        };
        terminal::note(format_args!(
            "({judged}, score {:.2}, {} tokens in {} ms)",
            run.score, run.total_tokens, run.latency_ms
        ));
    }
    Ok(if run.accepted { 0 } else { FAILURE })
}

fn compare(
    names: &[String],
    prompt: Option<&str>,
    json: bool,
    how: &RunFlags,
) -> anyhow::Result<u8> {
    let prompt = crate::generate::text_or_stdin(prompt, "a prompt as --prompt")?;
    let found = names
        .iter()
        .map(|name| find(name))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let request = how.request(&prompt)?;
    let (client, interrupt) = how.client(&request, &found)?;
    let policies = client.policies().with_cancel(interrupt.current());
    let runs = policies.compare(&request, &found)?;
    runs.iter().for_each(|run| told(run, how));
    if json {
        print_json(&serde_json::json!({ "results": runs }))?;
        return Ok(0);
    }
    let mut rows = vec![row(["policy", "accepted", "score", "ms", "output"])];
    rows.extend(names.iter().zip(&runs).map(|(name, run)| {
        row([
            name,
            if run.accepted { "yes" } else { "no" },
            &format!("{:.2}", run.score),
            &run.latency_ms.to_string(),
            &terminal::printable(&run.output),
        ])
    }));
    terminal::data(&terminal::table(&rows))?;
    Ok(0)
}

fn evaluate(
    policy: &str,
    prompts: Option<&Path>,
    json: bool,
    how: &RunFlags,
) -> anyhow::Result<u8> {
    let prompts = lines_of(prompts)?;
    let policy = find(policy)?;
    let request = how.request("")?;
    let (client, interrupt) = how.client(&request, [&policy])?;
    let policies = client.policies().with_cancel(interrupt.current());
    let found = policies.evaluate(&prompts, &policy, &request)?;
    found.outputs.iter().for_each(|run| told(run, how));
    if json {
        print_json(&found)?;
        return Ok(0);
    }
    terminal::data(&terminal::table(&[
        row(["prompts", &found.num_prompts.to_string()]),
        row(["accepted", &found.pass_count.to_string()]),
        row(["not accepted", &found.fail_count.to_string()]),
        row(["success rate", &format!("{:.2}", found.success_rate)]),
        row(["mean score", &format!("{:.2}", found.avg_score())]),
        row(["mean ms", &format!("{:.0}", found.avg_latency_ms)]),
        row(["mean tokens", &format!("{:.1}", found.avg_tokens)]),
    ]))?;
    Ok(0)
}

fn tune(
    policy: &str,
    prompts: Option<&Path>,
    over: &[String],
    max_trials: Option<usize>,
    json: bool,
    how: &RunFlags,
) -> anyhow::Result<u8> {
    let mut search = Search::new();
    search.max_trials = max_trials;
    for part in over {
        let (field, values) = part.split_once('=').ok_or_else(|| mx::Error::Request {
            field: "--over".to_owned(),
            given: part.clone(),
            wanted: "FIELD=VALUE,VALUE,…".to_owned(),
        })?;
        let values = values
            .split(',')
            .map(|value| serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)));
        search = search.over(field, values);
    }
    let prompts = lines_of(prompts)?;
    let policy = find(policy)?;
    let request = how.request("")?;
    let grid = search.grid(&policy)?;
    let (client, interrupt) = how.client(&request, &grid)?;
    let policies = client.policies().with_cancel(interrupt.current());
    let tuned = policies.auto_tune(&prompts, &policy, &search, &request)?;
    if json {
        print_json(&tuned)?;
        return Ok(0);
    }
    for trial in &tuned.trials {
        let sampling = trial.policy.sampling.value();
        let shown = sampling.map(serde_json::to_string).transpose()?;
        terminal::note(format_args!(
            "success {:.2}, score {:.2}, {:.0} ms: {}",
            trial.success_rate,
            trial.avg_score,
            trial.avg_latency_ms,
            shown.unwrap_or_default()
        ));
    }
    print(&tuned.best_policy)
}

fn list(json: bool) -> anyhow::Result<u8> {
    let (policies, damaged) = store()?.list().map_err(mx::Error::from)?;
    damaged.iter().for_each(terminal::warn);
    if json {
        print_json(&policies)?;
        return Ok(0);
    }
    let text = |value: Option<&String>| terminal::printable(value.map_or("", String::as_str));
    let rows: Vec<Vec<String>> = policies
        .iter()
        .map(|policy| {
            let sampling = policy.sampling.value();
            vec![
                text(policy.id.value()),
                text(policy.name.value()),
                text(sampling.and_then(|sampling| sampling.method.value())),
                text(policy.description.value()),
            ]
        })
        .collect();
    terminal::data(&terminal::table(&rows))?;
    Ok(0)
}

fn presets(json: bool) -> anyhow::Result<u8> {
    let (presets, damaged) = store()?.presets(true).map_err(mx::Error::from)?;
    damaged.iter().for_each(terminal::warn);
    if json {
        print_json(&presets)?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = presets
        .iter()
        .map(|preset| {
            vec![
                terminal::printable(&preset.id),
                terminal::printable(&preset.name),
                preset.visibility.clone(),
                terminal::printable(&preset.tags.join(", ")),
                terminal::printable(preset.description.as_deref().unwrap_or("")),
            ]
        })
        .collect();
    terminal::data(&terminal::table(&rows))?;
    Ok(0)
}

fn made(which: &Constructor) -> anyhow::Result<Policy> {
    Ok(match which {
        Constructor::StrictJsonExtraction { schema } => {
            let path = Path::new(schema);
            let text = match path.is_file() {
                true => text_of(path)?,
                false => schema.clone(),
            };
            let schema = match text.trim_start().starts_with('{') {
                true => serde_json::from_str(&text).context("the schema is not JSON")?,
                false => schema_from_shorthand(&text)?,
            };
            constructors::strict_json_extraction(&schema, "strict_json_extraction")?
        }
        Constructor::FastToolRouter => constructors::fast_tool_router("fast_tool_router")?,
        Constructor::DiverseChatbot => constructors::diverse_chatbot("diverse_chatbot")?,
        Constructor::EnsembleVote { models } => {
            constructors::ensemble_vote(models, "ensemble_vote")?
        }
        Constructor::SteeringPreset { preset, method } => {
            constructors::steering_preset(preset, preset, method)?
        }
    })
}

impl RunFlags {
    fn request(&self, prompt: &str) -> anyhow::Result<GenerateRequest> {
        let mut request = load::apply(&self.sampling, GenerateRequest::new(prompt))?;
        request.raw = self.raw.then_some(true);
        Ok(request)
    }

    /// A client with the models that request and policies name.
    fn client<'a>(
        &self,
        request: &GenerateRequest,
        policies: impl IntoIterator<Item = &'a Policy>,
    ) -> anyhow::Result<(mx::Client, Interrupt)> {
        let interrupt = Interrupt::install()?;
        let (mut named, mut checked) = (request.clone(), Vec::new());
        for policy in policies {
            name_models(policy, &mut named);
            checked.push(request.clone().policy(policy.clone()));
        }
        let mut client = load::for_request(&self.model, &self.route, &checked, &named, &interrupt)?;
        if self.allow_code_execution {
            client.set_code_execution(Some(CodeLimits::default()));
        }
        Ok((client, interrupt))
    }
}

/// Lets a request name the models that a policy names, so that they are loaded.
pub(crate) fn name_models(policy: &Policy, request: &mut GenerateRequest) {
    let Some(sampling) = policy.sampling.value() else {
        return;
    };
    let controls = &mut request.controls;
    let others = sampling.ensemble_models.value().into_iter().flatten();
    for name in others.chain(sampling.draft_model.value()) {
        if !controls.ensemble_models.contains(name) {
            controls.ensemble_models.push(name.clone());
        }
    }
}

/// The policy of a file, or the saved one of an id.
pub(crate) fn find(given: &str) -> anyhow::Result<Policy> {
    let path = Path::new(given);
    if given == "-" || path.exists() && !path.is_dir() {
        return parse(&text_of(path)?, given);
    }
    Ok(store()?.get(given).map_err(mx::Error::from)?)
}

fn parse(text: &str, place: &str) -> anyhow::Result<Policy> {
    serde_json::from_str(text).map_err(|error| {
        mx::Error::Request {
            field: place.to_owned(),
            given: format!("no policy: {error}"),
            wanted: "a JSON object with the fields of a policy".to_owned(),
        }
        .into()
    })
}

fn text_of(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        return crate::generate::text_or_stdin(Some("-"), "a policy");
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The prompts of a file, one a line; empty lines are left out.
fn lines_of(file: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let text = text_of(file.unwrap_or(Path::new("-")))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Ok(lines.map(str::to_owned).collect())
}

fn store() -> anyhow::Result<PolicyStore> {
    let dir = mx::home::policies_dir(&load::env).ok_or_else(|| {
        anyhow::anyhow!("there is no home folder; set MX_HOME to a folder for policies")
    })?;
    Ok(PolicyStore::new(dir))
}

fn told(run: &PolicyRun, how: &RunFlags) {
    if !how.model.quiet {
        let warnings = run.warnings.iter();
        warnings.for_each(|warning| terminal::warn(&warning.message));
    }
}

fn print(policy: &Policy) -> anyhow::Result<u8> {
    print_json(policy)?;
    Ok(0)
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    terminal::data(&(serde_json::to_string_pretty(value)? + "\n"))?;
    Ok(())
}

fn line(text: &str) -> anyhow::Result<u8> {
    terminal::data(&format!("{text}\n"))?;
    Ok(0)
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}
