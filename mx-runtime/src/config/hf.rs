//! `config.json`, in the classic dialect (`rope_theta` beside `rope_scaling`) and the newer one
//! (`rope_parameters`, `layer_types`, `dtype`).

use super::{Activation, Architecture, ConfigError, ModelConfig, Rope, RopeScaling, Span};
use serde_json::{Map, Value};

/// Longest `config.json` that is read, in bytes.
const MAX_CONFIG_BYTES: usize = 16 << 20;

/// Reads a `config.json`. `file` names it in errors.
///
/// # Errors
/// [`ConfigError`] naming the field, its value and what would be accepted.
pub fn from_json(text: &str, file: &str) -> Result<ModelConfig, ConfigError> {
    if text.len() > MAX_CONFIG_BYTES {
        return Err(ConfigError::Value {
            file: file.to_owned(),
            field: "(size)".to_owned(),
            given: format!("{} bytes", text.len()),
            wanted: format!("at most {MAX_CONFIG_BYTES}"),
        });
    }
    let json = |reason: String| ConfigError::Json {
        file: file.to_owned(),
        reason,
    };
    let value: Value = serde_json::from_str(text).map_err(|e| json(e.to_string()))?;
    let map = value
        .as_object()
        .ok_or_else(|| json("the top level is no object".to_owned()))?;
    let fields = Fields { file, map };
    match fields.text("model_type")? {
        Some("llama") => llama(&fields, Architecture::Llama),
        Some("mistral") => llama(&fields, Architecture::Mistral),
        Some(other) => Err(ConfigError::Architecture {
            file: file.to_owned(),
            given: other.chars().take(64).collect(),
            known: Architecture::KNOWN,
        }),
        None => Err(fields.missing("model_type")),
    }
}

/// Llama and Mistral: RMS norms, gated SiLU, half-split rope.
fn llama(fields: &Fields<'_>, architecture: Architecture) -> Result<ModelConfig, ConfigError> {
    let mistral = architecture == Architecture::Mistral;
    let d_model = fields.required("hidden_size")?;
    let layers = fields.required("num_hidden_layers")?;
    let heads = fields.required("num_attention_heads")?;
    let default_kv_heads = if mistral { 8 } else { heads };
    let head_dim = match fields.count("head_dim")? {
        Some(head_dim) => head_dim,
        None if heads > 0 && d_model % heads == 0 => d_model / heads,
        None => return Err(fields.missing("head_dim")),
    };
    let activation = match fields.text("hidden_act")? {
        None | Some("silu" | "swish") => Activation::Silu,
        Some(other) => return Err(fields.bad("hidden_act", other, "silu")),
    };
    let window = match fields.map.get("sliding_window") {
        None if mistral => Some(4096), // the default of the model class
        Some(_) if mistral || fields.map.contains_key("layer_types") => {
            fields.count("sliding_window")?
        }
        _ => None,
    };
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    ModelConfig {
        architecture,
        vocab: fields.required("vocab_size")?,
        d_model,
        layers,
        heads,
        kv_heads: fields
            .count("num_key_value_heads")?
            .unwrap_or(default_kv_heads),
        head_dim,
        d_ff: fields.required("intermediate_size")?,
        max_context: fields
            .count("max_position_embeddings")?
            .unwrap_or(if mistral { 131_072 } else { 2048 }),
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        attention_scale: 1.0 / (head_dim.max(1) as f32).sqrt(),
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        mlp_bias: fields.flag("mlp_bias")?.unwrap_or(false),
        activation,
        spans: spans(fields, layers, window)?,
        rope: rope(fields, head_dim)?,
        tied_head: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        bos_token: fields.tokens("bos_token_id")?.first().copied(),
        eos_tokens: fields.tokens("eos_token_id")?,
        pad_token: fields.tokens("pad_token_id")?.first().copied(),
    }
    .checked(fields.file)
}

