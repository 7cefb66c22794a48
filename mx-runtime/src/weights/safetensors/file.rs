//! One safetensors file, mapped and checked.
//!
//! Layout: the header's length (u64, little-endian), the header (JSON), the data. Offsets count from the data start.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::super::map::FileBytes;
use super::super::{StoredType, WeightsError};
use super::SafetensorsLimits;
use super::dtype::dtype;
use super::header::{Header, HeaderTensor};

const LENGTH_BYTES: usize = 8;

#[derive(Debug)]
pub(super) struct SafetensorsFile {
    pub(super) path: PathBuf,
    pub(super) bytes: FileBytes,
    /// In the order of the header.
    pub(super) tensors: Vec<Tensor>,
    pub(super) index: HashMap<String, usize>,
    pub(super) metadata: Vec<(String, String)>,
}

#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dtype: StoredType,
    pub(super) shape: Vec<usize>,
    /// First byte, from the start of the file.
    pub(super) begin: usize,
    pub(super) bytes: usize,
}

impl SafetensorsFile {
    pub(super) fn open(path: &Path, limits: &SafetensorsLimits) -> Result<Self, WeightsError> {
        Self::read(path.to_owned(), FileBytes::open(path)?, limits)
    }

    pub(super) fn read(
        path: PathBuf,
        bytes: FileBytes,
        limits: &SafetensorsLimits,
    ) -> Result<Self, WeightsError> {
        let header_bytes = header_bytes(&bytes, &path, limits)?;
        let header = parse(header_bytes, &path)?;
        let data_start = LENGTH_BYTES + header_bytes.len();
        if header.tensors.len() as u64 > limits.max_tensors {
            return Err(WeightsError::LimitExceeded {
                path,
                offset: LENGTH_BYTES as u64,
                field: "number of tensors in the header".to_owned(),
                limit: "max_tensors",
                given: header.tensors.len() as u64,
                most: limits.max_tensors,
            });
        }
        refuse_repeated_metadata(&header, &path)?;

        let data = DataSection {
            path: &path,
            start: data_start,
            bytes: (bytes.len() - data_start) as u64,
        };
        let mut tensors = Vec::with_capacity(header.tensors.len());
        let mut index = HashMap::with_capacity(header.tensors.len());
        for (name, tensor) in header.tensors {
            if index.insert(name.clone(), tensors.len()).is_some() {
                return Err(WeightsError::DuplicateTensor { path, tensor: name });
            }
            tensors.push(data.place(name, tensor, limits)?);
        }
        data.refuse_overlaps_and_gaps(&tensors)?;
        Ok(Self {
            tensors,
            index,
            metadata: header.metadata,
            path,
            bytes,
        })
    }
}

fn header_bytes<'a>(
    bytes: &'a [u8],
    path: &Path,
    limits: &SafetensorsLimits,
) -> Result<&'a [u8], WeightsError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(WeightsError::Truncated {
            path: path.to_owned(),
            offset: 0,
            field: "the header length".to_owned(),
            wanted: LENGTH_BYTES as u64,
            left: bytes.len() as u64,
        });
    };
    let length = u64::from_le_bytes(*length);
    if length > limits.max_header_bytes {
        return Err(WeightsError::HeaderTooLarge {
            path: path.to_owned(),
            length,
            most: limits.max_header_bytes,
        });
    }
    usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(..length))
        .ok_or_else(|| WeightsError::Truncated {
            path: path.to_owned(),
            offset: LENGTH_BYTES as u64,
            field: "the header".to_owned(),
            wanted: length,
            left: rest.len() as u64,
        })
}

fn parse(header: &[u8], path: &Path) -> Result<Header, WeightsError> {
    // Checked as a whole: the JSON reader would pass over bad bytes in values that it ignores.
    let text = std::str::from_utf8(header).map_err(|error| WeightsError::InvalidUtf8 {
        path: path.to_owned(),
        offset: (LENGTH_BYTES + error.valid_up_to()) as u64,
        field: "the header".to_owned(),
    })?;
    if let Some(&found) = header.first().filter(|&&first| first != b'{') {
        return Err(WeightsError::HeaderStart {
            path: path.to_owned(),
            found,
        });
    }
    serde_json::from_str(text).map_err(|source| WeightsError::InvalidHeader {
        path: path.to_owned(),
        what: "safetensors header",
        source,
    })
}

