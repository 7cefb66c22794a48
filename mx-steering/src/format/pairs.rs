//! Contrastive pairs as JSONL: one object a line.
//!
//! | keys | becomes |
//! |---|---|
//! | `prompt`, `positive_answer`, `negative_answer` | as they are (Mechanex) |
//! | `prompt`, `positive`, `negative` | the same; `prompt` may be missing, then the two are whole texts |
//! | `messages`, and either pair of answers | a conversation as the prompt, to be rendered with the model's template |
//! | `question`, `answer_matching_behavior`, `answer_not_matching_behavior` | behaviour evaluations of the CAA paper |
//!
//! Blank lines are skipped. A line that is none of these is an error that names the line: nothing falls out of step.

use super::{FormatError, Limits, excerpt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// One contrastive pair.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pair {
    /// The text before both answers; empty where the two are whole texts.
    #[serde(default)]
    pub prompt: String,
    /// The wanted continuation.
    #[serde(rename = "positive_answer")]
    pub positive: String,
    /// The unwanted continuation; few-shot optimisation can do without.
    #[serde(
        rename = "negative_answer",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub negative: Option<String>,
    /// A conversation that is the prompt, instead of a text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks, as in `user`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Pair {
    /// A pair with both answers.
    pub fn new(
        prompt: impl Into<String>,
        positive: impl Into<String>,
        negative: impl Into<String>,
    ) -> Self {
        Pair {
            prompt: prompt.into(),
            positive: positive.into(),
            negative: Some(negative.into()),
            messages: Vec::new(),
        }
    }

    /// The pairs of three lists of equal length.
    ///
    /// # Errors
    /// [`SteeringError::Closure`](crate::SteeringError::Closure)-free: [`FormatError::Field`] where the lengths differ.
    pub fn zip(
        prompts: &[String],
        positives: &[String],
        negatives: Option<&[String]>,
    ) -> Result<Vec<Self>, FormatError> {
        let lists = [
            ("positive_answers", Some(positives)),
            ("negative_answers", negatives),
        ];
        for (name, list) in lists {
            if let Some(list) = list.filter(|list| list.len() != prompts.len()) {
                let wanted = format!("{}, the number of prompts", prompts.len());
                return Err(FormatError::field(
                    format!("length of {name}"),
                    list.len(),
                    wanted,
                ));
            }
        }
        Ok(prompts
            .iter()
            .zip(positives)
            .enumerate()
            .map(|(index, (prompt, positive))| Pair {
                prompt: prompt.clone(),
                positive: positive.clone(),
                negative: negatives.and_then(|list| list.get(index).cloned()),
                messages: Vec::new(),
            })
            .collect())
    }
}

/// Whether every pair needs a negative answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Negatives {
    /// A line without one is an error.
    #[default]
    Required,
    /// A line may lack one, for few-shot optimisation.
    Optional,
}

/// Reads the pairs of a text.
///
/// # Errors
/// [`FormatError::Line`] with the line's number, from 1.
pub fn read(text: &str, negatives: Negatives, limits: &Limits) -> Result<Vec<Pair>, FormatError> {
    let mut pairs = Vec::new();
    // some editors begin a file with a byte order mark
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, content) in text.lines().enumerate() {
        let line = index + 1;
        if content.trim().is_empty() {
            continue;
        }
        if content.len() > limits.line_bytes {
            return Err(FormatError::Limit {
                what: format!("length of line {line}"),
                given: content.len() as u64,
                limit_name: "line_bytes",
                limit: limits.line_bytes as u64,
            });
        }
        if pairs.len() == limits.pairs {
            return Err(FormatError::Limit {
                what: "pairs of the file".to_owned(),
                given: limits.pairs as u64 + 1,
                limit_name: "pairs",
                limit: limits.pairs as u64,
            });
        }
        let pair =
            parse(content, negatives).map_err(|reason| FormatError::Line { line, reason })?;
        pairs.push(pair);
    }
    Ok(pairs)
}

/// Reads the pairs of a file.
///
/// # Errors
/// As [`read`], and [`FormatError::Io`].
pub fn load(path: &Path, negatives: Negatives, limits: &Limits) -> Result<Vec<Pair>, FormatError> {
    let bytes = super::read_bytes(path, limits)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        let reason = "the text is not UTF-8".to_owned();
        FormatError::Line { line, reason }
    })?;
    read(text, negatives, limits)
}

/// The pairs as JSONL, in the keys of Mechanex.
pub fn write(pairs: &[Pair]) -> String {
    pairs
        .iter()
        .map(|pair| serde_json::json!(pair).to_string() + "\n")
        .collect()
}

/// A digest of the pairs in their order, kept as a vector's provenance.
pub fn digest(pairs: &[Pair]) -> String {
    crate::vector::hex(&Sha256::digest(write(pairs).as_bytes()))
}

/// One line.
fn parse(content: &str, negatives: Negatives) -> Result<Pair, String> {
    let value: serde_json::Value = serde_json::from_str(content)
        .map_err(|error| format!("no JSON: {}", excerpt(&error.to_string())))?;
    let object = value.as_object().ok_or("wanted a JSON object")?;
    let text = |key: &str| match object.get(key) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!(
            "{key} is {}, wanted a string",
            excerpt(&other.to_string())
        )),
    };
    // the spellings, in the order in which they are looked for
    let spellings = [
        ("prompt", "positive_answer", "negative_answer"),
        ("prompt", "positive", "negative"),
        (
            "question",
            "answer_matching_behavior",
            "answer_not_matching_behavior",
        ),
    ];
    let used = spellings.into_iter().find(|(_, positive, negative)| {
        object.contains_key(*positive) || object.contains_key(*negative)
    });
    let Some((prompt_key, positive_key, negative_key)) = used else {
        return Err(
            "no answers; wanted positive_answer and negative_answer, or positive and negative"
                .to_owned(),
        );
    };
    let positive = text(positive_key)?.ok_or(format!("{positive_key} is missing"))?;
    let negative = text(negative_key)?;
    if negative.is_none() && negatives == Negatives::Required {
        return Err(format!("{negative_key} is missing"));
    }
    let messages: Vec<Message> = match object.get("messages") {
        None => Vec::new(),
        Some(messages) => Vec::deserialize(messages)
            .map_err(|error| format!("messages: {}", excerpt(&error.to_string())))?,
    };
    let prompt = text(prompt_key)?;
    if prompt.is_some() && !messages.is_empty() {
        return Err(format!("{prompt_key} and messages exclude each other"));
    }
    if prompt.is_none() && messages.is_empty() && positive_key != "positive" {
        return Err(format!("{prompt_key} is missing"));
    }
    Ok(Pair {
        prompt: prompt.unwrap_or_default(),
        positive,
        negative,
        messages,
    })
}
