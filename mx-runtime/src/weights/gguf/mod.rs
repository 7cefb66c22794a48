//! [`Gguf`]: the container of llama.cpp's models, versions 2 and 3.
//!
//! Layout, all numbers little-endian: `GGUF`, version (u32), number of tensors (u64), number of metadata pairs (u64); the
//! pairs (key, value type, value); per tensor its name, number of dimensions (u32), dimensions innermost first (u64),
//! type (u32), offset from the data start (u64); then, from the next multiple of `general.alignment`, the data.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::map::FileBytes;
use super::{RawTensor, StoredType, TensorEntry, TensorStore, WeightsError};
use reader::{Reader, Subject};

pub use self::limits::GgufLimits;
pub use self::metadata::Metadata;
pub use self::value::{GgufArray, GgufValue, StringArray};

mod limits;
mod metadata;
mod reader;
mod tensors;
mod value;

const MAGIC: [u8; 4] = *b"GGUF";
const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u32 = 32;
/// A pair takes at least: key length, value type, one byte.
const LEAST_PAIR_BYTES: u64 = 8 + 4 + 1;
/// A tensor takes at least: name length, number of dimensions, type, offset.
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// An open GGUF file.
///
/// Opening reads the metadata and checks the whole container: counts and lengths against the file size, nesting, UTF-8,
/// duplicate keys and names, dimensions, types, alignment, bounds and overlaps. Whether the pieces make a model is
/// another question, asked by the model loader. The tensor data stays mapped and untouched.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    bytes: FileBytes,
    version: u32,
    metadata: Metadata,
    tensors: Vec<GgufTensor>,
    index: HashMap<String, usize>,
}

/// A tensor of the list, checked.
#[derive(Debug)]
struct GgufTensor {
    name: String,
    dtype: StoredType,
    /// Outermost first.
    shape: Vec<usize>,
    /// First byte, from the start of the file.
    begin: usize,
    bytes: usize,
}

impl Gguf {
    /// Maps and checks the file at `path` with the default limits.
    ///
    /// The file must not be cut short while it is open.
    ///
    /// # Errors
    /// A [`WeightsError`] for everything that is no well-formed GGUF file of version 2 or 3.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        Self::open_with(path, &GgufLimits::default())
    }

    /// As [`open`](Self::open), with other limits.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, limits: &GgufLimits) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        Self::read(path.to_owned(), FileBytes::open(path)?, limits)
    }

    /// Checks a file that is in memory already. `name` stands for its path in errors.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>, name: &str) -> Result<Self, WeightsError> {
        Self::from_bytes_with(bytes, name, &GgufLimits::default())
    }

    /// As [`from_bytes`](Self::from_bytes), with other limits.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn from_bytes_with(
        bytes: impl Into<Arc<[u8]>>,
        name: &str,
        limits: &GgufLimits,
    ) -> Result<Self, WeightsError> {
        Self::read(PathBuf::from(name), FileBytes::Memory(bytes.into()), limits)
    }

    /// The version field: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The key-value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn read(path: PathBuf, bytes: FileBytes, limits: &GgufLimits) -> Result<Self, WeightsError> {
        let mut reader = Reader::new(&bytes, &path, limits);
        let version = read_version(&mut reader, &path)?;
        let tensor_count = reader.count(
            "tensor count",
            LEAST_TENSOR_BYTES,
            "max_tensors",
            limits.max_tensors,
        )?;
        let pair_count = reader.count(
            "metadata count",
            LEAST_PAIR_BYTES,
            "max_metadata_pairs",
            limits.max_metadata_pairs,
        )?;
        let metadata = read_metadata(&mut reader, &path, pair_count)?;
        let alignment = alignment(&metadata, &path)?;
        let (tensors, index) =
            tensors::read(&mut reader, &path, tensor_count, alignment, bytes.len())?;
        Ok(Self {
            version,
            metadata,
            tensors,
            index,
            path,
            bytes,
        })
    }

    fn find(&self, name: &str) -> Option<&GgufTensor> {
        self.index.get(name).map(|&index| &self.tensors[index])
    }
}

impl TensorStore for Gguf {
    fn names(&self) -> Vec<&str> {
        self.tensors
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect()
    }

    fn entry(&self, name: &str) -> Option<TensorEntry<'_>> {
        self.find(name).map(|tensor| TensorEntry {
            name: &tensor.name,
            dtype: tensor.dtype,
            shape: &tensor.shape,
            bytes: tensor.bytes,
        })
    }

    fn tensor(&self, name: &str) -> Result<Option<RawTensor<'_>>, WeightsError> {
        let Some(tensor) = self.find(name) else {
            return Ok(None);
        };
        match tensor.dtype {
            StoredType::Weights(dtype) => Ok(Some(RawTensor {
                name: &tensor.name,
                dtype,
                shape: tensor.shape.clone(),
                bytes: &self.bytes[tensor.begin..tensor.begin + tensor.bytes],
            })),
            StoredType::Other(dtype) => Err(WeightsError::UnsupportedDtype {
                path: self.path.clone(),
                tensor: tensor.name.clone(),
                dtype,
            }),
        }
    }

    fn release(&self, name: &str) {
        if let Some(tensor) = self.find(name) {
            let range = tensor.begin..tensor.begin + tensor.bytes;
            self.bytes.release(range);
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn read_version(reader: &mut Reader<'_>, path: &Path) -> Result<u32, WeightsError> {
    let found = reader.array("magic number")?;
    if found != MAGIC {
        return Err(WeightsError::BadMagic {
            path: path.to_owned(),
            found,
        });
    }
    match reader.u32("version")? {
        version @ (2 | 3) => Ok(version),
        found => Err(WeightsError::UnsupportedVersion {
            path: path.to_owned(),
            found,
        }),
    }
}

fn read_metadata(
    reader: &mut Reader<'_>,
    path: &Path,
    count: u64,
) -> Result<Metadata, WeightsError> {
    let mut metadata = Metadata::new(path);
    for index in 0..count {
        reader.enter(Subject::Pair(index));
        let key = reader.string("key", "max_key_bytes", reader.limits().max_key_bytes)?;
        if metadata.contains(key) {
            let (path, key) = (path.to_owned(), key.to_owned());
            return Err(WeightsError::DuplicateKey {
                path,
                what: "metadata key",
                key,
            });
        }
        reader.enter(Subject::Value(key));
        let value = reader.value()?;
        metadata.push(key, value);
    }
    Ok(metadata)
}

/// The alignment decides where the data lies, so its type is not negotiable, as other integers are.
fn alignment(metadata: &Metadata, path: &Path) -> Result<u64, WeightsError> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT.into()),
        Some(&GgufValue::U32(found)) if found.is_power_of_two() => Ok(found.into()),
        Some(&GgufValue::U32(found)) => Err(WeightsError::BadAlignment {
            path: path.to_owned(),
            found,
        }),
        Some(other) => Err(WeightsError::WrongMetadataType {
            path: path.to_owned(),
            key: ALIGNMENT_KEY.to_owned(),
            found: other.type_name(),
            wanted: "u32",
        }),
    }
}
