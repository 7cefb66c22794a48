//! `mx trace`.

use crate::flags::{self, ModelFlags};
use crate::interrupt::Interrupt;
use crate::{load, terminal};
use anyhow::Context;
use clap::{Args, Subcommand};
use mx::policy::PolicyTrace;
use mx::runtime::model::EngineChoice;
use mx::trace::{
    self, Diff, Divergence, Likely, Limits, ModelRecord, Standing, Trace, TraceStep, Verdict, Why,
};
use mx::{Client, Generation};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Exit code of two traces that differ.
const DIFFERENT: u8 = 1;

#[derive(Subcommand)]
pub(crate) enum TraceCommand {
    /// Describe a trace: what ran, and how every token came about
    Show {
        /// The trace
        file: PathBuf,
    },
    /// Find where two traces part; exit 1 where their texts differ
    Diff {
        /// The first trace
        a: PathBuf,
        /// The second trace
        b: PathBuf,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Run the request of a trace again and compare; exit 1 where the text differs
    Replay(RepeatFlags),
    /// What became of a token at a step: which stage removed it, or why it was not drawn
    Why {
        /// TOKEN@STEP: an id, or a text that is one token, and a step counted from 0
        question: String,
        #[command(flatten)]
        repeat: RepeatFlags,
    },
}

/// What is run again, on what.
#[derive(Args)]
pub(crate) struct RepeatFlags {
    /// The trace
    file: PathBuf,
    /// Name, model folder, .gguf file or hub repository [default: the model of the trace]
    #[arg(short, long)]
    model: Option<String>,
    /// Engine: auto, burn, cpu [default: that of the trace]
    #[arg(long, value_name = "NAME", value_parser = flags::engine)]
    engine: Option<EngineChoice>,
    /// Threads of the CPU engine [default: all processors]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Say nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(command: &TraceCommand) -> anyhow::Result<u8> {
    match command {
        TraceCommand::Show { file } => {
            terminal::data(&show(&read(file)?))?;
            Ok(0)
        }
        TraceCommand::Diff { a, b, json } => {
            let diff = trace::diff(&read(a)?, &read(b)?);
            match json {
                true => print(&diff)?,
                false => terminal::data(&differences(&diff))?,
            }
            Ok(if diff.same_text { 0 } else { DIFFERENT })
        }
        TraceCommand::Replay(flags) => replay(flags),
        TraceCommand::Why { question, repeat } => why(question, repeat),
    }
}

/// Writes a trace as indented JSON.
/// Writes the trace of an answer. A trace of the service's is written as it came, and said to be one.
pub(crate) fn keep(file: &Path, answer: &Generation) -> anyhow::Result<()> {
    let served = match answer.policy.as_ref().and_then(|run| run.trace.as_ref()) {
        Some(PolicyTrace::Remote(trace)) => Some(trace),
        _ => None,
    };
    match (&answer.trace, served) {
        (Some(trace), _) => write(file, trace),
        (None, Some(trace)) => {
            let name = file.display();
            terminal::warn(format!(
                "{name} holds the trace of the service, in its own form"
            ));
            write(file, trace)
        }
        (None, None) => {
            terminal::warn("the answer came without a trace: none is written");
            Ok(())
        }
    }
}

fn write(file: &Path, trace: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(trace)? + "\n";
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn read(file: &Path) -> anyhow::Result<Trace> {
    Ok(trace::read(file, &Limits::default()).map_err(mx::Error::from)?)
}

fn print(value: &impl serde::Serialize) -> anyhow::Result<()> {
    terminal::data(&(serde_json::to_string_pretty(value)? + "\n"))?;
    Ok(())
}

fn replay(flags: &RepeatFlags) -> anyhow::Result<u8> {
    let trace = read(&flags.file)?;
    let client = client(flags, &trace)?;
    let replay = trace::replay(&client, &trace)?;
    if flags.json {
        print(&replay)?;
    } else if replay.same {
        let laws = match replay.diff.same_laws {
            true => "every law to the last bit",
            false => "the laws differ in their last bits",
        };
        let count = trace.steps.len();
        terminal::data(&format!("the same text: {count} tokens, {laws}\n"))?;
    } else {
        let mut text = differences(&replay.diff);
        if replay.causes.is_empty() {
            text += "nothing that the trace records explains it\n";
        }
        terminal::data(&text)?;
    }
    Ok(if replay.same { 0 } else { DIFFERENT })
}

fn why(question: &str, flags: &RepeatFlags) -> anyhow::Result<u8> {
    // The last @ parts the two: a token may hold one itself.
    let parts = question.rsplit_once('@');
    let parsed = parts.and_then(|(token, step)| Some((token, step.parse::<usize>().ok()?)));
    let (token, step) = parsed.ok_or_else(|| mx::Error::Request {
        field: "TOKEN@STEP".to_owned(),
        given: question.to_owned(),
        wanted: "a token, an @ and the number of a step, for example 260@3 or \" the@3\""
            .to_owned(),
    })?;
    let trace = read(&flags.file)?;
    let client = client(flags, &trace)?;
    let why = trace::why(&client, &trace, token, step)?;
    match flags.json {
        true => print(&why)?,
        false => terminal::data(&answer(&why))?,
    }
    Ok(0)
}

/// A client with the models of a trace, each where it was found then or else by its name.
fn client(flags: &RepeatFlags, trace: &Trace) -> anyhow::Result<Client> {
    let interrupt = Interrupt::install()?;
    let main = model_flags(flags, &trace.model, flags.model.as_deref());
    let mut client = load::client(&main, &interrupt)?;
    for other in &trace.others {
        let other_flags = model_flags(flags, &other.model, None);
        let model = load::model(&other_flags, &interrupt)?;
        client.add_model(&other.name, Arc::clone(&model));
    }
    Ok(client)
}

fn model_flags(flags: &RepeatFlags, record: &ModelRecord, model: Option<&str>) -> ModelFlags {
    let engine = &record.engine;
    let model = match model {
        Some(model) => model.to_owned(),
        None if Path::new(&record.path).exists() => record.path.clone(),
        None => record.name.clone(),
    };
    let recorded = flags::engine(&engine.engine).unwrap_or_default();
    let chosen = flags.engine.unwrap_or(recorded);
    let cpu = chosen != EngineChoice::Burn;
    ModelFlags {
        model,
        device: match engine.engine.as_str() {
            "burn" if chosen == EngineChoice::Burn => engine.device.parse().unwrap_or_default(),
            _ => Default::default(),
        },
        engine: chosen,
        threads: flags.threads,
        exact: cpu && engine.exact,
        quantize: engine
            .quantize
            .as_deref()
            .and_then(|name| flags::weight_format(name).ok())
            .filter(|_| cpu),
        kv: flags::kv_format(&engine.kv)
            .ok()
            .filter(|_| cpu && !engine.exact && engine.kv != "f16"),
        quiet: flags.quiet,
    }
}

fn show(trace: &Trace) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), terminal::printable(&value)];
    let model = |record: &ModelRecord| {
        let engine = &record.engine;
        format!(
            "{} ({} engine, {}, {})",
            record.name, engine.engine, engine.device, engine.weights
        )
    };
    let setting = |name: &str| {
        let found = trace.settings.iter().find(|setting| setting.name == name);
        found.map_or_else(String::new, |setting| {
            format!("{} ({})", setting.value, named(&setting.origin))
        })
    };
    let mut rows = vec![
        row("writer", trace.writer.clone()),
        row("model", model(&trace.model)),
    ];
    for other in &trace.others {
        rows.push(row("with", model(&other.model)));
    }
    rows.push(row("route", named(&trace.route)));
    if let Some(reason) = &trace.fallback {
        rows.push(row("fallback", reason.clone()));
    }
    for setting in &trace.settings {
        let value = format!("{} ({})", setting.value, named(&setting.origin));
        rows.push(row(&terminal::printable(&setting.name), value));
    }
    if setting("seed").is_empty() {
        rows.push(row("seed", trace.seed.to_string()));
    }
    rows.push(row(
        "prompt",
        format!(
            "{} tokens, {} of them held, {}",
            trace.prompt_tokens.len(),
            trace.cached_tokens,
            millis(trace.prefill_micros)
        ),
    ));
    rows.push(row(
        "output",
        format!(
            "{} tokens in {}, ended by {}",
            trace.steps.len(),
            millis(trace.total_micros),
            named(&trace.finish_reason)
        ),
    ));
    let (drafted, accepted) = trace.drafts();
    if drafted > 0 {
        rows.push(row(
            "drafts",
            format!("{accepted} of {drafted} tokens accepted"),
        ));
    }
    for warning in &trace.warnings {
        rows.push(row("warning", warning.message.clone()));
    }
    let mut text = terminal::table(&rows);
    text += "\n";
    text += &terminal::table(&steps(&trace.steps));
    for output in &trace.further {
        text += &format!("\noutput of stream {}\n", output.stream);
        text += &terminal::table(&steps(&output.steps));
    }
    text
}

