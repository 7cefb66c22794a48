//! Presets: vectors for common wishes, made for whatever model is loaded.
//!
//! Bundled are texts, not vectors: [`Preset::pairs`] gives contrastive pairs of ours, [`compute`] makes the vector for a
//! model and chooses its layer by what it does to pairs held out, [`tune`] finds a strength, and [`measure`] reports the
//! preset's own metric on prompts that nothing was made from, beside the perplexity of neutral text. A vector is worth
//! keeping under [`Preset::cache_name`], so that a model pays once.
//!
//! | preset | from | to | metric |
//! |---|---|---|---|
//! | `brevity` | rambling answers | answers of one sentence | tokens of an answer |
//! | `truthfulness` | confident falsehoods | plain facts, or "I do not know" | shift of belief on held-out pairs |
//! | `refusal_strength` | openings of compliance | polite refusals of harmful requests | share of refusals |
//! | `safety_style` | careless advice | caution, with a caveat | share of answers with a caveat |
//! | `tone_control` | blunt slang | formal, warm or neutral | words of the tone |
//! | `format_rigidity` | free form | the form that was asked for | share of lines in it |
//! | `json_compliance` | – | a **constraint** does this, not a vector | share of answers that parse |
//! | `domain_specific` | general answers | the caller's domain, from the **caller's pairs** | the caller's terms |
//!
//! Hard forms come from masks: steering only raises the mass that a mask leaves, so that it distorts less.

mod compute;
mod held_out;
mod measure;
mod metric;
mod reference;

pub use compute::{HELD_OUT, compute, recipe};
pub use held_out::{HeldOut, NEUTRAL_TEXTS, held_out};
pub use measure::{PresetModel, PresetReport, Side, Split, measure, measure_belief, tune};
pub use metric::{Metric, Sample};
pub use reference::PresetRef;

use crate::error::SteeringError;
use crate::format::pairs::{Message, Pair};
use crate::format::{FormatError, Limits, pairs};
use crate::point::unknown;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A named wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Preset {
    /// Short answers.
    Brevity,
    /// Plain facts instead of confident falsehoods.
    Truthfulness,
    /// JSON; a constraint.
    JsonCompliance,
    /// The form that was asked for.
    FormatRigidity,
    /// Refusal of harmful requests.
    RefusalStrength,
    /// Caution.
    SafetyStyle,
    /// The caller's domain.
    DomainSpecific,
    /// A tone.
    ToneControl,
}

/// Tones of [`Preset::ToneControl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// Courteous and distant.
    #[default]
    Formal,
    /// Friendly and personal.
    Warm,
    /// Matter of fact.
    Neutral,
}

/// What stands behind a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresetKind {
    /// A vector from bundled pairs.
    Vector,
    /// A vector from pairs that the caller gives.
    CallersPairs,
    /// A constraint on the output; no vector.
    Constraint,
}

/// Version of the bundled pairs and of what is made of them; part of the cache's key.
pub const VERSION: u32 = 2;

/// Strengths worth trying in [`tune`], in shares of a tenth of the stream's norm.
pub const STRENGTHS: [f32; 5] = [0.5, 1.0, 1.5, 2.0, 3.0];

/// Perplexity on neutral text, in multiples of the plain model's, that [`tune`] should bear.
pub const MAX_PERPLEXITY_RATIO: f64 = 1.25;

