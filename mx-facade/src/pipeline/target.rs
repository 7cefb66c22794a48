//! What gives the logits: one model, or several that decide together.

use super::combine::Combine;
use super::union::Union;
use crate::error::Error;
use crate::pipeline::lane::About;
use crate::trace::SteeringNorm;
use mx_runtime::engine::{Engine, EngineError, Row, RowHooks, Sequence, StepOutput, Want};
use mx_runtime::hooks::Captured;
use mx_runtime::session::{Cancel, DEFAULT_PREFILL_CHUNK};
use std::sync::Arc;

/// One model or an ensemble, stepped as one.
pub(crate) struct Target {
    members: Vec<Member>,
    /// How the members come to one law; nothing for a single one.
    combine: Option<Combine>,
    /// What members of different vocabularies need besides.
    mixed: Option<Mixed>,
}

struct Member {
    engine: Arc<dyn Engine>,
    chunk: usize,
    output: StepOutput,
}

/// Members that each read the text in tokens of their own.
struct Mixed {
    union: Arc<Union>,
    prompt_len: usize,
    /// For every member, ask and wanted line, the row and line of the member's own output.
    places: Vec<Vec<Vec<(usize, usize)>>>,
}

/// The keys and values of one output, in every member.
pub(crate) struct Branch {
    sequences: Vec<Sequence>,
    /// Under different vocabularies: the entries so far.
    path: Option<Path>,
}

/// Entries of a union, prompt included.
#[derive(Debug, Clone, Default)]
struct Path {
    entries: Vec<u32>,
    /// Tokens of the main model after each entry.
    ends: Vec<usize>,
}

impl Branch {
    /// Tokens, or entries, computed so far.
    pub(crate) fn len(&self) -> usize {
        match &self.path {
            Some(path) => path.entries.len(),
            None => self.sequences.first().map_or(0, Sequence::len),
        }
    }

    /// The last token, or entry, computed.
    pub(crate) fn last_token(&self) -> Option<u32> {
        match &self.path {
            Some(path) => path.entries.last().copied(),
            None => self.sequences.first()?.tokens().last().copied(),
        }
    }

    /// The sequence of the main model.
    pub(crate) fn into_main(self) -> Option<Sequence> {
        self.sequences.into_iter().next()
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        match &mut self.path {
            None => self.sequences.iter_mut().for_each(|s| s.truncate(len)),
            // The others read the text anew at the next step and find what they hold of it.
            Some(path) => {
                path.entries.truncate(len);
                path.ends.truncate(len);
                let end = path.ends.last().copied().unwrap_or(0);
                if let Some(main) = self.sequences.first_mut() {
                    main.truncate(end);
                }
            }
        }
    }

