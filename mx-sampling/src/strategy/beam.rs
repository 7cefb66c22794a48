//! Beam search: plain, diverse, sampled and constrained.
//!
//! [`BeamSearch`] keeps the books; the caller runs the model. Each round the caller computes one row of
//! log-probabilities per live beam, in order, and [`BeamSearch::step`] says which beams go on: a list of
//! (parent, token), by which the caller also rearranges its caches.
//!
//! Running beams are ranked by their plain sum of log-probabilities, finished ones by the sum over generated
//! tokens (end token included) divided by `length^length_penalty`. In each round the best
//! `max(2, 1 + ends)·width` continuations are looked at; those that end count when they are among the first
//! `width`. Ties go to the lower beam, then to the lower token id. Masks do not renormalise: after a ban the
//! scores stay comparable with those of unmasked hypotheses.
//!
//! ```
//! use mx_sampling::strategy::beam::{BeamOptions, BeamSearch};
//!
//! let options = BeamOptions { width: 2, max_new_tokens: 2, eos_tokens: vec![0], ..Default::default() };
//! let mut search = BeamSearch::new(options, 3)?;
//! while !search.is_done() {
//!     // A model that always says the same.
//!     let row = [0.2f64.ln(), 0.5f64.ln(), 0.3f64.ln()];
//!     let rows = vec![&row[..]; search.live().len()];
//!     search.step(&rows)?;
//! }
//! assert_eq!(search.finish()[0].tokens, [1, 1]);
//! # Ok::<(), mx_sampling::SamplingError>(())
//! ```

mod candidates;
mod constraint;
mod options;
mod phrases;
mod pool;
mod scores;

pub use constraint::{BeamConstraint, Unconstrained};
pub use options::{BeamOptions, EarlyStopping, LengthNorm};
pub use phrases::Phrases;
pub use pool::Hypothesis;
pub use scores::LogRow;

use crate::error::SamplingError;
use crate::rng::Stream;
use candidates::{Candidate, Offer, Reading, best, is_set, sampled, share};
use pool::Pool;
use scores::Scores;

/// Largest number of beams.
pub const MAX_WIDTH: usize = 1 << 16;

/// A beam that goes on.
#[derive(Debug, Clone)]
pub struct Beam<C> {
    /// The generated tokens.
    pub tokens: Vec<u32>,
    /// Sum of log-probabilities, with diversity penalties.
    pub score: f64,
    /// Sum of log-probabilities.
    pub logprob: f64,
    /// State of the constraint.
    pub constraint: C,
    /// Group of a diverse search.
    pub group: usize,
    /// State of the required phrases.
    phrases: u32,
}

/// A beam of the next round: which live beam it continues, and with which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Index among the live beams before the step.
    pub parent: usize,
    /// The token.
    pub token: u32,
}

/// The books of one beam search.
#[derive(Debug, Clone)]
pub struct BeamSearch<C: BeamConstraint = Unconstrained> {
    options: BeamOptions,
    vocab: usize,
    phrases: Phrases,
    live: Vec<Beam<C>>,
    pools: Vec<Pool>,
    done: Vec<bool>,
    length: usize,
    stream: Option<Stream>,
}

impl BeamSearch<Unconstrained> {
    /// A search without a constraint, for rows of `vocab` log-probabilities.
    ///
    /// # Errors
    ///
    /// Options out of range, a token beyond the vocabulary, or phrases that do not fit the length.
    pub fn new(options: BeamOptions, vocab: usize) -> Result<Self, SamplingError> {
        Self::with_constraint(options, vocab, Unconstrained)
    }
}

