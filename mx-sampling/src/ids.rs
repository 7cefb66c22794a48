//! How maps from ids, and biases, are written in requests.
//!
//! The keys of a map are strings in most formats, and behind `#[serde(flatten)]` they reach us as strings always, which
//! serde's own `u32` refuses. JSON has no infinity: a bias of −inf is the string `"-inf"`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// How −inf is written where a format has no number for it.
const REMOVED: &str = "-inf";

/// Reads an id from a number or from its digits; `wanted` says what it is an id of.
struct IdVisitor {
    wanted: &'static str,
}

impl Visitor<'_> for IdVisitor {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wanted)
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<u32, E> {
        u32::try_from(id).map_err(|_| E::invalid_value(Unexpected::Unsigned(id), &self))
    }

    fn visit_i64<E: Error>(self, id: i64) -> Result<u32, E> {
        u32::try_from(id).map_err(|_| E::invalid_value(Unexpected::Signed(id), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u32, E> {
        // Digits only: the parser of numbers takes a sign too.
        Some(text)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Expands to a key that is read by [`IdVisitor`].
macro_rules! key {
    ($name:ident, $wanted:literal) => {
        #[derive(PartialEq, Eq, PartialOrd, Ord)]
        struct $name(u32);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let wanted = $wanted;
                deserializer.deserialize_any(IdVisitor { wanted }).map(Self)
            }
        }
    };
}

key!(TokenKey, "a token id");
key!(PositionKey, "a position, counted from 0");

/// A number that is added to a logit.
struct Bias(f64);

struct BiasVisitor;

impl Visitor<'_> for BiasVisitor {
    type Value = Bias;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number or \"{REMOVED}\"")
    }

    fn visit_f64<E: Error>(self, bias: f64) -> Result<Bias, E> {
        Ok(Bias(bias))
    }

    fn visit_u64<E: Error>(self, bias: u64) -> Result<Bias, E> {
        Ok(Bias(bias as f64))
    }

    fn visit_i64<E: Error>(self, bias: i64) -> Result<Bias, E> {
        Ok(Bias(bias as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bias, E> {
        if text == REMOVED {
            Ok(Bias(f64::NEG_INFINITY))
        } else {
            Err(E::invalid_value(Unexpected::Str(text), &self))
        }
    }
}

impl<'de> Deserialize<'de> for Bias {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BiasVisitor)
    }
}

impl Serialize for Bias {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == f64::NEG_INFINITY && serializer.is_human_readable() {
            serializer.serialize_str(REMOVED)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// A bias per token id: `logit_bias`.
pub(crate) mod token_biases {
    use super::{BTreeMap, Bias, Deserialize, Deserializer, Serializer, TokenKey};

    pub(crate) fn serialize<S: Serializer>(
        map: &Option<BTreeMap<u32, f64>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match map {
            Some(map) => serializer.collect_map(map.iter().map(|(id, bias)| (id, Bias(*bias)))),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<BTreeMap<u32, f64>>, D::Error> {
        let map = Option::<BTreeMap<TokenKey, Bias>>::deserialize(deserializer)?;
        Ok(map.map(|map| map.into_iter().map(|(id, bias)| (id.0, bias.0)).collect()))
    }
}

/// A bias per token sequence: `sequence_bias`.
pub(crate) mod sequence_biases {
    use super::{Bias, Deserialize, Deserializer, Serializer};

    type Biases = Vec<(Vec<u32>, f64)>;

    pub(crate) fn serialize<S: Serializer>(
        list: &Option<Biases>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match list {
            Some(list) => serializer.collect_seq(list.iter().map(|(ids, bias)| (ids, Bias(*bias)))),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Biases>, D::Error> {
        let list = Option::<Vec<(Vec<u32>, Bias)>>::deserialize(deserializer)?;
        Ok(list.map(|list| list.into_iter().map(|(ids, bias)| (ids, bias.0)).collect()))
    }
}

/// A token id per position: `forced_tokens`. Written as serde does by itself.
pub(crate) fn read_positions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<u32, u32>>, D::Error> {
    let map = Option::<BTreeMap<PositionKey, u32>>::deserialize(deserializer)?;
    Ok(map.map(|map| map.into_iter().map(|(at, id)| (at.0, id)).collect()))
}
