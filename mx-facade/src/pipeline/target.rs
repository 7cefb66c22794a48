//! What gives the logits: one model, or several that decide together.

use crate::error::Error;
use crate::pipeline::lane::About;
use crate::request::Voting;
use crate::trace::{SteeringNorm, Vote};
use mx_runtime::engine::{Engine, EngineError, Row, RowHooks, Sequence, StepOutput, Want};
use mx_runtime::hooks::Captured;
use mx_runtime::session::{Cancel, DEFAULT_PREFILL_CHUNK};
use mx_sampling::strategy::ensemble;
use std::sync::Arc;

/// One model or an ensemble, stepped as one.
pub(crate) struct Target {
    members: Vec<Member>,
    /// How the members come to one law; nothing for a single one.
    combine: Option<Combine>,
}

struct Member {
    engine: Arc<dyn Engine>,
    chunk: usize,
    output: StepOutput,
}

/// How an ensemble comes to one row of logits.
pub(crate) struct Combine {
    pub(crate) voting: Voting,
    /// One a member.
    pub(crate) weights: Vec<f64>,
    /// Each member's temperature, over 0.
    pub(crate) temperature: f64,
    /// Names of the members.
    names: Vec<String>,
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
    ) -> Self {
        Combine {
            voting,
            weights,
            temperature,
            names,
            laws: Vec::new(),
            row: Vec::new(),
        }
    }
}

/// The keys and values of one output, in every member.
pub(crate) struct Branch(Vec<Sequence>);

impl Branch {
    /// Tokens computed so far.
    pub(crate) fn len(&self) -> usize {
        self.0.first().map_or(0, Sequence::len)
    }

    /// The last token computed.
    pub(crate) fn last_token(&self) -> Option<u32> {
        self.0.first()?.tokens().last().copied()
    }

    /// The sequence of the main model.
    pub(crate) fn into_main(self) -> Option<Sequence> {
        self.0.into_iter().next()
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.0
            .iter_mut()
            .for_each(|sequence| sequence.truncate(len));
    }

    pub(crate) fn fork(&self) -> Branch {
        Branch(self.0.iter().map(Sequence::fork).collect())
    }
}

/// One row of a step.
pub(crate) struct Ask<'a> {
    pub(crate) branch: &'a mut Branch,
    pub(crate) tokens: &'a [u32],
    pub(crate) want: Want,
    /// Hooks of the main model.
    pub(crate) hooks: Option<RowHooks<'a>>,
}

impl Target {
    /// The members in the order of their weights; the first is the main model.
    pub(crate) fn new(
        engines: impl IntoIterator<Item = Arc<dyn Engine>>,
        combine: Option<Combine>,
    ) -> Self {
        let member = |engine| Member {
            engine,
            chunk: DEFAULT_PREFILL_CHUNK,
            output: StepOutput::new(),
        };
        Target {
            members: engines.into_iter().map(member).collect(),
            combine,
        }
    }

    /// Runs the main model through another handle of its engine, prompts in chunks of so many tokens.
    pub(crate) fn set_main(&mut self, engine: Arc<dyn Engine>, chunk: usize) {
        if let Some(member) = self.members.first_mut() {
            member.engine = engine;
            member.chunk = chunk;
        }
    }

    /// A branch in which the main model holds this sequence.
    pub(crate) fn resume(&self, sequence: Sequence) -> Branch {
        let mut branch = self.new_branch();
        if let Some(main) = branch.0.first_mut() {
            *main = sequence;
        }
        branch
    }

    pub(crate) fn main_chunk(&self) -> Option<usize> {
        self.members.first().map(|member| member.chunk)
    }

    pub(crate) fn main(&self) -> Option<&Arc<dyn Engine>> {
        self.members.first().map(|member| &member.engine)
    }

    pub(crate) fn new_branch(&self) -> Branch {
        let sequences = self
            .members
            .iter()
            .map(|member| member.engine.new_sequence());
        Branch(sequences.collect())
    }

    /// Positions that every member has.
    pub(crate) fn max_context(&self) -> usize {
        let limits = self.members.iter().map(|m| m.engine.config().max_context);
        limits.min().unwrap_or(0)
    }

