//! [`Metadata`]: the key-value pairs of a GGUF file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::super::WeightsError;
use super::value::{GgufArray, GgufValue, StringArray};

/// The key-value pairs of a GGUF file, in the order of the file.
///
/// The typed getters give `Ok(None)` for an absent key and an error that names key, type found and type wanted for a
/// value of another type. Writers disagree about the width of integers, so the integer getters take every integer type
/// whose value fits; nothing else is converted silently.
///
/// ```
/// use mx_runtime::weights::{Gguf, GgufValue};
///
/// // A file without tensors and with one pair.
/// let mut file = b"GGUF".to_vec();
/// file.extend(3u32.to_le_bytes());
/// file.extend([0u64, 1].map(u64::to_le_bytes).concat());
/// file.extend(5u64.to_le_bytes());
/// file.extend(b"depth");
/// file.extend([4u32, 12].map(u32::to_le_bytes).concat());
///
/// let gguf = Gguf::from_bytes(file, "example")?;
/// let metadata = gguf.metadata();
/// assert_eq!(metadata.get("depth"), Some(&GgufValue::U32(12)));
/// assert_eq!(metadata.u64("depth")?, Some(12));
/// assert_eq!(metadata.u64("width")?, None);
/// let error = metadata.str("depth").unwrap_err();
/// assert_eq!(error.to_string(), "example: metadata key \"depth\" holds u32, wanted string");
/// # Ok::<(), mx_runtime::weights::WeightsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Metadata {
    path: PathBuf,
    pairs: Vec<(String, GgufValue)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            pairs: Vec::new(),
            index: HashMap::new(),
        }
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.index.contains_key(key)
    }

    /// Adds a pair whose key is not there yet.
    pub(super) fn push(&mut self, key: &str, value: GgufValue) {
        self.index.insert(key.to_owned(), self.pairs.len());
        self.pairs.push((key.to_owned(), value));
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// All pairs in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &GgufValue)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key in whatever type it has.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.index.get(key).map(|&index| &self.pairs[index].1)
    }

    /// An integer of any width that fits u32.
    ///
    /// # Errors
    /// [`WeightsError::WrongMetadataType`] for a value of another type, [`WeightsError::MetadataOutOfRange`] for one
    /// that does not fit.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, WeightsError> {
        self.integer(key, "u32")
    }

    /// An integer of any width that fits u64.
    ///
    /// # Errors
    /// As for [`u32`](Self::u32).
    pub fn u64(&self, key: &str) -> Result<Option<u64>, WeightsError> {
        self.integer(key, "u64")
    }

    /// An integer of any width that fits i64.
    ///
    /// # Errors
    /// As for [`u32`](Self::u32).
    pub fn i64(&self, key: &str) -> Result<Option<i64>, WeightsError> {
        self.integer(key, "i64")
    }

    /// An integer of any width that fits usize.
    ///
    /// # Errors
    /// As for [`u32`](Self::u32).
    pub fn usize(&self, key: &str) -> Result<Option<usize>, WeightsError> {
        self.integer(key, "usize")
    }

    /// An f32, or an f64 rounded to one.
    ///
    /// # Errors
    /// [`WeightsError::WrongMetadataType`] for a value of another type, [`WeightsError::MetadataOutOfRange`] for a
    /// finite f64 that is too large.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(&GgufValue::F32(value)) => Ok(Some(value)),
            Some(&GgufValue::F64(value)) => {
                let rounded = value as f32;
                if value.is_finite() && !rounded.is_finite() {
                    return Err(self.out_of_range(key, value.to_string(), "f32"));
                }
                Ok(Some(rounded))
            }
            Some(other) => Err(self.wrong_type(key, other, "f32")),
        }
    }

    /// A bool.
    ///
    /// # Errors
    /// [`WeightsError::WrongMetadataType`] for a value of another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(&GgufValue::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(self.wrong_type(key, other, "bool")),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// [`WeightsError::WrongMetadataType`] for a value of another type.
    pub fn str(&self, key: &str) -> Result<Option<&str>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(GgufValue::String(value)) => Ok(Some(value)),
            Some(other) => Err(self.wrong_type(key, other, "string")),
        }
    }

    /// An array of any type.
    ///
    /// # Errors
    /// [`WeightsError::WrongMetadataType`] for a value that is no array.
    pub fn array(&self, key: &str) -> Result<Option<&GgufArray>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(GgufValue::Array(array)) => Ok(Some(array)),
            Some(other) => Err(self.wrong_type(key, other, "array")),
        }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// [`WeightsError::WrongMetadataType`] for a value of another type.
    pub fn strings(&self, key: &str) -> Result<Option<&StringArray>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(GgufValue::Array(GgufArray::String(strings))) => Ok(Some(strings)),
            Some(other) => Err(self.wrong_type(key, other, "array of string")),
        }
    }

    /// An array of f32.
    ///
    /// # Errors
    /// [`WeightsError::WrongMetadataType`] for a value of another type.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(GgufValue::Array(GgufArray::F32(values))) => Ok(Some(values)),
            Some(other) => Err(self.wrong_type(key, other, "array of f32")),
        }
    }

    /// An array of bool.
    ///
    /// # Errors
    /// [`WeightsError::WrongMetadataType`] for a value of another type.
    pub fn bools(&self, key: &str) -> Result<Option<&[bool]>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(GgufValue::Array(GgufArray::Bool(values))) => Ok(Some(values)),
            Some(other) => Err(self.wrong_type(key, other, "array of bool")),
        }
    }

    /// An array of integers of any width that all fit u32.
    ///
    /// # Errors
    /// As for [`u32`](Self::u32).
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, WeightsError> {
        self.integers(key, "array of u32")
    }

    /// An array of integers of any width that all fit i32.
    ///
    /// # Errors
    /// As for [`u32`](Self::u32).
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, WeightsError> {
        self.integers(key, "array of i32")
    }

    /// The error for a key that is needed and absent.
    pub fn missing(&self, key: &str) -> WeightsError {
        WeightsError::MissingKey {
            path: self.path.clone(),
            key: key.to_owned(),
        }
    }

    fn integer<T: TryFrom<i128>>(
        &self,
        key: &str,
        wanted: &'static str,
    ) -> Result<Option<T>, WeightsError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let integer = value
            .as_integer()
            .ok_or_else(|| self.wrong_type(key, value, wanted))?;
        T::try_from(integer)
            .map(Some)
            .map_err(|_| self.out_of_range(key, integer.to_string(), wanted))
    }

    fn integers<T: TryFrom<i128>>(
        &self,
        key: &str,
        wanted: &'static str,
    ) -> Result<Option<Vec<T>>, WeightsError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let GgufValue::Array(array) = value else {
            return Err(self.wrong_type(key, value, wanted));
        };
        let integers = array
            .to_integers()
            .ok_or_else(|| self.wrong_type(key, value, wanted))?;
        let fit = |integer: i128| {
            T::try_from(integer).map_err(|_| self.out_of_range(key, integer.to_string(), wanted))
        };
        integers
            .into_iter()
            .map(fit)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn wrong_type(&self, key: &str, value: &GgufValue, wanted: &'static str) -> WeightsError {
        let path = self.path.clone();
        WeightsError::WrongMetadataType {
            path,
            key: key.to_owned(),
            found: value.type_name(),
            wanted,
        }
    }

    fn out_of_range(&self, key: &str, given: String, wanted: &'static str) -> WeightsError {
        WeightsError::MetadataOutOfRange {
            path: self.path.clone(),
            key: key.to_owned(),
            given,
            wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sample() -> Metadata {
        let mut metadata = Metadata::new(Path::new("x.gguf"));
        metadata.push("i8", GgufValue::I8(-1));
        metadata.push("u64", GgufValue::U64(1 << 40));
        metadata.push("f64", GgufValue::F64(1e300));
        metadata.push("f32", GgufValue::F32(0.5));
        metadata.push("ints", GgufValue::Array(GgufArray::I32(vec![1, -2])));
        metadata
    }

    #[test]
    fn integers_convert_only_if_they_fit() {
        let metadata = sample();
        assert_eq!(metadata.i64("i8").unwrap(), Some(-1));
        assert_eq!(
            metadata.u32("i8").unwrap_err().kind(),
            "metadata_out_of_range"
        );
        assert_eq!(
            metadata.u32("u64").unwrap_err().kind(),
            "metadata_out_of_range"
        );
        assert_eq!(metadata.u64("u64").unwrap(), Some(1 << 40));
        assert_eq!(
            metadata.u64("f32").unwrap_err().kind(),
            "wrong_metadata_type"
        );
        assert_eq!(metadata.i32s("ints").unwrap(), Some(vec![1, -2]));
        assert_eq!(
            metadata.u32s("ints").unwrap_err().kind(),
            "metadata_out_of_range"
        );
        assert_eq!(
            metadata.u32s("f32").unwrap_err().kind(),
            "wrong_metadata_type"
        );
    }

    #[test]
    fn floats_do_not_become_infinite() {
        let metadata = sample();
        assert_eq!(metadata.f32("f32").unwrap(), Some(0.5));
        let error = metadata.f32("f64").unwrap_err();
        assert_eq!(error.kind(), "metadata_out_of_range");
        assert!(
            error.to_string().contains("x.gguf") && error.to_string().contains("f64"),
            "{error}"
        );
    }
}
