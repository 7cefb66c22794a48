//! Mechanex JSON: an object from layers to lists of numbers.
//!
//! A key of digits is a layer and acts at `resid_pre` of that block, as Mechanex applies it; a key with a dot is a full
//! hook name (`blocks.15.hook_resid_post`). There is no metadata.

use super::{FormatError, Limits, excerpt};
use crate::model::Warning;
use crate::point::{Point, Site, layer_number};
use crate::vector::{Method, SteeringVector};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Name of the method of vectors whose file does not say.
const UNKNOWN: &str = "mechanex_file";

/// Reads a vector.
///
/// # Errors
/// [`FormatError`] naming the key.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<SteeringVector, FormatError> {
    let entries: Entries =
        serde_json::from_slice(bytes).map_err(|error| FormatError::json("vector", &error))?;
    if entries.0.len() > limits.entries {
        return Err(FormatError::Limit {
            what: "layers of the file".to_owned(),
            given: entries.0.len() as u64,
            limit_name: "entries",
            limit: limits.entries as u64,
        });
    }
    let mut directions = BTreeMap::new();
    let mut rows = None;
    for (key, value) in entries.0 {
        let point = point_of(&key)?;
        let (these, values) = match value {
            Numbers::Row(row) => (1, row),
            Numbers::Rows(list) => {
                let width = list.first().map_or(0, Vec::len);
                if let Some(odd) = list.iter().find(|row| row.len() != width) {
                    let field = format!("a row of {:?}", excerpt(&key));
                    return Err(FormatError::field(
                        field,
                        format!("{} numbers", odd.len()),
                        width,
                    ));
                }
                (list.len(), list.concat())
            }
        };
        if *rows.get_or_insert(these) != these {
            let field = format!("rows of {:?}", excerpt(&key));
            return Err(FormatError::field(field, these, rows.unwrap_or_default()));
        }
        if directions.insert(point, values).is_some() {
            return Err(FormatError::Twice {
                what: "direction at",
                name: point.to_string(),
            });
        }
    }
    let method = Method::Other(UNKNOWN.to_owned());
    Ok(SteeringVector::with_rows(
        method,
        rows.unwrap_or(1),
        directions,
    )?)
}

/// The vector of a request that gives its numbers.
///
/// # Errors
/// As [`read`].
pub fn from_map(map: &BTreeMap<String, Vec<f32>>) -> Result<SteeringVector, FormatError> {
    let mut directions = BTreeMap::new();
    for (key, values) in map {
        let point = point_of(key)?;
        if directions.insert(point, values.clone()).is_some() {
            return Err(FormatError::Twice {
                what: "direction at",
                name: point.to_string(),
            });
        }
    }
    Ok(SteeringVector::new(
        Method::Other("inline".to_owned()),
        directions,
    )?)
}

/// The bytes of a vector, and what was lost: everything but places and numbers.
///
/// # Errors
/// None in practice.
pub fn write(vector: &SteeringVector) -> Result<(Vec<u8>, Vec<Warning>), FormatError> {
    let mut object = serde_json::Map::new();
    for (point, values) in vector.directions() {
        // bare layers mean resid_pre, so every other place is named in full
        let key = match point.site {
            Site::ResidPre => point.layer.to_string(),
            site => format!("blocks.{}.hook_{site}", point.layer),
        };
        let value = match vector.rows() {
            1 => serde_json::json!(values),
            _ => values
                .chunks(vector.d_model())
                .map(|row| serde_json::json!(row))
                .collect(),
        };
        object.insert(key, value);
    }
    let text = serde_json::Value::Object(object).to_string();
    let mut warnings = Vec::new();
    if vector.units != crate::vector::Units::Raw {
        warnings.push(Warning::Ignored {
            key: "units".to_owned(),
            reason: "the format has only raw vectors".to_owned(),
        });
    }
    Ok((text.into_bytes(), warnings))
}

fn point_of(key: &str) -> Result<Point, FormatError> {
    let point = match layer_number(key) {
        Some(layer) => Some(Site::ResidPre.at(layer)),
        None => key.parse().ok(),
    };
    point.ok_or_else(|| {
        let wanted = "a layer, or blocks.LAYER.hook_SITE with site resid_pre, attn_out, resid_mid, mlp_out or resid_post";
        FormatError::field("key", format!("{key:?}"), wanted)
    })
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Numbers {
    Row(Vec<f32>),
    Rows(Vec<Vec<f32>>),
}

/// The object's entries in order, a key that stands twice included.
#[derive(Debug)]
struct Entries(Vec<(String, Numbers)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from layers to lists of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
