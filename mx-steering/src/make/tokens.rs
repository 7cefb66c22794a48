//! Pairs as tokens, and which of their positions are read.

use crate::error::{ModelError, SteeringError};
use crate::format::pairs::Pair;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A contrastive pair as tokens: prompt and answer tokenised together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPair {
    /// Tokens of the prompt alone.
    pub prompt_len: usize,
    /// Prompt and wanted answer.
    pub positive: Vec<u32>,
    /// Prompt and unwanted answer, where there is one.
    pub negative: Option<Vec<u32>>,
}

impl TokenPair {
    /// Tokenises a pair: the prompt alone for its length, and prompt and answer as one text. A tokenizer may merge
    /// letters across the border; like Mechanex, this takes the prompt's own length for the border.
    ///
    /// `prompt` turns the pair's prompt or conversation into the text of the prompt (for a conversation with the
    /// model's chat template), `tokenize` a text into tokens, with or without a beginning-of-sequence token as the
    /// model wants it.
    ///
    /// # Errors
    /// What the closures fail with.
    pub fn new(
        pair: &Pair,
        prompt: &mut dyn FnMut(&Pair) -> Result<String, ModelError>,
        tokenize: &mut dyn FnMut(&str) -> Result<Vec<u32>, ModelError>,
    ) -> Result<Self, SteeringError> {
        let text = prompt(pair).map_err(SteeringError::Model)?;
        let mut whole =
            |answer: &str| tokenize(&format!("{text}{answer}")).map_err(SteeringError::Model);
        let positive = whole(&pair.positive)?;
        let negative = pair.negative.as_deref().map(&mut whole).transpose()?;
        let prompt_len = match text.is_empty() {
            true => 0,
            false => whole("")?.len(),
        };
        Ok(TokenPair {
            prompt_len,
            positive,
            negative,
        })
    }

    /// The negative text.
    pub(crate) fn negative(&self) -> Result<&[u32], SteeringError> {
        self.negative.as_deref().ok_or(SteeringError::Empty {
            what: "negative answer of a pair",
            wanted: "an answer, which only few-shot optimisation can do without",
        })
    }
}

/// Which positions of a text are read and averaged. `P` is the length of the prompt, `L` that of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// `P − 1 .. L − 1`: the positions whose next token is one of the answer's.
    #[default]
    Predicting,
    /// `P .. L`: the answer's own positions.
    Answer,
    /// `P − 1`: the last position of the prompt.
    LastPrompt,
    /// `L − 1`: the last position.
    Last,
    /// All positions.
    All,
}

impl Reading {
    /// The positions in a text; empty where there are none, for example without an answer.
    pub fn positions(self, prompt_len: usize, len: usize) -> Range<usize> {
        let last_of_prompt = prompt_len.saturating_sub(1);
        let run = match self {
            Reading::Predicting => last_of_prompt..len.saturating_sub(1),
            Reading::Answer => prompt_len..len,
            Reading::LastPrompt => last_of_prompt..prompt_len,
            Reading::Last => len.saturating_sub(1)..len,
            Reading::All => 0..len,
        };
        run.start.min(len)..run.end.min(len).max(run.start.min(len))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn positions_of_each_reading() {
        let of = |reading: Reading| reading.positions(3, 5);
        assert_eq!(of(Reading::Predicting), 2..4);
        assert_eq!(of(Reading::Answer), 3..5);
        assert_eq!(of(Reading::LastPrompt), 2..3);
        assert_eq!(of(Reading::Last), 4..5);
        assert_eq!(of(Reading::All), 0..5);
        assert!(Reading::Predicting.positions(3, 3).is_empty());
        assert_eq!(Reading::Predicting.positions(0, 2), 0..1);
        for reading in [
            Reading::Predicting,
            Reading::Answer,
            Reading::LastPrompt,
            Reading::Last,
        ] {
            assert!(reading.positions(9, 0).is_empty(), "{reading:?}");
            assert!(reading.positions(9, 4).end <= 4, "{reading:?}");
        }
    }

    #[test]
    fn prompt_and_answer_are_tokenised_together() {
        let pair = Pair::new("ab", "c", "de");
        let mut tokenize = |text: &str| Ok(text.bytes().map(u32::from).collect());
        let tokens = TokenPair::new(
            &pair,
            &mut |pair| Ok(format!("<{}>", pair.prompt)),
            &mut tokenize,
        )
        .unwrap();
        assert_eq!(tokens.prompt_len, 4);
        assert_eq!(
            (tokens.positive.len(), tokens.negative.unwrap().len()),
            (5, 6)
        );
        let whole = TokenPair::new(
            &Pair::new("", "c", "d"),
            &mut |p| Ok(p.prompt.clone()),
            &mut tokenize,
        )
        .unwrap();
        assert_eq!(whole.prompt_len, 0);
    }
}
