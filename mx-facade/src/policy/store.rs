//! Saved policies and presets: readable JSON files that several processes may use at once.
//!
//! A policy is the file `<id>.json`, a preset `presets/<id>.json` below it. Files are written beside and renamed into
//! place, so a reader sees the old or the new one whole. A policy comes back as it was saved, unknown fields included.

use super::Policy;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Longest id.
const MAX_ID_BYTES: usize = 200;
const EXTENSION: &str = "json";
const PRESETS: &str = "presets";
const PRIVATE: &str = "private";
const PUBLIC: &str = "public";

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyStoreError {
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds no policy or preset.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file is larger than any policy.
    #[error("{path} has {bytes} bytes, MAX_FILE_BYTES allows {}", MAX_FILE_BYTES)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Nothing has this id.
    #[error("no {what} has the id {id:?}; the store has {count}")]
    NotFound {
        /// `policy` or `preset`.
        what: &'static str,
        /// The id given.
        id: String,
        /// How many there are.
        count: usize,
    },
    /// An id that cannot be a file's name.
    #[error("the id {id:?} cannot be used: {reason}")]
    Id {
        /// The id given.
        id: String,
        /// Why.
        reason: &'static str,
    },
    /// A visibility that does not exist.
    #[error("visibility is {given:?}, wanted private or public")]
    Visibility {
        /// What was given.
        given: String,
    },
}

impl PolicyStoreError {
    /// Whether nothing has the id asked for.
    pub fn is_not_found(&self) -> bool {
        matches!(self, PolicyStoreError::NotFound { .. })
    }
}

/// A published policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PolicyPreset {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The policy.
    pub policy: Policy,
    /// `private` or `public`.
    #[serde(default = "private")]
    pub visibility: String,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// The key that owns it; none in a store of this machine.
    #[serde(default)]
    pub owner_api_key_id: Option<String>,
    /// Seconds since 1970 at which it was written; what the service writes, there.
    #[serde(default)]
    pub updated_at: Option<Value>,
}

fn private() -> String {
    PRIVATE.to_owned()
}

impl PolicyPreset {
    /// A private preset of this name.
    pub fn new(name: impl Into<String>, policy: Policy) -> Self {
        PolicyPreset {
            id: String::new(),
            name: name.into(),
            policy,
            visibility: private(),
            tags: Vec::new(),
            description: None,
            owner_api_key_id: None,
            updated_at: None,
        }
    }
}

/// Saved policies and presets, in a folder or in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub struct PolicyStore {
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Folder(PathBuf),
    /// Texts by their path below the folder there would be.
    Memory(Arc<Mutex<BTreeMap<String, String>>>),
}

impl Default for Place {
    fn default() -> Self {
        Place::Memory(Arc::default())
    }
}

