//! How requests name a preset.

use super::{Preset, Tone};
use crate::error::SteeringError;
use crate::point::unknown;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A preset as a request names it: `brevity`, `tone_control`, `tone_control.warm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PresetRef {
    /// The preset.
    pub preset: Preset,
    /// The tone, for [`Preset::ToneControl`]; formal unless named.
    pub tone: Tone,
}

impl From<Preset> for PresetRef {
    fn from(preset: Preset) -> Self {
        PresetRef {
            preset,
            tone: Tone::default(),
        }
    }
}

impl PresetRef {
    /// All that are vectors of bundled pairs, every tone on its own.
    pub fn bundled() -> Vec<PresetRef> {
        let tones = |preset: Preset| match preset {
            Preset::ToneControl => Tone::ALL.to_vec(),
            _ => vec![Tone::default()],
        };
        let vectors = Preset::ALL
            .into_iter()
            .filter(|preset| preset.kind() == super::PresetKind::Vector);
        vectors
            .flat_map(|preset| {
                tones(preset)
                    .into_iter()
                    .map(move |tone| PresetRef { preset, tone })
            })
            .collect()
    }
}

impl fmt::Display for PresetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.preset {
            Preset::ToneControl => write!(f, "{}.{}", self.preset, self.tone.name()),
            _ => self.preset.fmt(f),
        }
    }
}

impl FromStr for PresetRef {
    type Err = SteeringError;

    /// By name, a tone behind a dot.
    fn from_str(text: &str) -> Result<Self, SteeringError> {
        let Some((name, tone)) = text.split_once('.') else {
            return text.parse::<Preset>().map(PresetRef::from);
        };
        match name.parse()? {
            preset @ Preset::ToneControl => Ok(PresetRef {
                preset,
                tone: tone.parse()?,
            }),
            other => Err(unknown("preset", text, other.name())),
        }
    }
}

impl TryFrom<String> for PresetRef {
    type Error = SteeringError;

    fn try_from(text: String) -> Result<Self, SteeringError> {
        text.parse()
    }
}

impl From<PresetRef> for String {
    fn from(reference: PresetRef) -> String {
        reference.to_string()
    }
}

impl Tone {
    /// All tones.
    pub const ALL: [Tone; 3] = [Tone::Formal, Tone::Warm, Tone::Neutral];

    /// The name, as in `formal`.
    pub fn name(self) -> &'static str {
        match self {
            Tone::Formal => "formal",
            Tone::Warm => "warm",
            Tone::Neutral => "neutral",
        }
    }
}

impl FromStr for Tone {
    type Err = SteeringError;

    fn from_str(text: &str) -> Result<Self, SteeringError> {
        Tone::ALL
            .into_iter()
            .find(|tone| tone.name() == text)
            .ok_or_else(|| unknown("tone", text, "formal, warm or neutral"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_round_trip() {
        for reference in PresetRef::bundled() {
            assert_eq!(
                reference.to_string().parse::<PresetRef>().unwrap(),
                reference
            );
        }
        assert_eq!(PresetRef::bundled().len(), 8);
        let plain: PresetRef = "tone-control".parse().unwrap();
        assert_eq!(plain, Preset::ToneControl.into());
        for wrong in [
            "",
            "tone_control.",
            "tone_control.loud",
            "brevity.warm",
            ".warm",
        ] {
            assert!(wrong.parse::<PresetRef>().is_err(), "{wrong}");
        }
    }
}
