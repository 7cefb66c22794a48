//! A folder of vectors that several processes may use at once.
//!
//! Every vector is one native file named by its id. Files are written beside and renamed into place, so a reader sees
//! the old or the new one whole; changes hold an advisory lock on the file `.lock`, so that a rename of one process and
//! a label of another both survive.

use crate::format::{FormatError, Limits, native, read_bytes};
use crate::vector::SteeringVector;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the store could not do something.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the store is damaged.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: FormatError,
    },
    /// No vector has this id or name.
    #[error("no vector is called {given:?}; the store has {count}")]
    NotFound {
        /// The reference given.
        given: String,
        /// Number of vectors in the store.
        count: usize,
    },
    /// Several vectors have this name or begin with these letters.
    #[error("{given:?} could be {first}, {second} or others; give the whole id")]
    Ambiguous {
        /// The reference given.
        given: String,
        /// One id.
        first: String,
        /// Another id.
        second: String,
    },
    /// A name that would be taken for something else.
    #[error("the name {given:?} cannot be used: {reason}")]
    Name {
        /// The name given.
        given: String,
        /// Why.
        reason: &'static str,
    },
    /// The vector could not be written.
    #[error(transparent)]
    Write(#[from] FormatError),
}

impl StoreError {
    /// Whether nothing has the name asked for.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::NotFound { .. })
    }
}

/// What a list of the store shows of a vector.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The category.
    pub label: String,
    /// How it was made.
    pub method: String,
    /// Name of the model it was made for.
    pub model: Option<String>,
    /// Width.
    pub d_model: usize,
    /// The places.
    pub points: Vec<crate::point::Point>,
    /// Seconds since 1970 at which it was made, where its maker said so.
    pub created: Option<u64>,
}

impl Summary {
    /// The summary of a vector.
    pub fn of(vector: &SteeringVector) -> Self {
        Summary {
            id: vector.id(),
            name: vector.name.clone(),
            label: vector.label.clone(),
            method: vector.method.name().to_owned(),
            model: vector.model.name.clone(),
            d_model: vector.d_model(),
            points: vector.points().collect(),
            created: vector.provenance.created,
        }
    }
}

/// The folder.
#[derive(Debug, Clone)]
pub struct VectorStore {
    folder: PathBuf,
    limits: Limits,
}

/// Extension of the store's files.
const EXTENSION: &str = "safetensors";

/// How every id begins.
const ID_PREFIX: &str = "sv_";

/// Letters of an id, prefix included, that may stand for the whole.
const SHORTEST_PREFIX: usize = 7;

/// Longest name or label, in bytes.
const LONGEST_NAME: usize = 200;

