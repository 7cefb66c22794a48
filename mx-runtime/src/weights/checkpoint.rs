//! A weight file seen as the parameters of a model.

use super::names::{LayerParam, Naming, Param, RowOrder};
use super::{RawTensor, TensorStore, WeightsError};
use crate::config::{Architecture, ModelConfig};
use std::sync::Arc;

/// The parameters of one model, checked for presence and shape when they are asked for.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    store: Arc<dyn TensorStore>,
    naming: Naming,
    architecture: Architecture,
    head_dim: usize,
}

/// A stored parameter and the order of its rows.
#[derive(Debug, Clone)]
pub struct Weight<'a> {
    /// The bytes as they stand in the file.
    pub tensor: RawTensor<'a>,
    /// Where the model's rows stand.
    pub row_order: RowOrder,
}

/// A weight file that does not hold the model it describes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A parameter is absent.
    #[error("{file}: tensor {tensor} is missing")]
    Missing {
        /// The weight file.
        file: String,
        /// The name looked for.
        tensor: String,
    },
    /// A parameter has another shape than the configuration implies.
    #[error("{file}: tensor {tensor} has shape {given:?}, the configuration wants {wanted:?}")]
    Shape {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Shape in the file, outermost dimension first.
        given: Vec<usize>,
        /// Shape that the configuration implies.
        wanted: Vec<usize>,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] WeightsError),
}

impl Checkpoint {
    /// The parameters of `config` in `store`.
    pub fn new(store: Arc<dyn TensorStore>, naming: Naming, config: &ModelConfig) -> Self {
        Checkpoint {
            store,
            naming,
            architecture: config.architecture,
            head_dim: config.head_dim,
        }
    }

    /// The weight file, for messages.
    pub fn file(&self) -> String {
        self.store.path().display().to_string()
    }

    /// A parameter as it is stored.
    ///
    /// # Errors
    /// [`CheckpointError`] when it is missing, has another shape than `config` implies, or cannot be read.
    pub fn weight(
        &self,
        param: Param,
        config: &ModelConfig,
    ) -> Result<Weight<'_>, CheckpointError> {
        let name = param.name(self.naming);
        let tensor = self.find(&name)?;
        let tensor = tensor.ok_or_else(|| CheckpointError::Missing {
            file: self.file(),
            tensor: name.clone(),
        })?;
        let wanted = param.shape(config);
        if tensor.shape != wanted {
            let given = tensor.shape;
            return Err(CheckpointError::Shape {
                file: self.file(),
                tensor: name,
                given,
                wanted,
            });
        }
        let row_order = match param {
            Param::Layer(_, LayerParam::Wq | LayerParam::Wk | LayerParam::Bq | LayerParam::Bk)
                if self.interleaves_heads() =>
            {
                RowOrder::Interleaved {
                    head_dim: self.head_dim,
                }
            }
            _ => RowOrder::AsStored,
        };
        Ok(Weight { tensor, row_order })
    }

    /// Says that a parameter has been taken over, see [`TensorStore::release`].
    pub fn release(&self, param: Param) {
        let name = param.name(self.naming);
        if let Ok(Some(tensor)) = self.find(&name) {
            self.store.release(tensor.name);
        }
    }

    fn find(&self, name: &str) -> Result<Option<RawTensor<'_>>, WeightsError> {
        // Checkpoints of the bare decoder leave out the prefix.
        if self.naming == Naming::HuggingFace
            && let Some(tensor) = self.store.tensor(&format!("model.{name}"))?
        {
            return Ok(Some(tensor));
        }
        self.store.tensor(name)
    }

    fn interleaves_heads(&self) -> bool {
        self.naming == Naming::Gguf
            && matches!(
                self.architecture,
                Architecture::Llama | Architecture::Mistral
            )
    }
}

impl Weight<'_> {
    /// The values as f32, row-major, rows in the model's order.
    ///
    /// # Errors
    /// [`CheckpointError::Read`] when the stored type cannot be converted.
    pub fn to_f32(&self) -> Result<Vec<f32>, CheckpointError> {
        let values = self.tensor.to_f32()?;
        if self.row_order == RowOrder::AsStored {
            return Ok(values);
        }
        let rows = self.tensor.shape.first().copied().unwrap_or(1).max(1);
        let width = values.len() / rows;
        let mut ordered = Vec::with_capacity(values.len());
        for row in 0..rows {
            let source = self.row_order.source(row) * width;
            ordered.extend_from_slice(&values[source..source + width]);
        }
        Ok(ordered)
    }
}
