//! Our model folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::hash::sha256_file;
use super::lock::Lock;
use super::manifest::{MANIFEST, Manifest, ManifestFile};
use super::names::check_model_name;
use super::progress::during;
use super::{Progress, SourceError, known_model};

const LOCKS: &str = ".locks";
const PARTIAL: &str = ".partial";
const NEW: &str = "new";
const OLD: &str = "old";
/// Unfinished fetches of other models are deleted after this time.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A folder with one folder per installed model, each with the model's files and a `manifest.json`.
///
/// Every change is one rename, so that a reader sees a whole model or none, and is made under a lock per model that the
/// system gives back when a process ends. Unfinished fetches lie in `.partial`. Names and aliases of the catalogue
/// mean the same model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
}

/// A model in a [`Store`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredModel {
    /// Its name.
    pub name: String,
    /// What a loader opens: the file of a model that is one file, the folder of others.
    pub path: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
    /// SHA-256 in hexadecimal, of a model that is one file.
    pub sha256: Option<String>,
    /// Where it came from, for people.
    pub source: String,
    /// When it was installed, in Unix seconds.
    pub installed: u64,
    /// Whether the files lie elsewhere (in the hub's cache) and the store only knows them.
    pub linked: bool,
    /// Whether it can be used.
    pub state: StoredState,
}

/// Whether an installed model is as it was when its checksum was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredState {
    /// Length and time of every file are those of the verified installation.
    Intact,
    /// A file is gone, or its length or time differ.
    Changed {
        /// What differs.
        reason: String,
    },
    /// The manifest cannot be read.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// What [`Store::remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// The model's name.
    pub name: String,
    /// Bytes given back, unfinished fetches included.
    pub bytes: u64,
    /// The folder whose files were left because they are not ours (a linked model).
    pub kept: Option<PathBuf>,
}