impl VectorStore {
    /// The store in a folder, which is made when the first vector is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        VectorStore {
            folder: folder.into(),
            limits: Limits::default(),
        }
    }

    /// With other bounds on files.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps a vector and returns its id. The same vector kept again takes the new name, label and measurements.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put(&self, vector: &SteeringVector) -> Result<String, StoreError> {
        check_name("name", &vector.name)?;
        check_name("label", &vector.label)?;
        let _lock = self.lock()?;
        self.write(vector)
    }

    /// The vector with this id, the first letters of an id, or this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&self, reference: &str) -> Result<SteeringVector, StoreError> {
        self.read(&self.resolve(reference)?)
    }

    /// All vectors, by name and id. Files that cannot be read are left out and returned beside the list.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the folder cannot be listed; a folder that is not there has no vectors.
    pub fn list(&self) -> Result<(Vec<Summary>, Vec<StoreError>), StoreError> {
        let (mut summaries, mut damaged) = (Vec::new(), Vec::new());
        for id in self.ids()? {
            match self.read(&id) {
                Ok(vector) => summaries.push(Summary {
                    id,
                    ..Summary::of(&vector)
                }),
                // another process may have removed it meanwhile
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => damaged.push(error),
            }
        }
        summaries.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok((summaries, damaged))
    }

    /// Gives a vector another name; returns its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rename(&self, reference: &str, name: &str) -> Result<String, StoreError> {
        check_name("name", name)?;
        self.change(reference, |vector| vector.name = name.to_owned())
    }

    /// Gives a vector another label; returns its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn label(&self, reference: &str, label: &str) -> Result<String, StoreError> {
        check_name("label", label)?;
        self.change(reference, |vector| vector.label = label.to_owned())
    }

    /// Changes what is known of a vector (name, label, measurements, provenance) as one step; returns its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn change(
        &self,
        reference: &str,
        change: impl FnOnce(&mut SteeringVector),
    ) -> Result<String, StoreError> {
        let _lock = self.lock()?;
        let id = self.resolve(reference)?;
        let mut vector = self.read(&id)?;
        change(&mut vector);
        let new = self.write(&vector)?;
        if new != id {
            self.remove(&id)?;
        }
        Ok(new)
    }

    /// Removes a vector; returns its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn delete(&self, reference: &str) -> Result<String, StoreError> {
        let _lock = self.lock()?;
        let id = self.resolve(reference)?;
        self.remove(&id)?;
        Ok(id)
    }

    fn remove(&self, id: &str) -> Result<(), StoreError> {
        let path = self.path(id);
        std::fs::remove_file(&path).map_err(|source| StoreError::Io { path, source })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.{EXTENSION}"))
    }

    fn lock(&self) -> Result<File, StoreError> {
        let io = |path: &Path, source| StoreError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(&self.folder).map_err(|error| io(&self.folder, error))?;
        let path = self.folder.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| io(&path, error))?;
        file.lock().map_err(|error| io(&path, error))?;
        Ok(file)
    }

    fn read(&self, id: &str) -> Result<SteeringVector, StoreError> {
        let path = self.path(id);
        let bytes = match read_bytes(&path, &self.limits) {
            Ok(bytes) => bytes,
            Err(FormatError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(self.not_found(id));
            }
            Err(source) => return Err(StoreError::File { path, source }),
        };
        native::read(&bytes, &self.limits).map_err(|source| StoreError::File { path, source })
    }

    fn write(&self, vector: &SteeringVector) -> Result<String, StoreError> {
        let id = vector.id();
        let bytes = native::write(vector)?;
        let path = self.path(&id);
        write_atomically(&path, &bytes).map_err(|source| StoreError::Io { path, source })?;
        Ok(id)
    }

    fn ids(&self) -> Result<Vec<String>, StoreError> {
        let io = |source| StoreError::Io {
            path: self.folder.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&self.folder) {
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
                .filter(|id| is_id(id));
            ids.extend(id.map(str::to_owned));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn resolve(&self, reference: &str) -> Result<String, StoreError> {
        let ids = self.ids()?;
        if ids.iter().any(|id| id == reference) {
            return Ok(reference.to_owned());
        }
        let by_prefix = reference.starts_with(ID_PREFIX) && reference.len() >= SHORTEST_PREFIX;
        let mut found: Vec<String> = match by_prefix {
            true => ids
                .into_iter()
                .filter(|id| id.starts_with(reference))
                .collect(),
            false => Vec::new(),
        };
        if found.is_empty() {
            let (summaries, _) = self.list()?;
            let named = summaries
                .into_iter()
                .filter(|summary| summary.name == reference);
            found = named.map(|summary| summary.id).collect();
        }
        match &mut found[..] {
            [] => Err(self.not_found(reference)),
            [only] => Ok(std::mem::take(only)),
            [first, second, ..] => Err(StoreError::Ambiguous {
                given: reference.to_owned(),
                first: std::mem::take(first),
                second: std::mem::take(second),
            }),
        }
    }

    fn not_found(&self, given: &str) -> StoreError {
        StoreError::NotFound {
            given: crate::format::excerpt(given),
            count: self.ids().map_or(0, |ids| ids.len()),
        }
    }
}

fn is_id(text: &str) -> bool {
    text.strip_prefix(ID_PREFIX).is_some_and(|letters| {
        !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn check_name(what: &'static str, name: &str) -> Result<(), StoreError> {
    let reason = if name.len() > LONGEST_NAME {
        "it is longer than 200 bytes"
    } else if name.chars().any(char::is_control) {
        "it has control characters"
    } else if what == "name" && is_id(name) {
        "it looks like an id"
    } else {
        return Ok(());
    };
    Err(StoreError::Name {
        given: crate::format::excerpt(name),
        reason,
    })
}

/// Writes a file beside its place and renames it there, so that no one ever sees half of it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let (mut file, beside) = create_beside(folder, &name.to_string_lossy())?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    let done = written.and_then(|()| std::fs::rename(&beside, path));
    if done.is_err() {
        // the error that matters is the first one
        let _ = std::fs::remove_file(&beside);
    }
    done
}

/// A new file in the folder that no other process or thread writes.
fn create_beside(folder: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    let process = std::process::id();
    for number in 0u32..=u32::MAX {
        let path = folder.join(format!(".{name}.{process}.{number}.tmp"));
        match File::options().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => return Ok((file, path)),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "no free name for a temporary file",
    ))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