impl<C: BeamConstraint> BeamSearch<C> {
    /// A search whose beams start in the given state of a constraint.
    ///
    /// # Errors
    ///
    /// As [`BeamSearch::new`].
    pub fn with_constraint(
        options: BeamOptions,
        vocab: usize,
        constraint: C,
    ) -> Result<Self, SamplingError> {
        options.check(vocab)?;
        let phrases = Phrases::new(&options.must_include)?;
        let needed = phrases.needed(phrases.start());
        if needed > options.max_new_tokens {
            return Err(SamplingError::Infeasible {
                needed,
                left: options.max_new_tokens,
            });
        }
        let live = (0..options.groups)
            .map(|group| Beam {
                tokens: Vec::new(),
                score: 0.0,
                logprob: 0.0,
                constraint: constraint.clone(),
                group,
                phrases: phrases.start(),
            })
            .collect();
        let per_group = options.width / options.groups;
        Ok(Self {
            vocab,
            phrases,
            live,
            pools: vec![Pool::new(per_group); options.groups],
            done: vec![false; options.groups],
            length: 0,
            stream: options
                .sampled
                .map(|(seed, index)| Stream::new(seed, index)),
            options,
        })
    }

    /// The beams that go on. Groups that are done have none.
    #[must_use]
    pub fn live(&self) -> &[Beam<C>] {
        &self.live
    }

