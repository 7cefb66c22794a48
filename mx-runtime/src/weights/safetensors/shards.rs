//! `model.safetensors.index.json` and the shards it names.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use super::super::WeightsError;
use super::SafetensorsLimits;
use super::file::SafetensorsFile;
use super::header::Index;

/// The shards, and for each tensor of the index its shard and its number in it.
type Shards = (Vec<SafetensorsFile>, Vec<(usize, usize)>);

/// Opens every shard that the index at `path` names.
pub(super) fn open(path: &Path, limits: &SafetensorsLimits) -> Result<Shards, WeightsError> {
    let index = read_index(path, limits)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut names: HashSet<String> = HashSet::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut files: Vec<SafetensorsFile> = Vec::new();
    let mut places = Vec::new();
    for (tensor, shard) in index.weight_map.0 {
        let number = match numbers.get(&shard) {
            Some(&number) => number,
            None => {
                let number = files.len();
                within(
                    number as u64 + 1,
                    "number of shards in the index",
                    "max_shards",
                    limits.max_shards,
                    path,
                )?;
                files.push(open_shard(path, folder, &tensor, &shard, limits)?);
                numbers.insert(shard.clone(), number);
                number
            }
        };
        let Some(&place) = files[number].index.get(&tensor) else {
            return Err(WeightsError::MissingFromShard {
                path: path.to_owned(),
                tensor,
                shard,
            });
        };
        places.push((number, place));
        if let Some(key) = names.replace(tensor) {
            return Err(WeightsError::DuplicateKey {
                path: path.to_owned(),
                what: "tensor",
                key,
            });
        }
    }
    Ok((files, places))
}

fn read_index(path: &Path, limits: &SafetensorsLimits) -> Result<Index, WeightsError> {
    let io = |action| {
        move |source| WeightsError::Io {
            path: path.to_owned(),
            action,
            source,
        }
    };
    // Asked before opening: to open a pipe would wait for a writer.
    if !path.metadata().map_err(io("open"))?.is_file() {
        return Err(WeightsError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    let most = limits.max_header_bytes;
    let mut file = File::open(path)
        .map_err(io("open"))?
        .take(most.saturating_add(1));
    file.read_to_end(&mut bytes).map_err(io("read"))?;
    within(
        bytes.len() as u64,
        "size of the index",
        "max_header_bytes",
        most,
        path,
    )?;
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|source| WeightsError::InvalidHeader {
            path: path.to_owned(),
            what: "safetensors index",
            source,
        })?;
    let tensors = index.weight_map.0.len() as u64;
    within(
        tensors,
        "number of tensors in the index",
        "max_tensors",
        limits.max_tensors,
        path,
    )?;
    Ok(index)
}

fn open_shard(
    index: &Path,
    folder: &Path,
    tensor: &str,
    shard: &str,
    limits: &SafetensorsLimits,
) -> Result<SafetensorsFile, WeightsError> {
    let (path, tensor, name) = (index.to_owned(), tensor.to_owned(), shard.to_owned());
    if !is_inside(shard) {
        return Err(WeightsError::ShardOutsideFolder {
            path,
            tensor,
            shard: name,
        });
    }
    let file = folder.join(shard);
    if !file.exists() {
        return Err(WeightsError::MissingShard {
            path,
            tensor,
            shard: name,
        });
    }
    SafetensorsFile::open(&file, limits)
}

/// Whether a shard's name stays inside the folder of the index: relative, no `..`, and no separators or drive letters of
/// another system, so that a file means the same everywhere. The hub's cache links files elsewhere, so links are followed.
fn is_inside(shard: &str) -> bool {
    let plain = Path::new(shard)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    plain && !shard.is_empty() && !shard.contains(['\\', ':', '\0'])
}

fn within(
    given: u64,
    field: &str,
    limit: &'static str,
    most: u64,
    path: &Path,
) -> Result<(), WeightsError> {
    if given <= most {
        return Ok(());
    }
    let (path, field) = (path.to_owned(), field.to_owned());
    Err(WeightsError::LimitExceeded {
        path,
        offset: 0,
        field,
        limit,
        given,
        most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_seen() {
        for shard in ["model-00001-of-00002.safetensors", "part/a.safetensors"] {
            assert!(is_inside(shard), "{shard}");
        }
        for shard in [
            "",
            ".",
            "..",
            "../a",
            "a/../../b",
            "/etc/passwd",
            "C:\\a",
            "..\\a",
            "c:a",
            "a\0b",
        ] {
            assert!(!is_inside(shard), "{shard:?}");
        }
    }
}
