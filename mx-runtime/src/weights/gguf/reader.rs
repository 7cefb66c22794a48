//! A cursor over the bytes of a GGUF file, and the metadata values read with it.

use std::fmt;
use std::path::Path;

use super::super::WeightsError;
use super::limits::GgufLimits;
use super::value::{GgufArray, GgufValue, StringArray};

/// Arrays in arrays are never followed deeper than this, whatever the limits say.
const NESTING_CEILING: u64 = 64;
/// Room made for array entries before any has been read; more grows as they come.
const FIRST_RESERVE: usize = 1024;

/// What a field belongs to; only formatted for errors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    Header,
    Pair(u64),
    Value(&'a str),
    TensorNumber(u64),
    Tensor(&'a str),
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(formatter, "the header"),
            Self::Pair(index) => write!(formatter, "metadata pair {index}"),
            Self::Value(key) => write!(formatter, "metadata key {key:?}"),
            Self::TensorNumber(index) => write!(formatter, "tensor {index}"),
            Self::Tensor(name) => write!(formatter, "tensor {name:?}"),
        }
    }
}

/// Reads little-endian fields one after the other. Nothing here allocates more than the file holds.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    path: &'a Path,
    subject: Subject<'a>,
    limits: &'a GgufLimits,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], path: &'a Path, limits: &'a GgufLimits) -> Self {
        Self {
            bytes,
            position: 0,
            path,
            subject: Subject::Header,
            limits,
        }
    }

    /// Says what the following fields belong to.
    pub(super) fn enter(&mut self, subject: Subject<'a>) {
        self.subject = subject;
    }

    pub(super) fn position(&self) -> u64 {
        self.position as u64
    }

    pub(super) fn limits(&self) -> &'a GgufLimits {
        self.limits
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], WeightsError> {
        match self.bytes[self.position..].first_chunk() {
            Some(&bytes) => {
                self.position += N;
                Ok(bytes)
            }
            None => Err(WeightsError::Truncated {
                path: self.path.to_owned(),
                offset: self.position(),
                field: self.field(field),
                wanted: N as u64,
                left: self.left(),
            }),
        }
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, WeightsError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, WeightsError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A count of entries that take at least `entry_bytes` each. `most` is the limit named `limit`.
    pub(super) fn count(
        &mut self,
        field: &'static str,
        entry_bytes: u64,
        limit: &'static str,
        most: u64,
    ) -> Result<u64, WeightsError> {
        let offset = self.position();
        let count = self.u64(field)?;
        let room = self.left() / entry_bytes;
        if count > room {
            let path = self.path.to_owned();
            return Err(WeightsError::CountExceedsFile {
                path,
                offset,
                field: self.field(field),
                count,
                most: room,
            });
        }
        if count > most {
            return Err(self.above(offset, field, limit, count, most));
        }
        Ok(count)
    }

    /// A string: its length as u64, then its bytes.
    pub(super) fn string(
        &mut self,
        field: &'static str,
        limit: &'static str,
        most: u64,
    ) -> Result<&'a str, WeightsError> {
        let offset = self.position();
        let length = self.u64(field)?;
        let left = self.left();
        if length > left {
            return Err(self.too_long(offset, field, length, left));
        }
        if length > most {
            return Err(self.above(offset, field, limit, length, most));
        }
        let begin = self.position;
        self.position += length as usize; // at most what is left of a slice
        std::str::from_utf8(&self.bytes[begin..self.position]).map_err(|_| {
            WeightsError::InvalidUtf8 {
                path: self.path.to_owned(),
                offset: begin as u64,
                field: self.field(field),
            }
        })
    }

    /// A metadata value: its type id, then the value.
    pub(super) fn value(&mut self) -> Result<GgufValue, WeightsError> {
        let kind = self.value_type("value type")?;
        const FIELD: &str = "value";
        Ok(match kind {
            ValueType::U8 => GgufValue::U8(self.array(FIELD).map(u8::from_le_bytes)?),
            ValueType::I8 => GgufValue::I8(self.array(FIELD).map(i8::from_le_bytes)?),
            ValueType::U16 => GgufValue::U16(self.array(FIELD).map(u16::from_le_bytes)?),
            ValueType::I16 => GgufValue::I16(self.array(FIELD).map(i16::from_le_bytes)?),
            ValueType::U32 => GgufValue::U32(self.u32(FIELD)?),
            ValueType::I32 => GgufValue::I32(self.array(FIELD).map(i32::from_le_bytes)?),
            ValueType::U64 => GgufValue::U64(self.u64(FIELD)?),
            ValueType::I64 => GgufValue::I64(self.array(FIELD).map(i64::from_le_bytes)?),
            ValueType::F32 => GgufValue::F32(self.array(FIELD).map(f32::from_le_bytes)?),
            ValueType::F64 => GgufValue::F64(self.array(FIELD).map(f64::from_le_bytes)?),
            ValueType::Bool => {
                let offset = self.position();
                let [byte] = self.array(FIELD)?;
                GgufValue::Bool(self.bool(offset, byte)?)
            }
            ValueType::String => GgufValue::String(self.metadata_string(FIELD)?.to_owned()),
            ValueType::Array => GgufValue::Array(self.value_array(1)?),
        })
    }

    /// An array value: element type, length, elements. `level` is 1 for the outermost.
    fn value_array(&mut self, level: u64) -> Result<GgufArray, WeightsError> {
        let offset = self.position();
        let most = self.limits.max_array_nesting.min(NESTING_CEILING);
        if level > most {
            return Err(WeightsError::NestingTooDeep {
                path: self.path.to_owned(),
                offset,
                field: self.field("array"),
                most,
            });
        }
        let kind = self.value_type("array element type")?;
        let length = self.array_length(kind.least_bytes())?;
        Ok(match kind {
            ValueType::U8 => GgufArray::U8(self.numbers(length, u8::from_le_bytes)),
            ValueType::I8 => GgufArray::I8(self.numbers(length, i8::from_le_bytes)),
            ValueType::U16 => GgufArray::U16(self.numbers(length, u16::from_le_bytes)),
            ValueType::I16 => GgufArray::I16(self.numbers(length, i16::from_le_bytes)),
            ValueType::U32 => GgufArray::U32(self.numbers(length, u32::from_le_bytes)),
            ValueType::I32 => GgufArray::I32(self.numbers(length, i32::from_le_bytes)),
            ValueType::U64 => GgufArray::U64(self.numbers(length, u64::from_le_bytes)),
            ValueType::I64 => GgufArray::I64(self.numbers(length, i64::from_le_bytes)),
            ValueType::F32 => GgufArray::F32(self.numbers(length, f32::from_le_bytes)),
            ValueType::F64 => GgufArray::F64(self.numbers(length, f64::from_le_bytes)),
            ValueType::Bool => {
                let begin = self.position();
                let bytes = self.numbers(length, u8::from_le_bytes);
                let bools = bytes
                    .into_iter()
                    .zip(begin..)
                    .map(|(byte, offset)| self.bool(offset, byte));
                GgufArray::Bool(bools.collect::<Result<_, _>>()?)
            }
            ValueType::String => {
                let mut strings = StringArray::with_capacity(length);
                for _ in 0..length {
                    strings.push(self.metadata_string("string in an array")?);
                }
                GgufArray::String(strings)
            }
            ValueType::Array => {
                let mut arrays = Vec::with_capacity(length.min(FIRST_RESERVE));
                for _ in 0..length {
                    arrays.push(self.value_array(level + 1)?);
                }
                GgufArray::Array(arrays)
            }
        })
    }

    /// Length of an array whose elements take at least `element_bytes` each, checked against the rest of the file.
    fn array_length(&mut self, element_bytes: u64) -> Result<usize, WeightsError> {
        const FIELD: &str = "array length";
        let offset = self.position();
        let length = self.u64(FIELD)?;
        let room = self.left() / element_bytes;
        if length > room {
            return Err(self.too_long(offset, FIELD, length, room));
        }
        let most = self.limits.max_array_values;
        if length > most {
            return Err(self.above(offset, FIELD, "max_array_values", length, most));
        }
        Ok(length as usize) // at most the length of a slice
    }

    /// `length` numbers of `N` bytes; the caller has checked that they are there.
    fn numbers<const N: usize, T>(
        &mut self,
        length: usize,
        decode: impl Fn([u8; N]) -> T,
    ) -> Vec<T> {
        let (chunks, _) = self.bytes[self.position..].as_chunks::<N>();
        let numbers = chunks[..length]
            .iter()
            .map(|&bytes| decode(bytes))
            .collect();
        self.position += length * N;
        numbers
    }

    fn metadata_string(&mut self, field: &'static str) -> Result<&'a str, WeightsError> {
        self.string(field, "max_string_bytes", self.limits.max_string_bytes)
    }

    fn value_type(&mut self, field: &'static str) -> Result<ValueType, WeightsError> {
        let offset = self.position();
        let found = self.u32(field)?;
        ValueType::from_id(found).ok_or_else(|| WeightsError::UnknownMetadataType {
            path: self.path.to_owned(),
            offset,
            field: self.field(field),
            found,
        })
    }

    fn bool(&self, offset: u64, byte: u8) -> Result<bool, WeightsError> {
        match byte {
            0 => Ok(false),
            1 => Ok(true),
            found => {
                let field = self.field("value");
                Err(WeightsError::InvalidBool {
                    path: self.path.to_owned(),
                    offset,
                    field,
                    found,
                })
            }
        }
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.position) as u64
    }

    fn field(&self, field: &str) -> String {
        format!("{field} of {}", self.subject)
    }

    fn too_long(&self, offset: u64, field: &str, length: u64, most: u64) -> WeightsError {
        let path = self.path.to_owned();
        WeightsError::LengthExceedsFile {
            path,
            offset,
            field: self.field(field),
            length,
            most,
        }
    }

    fn above(
        &self,
        offset: u64,
        field: &str,
        limit: &'static str,
        given: u64,
        most: u64,
    ) -> WeightsError {
        let path = self.path.to_owned();
        WeightsError::LimitExceeded {
            path,
            offset,
            field: self.field(field),
            limit,
            given,
            most,
        }
    }
}

/// The value types of the format.
#[derive(Clone, Copy, Debug)]
enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of a number; of a string its length; of an array its element type and length.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}