impl PolicyStore {
    /// The store in a folder, which is made when the first policy is saved.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        PolicyStore {
            place: Place::Folder(folder.into()),
        }
    }

    /// A store that lasts as long as its last clone.
    pub fn in_memory() -> Self {
        PolicyStore::default()
    }

    /// The folder, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder(folder) => Some(folder),
            Place::Memory(_) => None,
        }
    }

    /// Saves a policy and returns its id: its own, or a new one that is put into it.
    ///
    /// # Errors
    /// [`PolicyStoreError`].
    pub fn save(&self, policy: &Policy) -> Result<String, PolicyStoreError> {
        let mut policy = policy.clone();
        let id = match policy.id.value() {
            Some(id) => id.clone(),
            None => new_id("pol"),
        };
        policy.id = id.clone().into();
        self.write("", &id, &policy)?;
        Ok(id)
    }

    /// The policy of an id.
    ///
    /// # Errors
    /// [`PolicyStoreError`].
    pub fn get(&self, id: &str) -> Result<Policy, PolicyStoreError> {
        self.read("", id, "policy")
    }

    /// All policies by id. Files that cannot be read are left out and returned beside the list.
    ///
    /// # Errors
    /// [`PolicyStoreError::Io`] where the folder cannot be listed; one that is not there has no policies.
    pub fn list(&self) -> Result<(Vec<Policy>, Vec<PolicyStoreError>), PolicyStoreError> {
        self.all("", "policy")
    }

    /// Removes a policy.
    ///
    /// # Errors
    /// [`PolicyStoreError`].
    pub fn delete(&self, id: &str) -> Result<(), PolicyStoreError> {
        check_id(id)?;
        let missing = || self.not_found("", id, "policy");
        match &self.place {
            Place::Folder(folder) => {
                let path = folder.join(format!("{id}.{EXTENSION}"));
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
                    other => other.map_err(|source| PolicyStoreError::Io { path, source }),
                }
            }
            Place::Memory(map) => {
                // The lock is given back before the store is asked again.
                let removed = locked(map).remove(id);
                removed.map(drop).ok_or_else(missing)
            }
        }
    }

    /// Publishes a policy as a preset and returns its id.
    ///
    /// # Errors
    /// [`PolicyStoreError`].
    pub fn publish(&self, preset: &PolicyPreset) -> Result<String, PolicyStoreError> {
        if ![PRIVATE, PUBLIC].contains(&preset.visibility.as_str()) {
            return Err(PolicyStoreError::Visibility {
                given: preset.visibility.clone(),
            });
        }
        let mut preset = preset.clone();
        if preset.id.is_empty() {
            preset.id = new_id("preset");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        preset.updated_at = now.ok().map(|time| time.as_secs().into());
        self.write(PRESETS, &preset.id, &preset)?;
        Ok(preset.id)
    }

    /// All presets by id, public ones only if asked for. Files that cannot be read are returned beside the list.
    ///
    /// # Errors
    /// [`PolicyStoreError::Io`] where the folder cannot be listed.
    pub fn presets(
        &self,
        include_public: bool,
    ) -> Result<(Vec<PolicyPreset>, Vec<PolicyStoreError>), PolicyStoreError> {
        let (mut presets, damaged) = self.all::<PolicyPreset>(PRESETS, "preset")?;
        presets.retain(|preset| include_public || preset.visibility != PUBLIC);
        Ok((presets, damaged))
    }

    /// Saves the policy of a preset under a new id.
    ///
    /// # Errors
    /// [`PolicyStoreError`].
    pub fn clone_preset(&self, id: &str) -> Result<String, PolicyStoreError> {
        let preset: PolicyPreset = self.read(PRESETS, id, "preset")?;
        let mut policy = preset.policy;
        policy.id = new_id("pol").into();
        self.save(&policy)
    }

    fn read<T: for<'de> Deserialize<'de>>(
        &self,
        below: &str,
        id: &str,
        what: &'static str,
    ) -> Result<T, PolicyStoreError> {
        check_id(id)?;
        let (path, text) = match &self.place {
            Place::Folder(folder) => {
                let path = folder.join(below).join(format!("{id}.{EXTENSION}"));
                match read_text(&path) {
                    Err(PolicyStoreError::Io { source, .. })
                        if source.kind() == io::ErrorKind::NotFound =>
                    {
                        return Err(self.not_found(below, id, what));
                    }
                    other => (path, other?),
                }
            }
            Place::Memory(map) => {
                let found = locked(map).get(&key(below, id)).cloned();
                let text = found.ok_or_else(|| self.not_found(below, id, what))?;
                (PathBuf::from(id), text)
            }
        };
        serde_json::from_str(&text).map_err(|source| PolicyStoreError::Json { path, source })
    }

    fn write(&self, below: &str, id: &str, value: &impl Serialize) -> Result<(), PolicyStoreError> {
        check_id(id)?;
        let path = match &self.place {
            Place::Folder(folder) => folder.join(below).join(format!("{id}.{EXTENSION}")),
            Place::Memory(_) => PathBuf::from(id),
        };
        let text =
            serde_json::to_string_pretty(value).map_err(|source| PolicyStoreError::Json {
                path: path.clone(),
                source,
            })? + "\n";
        match &self.place {
            Place::Folder(_) => write_atomically(&path, text.as_bytes())
                .map_err(|source| PolicyStoreError::Io { path, source }),
            Place::Memory(map) => {
                locked(map).insert(key(below, id), text);
                Ok(())
            }
        }
    }

    fn all<T: for<'de> Deserialize<'de>>(
        &self,
        below: &str,
        what: &'static str,
    ) -> Result<(Vec<T>, Vec<PolicyStoreError>), PolicyStoreError> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for id in self.ids(below)? {
            match self.read(below, &id, what) {
                Ok(value) => found.push(value),
                // Another process may have removed it meanwhile.
                Err(PolicyStoreError::NotFound { .. }) => {}
                Err(error) => damaged.push(error),
            }
        }
        Ok((found, damaged))
    }

    fn ids(&self, below: &str) -> Result<Vec<String>, PolicyStoreError> {
        let folder = match &self.place {
            Place::Folder(folder) => folder.join(below),
            Place::Memory(map) => {
                let map = locked(map);
                let ids = map.keys().filter_map(|key| match key.split_once('/') {
                    Some((folder, id)) => (folder == below).then(|| id.to_owned()),
                    None => below.is_empty().then(|| key.clone()),
                });
                return Ok(ids.collect());
            }
        };
        let io = |source| PolicyStoreError::Io {
            path: folder.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            let id = name
                .to_str()
                .and_then(|name| name.strip_suffix(EXTENSION)?.strip_suffix('.'))
                .filter(|id| check_id(id).is_ok());
            ids.extend(id.map(str::to_owned));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn not_found(&self, below: &str, id: &str, what: &'static str) -> PolicyStoreError {
        PolicyStoreError::NotFound {
            what,
            id: id.to_owned(),
            count: self.ids(below).map_or(0, |ids| ids.len()),
        }
    }
}

fn locked(map: &Mutex<BTreeMap<String, String>>) -> MutexGuard<'_, BTreeMap<String, String>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(below: &str, id: &str) -> String {
    match below {
        "" => id.to_owned(),
        below => format!("{below}/{id}"),
    }
}

