//! Named places in the forward pass, and what can be done there.
//!
//! A [`HookPoint`] names a row of the residual stream or of something that is added to it. There one can
//! *capture* ([`Capture`]) or *edit* ([`Edit`]). Every edit is one primitive on a row x,
//!
//! > x ← x + Σ (a + b·⟨u, x⟩)·w
//!
//! (the terms of one edit read the row as it was), optionally gated by ⟨g, x⟩ ≥ τ and optionally rescaled to the
//! row's old norm. Adding a vector is `a = strength, b = 0, w = v`; ablating a direction is `b = -1, u = w = v̂`;
//! clamping it to c is both. Both engines implement this one primitive, per row of a batch and per
//! [`TokenClass`]; [`Edit::apply`] is its plain definition.

mod edit;
mod plan;

pub use edit::{Edit, Gate, Term};
pub use plan::{HookError, HookPlan};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A named place in the forward pass, holding one row of `d_model` numbers a token.
///
/// Written `resid_pre.12`, `final`; the names that TransformerLens gives them (`blocks.12.hook_resid_pre`) parse too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HookPoint {
    /// Input of block `l`, before its first norm.
    ResidPre(usize),
    /// Output of block `l`'s attention, before it is added to the residual stream.
    AttnOut(usize),
    /// Residual stream between attention and feed-forward network of block `l`.
    ResidMid(usize),
    /// Output of block `l`'s feed-forward network, before it is added.
    MlpOut(usize),
    /// Output of block `l`; the same row as `ResidPre(l + 1)`.
    ResidPost(usize),
    /// Output of the norm before the head.
    Final,
}

impl HookPoint {
    /// The block, or `None` for [`HookPoint::Final`].
    pub fn layer(self) -> Option<usize> {
        match self {
            HookPoint::ResidPre(layer)
            | HookPoint::AttnOut(layer)
            | HookPoint::ResidMid(layer)
            | HookPoint::MlpOut(layer)
            | HookPoint::ResidPost(layer) => Some(layer),
            HookPoint::Final => None,
        }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HookPoint::ResidPre(layer) => write!(f, "resid_pre.{layer}"),
            HookPoint::AttnOut(layer) => write!(f, "attn_out.{layer}"),
            HookPoint::ResidMid(layer) => write!(f, "resid_mid.{layer}"),
            HookPoint::MlpOut(layer) => write!(f, "mlp_out.{layer}"),
            HookPoint::ResidPost(layer) => write!(f, "resid_post.{layer}"),
            HookPoint::Final => f.write_str("final"),
        }
    }
}

/// A text that names no hook point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "hook point {given:?} is unknown; wanted SITE.LAYER with site resid_pre, attn_out, resid_mid, mlp_out or resid_post, or final"
)]
pub struct UnknownHookPoint {
    /// The text given.
    pub given: String,
}

impl FromStr for HookPoint {
    type Err = UnknownHookPoint;

    fn from_str(text: &str) -> Result<Self, UnknownHookPoint> {
        let unknown = || UnknownHookPoint {
            given: text.chars().take(80).collect(),
        };
        if text == "final" || text == "ln_final.hook_normalized" {
            return Ok(HookPoint::Final);
        }
        let (site, layer) = match text.strip_prefix("blocks.") {
            Some(rest) => {
                let (layer, site) = rest.split_once(".hook_").ok_or_else(unknown)?;
                (site, layer)
            }
            None => text.split_once('.').ok_or_else(unknown)?,
        };
        let layer: usize = layer.parse().map_err(|_| unknown())?;
        Ok(match site {
            "resid_pre" => HookPoint::ResidPre(layer),
            "attn_out" => HookPoint::AttnOut(layer),
            "resid_mid" => HookPoint::ResidMid(layer),
            "mlp_out" => HookPoint::MlpOut(layer),
            "resid_post" => HookPoint::ResidPost(layer),
            _ => return Err(unknown()),
        })
    }
}

impl TryFrom<String> for HookPoint {
    type Error = UnknownHookPoint;

    fn try_from(text: String) -> Result<Self, UnknownHookPoint> {
        text.parse()
    }
}

