//! What a caller asks for: the same plain data for Rust, the program and, later, the wire.

mod behaviors;
mod check;
#[cfg_attr(not(feature = "local"), allow(dead_code))]
mod constraints;
#[cfg_attr(not(feature = "local"), allow(dead_code))]
mod controls;
mod message;
#[cfg_attr(not(feature = "local"), allow(dead_code))]
mod origin;
#[cfg(feature = "local")]
mod resolve;
mod shorthand;
#[cfg_attr(not(feature = "local"), allow(dead_code))]
mod steering;

pub use behaviors::BehaviorWatch;
pub use constraints::{Constraints, GrammarSyntax};
pub use controls::{Beam, Controls, Decoding, DrafterKind, Drafts, Ensemble, Strategy, Voting};
pub use message::{Content, Message};
pub use mx_sampling::Method;
pub use origin::{Origin, Setting};
#[cfg(feature = "local")]
pub use resolve::Settings;
pub use shorthand::schema_from_shorthand;
pub use steering::Steering;

use crate::error::Error;
use crate::policy::{Checks, Policy};
use mx_sampling::SamplingOptions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A request for generated text. Everything but the prompt is optional; what is not given is taken from the model's
/// own recommendation, then from the built-in default, and the answer says where each value came from.
///
/// Plain serde data. In JSON it is one flat object, the [sampling parameters](SamplingOptions) beside the others:
///
/// ```
/// let request: mx::GenerateRequest =
///     serde_json::from_str(r#"{"prompt": "Hello", "max_tokens": 8, "temperature": 0.2, "stop": "\n"}"#)?;
/// assert_eq!(request.sampling.temperature, Some(0.2));
/// assert_eq!(request.stop, ["\n"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerateRequest {
    /// What to continue or answer.
    pub prompt: Prompt,
    /// System message before a chat prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// `true` continues a text prompt as it stands. By default a model with a chat template answers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<bool>,
    /// Most tokens to generate, 1 or more; 128 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// How the next token is chosen; `top-k` unless given.
    #[serde(skip_serializing_if = "Option::is_none", alias = "method")]
    pub sampling_method: Option<Method>,
    /// The parameters of the sampling chain.
    #[serde(flatten)]
    pub sampling: SamplingOptions,
    /// The parameters of the strategies.
    #[serde(flatten)]
    pub controls: Controls,
    /// What the output must look like.
    #[serde(flatten)]
    pub constraints: Constraints,
    /// What steers the model.
    #[serde(flatten)]
    pub steering: Steering,
    /// How candidates are made and judged.
    #[serde(flatten)]
    pub checks: Checks,
    /// Seed of the random stream; drawn and reported unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Texts that end the generation; they are cut from the output. One string or a list.
    #[serde(
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub stop: Vec<String>,
    /// Whether the tokens that end a text are ruled out; `false` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// What to do with a prompt that does not fit the model; an error unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_overflow: Option<Overflow>,
    /// Whether the answer carries a [trace](crate::trace::Trace); `false` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_trace: Option<bool>,
    /// Fields that this version does not know. A request that has any is refused.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// What to continue or answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// A text: the user's message for a chat model, the beginning of the text under `raw`.
    Text(String),
    /// Tokens, continued as they stand.
    Tokens(Vec<u32>),
    /// A conversation; needs a model with a chat template.
    Chat(Vec<Message>),
}

impl Default for Prompt {
    fn default() -> Self {
        Prompt::Text(String::new())
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Prompt::Text(text.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Prompt::Text(text)
    }
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Prompt::Chat(messages)
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(tokens: Vec<u32>) -> Self {
        Prompt::Tokens(tokens)
    }
}

/// What to do with a prompt that leaves no room in the model's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Refuse the request.
    #[default]
    Error,
    /// Drop tokens from the start of a prompt that the context does not hold, and warn. What is left makes room for
    /// `max_tokens`, or for half the context where they are more; a token that begins a text stays.
    TruncatePrompt,
}

impl GenerateRequest {
    /// A request with everything left to the defaults.
    pub fn new(prompt: impl Into<Prompt>) -> Self {
        GenerateRequest {
            prompt: prompt.into(),
            ..GenerateRequest::default()
        }
    }