    /// Whether the search is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.live.is_empty()
    }

    /// Takes one row of log-probabilities per live beam and returns the beams of the next round.
    ///
    /// −inf excludes a token; rows need not be normalised.
    ///
    /// # Errors
    ///
    /// A different number of rows, a row of another length, NaN or +inf, or [`SamplingError::NoCandidates`]
    /// when every beam is dead and nothing has finished.
    pub fn step(&mut self, rows: &[&[f64]]) -> Result<Vec<Move>, SamplingError> {
        self.advance(rows)
    }

    /// As [`step`](Self::step) for rows of f32 logits, of which a plain search reads only what may matter: the same
    /// choices for a fraction of the work.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step), and [`SamplingError::InvalidLogits`] for logits that leave nothing.
    pub fn step_logits(&mut self, rows: &[LogRow<'_>]) -> Result<Vec<Move>, SamplingError> {
        self.advance(rows)
    }

    fn advance<R: Scores>(&mut self, rows: &[R]) -> Result<Vec<Move>, SamplingError> {
        self.check_rows(rows)?;
        let mut next = Vec::new();
        let mut moves = Vec::new();
        let mut chosen: Vec<u32> = Vec::new();
        let length = self.length + 1;
        for group in 0..self.options.groups {
            if self.done[group] {
                continue;
            }
            let before = moves.len();
            let tokens = self.step_group(group, rows, &chosen, length, &mut next, &mut moves);
            chosen.extend(tokens);
            self.done[group] = self.group_done(group, &next[before..], length);
            if self.done[group] {
                next.truncate(before);
                moves.truncate(before);
            }
        }
        self.length = length;
        self.live = next;
        if self.live.is_empty() && self.pools.iter().all(Pool::is_empty) {
            return Err(SamplingError::NoCandidates {
                vocab: self.vocab,
                after: "the constraints of the beams",
            });
        }
        Ok(moves)
    }

    /// The finished hypotheses, best first. Those cut off by the length without being complete stand last.
    #[must_use]
    pub fn finish(self) -> Vec<Hypothesis> {
        pool::merged(self.pools, self.options.width)
    }

    fn check_rows<R: Scores>(&self, rows: &[R]) -> Result<(), SamplingError> {
        if rows.len() != self.live.len() {
            return Err(SamplingError::Length {
                name: "rows",
                given: rows.len(),
                wanted: self.live.len(),
            });
        }
        for row in rows {
            if row.len() != self.vocab {
                return Err(SamplingError::Length {
                    name: "row",
                    given: row.len(),
                    wanted: self.vocab,
                });
            }
            row.check()?;
        }
        Ok(())
    }

    /// Steps one group; returns the tokens it chose, which later groups are to avoid.
    fn step_group<R: Scores>(
        &mut self,
        group: usize,
        rows: &[R],
        chosen: &[u32],
        length: usize,
        next: &mut Vec<Beam<C>>,
        moves: &mut Vec<Move>,
    ) -> Vec<u32> {
        let width = self.options.width / self.options.groups;
        let looked_at = (1 + self.options.eos_tokens.len())
            .max(2)
            .saturating_mul(width);
        let candidates = self.looked_at(group, rows, chosen, length, looked_at);
        let last = length == self.options.max_new_tokens;
        let mut going = Vec::new();
        for (rank, candidate) in candidates.iter().enumerate() {
            // With phrases the ranking is shared between banks, and every complete end counts.
            if (candidate.ends || last) && (rank < width || !self.phrases.is_empty()) {
                self.finish_candidate(group, candidate, length);
            }
            if !candidate.ends {
                going.push(*candidate);
            }
        }
        if self.phrases.is_empty() {
            going.truncate(width);
        } else {
            going = share(going, width);
        }
        let tokens = going.iter().map(|candidate| candidate.token).collect();
        if last {
            going.clear();
        }
        for candidate in going {
            let parent = &self.live[candidate.beam];
            let mut constraint = parent.constraint.clone();
            constraint.advance(candidate.token);
            let mut tokens = parent.tokens.clone();
            tokens.push(candidate.token);
            next.push(Beam {
                tokens,
                score: candidate.score,
                logprob: parent.logprob + rows[candidate.beam].at(candidate.token as usize),
                constraint,
                group,
                phrases: candidate.bank,
            });
            moves.push(Move {
                parent: candidate.beam,
                token: candidate.token,
            });
        }
        // The rows are needed once more, for the plain log-probability of what finished.
        self.pools[group]
            .settle(|beam, token| self.live[beam].logprob + rows[beam].at(token as usize));
        tokens
    }

    /// The continuations of a group that are looked at, best first: more than asked for where so many texts end by
    /// themselves that too few would go on.
    fn looked_at<R: Scores>(
        &mut self,
        group: usize,
        rows: &[R],
        chosen: &[u32],
        length: usize,
        mut count: usize,
    ) -> Vec<Candidate> {
        let width = self.options.width / self.options.groups;
        let most = self.vocab.saturating_mul(self.live.len());
        let finishing = self.live.iter().any(|beam| beam.constraint.may_finish());
        loop {
            let found = self.candidates(group, rows, chosen, length, count);
            let going = found.iter().filter(|candidate| !candidate.ends).count();
            let exhausted = found.len() < count || count >= most || self.stream.is_some();
            if !finishing || going >= width || exhausted {
                return found;
            }
            count = count.saturating_mul(2);
        }
    }

    /// The best so many continuations of a group.
    fn candidates<R: Scores>(
        &mut self,
        group: usize,
        rows: &[R],
        chosen: &[u32],
        length: usize,
        looked_at: usize,
    ) -> Vec<Candidate> {
        let mut scored = Vec::new();
        let mine = (0..self.live.len()).filter(|index| self.live[*index].group == group);
        let mine: Vec<usize> = mine.collect();
        let masks: Vec<Option<Vec<u32>>> = mine.iter().map(|index| self.mask(*index)).collect();
        if let Some(mut stream) = self.stream.take() {
            let all: Vec<(usize, Vec<f64>)> = mine
                .iter()
                .zip(masks)
                .map(|(&index, mask)| {
                    (
                        index,
                        self.written(index, &rows[index], mask, chosen, length),
                    )
                })
                .collect();
            let all: Vec<(usize, &[f64])> = all.iter().map(|(at, row)| (*at, &row[..])).collect();
            sampled(&all, looked_at, || stream.unit(), &mut scored);
            self.stream = Some(stream);
        } else {
            let plain = chosen.is_empty() && self.phrases.is_empty();
            let offers: Vec<Offer<'_, R>> = mine
                .iter()
                .zip(masks)
                .map(|(&beam, mask)| match plain {
                    true => Offer::Read(Reading {
                        beam,
                        start: self.live[beam].score,
                        row: &rows[beam],
                        mask,
                        eos_tokens: &self.options.eos_tokens,
                        may_end: self.may_end(&self.live[beam]),
                    }),
                    false => Offer::Written {
                        beam,
                        scores: self.written(beam, &rows[beam], mask, chosen, length),
                    },
                })
                .collect();
            let extra = |index: usize| self.phrases.advancing(self.live[index].phrases);
            best(&offers, looked_at, extra, &mut scored);
        }
        for candidate in &mut scored {
            let beam = &mut self.live[candidate.beam];
            let eos = self.options.eos_tokens.contains(&candidate.token);
            candidate.ends =
                eos || (beam.constraint.may_finish() && beam.constraint.finishes(candidate.token));
            candidate.bank = match eos {
                true => beam.phrases,
                false => self.phrases.next(beam.phrases, candidate.token),
            };
        }
        scored
    }

    /// What the constraint of a live beam allows; `None` where that is everything.
    fn mask(&mut self, index: usize) -> Option<Vec<u32>> {
        let mut words = vec![0u32; self.vocab.div_ceil(32)];
        let masked = self.live[index].constraint.mask(&mut words);
        masked.then_some(words)
    }

    fn may_end(&self, beam: &Beam<C>) -> bool {
        beam.constraint.is_accepting() && self.phrases.is_done(beam.phrases)
    }

    /// The score of every continuation of a live beam.
    fn written<R: Scores>(
        &self,
        index: usize,
        given: &R,
        mask: Option<Vec<u32>>,
        chosen: &[u32],
        length: usize,
    ) -> Vec<f64> {
        let beam = &self.live[index];
        let left = self.options.max_new_tokens - length;
        let mut row: Vec<f64> = (0..given.len())
            .map(|token| beam.score + given.at(token))
            .collect();
        for &token in chosen {
            row[token as usize] -= self.options.diversity_penalty;
        }
        if let Some(words) = mask {
            for (token, score) in row.iter_mut().enumerate() {
                if !is_set(&words, token) {
                    *score = f64::NEG_INFINITY;
                }
            }
        }
        let may_end = self.may_end(beam);
        for &eos in &self.options.eos_tokens {
            row[eos as usize] = if may_end {
                beam.score + given.at(eos as usize)
            } else {
                f64::NEG_INFINITY
            };
            if may_end {
                row[eos as usize] -= self.options.diversity_penalty
                    * chosen.iter().filter(|token| **token == eos).count() as f64;
            }
        }
        self.phrases
            .keep_feasible(beam.phrases, left, &self.options.eos_tokens, &mut row);
        row
    }

    fn finish_candidate(&mut self, group: usize, candidate: &Candidate, length: usize) {
        let parent = &self.live[candidate.beam];
        let eos = self.options.eos_tokens.contains(&candidate.token);
        let complete = eos || {
            let mut constraint = parent.constraint.clone();
            constraint.advance(candidate.token);
            constraint.is_accepting() && self.phrases.is_done(candidate.bank)
        };
        let mut tokens = parent.tokens.clone();
        tokens.push(candidate.token);
        self.pools[group].add(Hypothesis {
            tokens,
            score: self.options.normalised(candidate.score, length),
            logprob: f64::NAN,
            complete,
            ended: candidate.ends,
            origin: (candidate.beam, candidate.token),
        });
    }

    fn group_done(&self, group: usize, next: &[Beam<C>], length: usize) -> bool {
        let pool = &self.pools[group];
        let best = next
            .iter()
            .map(|beam| beam.score)
            .fold(f64::NEG_INFINITY, f64::max);
        if next.is_empty() || length >= self.options.max_new_tokens {
            return true;
        }
        let Some(worst) = pool.worst_when_full() else {
            return false;
        };
        let reachable = match self.options.early_stopping {
            EarlyStopping::Yes => return true,
            EarlyStopping::Never if self.options.length_penalty > 0.0 => {
                self.options.max_new_tokens
            }
            _ => length,
        };
        self.options.normalised(best, reachable) <= worst
    }
}
