//! Factuality by self-consistency: a statement that a model makes up changes from sample to sample, one that it knows
//! comes back (SelfCheckGPT, Manakul, Liusie, Gales 2023; here by words, without a second model).
//!
//! [`WITNESSES`] further samples of the same request are drawn. The *claims* of an output are its content words: numbers,
//! names (words with a capital that do not begin a sentence) and words of at least [`LONG`] letters. Its agreement is the
//! share of its claims, averaged over the witnesses, that a witness has as well; an output without claims agrees with
//! a witness where both are the same but for case, blanks and punctuation. Agreement of at least [`ENOUGH`] passes.
//!
//! This measures how sure a model is of what it says, not whether the world agrees.

use std::collections::BTreeSet;

/// Further samples that are drawn.
pub(crate) const WITNESSES: usize = 4;
/// Agreement that passes.
pub(crate) const ENOUGH: f64 = 0.5;
/// Letters of a word that counts as a claim.
const LONG: usize = 5;

/// Mean share of an output's claims that the witnesses repeat, 0 to 1.
pub(crate) fn agreement(output: &str, witnesses: &[String]) -> f64 {
    if witnesses.is_empty() {
        return 0.0;
    }
    let claims = claims(output);
    let share = |witness: &String| -> f64 {
        let said = words(witness);
        if claims.is_empty() {
            return f64::from(u8::from(words(output) == said));
        }
        let said: BTreeSet<&String> = said.iter().collect();
        let repeated = claims.iter().filter(|claim| said.contains(claim)).count();
        repeated as f64 / claims.len() as f64
    };
    witnesses.iter().map(share).sum::<f64>() / witnesses.len() as f64
}

/// The content words of a text, in lower case.
fn claims(text: &str) -> BTreeSet<String> {
    let mut claims = BTreeSet::new();
    let mut begins_sentence = true;
    for part in text.split_whitespace() {
        for word in part.split(|c: char| !c.is_alphanumeric()) {
            if word.is_empty() {
                continue;
            }
            let number = word.chars().any(char::is_numeric);
            let name = !begins_sentence && word.starts_with(char::is_uppercase);
            if number || name || word.chars().count() >= LONG {
                claims.insert(word.to_lowercase());
            }
            begins_sentence = false;
        }
        begins_sentence |= part.ends_with(['.', '!', '?', ':']);
    }
    claims
}

/// All words of a text, in lower case.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(output: &str, witnesses: &[&str]) -> f64 {
        let witnesses: Vec<String> = witnesses.iter().map(|w| (*w).to_owned()).collect();
        agreement(output, &witnesses)
    }

    #[test]
    fn what_comes_back_agrees_and_what_changes_does_not() {
        let known = "The capital of France is Paris.";
        assert!(
            agree(
                known,
                &[
                    "It is Paris, the capital of France.",
                    "Paris is the capital, in France"
                ]
            ) >= ENOUGH
        );
        let invented = "He was born in Leeds in 1912.";
        let others = [
            "He was born in York in 1934.",
            "Born at Ghent, 1870.",
            "She came from Rome in 1801.",
        ];
        assert!(agree(invented, &others) < ENOUGH);
    }

    #[test]
    fn short_answers_agree_as_a_whole() {
        assert_eq!(agree("Yes.", &["yes", "Yes!", "no", "no"]), 0.5);
        assert_eq!(agree("", &["", "x"]), 0.5);
        assert_eq!(agree("Yes.", &[]), 0.0);
    }
}
