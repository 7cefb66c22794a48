//! Who makes the candidates: a local model or a server, behind one small trait.

use crate::error::Error;
use crate::generation::{FinishReason, Generation};
use crate::request::GenerateRequest;
use std::sync::Arc;
use std::time::Duration;

/// Makes candidates, and knows the time.
pub(crate) trait Generator {
    /// What the request's tokens are drawn with.
    ///
    /// # Errors
    /// [`Error`] for a request that cannot be carried out.
    fn sampling(&self, request: &GenerateRequest) -> Result<Sampling, Error>;

    /// Whether an answer can be followed by a further message.
    fn converses(&self, request: &GenerateRequest) -> bool;

    /// Whether rows can be given up while others go on.
    fn prunes(&self) -> bool {
        !self.is_remote()
    }

    /// Whether prompts leave this machine.
    fn is_remote(&self) -> bool;

    /// The largest seed that it takes.
    fn largest_seed(&self) -> u64;

    /// Carries out a job.
    ///
    /// # Errors
    /// [`Error`] for anything that cannot be carried out as asked.
    fn generate(&mut self, job: &Job) -> Result<Batch, Error>;

    /// Time since some fixed moment.
    fn now(&self) -> Duration;

    /// Whether the caller asked to stop.
    fn is_cancelled(&self) -> bool;
}

/// What the tokens of a request are drawn with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sampling {
    /// The temperature; `None` where nothing is drawn.
    pub(crate) temperature: Option<f64>,
    /// The top_p, where one acts.
    pub(crate) top_p: Option<f64>,
    /// Whether the same request gives the same tokens whatever the seed.
    pub(crate) deterministic: bool,
}

/// Candidates to be made together, as rows of one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    /// The request, with its seed.
    pub(crate) request: GenerateRequest,
    /// How many.
    pub(crate) rows: usize,
    /// Whether log-probabilities are of use.
    pub(crate) logprobs: bool,
    /// Whether nothing can be decided without them.
    pub(crate) needs_logprobs: bool,
    /// Moment at which to stop.
    pub(crate) deadline: Option<Duration>,
    /// Whether there are candidates already, so that none is an answer.
    pub(crate) may_be_lost: bool,
    /// Tokens after which the weaker half of the rows is given up.
    pub(crate) prune_after: Option<usize>,
}

/// What a job made.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// One for each row, in order.
    pub(crate) drafts: Vec<Draft>,
    /// The answer that they are part of.
    pub(crate) answer: Arc<Generation>,
    /// Whether the deadline ended it.
    pub(crate) late: bool,
}

/// One candidate before it is judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    pub(crate) text: String,
    pub(crate) tokens: usize,
    /// The tokens' log-probabilities under the model's own law, where they are known.
    pub(crate) logprobs: Vec<f64>,
    pub(crate) finish_reason: FinishReason,
    pub(crate) pruned: bool,
}
