//! The two files of a SAELens autoencoder.

use super::sae_config::SaeConfig;
use super::{Architecture, Normalisation, Sae, SaeParts};
use crate::format::safetensors::{self, File};
use crate::format::{FormatError, Limits, read_bytes};
use crate::linalg::norm;
use crate::store::write_atomically;
use std::path::Path;

/// Names of the files that SAELens writes.
const WEIGHTS: &str = "sae_weights.safetensors";
const CONFIG: &str = "cfg.json";

impl Sae {
    /// Reads the folder that SAELens writes: `cfg.json` and `sae_weights.safetensors`.
    ///
    /// # Errors
    /// [`FormatError`] naming field or tensor.
    pub fn load(folder: &Path, limits: &Limits) -> Result<Self, FormatError> {
        let config = read_bytes(&folder.join(CONFIG), limits)?;
        let weights = read_bytes(&folder.join(WEIGHTS), limits)?;
        Sae::read(&config, &weights, limits)
    }

    /// Reads the bytes of both files.
    ///
    /// # Errors
    /// [`FormatError`] naming field or tensor.
    pub fn read(config: &[u8], weights: &[u8], limits: &Limits) -> Result<Self, FormatError> {
        let config = SaeConfig::parse(config)?;
        let file = File::parse(weights, limits)?;
        let tensor = |name: &str| -> Result<(Vec<usize>, Vec<f32>), FormatError> {
            let view = file.tensor(name).ok_or_else(|| {
                FormatError::field(format!("tensor {name:?}"), "not there", "a tensor")
            })?;
            Ok((view.shape.clone(), view.to_f32(name)?))
        };
        let (shape, w_enc) = tensor("W_enc")?;
        let [d_model, features] = shape[..] else {
            return Err(FormatError::field(
                "shape of W_enc",
                format!("{shape:?}"),
                "[d_in, d_sae]",
            ));
        };
        for (name, given, wanted) in [
            ("d_in", config.d_in, d_model),
            ("d_sae", config.d_sae, features),
        ] {
            if let Some(given) = given.filter(|&given| given != wanted) {
                return Err(FormatError::field(
                    name,
                    given,
                    format!("{wanted}, as W_enc has"),
                ));
            }
        }
        let gated = config.architecture == Architecture::Gated;
        let shaped = |name: &str, wanted: &[usize]| match tensor(name)? {
            (shape, values) if shape == wanted => Ok(values),
            (shape, _) => {
                let field = format!("shape of {name}");
                Err(FormatError::field(
                    field,
                    format!("{shape:?}"),
                    format!("{wanted:?}"),
                ))
            }
        };
        let mut parts = SaeParts {
            w_enc,
            b_enc: shaped(if gated { "b_gate" } else { "b_enc" }, &[features])?,
            w_dec: shaped("W_dec", &[features, d_model])?,
            b_dec: shaped("b_dec", &[d_model])?,
            ..SaeParts::default()
        };
        if config.architecture == Architecture::JumpRelu {
            parts.threshold = shaped("threshold", &[features])?;
        }
        if gated {
            parts.r_mag = shaped("r_mag", &[features])?;
            parts.b_mag = shaped("b_mag", &[features])?;
        }
        if file.tensor("scaling_factor").is_some() {
            let wanted = "an autoencoder without a finetuning factor";
            return Err(FormatError::field(
                "tensor \"scaling_factor\"",
                "there",
                wanted,
            ));
        }
        let mut sae = Sae::new(config.architecture, d_model, features, parts)?;
        sae.point = config.point();
        sae.normalisation = config.normalisation;
        sae.subtract_decoder_bias = config.subtract_decoder_bias;
        if config.rescale_by_decoder_norm {
            let norms = sae
                .parts
                .w_dec
                .chunks_exact(d_model)
                .map(|row| norm(row) as f32);
            sae.decoder_norms = Some(norms.collect());
        }
        Ok(sae)
    }

    /// Writes the folder that [`load`](Sae::load) reads, making it where it is not there.
    ///
    /// # Errors
    /// As [`write`](Sae::write), and [`FormatError::Io`].
    pub fn save(&self, folder: &Path) -> Result<(), FormatError> {
        let (config, weights) = self.write()?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FormatError::Io { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        for (name, bytes) in [(CONFIG, config), (WEIGHTS, weights)] {
            let path = folder.join(name);
            write_atomically(&path, &bytes).map_err(failed(&path))?;
        }
        Ok(())
    }

    /// The bytes of `cfg.json` and `sae_weights.safetensors`, as SAELens writes them.
    ///
    /// # Errors
    /// [`FormatError::CannotHold`] for codes in units of the decoder's rows.
    pub fn write(&self) -> Result<(Vec<u8>, Vec<u8>), FormatError> {
        if self.decoder_norms.is_some() {
            return Err(FormatError::CannotHold {
                format: "SAELens",
                what: "this autoencoder".to_owned(),
                reason: "its codes are in units of the decoder's rows",
            });
        }
        let (architecture, k) = match self.architecture {
            Architecture::Standard => ("standard", None),
            Architecture::TopK { k } => ("topk", Some(k)),
            Architecture::JumpRelu => ("jumprelu", None),
            Architecture::Gated => ("gated", None),
        };
        let normalisation = match self.normalisation {
            Normalisation::None => "none",
            Normalisation::ConstantNorm => "constant_norm_rescale",
            Normalisation::LayerNorm => "layer_norm",
        };
        let mut config = serde_json::json!({
            "architecture": architecture,
            "d_in": self.d_model(),
            "d_sae": self.features(),
            "dtype": "float32",
            "apply_b_dec_to_input": self.subtract_decoder_bias,
            "normalize_activations": normalisation,
        });
        if let Some(k) = k {
            config["k"] = k.into();
        }
        if let Some(point) = self.point {
            let hook = format!("blocks.{}.hook_{}", point.layer, point.site);
            config["metadata"] = serde_json::json!({ "hook_name": hook });
        }
        let parts = &self.parts;
        let gate = match self.architecture {
            Architecture::Gated => "b_gate",
            _ => "b_enc",
        };
        let (d, n) = (self.d_model(), self.features());
        let tensors = [
            ("W_enc", vec![d, n], &parts.w_enc),
            (gate, vec![n], &parts.b_enc),
            ("W_dec", vec![n, d], &parts.w_dec),
            ("b_dec", vec![d], &parts.b_dec),
            ("threshold", vec![n], &parts.threshold),
            ("r_mag", vec![n], &parts.r_mag),
            ("b_mag", vec![n], &parts.b_mag),
        ];
        let present: Vec<(String, Vec<usize>, &[f32])> = tensors
            .into_iter()
            .filter(|(_, _, values)| !values.is_empty())
            .map(|(name, shape, values)| (name.to_owned(), shape, values.as_slice()))
            .collect();
        let weights = safetensors::write(&Default::default(), &present)?;
        Ok((config.to_string().into_bytes(), weights))
    }
}
