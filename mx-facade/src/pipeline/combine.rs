//! How the models of an ensemble come to one law.

use super::union::Union;
use crate::error::Error;
use crate::request::Voting;
use crate::trace::Vote;
use mx_sampling::strategy::ensemble;
use std::sync::Arc;

/// How an ensemble comes to one row of logits.
pub(crate) struct Combine {
    pub(crate) voting: Voting,
    /// One a member.
    pub(crate) weights: Vec<f64>,
    /// Each member's temperature, over 0.
    pub(crate) temperature: f64,
    /// Names of the members.
    names: Vec<String>,
    /// The entries of different vocabularies; `None` for one vocabulary.
    union: Option<Arc<Union>>,
    /// The members' laws of the last line.
    laws: Vec<Vec<f64>>,
    /// The combined row.
    row: Vec<f32>,
}

impl Combine {
    pub(crate) fn new(
        voting: Voting,
        weights: Vec<f64>,
        temperature: f64,
        names: Vec<String>,
        union: Option<Arc<Union>>,
    ) -> Self {
        Combine {
            voting,
            weights,
            temperature,
            names,
            union,
            laws: Vec::new(),
            row: Vec::new(),
        }
    }

    /// The row that the members' logits come to, one line a member. Under a vote, tokens outside `mask` get no vote.
    pub(crate) fn line<'a>(
        &mut self,
        lines: impl Iterator<Item = &'a [f32]>,
        mask: Option<&[u32]>,
    ) -> Result<&mut [f32], Error> {
        self.laws.clear();
        let mask = mask.filter(|_| self.voting == Voting::Majority);
        for (member, line) in lines.enumerate() {
            self.laws.push(match &self.union {
                Some(union) => {
                    union.law(member, line, self.temperature, |entry| allows(mask, entry))
                }
                None => softmax(line, self.temperature, mask),
            });
        }
        // A member that has none of the entries allowed has no opinion.
        let heard = |law: &&[f64]| law.iter().any(|p| *p > 0.0);
        let (laws, weights): (Vec<&[f64]>, Vec<f64>) = self
            .laws
            .iter()
            .map(Vec::as_slice)
            .zip(self.weights.iter().copied())
            .filter(|(law, _)| heard(law))
            .unzip();
        self.row.clear();
        match self.voting {
            Voting::Average => {
                let law = ensemble::average(&laws, &weights)?;
                self.row.extend(law.iter().map(|p| p.ln() as f32));
            }
            Voting::Product => {
                let law = ensemble::product(&laws, &weights)?;
                self.row.extend(law.iter().map(|p| p.ln() as f32));
            }
            Voting::Majority => {
                let winner = ensemble::majority(&laws, &weights)?.token;
                let vocab = laws.first().map_or(0, |law| law.len());
                self.row.resize(vocab, f32::NEG_INFINITY);
                self.row[winner as usize] = 0.0;
            }
        }
        Ok(&mut self.row)
    }

    /// What every member held likely in the last line.
    pub(crate) fn votes(&self, chosen: u32) -> Vec<Vote> {
        let members = self.laws.iter().zip(&self.weights).zip(&self.names);
        members
            .map(|((law, weight), name)| {
                let best = (0..law.len()).reduce(|best, id| match law[id] > law[best] {
                    true => id,
                    false => best,
                });
                let best = best.unwrap_or(0);
                Vote {
                    model: name.clone(),
                    weight: *weight,
                    token: best as u32,
                    probability: law.get(best).copied().unwrap_or(0.0),
                    of_chosen: law.get(chosen as usize).copied().unwrap_or(0.0),
                }
            })
            .collect()
    }
}

/// The law of one row of logits at a temperature, among the tokens of the mask.
fn softmax(line: &[f32], temperature: f64, mask: Option<&[u32]>) -> Vec<f64> {
    let max = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut law: Vec<f64> = line
        .iter()
        .enumerate()
        .map(|(token, x)| match allows(mask, token) {
            true => (f64::from(x - max) / temperature).exp(),
            false => 0.0,
        })
        .collect();
    let total: f64 = law.iter().sum();
    law.iter_mut().for_each(|p| *p /= total);
    law
}

fn allows(mask: Option<&[u32]>, token: usize) -> bool {
    mask.is_none_or(|words| {
        words
            .get(token / 32)
            .is_some_and(|w| w >> (token % 32) & 1 == 1)
    })
}
