//! Which positions of a sequence are steered.

use crate::error::SteeringError;
use crate::point::unknown;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Which positions an edit touches. `P` is the length of the prompt, positions count from 0.
///
/// A class is always one run of positions. The logits of the *first* new token come from position `P − 1`, which
/// belongs to the prompt: [`GeneratedOnly`](TokenClass::GeneratedOnly) leaves the first new token unsteered,
/// [`FromLastPrompt`](TokenClass::FromLastPrompt) does not.
///
/// Written `all`, `prompt`, `last_prompt`, `generated`, `from_last_prompt`, `skip_first`, or a range `2..`, `2..9`,
/// `-3..` (negative numbers count from the end of the prompt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenClass {
    /// Every position.
    #[default]
    All,
    /// Positions below `P`.
    #[serde(alias = "prompt")]
    PromptOnly,
    /// Position `P − 1` alone.
    LastPrompt,
    /// Positions from `P` on.
    #[serde(alias = "generated")]
    GeneratedOnly,
    /// Positions from `P − 1` on: every position whose logits choose a token.
    FromLastPrompt,
    /// Every position but the first, which many models use as an attention sink.
    SkipFirst,
    /// Positions `start <= t < end`; negative numbers count from the end of the prompt, so `-1` is the last of it.
    Range {
        /// First position.
        start: i64,
        /// Position after the last one; none where the range does not end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<i64>,
    },
}

/// The forms understood, for errors.
const FORMS: &str = "all, prompt, last_prompt, generated, from_last_prompt, skip_first or a range such as 2..9, 2.. or -3..";

impl TokenClass {
    /// The half-open run of positions, for a prompt of `prompt_len` tokens.
    pub fn positions(self, prompt_len: usize) -> Range<usize> {
        let absolute = |position: i64| {
            let distance = usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX);
            match position < 0 {
                true => prompt_len.saturating_sub(distance),
                false => distance,
            }
        };
        match self {
            TokenClass::All => 0..usize::MAX,
            TokenClass::PromptOnly => 0..prompt_len,
            TokenClass::LastPrompt => prompt_len.saturating_sub(1)..prompt_len,
            TokenClass::GeneratedOnly => prompt_len..usize::MAX,
            TokenClass::FromLastPrompt => prompt_len.saturating_sub(1)..usize::MAX,
            TokenClass::SkipFirst => 1..usize::MAX,
            TokenClass::Range { start, end } => {
                absolute(start)..end.map_or(usize::MAX, absolute).max(absolute(start))
            }
        }
    }

    /// The same positions without reference to the prompt's end: a class other than a range stays what it is, a
    /// range becomes absolute.
    pub fn resolved(self, prompt_len: usize) -> TokenClass {
        match self {
            TokenClass::Range { .. } => TokenClass::run(self.positions(prompt_len)),
            class => class,
        }
    }

    /// The class of an absolute run of positions.
    pub fn run(positions: Range<usize>) -> TokenClass {
        let number = |position: usize| i64::try_from(position).unwrap_or(i64::MAX);
        TokenClass::Range {
            start: number(positions.start),
            end: (positions.end != usize::MAX).then(|| number(positions.end)),
        }
    }
}

impl fmt::Display for TokenClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenClass::All => "all",
            TokenClass::PromptOnly => "prompt",
            TokenClass::LastPrompt => "last_prompt",
            TokenClass::GeneratedOnly => "generated",
            TokenClass::FromLastPrompt => "from_last_prompt",
            TokenClass::SkipFirst => "skip_first",
            TokenClass::Range { start, end: None } => return write!(f, "{start}.."),
            TokenClass::Range {
                start,
                end: Some(end),
            } => return write!(f, "{start}..{end}"),
        })
    }
}

impl FromStr for TokenClass {
    type Err = SteeringError;

    fn from_str(text: &str) -> Result<Self, SteeringError> {
        Ok(match text {
            "all" => TokenClass::All,
            "prompt" | "prompt_only" => TokenClass::PromptOnly,
            "last_prompt" => TokenClass::LastPrompt,
            "generated" | "generated_only" => TokenClass::GeneratedOnly,
            "from_last_prompt" => TokenClass::FromLastPrompt,
            "skip_first" => TokenClass::SkipFirst,
            _ => range(text).ok_or_else(|| unknown("token class", text, FORMS))?,
        })
    }
}

fn range(text: &str) -> Option<TokenClass> {
    let (start, end) = text.split_once("..")?;
    Some(TokenClass::Range {
        start: if start.is_empty() {
            0
        } else {
            start.parse().ok()?
        },
        end: if end.is_empty() {
            None
        } else {
            Some(end.parse().ok()?)
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn runs_of_every_class() {
        const OPEN: usize = usize::MAX;
        for (text, expected) in [
            ("all", 0..OPEN),
            ("prompt", 0..5),
            ("last_prompt", 4..5),
            ("generated", 5..OPEN),
            ("from_last_prompt", 4..OPEN),
            ("skip_first", 1..OPEN),
            ("2..4", 2..4),
            ("-2..", 3..OPEN),
            ("-9..-1", 0..4),
            ("4..2", 4..4),
            ("..3", 0..3),
        ] {
            let class: TokenClass = text.parse().unwrap();
            assert_eq!(class.positions(5), expected, "{text}");
            assert_eq!(
                class.resolved(5).positions(99),
                class.resolved(5).positions(99)
            );
            let json = serde_json::to_string(&class).unwrap();
            assert_eq!(serde_json::from_str::<TokenClass>(&json).unwrap(), class);
        }
        assert_eq!(TokenClass::LastPrompt.positions(0), 0..0);
        for wrong in ["", "some", "1..x", "x..", "1", "--1..2"] {
            assert!(wrong.parse::<TokenClass>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_resolved_range_no_longer_depends_on_the_prompt() {
        let class: TokenClass = "-2..".parse().unwrap();
        assert_eq!(class.resolved(7).positions(1000), 5..usize::MAX);
    }
}
