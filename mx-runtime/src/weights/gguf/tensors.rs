//! The tensor list of a GGUF file: read, then checked against the data section.

use std::collections::HashMap;
use std::path::Path;

use super::super::WeightsError;
use super::super::dtype::{Layout, stored_ggml_type};
use super::GgufTensor;
use super::reader::{Reader, Subject};

/// The format has at most four dimensions.
const MAX_DIMENSIONS: u32 = 4;
/// Sizes are signed in ggml.
const MAX_VALUES: u64 = i64::MAX as u64;

/// A tensor as the list announces it, before the place of the data section is known.
struct Announced<'a> {
    name: &'a str,
    /// Innermost first.
    dims: Vec<u64>,
    type_id: u32,
    offset: u64,
}

type Tensors = (Vec<GgufTensor>, HashMap<String, usize>);

/// Reads `count` tensors at the reader's position; the data section follows them in a file of `file_bytes`.
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    path: &Path,
    count: u64,
    alignment: u64,
    file_bytes: usize,
) -> Result<Tensors, WeightsError> {
    let mut announced = Vec::new();
    for number in 0..count {
        announced.push(read_one(reader, path, number)?);
    }
    let data = DataSection {
        path,
        alignment,
        start: reader.position().next_multiple_of(alignment),
        file_bytes: file_bytes as u64,
    };
    let mut tensors = Vec::with_capacity(announced.len());
    let mut index = HashMap::with_capacity(announced.len());
    for tensor in announced {
        let tensor = data.place(tensor)?;
        if index.insert(tensor.name.clone(), tensors.len()).is_some() {
            return Err(WeightsError::DuplicateTensor {
                path: path.to_owned(),
                tensor: tensor.name,
            });
        }
        tensors.push(tensor);
    }
    data.refuse_overlaps(&tensors)?;
    Ok((tensors, index))
}

fn read_one<'a>(
    reader: &mut Reader<'a>,
    path: &Path,
    number: u64,
) -> Result<Announced<'a>, WeightsError> {
    reader.enter(Subject::TensorNumber(number));
    let name = reader.string(
        "name",
        "max_tensor_name_bytes",
        reader.limits().max_tensor_name_bytes,
    )?;
    reader.enter(Subject::Tensor(name));
    let found = reader.u32("number of dimensions")?;
    if found > MAX_DIMENSIONS {
        return Err(WeightsError::TooManyDimensions {
            path: path.to_owned(),
            tensor: name.to_owned(),
            found: found.into(),
            limit: "the format's maximum",
            most: MAX_DIMENSIONS.into(),
        });
    }
    let dims = (0..found)
        .map(|_| reader.u64("dimension"))
        .collect::<Result<_, _>>()?;
    let type_id = reader.u32("type")?;
    let offset = reader.u64("offset")?;
    Ok(Announced {
        name,
        dims,
        type_id,
        offset,
    })
}

struct DataSection<'a> {
    path: &'a Path,
    alignment: u64,
    /// From the start of the file; beyond its end if there is no data.
    start: u64,
    file_bytes: u64,
}

impl DataSection<'_> {
    fn place(&self, tensor: Announced<'_>) -> Result<GgufTensor, WeightsError> {
        let path = || self.path.to_owned();
        let name = || tensor.name.to_owned();
        let (dtype, layout) =
            stored_ggml_type(tensor.type_id).ok_or_else(|| WeightsError::UnknownTensorType {
                path: path(),
                tensor: name(),
                found: tensor.type_id,
            })?;
        let bytes = self.size(&tensor, layout)?;
        if !tensor.offset.is_multiple_of(self.alignment) {
            return Err(WeightsError::Misaligned {
                path: path(),
                tensor: name(),
                offset: tensor.offset,
                alignment: self.alignment,
            });
        }
        let available = self.file_bytes.saturating_sub(self.start);
        let end = tensor
            .offset
            .checked_add(bytes)
            .filter(|&end| end <= available);
        if end.is_none() {
            let offset = tensor.offset;
            return Err(WeightsError::OutOfBounds {
                path: path(),
                tensor: name(),
                offset,
                bytes,
                available,
            });
        }
        // Everything below lies inside the file, whose length is a usize.
        Ok(GgufTensor {
            name: name(),
            dtype,
            shape: tensor.dims.iter().rev().map(|&dim| dim as usize).collect(),
            begin: (self.start + tensor.offset) as usize,
            bytes: bytes as usize,
        })
    }

    /// Bytes of a tensor; refuses dimensions that none can have.
    fn size(&self, tensor: &Announced<'_>, layout: Layout) -> Result<u64, WeightsError> {
        let bad = |reason| WeightsError::BadDimension {
            path: self.path.to_owned(),
            tensor: tensor.name.to_owned(),
            dims: tensor.dims.clone(),
            reason,
        };
        if tensor.dims.contains(&0) {
            return Err(bad("a dimension is 0"));
        }
        if tensor.dims.iter().any(|&dim| dim > MAX_VALUES) {
            return Err(bad("a dimension is 2^63 or more"));
        }
        let values = tensor
            .dims
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim));
        let values = values
            .filter(|&values| values <= MAX_VALUES)
            .ok_or_else(|| bad("their product is 2^63 or more"))?;
        let block = layout.block_values as u64;
        let row = tensor.dims.first().copied().unwrap_or(1);
        if !row.is_multiple_of(block) {
            return Err(WeightsError::RowNotWholeBlocks {
                path: self.path.to_owned(),
                tensor: tensor.name.to_owned(),
                dtype: layout.name,
                row,
                block,
            });
        }
        (values / block)
            .checked_mul(layout.block_bytes as u64)
            .ok_or_else(|| bad("their size is 2^64 bytes or more"))
    }

    fn refuse_overlaps(&self, tensors: &[GgufTensor]) -> Result<(), WeightsError> {
        let mut by_begin: Vec<&GgufTensor> = tensors.iter().collect();
        by_begin.sort_by_key(|tensor| tensor.begin);
        for pair in by_begin.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            if second.begin < first.begin + first.bytes {
                return Err(WeightsError::Overlap {
                    path: self.path.to_owned(),
                    first: first.name.clone(),
                    second: second.name.clone(),
                    offset: second.begin as u64 - self.start,
                });
            }
        }
        Ok(())
    }
}
