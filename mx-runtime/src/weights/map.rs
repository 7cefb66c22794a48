//! [`FileBytes`]: the bytes of a weight file, mapped or in memory.
#![allow(unsafe_code)] // mapping a file is unsafe in itself, see `FileBytes::open`

use std::fmt;
use std::fs::{self, File};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::WeightsError;

/// The bytes of a whole file.
pub(super) enum FileBytes {
    Mapped(Mmap),
    Memory(Arc<[u8]>),
}

impl FileBytes {
    /// Maps the file at `path`.
    ///
    /// The file must not be cut short while it is mapped: reading a page that is gone ends the process on most
    /// systems. Weight files are replaced by renaming, which keeps the mapped one alive.
    ///
    /// # Errors
    /// Everything that is no readable regular file.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |action| {
            move |source| WeightsError::Io {
                path: path.to_owned(),
                action,
                source,
            }
        };
        // Asked before opening: to open a pipe would wait for a writer.
        let kind = fs::metadata(path).map_err(io("open"))?;
        if !kind.is_file() {
            return Err(WeightsError::NotAFile {
                path: path.to_owned(),
            });
        }
        if kind.len() == 0 {
            return Ok(Self::Memory(Arc::new([])));
        }
        let file = File::open(path).map_err(io("open"))?;
        // SAFETY: the map is read-only and private to this value; that nobody cuts the file short meanwhile is
        // the documented condition above, which no check in this process can establish.
        let map = unsafe { Mmap::map(&file) }.map_err(io("map"))?;
        Ok(Self::Mapped(map))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Mapped(_) => "Mapped",
            Self::Memory(_) => "Memory",
        };
        write!(formatter, "{kind}({} bytes)", self.len())
    }
}
