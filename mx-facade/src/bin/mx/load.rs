//! Finding, fetching and loading models, with a progress bar.

use crate::flags::{ModelFlags, SamplingFlags};
use crate::interrupt::Interrupt;
use crate::terminal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mx::runtime::source::{self, ModelRef, Progress, ResolvedModel, SourceKind, Store};
use mx::{Client, ExecutionMode, GenerateRequest};
use std::io::{IsTerminal, stderr};

/// An environment variable.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The folder of installed models.
pub(crate) fn store() -> anyhow::Result<Store> {
    let dir = mx::home::models_dir(&env)
        .ok_or_else(|| anyhow::anyhow!("there is no home folder; set MX_HOME to a folder for models"))?;
    Ok(Store::new(dir))
}

/// Finds a model by what was typed, fetching it if need be.
pub(crate) fn resolve(model: &str, interrupt: &Interrupt) -> anyhow::Result<ResolvedModel> {
    let reference = ModelRef::parse(model).map_err(mx::Error::from)?;
    let options = source::Options::from_env(&env);
    let mut progress = Bar::new(interrupt.clone());
    let resolved = source::resolve(&reference, &store()?, &options, &mut progress);
    Ok(resolved.map_err(mx::Error::from)?)
}

/// A client with its model loaded; says on stderr which route it takes.
pub(crate) fn client(flags: &ModelFlags, interrupt: &Interrupt) -> anyhow::Result<Client> {
    let mut client = Client::builder()
        .from_env(&env)
        .mode(ExecutionMode::Local)
        .model(&flags.model)
        .device(flags.device)
        .build();
    client.load_with(&mut Bar::new(interrupt.clone()))?;
    if let Some(model) = client.model().filter(|_| !flags.quiet) {
        let info = model.engine().info();
        let name = terminal::printable(model.name());
        terminal::note(format_args!("local: {name} ({} engine on {})", info.engine, info.device));
    }
    Ok(client)
}

/// Puts what was typed into a request.
pub(crate) fn apply(flags: &SamplingFlags, mut request: GenerateRequest) -> GenerateRequest {
    request.system.clone_from(&flags.system);
    request.max_tokens = flags.max_tokens;
    request.sampling_method = flags.method;
    request.sampling.temperature = flags.temperature;
    request.sampling.top_k = flags.top_k;
    request.sampling.top_p = flags.top_p;
    request.sampling.min_p = flags.min_p;
    request.sampling.typical_p = flags.typical_p;
    request.sampling.repetition_penalty = flags.repetition_penalty;
    request.seed = flags.seed;
    request.stop.clone_from(&flags.stop);
    request.on_overflow = flags.on_overflow;
    request
}

/// A progress bar on stderr; on anything but a terminal, one line a fetch.
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    interrupt: Interrupt,
}

impl Bar {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        Bar { bar: None, interrupt }
    }
}

impl Progress for Bar {
    fn start(&mut self, what: &str, total: Option<u64>) {
        let what = terminal::printable(what);
        if !stderr().is_terminal() {
            terminal::note(format_args!("{what}{}", total.map(|n| format!(" ({})", terminal::bytes(n))).unwrap_or_default()));
            return;
        }
        let template = match total {
            Some(_) => "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {spinner} {bytes} {bytes_per_sec}",
        };
        let style = ProgressStyle::with_template(template)
            .map(|style| style.progress_chars("=> "))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        bar.set_style(style);
        bar.set_message(what);
        self.bar = Some(bar);
    }

    fn advance(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn cancelled(&self) -> bool {
        self.interrupt.current().is_cancelled()
    }
}

/// Where a model came from, for people.
pub(crate) fn origin(kind: SourceKind, verified: bool) -> String {
    format!("{kind}{}", if verified { ", SHA-256 verified" } else { "" })
}