fn steps(steps: &[TraceStep]) -> Vec<Vec<String>> {
    let heading = [
        "step",
        "token",
        "text",
        "source",
        "p",
        "model's p",
        "ms",
        "what happened",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (index, step) in steps.iter().enumerate() {
        let mut notes = Vec::new();
        for stage in &step.stages {
            let [before, after] = stage.tokens;
            if before > after {
                notes.push(format!(
                    "{} -{} ({:.3})",
                    terminal::printable(&stage.name),
                    before - after,
                    stage.mass_removed
                ));
            }
        }
        if let Some(draft) = &step.draft {
            notes.push(format!(
                "draft of {}: {} accepted {:?}",
                draft.tokens.len(),
                draft.accepted,
                draft.tokens
            ));
        }
        for vote in &step.votes {
            notes.push(format!(
                "{} votes {} ({:.3})",
                terminal::printable(&vote.model),
                vote.token,
                vote.probability
            ));
        }
        for norm in &step.steering {
            notes.push(format!(
                "{} {:.2} of {:.2}",
                terminal::printable(&norm.point),
                norm.change,
                norm.row
            ));
        }
        rows.push(vec![
            index.to_string(),
            step.token.to_string(),
            quoted(&step.text),
            named(&step.source),
            format!("{:.4}", step.logprob.exp()),
            step.raw_logprob
                .map_or_else(String::new, |p| format!("{:.4}", p.exp())),
            format!(
                "{:.2}",
                (step.step_micros + step.choose_micros) as f64 / 1e3
            ),
            notes.join(", "),
        ]);
    }
    rows
}

fn differences(diff: &Diff) -> String {
    let mut text = String::new();
    for difference in &diff.differences {
        text += &format!("{}\n", terminal::printable(&difference.to_string()));
    }
    match &diff.divergence {
        Some(divergence) => text += &parted(divergence),
        None if diff.same_text && diff.same_laws => text += "the same tokens from the same laws\n",
        None if diff.same_text => text += "the same tokens; the laws differ\n",
        None => text += "the same tokens; the texts differ\n",
    }
    text
}

fn parted(divergence: &Divergence) -> String {
    let mut text = format!(
        "first divergence: step {} of output {}\n",
        divergence.step, divergence.output
    );
    for (name, step) in [("a", &divergence.a), ("b", &divergence.b)] {
        let Some(step) = step else {
            text += &format!("  {name}  has ended\n");
            continue;
        };
        text += &format!(
            "  {name}  {} {} ({}, p {:.6})\n",
            step.token,
            quoted(&step.text),
            named(&step.source),
            step.logprob.exp()
        );
        text += &format!("     drawn from: {}\n", law(&step.law));
        text += &format!("     the model:  {}\n", law(&step.raw_law));
    }
    text
}

fn law(law: &[Likely]) -> String {
    let parts: Vec<String> = law
        .iter()
        .map(|likely| format!("{} {:.6}", likely.token, likely.logprob.exp()))
        .collect();
    match parts.is_empty() {
        true => "not recorded".to_owned(),
        false => parts.join(", "),
    }
}

fn answer(why: &Why) -> String {
    let standing = |at: &Option<Standing>| match at {
        Some(at) => format!("rank {}, p {:.6}", at.rank, at.probability),
        None => "-".to_owned(),
    };
    let asked = format!("{} {}", why.asked.token, quoted(&why.asked.text));
    let chosen = format!("{} {}", why.chosen.token, quoted(&why.chosen.text));
    let verdict = match &why.verdict {
        Verdict::Chosen => format!("{asked} came, {}", named(&why.source)),
        Verdict::NotForced => format!("the constraint allowed {chosen} alone"),
        Verdict::ByModel => format!("the model gave {asked} no probability; {chosen} came"),
        Verdict::RemovedBy(stage) => {
            format!(
                "{} removed {asked}; {chosen} came",
                terminal::printable(stage)
            )
        }
        Verdict::NotDrawn => format!("{asked} was there, and the draw fell on {chosen}"),
        Verdict::NotTheMostLikely => format!("{asked} was there, and {chosen} was more likely"),
        Verdict::Outranked => format!("the search ranked a text with {chosen} higher"),
        _ => format!("{chosen} came"),
    };
    let mut text = format!("step {}: {verdict}\n", why.step);
    if let Some(reason) = &why.constraint {
        text += &format!("the constraint: {}\n", terminal::printable(reason));
    }
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![row("under the model's own law", standing(&why.raw))];
    for stage in &why.stages {
        let mut value = standing(&stage.before);
        if stage.removed {
            value += ", removed";
        }
        let name = format!("before {}", terminal::printable(&stage.stage));
        rows.push(row(&name, value));
    }
    rows.push(row("in the law drawn from", standing(&why.last)));
    if let Some([low, high]) = why.interval {
        rows.push(row("drawn by numbers", format!("{low:.6} to {high:.6}")));
    }
    if let Some(uniform) = why.uniform {
        rows.push(row("the number was", format!("{uniform:.6}")));
    }
    rows.push(row("most likely there", law(&why.law)));
    text + &terminal::table(&rows)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", terminal::printable(text))
}

fn millis(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1e3)
}

/// The name of a value as JSON has it.
fn named(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
