//! The steps of a chain and the order they run in.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::SamplingError;

/// One step of a chain.
///
/// Steps fall into *edits*, which change single logits, and *shapes*, which act on the distribution. The
/// mask of a call is applied with the last edits, before any shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// `logit_bias`.
    LogitBias,
    /// `sequence_bias`.
    SequenceBias,
    /// `repetition_penalty`.
    Repetition,
    /// `frequency_penalty`.
    Frequency,
    /// `presence_penalty`.
    Presence,
    /// `dry_*`.
    Dry,
    /// `no_repeat_ngram_size`.
    NoRepeatNgram,
    /// `bad_words`.
    BadWords,
    /// `exponential_decay`.
    ExponentialDecay,
    /// Processors of the caller.
    Processors,
    /// `suppress_tokens` and `begin_suppress_tokens`.
    Suppress,
    /// `min_new_tokens`.
    MinNewTokens,
    /// `forced_tokens` and `forced_eos_at`.
    Forced,
    /// `temperature`, with `dynatemp_*`.
    Temperature,
    /// `top_h`.
    TopH,
    /// `top_k`.
    TopK,
    /// `top_p`.
    TopP,
    /// `min_p`.
    MinP,
    /// `typical_p`.
    Typical,
    /// `epsilon_cutoff`.
    Epsilon,
    /// `eta_cutoff`.
    Eta,
    /// `top_n_sigma`.
    TopNSigma,
    /// `tail_free`.
    TailFree,
    /// `xtc_*`.
    Xtc,
    /// `mirostat`.
    Mirostat,
    /// `adaptive_p_*`.
    AdaptiveP,
}

use Step::{
    AdaptiveP, BadWords, Dry, Epsilon, Eta, ExponentialDecay, Forced, Frequency, LogitBias,
    MinNewTokens, MinP, Mirostat, NoRepeatNgram, Presence, Processors, Repetition, SequenceBias,
    Suppress, TailFree, Temperature, TopH, TopK, TopNSigma, TopP, Typical, Xtc,
};

/// Every step with its name and its other names.
const NAMES: [(Step, &str, &[&str]); 26] = [
    (LogitBias, "logit_bias", &[]),
    (SequenceBias, "sequence_bias", &[]),
    (Repetition, "repetition_penalty", &["repeat_penalty"]),
    (Frequency, "frequency_penalty", &[]),
    (Presence, "presence_penalty", &[]),
    (Dry, "dry", &[]),
    (NoRepeatNgram, "no_repeat_ngram_size", &["no_repeat_ngram"]),
    (BadWords, "bad_words", &[]),
    (
        ExponentialDecay,
        "exponential_decay",
        &["exponential_decay_length_penalty"],
    ),
    (Processors, "processors", &[]),
    (Suppress, "suppress_tokens", &[]),
    (MinNewTokens, "min_new_tokens", &[]),
    (Forced, "forced_tokens", &[]),
    (Temperature, "temperature", &["temp"]),
    (TopH, "top_h", &[]),
    (TopK, "top_k", &[]),
    (TopP, "top_p", &[]),
    (MinP, "min_p", &[]),
    (Typical, "typical_p", &["typ_p", "typical"]),
    (Epsilon, "epsilon_cutoff", &["epsilon"]),
    (Eta, "eta_cutoff", &["eta"]),
    (TopNSigma, "top_n_sigma", &[]),
    (TailFree, "tail_free", &["tfs_z"]),
    (Xtc, "xtc", &[]),
    (Mirostat, "mirostat", &[]),
    (AdaptiveP, "adaptive_p", &[]),
];

/// The name that stands for repetition, frequency and presence together, as in llama.cpp.
const PENALTIES: &str = "penalties";

/// The order of transformers: logit edits, temperature, truncations.
pub const HF_ORDER: [Step; 26] = [
    LogitBias,
    SequenceBias,
    Repetition,
    Frequency,
    Presence,
    Dry,
    NoRepeatNgram,
    BadWords,
    ExponentialDecay,
    Processors,
    Suppress,
    MinNewTokens,
    Forced,
    Temperature,
    TopH,
    TopK,
    TopP,
    MinP,
    Typical,
    Epsilon,
    Eta,
    TopNSigma,
    TailFree,
    Xtc,
    Mirostat,
    AdaptiveP,
];

/// The order of llama.cpp: logit edits, truncations, temperature; steps it does not have stand beside
/// their relatives.
pub const LLAMA_ORDER: [Step; 26] = [
    LogitBias,
    SequenceBias,
    Repetition,
    Frequency,
    Presence,
    Dry,
    NoRepeatNgram,
    BadWords,
    ExponentialDecay,
    Processors,
    Suppress,
    MinNewTokens,
    Forced,
    TopNSigma,
    TopK,
    TailFree,
    Typical,
    TopP,
    MinP,
    TopH,
    Epsilon,
    Eta,
    Xtc,
    Temperature,
    Mirostat,
    AdaptiveP,
];

