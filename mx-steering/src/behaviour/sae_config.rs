//! The `cfg.json` beside the weights of a SAELens autoencoder, in its older flat and its newer nested form.

use super::sae::{Architecture, Normalisation};
use crate::format::FormatError;
use crate::point::Point;
use serde::Deserialize;

/// What of it matters here.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SaeConfig {
    pub(super) architecture: Architecture,
    pub(super) d_in: Option<usize>,
    pub(super) d_sae: Option<usize>,
    pub(super) normalisation: Normalisation,
    pub(super) subtract_decoder_bias: bool,
    pub(super) rescale_by_decoder_norm: bool,
    pub(super) hook: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    architecture: Option<String>,
    activation_fn: Option<String>,
    activation_fn_str: Option<String>,
    activation_fn_kwargs: Kwargs,
    k: Option<f64>,
    d_in: Option<usize>,
    d_sae: Option<usize>,
    normalize_activations: Option<String>,
    apply_b_dec_to_input: Option<bool>,
    rescale_acts_by_decoder_norm: Option<bool>,
    reshape_activations: Option<String>,
    hook_name: Option<String>,
    hook_point: Option<String>,
    metadata: Meta,
    meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kwargs {
    k: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    hook_name: Option<String>,
}

impl SaeConfig {
    pub(super) fn parse(json: &[u8]) -> Result<Self, FormatError> {
        let raw: Raw =
            serde_json::from_slice(json).map_err(|error| FormatError::json("cfg.json", &error))?;
        let activation = raw
            .activation_fn_str
            .or(raw.activation_fn)
            .unwrap_or_default();
        let named = raw.architecture.unwrap_or_else(|| "standard".to_owned());
        let architecture = match (named.as_str(), activation.as_str()) {
            // before it had a name of its own, top-k was an activation of the standard architecture
            ("topk", _) | ("standard", "topk") => {
                let k = raw.k.or(raw.activation_fn_kwargs.k);
                let whole = k.filter(|k| k.fract() == 0.0 && (1.0..1e9).contains(k));
                let Some(k) = whole else {
                    let given = k.map_or("not there".to_owned(), |k| k.to_string());
                    return Err(FormatError::field(
                        "k",
                        given,
                        "a number of features from 1 on",
                    ));
                };
                Architecture::TopK { k: k as usize }
            }
            ("standard", "" | "relu") => Architecture::Standard,
            ("jumprelu", _) => Architecture::JumpRelu,
            ("gated", _) => Architecture::Gated,
            ("standard", other) => {
                return Err(FormatError::field("activation_fn", other, "relu or topk"));
            }
            (other, _) => {
                return Err(FormatError::field(
                    "architecture",
                    other,
                    "standard, topk, jumprelu or gated",
                ));
            }
        };
        // the average norm is folded into the weights when such an autoencoder is saved
        let normalisation = match raw.normalize_activations.as_deref() {
            None | Some("none" | "expected_average_only_in") => Normalisation::None,
            Some("constant_norm_rescale") => Normalisation::ConstantNorm,
            Some("layer_norm") => Normalisation::LayerNorm,
            Some(other) => {
                let wanted = "none, expected_average_only_in, constant_norm_rescale or layer_norm";
                return Err(FormatError::field("normalize_activations", other, wanted));
            }
        };
        if let Some(shape) = raw.reshape_activations.filter(|shape| shape != "none") {
            return Err(FormatError::field("reshape_activations", shape, "none"));
        }
        let hooks = [
            raw.hook_name,
            raw.metadata.hook_name,
            raw.meta.hook_name,
            raw.hook_point,
        ];
        Ok(SaeConfig {
            architecture,
            d_in: raw.d_in,
            d_sae: raw.d_sae,
            normalisation,
            subtract_decoder_bias: raw.apply_b_dec_to_input.unwrap_or(true),
            rescale_by_decoder_norm: raw.rescale_acts_by_decoder_norm.unwrap_or(false),
            hook: hooks.into_iter().flatten().next(),
        })
    }

    /// The place whose rows are encoded, where the file says so and we have it.
    pub(super) fn point(&self) -> Option<Point> {
        self.hook.as_deref()?.parse().ok()
    }
}
