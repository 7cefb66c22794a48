//! Finding, fetching and loading models, with a progress bar.

use crate::flags::{ModelFlags, SamplingFlags};
use crate::interrupt::Interrupt;
use crate::remote::RouteFlags;
use crate::terminal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mx::pipeline::Loaded;
use mx::runtime::model::{EngineChoice, LoadOptions, Model};
use mx::runtime::source::{self, ModelRef, Progress, ResolvedModel, SourceKind, Store};
use mx::{Client, ExecutionMode, GenerateRequest, Route};
use std::io::{IsTerminal, stderr};
use std::sync::Arc;

/// An environment variable.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The folder of installed models.
pub(crate) fn store() -> anyhow::Result<Store> {
    let dir = mx::home::models_dir(&env).ok_or_else(|| {
        anyhow::anyhow!("there is no home folder; set MX_HOME to a folder for models")
    })?;
    Ok(Store::new(dir))
}

/// Finds a model by what was typed, fetching it if need be. `refresh` asks the hub for a newer state of it.
pub(crate) fn resolve(
    model: &str,
    refresh: bool,
    interrupt: &Interrupt,
) -> anyhow::Result<ResolvedModel> {
    let reference = ModelRef::parse(model).map_err(mx::Error::from)?;
    let mut options = source::Options::from_env(&env);
    options.refresh = refresh;
    let mut progress = Bar::new(interrupt.clone());
    let resolved = source::resolve(&reference, &store()?, &options, &mut progress);
    Ok(resolved.map_err(mx::Error::from)?)
}

/// A client with the models loaded that `request` names; says on stderr which route it takes. What can be known of the
/// requests `checked` is checked before.
pub(crate) fn for_request(
    flags: &ModelFlags,
    route: &RouteFlags,
    checked: &[GenerateRequest],
    request: &GenerateRequest,
    interrupt: &Interrupt,
) -> anyhow::Result<Client> {
    for request in checked {
        request.check()?;
    }
    let mut client = route.builder()?.model(&flags.model).build();
    for request in checked {
        client.check(request)?;
    }
    let remote = client.route()? == Route::Remote;
    if remote && !flags.quiet {
        let server = client.server_name()?;
        terminal::note(format_args!("remote: {}", terminal::printable(&server)));
    }
    if !remote || route.falls_back() {
        let model = announced(flags, interrupt)?;
        client.set_loaded(model);
        for name in request.controls.models() {
            client.add_model(name, open(name, flags, interrupt)?);
        }
    }
    Ok(client)
}

/// A client of a model of this machine; says on stderr which one.
pub(crate) fn client(flags: &ModelFlags, interrupt: &Interrupt) -> anyhow::Result<Client> {
    let model = announced(flags, interrupt)?;
    let mut client = Client::builder()
        .from_env(&env)
        .mode(ExecutionMode::Local)
        .build();
    client.set_loaded(model);
    Ok(client)
}

fn announced(flags: &ModelFlags, interrupt: &Interrupt) -> anyhow::Result<Arc<Model>> {
    let model = open(&flags.model, flags, interrupt)?;
    let info = model.engine().info();
    if info.engine != "cpu" && (flags.exact || flags.threads.is_some()) {
        terminal::warn(format_args!(
            "--exact and --threads have no effect: they belong to the cpu engine, this is {}",
            info.engine
        ));
    }
    if !flags.quiet {
        let name = terminal::printable(model.name());
        terminal::note(format_args!(
            "local: {name} ({} engine, {})",
            info.engine, info.device
        ));
    }
    Ok(model)
}

/// The model alone, for work that is no request.
pub(crate) fn model(flags: &ModelFlags, interrupt: &Interrupt) -> anyhow::Result<Loaded> {
    Ok(open(&flags.model, flags, interrupt)?.into())
}

/// Finds, fetches and loads a model.
fn open(name: &str, flags: &ModelFlags, interrupt: &Interrupt) -> anyhow::Result<Arc<Model>> {
    let resolved = resolve(name, false, interrupt)?;
    let mut options = LoadOptions::on(flags.device);
    options.engine = flags.engine;
    options.cpu.threads = flags.threads.map(usize::from);
    options.cpu.exact = flags.exact;
    options.cpu.quantize = flags.quantize;
    options.cpu.kv = flags.kv.unwrap_or(options.cpu.kv);
    options.engine = cpu_only(flags)?.unwrap_or(options.engine);
    let model = Model::load(&resolved.path, &options).map_err(mx::Error::from)?;
    Ok(Arc::new(model.named(resolved.name)))
}

/// The CPU engine, where something was asked for that only it can do.
fn cpu_only(flags: &ModelFlags) -> Result<Option<EngineChoice>, mx::Error> {
    let asked = [
        ("--quantize", flags.quantize.is_some()),
        ("--kv", flags.kv.is_some()),
    ];
    match asked.into_iter().find(|(_, given)| *given) {
        None => Ok(None),
        Some((flag, _)) if flags.engine == EngineChoice::Burn => Err(mx::Error::Unsupported {
            what: format!("{flag} with --engine burn"),
            reason: "it belongs to the cpu engine".to_owned(),
        }),
        Some(_) => Ok(Some(EngineChoice::Cpu)),
    }
}

/// Puts what was typed into a request.
pub(crate) fn apply(
    flags: &SamplingFlags,
    mut request: GenerateRequest,
) -> Result<GenerateRequest, mx::Error> {
    request.system.clone_from(&flags.system);
    request.max_tokens = flags.max_tokens;
    request.sampling_method = flags
        .method
        .as_deref()
        .map(mx::Method::from_name)
        .transpose()?;
    request.sampling.temperature = flags.temperature;
    request.sampling.top_k = flags.top_k;
    request.sampling.top_p = flags.top_p;
    request.sampling.min_p = flags.min_p;
    request.sampling.typical_p = flags.typical_p;
    request.sampling.repetition_penalty = flags.repetition_penalty;
    request.seed = flags.seed;
    request.stop.clone_from(&flags.stop);
    request.on_overflow = flags.on_overflow;
    Ok(request)
}

/// A progress bar on stderr; on anything but a terminal, one line a fetch.
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    interrupt: Interrupt,
}

impl Bar {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        Bar {
            bar: None,
            interrupt,
        }
    }
}

impl Progress for Bar {
    fn start(&mut self, what: &str, total: Option<u64>) {
        let what = terminal::printable(what);
        if !stderr().is_terminal() {
            terminal::note(format_args!(
                "{what}{}",
                total
                    .map(|n| format!(" ({})", terminal::bytes(n)))
                    .unwrap_or_default()
            ));
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