impl Step {
    /// The name of the step.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// All steps.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(step, ..)| *step)
    }

    /// Whether the step changes single logits, as opposed to the shape of the distribution.
    #[must_use]
    pub fn is_edit(self) -> bool {
        self < Temperature
    }

    /// The step of this name.
    ///
    /// # Errors
    ///
    /// [`SamplingError::UnknownName`] with the known names.
    pub fn from_name(name: &str) -> Result<Self, SamplingError> {
        NAMES
            .iter()
            .find(|(_, own, others)| *own == name || others.contains(&name))
            .map(|(step, ..)| *step)
            .ok_or_else(|| {
                SamplingError::unknown("step", name, NAMES.iter().map(|(_, own, _)| *own))
            })
    }
}

/// The order of a chain.
///
/// As serde data: `"hf"`, `"llama"`, or a list of step names, in which `"penalties"` stands for
/// repetition, frequency and presence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Temperature before the truncations: [`HF_ORDER`].
    #[default]
    Hf,
    /// Temperature after the truncations: [`LLAMA_ORDER`].
    Llama,
    /// The steps as listed. An active step that is not listed is an error.
    Explicit(Vec<Step>),
}

impl Order {
    /// The steps in their order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Hf => &HF_ORDER,
            Self::Llama => &LLAMA_ORDER,
            Self::Explicit(steps) => steps,
        }
    }

    /// The order of this name: `hf` or `llama`.
    ///
    /// # Errors
    ///
    /// [`SamplingError::UnknownName`] with the known names.
    pub fn from_name(name: &str) -> Result<Self, SamplingError> {
        match name {
            "hf" => Ok(Self::Hf),
            "llama" => Ok(Self::Llama),
            other => Err(SamplingError::unknown("order", other, ["hf", "llama"])),
        }
    }

    /// The explicit order of these step names.
    ///
    /// # Errors
    ///
    /// [`SamplingError::UnknownName`] and [`SamplingError::TwiceInOrder`].
    pub fn from_steps<S: AsRef<str>>(names: &[S]) -> Result<Self, SamplingError> {
        let mut steps = Vec::with_capacity(names.len());
        for name in names {
            if name.as_ref() == PENALTIES {
                steps.extend([Repetition, Frequency, Presence]);
            } else {
                steps.push(Step::from_name(name.as_ref())?);
            }
        }
        let order = Self::Explicit(steps);
        order.check()?;
        Ok(order)
    }

    /// Refuses a step that stands twice and a shape that stands where it cannot work.
    pub(crate) fn check(&self) -> Result<(), SamplingError> {
        let steps = self.steps();
        for (at, step) in steps.iter().enumerate() {
            if steps[..at].contains(step) {
                return Err(SamplingError::TwiceInOrder { step: step.name() });
            }
            let last = steps[at + 1..].is_empty()
                || steps[at + 1..]
                    .iter()
                    .all(|s| matches!(s, Mirostat | AdaptiveP));
            if matches!(step, Mirostat | AdaptiveP) && !last {
                return Err(SamplingError::MisplacedInOrder {
                    step: step.name(),
                    reason: "it must be the last step",
                });
            }
        }
        Ok(())
    }
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hf => serializer.serialize_str("hf"),
            Self::Llama => serializer.serialize_str("llama"),
            Self::Explicit(steps) => serializer.collect_seq(steps.iter().map(|step| step.name())),
        }
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Name(String),
            Steps(Vec<String>),
        }
        match Form::deserialize(deserializer)? {
            Form::Name(name) => Self::from_name(&name),
            Form::Steps(names) => Self::from_steps(&names),
        }
        .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tables_hold_every_step_once() {
        for (at, (step, ..)) in NAMES.iter().enumerate() {
            assert_eq!(*step as usize, at);
            assert_eq!(HF_ORDER.iter().filter(|s| *s == step).count(), 1);
            assert_eq!(LLAMA_ORDER.iter().filter(|s| *s == step).count(), 1);
        }
        Order::Hf.check().unwrap();
        Order::Llama.check().unwrap();
    }

    #[test]
    fn names_are_read_and_unknown_ones_listed() {
        let order = Order::from_steps(&["penalties", "top_k", "typ_p", "temp"]).unwrap();
        assert_eq!(
            order.steps(),
            [Repetition, Frequency, Presence, TopK, Typical, Temperature]
        );
        let error = Order::from_steps(&["top_q"]).unwrap_err().to_string();
        assert!(
            error.contains("top_q") && error.contains("top_p"),
            "{error}"
        );
        assert!(matches!(
            Order::from_steps(&["top_k", "top_k"]),
            Err(SamplingError::TwiceInOrder { .. })
        ));
        assert!(matches!(
            Order::from_steps(&["mirostat", "top_k"]),
            Err(SamplingError::MisplacedInOrder { .. })
        ));
    }
}
