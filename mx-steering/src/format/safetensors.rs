//! A small reader and writer of safetensors files, for vectors and sparse autoencoders.
//!
//! The header is checked before anything is believed: offsets must cover the data exactly, without gaps, overlaps or
//! rest, and every tensor's bytes must be those of its shape.

use super::{Cursor, FormatError, Limits, excerpt};
use half::{bf16, f16};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Key of the metadata in the header.
const METADATA: &str = "__metadata__";

/// A file's tensors, still as bytes.
#[derive(Debug, Clone)]
pub struct File<'a> {
    /// The free metadata.
    pub metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, View<'a>>,
}

/// One tensor of a file.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The number type, as in `F32`.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<usize>,
    bytes: &'a [u8],
}

impl<'a> File<'a> {
    /// Reads a header.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(bytes);
        let length = cursor.u64("the length of the header")?;
        if length > limits.header_bytes {
            return Err(FormatError::Limit {
                what: "length of the header".to_owned(),
                given: length,
                limit_name: "header_bytes",
                limit: limits.header_bytes,
            });
        }
        let header = cursor.take(length, "the header")?;
        let data = cursor.take(cursor.left() as u64, "the data")?;
        let header: Header =
            serde_json::from_slice(header).map_err(|error| FormatError::json("header", &error))?;
        if let Some(name) = header.twice {
            let what = "name in the header";
            return Err(FormatError::Twice { what, name });
        }
        if header.tensors.len() > limits.entries {
            return Err(FormatError::Limit {
                what: "tensors of the file".to_owned(),
                given: header.tensors.len() as u64,
                limit_name: "entries",
                limit: limits.entries as u64,
            });
        }
        cover(&header.tensors, data.len())?;
        let mut tensors = BTreeMap::new();
        for (name, raw) in header.tensors {
            let (start, end) = raw.data_offsets;
            let view = View {
                bytes: data.get(start..end).unwrap_or_default(),
                dtype: raw.dtype,
                shape: raw.shape,
            };
            view.check_size(&name)?;
            tensors.insert(name, view);
        }
        Ok(File {
            metadata: header.metadata,
            tensors,
        })
    }

    /// The tensors by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &View<'a>)> {
        self.tensors
            .iter()
            .map(|(name, view)| (name.as_str(), view))
    }

    /// One tensor.
    pub fn tensor(&self, name: &str) -> Option<&View<'a>> {
        self.tensors.get(name)
    }
}

impl View<'_> {
    /// The numbers as f32: from F32, F16, BF16 or F64.
    ///
    /// # Errors
    /// [`FormatError::Field`] for another type.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>, FormatError> {
        let bytes = self.bytes;
        Ok(match self.dtype.as_str() {
            "F32" => super::f32_values(bytes),
            "F16" => chunks(bytes, |b| f16::from_le_bytes(b).to_f32()),
            "BF16" => chunks(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            "F64" => chunks(bytes, |b| f64::from_le_bytes(b) as f32),
            other => {
                let field = format!("type of tensor {name:?}");
                return Err(FormatError::field(field, other, "F32, F16, BF16 or F64"));
            }
        })
    }

    fn check_size(&self, name: &str) -> Result<(), FormatError> {
        let width = match self.dtype.as_str() {
            "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1u64,
            "I16" | "U16" | "F16" | "BF16" => 2,
            "I32" | "U32" | "F32" => 4,
            "I64" | "U64" | "F64" => 8,
            other => {
                let field = format!("type of tensor {name:?}");
                return Err(FormatError::field(field, other, "a type of safetensors"));
            }
        };
        let wanted = self
            .shape
            .iter()
            .try_fold(width, |size, &dim| size.checked_mul(dim as u64));
        match wanted {
            Some(wanted) if wanted == self.bytes.len() as u64 => Ok(()),
            wanted => Err(FormatError::field(
                format!("bytes of tensor {:?}", excerpt(name)),
                self.bytes.len(),
                wanted.map_or("a shape that fits into memory".to_owned(), |n| {
                    n.to_string()
                }),
            )),
        }
    }
}

fn chunks<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|chunk| read(*chunk))
        .collect()
}

/// The tensors lie one behind the other, from the first byte to the last.
fn cover(tensors: &BTreeMap<String, RawTensor>, total: usize) -> Result<(), FormatError> {
    let mut runs: Vec<(usize, usize, &str)> = tensors
        .iter()
        .map(|(name, raw)| (raw.data_offsets.0, raw.data_offsets.1, name.as_str()))
        .collect();
    runs.sort_unstable();
    let mut at = 0;
    for (start, end, name) in runs {
        if start != at || end < start || end > total {
            return Err(FormatError::field(
                format!("offsets of tensor {:?}", excerpt(name)),
                format!("{start}..{end}"),
                format!("a run from {at} on, within {total} bytes"),
            ));
        }
        at = end;
    }
    match at == total {
        true => Ok(()),
        false => Err(FormatError::field(
            "bytes that no tensor covers",
            total - at,
            0,
        )),
    }
}

/// Writes f32 tensors with metadata; equal input gives equal bytes.
///
/// # Errors
/// [`FormatError::Field`] where a tensor has not the numbers of its shape.
pub fn write(
    metadata: &BTreeMap<String, String>,
    tensors: &[(String, Vec<usize>, &[f32])],
) -> Result<Vec<u8>, FormatError> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.to_owned(), serde_json::json!(metadata));
    }
    let mut at = 0;
    for (name, shape, values) in tensors {
        let wanted: usize = shape.iter().product();
        if wanted != values.len() {
            return Err(FormatError::field(
                format!("numbers of {name:?}"),
                values.len(),
                wanted,
            ));
        }
        let end = at + size_of_val(*values);
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]});
        if header.insert(name.clone(), entry).is_some() {
            return Err(FormatError::Twice {
                what: "tensor",
                name: name.clone(),
            });
        }
        at = end;
    }
    let mut text = serde_json::Value::Object(header).to_string().into_bytes();
    // the data begins at a multiple of 8
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    for (_, _, values) in tensors {
        values.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    }
    Ok(bytes)
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header; unlike a plain map it notices a name that stands twice.
#[derive(Debug, Default)]
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, RawTensor>,
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                let mut seen_metadata = false;
                while let Some(name) = map.next_key::<String>()? {
                    let again = if name == METADATA {
                        header.metadata = map.next_value()?;
                        std::mem::replace(&mut seen_metadata, true)
                    } else {
                        header
                            .tensors
                            .insert(name.clone(), map.next_value()?)
                            .is_some()
                    };
                    if again {
                        header.twice = Some(name);
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Names)
    }
}
