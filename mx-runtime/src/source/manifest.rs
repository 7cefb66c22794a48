//! The note beside an installed model: what it is, where it came from, and how to see that it is unchanged.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::SourceError;
use super::names::{check_relative, is_sha256};

pub(super) const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// Where it came from, for people.
    pub(super) source: String,
    /// Unix seconds.
    pub(super) installed: u64,
    /// The folder that has the files when it is not the manifest's own (a hub's cache).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) folder: Option<PathBuf>,
    pub(super) files: Vec<ManifestFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestFile {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// Seconds and nanoseconds since 1970.
    pub(super) modified: (u64, u32),
}

impl Manifest {
    pub(super) fn new(source: String, folder: Option<PathBuf>, files: Vec<ManifestFile>) -> Self {
        let installed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        Self {
            format: FORMAT,
            source,
            installed,
            folder,
            files,
        }
    }

    /// `None` without a manifest.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, SourceError> {
        let path = folder.join(MANIFEST);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(e) => return Err(SourceError::io("open", &path)(e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(SourceError::io("read", &path))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(SourceError::Manifest {
                path,
                reason: format!("it is longer than {MAX_BYTES} bytes"),
            });
        }
        let manifest: Self = match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(e) => {
                return Err(SourceError::Manifest {
                    path,
                    reason: e.to_string(),
                });
            }
        };
        manifest.check(&path)?;
        Ok(Some(manifest))
    }

    /// Writes it whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> Result<(), SourceError> {
        let path = folder.join(MANIFEST);
        let json = serde_json::to_vec_pretty(self);
        let json = json.map_err(|e| SourceError::Manifest {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        write_whole(&path, &json)
    }

    /// The folder of the files, for a manifest that lies in `own`.
    pub(super) fn base<'a>(&'a self, own: &'a Path) -> &'a Path {
        self.folder.as_deref().unwrap_or(own)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum, f| sum.saturating_add(f.bytes))
    }

    fn check(&self, path: &Path) -> Result<(), SourceError> {
        let place = path.display().to_string();
        let unusable = |reason: String| {
            Err(SourceError::Manifest {
                path: path.to_path_buf(),
                reason,
            })
        };
        if self.format != FORMAT {
            return unusable(format!("format is {}, wanted {FORMAT}", self.format));
        }
        if self.files.is_empty() {
            return unusable("it names no file".into());
        }
        if self.folder.as_ref().is_some_and(|f| !f.is_absolute()) {
            return unusable("folder is not absolute".into());
        }
        for file in &self.files {
            check_relative(&place, &file.name)?;
            if !is_sha256(&file.sha256) {
                return unusable(format!("sha256 of {} is no SHA-256", file.name));
            }
        }
        Ok(())
    }
}

impl ManifestFile {
    /// Takes length and time from the disk.
    pub(super) fn of(folder: &Path, name: &str, sha256: String) -> Result<Self, SourceError> {
        let (bytes, modified) = stamp(&folder.join(name))?;
        Ok(Self {
            name: name.into(),
            bytes,
            sha256,
            modified,
        })
    }

    /// What differs on disk, in words.
    pub(super) fn difference(&self, folder: &Path) -> Option<String> {
        match stamp(&folder.join(&self.name)) {
            Err(error) => Some(error.to_string()),
            Ok((bytes, _)) if bytes != self.bytes => Some(format!(
                "{} has {bytes} bytes, wanted {}",
                self.name, self.bytes
            )),
            Ok((_, modified)) if modified != self.modified => Some(format!(
                "{} was written to after it was installed",
                self.name
            )),
            Ok(_) => None,
        }
    }
}

/// Writes a file under a temporary name, brings it to disk, and renames it.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> Result<(), SourceError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut file = File::create(&temporary).map_err(SourceError::io("create", &temporary))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(SourceError::io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(SourceError::io("rename to", path))
}

fn stamp(path: &Path) -> Result<(u64, (u64, u32)), SourceError> {
    let meta = fs::metadata(path).map_err(SourceError::io("open", path))?;
    let modified = meta
        .modified()
        .ok()
        .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    Ok((meta.len(), (modified.as_secs(), modified.subsec_nanos())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Option<Manifest>, SourceError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), text).unwrap();
        Manifest::read(folder.path())
    }

    #[test]
    fn written_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("m.gguf"), "x").unwrap();
        let file = ManifestFile::of(folder.path(), "m.gguf", "0".repeat(64)).unwrap();
        let manifest = Manifest::new("test".into(), None, vec![file]);
        manifest.write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap().unwrap(), manifest);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "no temporary file stays"
        );
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let with = |name: &str, sha: &str, extra: &str| {
            format!(
                r#"{{"format":1,"source":"s","installed":1{extra},"files":[{{"name":{name:?},"bytes":1,"sha256":"{sha}","modified":[1,2]}}]}}"#
            )
        };
        let sha = "a".repeat(64);
        assert!(read(&with("m.gguf", &sha, "")).unwrap().is_some());
        assert!(matches!(
            read(&with("../x", &sha, "")),
            Err(SourceError::UnsafeName { .. })
        ));
        assert!(matches!(
            read(&with("/etc/x", &sha, "")),
            Err(SourceError::UnsafeName { .. })
        ));
        assert!(matches!(
            read(&with("m", "zz", "")),
            Err(SourceError::Manifest { .. })
        ));
        assert!(matches!(
            read(&with("m", &sha, r#","folder":"rel""#)),
            Err(SourceError::Manifest { .. })
        ));
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"format":2,"source":"","installed":0,"files":[]}"#,
        ] {
            assert!(
                matches!(read(text), Err(SourceError::Manifest { .. })),
                "{text}"
            );
        }
        assert!(matches!(
            read(&"[".repeat(100_000)),
            Err(SourceError::Manifest { .. })
        ));
        assert!(matches!(
            read(&" ".repeat(2 << 20)),
            Err(SourceError::Manifest { .. })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_are_survived(text in ".{0,200}") {
            let _ = read(&text);
        }
    }
}