/// The span of each layer: from `layer_types` where the file has it, else the same for all.
fn spans(
    fields: &Fields<'_>,
    layers: usize,
    window: Option<usize>,
) -> Result<Vec<Span>, ConfigError> {
    let sliding = window.map(|window| Span::Sliding { window });
    if layers > MAX_CONFIG_BYTES {
        let wanted = "a number of layers";
        return Err(fields.bad("num_hidden_layers", &layers.to_string(), wanted));
    }
    let Some(types) = fields
        .map
        .get("layer_types")
        .filter(|types| !types.is_null())
    else {
        return Ok(vec![sliding.unwrap_or(Span::Full); layers]);
    };
    let wanted = "a list of full_attention and sliding_attention";
    let types = types
        .as_array()
        .ok_or_else(|| fields.bad("layer_types", &brief(types), wanted))?;
    types
        .iter()
        .map(|kind| match kind.as_str() {
            Some("full_attention") => Ok(Span::Full),
            Some("sliding_attention") => {
                sliding.ok_or_else(|| fields.bad("sliding_window", "null", "1 or more"))
            }
            _ => Err(fields.bad("layer_types", &brief(kind), wanted)),
        })
        .collect()
}

/// Rope from either dialect.
fn rope(fields: &Fields<'_>, head_dim: usize) -> Result<Rope, ConfigError> {
    let parameters = fields.object("rope_parameters")?;
    let scaling = match &parameters {
        Some(parameters) => Some(parameters),
        None => None,
    };
    let classic = fields.object("rope_scaling")?;
    let theta = match scaling
        .map(|s| s.number("rope_theta"))
        .transpose()?
        .flatten()
    {
        Some(theta) => theta,
        None => fields.number("rope_theta")?.unwrap_or(10_000.0),
    };
    for place in [Some(fields), scaling].into_iter().flatten() {
        let share = place.number("partial_rotary_factor")?.unwrap_or(1.0);
        if share != 1.0 {
            return Err(place.bad(
                "partial_rotary_factor",
                &share.to_string(),
                "1 in this family",
            ));
        }
    }
    let max_context = fields.number("max_position_embeddings")?.unwrap_or(2048.0);
    let scaling = match scaling.or(classic.as_ref()) {
        Some(scaling) => rope_scaling(scaling, max_context)?,
        None => RopeScaling::None,
    };
    Ok(Rope {
        theta,
        dims: head_dim,
        scaling,
    })
}

/// The scaling block; classic files call its kind `type`, later ones `rope_type`.
fn rope_scaling(block: &Fields<'_>, max_context: f64) -> Result<RopeScaling, ConfigError> {
    let kind = match block.text("rope_type")? {
        Some(kind) => Some(kind),
        None => block.text("type")?,
    };
    let number = |name: &str| block.number(name)?.ok_or_else(|| block.missing(name));
    Ok(match kind {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear {
            factor: number("factor")?,
        },
        Some("llama3") => RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_context: number("original_max_position_embeddings")?,
        },
        Some("yarn") => {
            for unsupported in ["mscale", "mscale_all_dim"] {
                if block.number(unsupported)?.is_some() {
                    return Err(block.bad(unsupported, "given", "no such field in this family"));
                }
            }
            let factor = number("factor")?;
            RopeScaling::Yarn {
                factor,
                beta_fast: block.number("beta_fast")?.unwrap_or(32.0),
                beta_slow: block.number("beta_slow")?.unwrap_or(1.0),
                original_context: block
                    .number("original_max_position_embeddings")?
                    .unwrap_or(max_context),
                truncate: block.flag("truncate")?.unwrap_or(true),
                attention_factor: match block.number("attention_factor")? {
                    Some(given) => given,
                    None => yarn_attention_factor(factor),
                },
            }
        }
        Some(other) => {
            return Err(block.bad("rope_type", other, "default, linear, llama3 or yarn"));
        }
    })
}

/// The factor on cos and sin that YaRN implies.
pub(super) fn yarn_attention_factor(factor: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * factor.ln() + 1.0
    }
}

