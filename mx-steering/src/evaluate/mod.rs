//! Measuring what a vector does, and what it breaks.
//!
//! | question | function |
//! |---|---|
//! | does the direction tell the poles apart? | [`separation`], [`rank_layers`](crate::make::rank_layers) |
//! | does the model's belief follow the strength? | [`LogitShift`] |
//! | does its behaviour change? | [`Estimate::of_difference`] of a metric on base and steered texts |
//! | what does it cost? | [`kl_divergence`], [`Perplexity`], [`distinct_n`] |
//! | which layer, which strength? | [`sweep`] |
//!
//! All of it is arithmetic over what closures give; results are serde values with [tables](Table) and
//! [plots](crate::plot).

mod cost;
mod separation;
mod shift;
pub mod stats;
mod sweep;
mod table;

pub use cost::{Perplexity, distinct_n, kl_divergence};
pub use separation::{PointSeparation, SinkRule, separation};
pub use shift::{AnswerSums, LogitShift, ShiftPoint, answer_log_probability};
pub use stats::Estimate;
pub use sweep::{Cell, Sweep, sweep};
pub use table::Table;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
