//! Rows of log-probabilities as a search reads them.

use crate::error::SamplingError;
use crate::logprobs::normalised;
use crate::simd::BLOCK;

/// One row of log-probabilities.
pub(super) trait Scores {
    fn len(&self) -> usize;

    fn at(&self, token: usize) -> f64;

    /// No score of the tokens `block·BLOCK ..` is larger.
    fn bound(&self, block: usize) -> f64;

    /// # Errors
    ///
    /// NaN or +inf.
    fn check(&self) -> Result<(), SamplingError>;
}

impl Scores for &[f64] {
    fn len(&self) -> usize {
        <[f64]>::len(self)
    }

    fn at(&self, token: usize) -> f64 {
        self[token]
    }

    fn bound(&self, _: usize) -> f64 {
        f64::INFINITY
    }

    fn check(&self) -> Result<(), SamplingError> {
        match self.iter().position(|x| x.is_nan() || *x == f64::INFINITY) {
            Some(token) => Err(invalid(token, self[token] as f32)),
            None => Ok(()),
        }
    }
}

/// A row of f32 logits that is read as log-probabilities: each less one normaliser, in f64.
///
/// It knows the largest logit of every 64 tokens, so that a search reads only the places where a good continuation can
/// be; what it finds is the same as in the row written out in f64.
///
/// ```
/// use mx_sampling::strategy::beam::{BeamOptions, BeamSearch, LogRow};
///
/// let options = BeamOptions { width: 2, max_new_tokens: 1, ..Default::default() };
/// let mut search = BeamSearch::new(options, 3)?;
/// search.step_logits(&[LogRow::of_logits(&[0.5, 2.0, 1.0])])?;
/// assert_eq!(search.finish()[0].tokens, [1]);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
#[derive(Debug, Clone)]
pub struct LogRow<'a> {
    values: &'a [f32],
    normaliser: f64,
    max: f32,
    block_max: Vec<f32>,
}

impl<'a> LogRow<'a> {
    /// The log-softmax of logits.
    #[must_use]
    pub fn of_logits(values: &'a [f32]) -> Self {
        let mut row = Self::of_logprobs(values);
        row.normaliser = normalised(values, &row.block_max, row.max);
        row
    }

    /// Log-probabilities as they are; they need not be normalised.
    #[must_use]
    pub fn of_logprobs(values: &'a [f32]) -> Self {
        let (max, block_max) = crate::logprobs::scanned(values);
        Self {
            values,
            normaliser: 0.0,
            max,
            block_max,
        }
    }
}

impl Scores for LogRow<'_> {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn at(&self, token: usize) -> f64 {
        f64::from(self.values[token]) - self.normaliser
    }

    fn bound(&self, block: usize) -> f64 {
        // Rounding is monotone, so what a score is bounded by before the subtraction it is after.
        f64::from(self.block_max[block]) - self.normaliser
    }

    fn check(&self) -> Result<(), SamplingError> {
        let invalid_value = |x: &f32| x.is_nan() || *x == f32::INFINITY;
        if (self.max.is_nan() || self.max == f32::INFINITY)
            && let Some(token) = self.values.iter().position(invalid_value)
        {
            return Err(invalid(token, self.values[token]));
        }
        // Logits that leave nothing have no softmax.
        match self.normaliser.is_finite() || self.values.is_empty() {
            true => Ok(()),
            false => Err(invalid(0, self.at(0) as f32)),
        }
    }
}

fn invalid(token: usize, value: f32) -> SamplingError {
    SamplingError::InvalidLogits {
        token: token as u32,
        value,
    }
}

/// The tokens of one block.
pub(super) fn block(block: usize, vocab: usize) -> std::ops::Range<usize> {
    block * BLOCK..((block + 1) * BLOCK).min(vocab)
}
