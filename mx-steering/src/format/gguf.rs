//! Control-vector GGUF files of llama.cpp and repeng.
//!
//! `general.architecture = "controlvector"`, tensors `direction.L` of one dimension in F32; L counts from 1 and acts on
//! the output of block L (`resid_post.L`). As in llama.cpp, block 0 cannot be steered by such a file, and a tensor of
//! another type, another number of dimensions or another length than its neighbours is refused. A layer that stands
//! twice is refused too (llama.cpp adds them up; no program writes such files).

use super::{Cursor, FormatError, Limits, excerpt, f32_values};
use crate::model::Warning;
use crate::point::{Site, layer_number};
use crate::vector::{Method, SteeringVector, Units};
use std::collections::BTreeMap;

/// The first bytes of a GGUF file.
pub const MAGIC: &[u8] = b"GGUF";

/// The architecture that marks a control vector.
const ARCHITECTURE: &str = "controlvector";

/// Versions whose layout this is.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;

/// The version written.
const VERSION: u32 = 3;

/// Alignment of the data unless the file says otherwise.
const ALIGNMENT: u64 = 32;

/// Type number of F32 tensors.
const F32: u32 = 0;

/// Most dimensions of a tensor in any GGUF file.
const MAX_DIMS: u32 = 4;

/// Deepest nesting of arrays that is skipped over.
const MAX_DEPTH: u32 = 4;

/// Reads a vector.
///
/// # Errors
/// [`FormatError`], naming the tensor where one is wrong.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<SteeringVector, FormatError> {
    let mut cursor = Cursor::new(bytes);
    let magic = cursor.take(MAGIC.len() as u64, "the first bytes")?;
    if magic != MAGIC {
        return Err(FormatError::field(
            "first bytes",
            String::from_utf8_lossy(magic),
            "GGUF",
        ));
    }
    let version = cursor.u32("the version")?;
    if !VERSIONS.contains(&version) {
        return Err(FormatError::field("GGUF version", version, "2 or 3"));
    }
    let tensor_count = count(
        cursor.u64("the number of tensors")?,
        "tensors of the file",
        limits,
    )?;
    let key_count = count(
        cursor.u64("the number of metadata keys")?,
        "metadata keys",
        limits,
    )?;
    let metadata = read_metadata(&mut cursor, key_count, limits)?;
    let text = |key: &str| match metadata.get(key) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    if text("general.architecture") != Some(ARCHITECTURE) {
        let given = text("general.architecture").unwrap_or("not there");
        return Err(FormatError::field(
            "general.architecture",
            given,
            ARCHITECTURE,
        ));
    }
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(Value::Number(n)) if n.is_power_of_two() && (8..=1 << 20).contains(n) => *n,
        Some(other) => {
            return Err(FormatError::field(
                "general.alignment",
                format!("{other:?}"),
                "a power of two from 8 on",
            ));
        }
    };
    let mut infos = Vec::new();
    for _ in 0..tensor_count {
        infos.push(Info::read(&mut cursor, limits)?);
    }
    let header = bytes.len() - cursor.left();
    let start = (header as u64).next_multiple_of(alignment);
    let data = usize::try_from(start)
        .ok()
        .and_then(|start| bytes.get(start..))
        .unwrap_or_default();
    let width = infos.first().map_or(0, |info| info.length);
    let mut directions = BTreeMap::new();
    for info in &infos {
        let (layer, values) = info.direction(data, alignment, width)?;
        if directions
            .insert(Site::ResidPost.at(layer), values)
            .is_some()
        {
            let name = info.name.clone();
            return Err(FormatError::Twice {
                what: "tensor",
                name,
            });
        }
    }
    let method = text("controlvector.method").unwrap_or("gguf_file");
    let mut vector = SteeringVector::new(Method::from(method.to_owned()), directions)?;
    vector.model.architecture = text("controlvector.model_hint").map(str::to_owned);
    if let Some(name) = text("general.name") {
        vector.name = excerpt(name);
    }
    Ok(vector)
}

/// A count that the file may have.
fn count(given: u64, what: &str, limits: &Limits) -> Result<usize, FormatError> {
    match usize::try_from(given) {
        Ok(count) if count <= limits.entries => Ok(count),
        _ => Err(FormatError::Limit {
            what: what.to_owned(),
            given,
            limit_name: "entries",
            limit: limits.entries as u64,
        }),
    }
}

/// A metadata value, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Number(u64),
    Other,
}

