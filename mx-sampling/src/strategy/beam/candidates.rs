//! The continuations that a round looks at.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::scores::{Scores, block};
use crate::math;
use crate::simd::BLOCK;

/// One continuation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) beam: usize,
    pub(super) token: u32,
    pub(super) score: f64,
    pub(super) ends: bool,
    /// State of the required phrases after it.
    pub(super) bank: u32,
}

impl Candidate {
    fn new(beam: usize, token: usize, score: f64) -> Self {
        Self {
            beam,
            token: token as u32,
            score,
            ends: false,
            bank: 0,
        }
    }
}

/// Score descending, then beam, then token.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.score
        .total_cmp(&a.score)
        .then(a.beam.cmp(&b.beam))
        .then(a.token.cmp(&b.token))
}

/// What a beam may say next, with what it would score then.
pub(super) enum Offer<'a, R> {
    /// Every score, worked out.
    Written { beam: usize, scores: Vec<f64> },
    /// Scores worked out where they are read.
    Read(Reading<'a, R>),
}

/// A row as a beam of a plain search reads it.
pub(super) struct Reading<'a, R> {
    pub(super) beam: usize,
    /// Score of the beam so far.
    pub(super) start: f64,
    pub(super) row: &'a R,
    /// Bits of the allowed tokens; end tokens do not go by them.
    pub(super) mask: Option<Vec<u32>>,
    pub(super) eos_tokens: &'a [u32],
    pub(super) may_end: bool,
}

impl<R: Scores> Offer<'_, R> {
    fn beam(&self) -> usize {
        match self {
            Self::Written { beam, .. } => *beam,
            Self::Read(reading) => reading.beam,
        }
    }

    fn vocab(&self) -> usize {
        match self {
            Self::Written { scores, .. } => scores.len(),
            Self::Read(reading) => reading.row.len(),
        }
    }

    #[inline]
    fn score(&self, token: usize) -> f64 {
        match self {
            Self::Written { scores, .. } => scores[token],
            Self::Read(reading) => reading.score(token),
        }
    }

    /// No score of a block is larger.
    fn bound(&self, block: usize) -> f64 {
        match self {
            Self::Written { .. } => f64::INFINITY,
            Self::Read(reading) => reading.start + reading.row.bound(block),
        }
    }
}

impl<R: Scores> Reading<'_, R> {
    fn score(&self, token: usize) -> f64 {
        let allowed = match self.eos_tokens.contains(&(token as u32)) {
            true => self.may_end,
            false => self.mask.as_ref().is_none_or(|words| is_set(words, token)),
        };
        match allowed {
            true => self.start + self.row.at(token),
            false => f64::NEG_INFINITY,
        }
    }
}

/// Whether the bit of a token is 1.
pub(super) fn is_set(words: &[u32], token: usize) -> bool {
    (words[token / 32] >> (token % 32)) & 1 == 1
}

/// The best `count` continuations of all beams; with required phrases also, per beam, its own best `count`
/// and every token that advances a phrase.
pub(super) fn best<'a, R: Scores>(
    offers: &[Offer<'_, R>],
    count: usize,
    extra: impl Fn(usize) -> &'a [u32],
    out: &mut Vec<Candidate>,
) {
    let mut constrained = false;
    for offer in offers {
        let (beam, first) = (offer.beam(), out.len());
        let wanted = extra(beam);
        constrained |= !wanted.is_empty();
        let advancing: Vec<Candidate> = wanted
            .iter()
            .filter(|token| (**token as usize) < offer.vocab())
            .map(|token| (*token as usize, offer.score(*token as usize)))
            .filter(|(_, score)| *score > f64::NEG_INFINITY)
            .map(|(token, score)| Candidate::new(beam, token, score))
            .collect();
        // Best first; what is no better than the last of enough is passed over with one comparison, whole blocks at
        // once where their bound tells. In the order of the tokens that settles ties too.
        let mut least = f64::NEG_INFINITY;
        for at in 0..offer.vocab().div_ceil(BLOCK) {
            if offer.bound(at) <= least {
                continue;
            }
            for token in block(at, offer.vocab()) {
                let score = offer.score(token);
                if score <= least {
                    continue;
                }
                let own = &out[first..];
                let at = own.partition_point(|other| other.score >= score);
                out.insert(first + at, Candidate::new(beam, token, score));
                out.truncate(first + count);
                if out.len() == first + count
                    && let Some(last) = out.last()
                {
                    least = last.score;
                }
            }
        }
        for candidate in advancing {
            if !out[first..].contains(&candidate) {
                out.push(candidate);
            }
        }
    }
    out.sort_unstable_by(order);
    if !constrained {
        out.truncate(count);
    }
}

/// Draws `count` continuations without replacement from `softmax(score)`, one uniform each, and sorts them. Fewer
/// come when fewer have any weight, none when every row is dead.
pub(super) fn sampled(
    rows: &[(usize, &[f64])],
    count: usize,
    mut uniform: impl FnMut() -> f64,
    out: &mut Vec<Candidate>,
) {
    let max = rows
        .iter()
        .flat_map(|(_, row)| *row)
        .fold(f64::NEG_INFINITY, |max, &x| if x > max { x } else { max });
    if max == f64::NEG_INFINITY {
        return;
    }
    let mut weights: Vec<Vec<f64>> = rows
        .iter()
        .map(|(_, row)| row.iter().map(|x| math::exp(x - max)).collect())
        .collect();
    for _ in 0..count {
        let totals: Vec<f64> = weights.iter().map(|row| row.iter().sum()).collect();
        let total: f64 = totals.iter().sum();
        // NaN has no share to draw either.
        if total.is_nan() || total <= 0.0 {
            break;
        }
        let mut target = uniform() * total;
        let beam = crate::draw::inverse_cdf(&totals, target);
        target -= totals[..beam].iter().sum::<f64>();
        let token = crate::draw::inverse_cdf(&weights[beam], target);
        weights[beam][token] = 0.0;
        out.push(Candidate::new(rows[beam].0, token, rows[beam].1[token]));
    }
    out.sort_unstable_by(order);
}

/// Shares `width` places among the states of the required phrases: equal parts, those of a state with fewer
/// candidates passed on to the best of the others. The order stays that of the scores.
pub(super) fn share(sorted: Vec<Candidate>, width: usize) -> Vec<Candidate> {
    let mut banks: BTreeMap<u32, usize> = BTreeMap::new();
    for candidate in &sorted {
        *banks.entry(candidate.bank).or_insert(0) += 1;
    }
    // With more states than places the states with the best candidates get one each.
    let quota = (width / banks.len().max(1)).max(1);
    let mut taken: BTreeMap<u32, usize> = BTreeMap::new();
    let mut chosen = vec![false; sorted.len()];
    let mut places = width;
    for (slot, candidate) in chosen.iter_mut().zip(&sorted) {
        let taken = taken.entry(candidate.bank).or_insert(0);
        if *taken < quota && places > 0 {
            *slot = true;
            *taken += 1;
            places -= 1;
        }
    }
    for slot in chosen.iter_mut().filter(|slot| !**slot).take(places) {
        *slot = true;
    }
    sorted
        .into_iter()
        .zip(chosen)
        .filter(|(_, chosen)| *chosen)
        .map(|(candidate, _)| candidate)
        .collect()
}
