//! From vectors to edits of rows.
//!
//! A request names vectors and says how they act ([`SteeringSpec`]); compiled for a model and a prompt it becomes a
//! [`Plan`]: a list of [`Edit`]s, all of one primitive, which an engine applies at its hook points. Without an engine
//! of this project, [`Edit::apply_rows`] applies them to slices and the module `tensor` to burn tensors.

mod compile;
mod condition;
mod edit;
mod merge;
mod one;
mod rotate;
mod schedule;
mod spec;
mod tokens;

pub use compile::{Plan, Resolve};
pub use condition::{Comparison, PromptCondition, TokenCondition};
pub use edit::{Edit, Gate, Term};
pub use rotate::{FOLDS, Plane};
pub use schedule::{DECAY_LIVES, MAX_STEPS, Schedule, Step};
pub use spec::{Operator, Steer, SteeringSpec, VectorRef, parse_layers};
pub use tokens::TokenClass;
