//! A model of another vocabulary: it writes text, and that text becomes tokens of the target.
//!
//! The text is a proposal without chance as far as the target is concerned: each of its tokens is accepted with the
//! target's own probability of it (universal assisted decoding).

use super::{Drafter, fork};
use crate::error::Error;
use crate::generation::Warning;
use crate::pipeline::lane::{Draft, Lane};
use crate::pipeline::{Loaded, Plan};
use mx_runtime::engine::{Engine, Row, Sequence, StepOutput, Want};
use mx_runtime::tokenizer::{Specials, Tokenizer};
use mx_sampling::strategy::SparseLaw;
use mx_sampling::strategy::draft_length::DraftLength;
use std::sync::Arc;

/// Drafts through text.
pub(super) struct Translated {
    engine: Arc<dyn Engine>,
    sequence: Sequence,
    output: StepOutput,
    /// Tokenizers of the target and of the drafter.
    target: Arc<dyn Tokenizer>,
    own: Arc<dyn Tokenizer>,
    cost: f64,
    limit: usize,
    /// Whether drafts ahead of time were asked for, which need a common vocabulary.
    degraded: bool,
}

impl Translated {
    pub(super) fn new(
        plan: &Plan,
        engine: &Arc<dyn Engine>,
        own: Arc<dyn Tokenizer>,
        ahead: bool,
    ) -> Result<Self, Error> {
        let size = |engine: &Arc<dyn Engine>| engine.config().parameters() as f64;
        Ok(Translated {
            sequence: engine.new_sequence(),
            output: StepOutput::new(),
            limit: engine.config().max_context,
            engine: Arc::clone(engine),
            target: match &plan.union {
                Some(union) => union.tokenizer(),
                None => tokenizer_of(&plan.model)?,
            },
            own,
            cost: (size(engine) / size(plan.model.engine()).max(1.0)).min(1.0),
            degraded: ahead,
        })
    }

    /// The most likely continuation of a text, as text.
    fn continuation(&mut self, text: &str, tokens: usize) -> Result<String, Error> {
        let special = self.own.special_tokens();
        let bos = special.bos.filter(|_| special.add_bos);
        let mut wanted: Vec<u32> = bos.into_iter().collect();
        wanted.extend(self.own.encode(text, Specials::AsText)?);
        let held = self.sequence.tokens().iter().zip(&wanted);
        let common = held.take_while(|(a, b)| a == b).count();
        let common = common.min(wanted.len().saturating_sub(1));
        self.sequence.truncate(common);
        let mut fresh = wanted.split_off(common);
        let mut bytes = Vec::new();
        for _ in 0..tokens {
            if fresh.is_empty() || self.sequence.len() + fresh.len() > self.limit {
                break;
            }
            let row = Row {
                sequence: &mut self.sequence,
                tokens: &fresh,
                want: Want::Last,
                hooks: None,
            };
            self.engine.step(&mut [row], &mut self.output)?;
            let line = self.output.last_mut(0).unwrap_or_default();
            let best = (0..self.own.vocab_size().min(line.len()))
                .max_by(|a, b| line[*a].total_cmp(&line[*b]).then(b.cmp(a)));
            let Some(token) = best.map(|token| token as u32) else {
                break;
            };
            if self.own.is_special(token) {
                break;
            }
            bytes.extend_from_slice(self.own.token_bytes(token).unwrap_or_default());
            fresh = vec![token];
        }
        let whole = match std::str::from_utf8(&bytes) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        bytes.truncate(whole);
        Ok(String::from_utf8(bytes).unwrap_or_default())
    }
}

/// The tokenizer of a model whose drafts go through text.
pub(super) fn tokenizer_of(model: &Loaded) -> Result<Arc<dyn Tokenizer>, Error> {
    model.tokenizer().cloned().ok_or_else(|| {
        let reason =
            "the vocabularies of model and draft model differ, and this one has no tokenizer";
        Error::unsupported(format!("draft_model {}", model.name()), reason)
    })
}

impl Drafter for Translated {
    fn draft(
        &mut self,
        lane: &Lane,
        count: usize,
        _length: &DraftLength,
    ) -> Result<Vec<Draft>, Error> {
        let tokens = lane.sampler.tokens();
        let mut bytes = Vec::new();
        for &token in tokens
            .iter()
            .filter(|token| !self.target.is_special(**token))
        {
            bytes.extend_from_slice(self.target.token_bytes(token).unwrap_or_default());
        }
        // A character that is not complete has no text to go on from.
        let Ok(text) = String::from_utf8(bytes) else {
            return Ok(Vec::new());
        };
        let continued = self.continuation(&text, count)?;
        let proposed = self.target.encode(&continued, Specials::AsText)?;
        let mut mask = fork(lane);
        let mut drafts = Vec::with_capacity(proposed.len());
        for token in proposed.into_iter().take(count) {
            if let Some(mask) = &mut mask {
                if !mask.allows(token)? {
                    break;
                }
                mask.commit(token)?;
            }
            let law = SparseLaw::certain(token);
            drafts.push(Draft { token, law });
        }
        Ok(drafts)
    }

    fn cost(&self) -> f64 {
        self.cost
    }

    fn report(&self, warnings: &mut Vec<Warning>) {
        let code = "ssd_degraded";
        if self.degraded && !warnings.iter().any(|warning| warning.code == code) {
            let message = "ssd ran as speculative decoding: drafts ahead of time need a draft model of the same vocabulary";
            warnings.push(Warning::new(code, message));
        }
    }
}
