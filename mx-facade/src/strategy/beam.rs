//! Beam search: all rows together, ranked by what the model thinks of them.

use super::{Decoder, Round};
use crate::error::Error;
use crate::generation::Warning;
use crate::pipeline::lane::Lane;
use crate::pipeline::output::StopWatch;
use crate::pipeline::target::{Ask, Branch, Target};
use crate::pipeline::{Plan, TokenMask};
use crate::request::{Beam, Voting};
use mx_runtime::engine::{Engine, RowHooks, Want};
use mx_runtime::session::Session;
use mx_runtime::tokenizer::Specials;
use mx_sampling::strategy::beam::{
    BeamConstraint, BeamOptions, BeamSearch, Hypothesis, LogRow, Move,
};
use mx_sampling::{Sampler, log_normaliser};
use std::sync::{Arc, Mutex, PoisonError};

/// The decoder that searches; its lanes get their tokens when it is over.
pub(super) struct BeamDecoder {
    target: Target,
    prompt_len: usize,
    options: BeamOptions,
    search: Option<BeamSearch<Held>>,
    /// One a live beam, in their order.
    rows: Vec<BeamRow>,
    /// What the prompt left, for scoring the outputs again.
    root: Option<Branch>,
    failed: Failure,
    missing: usize,
    /// Tokens that fit behind the prompt; one more can be chosen.
    room: usize,
    /// Whether an ensemble votes.
    votes: bool,
    vocab: usize,
    /// Logits of the last step that were edited or combined, one row a live beam.
    laws: Vec<Vec<f32>>,
}

struct BeamRow {
    branch: Branch,
    /// Penalties and biases; `None` where there are none.
    sampler: Option<Sampler>,
    token: u32,
}

/// The first error of a constraint inside the search.
type Failure = Arc<Mutex<Option<Error>>>;

impl BeamDecoder {
    pub(super) fn new(target: Target, plan: &Plan, beam: &Beam) -> Result<Self, Error> {
        let room = target.max_context().saturating_sub(plan.prompt.len());
        let options = BeamOptions {
            width: beam.width,
            length_penalty: beam.length_penalty,
            max_new_tokens: plan.settings.max_tokens.min(room.saturating_add(1)),
            eos_tokens: match plan.settings.ignore_eos {
                true => Vec::new(),
                false => plan.eos_tokens.clone(),
            },
            must_include: phrases(plan, &beam.must_include)?,
            ..BeamOptions::default()
        };
        // Refuses options out of range before anything is computed.
        BeamSearch::new(options.clone(), plan.vocab())?;
        Ok(BeamDecoder {
            target,
            prompt_len: plan.prompt.len(),
            options,
            search: None,
            rows: Vec::new(),
            root: None,
            failed: Failure::default(),
            missing: 0,
            room,
            vocab: plan.vocab(),
            laws: Vec::new(),
            votes: plan
                .settings
                .strategy
                .ensemble
                .as_ref()
                .is_some_and(|ensemble| ensemble.voting == Voting::Majority),
        })
    }

    fn start(&mut self, lanes: &mut [Lane], round: &Round<'_>) -> Result<usize, Error> {
        let Some(lane) = lanes.first() else {
            return Ok(0);
        };
        let mut branch = match self.root.take() {
            Some(branch) => branch,
            None => self.target.new_branch(),
        };
        let hooks = lane.hooks.as_deref().map(|plan| RowHooks {
            plan,
            prompt_len: self.prompt_len,
        });
        let prefilled = self
            .target
            .prefill(&mut branch, round.prompt, hooks, round.cancel);
        let cached = match prefilled {
            Ok(cached) => cached,
            Err(error) => {
                self.root = Some(branch);
                return Err(error);
            }
        };
        let held = Held {
            mask: lane.mask.as_ref().map(|mask| mask.fork()).transpose()?,
            accepting: true,
            text: lane.output.stop_watch(),
            failed: Arc::clone(&self.failed),
        };
        let held = held.entered();
        let search = BeamSearch::with_constraint(self.options.clone(), lane.sampler.vocab(), held)?;
        let edits = lane.sampler.active_steps().next().is_some();
        self.root = Some(branch.fork());
        self.rows = vec![BeamRow {
            branch,
            sampler: edits.then(|| lane.sampler.clone()),
            token: 0,
        }];
        self.search = Some(search);
        self.rank()?;
        Ok(cached)
    }

    /// Steps every live beam by its token and ranks what may follow.
    fn step(&mut self, lanes: &[Lane]) -> Result<(), Error> {
        let hooks = lanes.first().and_then(|lane| lane.hooks.as_deref());
        let tokens: Vec<[u32; 1]> = self.rows.iter().map(|row| [row.token]).collect();
        let mut asks: Vec<Ask<'_>> = self
            .rows
            .iter_mut()
            .zip(&tokens)
            .map(|(row, tokens)| Ask {
                branch: &mut row.branch,
                tokens,
                want: Want::Last,
                hooks: hooks.map(|plan| RowHooks {
                    plan,
                    prompt_len: self.prompt_len,
                }),
            })
            .collect();
        self.target.step(&mut asks)?;
        self.rank()
    }