impl Store {
    /// A store in this folder, which is created by the first installation.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every model, by name; also those that cannot be used, with the reason in [`StoredModel::state`].
    ///
    /// # Errors
    /// The folder exists and cannot be listed.
    pub fn list(&self) -> Result<Vec<StoredModel>, SourceError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(SourceError::io("list", &self.root)(e)),
        };
        let names = entries
            .filter_map(Result::ok)
            .filter_map(|e| e.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|n| check_model_name("", n).is_ok()).collect();
        names.sort_unstable();
        Ok(names
            .iter()
            .filter_map(|name| self.describe(name))
            .collect())
    }

    /// The model of this name or alias.
    ///
    /// # Errors
    /// The name could not be the name of a folder.
    pub fn get(&self, name: &str) -> Result<Option<StoredModel>, SourceError> {
        Ok(self.describe(checked(name)?))
    }

    /// Deletes a model and what an unfinished fetch of it left. `None` when there was neither. The files of a linked
    /// model stay where they are.
    ///
    /// # Errors
    /// The name could not be the name of a folder, another process is just installing the model, or the system refuses.
    pub fn remove(&self, name: &str) -> Result<Option<Removed>, SourceError> {
        let name = checked(name)?;
        if !self.folder(name).exists() && !self.partial(name).exists() {
            return Ok(None);
        }
        let Some(_lock) = Lock::try_acquire(&self.lock_file(name))? else {
            return Err(SourceError::Io {
                action: "remove",
                path: self.folder(name),
                source: std::io::Error::new(
                    std::io::ErrorKind::ResourceBusy,
                    "another process is installing it",
                ),
            });
        };
        let (folder, partial) = (self.folder(name), self.partial(name));
        let kept = Manifest::read(&folder)
            .ok()
            .flatten()
            .and_then(|m| m.folder);
        let mut bytes = folder_bytes(&partial);
        remove_tree(&partial)?;
        if folder.exists() {
            bytes += folder_bytes(&folder);
            // Renamed first, so that a reader never sees half a model.
            fs::create_dir_all(&partial).map_err(SourceError::io("create", &partial))?;
            fs::rename(&folder, partial.join(OLD)).map_err(SourceError::io("remove", &folder))?;
            remove_tree(&partial)?;
        }
        Ok(Some(Removed {
            name: name.into(),
            bytes,
            kept,
        }))
    }

    /// Hashes every file of a model again. A model whose files only carry another time is [`StoredState::Intact`]
    /// afterwards. `None` when it is not installed.
    ///
    /// # Errors
    /// [`SourceError::SizeMismatch`] or [`SourceError::ChecksumMismatch`] for a damaged file; the manifest or a file
    /// cannot be read; `progress` cancels.
    pub fn verify(
        &self,
        name: &str,
        progress: &mut dyn Progress,
    ) -> Result<Option<StoredModel>, SourceError> {
        let name = checked(name)?;
        let own = self.folder(name);
        let Some(mut manifest) = Manifest::read(&own)? else {
            return Ok(None);
        };
        let base = manifest.base(&own).to_path_buf();
        let mut touched = false;
        for file in &mut manifest.files {
            let path = base.join(&file.name);
            let now = ManifestFile::of(&base, &file.name, String::new())?;
            let what = || path.display().to_string();
            if now.bytes != file.bytes {
                return Err(SourceError::SizeMismatch {
                    what: what(),
                    given: now.bytes,
                    wanted: file.bytes,
                });
            }
            let label = format!("checking {}", file.name);
            let given = during(progress, &label, Some(file.bytes), |progress| {
                sha256_file(&path, progress)
            })?;
            if !given.eq_ignore_ascii_case(&file.sha256) {
                return Err(SourceError::ChecksumMismatch {
                    what: what(),
                    given,
                    wanted: file.sha256.clone(),
                });
            }
            touched |= file.modified != now.modified;
            file.modified = now.modified;
        }
        if touched && let Err(error) = manifest.write(&own) {
            // A shared, read-only folder: it is only hashed again next time.
            tracing::warn!(%error, "cannot note the new time of a verified model");
        }
        let mut model = self.describe_manifest(name, &manifest);
        model.state = StoredState::Intact;
        Ok(Some(model))
    }

    /// Begins an installation: waits for the lock, and clears what a dead process left except finished packages.
    pub(super) fn stage(
        &self,
        name: &str,
        progress: &mut dyn Progress,
    ) -> Result<Staging<'_>, SourceError> {
        let name = checked(name)?.to_string();
        let lock = Lock::acquire(&self.lock_file(&name), progress)?;
        self.sweep(&name);
        let partial = self.partial(&name);
        remove_tree(&partial.join(NEW))?;
        remove_tree(&partial.join(OLD))?;
        fs::create_dir_all(partial.join(NEW)).map_err(SourceError::io("create", &partial))?;
        Ok(Staging {
            store: self,
            name,
            partial,
            _lock: lock,
        })
    }

    /// Notes a verified model whose file lies elsewhere.
    pub(super) fn link(
        &self,
        name: &str,
        file: &Path,
        sha256: String,
        source: String,
        progress: &mut dyn Progress,
    ) -> Result<StoredModel, SourceError> {
        let staging = self.stage(name, progress)?;
        let file = std::path::absolute(file).map_err(SourceError::io("locate", file))?;
        let (Some(folder), Some(leaf)) = (file.parent(), file.file_name().and_then(|n| n.to_str()))
        else {
            return Err(SourceError::NotAModel {
                place: file.display().to_string(),
                reason: "its name is no text",
                found: Vec::new(),
            });
        };
        let entry = ManifestFile::of(folder, leaf, sha256)?;
        staging.commit(&Manifest::new(
            source,
            Some(folder.to_path_buf()),
            vec![entry],
        ))
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn partial(&self, name: &str) -> PathBuf {
        self.root.join(PARTIAL).join(name)
    }

    fn lock_file(&self, name: &str) -> PathBuf {
        self.root.join(LOCKS).join(format!("{name}.lock"))
    }

    fn describe(&self, name: &str) -> Option<StoredModel> {
        match Manifest::read(&self.folder(name)) {
            Ok(manifest) => Some(self.describe_manifest(name, &manifest?)),
            Err(error) => Some(StoredModel {
                name: name.into(),
                path: self.folder(name),
                bytes: folder_bytes(&self.folder(name)),
                sha256: None,
                source: "unknown".into(),
                installed: 0,
                linked: false,
                state: StoredState::Unreadable {
                    reason: error.to_string(),
                },
            }),
        }
    }

    fn describe_manifest(&self, name: &str, manifest: &Manifest) -> StoredModel {
        let own = self.folder(name);
        let base = manifest.base(&own);
        let (path, sha256) = match manifest.files.as_slice() {
            [one] => (base.join(&one.name), Some(one.sha256.clone())),
            _ => (base.to_path_buf(), None),
        };
        let state = match manifest.files.iter().find_map(|f| f.difference(base)) {
            Some(reason) => StoredState::Changed { reason },
            None => StoredState::Intact,
        };
        StoredModel {
            name: name.into(),
            path,
            bytes: manifest.bytes(),
            sha256,
            source: manifest.source.clone(),
            installed: manifest.installed,
            linked: manifest.folder.is_some(),
            state,
        }
    }

    /// Deletes old unfinished fetches of other models that no process works on.
    fn sweep(&self, own: &str) {
        let Ok(entries) = fs::read_dir(self.root.join(PARTIAL)) else {
            return;
        };
        for name in entries
            .filter_map(Result::ok)
            .filter_map(|e| e.file_name().into_string().ok())
        {
            let path = self.partial(&name);
            let age = fs::metadata(&path).and_then(|m| m.modified()).ok();
            let age = age
                .and_then(|t| SystemTime::now().duration_since(t).ok())
                .unwrap_or_default();
            if name != own
                && age > STALE
                && check_model_name("", &name).is_ok()
                && let Ok(Some(_lock)) = Lock::try_acquire(&self.lock_file(&name))
                && let Err(error) = remove_tree(&path)
            {
                tracing::warn!(%error, "cannot delete an unfinished fetch");
            }
        }
    }
}