/// Typed access to the fields of one JSON object.
struct Fields<'a> {
    file: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn missing(&self, field: &str) -> ConfigError {
        ConfigError::Missing {
            file: self.file.to_owned(),
            field: field.to_owned(),
        }
    }

    fn bad(&self, field: &str, given: &str, wanted: &str) -> ConfigError {
        ConfigError::Value {
            file: self.file.to_owned(),
            field: field.to_owned(),
            given: given.to_owned(),
            wanted: wanted.to_owned(),
        }
    }

    /// The field, with null as absent.
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn object(&self, field: &str) -> Result<Option<Fields<'a>>, ConfigError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let map = value
            .as_object()
            .ok_or_else(|| self.bad(field, &brief(value), "an object"))?;
        Ok(Some(Fields {
            file: self.file,
            map,
        }))
    }

    fn text(&self, field: &str) -> Result<Option<&'a str>, ConfigError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| self.bad(field, &brief(value), "a string"))
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| self.bad(field, &brief(value), "true or false"))
    }

    fn number(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        value
            .as_f64()
            .map(Some)
            .ok_or_else(|| self.bad(field, &brief(value), "a number"))
    }

    fn count(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(self.bad(field, &brief(value), "a whole number, 0 or more")),
        }
    }

    fn required(&self, field: &str) -> Result<usize, ConfigError> {
        self.count(field)?.ok_or_else(|| self.missing(field))
    }

    /// A token id or a list of them; absent is an empty list.
    fn tokens(&self, field: &str) -> Result<Vec<u32>, ConfigError> {
        let token = |value: &Value| {
            value
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| self.bad(field, &brief(value), "a token id or a list of them"))
        };
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(token).collect(),
            Some(value) => Ok(vec![token(value)?]),
        }
    }
}

/// A JSON value for an error message, cut to a line.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CLASSIC: &str = r#"{"model_type":"llama","hidden_size":48,"intermediate_size":96,"num_hidden_layers":2,
        "num_attention_heads":3,"num_key_value_heads":1,"vocab_size":384,"rope_theta":5e5,"max_position_embeddings":512,
        "rope_scaling":{"type":"linear","factor":4.0},"eos_token_id":[2,3]}"#;

    #[test]
    fn both_dialects_give_the_same_model() {
        let newer = CLASSIC.replace(r#""rope_theta":5e5,"#, "").replace(
            r#""rope_scaling":{"type":"linear","factor":4.0}"#,
            r#""rope_parameters":{"rope_type":"linear","factor":4.0,"rope_theta":5e5},"layer_types":["full_attention","full_attention"]"#,
        );
        let classic = from_json(CLASSIC, "config.json").unwrap();
        assert_eq!(classic, from_json(&newer, "config.json").unwrap());
        assert_eq!(classic.eos_tokens, [2, 3]);
        assert_eq!(classic.head_dim, 16);
    }

    #[test]
    fn errors_name_field_value_and_range() {
        let check = |from: &str, to: &str, expected: &str| {
            assert!(CLASSIC.contains(from));
            let error = from_json(&CLASSIC.replace(from, to), "config.json").unwrap_err();
            assert_eq!(error.to_string(), format!("config.json: {expected}"));
        };
        check(
            r#""hidden_size":48"#,
            r#""hidden_size":-48"#,
            "hidden_size is -48, wanted a whole number, 0 or more",
        );
        check(
            r#""num_attention_heads":3"#,
            r#""num_attention_heads":0"#,
            "field head_dim is missing",
        );
        check(r#""vocab_size":384,"#, "", "field vocab_size is missing");
        check(
            r#"[2,3]"#,
            "[2,384]",
            "eos_token_id is 384, wanted below the vocabulary of 384",
        );
        check(
            "linear",
            "dynamic",
            "rope_type is dynamic, wanted default, linear, llama3 or yarn",
        );
        check(
            "\"llama\"",
            "\"gpt9\"",
            "architecture gpt9 is not supported; supported: llama, mistral",
        );
    }

    #[test]
    fn mistral_slides_by_default_and_null_switches_it_off() {
        let mistral = CLASSIC.replace("\"llama\"", "\"mistral\"");
        let spans = |text: &str| from_json(text, "c").unwrap().spans;
        assert_eq!(spans(&mistral), [Span::Sliding { window: 4096 }; 2]);
        let off = mistral.replace(r#""vocab_size""#, r#""sliding_window":null,"vocab_size""#);
        assert_eq!(spans(&off), [Span::Full; 2]);
    }
}
