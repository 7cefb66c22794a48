//! Edits of single logits: penalties, biases and bans that look at the tokens so far.

mod bias;
mod counts;
mod dry;
mod ngram;

pub(crate) use bias::{SequenceTable, check_bias, check_tokens};
pub use bias::{exponential_decay, sequence_bias};
pub(crate) use counts::{IdHasher, IdMap, WindowCounts};
pub use dry::DryOptions;
pub(crate) use dry::DryScratch;
pub(crate) use ngram::NgramIndex;

/// The repetition penalty of CTRL (Keskar 2019): a positive logit is divided by `penalty`, a negative one
/// multiplied. −inf stays −inf.
#[must_use]
pub fn repeat_penalised(logit: f32, penalty: f64) -> f32 {
    if !logit.is_finite() {
        return logit;
    }
    let logit = f64::from(logit);
    let changed = if logit < 0.0 {
        logit * penalty
    } else {
        logit / penalty
    };
    // However large the penalty: it neither removes a token nor makes a logit infinite.
    changed.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// The frequency and presence penalties of the OpenAI API for a token that occurred `count` times.
#[must_use]
pub fn count_penalised(logit: f32, count: u32, frequency: f64, presence: f64) -> f32 {
    if count == 0 {
        return logit;
    }
    (f64::from(logit) - f64::from(count) * frequency - presence) as f32
}