    /// Appends every row's tokens and computes the wanted logits.
    pub(crate) fn step(&mut self, asks: &mut [Ask<'_>]) -> Result<(), EngineError> {
        for (index, member) in self.members.iter_mut().enumerate() {
            let mut rows: Vec<Row<'_>> = asks
                .iter_mut()
                .filter_map(|ask| {
                    Some(Row {
                        sequence: ask.branch.0.get_mut(index)?,
                        tokens: ask.tokens,
                        want: ask.want,
                        hooks: ask.hooks.filter(|_| index == 0),
                    })
                })
                .collect();
            member.engine.step(&mut rows, &mut member.output)?;
        }
        Ok(())
    }

    /// Computes a prompt as far as the branch does not hold it; its last token always, for its logits, which are those
    /// of row 0. Returns how many tokens were held. When cancelled the branch is as it was, less what differs.
    pub(crate) fn prefill(
        &mut self,
        branch: &mut Branch,
        prompt: &[u32],
        hooks: Option<RowHooks<'_>>,
        cancel: &Cancel,
    ) -> Result<usize, EngineError> {
        let mut cached = prompt.len();
        for (index, member) in self.members.iter_mut().enumerate() {
            let Some(sequence) = branch.0.get_mut(index) else {
                continue;
            };
            let held = sequence.tokens().iter().zip(prompt);
            let common = held.take_while(|(a, b)| a == b).count();
            let common = common.min(prompt.len().saturating_sub(1));
            cached = cached.min(common);
            sequence.truncate(common);
            let limit = member.engine.config().max_context;
            if prompt.len() > limit {
                return Err(EngineError::ContextFull {
                    used: common,
                    wanted: prompt.len() - common,
                    limit,
                });
            }
            let rest = &prompt[common..];
            let chunks = rest.len().div_ceil(member.chunk);
            for (at, tokens) in rest.chunks(member.chunk).enumerate() {
                let row = Row {
                    sequence: &mut *sequence,
                    tokens,
                    want: match at + 1 == chunks {
                        true => Want::Last,
                        false => Want::None,
                    },
                    hooks: hooks.filter(|_| index == 0),
                };
                let stepped = match cancel.is_cancelled() {
                    true => Err(EngineError::Cancelled),
                    false => member.engine.step(&mut [row], &mut member.output),
                };
                if let Err(error) = stepped {
                    sequence.truncate(common);
                    return Err(error);
                }
            }
        }
        Ok(cached)
    }

    /// What was read in the main model in the last step.
    pub(crate) fn captured(&self) -> &[Captured] {
        let main = self.members.first();
        main.map(|main| main.output.captures()).unwrap_or_default()
    }

    /// What a trace says of the line read last: the votes, and what steering changed at the position `behind` places before
    /// the end of row `row` of the last step.
    pub(crate) fn about(&self, row: usize, behind: usize, token: u32) -> About {
        About {
            votes: self
                .combine
                .as_ref()
                .map(|combine| combine.votes(token))
                .unwrap_or_default(),
            steering: self
                .members
                .first()
                .map(|main| steering_norms(main, row, behind))
                .unwrap_or_default(),
        }
    }

    /// Line `index` of row `row` of the last step, to be processed in place. Under a vote, tokens outside `mask` get no
    /// vote.
    pub(crate) fn line(
        &mut self,
        row: usize,
        index: usize,
        mask: Option<&[u32]>,
    ) -> Result<&mut [f32], Error> {
        let Target { members, combine } = self;
        match combine {
            None => Ok(members
                .first_mut()
                .and_then(|member| member.output.line_mut(row, index))
                .unwrap_or_default()),
            Some(combine) => combine.line(members, row, index, mask),
        }
    }
}

impl Combine {
    fn line(
        &mut self,
        members: &[Member],
        row: usize,
        index: usize,
        mask: Option<&[u32]>,
    ) -> Result<&mut [f32], Error> {
        self.laws.clear();
        let lines = members
            .iter()
            .filter_map(|member| member.output.logits(row).get(index));
        for line in lines {
            let mask = mask.filter(|_| self.voting == Voting::Majority);
            self.laws.push(softmax(line, self.temperature, mask));
        }
        let laws: Vec<&[f64]> = self.laws.iter().map(Vec::as_slice).collect();
        self.row.clear();
        match self.voting {
            Voting::Average => {
                let law = ensemble::average(&laws, &self.weights)?;
                self.row.extend(law.iter().map(|p| p.ln() as f32));
            }
            Voting::Product => {
                let law = ensemble::product(&laws, &self.weights)?;
                self.row.extend(law.iter().map(|p| p.ln() as f32));
            }
            Voting::Majority => {
                let winner = ensemble::majority(&laws, &self.weights)?.token;
                let vocab = laws.first().map_or(0, |law| law.len());
                self.row.resize(vocab, f32::NEG_INFINITY);
                self.row[winner as usize] = 0.0;
            }
        }
        Ok(&mut self.row)
    }
}

impl Combine {
    /// What every member held likely in the last line.
    fn votes(&self, chosen: u32) -> Vec<Vote> {
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

/// What the edits of a watched plan changed in one position of a row.
fn steering_norms(main: &Member, row: usize, behind: usize) -> Vec<SteeringNorm> {
    let width = main.engine.config().d_model;
    let of_row = || main.output.captures().iter().filter(move |c| c.row == row);
    let at = |captured: &Captured| -> Vec<f64> {
        let mut lines = captured.values.rchunks_exact(width.max(1)).skip(behind);
        let line = lines.next().unwrap_or_default();
        line.iter().map(|x| f64::from(*x)).collect()
    };
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    of_row()
        .filter(|captured| captured.before_edits)
        .filter_map(|before| {
            let after = of_row().find(|c| !c.before_edits && c.point == before.point)?;
            let (x, y) = (at(before), at(after));
            let change: Vec<f64> = x.iter().zip(&y).map(|(x, y)| y - x).collect();
            Some(SteeringNorm {
                point: before.point.to_string(),
                row: norm(&x),
                change: norm(&change),
            })
        })
        .collect()
}

/// The law of one row of logits at a temperature, among the tokens of the mask.
fn softmax(line: &[f32], temperature: f64, mask: Option<&[u32]>) -> Vec<f64> {
    let allowed = |token: usize| {
        mask.is_none_or(|words| {
            words
                .get(token / 32)
                .is_some_and(|w| w >> (token % 32) & 1 == 1)
        })
    };
    let max = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut law: Vec<f64> = line
        .iter()
        .enumerate()
        .map(|(token, x)| match allowed(token) {
            true => (f64::from(x - max) / temperature).exp(),
            false => 0.0,
        })
        .collect();
    let total: f64 = law.iter().sum();
    law.iter_mut().for_each(|p| *p /= total);
    law
}
