//! The mathematics of decoding strategies, without any model.
//!
//! Everything here takes laws or log-probabilities and returns decisions; the caller runs the models.
//! Random choices consume words of a [`Stream`](crate::Stream) (or any source of uniforms) in a documented
//! number, so that a run can be replayed.
//!
//! - [`speculative`]: accepting drafted tokens so that the law of the target model is kept exactly.
//! - [`draft_length`]: how many tokens to draft.
//! - [`drafters`]: drafts without a second model.
//! - [`determinantal`]: `ads`, and the k-DPPs it is made of.
//! - [`ensemble`]: several models, one law.
//! - [`beam`]: beam search, plain, diverse, sampled and constrained.
//! - [`best_of`]: choosing among finished candidates.
//! - [`SparseLaw`]: the law of a step as a list, for what outlives the step.
//! - [`schedule`]: temperature and top-p per candidate and retry.

pub mod beam;
pub mod best_of;
pub mod determinantal;
pub mod draft_length;
pub mod drafters;
mod eigen;
pub mod ensemble;
pub mod schedule;
mod sparse;
pub mod speculative;

pub use sparse::SparseLaw;
