//! One process at a time.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::progress::during;
use super::{Progress, SourceError};

const POLL: Duration = Duration::from_millis(50);

/// A lock that the system gives back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    /// Absent on a file system without locks; whoever renames first wins there.
    _file: Option<File>,
}

impl Lock {
    /// Waits for the lock; `progress` is told so and can stop it.
    pub(super) fn acquire(path: &Path, progress: &mut dyn Progress) -> Result<Self, SourceError> {
        if let Some(lock) = Self::try_acquire(path)? {
            return Ok(lock);
        }
        during(
            progress,
            "waiting for another process that fetches the same model",
            None,
            |progress| {
                loop {
                    if progress.cancelled() {
                        return Err(SourceError::Cancelled);
                    }
                    thread::sleep(POLL);
                    if let Some(lock) = Self::try_acquire(path)? {
                        return Ok(lock);
                    }
                }
            },
        )
    }

    /// `None` when another process has it.
    pub(super) fn try_acquire(path: &Path) -> Result<Option<Self>, SourceError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(SourceError::io("create", folder))?;
        }
        // The file is never deleted: a waiter may hold the old one while a newcomer locks a new one.
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file.map_err(SourceError::io("open", path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "this file system has no locks");
                Ok(Some(Self { _file: None }))
            }
        }
    }
}
