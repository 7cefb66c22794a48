//! Our own files: safetensors with everything that is known of a vector in the metadata.
//!
//! Tensors are named `direction.L` where all of them are at the `site` of the metadata, else `SITE.L`; they have the
//! shape `[d_model]`, or `[rows, d_model]` for vectors that differ by position. The plain metadata keys (`format`,
//! `site`, `method`, `normalisation`, `hidden_size`, `num_layers`, `model_id`, `architecture`) can be read by any
//! program; `mx` holds the rest as JSON.

use super::safetensors::File;
use super::{FormatError, Limits};
use crate::model::ModelIdentity;
use crate::point::{Point, Site, layer_number};
use crate::vector::{Measured, Method, Provenance, SteeringVector, Units};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format's name and version.
pub const FORMAT: &str = "mx-steering/1";

/// First part of a tensor's name where all tensors are at one site.
const DIRECTION: &str = "direction";

/// What the plain keys do not say.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Extra {
    name: String,
    label: String,
    model: ModelIdentity,
    units: Option<Units>,
    provenance: Provenance,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
    stream_norms: BTreeMap<Point, f32>,
}

/// Reads a vector.
///
/// # Errors
/// [`FormatError`] for a damaged file, another format, or numbers that make no vector.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<SteeringVector, FormatError> {
    let file = File::parse(bytes, limits)?;
    let text = |key: &str| file.metadata.get(key).map(String::as_str);
    match text("format") {
        Some(FORMAT) => {}
        given => {
            let given = given.map_or("not there".to_owned(), |given| format!("{given:?}"));
            return Err(FormatError::field(
                "metadata format",
                given,
                format!("{FORMAT:?}"),
            ));
        }
    }
    let extra: Extra = match text("mx") {
        Some(json) => {
            serde_json::from_str(json).map_err(|error| FormatError::json("metadata mx", &error))?
        }
        None => Extra::default(),
    };
    let site: Site = match text("site") {
        Some(name) => name.parse()?,
        None => Site::default(),
    };
    let mut directions = BTreeMap::new();
    let mut rows = None;
    for (name, view) in file.tensors() {
        let point = point_of(name, site)?;
        let these = match view.shape[..] {
            [_] => 1,
            [rows, _] if rows > 0 => rows,
            _ => {
                let field = format!("shape of tensor {name:?}");
                return Err(FormatError::field(
                    field,
                    format!("{:?}", view.shape),
                    "[d_model] or [rows, d_model]",
                ));
            }
        };
        if *rows.get_or_insert(these) != these {
            let field = format!("rows of tensor {name:?}");
            return Err(FormatError::field(field, these, rows.unwrap_or_default()));
        }
        if view.dtype != "F32" {
            let field = format!("type of tensor {name:?}");
            return Err(FormatError::field(field, &view.dtype, "F32"));
        }
        if directions.insert(point, view.to_f32(name)?).is_some() {
            return Err(FormatError::Twice {
                what: "direction at",
                name: point.to_string(),
            });
        }
    }
    let method = Method::from(text("method").unwrap_or("unknown").to_owned());
    let mut vector = SteeringVector::with_rows(method, rows.unwrap_or(1), directions)?;
    if let Some(given) = number(&file, "hidden_size")?.filter(|&given| given != vector.d_model()) {
        return Err(FormatError::field(
            "metadata hidden_size",
            given,
            vector.d_model(),
        ));
    }
    vector.name = extra.name;
    vector.label = extra.label;
    vector.model = extra.model;
    vector.model.layers = vector.model.layers.or(number(&file, "num_layers")?);
    vector.model.name = vector.model.name.or(text("model_id").map(str::to_owned));
    vector.model.architecture = vector
        .model
        .architecture
        .or(text("architecture").map(str::to_owned));
    vector.units = match (extra.units, text("normalisation")) {
        (Some(units), _) => units,
        (None, Some("unit")) => Units::Unit,
        (None, Some("relative")) => Units::RELATIVE,
        (None, None | Some("raw")) => Units::Raw,
        (None, Some(given)) => {
            return Err(FormatError::field(
                "metadata normalisation",
                given,
                "raw, unit or relative",
            ));
        }
    };
    vector.provenance = extra.provenance;
    vector.measured = extra.measured;
    vector.stream_norms = extra.stream_norms;
    Ok(vector)
}

fn number(file: &File<'_>, key: &str) -> Result<Option<usize>, FormatError> {
    let Some(text) = file.metadata.get(key) else {
        return Ok(None);
    };
    match layer_number(text) {
        Some(number) => Ok(Some(number)),
        None => Err(FormatError::field(
            format!("metadata {key}"),
            text,
            "a number",
        )),
    }
}

fn point_of(name: &str, site: Site) -> Result<Point, FormatError> {
    let wrong = || {
        let wanted = "direction.LAYER or SITE.LAYER";
        FormatError::field("name of tensor", format!("{name:?}"), wanted)
    };
    match name.split_once('.') {
        Some((DIRECTION, layer)) => Ok(site.at(layer_number(layer).ok_or_else(wrong)?)),
        _ => name.parse().map_err(|_| wrong()),
    }
}

/// The bytes of a vector; equal vectors give equal bytes.
///
/// # Errors
/// None in practice; the numbers of a vector have their shape.
pub fn write(vector: &SteeringVector) -> Result<Vec<u8>, FormatError> {
    let mut metadata = BTreeMap::new();
    let mut put = |key: &str, value: String| {
        metadata.insert(key.to_owned(), value);
    };
    put("format", FORMAT.to_owned());
    put("method", vector.method.name().to_owned());
    put("hidden_size", vector.d_model().to_string());
    let normalisation = match vector.units {
        Units::Raw => "raw",
        Units::Unit => "unit",
        Units::Relative { .. } => "relative",
    };
    put("normalisation", normalisation.to_owned());
    let site = vector.site();
    let optional = [
        ("site", site.map(|site| site.to_string())),
        (
            "num_layers",
            vector.model.layers.map(|layers| layers.to_string()),
        ),
        ("model_id", vector.model.name.clone()),
        ("architecture", vector.model.architecture.clone()),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            put(key, value);
        }
    }
    let extra = Extra {
        name: vector.name.clone(),
        label: vector.label.clone(),
        model: vector.model.clone(),
        units: Some(vector.units),
        provenance: vector.provenance.clone(),
        measured: vector.measured.clone(),
        stream_norms: vector.stream_norms.clone(),
    };
    let extra =
        serde_json::to_string(&extra).map_err(|error| FormatError::json("metadata", &error))?;
    put("mx", extra);
    let tensors: Vec<(String, Vec<usize>, &[f32])> = vector
        .directions()
        .map(|(point, values)| {
            let name = match site {
                Some(_) => format!("{DIRECTION}.{}", point.layer),
                None => point.to_string(),
            };
            let shape = match vector.rows() {
                1 => vec![vector.d_model()],
                rows => vec![rows, vector.d_model()],
            };
            (name, shape, values)
        })
        .collect();
    super::safetensors::write(&metadata, &tensors)
}
