//! Speculative decoding: accepting drafted tokens without changing the law of the target.
//!
//! Target laws `p` and draft laws `q` are those after the whole chain (penalties that depend on the drafted
//! prefix, masks advanced along the draft). A draft token x is accepted iff `u < p(x)/q(x)`; at the first
//! rejection the token comes from the residual `max(p − q, 0)`, and if all are accepted from the target law
//! behind them (Leviathan 2022 Alg. 1; Chen 2023 Alg. 2). The output law is the target law exactly. The
//! comparison is strict: `<=` would accept a token of probability 0 when `u = 0`.
//!
//! Every decision takes one uniform: one per examined draft, one for the final token.
//!
//! The functions that decide ([`verify`], [`verify_candidates`], [`verify_tree`]) check every law they look at and
//! take it as normalised, whatever it sums to. Those that only calculate ([`accept_probability`], [`residual`],
//! [`acceptance_rate`]) expect laws that sum to 1.

use crate::draw::{check_law, inverse_cdf};
use crate::error::SamplingError;

/// The law that a drafted token was drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum DraftLaw<'a> {
    /// Drawn from these probabilities, one per token of the vocabulary.
    Drawn(&'a [f64]),
    /// Proposed without chance (lookup, n-grams): accepted with probability `p(x)`.
    Certain,
}

impl DraftLaw<'_> {
    fn probability(&self, token: usize) -> f64 {
        match self {
            Self::Drawn(q) => q.get(token).copied().unwrap_or(0.0),
            Self::Certain => 1.0,
        }
    }
}

/// A drafted token and the law it was drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draft<'a> {
    /// The token.
    pub token: u32,
    /// Its law.
    pub law: DraftLaw<'a>,
}

/// What a verification decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// How many drafts were accepted.
    pub accepted: usize,
    /// The token after them: from the residual after a rejection, otherwise from the next target law.
    pub token: u32,
    /// The law that `token` was drawn from, not normalised.
    pub law: Vec<f64>,
}

/// `min(1, p(x)/q(x))`; 0 when the target excludes the token, or when either is no number.
///
/// ```
/// use mx_sampling::strategy::speculative::{DraftLaw, accept_probability};
///
/// let (p, q) = ([0.5, 0.5], [0.25, 0.75]);
/// assert_eq!(accept_probability(&p, DraftLaw::Drawn(&q), 0), 1.0);
/// assert_eq!(accept_probability(&p, DraftLaw::Drawn(&q), 1), 0.5 / 0.75);
/// assert_eq!(accept_probability(&p, DraftLaw::Certain, 1), 0.5);
/// ```
#[must_use]
pub fn accept_probability(p: &[f64], q: DraftLaw<'_>, token: u32) -> f64 {
    let token = token as usize;
    let target = p.get(token).copied().unwrap_or(0.0);
    let draft = q.probability(token);
    ratio(target, draft)
}

/// `min(1, p/q)`, 0 for `p = 0`, 1 for `q = 0` and a positive `p`.
fn ratio(p: f64, q: f64) -> f64 {
    if p.is_nan() || q.is_nan() || p <= 0.0 {
        0.0
    } else if q <= 0.0 {
        1.0
    } else {
        (p / q).min(1.0)
    }
}

/// `Σ min(p, q)`, the chance that a token drawn from `q` is accepted.
#[must_use]
pub fn acceptance_rate(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.min(*q)).sum()
}

/// The law after a rejection, normalised: `max(p − q, 0)`, or `p` without the token for a certain draft.
///
/// When nothing is left (`p = q` up to rounding) it is `p`.
#[must_use]
pub fn residual(p: &[f64], q: DraftLaw<'_>, token: u32) -> Vec<f64> {
    let mut rest: Vec<f64> = match q {
        DraftLaw::Drawn(q) => p
            .iter()
            .enumerate()
            .map(|(i, p)| (p - q.get(i).copied().unwrap_or(0.0)).max(0.0))
            .collect(),
        DraftLaw::Certain => {
            let mut rest = p.to_vec();
            if let Some(slot) = rest.get_mut(token as usize) {
                *slot = 0.0;
            }
            rest
        }
    };
    if rest.iter().sum::<f64>() <= 0.0 {
        rest = p.to_vec();
    }
    normalise(&mut rest);
    rest
}

