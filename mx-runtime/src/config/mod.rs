//! What a model is: sizes, attention, rope, feed-forward, special tokens.
//!
//! [`ModelConfig`] is the same whatever file it came from. It is read from a Hugging Face `config.json` in the
//! classic or the newer dialect ([`from_json`]) or from GGUF metadata ([`from_gguf`]). Every default of the model
//! classes is built in, because published checkpoints leave out what equals the default.

mod error;
mod generation;
mod gguf;
mod hf;
mod rope;

pub use error::ConfigError;
pub use generation::GenerationDefaults;
pub use gguf::from_gguf;
pub use hf::from_json;
pub use rope::{Rope, RopeScaling};

use serde::Serialize;

/// The architectures that this crate can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Architecture {
    /// Llama 1 to 3, SmolLM, SmolLM2 and everything else that names itself `llama`.
    Llama,
    /// Mistral: Llama with a sliding window.
    Mistral,
}

impl Architecture {
    /// The names by which files call the supported architectures, for error messages.
    pub const KNOWN: &'static str = "llama, mistral";

    /// The name as `model_type` in a `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Mistral => "mistral",
        }
    }
}

/// How far back a layer's attention sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// All earlier positions.
    Full,
    /// The last `window` positions, the query's own included: key `k` is visible to query `q` iff
    /// `q - window < k <= q`.
    Sliding {
        /// Number of visible keys, at least 1.
        window: usize,
    },
}

impl Span {
    /// First key position that a query at `position` sees.
    pub fn first_key(self, position: usize) -> usize {
        match self {
            Span::Full => 0,
            Span::Sliding { window } => (position + 1).saturating_sub(window),
        }
    }
}

/// The nonlinearity of the feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
}

/// A decoder-only transformer, as data.
///
/// Dimension names used everywhere: `vocab`, `d_model`, `layers`, `heads`, `kv_heads`, `head_dim`, `d_ff`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the embedding, so the length of a row of logits.
    pub vocab: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it. Query head `h` reads kv head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of one head; `heads * head_dim` need not equal `d_model`.
    pub head_dim: usize,
    /// Inner width of the feed-forward network.
    pub d_ff: usize,
    /// Longest sequence the model was made for, in tokens.
    pub max_context: usize,
    /// Epsilon of every norm.
    pub norm_eps: f32,
    /// Factor on the attention scores.
    pub attention_scale: f32,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward projections have a bias.
    pub mlp_bias: bool,
    /// Nonlinearity of the gated feed-forward network.
    pub activation: Activation,
    /// Span of each layer, `layers` entries.
    pub spans: Vec<Span>,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Whether the output head is the embedding.
    pub tied_head: bool,
    /// First token of a sequence, where the model has one.
    pub bos_token: Option<u32>,
    /// Tokens that end a generation.
    pub eos_tokens: Vec<u32>,
    /// Padding token.
    pub pad_token: Option<u32>,
}

impl ModelConfig {
    /// Width of the concatenated query heads.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the concatenated key (or value) heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Bytes of keys and values that one position takes in all layers together, at `bytes` bytes a number.
    pub fn kv_bytes_per_token(&self, bytes: usize) -> usize {
        let numbers = 2usize.saturating_mul(self.layers);
        numbers
            .saturating_mul(self.kv_width())
            .saturating_mul(bytes)
    }

    /// Number of weights; [`usize::MAX`] for a configuration of more.
    pub fn parameters(&self) -> usize {
        // 128 bits: a configuration may state shapes that no file holds.
        let [d_model, d_ff, layers, vocab] =
            [self.d_model, self.d_ff, self.layers, self.vocab].map(|n| n as u128);
        let attention = d_model * 2 * (self.q_width() as u128 + self.kv_width() as u128);
        let mlp = 3 * d_model * d_ff;
        let norms = 2 * d_model;
        let head = if self.tied_head { 1 } else { 2 } * vocab * d_model;
        let all = layers * (attention + mlp + norms) + head + d_model;
        usize::try_from(all).unwrap_or(usize::MAX)
    }

    /// Adds tokens that end a generation, as other files beside the configuration name them.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a token outside the vocabulary; `file` names where it stands.
    pub fn add_eos_tokens(&mut self, tokens: &[u32], file: &str) -> Result<(), ConfigError> {
        for &token in tokens {
            if token as usize >= self.vocab {
                return Err(ConfigError::Value {
                    file: file.to_owned(),
                    field: "eos_token_id".to_owned(),
                    given: token.to_string(),
                    wanted: format!("below the vocabulary of {}", self.vocab),
                });
            }
            if !self.eos_tokens.contains(&token) {
                self.eos_tokens.push(token);
            }
        }
        Ok(())
    }

    /// Checks that the numbers fit together; both readers end with this.
    pub(crate) fn checked(self, file: &str) -> Result<Self, ConfigError> {
        let bad = |field: &'static str, given: String, wanted: &'static str| {
            Err(ConfigError::Value {
                file: file.to_owned(),
                field: field.to_owned(),
                given,
                wanted: wanted.to_owned(),
            })
        };
        for (field, value, limit) in [
            ("vocab_size", self.vocab, 1 << 24),
            ("hidden_size", self.d_model, 1 << 20),
            ("num_hidden_layers", self.layers, 1 << 16),
            ("num_attention_heads", self.heads, 1 << 16),
            ("num_key_value_heads", self.kv_heads, 1 << 16),
            ("head_dim", self.head_dim, 1 << 16),
            ("intermediate_size", self.d_ff, 1 << 24),
            ("max_position_embeddings", self.max_context, 1 << 31),
        ] {
            if value == 0 || value > limit {
                return Err(ConfigError::Value {
                    file: file.to_owned(),
                    field: field.to_owned(),
                    given: value.to_string(),
                    wanted: format!("1 to {limit}"),
                });
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let given = format!("{} heads, {} kv heads", self.heads, self.kv_heads);
            return bad(
                "num_key_value_heads",
                given,
                "a divisor of num_attention_heads",
            );
        }
        if !self.head_dim.is_multiple_of(2) {
            return bad(
                "head_dim",
                self.head_dim.to_string(),
                "an even number (rope turns pairs)",
            );
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return bad(
                "rms_norm_eps",
                self.norm_eps.to_string(),
                "a finite number, 0 or more",
            );
        }
        if self.spans.len() != self.layers {
            let given = format!("{} entries for {} layers", self.spans.len(), self.layers);
            return bad("layer_types", given, "one entry a layer");
        }
        if self.spans.contains(&Span::Sliding { window: 0 }) {
            return bad("sliding_window", "0".to_owned(), "1 or more, or null");
        }
        for (field, token) in [
            ("bos_token_id", self.bos_token),
            ("pad_token_id", self.pad_token),
        ]
        .into_iter()
        .chain(
            self.eos_tokens
                .iter()
                .map(|&token| ("eos_token_id", Some(token))),
        ) {
            if let Some(token) = token.filter(|&token| token as usize >= self.vocab) {
                return Err(ConfigError::Value {
                    file: file.to_owned(),
                    field: field.to_owned(),
                    given: token.to_string(),
                    wanted: format!("below the vocabulary of {}", self.vocab),
                });
            }
        }
        self.rope.check(file)?;
        Ok(self)
    }
}