fn read_metadata(
    cursor: &mut Cursor<'_>,
    keys: usize,
    limits: &Limits,
) -> Result<BTreeMap<String, Value>, FormatError> {
    let mut metadata = BTreeMap::new();
    for _ in 0..keys {
        let key = string(cursor, limits, "a metadata key")?;
        let kind = cursor.u32(&key)?;
        let value = value(cursor, kind, &key, limits, 0)?;
        if metadata.insert(key.clone(), value).is_some() {
            let what = "metadata key";
            return Err(FormatError::Twice {
                what,
                name: excerpt(&key),
            });
        }
    }
    Ok(metadata)
}

/// Bytes of a number of each type, by its GGUF number; none for strings and arrays.
fn width_of(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

fn value(
    cursor: &mut Cursor<'_>,
    kind: u32,
    key: &str,
    limits: &Limits,
    depth: u32,
) -> Result<Value, FormatError> {
    if let Some(width) = width_of(kind) {
        let bytes = cursor.take(width, key)?;
        let number = bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte));
        return Ok(match kind {
            0 | 2 | 4 | 10 => Value::Number(number),
            _ => Value::Other,
        });
    }
    match kind {
        TEXT => Ok(Value::Text(string(cursor, limits, key)?)),
        ARRAY if depth < MAX_DEPTH => {
            let inner = cursor.u32(key)?;
            let length = cursor.u64(key)?;
            match width_of(inner) {
                Some(width) => {
                    let bytes = length.saturating_mul(width);
                    cursor.take(bytes, key)?;
                }
                None => {
                    // every element takes at least 8 bytes, so the file's end bounds this loop
                    for _ in 0..length {
                        value(cursor, inner, key, limits, depth + 1)?;
                    }
                }
            }
            Ok(Value::Other)
        }
        _ => Err(FormatError::field(
            format!("type of metadata key {:?}", excerpt(key)),
            kind,
            "0 to 12",
        )),
    }
}

fn string(cursor: &mut Cursor<'_>, limits: &Limits, what: &str) -> Result<String, FormatError> {
    let length = cursor.u64(what)?;
    if length > limits.string_bytes as u64 {
        return Err(FormatError::Limit {
            what: format!("length of {}", excerpt(what)),
            given: length,
            limit_name: "string_bytes",
            limit: limits.string_bytes as u64,
        });
    }
    let bytes = cursor.take(length, what)?;
    String::from_utf8(bytes.to_vec())
        .map_err(|error| FormatError::field(excerpt(what), error.to_string(), "a text in UTF-8"))
}

/// A tensor's entry in the header.
#[derive(Debug)]
struct Info {
    name: String,
    dims: Vec<u64>,
    length: u64,
    kind: u32,
    offset: u64,
}