/// An id nobody has.
fn new_id(kind: &str) -> String {
    let word = crate::client::random_seed() ^ crate::client::random_seed().rotate_left(21);
    format!("{kind}_{word:016x}")
}

/// Refuses an id that is no plain file name.
fn check_id(id: &str) -> Result<(), PolicyStoreError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | ':');
    let reason = if id.is_empty() {
        "it is empty"
    } else if id.len() > MAX_ID_BYTES {
        "it is longer than 200 bytes"
    } else if id.starts_with(['.', ' ']) || id.ends_with(['.', ' ']) {
        "it begins or ends with a dot or a blank"
    } else if !id.chars().all(plain) {
        "it has characters other than letters, digits, blanks and - _ . :"
    } else {
        return Ok(());
    };
    Err(PolicyStoreError::Id {
        id: id.chars().take(MAX_ID_BYTES).collect(),
        reason,
    })
}

/// The text of a file of bounded size.
pub(crate) fn read_text(path: &Path) -> Result<String, PolicyStoreError> {
    let io = |source| PolicyStoreError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(PolicyStoreError::TooLarge {
            path: path.to_owned(),
            bytes,
        });
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(io)?;
    Ok(text)
}

/// Writes a file beside its place and renames it there.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let beside = folder.join(format!(
        ".{}.{:x}.tmp",
        std::process::id(),
        crate::client::random_seed()
    ));
    let mut file = File::options().write(true).create_new(true).open(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    let done = written.and_then(|()| std::fs::rename(&beside, path));
    if done.is_err() {
        // The error that matters is the first one.
        let _ = std::fs::remove_file(&beside);
    }
    done
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
