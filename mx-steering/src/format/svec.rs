//! `.svec` files of IBM's activation-steering: `{"model_type", "directions": {"l": [numbers]}, "explained_variances"}`.
//! Only read.

use super::{FormatError, Limits};
use crate::point::{Site, layer_number};
use crate::vector::{Method, SteeringVector, Units};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
struct Svec {
    #[serde(default)]
    model_type: Option<String>,
    directions: BTreeMap<String, Vec<f32>>,
}

/// Whether JSON bytes are of this format rather than of Mechanex.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(default)]
        directions: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Probe>(bytes).is_ok_and(|probe| probe.directions.is_some())
}

/// Reads a vector; its directions are of length 1 and act at `resid_post`.
///
/// # Errors
/// [`FormatError`].
pub fn read(bytes: &[u8], limits: &Limits) -> Result<SteeringVector, FormatError> {
    let svec: Svec =
        serde_json::from_slice(bytes).map_err(|error| FormatError::json("vector", &error))?;
    if svec.directions.len() > limits.entries {
        return Err(FormatError::Limit {
            what: "layers of the file".to_owned(),
            given: svec.directions.len() as u64,
            limit_name: "entries",
            limit: limits.entries as u64,
        });
    }
    let mut directions = BTreeMap::new();
    for (key, values) in svec.directions {
        let layer = layer_number(&key).ok_or_else(|| {
            FormatError::field("key of directions", format!("{key:?}"), "a layer")
        })?;
        if directions
            .insert(Site::ResidPost.at(layer), values)
            .is_some()
        {
            let what = "layer";
            return Err(FormatError::Twice { what, name: key });
        }
    }
    let mut vector = SteeringVector::new(Method::PcaDifference, directions)?;
    vector.model.architecture = svec.model_type;
    vector.units = Units::Unit;
    Ok(vector)
}
