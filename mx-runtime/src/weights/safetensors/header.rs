//! The JSON of safetensors headers and indexes, read so that no entry is lost: a repeated name stays visible.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

const METADATA_KEY: &str = "__metadata__";

/// A header: the tensors and `__metadata__`, each in the order of the file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) tensors: Vec<(String, HeaderTensor)>,
    pub(super) metadata: Vec<(String, String)>,
    /// Whether `__metadata__` stands there more than once.
    pub(super) metadata_repeated: bool,
}

/// What a header says about one tensor.
#[derive(Debug, Deserialize)]
pub(super) struct HeaderTensor {
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    pub(super) data_offsets: (u64, u64),
}

/// An index: where each tensor lies. Its own metadata is of no use here.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) weight_map: Pairs<String>,
}

/// A JSON object as a list of pairs.
#[derive(Debug)]
pub(super) struct Pairs<V>(pub(super) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
    type Value = Pairs<V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut header = Header {
            tensors: Vec::new(),
            metadata: Vec::new(),
            metadata_repeated: false,
        };
        let mut metadata_seen = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA_KEY {
                header.metadata_repeated |= metadata_seen;
                metadata_seen = true;
                header.metadata = map.next_value::<Pairs<String>>()?.0;
            } else {
                let tensor = map.next_value()?;
                header.tensors.push((name, tensor));
            }
        }
        Ok(header)
    }
}
