//! `mx doctor` and `mx devices`.

use crate::interrupt::Interrupt;
use crate::load::{self, Bar};
use crate::models::state;
use crate::terminal;
use mx::runtime::device::DeviceId;
use mx::runtime::source::{self, PackageClient};

pub(crate) fn devices(json: bool) -> anyhow::Result<u8> {
    let devices = DeviceId::list();
    if json {
        terminal::data(&(serde_json::to_string_pretty(&devices)? + "\n"))?;
        return Ok(0);
    }
    let mut rows = vec![vec![
        "DEVICE".to_owned(),
        "STATE".to_owned(),
        "WHAT".to_owned(),
    ]];
    for device in devices {
        let state = match device.state {
            Ok(()) => "ready".to_owned(),
            Err(reason) => reason,
        };
        rows.push(vec![
            device.id.to_string(),
            state,
            device.description.to_owned(),
        ]);
    }
    terminal::data(&terminal::table(&rows))?;
    Ok(0)
}

/// Checks that can fail set the exit code to 1; what is merely absent does not.
pub(crate) fn run() -> anyhow::Result<u8> {
    let interrupt = Interrupt::install()?;
    let mut problems = 0;
    let say = |name: &str, text: String| terminal::data(&format!("{name:<14} {text}\n"));
    say(
        "mx",
        format!(
            "{} on {} {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        ),
    )?;
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    say("processors", threads.to_string())?;
    for device in DeviceId::list() {
        if let Ok(()) = device.state {
            say("device", format!("{} ({})", device.id, device.description))?;
        }
    }
    let store = load::store()?;
    say("models in", store.root().display().to_string())?;
    let stored = store.list().map_err(mx::Error::from)?;
    if stored.is_empty() {
        say(
            "model",
            "none yet; `mx pull` fetches one, `mx generate` the default one".to_owned(),
        )?;
    }
    for model in stored {
        let mut bar = Bar::new(interrupt.clone());
        let verdict = match store.verify(&model.name, &mut bar) {
            Ok(Some(verified)) => match state(&verified.state) {
                (true, _) => "SHA-256 verified".to_owned(),
                (false, problem) => {
                    problems += 1;
                    problem.unwrap_or_default()
                }
            },
            Ok(None) => continue,
            Err(error) => {
                problems += 1;
                format!("{error}; `mx rm {0}` and `mx pull {0}` mend it", model.name)
            }
        };
        let name = terminal::printable(&model.name);
        say(
            "model",
            format!("{name}, {}: {verdict}", terminal::bytes(model.bytes)),
        )?;
    }
    let options = source::Options::from_env(&load::env);
    let switched_off = [
        (options.offline, "MX_OFFLINE"),
        (options.hub_offline, "HF_HUB_OFFLINE"),
    ];
    match switched_off.iter().find(|(off, _)| *off) {
        Some((_, switch)) => say("hub", format!("not asked ({switch} is set)"))?,
        None => say("hub", options.hub_endpoint.clone())?,
    }
    if let Some(cache) = &options.hub_cache {
        say("hub cache", cache.display().to_string())?;
    }
    let packages = match &options.package_client {
        PackageClient::Find => "the pip of this machine",
        PackageClient::Command(_) => "a command of your own",
        _ => "off",
    };
    say("packages", packages.to_owned())?;
    if problems > 0 {
        say(
            "result",
            format!("{problems} problem{}", if problems == 1 { "" } else { "s" }),
        )?;
        return Ok(crate::FAILURE);
    }
    say("result", "no problems found".to_owned())?;
    Ok(0)
}