impl From<HookPoint> for String {
    fn from(point: HookPoint) -> String {
        point.to_string()
    }
}

/// Which positions of a sequence an edit touches. `P` is the length of the prompt, positions count from 0.
///
/// A class is always one run of positions, so the tokens of a step that it covers are contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenClass {
    /// Every position.
    #[default]
    All,
    /// Positions below `P`.
    PromptOnly,
    /// Position `P - 1` alone.
    LastPrompt,
    /// Positions from `P` on; the logits after the prompt are those of the unedited model.
    GeneratedOnly,
    /// Positions from `P - 1` on: every position whose logits choose a token.
    FromLastPrompt,
    /// Every position but the first, which many models use as an attention sink.
    SkipFirst,
    /// Positions `start <= t < end`.
    Range {
        /// First position.
        start: usize,
        /// Position after the last one.
        end: usize,
    },
}

impl TokenClass {
    /// The half-open run of positions, for a prompt of `prompt_len` tokens.
    pub fn positions(self, prompt_len: usize) -> std::ops::Range<usize> {
        match self {
            TokenClass::All => 0..usize::MAX,
            TokenClass::PromptOnly => 0..prompt_len,
            TokenClass::LastPrompt => prompt_len.saturating_sub(1)..prompt_len,
            TokenClass::GeneratedOnly => prompt_len..usize::MAX,
            TokenClass::FromLastPrompt => prompt_len.saturating_sub(1)..usize::MAX,
            TokenClass::SkipFirst => 1..usize::MAX,
            TokenClass::Range { start, end } => start..end,
        }
    }

    /// The tokens of a step that the class covers, as offsets into the step: it holds the positions
    /// `first .. first + count`. `None` when it covers none of them.
    pub fn within(
        self,
        prompt_len: usize,
        first: usize,
        count: usize,
    ) -> Option<std::ops::Range<usize>> {
        let class = self.positions(prompt_len);
        let start = class.start.max(first);
        let end = class.end.min(first + count);
        (start < end).then(|| start - first..end - first)
    }
}

/// A place whose rows are to be read during a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Capture {
    /// Where.
    pub point: HookPoint,
    /// At which positions.
    pub tokens: TokenClass,
}

/// Rows read at a [`Capture`], after the edits of that place; under a [watched](HookPlan::watched) plan also before them.
#[derive(Debug, Clone, PartialEq)]
pub struct Captured {
    /// Row of the batch.
    pub row: usize,
    /// Where.
    pub point: HookPoint,
    /// Position of the first captured token.
    pub first_position: usize,
    /// Whether the rows are those before the edits of the place.
    pub before_edits: bool,
    /// `[tokens, d_model]`, row-major.
    pub values: Vec<f32>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "resid_pre.0",
            "attn_out.3",
            "resid_mid.11",
            "mlp_out.2",
            "resid_post.29",
            "final",
        ] {
            assert_eq!(name.parse::<HookPoint>().unwrap().to_string(), name);
        }
        assert_eq!("blocks.7.hook_mlp_out".parse(), Ok(HookPoint::MlpOut(7)));
        for wrong in [
            "",
            "resid_pre",
            "resid_pre.-1",
            "resid_pre.x",
            "attn.3",
            "final.1",
            "blocks.7",
        ] {
            assert!(wrong.parse::<HookPoint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn classes_cut_a_step() {
        let cases = [
            (TokenClass::All, 4, Some(0..4)),
            (TokenClass::PromptOnly, 4, Some(0..2)),
            (TokenClass::LastPrompt, 4, Some(1..2)),
            (TokenClass::GeneratedOnly, 4, Some(2..4)),
            (TokenClass::FromLastPrompt, 4, Some(1..4)),
            (TokenClass::Range { start: 0, end: 3 }, 4, None),
        ];
        for (class, count, expected) in cases {
            assert_eq!(class.within(5, 3, count), expected, "{class:?}");
        }
        assert_eq!(TokenClass::SkipFirst.within(5, 0, 3), Some(1..3));
        assert_eq!(TokenClass::LastPrompt.within(0, 0, 3), None);
    }
}