/// An installation under way; dropping it without [`Staging::commit`] installs nothing.
#[derive(Debug)]
pub(super) struct Staging<'a> {
    store: &'a Store,
    name: String,
    partial: PathBuf,
    _lock: Lock,
}

impl Staging<'_> {
    /// Working space that survives an interruption.
    pub(super) fn scratch(&self) -> &Path {
        &self.partial
    }

    /// Where the model's files are put.
    pub(super) fn model(&self) -> PathBuf {
        self.partial.join(NEW)
    }

    /// Puts the model in its place, in one rename, over an older one of the same name.
    pub(super) fn commit(self, manifest: &Manifest) -> Result<StoredModel, SourceError> {
        let (new, target) = (self.model(), self.store.folder(&self.name));
        manifest.write(&new)?;
        sync_folder(&new);
        if target.exists() {
            fs::rename(&target, self.partial.join(OLD))
                .map_err(SourceError::io("replace", &target))?;
        }
        if let Err(error) = fs::rename(&new, &target) {
            // Without locks another process may have been first; its model is as good.
            let theirs = self
                .store
                .describe(&self.name)
                .filter(|m| m.state == StoredState::Intact);
            return theirs.ok_or_else(|| SourceError::io("rename to", &target)(error));
        }
        sync_folder(&self.store.root);
        if let Err(error) = remove_tree(&self.partial) {
            tracing::warn!(%error, "cannot delete the working folder of an installation");
        }
        Ok(self.store.describe_manifest(&self.name, manifest))
    }
}

impl Drop for Staging<'_> {
    /// Leaves only what a next attempt can use.
    fn drop(&mut self) {
        for leftover in [NEW, OLD] {
            if let Err(error) = remove_tree(&self.partial.join(leftover)) {
                tracing::warn!(%error, "cannot delete what an installation left");
            }
        }
        // Fails, as it should, when there is something to use.
        let _ = fs::remove_dir(&self.partial);
    }
}

fn checked(name: &str) -> Result<&str, SourceError> {
    let name = known_model(name).map_or(name, |k| k.name);
    check_model_name("the model name", name)?;
    Ok(name)
}

pub(super) fn remove_tree(path: &Path) -> Result<(), SourceError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(SourceError::io("delete", path)(e))
        }
        _ => Ok(()),
    }
}

/// Bytes of the plain files below a folder; links are not followed.
pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let mut waiting = vec![folder.to_path_buf()];
    let mut bytes = 0u64;
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
        {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.file_name() != MANIFEST => {
                    bytes = bytes.saturating_add(entry.metadata().map_or(0, |m| m.len()));
                }
                _ => {}
            }
        }
    }
    bytes
}

/// Brings renames to disk where the system has that.
pub(super) fn sync_folder(folder: &Path) {
    if cfg!(unix)
        && let Err(error) = File::open(folder).and_then(|f| f.sync_all())
    {
        tracing::debug!(folder = %folder.display(), %error, "cannot sync");
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
