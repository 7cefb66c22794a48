//! Model description in GGUF metadata.

use super::hf::yarn_attention_factor;
use super::{Activation, Architecture, ConfigError, ModelConfig, Rope, RopeScaling, Span};
use crate::weights::names::{LayerParam, Naming, Param};
use crate::weights::{Gguf, TensorStore};

/// Reads the description of the model in a GGUF file.
///
/// # Errors
/// [`ConfigError`] naming the key, its value and what would be accepted.
pub fn from_gguf(gguf: &Gguf) -> Result<ModelConfig, ConfigError> {
    let file = gguf.path().display().to_string();
    let keys = Keys {
        gguf,
        file: &file,
        architecture: "general",
    };
    let architecture = keys
        .text("architecture")?
        .ok_or_else(|| keys.missing("architecture"))?;
    match architecture {
        "llama" => llama(&Keys {
            architecture,
            ..keys
        }),
        other => Err(ConfigError::Architecture {
            file: file.clone(),
            given: other.chars().take(64).collect(),
            known: "llama (also holds Mistral)",
        }),
    }
}

/// Architecture `llama`: Llama, and Mistral without its window, which the format loses.
fn llama(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let layers = keys.required("block_count")?;
    let last_norm = Param::Layer(layers.saturating_sub(1), LayerParam::AttnNorm);
    // Before anything is sized by the count: a file cannot announce blocks that it does not hold.
    if keys.tensor_shape(&last_norm.name(Naming::Gguf))?.is_none() {
        return Err(ConfigError::Missing {
            file: keys.file.to_owned(),
            field: format!("{} (block_count is {layers})", last_norm.name(Naming::Gguf)),
        });
    }
    let d_model = keys.required("embedding_length")?;
    let heads = keys.required("attention.head_count")?;
    let head_dim = match keys.count("attention.key_length")? {
        Some(head_dim) => head_dim,
        None if heads > 0 && d_model % heads == 0 => d_model / heads,
        None => {
            let given = format!("{heads} heads for a width of {d_model}");
            return Err(keys.bad(
                "attention.head_count",
                given,
                "a divisor of embedding_length",
            ));
        }
    };
    if let Some(value_length) = keys
        .count("attention.value_length")?
        .filter(|&n| n != head_dim)
    {
        return Err(keys.bad(
            "attention.value_length",
            value_length.to_string(),
            "key_length",
        ));
    }
    let dims = keys.count("rope.dimension_count")?.unwrap_or(head_dim);
    if dims != head_dim {
        return Err(keys.bad(
            "rope.dimension_count",
            dims.to_string(),
            "key_length in this family",
        ));
    }
    let embedding = Param::TokenEmbedding.name(Naming::Gguf);
    let embedding_shape = keys
        .tensor_shape(&embedding)?
        .ok_or_else(|| ConfigError::Missing {
            file: keys.file.to_owned(),
            field: embedding,
        })?;
    let has = |param: Param| {
        Ok::<_, ConfigError>(keys.tensor_shape(&param.name(Naming::Gguf))?.is_some())
    };
    let general = Keys {
        architecture: "tokenizer.ggml",
        ..*keys
    };
    let token = |name: &str| -> Result<Option<u32>, ConfigError> {
        let key = format!("{name}_token_id");
        general
            .count(&key)?
            .map(|id| {
                u32::try_from(id).map_err(|_| general.bad(&key, id.to_string(), "a token id"))
            })
            .transpose()
    };
    let mut eos_tokens: Vec<u32> = Vec::new();
    for name in ["eos", "eot", "eom"] {
        eos_tokens.extend(token(name)?.filter(|id| !eos_tokens.contains(id)));
    }
    ModelConfig {
        architecture: Architecture::Llama,
        vocab: embedding_shape[0],
        d_model,
        layers,
        heads,
        kv_heads: keys.count("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        d_ff: keys.required("feed_forward_length")?,
        max_context: keys.count("context_length")?.unwrap_or(2048),
        norm_eps: keys
            .number("attention.layer_norm_rms_epsilon")?
            .unwrap_or(1e-6) as f32,
        attention_scale: 1.0 / (head_dim.max(1) as f32).sqrt(),
        qkv_bias: has(Param::Layer(0, LayerParam::Bq))?,
        output_bias: has(Param::Layer(0, LayerParam::Bo))?,
        mlp_bias: has(Param::Layer(0, LayerParam::BDown))?,
        activation: Activation::Silu,
        spans: vec![Span::Full; layers],
        rope: Rope {
            theta: keys.number("rope.freq_base")?.unwrap_or(10_000.0),
            dims,
            scaling: scaling(keys)?,
        },
        tied_head: !has(Param::OutputHead)?,
        bos_token: token("bos")?,
        eos_tokens,
        pad_token: token("padding")?,
    }
    .checked(keys.file)
}

/// Linear and YaRN have keys; Llama 3 scaling is a tensor of divisors.
fn scaling(keys: &Keys<'_>) -> Result<RopeScaling, ConfigError> {
    if let Some(tensor) = keys.gguf.tensor("rope_freqs.weight")? {
        return Ok(RopeScaling::Divisors {
            divisors: tensor.to_f32()?,
        });
    }
    let number = |key: &str| keys.number(key)?.ok_or_else(|| keys.missing(key));
    match keys.text("rope.scaling.type")? {
        None | Some("none") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear {
            factor: number("rope.scaling.factor")?,
        }),
        Some("yarn") => {
            let factor = number("rope.scaling.factor")?;
            Ok(RopeScaling::Yarn {
                factor,
                beta_fast: keys.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: keys.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                original_context: number("rope.scaling.original_context_length")?,
                truncate: true,
                attention_factor: yarn_attention_factor(factor),
            })
        }
        Some(other) => {
            let given = other.chars().take(64).collect();
            Err(keys.bad("rope.scaling.type", given, "none, linear or yarn"))
        }
    }
}

/// Typed access to the keys `ARCHITECTURE.*`.
#[derive(Clone, Copy)]
struct Keys<'a> {
    gguf: &'a Gguf,
    file: &'a str,
    architecture: &'a str,
}

impl<'a> Keys<'a> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn missing(&self, name: &str) -> ConfigError {
        ConfigError::Missing {
            file: self.file.to_owned(),
            field: self.key(name),
        }
    }

    fn bad(&self, name: &str, given: String, wanted: &str) -> ConfigError {
        let wanted = wanted.to_owned();
        ConfigError::Value {
            file: self.file.to_owned(),
            field: self.key(name),
            given,
            wanted,
        }
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, ConfigError> {
        Ok(self.gguf.metadata().str(&self.key(name))?)
    }

    fn number(&self, name: &str) -> Result<Option<f64>, ConfigError> {
        Ok(self.gguf.metadata().f32(&self.key(name))?.map(f64::from))
    }

    fn count(&self, name: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.gguf.metadata().u64(&self.key(name))? else {
            return Ok(None);
        };
        let too_large = |_| self.bad(name, value.to_string(), "a number that fits this machine");
        usize::try_from(value).map(Some).map_err(too_large)
    }

    fn required(&self, name: &str) -> Result<usize, ConfigError> {
        self.count(name)?.ok_or_else(|| self.missing(name))
    }

    fn tensor_shape(&self, name: &str) -> Result<Option<Vec<usize>>, ConfigError> {
        let tensor = self.gguf.tensor(name)?;
        Ok(tensor
            .map(|tensor| tensor.shape)
            .filter(|shape| !shape.is_empty()))
    }
}