/// Verifies a chain of drafts. `target[i]` is the law at the position of draft `i`; the one after the last
/// draft stands at the end.
///
/// # Errors
///
/// [`SamplingError::Length`] unless there is one target law more than drafts, and for a draft law of another length than
/// the target's; [`SamplingError::InvalidLaw`] for a law that cannot be drawn from.
pub fn verify<P: AsRef<[f64]>>(
    target: &[P],
    drafts: &[Draft<'_>],
    mut uniform: impl FnMut() -> f64,
) -> Result<Verified, SamplingError> {
    if target.len() != drafts.len() + 1 {
        return Err(SamplingError::Length {
            name: "target",
            given: target.len(),
            wanted: drafts.len() + 1,
        });
    }
    for (accepted, (p, draft)) in target.iter().zip(drafts).enumerate() {
        let p = p.as_ref();
        let total = check_law("target", p)?;
        let draft_total = check_draft(draft.law, p.len())?;
        let probability = p.get(draft.token as usize).map_or(0.0, |p| p / total);
        let drafted = draft.law.probability(draft.token as usize) / draft_total;
        if uniform() < ratio(probability, drafted) {
            continue;
        }
        let p = scaled(p, total);
        let law = match draft.law {
            DraftLaw::Drawn(q) => {
                residual(&p, DraftLaw::Drawn(&scaled(q, draft_total)), draft.token)
            }
            DraftLaw::Certain => residual(&p, DraftLaw::Certain, draft.token),
        };
        let token = draw(&law, uniform())?;
        return Ok(Verified {
            accepted,
            token,
            law,
        });
    }
    let law = target[drafts.len()].as_ref().to_vec();
    let token = draw(&law, uniform())?;
    Ok(Verified {
        accepted: drafts.len(),
        token,
        law,
    })
}

/// Checks a draft law for a vocabulary; returns its sum.
fn check_draft(law: DraftLaw<'_>, vocab: usize) -> Result<f64, SamplingError> {
    match law {
        DraftLaw::Certain => Ok(1.0),
        DraftLaw::Drawn(q) if q.len() != vocab => Err(SamplingError::Length {
            name: "draft",
            given: q.len(),
            wanted: vocab,
        }),
        DraftLaw::Drawn(q) => check_law("draft", q),
    }
}

/// The law divided by its sum.
fn scaled(law: &[f64], total: f64) -> Vec<f64> {
    law.iter().map(|p| p / total).collect()
}

/// Verifies drafts at temperature 0: accepted while they equal the argmax of the target.
///
/// `argmax[i]` is the target's choice at the position of draft `i`, with one more after the last draft.
/// Returns how many are accepted and the token after them.
///
/// # Errors
///
/// [`SamplingError::Length`] unless there is one argmax more than drafts.
pub fn verify_greedy(argmax: &[u32], drafts: &[u32]) -> Result<(usize, u32), SamplingError> {
    if argmax.len() != drafts.len() + 1 {
        return Err(SamplingError::Length {
            name: "argmax",
            given: argmax.len(),
            wanted: drafts.len() + 1,
        });
    }
    let accepted = argmax
        .iter()
        .zip(drafts)
        .take_while(|(target, draft)| target == draft)
        .count();
    Ok((accepted, argmax[accepted]))
}

/// How the candidates of one position were drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replacement {
    /// Independently, from the same law.
    With,
    /// One after the other, each from the law without those before it, renormalised.
    Without,
}

/// What a verification of several candidates for one position decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The candidate that was accepted; `None` when the token comes from the last residual.
    pub accepted: Option<usize>,
    /// The token.
    pub token: u32,
    /// The acceptance probability of every candidate that was examined.
    pub accept_probabilities: Vec<f64>,
    /// The law left after all rejections, from which `token` was drawn if none was accepted.
    pub residual: Vec<f64>,
}

/// Tries several candidates for one position in turn, taking the residual as the target after each
/// rejection (SpecInfer 2023). Exact for candidates drawn as `replacement` says.
///
/// # Errors
///
/// [`SamplingError::InvalidLaw`] for a law that cannot be drawn from, [`SamplingError::Length`] for laws of
/// different lengths.
pub fn verify_candidates(
    p: &[f64],
    q: &[f64],
    candidates: &[u32],
    replacement: Replacement,
    mut uniform: impl FnMut() -> f64,
) -> Result<Chosen, SamplingError> {
    check_law("p", p)?;
    check_law("q", q)?;
    if p.len() != q.len() {
        return Err(SamplingError::Length {
            name: "q",
            given: q.len(),
            wanted: p.len(),
        });
    }
    let mut target = p.to_vec();
    let mut draft = q.to_vec();
    normalise(&mut target);
    normalise(&mut draft);
    let mut accept_probabilities = Vec::with_capacity(candidates.len());
    for (index, &token) in candidates.iter().enumerate() {
        let law = DraftLaw::Drawn(&draft);
        let accept = accept_probability(&target, law, token);
        accept_probabilities.push(accept);
        if uniform() < accept {
            return Ok(Chosen {
                accepted: Some(index),
                token,
                accept_probabilities,
                residual: target,
            });
        }
        target = residual(&target, law, token);
        if replacement == Replacement::Without {
            if let Some(slot) = draft.get_mut(token as usize) {
                *slot = 0.0;
            }
            normalise(&mut draft);
        }
    }
    let token = draw(&target, uniform())?;
    Ok(Chosen {
        accepted: None,
        token,
        accept_probabilities,
        residual: target,
    })
}

