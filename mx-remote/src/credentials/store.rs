//! The credentials file that the vendor's client reads and writes.

use crate::error::{Error, Result};
use crate::secret::Secret;
use serde_json::{Map, Value};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const FOLDER: &str = ".mechanex";
const FILE: &str = "config.json";
/// No credentials file is longer.
const MAX_BYTES: u64 = 1 << 20;
/// Names tried for a temporary file.
const ATTEMPTS: u32 = 100;

/// A credentials file. Writing replaces it as a whole, so that a reader sees the old one or the new one, and lets its
/// owner alone read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialStore {
    path: PathBuf,
}

/// What a credentials file holds.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct StoredCredentials {
    /// The key.
    pub api_key: Option<Secret>,
    /// The session's access token.
    pub access_token: Option<Secret>,
    /// The session's refresh token.
    pub refresh_token: Option<Secret>,
    /// Names of the fields that are kept without being understood.
    pub others: Vec<String>,
}

impl CredentialStore {
    /// The file at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        CredentialStore { path: path.into() }
    }

    /// The file `.mechanex/config.json` in a home folder.
    pub fn in_home(home: &Path) -> Self {
        CredentialStore::at(home.join(FOLDER).join(FILE))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. A file that does not exist holds nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when it cannot be read or is not a JSON object of texts.
    pub fn read(&self) -> Result<StoredCredentials> {
        self.understand(&self.read_object()?)
    }

    /// Changes it. Fields that are not understood stay as they are.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when it cannot be read or written. A file that is not understood is not overwritten.
    pub fn update(&self, change: impl FnOnce(&mut StoredCredentials)) -> Result<()> {
        let mut object = self.read_object()?;
        let mut stored = self.understand(&object)?;
        change(&mut stored);
        let fields = [
            ("api_key", stored.api_key),
            ("access_token", stored.access_token),
            ("refresh_token", stored.refresh_token),
        ];
        for (name, secret) in fields {
            match secret {
                Some(secret) => object.insert(name.into(), Value::String(secret.expose().into())),
                None => object.shift_remove(name),
            };
        }
        self.write(&object)
    }

    /// Deletes it. A file that does not exist is deleted already.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when it cannot be deleted.
    pub fn delete(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.problem("delete", e)),
            _ => Ok(()),
        }
    }

    fn read_object(&self) -> Result<Map<String, Value>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
            Err(e) => return Err(self.problem("read", e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| self.problem("read", e))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(self.problem("read", invalid("it is longer than 1 MiB")));
        }
        // The parser's own message could quote a secret.
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(self.problem("read", invalid("it is not a JSON object"))),
            Err(e) => {
                let text = format!("it is not JSON (line {}, column {})", e.line(), e.column());
                Err(self.problem("read", invalid(&text)))
            }
        }
    }

    fn understand(&self, object: &Map<String, Value>) -> Result<StoredCredentials> {
        let text = |name: &str| match object.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(Secret::new(text.as_str()))),
            Some(Value::String(_) | Value::Null) | None => Ok(None),
            Some(_) => Err(self.problem("read", invalid(&format!("its {name} is not a text")))),
        };
        Ok(StoredCredentials {
            api_key: text("api_key")?,
            access_token: text("access_token")?,
            refresh_token: text("refresh_token")?,
            others: object
                .keys()
                .filter(|name| {
                    !matches!(name.as_str(), "api_key" | "access_token" | "refresh_token")
                })
                .cloned()
                .collect(),
        })
    }

    fn write(&self, object: &Map<String, Value>) -> Result<()> {
        let problem = |e| self.problem("write", e);
        let mut text = serde_json::to_vec_pretty(object).map_err(|e| problem(e.into()))?;
        text.push(b'\n');
        // A link is followed, so that the file it points to is replaced and not the link.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let folder = target.parent().unwrap_or(Path::new("."));
        create_folder(folder).map_err(problem)?;
        let (mut file, part) = temporary(folder).map_err(problem)?;
        let written = file
            .write_all(&text)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&part, &target));
        written.map_err(|e| {
            let _ = fs::remove_file(&part);
            problem(e)
        })
    }

    fn problem(&self, action: &'static str, source: io::Error) -> Error {
        Error::Store {
            action,
            path: self.path.clone(),
            source,
        }
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(unix)]
fn create_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

#[cfg(not(unix))]
fn create_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// A new file beside the target that only its owner may read, from its first moment on.
fn temporary(folder: &Path) -> io::Result<(File, PathBuf)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for attempt in 0..ATTEMPTS {
        let path = folder.join(format!(".{FILE}.{}.{attempt}", std::process::id()));
        match options.open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}
