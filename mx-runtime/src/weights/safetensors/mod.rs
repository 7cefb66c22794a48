//! [`Safetensors`]: one file, or a folder of shards with an index.
//!
//! The header is parsed here and not by the `safetensors` crate: the crate keeps the last of two entries with one name,
//! which the format forbids, and its errors name neither file nor values. The crate is the oracle of the tests.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use self::file::{SafetensorsFile, Tensor};
use super::{RawTensor, StoredType, TensorEntry, TensorStore, WeightsError};

mod dtype;
mod file;
mod header;
mod shards;

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";

/// Bounds on what a safetensors header or index may announce, beyond those that the file's own size sets.
///
/// Start from [`SafetensorsLimits::default`] and change single fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SafetensorsLimits {
    /// Bytes of a header or an index. Default 100 000 000, as in the reference implementation.
    pub max_header_bytes: u64,
    /// Tensors in one file or index. Default 1 048 576.
    pub max_tensors: u64,
    /// Dimensions of one tensor. Default 16.
    pub max_dimensions: u64,
    /// Files that one index names. Default 4096.
    pub max_shards: u64,
}

impl Default for SafetensorsLimits {
    fn default() -> Self {
        Self {
            max_header_bytes: 100_000_000,
            max_tensors: 1 << 20,
            max_dimensions: 16,
            max_shards: 4096,
        }
    }
}

/// Open safetensors weights.
///
/// Opening checks every header: its length against the file, names, dtypes, and that the tensors cover the data exactly,
/// without overlap or gap. F32, F16 and BF16 tensors are weights; tensors of other dtypes (index buffers, masks) are
/// listed, and only asking for them is an error. The data stays mapped and untouched.
#[derive(Debug)]
pub struct Safetensors {
    path: PathBuf,
    files: Vec<SafetensorsFile>,
    /// File and tensor in it, in the order of the header or index.
    places: Vec<(usize, usize)>,
    index: HashMap<String, usize>,
}

impl Safetensors {
    /// Opens a file, an index (`*.json`), or a folder that holds `model.safetensors` or `model.safetensors.index.json`
    /// (looked for in this order), with the default limits.
    ///
    /// The files must not be cut short while they are open. Of a shard, the tensors that the index places there are
    /// used.
    ///
    /// # Errors
    /// A [`WeightsError`] for everything that is not well-formed, a shard that is missing or lies outside the folder, and
    /// a tensor that is not where the index places it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        Self::open_with(path, &SafetensorsLimits::default())
    }

    /// As [`open`](Self::open), with other limits.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(
        path: impl AsRef<Path>,
        limits: &SafetensorsLimits,
    ) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        if path.is_dir() {
            let (single, index) = (path.join(SINGLE_FILE), path.join(INDEX_FILE));
            return if single.exists() {
                Self::open_single(path, SafetensorsFile::open(&single, limits)?)
            } else if index.exists() {
                Self::open_index(path, &index, limits)
            } else {
                let path = path.to_owned();
                Err(WeightsError::NoWeights {
                    path,
                    single: SINGLE_FILE,
                    index: INDEX_FILE,
                })
            };
        }
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            return Self::open_index(path, path, limits);
        }
        Self::open_single(path, SafetensorsFile::open(path, limits)?)
    }

    /// The pairs of `__metadata__`; of shards, one after the other.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .flat_map(|file| &file.metadata)
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    fn open_single(path: &Path, file: SafetensorsFile) -> Result<Self, WeightsError> {
        let places = (0..file.tensors.len()).map(|tensor| (0, tensor)).collect();
        Ok(Self::new(path, vec![file], places))
    }

    fn open_index(
        path: &Path,
        index: &Path,
        limits: &SafetensorsLimits,
    ) -> Result<Self, WeightsError> {
        let (files, places) = shards::open(index, limits)?;
        Ok(Self::new(path, files, places))
    }

    fn new(path: &Path, files: Vec<SafetensorsFile>, places: Vec<(usize, usize)>) -> Self {
        let name = |&(file, tensor): &(usize, usize)| files[file].tensors[tensor].name.clone();
        let index = places.iter().map(name).zip(0..).collect();
        Self {
            path: path.to_owned(),
            files,
            places,
            index,
        }
    }

    fn find(&self, name: &str) -> Option<(&SafetensorsFile, &Tensor)> {
        let (file, tensor) = self.places[*self.index.get(name)?];
        let file = &self.files[file];
        Some((file, &file.tensors[tensor]))
    }
}

impl TensorStore for Safetensors {
    fn names(&self) -> Vec<&str> {
        self.places
            .iter()
            .map(|&(file, tensor)| self.files[file].tensors[tensor].name.as_str())
            .collect()
    }

    fn entry(&self, name: &str) -> Option<TensorEntry<'_>> {
        self.find(name).map(|(_, tensor)| TensorEntry {
            name: &tensor.name,
            dtype: tensor.dtype,
            shape: &tensor.shape,
            bytes: tensor.bytes,
        })
    }

    fn tensor(&self, name: &str) -> Result<Option<RawTensor<'_>>, WeightsError> {
        let Some((file, tensor)) = self.find(name) else {
            return Ok(None);
        };
        match tensor.dtype {
            StoredType::Weights(dtype) => Ok(Some(RawTensor {
                name: &tensor.name,
                dtype,
                shape: tensor.shape.clone(),
                bytes: &file.bytes[tensor.begin..tensor.begin + tensor.bytes],
            })),
            StoredType::Other(dtype) => Err(WeightsError::UnsupportedDtype {
                path: file.path.clone(),
                tensor: tensor.name.clone(),
                dtype,
            }),
        }
    }

    fn release(&self, name: &str) {
        if let Some((file, tensor)) = self.find(name) {
            let range = tensor.begin..tensor.begin + tensor.bytes;
            file.bytes.release(range);
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