    /// Reads the logits of the last step and moves the beams.
    fn rank(&mut self) -> Result<(), Error> {
        let Some(search) = &mut self.search else {
            return Ok(());
        };
        let edited = self.rows.iter().any(|row| row.sampler.is_some());
        let moved = match edited || !self.target.is_plain() {
            true => {
                self.laws.resize_with(self.rows.len(), Vec::new);
                let rows = self.rows.iter_mut().zip(&mut self.laws).enumerate();
                for (index, (row, law)) in rows {
                    // A vote falls on a token that is allowed; every other law is masked inside the search.
                    let mut held = match self.votes {
                        true => search.live().get(index).map(|beam| beam.constraint.clone()),
                        false => None,
                    };
                    let mut words = Vec::new();
                    let masked = held.as_mut().is_some_and(|held| {
                        words.resize(self.vocab.div_ceil(32), 0);
                        held.mask(&mut words)
                    });
                    let mask = masked.then_some(words.as_slice());
                    let line = self.target.line(index, 0, mask)?;
                    law.clear();
                    match &mut row.sampler {
                        None => law.extend_from_slice(line),
                        Some(sampler) => {
                            let normaliser = log_normaliser(line);
                            let scores = line.iter().map(|x| (f64::from(*x) - normaliser) as f32);
                            law.extend(scores);
                            sampler.process(law, None)?;
                        }
                    }
                }
                let laws = self.laws.iter().map(|law| match edited {
                    true => LogRow::of_logprobs(law),
                    false => LogRow::of_logits(law),
                });
                search.step_logits(&laws.collect::<Vec<_>>())
            }
            false => {
                let lines = (0..self.rows.len()).map(|index| self.target.plain_line(index));
                search.step_logits(&lines.map(LogRow::of_logits).collect::<Vec<_>>())
            }
        };
        let failure = self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(error) = failure {
            return Err(error);
        }
        self.rows = follow(std::mem::take(&mut self.rows), &moved?);
        Ok(())
    }

    /// Gives the best hypotheses to the lanes.
    fn hand_out(&mut self, lanes: &mut [Lane]) -> Result<(), Error> {
        let Some(search) = self.search.take() else {
            return Ok(());
        };
        let hypotheses = search.finish();
        self.missing = lanes.len().saturating_sub(hypotheses.len());
        for (lane, hypothesis) in lanes.iter_mut().zip(&hypotheses) {
            self.write(lane, hypothesis)?;
        }
        for lane in lanes {
            lane.output
                .end(None, crate::generation::FinishReason::Length);
        }
        Ok(())
    }

    fn write(&mut self, lane: &mut Lane, hypothesis: &Hypothesis) -> Result<(), Error> {
        lane.output.searched = Some(hypothesis.score);
        let scored = lane.wants_raw() && self.score_again(lane, &hypothesis.tokens)?;
        for (index, &token) in hypothesis.tokens.iter().enumerate() {
            if lane.is_traced() && scored {
                self.target.line(0, index, None)?;
                let behind = hypothesis.tokens.len() - 1 - index;
                lane.about = self.target.about(0, behind, token);
            }
            let line = match scored {
                true => Some(&*self.target.line(0, index, None)?),
                false => None,
            };
            // The search went as far as there is room.
            let full = index == self.room;
            lane.accept_searched(token, line, full)?;
            if !lane.output.goes_on() {
                break;
            }
        }
        Ok(())
    }

    /// Computes the logits before every token of an output, in one step.
    fn score_again(&mut self, lane: &Lane, tokens: &[u32]) -> Result<bool, Error> {
        let (Some(root), Some((_, before))) = (&self.root, tokens.split_last()) else {
            return Ok(false);
        };
        let mut branch = root.fork();
        let Some(last) = branch.last_token() else {
            return Ok(false);
        };
        branch.truncate(branch.len() - 1);
        let mut all = vec![last];
        all.extend_from_slice(before);
        let ask = Ask {
            branch: &mut branch,
            tokens: &all,
            want: Want::All,
            hooks: lane.hooks.as_deref().map(|plan| RowHooks {
                plan,
                prompt_len: self.prompt_len,
            }),
        };
        self.target.step(&mut [ask])?;
        Ok(true)
    }
}