    pub(crate) fn fork(&self) -> Branch {
        Branch {
            sequences: self.sequences.iter().map(Sequence::fork).collect(),
            path: self.path.clone(),
        }
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
            mixed: None,
        }
    }

    /// Members of different vocabularies, for a prompt of so many tokens of the main model.
    pub(crate) fn over(mut self, union: Option<Arc<Union>>, prompt_len: usize) -> Self {
        self.mixed = union.map(|union| Mixed {
            union,
            prompt_len,
            places: Vec::new(),
        });
        self
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
        if let Some(path) = &mut branch.path {
            path.entries = sequence.tokens().to_vec();
            path.ends = (1..=sequence.len()).collect();
        }
        if let Some(main) = branch.sequences.first_mut() {
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
        Branch {
            sequences: sequences.collect(),
            path: self.mixed.as_ref().map(|_| Path::default()),
        }
    }

    /// Positions that every member has.
    pub(crate) fn max_context(&self) -> usize {
        let limits = self.members.iter().map(|m| m.engine.config().max_context);
        limits.min().unwrap_or(0)
    }

    /// Tokens that still fit behind a branch, less its last `behind` ones, and the tokens `pending`. Under different
    /// vocabularies this counts every byte as a token, since a member may have to spell it out.
    pub(crate) fn room(&self, branch: &Branch, behind: usize, pending: &[u32]) -> usize {
        match &self.mixed {
            None => {
                let used = branch.len() - behind.min(branch.len()) + pending.len();
                self.max_context().saturating_sub(used)
            }
            Some(mixed) => {
                let pending = mixed.union.text(pending).len();
                let free = self.members.iter().zip(&branch.sequences).map(|(m, s)| {
                    let used = s.len() + pending + mixed.union.longest();
                    m.engine.config().max_context.saturating_sub(used)
                });
                free.min().unwrap_or(0)
            }
        }
    }

    /// Whether so many tokens fit behind a branch.
    pub(crate) fn holds(&self, branch: &Branch, tokens: &[u32]) -> bool {
        match &self.mixed {
            None => branch.len() + tokens.len() <= self.max_context(),
            Some(_) => self.room(branch, 0, tokens) > 0,
        }
    }

    /// Appends every row's tokens and computes the wanted logits.
    pub(crate) fn step(&mut self, asks: &mut [Ask<'_>]) -> Result<(), Error> {
        if self.mixed.is_some() {
            return self.step_mixed(asks);
        }
        for (index, member) in self.members.iter_mut().enumerate() {
            let mut rows: Vec<Row<'_>> = asks
                .iter_mut()
                .filter_map(|ask| {
                    Some(Row {
                        sequence: ask.branch.sequences.get_mut(index)?,
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

    /// The same for members of different vocabularies.
    fn step_mixed(&mut self, asks: &mut [Ask<'_>]) -> Result<(), Error> {
        let Target { members, mixed, .. } = self;
        let Some(Mixed {
            union,
            prompt_len,
            places,
        }) = mixed
        else {
            return Ok(());
        };
        places.clear();
        for (index, member) in members.iter_mut().enumerate() {
            places.push(match index {
                0 => step_main(member, union, asks)?,
                _ => step_reader(index, member, union, *prompt_len, asks)?,
            });
        }
        for ask in asks {
            if let Some(path) = &mut ask.branch.path {
                path.entries.extend_from_slice(ask.tokens);
            }
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
    ) -> Result<usize, Error> {
        let mut cached = prompt.len();
        for (index, member) in self.members.iter_mut().enumerate() {
            let Some(sequence) = branch.sequences.get_mut(index) else {
                continue;
            };
            let own = match &self.mixed {
                Some(mixed) => mixed.union.read(index, b"")?,
                None => None,
            };
            let tokens = own.as_deref().unwrap_or(prompt);
            let held = member.prefill(sequence, tokens, hooks.filter(|_| index == 0), cancel)?;
            if own.is_none() {
                cached = cached.min(held);
            }
        }
        if let Some(mixed) = &mut self.mixed {
            branch.path = Some(Path {
                entries: prompt.to_vec(),
                ends: (1..=prompt.len()).collect(),
            });
            mixed.places = vec![vec![vec![(0, 0)]]; self.members.len()];
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

    /// Whether one model decides alone, so that its lines can be [read](Self::plain_line) where they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.combine.is_none()
    }

    /// The first line of row `row` of the last step; empty where several models decide.
    pub(crate) fn plain_line(&self, row: usize) -> &[f32] {
        let main = self.members.first().filter(|_| self.is_plain());
        let line = main.and_then(|main| main.output.logits(row).get(0));
        line.unwrap_or_default()
    }

    /// Line `index` of row `row` of the last step, to be processed in place. Under a vote, tokens outside `mask` get no
    /// vote.
    pub(crate) fn line(
        &mut self,
        row: usize,
        index: usize,
        mask: Option<&[u32]>,
    ) -> Result<&mut [f32], Error> {
        let Target {
            members,
            combine,
            mixed,
        } = self;
        let Some(combine) = combine else {
            let main = members.first_mut();
            let line = main.and_then(|member| member.output.line_mut(row, index));
            return Ok(line.unwrap_or_default());
        };
        let place = |member: usize| match &*mixed {
            None => Some((row, index)),
            Some(mixed) => mixed.places.get(member)?.get(row)?.get(index).copied(),
        };
        let lines = members.iter().enumerate().filter_map(|(at, member)| {
            let (row, index) = place(at)?;
            member.output.logits(row).get(index)
        });
        combine.line(lines, mask)
    }
}

impl Member {
    /// Computes a prompt as far as the sequence does not hold it, and returns how much of it that was.
    fn prefill(
        &mut self,
        sequence: &mut Sequence,
        prompt: &[u32],
        hooks: Option<RowHooks<'_>>,
        cancel: &Cancel,
    ) -> Result<usize, EngineError> {
        let common = shared(sequence, prompt);
        sequence.truncate(common);
        let limit = self.engine.config().max_context;
        if prompt.len() > limit {
            return Err(EngineError::ContextFull {
                used: common,
                wanted: prompt.len() - common,
                limit,
            });
        }
        let rest = &prompt[common..];
        let chunks = rest.len().div_ceil(self.chunk);
        for (at, tokens) in rest.chunks(self.chunk).enumerate() {
            let row = Row {
                sequence: &mut *sequence,
                tokens,
                want: match at + 1 == chunks {
                    true => Want::Last,
                    false => Want::None,
                },
                hooks,
            };
            let stepped = match cancel.is_cancelled() {
                true => Err(EngineError::Cancelled),
                false => self.engine.step(&mut [row], &mut self.output),
            };
            if let Err(error) = stepped {
                sequence.truncate(common);
                return Err(error);
            }
        }
        Ok(common)
    }
}

/// Tokens that a sequence has in common with a prompt, less the last one, which is computed for its logits.
fn shared(sequence: &Sequence, prompt: &[u32]) -> usize {
    let held = sequence.tokens().iter().zip(prompt);
    let common = held.take_while(|(a, b)| a == b).count();
    common.min(prompt.len().saturating_sub(1))
}

/// Steps the main model by entries, in as many tokens as each takes.
fn step_main(
    member: &mut Member,
    union: &Union,
    asks: &mut [Ask<'_>],
) -> Result<Vec<Vec<(usize, usize)>>, Error> {
    let mut tokens: Vec<Vec<u32>> = Vec::with_capacity(asks.len());
    let mut places = Vec::with_capacity(asks.len());
    for (row, ask) in asks.iter_mut().enumerate() {
        let mut own = Vec::new();
        let before = ask.branch.sequences.first().map_or(0, Sequence::len);
        let mut lines = Vec::new();
        for entry in ask.tokens {
            own.extend(union.main_tokens(std::slice::from_ref(entry))?);
            lines.push((row, own.len() - 1));
            if let Some(path) = &mut ask.branch.path {
                path.ends.push(before + own.len());
            }
        }
        places.push(match ask.want {
            Want::None => Vec::new(),
            Want::Last => vec![(row, 0)],
            Want::All => lines,
        });
        tokens.push(own);
    }
    let mut rows: Vec<Row<'_>> = asks
        .iter_mut()
        .zip(&tokens)
        .filter_map(|(ask, tokens)| {
            Some(Row {
                sequence: ask.branch.sequences.first_mut()?,
                tokens,
                want: ask.want,
                hooks: ask.hooks,
            })
        })
        .collect();
    member.engine.step(&mut rows, &mut member.output)?;
    Ok(places)
}

/// Steps a member that reads the text anew: one fork of its sequence for every wanted line, all in one batch.
fn step_reader(
    index: usize,
    member: &mut Member,
    union: &Union,
    prompt_len: usize,
    asks: &mut [Ask<'_>],
) -> Result<Vec<Vec<(usize, usize)>>, Error> {
    let mut forks: Vec<(usize, Sequence, Vec<u32>)> = Vec::new();
    let mut places = Vec::with_capacity(asks.len());
    for (at, ask) in asks.iter().enumerate() {
        let Some((path, held)) = ask
            .branch
            .path
            .as_ref()
            .zip(ask.branch.sequences.get(index))
        else {
            continue;
        };
        let count = ask.tokens.len();
        let wanted = match ask.want {
            Want::None => count..count,
            Want::Last => count - 1..count,
            Want::All => 0..count,
        };
        let mut lines = Vec::with_capacity(wanted.len());
        for last in wanted {
            let entries = path.entries.iter().chain(&ask.tokens[..=last]);
            let entries: Vec<u32> = entries.skip(prompt_len).copied().collect();
            let tokens = union.read(index, &union.text(&entries))?;
            let tokens = tokens.unwrap_or_default();
            let mut fork = held.fork();
            let common = shared(&fork, &tokens);
            fork.truncate(common);
            lines.push((forks.len(), 0));
            forks.push((at, fork, tokens[common..].to_vec()));
        }
        places.push(lines);
    }
    let mut rows: Vec<Row<'_>> = forks
        .iter_mut()
        .map(|(_, sequence, tokens)| Row {
            sequence,
            tokens,
            want: Want::Last,
            hooks: None,
        })
        .collect();
    member.engine.step(&mut rows, &mut member.output)?;
    // The last fork of an ask has read the whole text.
    for (at, fork, _) in forks {
        if let Some(sequence) = asks
            .get_mut(at)
            .and_then(|ask| ask.branch.sequences.get_mut(index))
        {
            *sequence = fork;
        }
    }
    Ok(places)
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
