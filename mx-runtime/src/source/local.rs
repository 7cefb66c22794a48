//! Models given by a path.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::SourceError;
use super::choose::{Choice, choose, shown};

/// Folder entries that are looked at, so that a folder of millions does not stop the program.
const MAX_ENTRIES: usize = 10_000;
const GGUF_MAGIC: &[u8; 4] = b"GGUF";

/// The file or folder that a loader opens for `path`: a GGUF file, or a folder with config and safetensors.
pub(super) fn find(path: &Path) -> Result<PathBuf, SourceError> {
    let kind = fs::metadata(path).map_err(SourceError::io("open", path))?;
    if kind.is_file() {
        return find_file(path);
    }
    let not_a_model = |reason| SourceError::NotAModel {
        place: path.display().to_string(),
        reason,
        found: Vec::new(),
    };
    if !kind.is_dir() {
        return Err(not_a_model("it is neither a file nor a folder"));
    }
    match choose(&path.display().to_string(), &file_names(path)?, None)? {
        Choice::File(file) => Ok(path.join(file)),
        Choice::Folder(_) => Ok(path.to_path_buf()),
    }
}

/// The error for a path that does not exist, with what its folder has.
pub(super) fn no_such_path(path: &Path) -> SourceError {
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let found = file_names(parent)
        .map(|names| shown(&names))
        .unwrap_or_default();
    SourceError::NoSuchPath {
        path: path.to_path_buf(),
        found,
    }
}

fn find_file(path: &Path) -> Result<PathBuf, SourceError> {
    let not_a_model = |reason| SourceError::NotAModel {
        place: path.display().to_string(),
        reason,
        found: Vec::new(),
    };
    let mut magic = [0; GGUF_MAGIC.len()];
    let read = File::open(path).and_then(|f| f.take(magic.len() as u64).read(&mut magic));
    let read = read.map_err(SourceError::io("read", path))?;
    if magic[..read] == GGUF_MAGIC[..] {
        return Ok(path.to_path_buf());
    }
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    if extension.eq_ignore_ascii_case("gguf") {
        // The loader says more precisely what is wrong with it.
        return Ok(path.to_path_buf());
    }
    if extension.eq_ignore_ascii_case("safetensors") {
        return Err(not_a_model(
            "give the folder that holds the safetensors with their config.json",
        ));
    }
    Err(not_a_model("it is no GGUF file"))
}

/// Names of the files in a folder, sorted.
pub(super) fn file_names(folder: &Path) -> Result<Vec<String>, SourceError> {
    let entries = fs::read_dir(folder).map_err(SourceError::io("list", folder))?;
    let mut names: Vec<String> = entries
        .take(MAX_ENTRIES)
        .filter_map(Result::ok)
        .filter(|e| fs::metadata(e.path()).is_ok_and(|m| m.is_file()))
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_and_folders() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("a.gguf"), "anything").unwrap();
        fs::write(at("blob"), "GGUF\x03").unwrap();
        fs::write(at("notes.txt"), "x").unwrap();
        assert_eq!(find(&at("a.gguf")).unwrap(), at("a.gguf"));
        assert_eq!(find(&at("blob")).unwrap(), at("blob"));
        assert!(matches!(
            find(&at("notes.txt")),
            Err(SourceError::NotAModel { .. })
        ));
        assert!(matches!(find(&at("none")), Err(SourceError::Io { .. })));
        assert_eq!(find(root.path()).unwrap(), at("a.gguf"));
        fs::write(at("model.safetensors"), "").unwrap();
        fs::write(at("config.json"), "{}").unwrap();
        assert_eq!(find(root.path()).unwrap(), root.path());
        assert!(matches!(
            find(&at("model.safetensors")),
            Err(SourceError::NotAModel { .. })
        ));
        fs::remove_file(at("config.json")).unwrap();
        fs::write(at("b.gguf"), "").unwrap();
        let error = find(root.path()).unwrap_err();
        assert!(error.to_string().contains("a.gguf, b.gguf"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_no_model_and_does_not_block() {
        assert!(matches!(
            find(Path::new("/dev/null")),
            Err(SourceError::NotAModel { .. })
        ));
    }
}
