//! Weight files: GGUF and safetensors readers, and the block types they store.
//!
//! [`Gguf`] and [`Safetensors`] check a file once when it is opened (every count, length, offset and name in it is
//! untrusted) and then hand out [`RawTensor`] views into the mapped bytes. Nothing is copied until
//! [`RawTensor::to_f32`] or [`dequantize_into`] is called. Both stand behind [`TensorStore`], so that a model loader
//! does not know the format.
//!
//! ```
//! use mx_runtime::weights::{Safetensors, TensorStore};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("model.safetensors");
//! let header = br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
//! let mut file = (header.len() as u64).to_le_bytes().to_vec();
//! file.extend_from_slice(header);
//! file.extend_from_slice(&[0, 0, 128, 63, 0, 0, 0, 64]);
//! std::fs::write(&path, file)?;
//!
//! let store = Safetensors::open(folder.path())?;
//! let tensor = store.tensor("w")?.expect("just written");
//! assert_eq!(tensor.to_f32()?, [1.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Hostile files
//!
//! A damaged or malicious file is refused with a [`WeightsError`] that names file, field and value. No count from the
//! file is trusted for an allocation, nesting is bounded, and reading costs time and memory in proportion to the
//! header that is really there. The limits ([`GgufLimits`], [`SafetensorsLimits`]) can be changed. One thing is
//! beyond a reader's power: files are mapped, so another process must not cut them short while they are in use.

use std::fmt::Debug;
use std::path::Path;

pub use self::checkpoint::{Checkpoint, CheckpointError, Weight};
pub use self::dtype::{StoredType, TensorType};
pub use self::error::WeightsError;
pub use self::gguf::{Gguf, GgufArray, GgufLimits, GgufValue, Metadata, StringArray};
pub use self::quant_blocks::dequantize_into;
pub use self::safetensors::{Safetensors, SafetensorsLimits};
pub use self::tensor::{RawTensor, TensorEntry};

mod checkpoint;
mod dtype;
mod error;
mod gguf;
mod map;
pub mod names;
mod quant_blocks;
mod safetensors;
mod tensor;

/// A set of named tensors in one or several files.
pub trait TensorStore: Send + Sync + Debug {
    /// All names, in the order of the file.
    fn names(&self) -> Vec<&str>;

    /// What is known about a tensor without touching its values; none if there is no such tensor.
    fn entry(&self, name: &str) -> Option<TensorEntry<'_>>;

    /// A view of a weight tensor; `Ok(None)` if there is no such tensor.
    ///
    /// # Errors
    /// [`WeightsError::UnsupportedDtype`] if the tensor exists but its values cannot be used as weights.
    fn tensor(&self, name: &str) -> Result<Option<RawTensor<'_>>, WeightsError>;

    /// Says that the values of a tensor have been read and are not needed soon: the memory of its pages may be given
    /// back. Reading them again is right, and slower. Names that do not exist are ignored.
    fn release(&self, _name: &str) {}

    /// The file or folder that was opened.
    fn path(&self) -> &Path;
}
