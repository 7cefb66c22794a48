//! `mx pull`, `mx list` and `mx rm`.

use crate::interrupt::Interrupt;
use crate::{load, terminal};
use mx::runtime::source::{self, SourceError, StoredState};
use serde_json::json;

pub(crate) fn pull(model: &str) -> anyhow::Result<u8> {
    let interrupt = Interrupt::install()?;
    let resolved = load::resolve(model, true, &interrupt)?;
    for tried in &resolved.tried {
        let error = tried.error.to_string();
        terminal::note(format_args!(
            "{}: {}",
            tried.source,
            terminal::printable(&error)
        ));
    }
    terminal::note(format_args!(
        "{}: {}",
        terminal::printable(&resolved.name),
        load::origin(resolved.source, resolved.verified)
    ));
    terminal::data(&format!("{}\n", resolved.path.display()))?;
    Ok(0)
}

pub(crate) fn list(as_json: bool) -> anyhow::Result<u8> {
    let store = load::store()?;
    let stored = store.list().map_err(mx::Error::from)?;
    let options = source::Options::from_env(&load::env);
    let cached = match &options.hub_cache {
        Some(cache) => source::cached_models(cache).map_err(mx::Error::from)?,
        None => Vec::new(),
    };
    if as_json {
        let mut all: Vec<serde_json::Value> = Vec::new();
        for model in &stored {
            let (usable, problem) = state(&model.state);
            all.push(
                json!({"name": model.name, "path": model.path, "bytes": model.bytes,
                "sha256": model.sha256, "source": model.source, "installed": model.installed,
                "usable": usable, "problem": problem}),
            );
        }
        for model in &cached {
            all.push(
                json!({"name": model.repo, "path": model.path, "bytes": model.bytes,
                "source": "hub cache", "usable": true}),
            );
        }
        terminal::data(&(serde_json::to_string_pretty(&all)? + "\n"))?;
        return Ok(0);
    }
    if stored.is_empty() && cached.is_empty() {
        terminal::note(format_args!(
            "no models in {}; `mx pull {}` fetches the default one",
            store.root().display(),
            source::DEFAULT_MODEL
        ));
        return Ok(0);
    }
    let mut rows = vec![vec![
        "NAME".to_owned(),
        "SIZE".to_owned(),
        "SOURCE".to_owned(),
        "PATH".to_owned(),
    ]];
    for model in &stored {
        let note = state(&model.state)
            .1
            .map(|problem| format!(" ({problem})"))
            .unwrap_or_default();
        rows.push(vec![
            terminal::printable(&model.name),
            terminal::bytes(model.bytes),
            terminal::printable(&model.source) + &note,
            model.path.display().to_string(),
        ]);
    }
    for model in &cached {
        rows.push(vec![
            terminal::printable(&model.repo),
            terminal::bytes(model.bytes),
            "hub cache".to_owned(),
            model.path.display().to_string(),
        ]);
    }
    terminal::data(&terminal::table(&rows))?;
    Ok(0)
}

pub(crate) fn remove(model: &str) -> anyhow::Result<u8> {
    let store = load::store()?;
    let options = source::Options::from_env(&load::env);
    let removed = match (model.contains('/'), &options.hub_cache) {
        (false, _) => store.remove(model),
        (true, Some(cache)) => source::remove_cached(cache, model),
        (true, None) => Ok(None),
    };
    let removed = removed.map_err(|error| match error {
        SourceError::UnsafeName { name, reason, .. } => mx::Error::Request {
            field: "model".to_owned(),
            given: format!("{name:?}"),
            wanted: format!("the name of an installed model ({reason})"),
        },
        other => other.into(),
    });
    let Some(removed) = removed? else {
        return Err(mx::Error::from(SourceError::UnknownName {
            name: model.to_owned(),
            known: source::known_models()
                .iter()
                .map(|known| known.name)
                .collect(),
            installed: store
                .list()
                .map_err(mx::Error::from)?
                .into_iter()
                .map(|m| m.name)
                .collect(),
        })
        .into());
    };
    let (name, freed) = (
        terminal::printable(&removed.name),
        terminal::bytes(removed.bytes),
    );
    terminal::note(format_args!("removed {name}, {freed} freed"));
    if let Some(kept) = removed.kept {
        terminal::note(format_args!("its files in {} were left", kept.display()));
    }
    Ok(0)
}

/// Whether a stored model can be used, and what is wrong with it.
pub(crate) fn state(state: &StoredState) -> (bool, Option<String>) {
    match state {
        StoredState::Intact => (true, None),
        StoredState::Changed { reason } => (false, Some(format!("changed: {reason}"))),
        StoredState::Unreadable { reason } => (false, Some(format!("unreadable: {reason}"))),
        _ => (false, Some("in an unknown state".to_owned())),
    }
}
