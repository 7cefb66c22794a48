//! How the next tokens are found: row by row with or without drafts, or by a search over all rows.
//!
//! A decoder owns what the models know (keys and values, drafts); the lanes own what is decided by (sampler chain,
//! constraint, text). Every decoder steps the same [`Target`] and hands tokens to the same lanes, so constraints, steering,
//! ensembles and log-probabilities work under each of them.

mod beam;
mod draft;
mod rows;

pub(crate) use draft::same_vocabulary;

use crate::error::Error;
use crate::generation::Warning;
use crate::pipeline::Plan;
use crate::pipeline::combine::Combine;
use crate::pipeline::lane::Lane;
use crate::pipeline::target::Target;
use crate::request::{Decoding, DrafterKind, Drafts};
use mx_runtime::engine::Engine;
use mx_runtime::session::{Cancel, Session};
use std::sync::Arc;

/// What a round is given besides the lanes.
pub(crate) struct Round<'a> {
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// The prompt as the model sees it.
    pub(crate) prompt: &'a [u32],
    /// Looked at between the chunks of a prompt.
    pub(crate) cancel: &'a Cancel,
}

/// Finds tokens for the lanes.
pub(crate) trait Decoder: Send {
    /// Gives every lane that goes on its next tokens, one or more. The first round computes the prompt and returns how
    /// many of its tokens were held already.
    fn round(&mut self, lanes: &mut [Lane], round: &Round<'_>) -> Result<Option<usize>, Error>;

    /// Goes on from a session of the main model.
    fn resume(&mut self, session: Session);

    /// Begins behind tokens that an earlier run of the same plan gave to the first lane.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a search, which has no tokens before its end.
    fn begin_behind(&mut self, tokens: Vec<u32>) -> Result<(), Error>;

    /// Computes what outputs that ended still need for their log-probabilities.
    ///
    /// # Errors
    /// [`Error`] of the engines.
    fn settle(&mut self, _lanes: &mut [Lane]) -> Result<(), Error> {
        Ok(())
    }

    /// What happened that the caller should know.
    fn report(&self, _warnings: &mut Vec<Warning>) {}

    /// The keys and values of the first lane, for a next run.
    fn into_session(self: Box<Self>, engine: Arc<dyn Engine>) -> Session;
}

/// The decoder of a plan.
pub(crate) fn decoder(plan: &Plan) -> Result<Box<dyn Decoder>, Error> {
    let target = target(plan);
    match &plan.settings.strategy.decoding {
        Decoding::Rows { drafts, .. } => {
            let mut rows = rows::Rows::new(target, plan);
            if let Some(drafts) = drafts {
                for lane in 0..plan.settings.strategy.candidates {
                    rows.add_drafter(drafter(plan, drafts, lane)?, drafts)?;
                }
            }
            Ok(Box::new(rows))
        }
        Decoding::Beam(beam) => Ok(Box::new(beam::BeamDecoder::new(target, plan, beam)?)),
    }
}

fn target(plan: &Plan) -> Target {
    let engines = std::iter::once(&plan.model)
        .chain(&plan.ensemble)
        .map(|model| Arc::clone(model.engine()));
    let combine = plan.settings.strategy.ensemble.as_ref().map(|ensemble| {
        Combine::new(
            ensemble.voting,
            ensemble.weights.clone(),
            plan.member_temperature,
            std::iter::once(&plan.model)
                .chain(&plan.ensemble)
                .map(|model| model.name().to_owned())
                .collect(),
            plan.union.clone(),
        )
    });
    Target::new(engines, combine).over(plan.union.clone(), plan.prompt.len())
}

fn drafter(plan: &Plan, drafts: &Drafts, lane: usize) -> Result<Box<dyn draft::Drafter>, Error> {
    match (drafts.kind, &plan.draft) {
        (DrafterKind::Model, Some(model)) => draft::model(plan, model, lane, drafts.ahead),
        (DrafterKind::EarlyExit, _) => draft::early_exit(plan, drafts, lane),
        _ => Ok(Box::new(draft::Lookup::new())),
    }
}
