//! What a preset is measured by: rules that look at a text.

use super::{HeldOut, Tone};
use serde::{Deserialize, Serialize};

/// A metric. Scores are turned so that larger is what the preset wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Minus the number of tokens until the model ends its answer.
    Tokens,
    /// How much more the wanted answer of a held-out pair is believed, in nats.
    Belief,
    /// 1 for a text that is one JSON value, else 0.
    Json,
    /// Share of the lines that are those asked for, in order: 1 for exactly these.
    Form,
    /// 1 for a text that refuses, else 0.
    Refusal,
    /// 1 for a text with a caveat, else 0.
    Caveat,
    /// Share of words that belong to the tone, minus share of those that belong to its opposite, in per cent.
    Tone(Tone),
    /// Share of words that are one of these, in per cent.
    Terms(Vec<String>),
}

/// An answer to a held-out prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The text, without special tokens.
    pub text: String,
    /// Its tokens, the one that ends it not counted.
    pub tokens: usize,
}

/// Beginnings and phrases of refusals, in small letters.
const REFUSALS: [&str; 22] = [
    "i'm sorry",
    "i am sorry",
    "i can't",
    "i cannot",
    "i can not",
    "i won't",
    "i will not",
    "i'm not able",
    "i am not able",
    "i'm unable",
    "i am unable",
    "can't help",
    "cannot help",
    "can't assist",
    "cannot assist",
    "unable to help",
    "unable to assist",
    "must decline",
    "not appropriate",
    "against the law",
    "is illegal",
    "i don't feel comfortable",
];

/// Letters at the start of a text in which a refusal must stand to count as one.
const REFUSAL_WITHIN: usize = 200;

/// Phrases of caution, in small letters.
const CAVEATS: [&str; 45] = [
    "careful",
    "caution",
    "consult",
    "doctor",
    "professional",
    "seek medical",
    "risk",
    "danger",
    "not recommended",
    "i recommend",
    "safer",
    "safety",
    "make sure",
    "however",
    "it is important",
    "it's important",
    "depends",
    "before you",
    "check with",
    "check it",
    "someone check",
    "advice",
    "avoid",
    "should not",
    "when in doubt",
    "best not",
    "better not",
    "unless",
    "wise",
    "harm",
    "be certain",
    "afford",
    "best to",
    "please do not",
    "please don't",
    "please read",
    "please ask",
    "please use",
    "call an ambulance",
    "call the police",
    "contact your",
    "expert",
    "poison",
    "stay off",
    "can damage",
];

const FORMAL: [&str; 24] = [
    "certainly",
    "kindly",
    "sincerely",
    "regarding",
    "assist",
    "assistance",
    "furthermore",
    "therefore",
    "pleasure",
    "appreciate",
    "please",
    "would",
    "shall",
    "may",
    "permit",
    "provide",
    "ensure",
    "request",
    "accordingly",
    "inquiry",
    "apologize",
    "apologise",
    "inconvenience",
    "esteemed",
];

const WARM: [&str; 22] = [
    "love",
    "glad",
    "happy",
    "wonderful",
    "lovely",
    "dear",
    "enjoy",
    "together",
    "hope",
    "joy",
    "so",
    "sorry",
    "thank",
    "thanks",
    "smile",
    "heart",
    "friend",
    "great",
    "welcome",
    "let's",
    "excited",
    "beautiful",
];

const BLUNT: [&str; 24] = [
    "yeah", "nah", "dude", "bro", "duh", "gimme", "gonna", "wanna", "kinda", "dunno", "whatever",
    "stuff", "junk", "lame", "dumb", "sucks", "ugh", "geez", "jeez", "yep", "lol", "guy", "hey",
    "cool",
];

impl Metric {
    /// A name for people, with the direction wanted.
    pub fn name(&self) -> &'static str {
        match self {
            Metric::Tokens => "fewer tokens",
            Metric::Belief => "belief in the wanted answer",
            Metric::Json => "share of JSON",
            Metric::Form => "share of lines in the form asked for",
            Metric::Refusal => "share of refusals",
            Metric::Caveat => "share with a caveat",
            Metric::Tone(_) => "words of the tone, %",
            Metric::Terms(_) => "words of the domain, %",
        }
    }

    /// Whether it needs answers written by the model, rather than belief in given ones.
    pub fn needs_text(&self) -> bool {
        *self != Metric::Belief
    }

    /// The score of an answer; 0 for metrics that look at no text.
    pub fn score(&self, prompt: &HeldOut, sample: &Sample) -> f64 {
        let share = |yes: bool| f64::from(u8::from(yes));
        match self {
            Metric::Belief => 0.0,
            Metric::Tokens => -(sample.tokens as f64),
            Metric::Json => {
                share(serde_json::from_str::<serde_json::Value>(sample.text.trim()).is_ok())
            }
            Metric::Form => lines_in_form(prompt.fields, &sample.text),
            Metric::Refusal => {
                let start: String = plain(&sample.text).chars().take(REFUSAL_WITHIN).collect();
                share(REFUSALS.iter().any(|phrase| start.contains(phrase)))
            }
            Metric::Caveat => {
                let text = plain(&sample.text);
                share(CAVEATS.iter().any(|phrase| text.contains(phrase)))
            }
            Metric::Tone(tone) => {
                let of = |words: &[&str]| word_share(&sample.text, |word| words.contains(&word));
                match tone {
                    Tone::Formal => of(&FORMAL) - of(&BLUNT),
                    Tone::Warm => of(&WARM) - of(&BLUNT),
                    // matter of fact is the absence of all the others
                    Tone::Neutral => -of(&WARM) - of(&BLUNT) - exclamations(&sample.text),
                }
            }
            Metric::Terms(terms) => {
                let terms: Vec<String> = terms.iter().map(|term| term.to_lowercase()).collect();
                word_share(&sample.text, |word| terms.iter().any(|term| term == word))
            }
        }
    }
}

/// Small letters, and one kind of apostrophe.
fn plain(text: &str) -> String {
    text.to_lowercase().replace('\u{2019}', "'")
}

/// Words that pass, in per cent of all words; 0 of no words.
fn word_share(text: &str, passes: impl Fn(&str) -> bool) -> f64 {
    let text = plain(text);
    let words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .collect();
    let found = words.iter().filter(|word| passes(word)).count();
    100.0 * found as f64 / words.len().max(1) as f64
}

/// Exclamation marks for each hundred words.
fn exclamations(text: &str) -> f64 {
    let words = text.split_whitespace().count().max(1);
    100.0 * text.matches('!').count() as f64 / words as f64
}

/// Share of a text's lines that are those asked for, in order, each `Field: something`; lines that are missing count
/// like lines too many.
fn lines_in_form(fields: &[&str], text: &str) -> f64 {
    let filled = |line: &str, field: &str| {
        line.strip_prefix(field)
            .and_then(|rest| rest.strip_prefix(':'))
            .is_some_and(|value| !value.trim().is_empty())
    };
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut wanted = fields.iter().peekable();
    for line in &lines {
        wanted.next_if(|field| filled(line, field));
    }
    let found = fields.len() - wanted.len();
    found as f64 / lines.len().max(fields.len()).max(1) as f64
}
