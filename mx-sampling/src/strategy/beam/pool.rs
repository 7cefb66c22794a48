//! Finished hypotheses.

/// A finished hypothesis.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// The generated tokens, the end token included.
    pub tokens: Vec<u32>,
    /// Score it is ranked by: with diversity penalties and the length penalty.
    pub score: f64,
    /// Plain sum of log-probabilities.
    pub logprob: f64,
    /// Whether constraint and phrases are satisfied. `false` only where the length cut it off, or its own end did.
    pub complete: bool,
    /// Whether it ended with an end token, or by itself.
    pub ended: bool,
    pub(super) origin: (usize, u32),
}

/// The best finished hypotheses of a group.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    size: usize,
    kept: Vec<Hypothesis>,
}

impl Pool {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            kept: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Adds a hypothesis; the worst one leaves when there are too many.
    pub(super) fn add(&mut self, hypothesis: Hypothesis) {
        // Behind all that are as good: the earlier one stays on a tie.
        let at = self
            .kept
            .partition_point(|other| !before(&hypothesis, other));
        self.kept.insert(at, hypothesis);
        self.kept.truncate(self.size);
    }

    /// Fills in the plain log-probabilities of what was added since the last call.
    pub(super) fn settle(&mut self, logprob: impl Fn(usize, u32) -> f64) {
        for hypothesis in self
            .kept
            .iter_mut()
            .filter(|hypothesis| hypothesis.logprob.is_nan())
        {
            hypothesis.logprob = logprob(hypothesis.origin.0, hypothesis.origin.1);
        }
    }

    /// The lowest score, once the pool is full of complete hypotheses.
    pub(super) fn worst_when_full(&self) -> Option<f64> {
        if self.kept.len() < self.size {
            return None;
        }
        self.kept
            .last()
            .filter(|worst| worst.complete)
            .map(|worst| worst.score)
    }
}

/// All pools in one, best first.
pub(super) fn merged(pools: Vec<Pool>, size: usize) -> Vec<Hypothesis> {
    let mut all = Pool::new(size);
    pools
        .into_iter()
        .flat_map(|pool| pool.kept)
        .for_each(|hypothesis| all.add(hypothesis));
    all.kept
}

/// Whether `a` ranks strictly before `b`.
fn before(a: &Hypothesis, b: &Hypothesis) -> bool {
    (a.complete, a.score) > (b.complete, b.score)
}