    /// Refuses a request with a field that does not exist.
    pub(crate) fn known(&self) -> Result<(), Error> {
        match self.unknown.keys().next() {
            Some(field) => Err(Error::UnknownField {
                field: field.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Whether the output is constrained.
    pub fn is_constrained(&self) -> bool {
        !self.constraints.names().is_empty()
    }

    /// Sets [`system`](Self::system).
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.system = Some(text.into());
        self
    }

    /// Sets [`raw`](Self::raw).
    pub fn raw(mut self, raw: bool) -> Self {
        self.raw = Some(raw);
        self
    }

    /// Sets [`max_tokens`](Self::max_tokens).
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Sets [`sampling_method`](Self::sampling_method).
    pub fn method(mut self, method: Method) -> Self {
        self.sampling_method = Some(method);
        self
    }

    /// Sets the temperature; 0 is greedy.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.sampling.temperature = Some(temperature);
        self
    }

    /// Keeps the `k` most likely tokens; 0 and −1 keep all.
    pub fn top_k(mut self, k: i64) -> Self {
        self.sampling.top_k = Some(k);
        self
    }

    /// Keeps the smallest set of tokens with mass `p`, 0 to 1.
    pub fn top_p(mut self, p: f64) -> Self {
        self.sampling.top_p = Some(p);
        self
    }

    /// Keeps tokens at least `p` times as likely as the best, 0 to 1.
    pub fn min_p(mut self, p: f64) -> Self {
        self.sampling.min_p = Some(p);
        self
    }

    /// The output validates against this JSON Schema.
    pub fn json_schema(mut self, schema: serde_json::Value) -> Self {
        self.constraints.json_schema = Some(schema);
        self
    }

    /// The whole output matches this ECMA-262 regular expression.
    pub fn regex(mut self, pattern: impl Into<String>) -> Self {
        self.constraints.regex_pattern = Some(pattern.into());
        self
    }

    /// The output belongs to the language of this grammar.
    pub fn grammar(mut self, syntax: GrammarSyntax, text: impl Into<String>) -> Self {
        self.constraints.grammar = Some(text.into());
        self.constraints.grammar_syntax = Some(syntax);
        self
    }

    /// The output is one of these texts.
    pub fn choices(mut self, texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.constraints.choices = texts.into_iter().map(Into::into).collect();
        self
    }

    /// Steers the model by one more vector.
    pub fn steer(mut self, steer: mx_steering::apply::Steer) -> Self {
        let spec = self.steering.steering.get_or_insert_default();
        spec.vectors.push(steer);
        self
    }

    /// Sets how many outputs are returned.
    pub fn n(mut self, outputs: usize) -> Self {
        self.controls.n = Some(outputs);
        self
    }

    /// Sets how many candidates are generated, of which the best is returned.
    pub fn best_of_n(mut self, candidates: usize) -> Self {
        self.controls.best_of_n = Some(candidates);
        self
    }

    /// Runs the request by this policy.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.checks.policy = Some(Box::new(policy));
        self
    }

    /// Runs the request by the saved policy of this id.
    pub fn policy_id(mut self, id: impl Into<String>) -> Self {
        self.checks.policy_id = Some(id.into());
        self
    }

    /// Asks for log-probabilities: of every token, and of so many of the most likely ones.
    pub fn logprobs(mut self, top: usize) -> Self {
        self.controls.logprobs = Some(top);
        self
    }

    /// Sets [`seed`](Self::seed).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Adds a text that ends the generation.
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.stop.push(text.into());
        self
    }

    /// Sets [`on_overflow`](Self::on_overflow).
    pub fn on_overflow(mut self, overflow: Overflow) -> Self {
        self.on_overflow = Some(overflow);
        self
    }

    /// Sets [`include_trace`](Self::include_trace).
    pub fn include_trace(mut self, include: bool) -> Self {
        self.include_trace = Some(include);
        self
    }
}

/// A string, a list of strings, or null.
fn one_or_many<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<OneOrMany>::deserialize(input)? {
        None => Vec::new(),
        Some(OneOrMany::One(text)) => vec![text],
        Some(OneOrMany::Many(texts)) => texts,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn json_round_trip_keeps_every_field() {
        let request = GenerateRequest::new("Hi")
            .system("Be brief.")
            .max_tokens(7)
            .method(Method::MinP)
            .min_p(0.1)
            .seed(u64::MAX)
            .stop("END")
            .on_overflow(Overflow::TruncatePrompt);
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            serde_json::from_str::<GenerateRequest>(&text).unwrap(),
            request
        );
    }

    #[test]
    fn unknown_fields_are_kept_to_be_named() {
        let request: GenerateRequest =
            serde_json::from_str(r#"{"prompt":"x","temprature":1}"#).unwrap();
        assert_eq!(request.unknown.keys().collect::<Vec<_>>(), ["temprature"]);
    }

    #[test]
    fn a_prompt_is_text_tokens_or_messages() {
        let prompt = |json: &str| serde_json::from_str::<Prompt>(json).unwrap();
        assert_eq!(prompt("\"a\""), Prompt::from("a"));
        assert_eq!(prompt("[1, 2]"), Prompt::Tokens(vec![1, 2]));
        assert!(
            matches!(prompt(r#"[{"role":"user","content":"a"}]"#), Prompt::Chat(m) if m.len() == 1)
        );
    }
}