/// The chance that one of `n` independent candidates is accepted.
#[must_use]
pub fn accept_any_probability(p: &[f64], q: &[f64], n: usize) -> f64 {
    let mut target = p.to_vec();
    let mut rejected = 1.0;
    for _ in 0..n {
        rejected *= 1.0 - acceptance_rate(&target, q);
        target = residual(&target, DraftLaw::Drawn(q), 0);
    }
    1.0 - rejected
}

/// The draft law with its `top` most likely tokens damped by `factor` and renormalised, so that the residual
/// falls on tokens for which the next draft is prepared already ("Saguaro sampling", Kumar 2026). Draw from
/// this law **and** verify against it; then the output law stays the target's.
///
/// # Errors
///
/// [`SamplingError::OutOfRange`] for a factor outside `(0, 1]`, [`SamplingError::InvalidLaw`] for a law that
/// cannot be drawn from.
pub fn damped_draft_law(q: &[f64], top: usize, factor: f64) -> Result<Vec<f64>, SamplingError> {
    SamplingError::check(factor > 0.0 && factor <= 1.0, "factor", factor, "in (0, 1]")?;
    check_law("q", q)?;
    let mut order: Vec<usize> = (0..q.len()).collect();
    order.sort_by(|a, b| q[*b].total_cmp(&q[*a]).then(a.cmp(b)));
    let mut law = q.to_vec();
    order
        .iter()
        .take(top)
        .for_each(|token| law[*token] *= factor);
    normalise(&mut law);
    Ok(law)
}

/// A node of a tree of drafts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TreeNode<'a> {
    /// The node before it; `None` for a child of the root. Parents stand before their children.
    pub parent: Option<usize>,
    /// The drafted token.
    pub token: u32,
    /// The law the token was drawn from: that of its siblings too.
    pub law: DraftLaw<'a>,
}

/// What the verification of a tree decided.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedPath {
    /// The accepted nodes, from the root down.
    pub path: Vec<usize>,
    /// The token after them.
    pub token: u32,
}

/// Verifies a tree of drafts: at each node its children are tried in order as candidates, and the accepted
/// one is descended into.
///
/// `target(None)` is the law at the root, `target(Some(node))` the law behind a node. Siblings drawn from
/// the same law are taken as drawn by `replacement`; certain drafts are removed from the target one by one.
///
/// # Errors
///
/// [`SamplingError::InvalidLaw`] for a law that cannot be drawn from, [`SamplingError::Length`] for a draft law of
/// another length than the target's, [`SamplingError::OutOfRange`] for a parent that does not stand before its child.
pub fn verify_tree<'t, 'n>(
    nodes: &'n [TreeNode<'n>],
    mut target: impl FnMut(Option<usize>) -> &'t [f64],
    replacement: Replacement,
    mut uniform: impl FnMut() -> f64,
) -> Result<VerifiedPath, SamplingError> {
    for (index, node) in nodes.iter().enumerate() {
        let parent = node.parent.map_or(-1.0, |parent| parent as f64);
        SamplingError::check(
            parent < index as f64,
            "parent",
            parent,
            "an index before the node",
        )?;
    }
    let mut path = Vec::new();
    let mut at = None;
    loop {
        let mut law = target(at).to_vec();
        check_law("target", &law)?;
        normalise(&mut law);
        let mut tried: Vec<u32> = Vec::new();
        let mut accepted = None;
        for (index, node) in nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.parent == at)
        {
            check_draft(node.law, law.len())?;
            let left: Vec<f64>;
            let draft = match node.law {
                DraftLaw::Drawn(q) => {
                    let out = match replacement {
                        Replacement::With => &[][..],
                        Replacement::Without => &tried,
                    };
                    left = law_without(q, out);
                    DraftLaw::Drawn(&left)
                }
                DraftLaw::Certain => DraftLaw::Certain,
            };
            if uniform() < accept_probability(&law, draft, node.token) {
                accepted = Some(index);
                break;
            }
            law = residual(&law, draft, node.token);
            tried.push(node.token);
        }
        match accepted {
            Some(index) => {
                path.push(index);
                at = Some(index);
            }
            None => {
                return Ok(VerifiedPath {
                    path,
                    token: draw(&law, uniform())?,
                });
            }
        }
    }
}

/// The law without some tokens, normalised.
fn law_without(q: &[f64], tried: &[u32]) -> Vec<f64> {
    let mut law = q.to_vec();
    for &token in tried {
        if let Some(slot) = law.get_mut(token as usize) {
            *slot = 0.0;
        }
    }
    normalise(&mut law);
    law
}

/// Divides by the sum, when it is positive.
pub(crate) fn normalise(law: &mut [f64]) {
    let sum: f64 = law.iter().sum();
    if sum > 0.0 {
        law.iter_mut().for_each(|p| *p /= sum);
    }
}

fn draw(law: &[f64], u: f64) -> Result<u32, SamplingError> {
    let total = check_law("law", law)?;
    Ok(inverse_cdf(law, u * total) as u32)
}
