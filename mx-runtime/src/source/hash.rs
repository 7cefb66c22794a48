//! SHA-256 of files.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Progress, SourceError};

/// Bytes read at once; large enough that system calls do not show.
pub(super) const CHUNK: usize = 256 * 1024;

/// SHA-256 of a file in hexadecimal; [`Progress::advance`] counts its bytes (`start` and `finish` are the caller's).
///
/// # Errors
/// The file cannot be read, or `progress` cancels.
pub fn sha256_file(path: &Path, progress: &mut dyn Progress) -> Result<String, SourceError> {
    let mut file = File::open(path).map_err(SourceError::io("open", path))?;
    let mut hasher = Hasher::default();
    hasher.read_all(&mut file, path, u64::MAX, &mut |done| {
        progress.advance(done);
        progress.cancelled()
    })?;
    Ok(hasher.finish())
}

/// A running SHA-256 and the number of bytes it has seen.
#[derive(Debug, Default)]
pub(super) struct Hasher {
    state: Sha256,
    bytes: u64,
}

impl Hasher {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        self.state.update(data);
        self.bytes += data.len() as u64;
    }

    /// Takes up to `limit` bytes of `from`; `watch` is told the count and may stop it.
    pub(super) fn read_all(
        &mut self,
        from: &mut dyn Read,
        path: &Path,
        limit: u64,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), SourceError> {
        self.copy(from, path, None, limit, watch)
    }

    /// The same, and writes what it reads.
    pub(super) fn copy(
        &mut self,
        from: &mut dyn Read,
        from_path: &Path,
        mut to: Option<(&mut File, &Path)>,
        limit: u64,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), SourceError> {
        let mut from = from.take(limit);
        let mut buffer = vec![0; CHUNK];
        loop {
            if watch(self.bytes) {
                return Err(SourceError::Cancelled);
            }
            let read = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(SourceError::io("read", from_path)(e)),
            };
            self.update(&buffer[..read]);
            if let Some((file, path)) = &mut to {
                file.write_all(&buffer[..read])
                    .map_err(SourceError::io("write", path))?;
            }
        }
    }

    pub(super) fn finish(self) -> String {
        hex(&self.state.finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|n| char::from(DIGITS[usize::from(n)]))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::NoProgress;
    use super::*;

    #[test]
    fn known_digests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(
            sha256_file(&path, &mut NoProgress).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        std::fs::write(&path, "a".repeat(1_000_000)).unwrap();
        assert_eq!(
            sha256_file(&path, &mut NoProgress).unwrap(),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        );
    }
}