/// The rows of the next round; the last child of a parent takes its keys and values over.
fn follow(parents: Vec<BeamRow>, moves: &[Move]) -> Vec<BeamRow> {
    let mut parents: Vec<Option<BeamRow>> = parents.into_iter().map(Some).collect();
    let mut rows = Vec::with_capacity(moves.len());
    for (at, step) in moves.iter().enumerate() {
        let again = moves[at + 1..]
            .iter()
            .any(|other| other.parent == step.parent);
        let Some(slot) = parents.get_mut(step.parent) else {
            continue;
        };
        let row = match again {
            true => slot.as_ref().map(|row| BeamRow {
                branch: row.branch.fork(),
                sampler: row.sampler.clone(),
                token: 0,
            }),
            false => slot.take(),
        };
        if let Some(mut row) = row {
            row.token = step.token;
            if let Some(sampler) = &mut row.sampler {
                sampler.commit(step.token);
            }
            rows.push(row);
        }
    }
    rows
}

/// Phrases as tokens: each begins a word, as it would in the middle of a text.
fn phrases(plan: &Plan, texts: &[String]) -> Result<Vec<Vec<u32>>, Error> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let tokenizer = plan
        .model
        .tokenizer()
        .ok_or_else(|| Error::unsupported("must_include", "the model has no tokenizer"))?;
    texts
        .iter()
        .map(|text| {
            let word = format!(" {}", text.trim());
            Ok(tokenizer.encode(&word, Specials::AsText)?)
        })
        .collect()
}

impl Decoder for BeamDecoder {
    fn round(&mut self, lanes: &mut [Lane], round: &Round<'_>) -> Result<Option<usize>, Error> {
        let cached = match &self.search {
            None => Some(self.start(lanes, round)?),
            Some(_) => {
                self.step(lanes)?;
                None
            }
        };
        if self.search.as_ref().is_some_and(BeamSearch::is_done) {
            self.hand_out(lanes)?;
        }
        Ok(cached)
    }

    fn resume(&mut self, session: Session) {
        let engine = Arc::clone(session.engine());
        self.target.set_main(engine, session.prefill_chunk());
        self.root = Some(self.target.resume(session.into_sequence()));
    }

    fn begin_behind(&mut self, _tokens: Vec<u32>) -> Result<(), Error> {
        Err(Error::unsupported(
            "going on with a beam search",
            "it decides about all its tokens at the end; begin it again",
        ))
    }

    fn report(&self, warnings: &mut Vec<Warning>) {
        if self.missing > 0 {
            let message = format!(
                "{} of the outputs asked for are empty: the search found no more hypotheses",
                self.missing
            );
            warnings.push(Warning::new("fewer_hypotheses", message));
        }
    }

    fn into_session(mut self: Box<Self>, engine: Arc<dyn Engine>) -> Session {
        let engine = self.target.main().cloned().unwrap_or(engine);
        let session = Session::new(engine);
        match self.root.take().and_then(Branch::into_main) {
            Some(sequence) => session.with_sequence(sequence),
            None => session,
        }
    }
}

/// A lane's constraint as the search wants it.
struct Held {
    mask: Option<Box<dyn TokenMask>>,
    accepting: bool,
    /// The text so far, where stop texts are looked for.
    text: Option<StopWatch>,
    failed: Failure,
}

impl Held {
    /// Looks at whether the text may end here.
    fn entered(mut self) -> Self {
        let accepting = match &mut self.mask {
            Some(mask) => mask.is_accepting(),
            None => Ok(true),
        };
        self.accepting = self.noted(accepting).unwrap_or(false);
        self
    }

    /// The value; an error is kept for the caller of the search.
    fn noted<T>(&self, result: Result<T, Error>) -> Option<T> {
        result
            .map_err(|error| {
                let mut first = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
            })
            .ok()
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        let mask = self.mask.as_ref().map(|mask| mask.fork()).transpose();
        Held {
            mask: self.noted(mask).flatten(),
            accepting: self.accepting,
            text: self.text.clone(),
            failed: Arc::clone(&self.failed),
        }
    }
}

impl BeamConstraint for Held {
    fn mask(&mut self, words: &mut [u32]) -> bool {
        let allowed = match &mut self.mask {
            Some(mask) => mask.mask().map(|allowed| {
                allowed.map(|allowed| {
                    let shared = words.len().min(allowed.len());
                    words[..shared].copy_from_slice(&allowed[..shared]);
                })
            }),
            None => return false,
        };
        self.noted(allowed).flatten().is_some()
    }

    fn advance(&mut self, token: u32) {
        if let Some(text) = &mut self.text {
            let pushed = text.push(token);
            self.noted(pushed);
        }
        let Some(mask) = &mut self.mask else { return };
        let accepting = mask.commit(token).and_then(|()| mask.is_accepting());
        self.accepting = self.noted(accepting).unwrap_or(false);
    }

    fn is_accepting(&self) -> bool {
        self.accepting
    }

    fn may_finish(&self) -> bool {
        self.text.is_some()
    }

    fn finishes(&mut self, token: u32) -> bool {
        let Some(mut text) = self.text.clone() else {
            return false;
        };
        let pushed = text.push(token);
        self.noted(pushed).unwrap_or(false)
    }
}
