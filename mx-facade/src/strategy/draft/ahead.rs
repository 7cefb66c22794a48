//! Speculative speculative decoding (Kumar 2026): while the target verifies a round, the drafter drafts the next one for
//! the outcomes that it holds likely. Where the true outcome is among them, the next draft is free.
//!
//! Which outcomes are prepared depends on the drafter alone, and every draft is drawn from its own law, so the output
//! law stays the target's.

use super::Drafter;
use super::same::SameVocabulary;
use crate::error::Error;
use crate::generation::Warning;
use crate::pipeline::lane::{Draft, Lane};
use mx_runtime::engine::{Row, Sequence, StepOutput, Want};
use mx_sampling::strategy::SparseLaw;
use mx_sampling::strategy::draft_length::{DraftLength, fan_out};

/// Outcomes that are prepared a round.
const BUDGET: usize = 4;

/// A drafter that works while the target does.
pub(super) struct Ahead {
    inner: SameVocabulary,
    /// The drafts under verification, and how many tokens stood before them.
    drafts: Vec<Draft>,
    base: usize,
    count: usize,
    acceptance: f64,
    prepared: Vec<Prepared>,
    hits: usize,
    rounds: usize,
}

/// The next draft for one outcome.
struct Prepared {
    /// What the lane's tokens after `base` would be.
    outcome: Vec<u32>,
    sequence: Sequence,
    drafts: Vec<Draft>,
}

impl Ahead {
    pub(super) fn new(inner: SameVocabulary) -> Self {
        Ahead {
            inner,
            drafts: Vec::new(),
            base: 0,
            count: 0,
            acceptance: 0.5,
            prepared: Vec::new(),
            hits: 0,
            rounds: 0,
        }
    }

    /// The outcomes to prepare: so many drafts accepted, then one of the drafter's other favourites.
    fn outcomes(&mut self) -> Result<Vec<(usize, u32)>, Error> {
        let branches = fan_out(self.acceptance, self.drafts.len(), BUDGET);
        let mut outcomes = Vec::new();
        for (accepted, wanted) in branches.into_iter().enumerate().filter(|(_, n)| *n > 0) {
            let law = match self.drafts.get(accepted) {
                Some(draft) => draft.law.residual(&SparseLaw::certain(draft.token)),
                None => match self.law_behind_the_drafts()? {
                    Some(law) => law,
                    None => continue,
                },
            };
            let mut favourites: Vec<(u32, f64)> = law.top(wanted).iter().collect();
            favourites.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let eos = |token: &u32| self.inner.is_eos(*token);
            let tokens = favourites.into_iter().map(|(token, _)| token);
            outcomes.extend(tokens.filter(|t| !eos(t)).map(|token| (accepted, token)));
        }
        Ok(outcomes)
    }

    /// What the drafter holds likely after its last draft.
    fn law_behind_the_drafts(&mut self) -> Result<Option<SparseLaw>, Error> {
        let Some(last) = self.drafts.last().map(|draft| draft.token) else {
            return Ok(None);
        };
        if self.inner.is_eos(last) || self.inner.room() == 0 {
            return Ok(None);
        }
        let mut output = StepOutput::new();
        let row = Row {
            sequence: &mut self.inner.sequence,
            tokens: &[last],
            want: Want::Last,
            hooks: None,
        };
        self.inner.engine.step(&mut [row], &mut output)?;
        let start = self.inner.sampler.snapshot();
        let mut mask = match &self.inner.mask {
            Some(mask) => mask.fork().ok(),
            None => None,
        };
        for draft in &self.drafts {
            self.inner.sampler.commit(draft.token);
            if let Some(mask) = &mut mask {
                mask.commit(draft.token)?;
            }
        }
        let allowed = match &mut mask {
            Some(mask) => mask.mask()?,
            None => None,
        };
        let line = output.last_mut(0).unwrap_or_default();
        let law = SparseLaw::of(&self.inner.sampler.law(line, allowed)?);
        self.inner.sampler.rollback(&start)?;
        Ok(Some(law))
    }

    /// Drafts for one outcome, in a fork of the drafter's sequence.
    fn prepare_one(&mut self, accepted: usize, token: u32) -> Result<(), Error> {
        let mut outcome: Vec<u32> = self.drafts[..accepted].iter().map(|d| d.token).collect();
        outcome.push(token);
        let mut sequence = self.inner.sequence.fork();
        sequence.truncate(self.base + accepted);
        let held = sequence.len().saturating_sub(self.base);
        let fresh = outcome[held.min(outcome.len())..].to_vec();
        let start = self.inner.sampler.snapshot();
        let mask = self.inner.mask.take();
        let mut ahead = match &mask {
            Some(mask) => mask.fork().ok(),
            None => None,
        };
        for token in &outcome {
            self.inner.sampler.commit(*token);
            if let Some(mask) = &mut ahead {
                mask.commit(*token)?;
            }
        }
        std::mem::swap(&mut self.inner.sequence, &mut sequence);
        self.inner.mask = ahead;
        let always = DraftLength::new(Default::default())?;
        let drafts = self.inner.run(fresh, self.count, &always);
        std::mem::swap(&mut self.inner.sequence, &mut sequence);
        self.inner.mask = mask;
        self.inner.sampler.rollback(&start)?;
        self.prepared.push(Prepared {
            outcome,
            sequence,
            drafts: drafts?,
        });
        Ok(())
    }
}

impl Drafter for Ahead {
    fn draft(
        &mut self,
        lane: &Lane,
        count: usize,
        length: &DraftLength,
    ) -> Result<Vec<Draft>, Error> {
        let tokens = lane.sampler.tokens();
        let known = self.base.min(tokens.len());
        let found = self
            .prepared
            .iter()
            .position(|prepared| prepared.outcome == tokens[known..]);
        self.rounds += usize::from(!self.prepared.is_empty());
        let ready = found.map(|at| self.prepared.swap_remove(at));
        self.prepared.clear();
        self.drafts = match ready {
            Some(mut ready) if !ready.drafts.is_empty() => {
                self.hits += 1;
                self.inner.sequence = ready.sequence;
                self.inner.follow_history(lane);
                ready.drafts.truncate(count);
                ready.drafts
            }
            _ => {
                let fresh = self.inner.follow(lane);
                self.inner.run(fresh, count, length)?
            }
        };
        self.base = tokens.len();
        self.count = count;
        self.acceptance = length.acceptance();
        Ok(self.drafts.clone())
    }

    fn begin_behind(&mut self, tokens: usize) {
        self.inner.begin_behind(tokens);
    }

    fn cost(&self) -> f64 {
        self.inner.cost()
    }

    fn works_ahead(&self) -> bool {
        !self.drafts.is_empty() && !self.inner.shares_threads
    }

    fn prepare(&mut self) -> Result<(), Error> {
        for (accepted, token) in self.outcomes()? {
            self.prepare_one(accepted, token)?;
        }
        Ok(())
    }

    fn report(&self, warnings: &mut Vec<Warning>) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.inner.shares_threads {
            let message = "ssd ran as speculative decoding: the drafter self takes turns with the model on its threads";
            warnings.push(Warning::new("ssd_degraded", message));
        } else if cores == 1 {
            let message = "ssd has one processor only: drafts ahead of time compete with the model";
            warnings.push(Warning::new("ssd_degraded", message));
        } else if self.rounds > 0 && self.hits == 0 {
            let message = format!(
                "ssd ran as speculative decoding: none of {} rounds ended as prepared",
                self.rounds
            );
            warnings.push(Warning::new("ssd_degraded", message));
        }
    }
}