fn refuse_repeated_metadata(header: &Header, path: &Path) -> Result<(), WeightsError> {
    let repeated = |what, key: &str| {
        Err(WeightsError::DuplicateKey {
            path: path.to_owned(),
            what,
            key: key.to_owned(),
        })
    };
    if header.metadata_repeated {
        return repeated("header key", "__metadata__");
    }
    let mut seen = HashSet::new();
    match header.metadata.iter().find(|(key, _)| !seen.insert(key)) {
        Some((key, _)) => repeated("metadata key", key),
        None => Ok(()),
    }
}

struct DataSection<'a> {
    path: &'a Path,
    /// From the start of the file.
    start: usize,
    bytes: u64,
}

impl DataSection<'_> {
    fn place(
        &self,
        name: String,
        tensor: HeaderTensor,
        limits: &SafetensorsLimits,
    ) -> Result<Tensor, WeightsError> {
        let path = self.path.to_owned();
        let HeaderTensor {
            dtype: dtype_name,
            shape,
            data_offsets: (begin, end),
        } = tensor;
        let dimensions = shape.len() as u64;
        if dimensions > limits.max_dimensions {
            let most = limits.max_dimensions;
            return Err(WeightsError::TooManyDimensions {
                path,
                tensor: name,
                found: dimensions,
                limit: "max_dimensions",
                most,
            });
        }
        let Some((stored, bits)) = dtype(&dtype_name) else {
            return Err(WeightsError::UnknownDtype {
                path,
                tensor: name,
                found: dtype_name,
            });
        };
        let Some(given) = end.checked_sub(begin) else {
            return Err(WeightsError::BadOffsets {
                path,
                tensor: name,
                begin,
                end,
            });
        };
        let wanted = size(&shape, bits);
        if wanted != Some(given) {
            return Err(WeightsError::SizeMismatch {
                path,
                tensor: name,
                shape,
                dtype: stored.name(),
                given,
                wanted,
            });
        }
        if end > self.bytes {
            let available = self.bytes;
            return Err(WeightsError::OutOfBounds {
                path,
                tensor: name,
                offset: begin,
                bytes: given,
                available,
            });
        }
        // The offsets lie inside the file, whose length is a usize. A dimension may still be larger where another
        // one is 0.
        let fits = shape
            .iter()
            .map(|&dim| usize::try_from(dim))
            .collect::<Result<Vec<_>, _>>();
        let Ok(dims) = fits else {
            return Err(WeightsError::SizeMismatch {
                path,
                tensor: name,
                shape,
                dtype: stored.name(),
                given,
                wanted,
            });
        };
        Ok(Tensor {
            name,
            dtype: stored,
            shape: dims,
            begin: self.start + begin as usize,
            bytes: given as usize,
        })
    }

    /// The format wants the tensors to cover the data exactly.
    fn refuse_overlaps_and_gaps(&self, tensors: &[Tensor]) -> Result<(), WeightsError> {
        let path = || self.path.to_owned();
        let gap = |from: usize, to: usize| WeightsError::Gap {
            path: path(),
            offset: (from - self.start) as u64,
            bytes: (to - from) as u64,
        };
        let mut by_begin: Vec<&Tensor> = tensors.iter().collect();
        by_begin.sort_by_key(|tensor| (tensor.begin, tensor.bytes));
        let mut covered = self.start;
        let mut before: Option<&Tensor> = None;
        for tensor in by_begin {
            if tensor.begin > covered {
                return Err(gap(covered, tensor.begin));
            }
            if let Some(first) = before.filter(|_| tensor.begin < covered) {
                return Err(WeightsError::Overlap {
                    path: path(),
                    first: first.name.clone(),
                    second: tensor.name.clone(),
                    offset: (tensor.begin - self.start) as u64,
                });
            }
            covered = tensor.begin + tensor.bytes;
            before = Some(tensor);
        }
        let end = self.start + self.bytes as usize;
        if covered < end {
            Err(gap(covered, end))
        } else {
            Ok(())
        }
    }
}

/// Bytes of a tensor; none if they overflow or are no whole number.
fn size(shape: &[u64], bits: u64) -> Option<u64> {
    let values = shape
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim))?;
    let bits = values.checked_mul(bits)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}
