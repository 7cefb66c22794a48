//! Prompt lookup: what followed the last occurrence of the text's ending.

use super::{Drafter, fork};
use crate::error::Error;
use crate::pipeline::lane::{Draft, Lane};
use mx_sampling::strategy::SparseLaw;
use mx_sampling::strategy::draft_length::DraftLength;
use mx_sampling::strategy::drafters::NgramDrafter;

/// Lengths of the endings that are looked up.
const SHORTEST: usize = 1;
const LONGEST: usize = 3;

/// Drafts from prompt and output.
pub(in crate::strategy) struct Lookup(NgramDrafter);

impl Lookup {
    pub(in crate::strategy) fn new() -> Self {
        Lookup(NgramDrafter::new(SHORTEST, LONGEST))
    }
}

impl Drafter for Lookup {
    fn draft(
        &mut self,
        lane: &Lane,
        count: usize,
        _length: &DraftLength,
    ) -> Result<Vec<Draft>, Error> {
        let tokens = lane.sampler.tokens();
        for token in &tokens[self.0.tokens().len().min(tokens.len())..] {
            self.0.push(*token);
        }
        let mut mask = fork(lane);
        let mut drafts = Vec::new();
        for &token in self.0.draft(count) {
            if let Some(mask) = &mut mask {
                if !mask.allows(token)? {
                    break;
                }
                mask.commit(token)?;
            }
            let law = SparseLaw::certain(token);
            drafts.push(Draft { token, law });
            if lane.output.is_eos(token) {
                break;
            }
        }
        Ok(drafts)
    }

    fn cost(&self) -> f64 {
        0.0
    }
}
