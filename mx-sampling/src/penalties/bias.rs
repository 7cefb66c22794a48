//! Biases on tokens that complete a sequence, and the exponential length penalty.

use crate::error::SamplingError;

/// Sequences whose last token gets a bias once the tokens before it stand at the end of the history.
#[derive(Debug, Clone, Default)]
pub(crate) struct SequenceTable {
    entries: Vec<(Vec<u32>, f64)>,
}

impl SequenceTable {
    /// Checks that no sequence is empty and no bias is NaN or +inf.
    pub(crate) fn new(
        name: &'static str,
        entries: impl IntoIterator<Item = (Vec<u32>, f64)>,
        vocab: usize,
    ) -> Result<Self, SamplingError> {
        let entries: Vec<(Vec<u32>, f64)> = entries.into_iter().collect();
        for (sequence, bias) in &entries {
            if sequence.is_empty() {
                return Err(SamplingError::Empty { name });
            }
            check_tokens(name, sequence, vocab)?;
            check_bias(name, *bias)?;
        }
        Ok(Self { entries })
    }

    /// Every token whose sequence is complete but for it, with its bias.
    pub(crate) fn matching<'a>(
        &'a self,
        tokens: &'a [u32],
    ) -> impl Iterator<Item = (u32, f64)> + 'a {
        self.entries.iter().filter_map(|(sequence, bias)| {
            let (&last, before) = sequence.split_last()?;
            tokens.ends_with(before).then_some((last, *bias))
        })
    }
}

/// Refuses ids beyond the vocabulary.
pub(crate) fn check_tokens(
    name: &'static str,
    tokens: &[u32],
    vocab: usize,
) -> Result<(), SamplingError> {
    match tokens.iter().find(|token| **token as usize >= vocab) {
        Some(&token) => Err(SamplingError::TokenOutOfRange { name, token, vocab }),
        None => Ok(()),
    }
}

/// Refuses NaN and +inf.
pub(crate) fn check_bias(name: &'static str, bias: f64) -> Result<(), SamplingError> {
    SamplingError::check(bias < f64::INFINITY, name, bias, "a finite number or -inf")
}

/// Adds a bias to the last token of every sequence whose other tokens end `tokens` (transformers'
/// `sequence_bias`). The biases of several sequences with the same last token add up.
///
/// # Errors
///
/// [`SamplingError::Empty`], [`SamplingError::TokenOutOfRange`] and [`SamplingError::OutOfRange`] for a
/// sequence or bias that cannot be used.
pub fn sequence_bias(
    tokens: &[u32],
    biases: &[(Vec<u32>, f64)],
    logits: &mut [f32],
) -> Result<(), SamplingError> {
    let table = SequenceTable::new("sequence_bias", biases.iter().cloned(), logits.len())?;
    for (token, bias) in table.matching(tokens) {
        let logit = &mut logits[token as usize];
        *logit = (f64::from(*logit) + bias) as f32;
    }
    Ok(())
}

/// What transformers' exponential length penalty adds to an end token: `|l|·(f^(generated − start) − 1)`
/// once more than `start` tokens were generated. A logit that is no finite number stays as it is.
#[must_use]
pub fn exponential_decay(logit: f32, generated: usize, start: usize, factor: f64) -> f32 {
    // A logit of 0 has nothing to grow from; with an infinite power it would become NaN. NaN itself is for the
    // scan to find: `min` below would turn it into the largest number.
    if generated <= start || !logit.is_finite() || logit == 0.0 {
        return logit;
    }
    let logit = f64::from(logit);
    let power = crate::math::pow(factor, (generated - start) as f64);
    (logit + logit.abs() * (power - 1.0)).min(f64::from(f32::MAX)) as f32
}
