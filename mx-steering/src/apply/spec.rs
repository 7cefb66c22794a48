//! What a request says about steering.

use super::{Edit, PromptCondition, Schedule, TokenClass, TokenCondition};
use crate::error::SteeringError;
use crate::point::{Site, layer_number, unknown};
use crate::vector::Units;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// The steering of one request: any number of vectors, and edits given directly.
///
/// Where several meet at a place they act in the order ablate, rotate, edits given directly, add, clamp, and last those that
/// keep the norm; within one of these in the order of the list.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteeringSpec {
    /// The vectors.
    #[serde(default)]
    pub vectors: Vec<Steer>,
    /// Edits of the primitive itself, for operators that have no name here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
}

/// One vector and how it acts.
///
/// As text, for the command line: `REFERENCE[:STRENGTH][@LAYERS]`, for example `honesty:1.5@10-14,20`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// The vector.
    pub vector: VectorRef,
    /// How much of it; without one the strength that was measured for it, or 1. For [`Operator::Ablate`] and
    /// [`Operator::Clamp`] the share of the change (1 does it whole), for [`Operator::Rotate`] the share of the angle.
    /// 0 is bit-identical to no steering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// What strength 1 means; without it what the vector says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<Units>,
    /// What is done with it.
    #[serde(default)]
    pub operator: Operator,
    /// The layers it acts at; without it all that the vector has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Factors on the strength of single layers; 1 elsewhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layer_strengths: BTreeMap<usize, f32>,
    /// Act at this site of the same layers instead of the vector's own: another place. `resid_pre` for a vector read
    /// at `resid_post` is what Mechanex does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Site>,
    /// Act at every place that the stream is written: the way to ablate a direction entirely. The vector must have one
    /// direction, or one must be chosen by `layers`.
    #[serde(default)]
    pub everywhere: bool,
    /// The positions it acts at.
    #[serde(default)]
    pub tokens: TokenClass,
    /// Strength along those positions.
    #[serde(default)]
    pub schedule: Schedule,
    /// Act only on rows that meet this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<TokenCondition>,
    /// Act only where the prompt as a whole meets this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_condition: Option<PromptCondition>,
    /// Rescale each row to the norm it had.
    #[serde(default)]
    pub keep_norm: bool,
}

/// A vector by id, name, file or preset, or its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VectorRef {
    /// An id, a name, a file or a preset; the caller looks it up.
    Reference(String),
    /// Layers or hook names and their numbers, as in a Mechanex file: bare layers act at `resid_pre`.
    Inline(BTreeMap<String, Vec<f32>>),
}

impl From<&str> for VectorRef {
    fn from(reference: &str) -> Self {
        VectorRef::Reference(reference.to_owned())
    }
}

/// What is done with a vector v at a row x; v̂ is its direction, s the strength.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operator {
    /// x + s v
    #[default]
    Add,
    /// x − s ⟨v̂, x⟩ v̂
    Ablate,
    /// x + s (value − ⟨v̂, x⟩) v̂
    Clamp {
        /// The component wanted, in units of the stream.
        value: f32,
    },
    /// Turns x in the plane of v and another vector, by an angle; norm preserving.
    Rotate {
        /// The vector that spans the plane with v; its part along v is taken out.
        with: VectorRef,
        /// The angle from v̂ towards it.
        degrees: f64,
    },
    /// Turns x in that plane until its part in the plane stands at an angle from v̂: angular steering.
    RotateTo {
        /// The vector that spans the plane with v; its part along v is taken out.
        with: VectorRef,
        /// The angle from v̂ towards it.
        degrees: f64,
    },
}

impl Steer {
    /// Adds a vector at the strength that was measured for it, or 1.
    pub fn new(vector: impl Into<VectorRef>) -> Self {
        Steer {
            vector: vector.into(),
            strength: None,
            units: None,
            operator: Operator::Add,
            layers: None,
            layer_strengths: BTreeMap::new(),
            site: None,
            everywhere: false,
            tokens: TokenClass::All,
            schedule: Schedule::Constant,
            condition: None,
            prompt_condition: None,
            keep_norm: false,
        }
    }

    /// With this strength.
    pub fn strength(mut self, strength: f32) -> Self {
        self.strength = Some(strength);
        self
    }

    /// With another operator.
    pub fn operator(mut self, operator: Operator) -> Self {
        self.operator = operator;
        self
    }

    /// At these positions.
    pub fn tokens(mut self, tokens: TokenClass) -> Self {
        self.tokens = tokens;
        self
    }

    /// At these layers.
    pub fn layers(mut self, layers: impl IntoIterator<Item = usize>) -> Self {
        self.layers = Some(layers.into_iter().collect());
        self
    }
}

impl SteeringSpec {
    /// Checks the numbers that can be judged without vectors and model: strengths, schedules, what operators and
    /// conditions state.
    ///
    /// # Errors
    /// [`SteeringError::NotFinite`] and [`SteeringError::OutOfRange`].
    pub fn check(&self) -> Result<(), SteeringError> {
        for steer in &self.vectors {
            let name = match &steer.vector {
                VectorRef::Reference(name) => name,
                VectorRef::Inline(_) => "the inline vector",
            };
            let strengths = steer.layer_strengths.values().chain(&steer.strength);
            for strength in strengths {
                finite(|| format!("strength of {name}"), *strength)?;
            }
            match &steer.operator {
                Operator::Clamp { value } => finite(|| "clamp value".to_owned(), *value)?,
                Operator::Rotate { degrees, .. } | Operator::RotateTo { degrees, .. } => {
                    finite(|| "degrees".to_owned(), *degrees as f32)?;
                }
                _ => {}
            }
            let thresholds = steer.condition.iter().map(|condition| condition.threshold);
            let prompts = steer.prompt_condition.iter().map(|prompt| prompt.threshold);
            for threshold in thresholds.chain(prompts) {
                finite(|| "threshold of the condition".to_owned(), threshold)?;
            }
            steer.schedule.pieces()?;
        }
        Ok(())
    }
}

