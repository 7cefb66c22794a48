//! What became of one token at one step.

use super::{LAW_TOKENS, Likely, TokenSource, Trace, TraceError};
use crate::client::Client;
use crate::error::Error;
use crate::pipeline::TokenMask;
use mx_sampling::strategy::SparseLaw;
use mx_sampling::{Explanation, Sampler};
use serde::{Deserialize, Serialize};

/// What became of a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Why {
    /// The step, from 0.
    pub step: usize,
    /// The token asked about.
    pub asked: Named,
    /// The token that came.
    pub chosen: Named,
    /// How that one was found.
    pub source: TokenSource,
    /// The token asked about under the model's own law; `None` where the model was not asked.
    pub raw: Option<Standing>,
    /// The stages in their order, with where the token stood before each of them.
    pub stages: Vec<CutBy>,
    /// The token under the law that was drawn from; `None` where it was removed before.
    pub last: Option<Standing>,
    /// The most likely tokens of that law.
    pub law: Vec<Likely>,
    /// What the constraint says against it.
    pub constraint: Option<String>,
    /// The random number that decided.
    pub uniform: Option<f64>,
    /// The part of 0 to 1 that would have drawn it, of the law in the order of the ids.
    pub interval: Option<[f64; 2]>,
    /// The short answer.
    pub verdict: Verdict,
}

/// A token with its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The id.
    pub token: u32,
    /// Its text; a token that is only part of a character gives U+FFFD.
    pub text: String,
}

/// Where a token stands in a law.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its rank, from 0 for the most likely; lower ids first on ties.
    pub rank: usize,
    /// Its probability.
    pub probability: f64,
}

/// One stage, and where the token stood before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CutBy {
    /// The stage, for example `mask` or `top_p`.
    pub stage: String,
    /// Where the token stood before it; `None` when it was out already.
    pub before: Option<Standing>,
    /// Whether this stage removed it.
    pub removed: bool,
}

/// The short answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It is the token that came.
    Chosen,
    /// The constraint left another one without a choice.
    NotForced,
    /// The model itself gave it no probability at all.
    ByModel,
    /// This stage removed it.
    RemovedBy(String),
    /// It was still there, and the draw fell on another.
    NotDrawn,
    /// It was still there, and another one was more likely where the most likely is taken.
    NotTheMostLikely,
    /// A search ranked a hypothesis with another token higher.
    Outranked,
}

/// Asks what became of a token at a step of a trace, by running the request again up to there and looking closely. The
/// models are those of the client; `token` is an id, or a text that is one token.
///
/// # Errors
/// [`TraceError`] for a step or token that does not exist, [`Error::Unsupported`] for a trace that cannot be repeated.
pub fn why(client: &Client, trace: &Trace, token: &str, step: usize) -> Result<Why, Error> {
    super::replay::repeatable(trace)?;
    let Some(recorded) = trace.steps.get(step) else {
        let steps = trace.steps.len();
        return Err(TraceError::NoSuchStep { given: step, steps }.into());
    };
    let mut run = client.repeat(trace)?;
    let asked = run.named(token)?;
    run.probe(trace.stream, Probe::new(asked.token, step));
    // A search hands its tokens out at the end; everything else can stop behind the step.
    while run.probed().is_none()
        && let Some(chunk) = run.next()
    {
        chunk?;
    }
    let Some((seen, chosen, source)) = run.probed() else {
        return Err(TraceError::NotReached { step }.into());
    };
    if chosen != recorded.token {
        return Err(TraceError::NotReached { step }.into());
    }
    let chosen = run.plan().name(chosen);
    Ok(seen.clone().answer(step, asked, chosen, source))
}

/// A close look at one step.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    token: u32,
    pub(crate) step: usize,
    pub(crate) seen: Option<Seen>,
}

/// What was seen of the token at its step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    raw: Option<Standing>,
    stages: Vec<CutBy>,
    last: Option<Standing>,
    law: Vec<Likely>,
    interval: Option<[f64; 2]>,
    constraint: Option<String>,
    greedy: bool,
    pub(crate) uniform: Option<f64>,
}

impl Probe {
    pub(crate) fn new(token: u32, step: usize) -> Self {
        Probe {
            token,
            step,
            seen: None,
        }
    }

