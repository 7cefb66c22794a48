//! Behaviours watched while a text is written: scores of every token, and what is done about drift.

use super::{Vectors, edits, hooks_of, shape};
use crate::error::Error;
use crate::generation::BehaviorReport;
use crate::pipeline::Loaded;
use crate::request::BehaviorWatch;
use mx_runtime::config::ModelConfig;
use mx_runtime::engine::EngineError;
use mx_runtime::hooks::{Capture, Captured, Edit, HookPlan, HookPoint, TokenClass};
use mx_steering::SteeringError;
use mx_steering::apply::{self, Steer, SteeringSpec};
use mx_steering::behaviour::{Correction, Decision, Monitor, Polarity};
use std::sync::Arc;

/// The behaviours of a plan, before any token.
#[derive(Debug, Clone)]
pub(crate) struct Watching {
    /// The edits that act in any case.
    base: Vec<Edit>,
    traced: bool,
    watched: Vec<Watched>,
    config: ModelConfig,
}

#[derive(Debug, Clone)]
struct Watched {
    monitor: Monitor,
    point: HookPoint,
    correction: Vec<Edit>,
    steered: usize,
    discarded: usize,
    /// Whether it asked for the text to be begun again.
    asked: bool,
}

impl Watching {
    /// Reads what a request names.
    ///
    /// # Errors
    /// [`Error::Request`] for a behaviour that is not kept, [`Error::SteeringFile`] for its autoencoder,
    /// [`Error::Steering`] where it does not fit the model.
    pub(crate) fn new(
        watches: &[BehaviorWatch],
        force: Option<bool>,
        vectors: &Vectors,
        model: &Loaded,
        base: &apply::Plan,
        traced: bool,
    ) -> Result<Self, Error> {
        let config = model.config();
        let mut watched = Vec::with_capacity(watches.len());
        for watch in watches {
            let kept = vectors.behaviour(&watch.behavior)?;
            let sae = Arc::new(kept.sae()?);
            let behaviour = Arc::new(kept.behaviour);
            if sae.d_model() != config.d_model {
                return Err(SteeringError::Width {
                    what: format!("behaviour {}", behaviour.name),
                    given: sae.d_model(),
                    wanted: config.d_model,
                }
                .into());
            }
            let monitor = Monitor::new(&behaviour, &sae, watch.options(force))?;
            let correction = match &behaviour.steering_vector_id {
                None => vec![edits::edit(
                    &monitor.edit(apply::TokenClass::FromLastPrompt),
                )],
                Some(id) => linked(id, &monitor, vectors, model)?,
            };
            watched.push(Watched {
                monitor,
                point: edits::point(behaviour.point),
                correction,
                steered: 0,
                discarded: 0,
                asked: false,
            });
        }
        let watching = Watching {
            base: base.edits.iter().map(edits::edit).collect(),
            traced,
            watched,
            config: config.clone(),
        };
        // A place that the model does not have is found before the first token.
        watching.plan()?;
        hooks_of(base, config)?;
        Ok(watching)
    }

    /// Whether a text may be begun again, so that nothing of it can be given out before its end.
    pub(crate) fn may_begin_again(&self) -> bool {
        let regenerates = |watched: &Watched| {
            let options = watched.monitor.options();
            options.correction == Correction::Regenerate && options.max_regenerations > 0
        };
        self.watched.iter().any(regenerates)
    }

    /// The edits of the next step, with what is read there.
    pub(crate) fn plan(&self) -> Result<Arc<HookPlan>, Error> {
        let steering = self.watched.iter().filter(|one| one.monitor.is_steering());
        let corrections = steering.flat_map(|one| one.correction.iter().cloned());
        let edits: Vec<Edit> = self.base.iter().cloned().chain(corrections).collect();
        let mut points: Vec<HookPoint> = self.watched.iter().map(|one| one.point).collect();
        points.sort_unstable();
        points.dedup();
        let captures = points.into_iter().map(|point| Capture {
            point,
            tokens: TokenClass::GeneratedOnly,
        });
        let plan = HookPlan::new(edits, captures, &self.config).map_err(EngineError::from)?;
        Ok(Arc::new(match self.traced {
            true => plan.watched(),
            false => plan,
        }))
    }

    /// Looks at what was read in row `row` of a step, token by token; tells whether the text is to be begun again.
    pub(crate) fn observe(&mut self, captured: &[Captured], row: usize) -> Result<bool, Error> {
        let mut again = false;
        let width = self.config.d_model;
        let acting: Vec<Vec<f32>> = self
            .watched
            .iter()
            .map(|watched| self.pushed_at(watched.point, width))
            .collect();
        for (watched, push) in self.watched.iter_mut().zip(acting) {
            let here = |read: &&Captured| {
                read.row == row && read.point == watched.point && !read.before_edits
            };
            let Some(read) = captured.iter().find(here) else {
                continue;
            };
            for line in read.values.chunks_exact(width) {
                watched.steered += usize::from(watched.monitor.is_steering());
                let before: Vec<f32> = line.iter().zip(&push).map(|(x, p)| x - p).collect();
                watched.asked |= watched.monitor.observe(&before)? == Decision::Regenerate;
            }
            again |= watched.asked;
        }
        Ok(again)
    }

    /// What the corrections in force add at a place. They are no part of what is judged: a text that is held back
    /// would otherwise look as if it needed no holding back.
    fn pushed_at(&self, point: HookPoint, width: usize) -> Vec<f32> {
        let mut push = vec![0.0; width];
        let steering = self.watched.iter().filter(|one| one.monitor.is_steering());
        let terms = steering
            .flat_map(|one| &one.correction)
            .filter(|edit| edit.point == point)
            .flat_map(|edit| &edit.terms)
            .filter(|term| term.b == 0.0);
        for term in terms {
            push.iter_mut()
                .zip(&term.w)
                .for_each(|(sum, w)| *sum += term.a * w);
        }
        push
    }

    /// Begins the text again, steered, after so many tokens in vain.
    pub(crate) fn restart(&mut self, tokens: usize) {
        for watched in &mut self.watched {
            watched.discarded += tokens;
            watched.steered = 0;
            match std::mem::take(&mut watched.asked) {
                true => watched.monitor.restart(),
                false => watched.monitor.reset(),
            }
        }
    }

    /// What was seen.
    pub(crate) fn reports(&self) -> Vec<BehaviorReport> {
        let report = |watched: &Watched| BehaviorReport {
            behavior: watched.monitor.behaviour().name.clone(),
            scores: watched.monitor.history().to_vec(),
            steered_tokens: watched.steered,
            regenerations: watched.monitor.regenerations(),
            discarded_tokens: watched.discarded,
        };
        self.watched.iter().map(report).collect()
    }
}

/// The correction by a stored vector.
fn linked(
    id: &str,
    monitor: &Monitor,
    vectors: &Vectors,
    model: &Loaded,
) -> Result<Vec<Edit>, Error> {
    let sign = match monitor.options().polarity {
        Polarity::Suppress => -1.0,
        Polarity::Maintain => 1.0,
    };
    let steer = Steer::new(id)
        .strength(sign * monitor.options().strength)
        .tokens(apply::TokenClass::FromLastPrompt);
    let mut resolve = |reference: &str| vectors.find(reference, model).map_err(Into::into);
    let plan = SteeringSpec::from(steer).compile(&shape(model), 0, &mut resolve)?;
    Ok(plan.edits.iter().map(edits::edit).collect())
}
