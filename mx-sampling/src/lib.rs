//! Logits processors, truncations, penalties and seeded draws for language models, on plain slices of f32.

mod adaptive;
mod draw;
mod error;
mod explain;
mod guidance;
mod history;
mod law;
mod logprobs;
mod math;
mod mirostat;
mod options;
mod order;
pub mod penalties;
mod plan;
mod processor;
mod rng;
mod row;
mod sampler;
mod select;
mod simd;
mod stop;
pub mod strategy;
mod temperature;
mod truncation;

pub use adaptive::{AdaptiveP, AdaptiveState};
pub use draw::{draw_from_law, gumbel_max};
pub use error::SamplingError;
pub use explain::{Explanation, StepReport};
pub use guidance::{
    classifier_free_guidance, contrastive_logits, contrastive_scores, log_softmax, log_sum_exp,
};
pub use law::{Draw, Law};
pub use logprobs::{LogprobSide, Logprobs, TokenLogprob};
pub use options::SamplingOptions;
pub use order::{HF_ORDER, LLAMA_ORDER, Order, Step};
pub use penalties::DryOptions;
pub use processor::{Context, LogitsProcessor};
pub use rng::{Stream, unit};
pub use sampler::{Sampler, Snapshot};
pub use simd::Backend;
pub use stop::{StopMatcher, Stopped};
pub use temperature::{GREEDY_BELOW, dynamic_temperature};
pub use truncation::{Truncation, Xtc};
