//! Who proposes tokens: the text so far, a smaller model of the same vocabulary, or one of another.
//!
//! Whatever is proposed, the target decides: a bad draft costs time and never changes the law of the output.

mod ahead;
mod lookup;
mod same;
mod translated;

pub(super) use lookup::Lookup;

use crate::error::Error;
use crate::generation::Warning;
use crate::pipeline::lane::{Draft, Lane};
use crate::pipeline::{Loaded, Plan, TokenMask};
use crate::request::Drafts;
use mx_sampling::strategy::draft_length::DraftLength;

/// The share of its blocks that a model drafts with, unless the request says how many: one in so many.
const EARLY_EXIT_SHARE: usize = 3;

/// Proposes the tokens of one lane.
pub(super) trait Drafter: Send {
    /// Up to `count` tokens that may come next, each with the law it was drawn from.
    fn draft(
        &mut self,
        lane: &Lane,
        count: usize,
        length: &DraftLength,
    ) -> Result<Vec<Draft>, Error>;

    /// Cost of one drafted token as a share of a step of the target, as far as it is known beforehand.
    fn cost(&self) -> f64;

    /// Says that the lane begins behind so many tokens of an earlier run, whose random numbers are spent.
    fn begin_behind(&mut self, _tokens: usize) {}

    /// How a round went.
    fn observe(&mut self, _drafted: usize, _accepted: usize) {}

    /// Whether [`prepare`](Drafter::prepare) is to be called while the target verifies.
    fn works_ahead(&self) -> bool {
        false
    }

    /// Drafts for likely outcomes of the verification that is under way.
    fn prepare(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// What the caller should know at the end.
    fn report(&self, _warnings: &mut Vec<Warning>) {}
}

/// A model that drafts: token by token where it shares the target's vocabulary, through its text otherwise.
pub(super) fn model(
    plan: &Plan,
    drafter: &Loaded,
    lane: usize,
    ahead: bool,
) -> Result<Box<dyn Drafter>, Error> {
    if plan.union.is_none() && same_vocabulary(&plan.model, drafter) {
        let same = same::SameVocabulary::new(plan, drafter.engine(), lane)?;
        return Ok(match ahead {
            true => Box::new(ahead::Ahead::new(same)),
            false => Box::new(same),
        });
    }
    let own = translated::tokenizer_of(drafter)?;
    let translated = translated::Translated::new(plan, drafter.engine(), own, ahead)?;
    Ok(Box::new(translated))
}

/// The first blocks of the model itself, with its final norm and head.
pub(super) fn early_exit(
    plan: &Plan,
    drafts: &Drafts,
    lane: usize,
) -> Result<Box<dyn Drafter>, Error> {
    let whole = plan.model.config().layers;
    if whole < 2 {
        let reason = "the model has one block only, so there is none to leave out";
        return Err(Error::unsupported("the drafter self", reason));
    }
    let layers = drafts.layers.unwrap_or((whole / EARLY_EXIT_SHARE).max(1));
    if layers == 0 || layers >= whole {
        let wanted = format!("1 to {}: the model has {whole} blocks", whole - 1);
        return Err(Error::request("draft_layers", layers, wanted));
    }
    let engine = plan.model.engine().early_exit(layers).ok_or_else(|| {
        Error::unsupported("the drafter self", "the engine cannot share its weights")
    })?;
    if plan.union.is_some() {
        let own = translated::tokenizer_of(&plan.model)?;
        let translated = translated::Translated::new(plan, &engine, own, drafts.ahead)?;
        return Ok(Box::new(translated));
    }
    let same = same::SameVocabulary::new(plan, &engine, lane)?;
    Ok(match drafts.ahead {
        true => Box::new(ahead::Ahead::new(same.sharing_threads())),
        false => Box::new(same),
    })
}

/// Whether every token stands for the same bytes in both models.
pub(crate) fn same_vocabulary(a: &Loaded, b: &Loaded) -> bool {
    if a.config().vocab != b.config().vocab {
        return false;
    }
    match (a.tokenizer(), b.tokenizer()) {
        (Some(a), Some(b)) => {
            a.vocab_size() == b.vocab_size()
                && (0..a.vocab_size() as u32)
                    .all(|token| a.token_bytes(token) == b.token_bytes(token))
        }
        // Models without a tokenizer are taken at their word.
        (None, None) => true,
        _ => false,
    }
}

/// A copy of a lane's constraint that can go ahead of it; `None` where there is no constraint, or one that cannot be
/// copied (its drafts may then be refused by the target, which costs time only).
fn fork(lane: &Lane) -> Option<Box<dyn TokenMask>> {
    lane.mask.as_ref().and_then(|mask| mask.fork().ok())
}