/// Names, in the order of the enum.
const NAMES: &str = "brevity, truthfulness, json_compliance, format_rigidity, refusal_strength, safety_style, domain_specific or tone_control";

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 8] = [
        Preset::Brevity,
        Preset::Truthfulness,
        Preset::JsonCompliance,
        Preset::FormatRigidity,
        Preset::RefusalStrength,
        Preset::SafetyStyle,
        Preset::DomainSpecific,
        Preset::ToneControl,
    ];

    /// The name, as in `brevity`.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Brevity => "brevity",
            Preset::Truthfulness => "truthfulness",
            Preset::JsonCompliance => "json_compliance",
            Preset::FormatRigidity => "format_rigidity",
            Preset::RefusalStrength => "refusal_strength",
            Preset::SafetyStyle => "safety_style",
            Preset::DomainSpecific => "domain_specific",
            Preset::ToneControl => "tone_control",
        }
    }

    /// One line for people.
    pub fn description(self) -> &'static str {
        match self {
            Preset::Brevity => "answers of one sentence instead of rambling ones",
            Preset::Truthfulness => {
                "plain facts, or \"I do not know\", instead of confident falsehoods"
            }
            Preset::JsonCompliance => "JSON output, by a constraint rather than a vector",
            Preset::FormatRigidity => "exactly the form that was asked for",
            Preset::RefusalStrength => "polite refusal of harmful requests",
            Preset::SafetyStyle => "caution and caveats in risky matters",
            Preset::DomainSpecific => "the vocabulary of a domain, from pairs that you give",
            Preset::ToneControl => "a formal, warm or neutral tone",
        }
    }

    /// What stands behind it.
    pub fn kind(self) -> PresetKind {
        match self {
            Preset::JsonCompliance => PresetKind::Constraint,
            Preset::DomainSpecific => PresetKind::CallersPairs,
            _ => PresetKind::Vector,
        }
    }

    /// The strength that it has unless one was measured for the model at hand: found to work on the default model, and
    /// relative to the stream, so that it means the same for others.
    pub fn default_strength(self) -> f32 {
        match self {
            Preset::Brevity => 2.0,
            Preset::Truthfulness => 1.0,
            _ => 1.5,
        }
    }

    /// The smallest strength that Mechanex sets for it, for its compatibility mode.
    pub fn mechanex_floor(self) -> Option<f32> {
        match self {
            Preset::Brevity => Some(0.35),
            Preset::Truthfulness => Some(0.45),
            Preset::JsonCompliance => None,
            Preset::FormatRigidity => Some(0.5),
            Preset::RefusalStrength => Some(0.65),
            Preset::SafetyStyle => Some(0.55),
            Preset::DomainSpecific => Some(0.4),
            Preset::ToneControl => Some(0.25),
        }
    }

    /// The bundled pairs; each has a conversation of one message for its prompt, to be rendered with the model's chat
    /// template, or see [`plain_prompt`]. Tone control gives those of a tone.
    ///
    /// # Errors
    /// [`SteeringError::Exclusive`] for presets without pairs of ours.
    pub fn pairs(self, tone: Tone) -> Result<Vec<Pair>, SteeringError> {
        let text = match self {
            Preset::Brevity => include_str!("brevity.jsonl"),
            Preset::Truthfulness => include_str!("truthfulness.jsonl"),
            Preset::FormatRigidity => include_str!("format_rigidity.jsonl"),
            Preset::RefusalStrength => include_str!("refusal_strength.jsonl"),
            Preset::SafetyStyle => include_str!("safety_style.jsonl"),
            Preset::ToneControl => return tone_pairs(tone).map_err(bundled),
            Preset::JsonCompliance => {
                return Err(SteeringError::Exclusive {
                    first: "json_compliance",
                    second: "a vector",
                    reason: "it is a constraint on the output; ask for JSON or a schema",
                });
            }
            Preset::DomainSpecific => {
                return Err(SteeringError::Exclusive {
                    first: "domain_specific",
                    second: "bundled pairs",
                    reason: "it is made from pairs of your own domain",
                });
            }
        };
        let read = pairs::read(text, pairs::Negatives::Required, &Limits::default());
        Ok(read
            .map_err(bundled)?
            .into_iter()
            .map(as_conversation)
            .collect())
    }

    /// The name under which a vector for a model is kept: preset, tone, version of the pairs and digest of the model.
    pub fn cache_name(self, tone: Tone, model_digest: &str) -> String {
        let tone = match (self, tone) {
            (Preset::ToneControl, Tone::Formal) => "-formal",
            (Preset::ToneControl, Tone::Warm) => "-warm",
            (Preset::ToneControl, Tone::Neutral) => "-neutral",
            _ => "",
        };
        const SHOWN: usize = 32;
        let digest: String = model_digest
            .chars()
            .filter(|c| c.is_ascii_alphanumeric())
            .take(SHOWN)
            .collect();
        format!("preset:{self}{tone}:v{VERSION}:{digest}")
    }

    /// How its effect is measured; `terms` are the caller's words for [`Preset::DomainSpecific`].
    pub fn metric(self, tone: Tone, terms: &[String]) -> Metric {
        match self {
            Preset::Brevity => Metric::Tokens,
            Preset::Truthfulness => Metric::Belief,
            Preset::JsonCompliance => Metric::Json,
            Preset::FormatRigidity => Metric::Form,
            Preset::RefusalStrength => Metric::Refusal,
            Preset::SafetyStyle => Metric::Caveat,
            Preset::DomainSpecific => Metric::Terms(terms.to_vec()),
            Preset::ToneControl => Metric::Tone(tone),
        }
    }
}

/// The prompt of a pair for models without a chat template: question and answer on lines of their own, so that no
/// tokenizer merges the end of the prompt with the beginning of the answer.
pub fn plain_prompt(pair: &Pair) -> String {
    match pair.messages.last() {
        Some(message) => format!("Question: {}\nAnswer:\n", message.content),
        None => pair.prompt.clone(),
    }
}

fn as_conversation(pair: Pair) -> Pair {
    Pair {
        messages: vec![Message {
            role: "user".to_owned(),
            content: pair.prompt,
        }],
        prompt: String::new(),
        ..pair
    }
}

/// A line of the tones' file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tones {
    prompt: String,
    formal: String,
    warm: String,
    neutral: String,
    blunt: String,
}

fn tone_pairs(tone: Tone) -> Result<Vec<Pair>, FormatError> {
    let lines = include_str!("tone_control.jsonl").lines();
    lines
        .map(|line| {
            let Tones {
                prompt,
                formal,
                warm,
                neutral,
                blunt,
            } = serde_json::from_str(line)
                .map_err(|error| FormatError::json("tone_control", &error))?;
            let positive = match tone {
                Tone::Formal => formal,
                Tone::Warm => warm,
                Tone::Neutral => neutral,
            };
            Ok(as_conversation(Pair::new(prompt, positive, blunt)))
        })
        .collect()
}

fn bundled(error: FormatError) -> SteeringError {
    SteeringError::Model(error.into())
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = SteeringError;

    /// By name; `-` and `_` are the same.
    fn from_str(text: &str) -> Result<Self, SteeringError> {
        let name = text.replace('-', "_");
        Preset::ALL
            .into_iter()
            .find(|preset| preset.name() == name)
            .ok_or_else(|| unknown("preset", text, NAMES))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
