//! [`FileBytes`]: the bytes of a weight file, mapped or in memory.
#![allow(unsafe_code)] // mapping a file is unsafe in itself, see `FileBytes::open`

use std::fmt;
use std::fs::{self, File};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
#[cfg(target_os = "linux")]
use memmap2::UncheckedAdvice;

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

    /// Gives the memory of the pages that hold `range` back to the system, which reads them from the file again when
    /// they are needed. Only advice, and only on Linux: elsewhere nothing happens.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Self::Mapped(map) = self
            && range.start < range.end
            && range.end <= map.len()
        {
            // SAFETY: a read-only map of a file has no contents of its own; a page that was dropped comes back with the
            // bytes of the file, which nobody changes while it is mapped (the condition of `open`).
            let dropped = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
            };
            if let Err(error) = dropped {
                tracing::debug!(%error, "pages of a weight file stay in memory");
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn released_pages_come_back_with_the_same_bytes() {
        let bytes: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        let map = FileBytes::open(file.path()).unwrap();
        assert!(matches!(map, FileBytes::Mapped(_)) && *map == *bytes);
        for range in [0..bytes.len(), 5000..5001, 7..150_000, 3..3] {
            map.release(range);
            assert!(*map == *bytes);
        }
        map.release(0..bytes.len() + 1);
        map.release(usize::MAX - 1..usize::MAX);
        FileBytes::Memory(bytes.clone().into()).release(0..10);
    }
}