    /// Looks at a row of logits through a copy of the sampler, before the real one takes them.
    pub(crate) fn look(
        &mut self,
        sampler: &Sampler,
        line: &[f32],
        mask: Option<&mut Box<dyn TokenMask>>,
        ads: &dyn Fn(&SparseLaw) -> Result<SparseLaw, Error>,
    ) -> Result<(), Error> {
        let mut seen = Seen {
            raw: standing(line, self.token),
            greedy: sampler.is_greedy(),
            ..Seen::default()
        };
        let mut allowed = None;
        if let Some(mask) = mask {
            seen.constraint = mask.why_not(self.token)?;
            allowed = mask.mask()?.map(<[u32]>::to_vec);
        }
        let mut sampler = sampler.clone();
        sampler.set_explain(true);
        sampler.watch(Some(self.token));
        let mut copy = line.to_vec();
        let law = SparseLaw::of(&sampler.law(&mut copy, allowed.as_deref())?);
        if let Some(explanation) = sampler.explanation() {
            seen.stages = stages(explanation, self.token);
        }
        let chosen_from = ads(&law)?;
        if chosen_from != law {
            seen.stages.push(CutBy {
                stage: "ads".to_owned(),
                before: in_law(&law, self.token),
                removed: law.probability(self.token) > 0.0
                    && chosen_from.probability(self.token) <= 0.0,
            });
        }
        seen.last = in_law(&chosen_from, self.token);
        seen.interval = interval(&chosen_from, self.token);
        let mut likely: Vec<(u32, f64)> = chosen_from.top(LAW_TOKENS).iter().collect();
        likely.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        seen.law = likely
            .into_iter()
            .map(|(token, _)| Likely {
                token,
                logprob: chosen_from.probability(token).ln(),
            })
            .collect();
        self.seen = Some(seen);
        Ok(())
    }

    /// Notes a step without logits: only the constraint can say something.
    pub(crate) fn look_without_logits(
        &mut self,
        line: Option<&[f32]>,
        mask: Option<&mut Box<dyn TokenMask>>,
    ) -> Result<(), Error> {
        self.seen = Some(Seen {
            raw: line.and_then(|line| standing(line, self.token)),
            constraint: match mask {
                Some(mask) => mask.why_not(self.token)?,
                None => None,
            },
            ..Seen::default()
        });
        Ok(())
    }
}

impl Seen {
    fn answer(self, step: usize, asked: Named, chosen: Named, source: TokenSource) -> Why {
        let removed = self.stages.iter().find(|stage| stage.removed);
        let verdict = if asked.token == chosen.token {
            Verdict::Chosen
        } else if source == TokenSource::Forced {
            Verdict::NotForced
        } else if self.raw.is_some_and(|raw| raw.probability == 0.0) && removed.is_none() {
            Verdict::ByModel
        } else if let Some(stage) = removed {
            Verdict::RemovedBy(stage.stage.clone())
        } else if self.constraint.is_some() {
            Verdict::RemovedBy("mask".to_owned())
        } else if source == TokenSource::Searched {
            Verdict::Outranked
        } else if self.greedy {
            Verdict::NotTheMostLikely
        } else {
            Verdict::NotDrawn
        };
        Why {
            step,
            asked,
            chosen,
            source,
            raw: self.raw,
            stages: self.stages,
            last: self.last,
            law: self.law,
            constraint: self.constraint,
            uniform: self.uniform,
            interval: self.interval,
            verdict,
        }
    }
}

fn stages(explanation: &Explanation, token: u32) -> Vec<CutBy> {
    let before = explanation.watched().iter().map(|at| {
        at.map(|at| Standing {
            rank: at.rank,
            probability: at.probability,
        })
    });
    let removed = explanation.removed_by(token);
    let mut stages: Vec<CutBy> = explanation
        .steps
        .iter()
        .zip(before)
        .map(|(report, before)| CutBy {
            stage: report.name.to_owned(),
            before,
            removed: removed.is_some_and(|step| std::ptr::eq(step, report)),
        })
        .collect();
    // A stage that ran while the token was out has nothing to say about it.
    if let Some(last) = stages.iter().position(|stage| stage.removed) {
        stages.truncate(last + 1);
    }
    stages
}

/// Where a token stands in the softmax of some logits.
fn standing(line: &[f32], token: u32) -> Option<Standing> {
    let own = *line.get(token as usize)?;
    let max = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = line.iter().map(|x| f64::from(x - max).exp()).sum();
    let ahead = |(id, x): (usize, &f32)| *x > own || (*x == own && id < token as usize);
    Some(Standing {
        rank: line.iter().enumerate().filter(|at| ahead(*at)).count(),
        probability: f64::from(own - max).exp() / sum,
    })
}

fn in_law(law: &SparseLaw, token: u32) -> Option<Standing> {
    let own = law.probability(token);
    let ahead = |(id, p): &(u32, f64)| *p > own || (*p == own && *id < token);
    (own > 0.0).then(|| Standing {
        rank: law.iter().filter(ahead).count(),
        probability: own,
    })
}

fn interval(law: &SparseLaw, token: u32) -> Option<[f64; 2]> {
    let own = law.probability(token);
    let below: f64 = law
        .iter()
        .filter(|(id, _)| *id < token)
        .map(|(_, p)| p)
        .sum();
    (own > 0.0).then_some([below, below + own])
}