fn finite(what: impl Fn() -> String, given: f32) -> Result<(), SteeringError> {
    match given.is_finite() {
        true => Ok(()),
        false => Err(SteeringError::NotFinite {
            what: what(),
            given,
        }),
    }
}

impl From<Steer> for SteeringSpec {
    fn from(steer: Steer) -> Self {
        SteeringSpec {
            vectors: vec![steer],
            edits: Vec::new(),
        }
    }
}

/// The form of a steering flag, for errors.
const FLAG: &str = "REFERENCE[:STRENGTH][@LAYERS] with layers such as 10-14,20";

impl FromStr for Steer {
    type Err = SteeringError;

    fn from_str(text: &str) -> Result<Self, SteeringError> {
        let mut rest = text;
        let mut layers = None;
        if let Some((head, tail)) = text.rsplit_once('@')
            && let Ok(parsed) = parse_layers(tail)
        {
            (rest, layers) = (head, Some(parsed));
        }
        let mut strength = None;
        // "C:\vectors\a.gguf" has a colon too; a strength is what parses as a number
        if let Some((head, tail)) = rest.rsplit_once(':')
            && let Ok(number) = tail.parse::<f32>()
        {
            if !number.is_finite() {
                let what = format!("strength of {head:?}");
                return Err(SteeringError::NotFinite {
                    what,
                    given: number,
                });
            }
            (rest, strength) = (head, Some(number));
        }
        if rest.is_empty() {
            return Err(unknown("steering", text, FLAG));
        }
        let mut steer = Steer::new(rest);
        steer.layers = layers;
        steer.strength = strength;
        Ok(steer)
    }
}

/// Most layers that a list may name.
const MAX_LAYERS: usize = 10_000;

/// Layers written `3`, `10-14` (both ends included) or a list of these with commas; in the order given, each once.
///
/// # Errors
/// [`SteeringError::Unknown`] for another form, [`SteeringError::Limit`] for more than ten thousand.
pub fn parse_layers(text: &str) -> Result<Vec<usize>, SteeringError> {
    const WANTED: &str = "layers such as 3 or 10-14,20";
    let wrong = || unknown("layer list", text, WANTED);
    let mut layers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first = layer_number(first.trim()).ok_or_else(wrong)?;
        let last = layer_number(last.trim()).ok_or_else(wrong)?;
        let count = last.checked_sub(first).ok_or_else(wrong)?;
        if count.saturating_add(layers.len()) >= MAX_LAYERS {
            return Err(SteeringError::Limit {
                what: "layers in a list",
                given: count.saturating_add(layers.len()).saturating_add(1),
                limit_name: "MAX_LAYERS",
                limit: MAX_LAYERS,
            });
        }
        for layer in first..=last {
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn flags() {
        let parse = |text: &str| text.parse::<Steer>().unwrap();
        let reference = |steer: &Steer| match &steer.vector {
            VectorRef::Reference(text) => text.clone(),
            VectorRef::Inline(_) => panic!("inline"),
        };
        for (text, name, strength, layers) in [
            ("brevity", "brevity", None, None),
            ("brevity:0.5", "brevity", Some(0.5), None),
            ("a.gguf:-2@3", "a.gguf", Some(-2.0), Some(vec![3])),
            ("sv_1@10-12,20", "sv_1", None, Some(vec![10, 11, 12, 20])),
            (r"C:\v\a.gguf", r"C:\v\a.gguf", None, None),
            ("me@home", "me@home", None, None),
        ] {
            let steer = parse(text);
            assert_eq!(
                (reference(&steer), steer.strength, steer.layers),
                (name.to_owned(), strength, layers),
                "{text}"
            );
        }
        for wrong in ["", ":2", "@3", "a:nan", "a:inf"] {
            assert!(wrong.parse::<Steer>().is_err(), "{wrong}");
        }
        assert!(parse_layers("5-3").is_err() && parse_layers("0-99999999999").is_err());
    }

    #[test]
    fn a_request_as_json() {
        let json = r#"{"vectors": [
            {"vector": "honesty", "strength": 2, "tokens": "generated", "operator": {"clamp": {"value": 3}}},
            {"vector": {"15": [1, 2]}, "schedule": {"kind": "decay", "half_life": 8},
             "units": {"relative": {}}, "condition": {"threshold": 0.5, "when": "below"}}]}"#;
        let spec: SteeringSpec = serde_json::from_str(json).unwrap();
        assert_eq!(spec.vectors[0].tokens, TokenClass::GeneratedOnly);
        assert_eq!(spec.vectors[0].operator, Operator::Clamp { value: 3.0 });
        assert_eq!(spec.vectors[1].units, Some(Units::RELATIVE));
        let again: SteeringSpec =
            serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(again, spec);
        let typo = r#"{"vectors": [{"vector": "a", "strenght": 2}]}"#;
        assert!(
            serde_json::from_str::<SteeringSpec>(typo)
                .unwrap_err()
                .to_string()
                .contains("strenght")
        );
    }
}
