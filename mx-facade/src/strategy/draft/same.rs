//! A smaller model of the same vocabulary, drawing by the same chain.

use super::{Drafter, fork};
use crate::error::Error;
use crate::pipeline::lane::{Draft, Lane};
use crate::pipeline::{Plan, TokenMask};
use mx_runtime::engine::{Engine, Row, Sequence, StepOutput, Want};
use mx_sampling::strategy::SparseLaw;
use mx_sampling::strategy::draft_length::DraftLength;
use mx_sampling::{Sampler, Stream};
use std::sync::Arc;

/// First random stream of the drafters; the outputs have those from 0.
const FIRST_STREAM: u64 = 1 << 40;
/// Streams of one lane's drafter.
const STREAMS_A_LANE: u64 = 1 << 32;

/// More streams than a round takes, which gives one token at least: one draft, and those made ahead of time.
const STREAMS_A_TOKEN: u64 = 16;

/// Drafts of a second model.
pub(super) struct SameVocabulary {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) sequence: Sequence,
    pub(super) sampler: Sampler,
    output: StepOutput,
    cost: f64,
    seed: u64,
    /// The next random stream: every draft has a fresh one, since the words of a rejected draft are spent.
    stream: u64,
    eos: Vec<u32>,
    /// Tokens of the target that the draft model may not get, as its context is full.
    limit: usize,
    /// The constraint where the last drafts began.
    pub(super) mask: Option<Box<dyn TokenMask>>,
    pub(super) shares_threads: bool,
}

impl SameVocabulary {
    pub(super) fn new(plan: &Plan, drafter: &Arc<dyn Engine>, lane: usize) -> Result<Self, Error> {
        let engine = Arc::clone(drafter);
        let vocab = engine.config().vocab;
        let mut sampler = Sampler::new(&plan.chain, vocab, plan.settings.seed, FIRST_STREAM)?;
        sampler.observe_prompt(&plan.prompt);
        let parameters = |engine: &Arc<dyn Engine>| engine.config().parameters();
        let whole = parameters(plan.model.engine()).max(1);
        Ok(SameVocabulary {
            sequence: engine.new_sequence(),
            limit: engine.config().max_context,
            engine,
            sampler,
            output: StepOutput::new(),
            cost: (parameters(drafter) as f64 / whole as f64).min(1.0),
            seed: plan.settings.seed,
            stream: FIRST_STREAM + lane as u64 * STREAMS_A_LANE,
            eos: plan.eos_tokens.clone(),
            mask: None,
            shares_threads: false,
        })
    }

    /// Notes that the drafter takes turns with the target on the same threads.
    pub(super) fn sharing_threads(mut self) -> Self {
        self.shares_threads = true;
        self
    }

    pub(super) fn fresh_stream(&mut self) -> Stream {
        self.stream += 1;
        Stream::new(self.seed, self.stream)
    }

    pub(super) fn is_eos(&self, token: u32) -> bool {
        self.eos.contains(&token)
    }

    /// Brings sequence, history and constraint to where the lane is. Returns the tokens that the model has not seen.
    pub(super) fn follow(&mut self, lane: &Lane) -> Vec<u32> {
        let tokens = lane.sampler.tokens();
        let held = self.sequence.tokens().iter().zip(tokens);
        let common = held.take_while(|(a, b)| a == b).count();
        // The last token is stepped again for its logits where the model has seen it.
        let common = common.min(tokens.len().saturating_sub(1));
        self.sequence.truncate(common);
        self.follow_history(lane);
        tokens[common..].to_vec()
    }

    /// Brings history and constraint to where the lane is.
    pub(super) fn follow_history(&mut self, lane: &Lane) {
        let tokens = lane.sampler.tokens();
        for token in &tokens[self.sampler.tokens().len().min(tokens.len())..] {
            self.sampler.commit(*token);
        }
        self.mask = fork(lane);
    }

    /// Room for so many tokens in the draft model.
    pub(super) fn room(&self) -> usize {
        self.limit - self.sequence.len()
    }

    /// Draws up to `count` tokens that follow `fresh`, the tokens that the model has not seen.
    pub(super) fn run(
        &mut self,
        mut fresh: Vec<u32>,
        count: usize,
        length: &DraftLength,
    ) -> Result<Vec<Draft>, Error> {
        let mut uniforms = self.fresh_stream();
        let mut mask = match &self.mask {
            Some(mask) => mask.fork().ok(),
            None => None,
        };
        let start = self.sampler.snapshot();
        let mut drafts = Vec::with_capacity(count);
        let mut confidence = 1.0;
        while drafts.len() < count && fresh.len() <= self.room() && !length.stops(confidence) {
            let row = Row {
                sequence: &mut self.sequence,
                tokens: &fresh,
                want: Want::Last,
                hooks: None,
            };
            self.engine.step(&mut [row], &mut self.output)?;
            let line = self.output.last_mut(0).unwrap_or_default();
            let allowed = match &mut mask {
                Some(mask) => mask.mask()?,
                None => None,
            };
            let law = SparseLaw::of(&self.sampler.law(line, allowed)?);
            let token = law.draw(uniforms.unit()).token;
            confidence *= law.probability(token);
            self.sampler.commit(token);
            if let Some(mask) = &mut mask {
                mask.commit(token)?;
            }
            fresh = vec![token];
            drafts.push(Draft { token, law });
            if self.is_eos(token) {
                break;
            }
        }
        self.sampler.rollback(&start)?;
        Ok(drafts)
    }
}

impl Drafter for SameVocabulary {
    fn draft(
        &mut self,
        lane: &Lane,
        count: usize,
        length: &DraftLength,
    ) -> Result<Vec<Draft>, Error> {
        let fresh = self.follow(lane);
        self.run(fresh, count, length)
    }

    fn begin_behind(&mut self, tokens: usize) {
        self.stream += STREAMS_A_TOKEN * tokens as u64;
    }

    fn cost(&self) -> f64 {
        self.cost
    }
}