impl Info {
    fn read(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<Self, FormatError> {
        let name = string(cursor, limits, "a tensor's name")?;
        let count = cursor.u32(&name)?;
        if count > MAX_DIMS {
            return Err(FormatError::field(
                format!("dimensions of {:?}", excerpt(&name)),
                count,
                "at most 4",
            ));
        }
        let mut dims = Vec::new();
        for _ in 0..count {
            dims.push(cursor.u64(&name)?);
        }
        let kind = cursor.u32(&name)?;
        let offset = cursor.u64(&name)?;
        Ok(Info {
            length: dims.first().copied().unwrap_or_default(),
            name,
            dims,
            kind,
            offset,
        })
    }

    /// The layer and its numbers.
    fn direction(
        &self,
        data: &[u8],
        alignment: u64,
        width: u64,
    ) -> Result<(usize, Vec<f32>), FormatError> {
        let name = excerpt(&self.name);
        let field = |what: &str| format!("{what} of tensor {name:?}");
        let layer = match self.name.strip_prefix("direction.").map(layer_number) {
            Some(Some(0)) => {
                let reason = "1 or more: a control vector cannot steer block 0";
                return Err(FormatError::field(field("layer"), 0, reason));
            }
            Some(Some(layer)) => layer,
            _ => return Err(FormatError::field(field("name"), &name, "direction.LAYER")),
        };
        if self.kind != F32 {
            let given = match self.kind {
                1 => "F16".to_owned(),
                30 => "BF16".to_owned(),
                other => format!("number {other}"),
            };
            return Err(FormatError::field(field("type"), given, "F32"));
        }
        if self.dims.len() != 1 {
            return Err(FormatError::field(field("dimensions"), self.dims.len(), 1));
        }
        if self.length != width {
            return Err(FormatError::field(
                field("length"),
                self.length,
                format!("{width}, that of the first tensor"),
            ));
        }
        if !self.offset.is_multiple_of(alignment) {
            let wanted = format!("a multiple of {alignment}");
            return Err(FormatError::field(field("offset"), self.offset, wanted));
        }
        let bytes = self
            .length
            .checked_mul(size_of::<f32>() as u64)
            .and_then(|length| Some((self.offset, self.offset.checked_add(length)?)))
            .and_then(|(start, end)| {
                data.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
            });
        match bytes {
            Some(bytes) => Ok((layer, f32_values(bytes))),
            None => Err(FormatError::Truncated {
                what: format!("tensor {name:?}"),
                given: (data.len() as u64).saturating_sub(self.offset),
                wanted: self.length.saturating_mul(size_of::<f32>() as u64),
            }),
        }
    }
}

/// The bytes of a vector, and the directions that the format cannot hold: block 0 has none. Directions at `resid_pre.L`
/// are written as what they are, `resid_post.(L-1)`.
///
/// # Errors
/// [`FormatError::CannotHold`] for other sites, for vectors that differ by position, and where nothing is left.
pub fn write(vector: &SteeringVector) -> Result<(Vec<u8>, Vec<Warning>), FormatError> {
    let cannot = |what: String, reason| FormatError::CannotHold {
        format: "GGUF",
        what,
        reason,
    };
    if vector.rows() != 1 {
        return Err(cannot(
            vector.display_name(),
            "its directions differ by position",
        ));
    }
    let mut warnings = Vec::new();
    let mut directions: BTreeMap<usize, &[f32]> = BTreeMap::new();
    for (point, values) in vector.directions() {
        let layer = match (point.site, point.layer) {
            (Site::ResidPost, layer) => layer,
            (Site::ResidPre, layer) => layer.saturating_sub(1),
            _ => {
                return Err(cannot(
                    point.to_string(),
                    "it acts on outputs of blocks alone",
                ));
            }
        };
        if layer == 0 {
            let reason = "a control vector acts on the outputs of block 1 and later".to_owned();
            warnings.push(Warning::Lost { point, reason });
        } else if directions.insert(layer, values).is_some() {
            return Err(cannot(
                point.to_string(),
                "the output of that block has a direction already",
            ));
        }
    }
    if directions.is_empty() {
        return Err(cannot(
            vector.display_name(),
            "none of its directions is at the output of block 1 or later",
        ));
    }
    let unit = vector.units == Units::Unit;
    if matches!(vector.units, Units::Relative { .. }) {
        let reason =
            "the format has only raw vectors; strengths relative to the stream are lost".to_owned();
        let key = "units".to_owned();
        warnings.push(Warning::Ignored { key, reason });
    }
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((directions.len() as u64).to_le_bytes());
    let mut texts = vec![
        ("general.architecture", ARCHITECTURE.to_owned()),
        ("controlvector.method", vector.method.name().to_owned()),
    ];
    texts.extend(
        vector
            .model
            .architecture
            .clone()
            .map(|hint| ("controlvector.model_hint", hint)),
    );
    texts.extend((!vector.name.is_empty()).then(|| ("general.name", vector.name.clone())));
    out.extend((texts.len() as u64 + 1).to_le_bytes());
    let put = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    for (key, value) in &texts {
        put(&mut out, key);
        out.extend(TEXT.to_le_bytes());
        put(&mut out, value);
    }
    const NUMBER: u32 = 4;
    put(&mut out, "controlvector.layer_count");
    out.extend(NUMBER.to_le_bytes());
    out.extend((directions.len() as u32).to_le_bytes());
    let bytes_each = ((vector.d_model() * size_of::<f32>()) as u64).next_multiple_of(ALIGNMENT);
    for (index, layer) in directions.keys().enumerate() {
        put(&mut out, &format!("direction.{layer}"));
        out.extend(1u32.to_le_bytes());
        out.extend((vector.d_model() as u64).to_le_bytes());
        out.extend(F32.to_le_bytes());
        out.extend((index as u64 * bytes_each).to_le_bytes());
    }
    for (point_layer, values) in &directions {
        out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
        // unit vectors are written with length 1, which is what other programs expect of them
        let scale = match (unit, crate::linalg::norm(values)) {
            (true, norm) if norm > 0.0 => 1.0 / norm,
            (true, _) => {
                let point = Site::ResidPost.at(*point_layer);
                let operation = "a unit vector";
                return Err(crate::SteeringError::ZeroDirection { point, operation }.into());
            }
            (false, _) => 1.0,
        };
        values
            .iter()
            .for_each(|x| out.extend(((f64::from(*x) * scale) as f32).to_le_bytes()));
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    Ok((out, warnings))
}
