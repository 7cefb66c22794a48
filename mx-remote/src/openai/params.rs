//! What a generation may be asked for, whatever the server.

use crate::axionic::Policy;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a generation may be asked for, whatever the server. What is not given has the server's default; what is given
/// and cannot be honoured is refused.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Params {
    /// Most tokens to generate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Fewest tokens to generate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tokens: Option<u32>,
    /// Choices; 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// Texts that end the generation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Tokens that end the generation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_token_ids: Vec<u32>,
    /// Whether the tokens that end a text are ruled out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// Seed of the random stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,

    /// Temperature; 0 is greedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Keeps the most likely tokens; 0 and less keep all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// Keeps the smallest set of tokens with this mass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Keeps tokens at least this times as likely as the best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Keeps the most typical tokens with this mass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typical_p: Option<f64>,
    /// Keeps tokens within this many standard deviations of the best logit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_n_sigma: Option<f64>,
    /// Chance of excluding the top choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xtc_probability: Option<f64>,
    /// Probability from which a token counts as a top choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xtc_threshold: Option<f64>,
    /// Mirostat instead of truncation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirostat: Option<Mirostat>,

    /// Penalty per occurrence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Penalty of everything that occurred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Divisor of the logit of everything that occurred; 1 is none. llama.cpp's servers look at the last tokens only,
    /// see `repeat_last_n`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Tokens that the penalties look back; −1 is the whole context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_last_n: Option<i64>,
    /// Penalty of repeated sequences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry: Option<Dry>,
    /// Added to the logits of these tokens.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub logit_bias: BTreeMap<u32, f64>,
    /// The only tokens allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_token_ids: Vec<u32>,
    /// Words that are ruled out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_words: Vec<String>,

    /// What the output must look like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// Log-probabilities of the chosen tokens, and of this many of the best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u32>,
    /// What only the native service's surface has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axionic: Option<AxionicParams>,
    /// Who asks, for the server's records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Fields that are sent as they are, unchecked. One that the client sets itself is refused.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What an output must look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that satisfies a schema.
    JsonSchema(JsonSchema),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// A text of a grammar.
    Grammar {
        /// The notation.
        syntax: GrammarSyntax,
        /// The grammar.
        text: String,
    },
    /// One of these texts.
    Choice(Vec<String>),
}

/// A schema and its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JsonSchema {
    /// Its name, of letters, digits, `_` and `-`; `output`.
    #[serde(default = "JsonSchema::default_name")]
    pub name: String,
    /// The schema.
    pub schema: Value,
}

impl JsonSchema {
    /// A schema without a name of its own.
    pub fn new(schema: Value) -> Self {
        JsonSchema {
            name: Self::default_name(),
            schema,
        }
    }

    fn default_name() -> String {
        "output".to_owned()
    }
}

/// A notation of grammars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GrammarSyntax {
    /// llama.cpp's GBNF.
    Gbnf,
    /// Lark.
    Lark,
    /// Another EBNF.
    Ebnf,
}

/// Parameters of mirostat.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mirostat {
    /// Version, 1 or 2.
    pub version: u8,
    /// Target surprise in bits; the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau: Option<f64>,
    /// Learning rate; the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
}

/// Parameters of DRY, the penalty of repeated sequences.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dry {
    /// Strength; 0 is none.
    pub multiplier: f64,
    /// Growth with the length of the repetition; the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<f64>,
    /// Longest repetition without penalty; the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_length: Option<u32>,
    /// Tokens looked back; −1 is the whole context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty_last_n: Option<i64>,
    /// Texts at which a sequence ends; the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_breakers: Option<Vec<String>>,
}

/// What only the native service's OpenAI-compatible surface has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AxionicParams {
    /// The sampling method's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_method: Option<String>,
    /// Candidates per step of ads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ads_subset_size: Option<i64>,
    /// Quality against diversity of ads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ads_beta: Option<f64>,
    /// A vector, as a stored one's id or by layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering_vector: Option<SteeringVectorParam>,
    /// A stored vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering_vector_id: Option<String>,
    /// Multiplier of the vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering_strength: Option<f64>,
    /// Behaviours that are watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behavior_names: Option<Vec<String>>,
    /// Behaviours whose vector is always applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_steering: Option<Vec<String>>,
    /// A policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// A saved policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
}

/// A vector, as a stored one's id or by layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SteeringVectorParam {
    /// The id.
    Id(String),
    /// The values by layer.
    Layers(Map<String, Value>),
}
