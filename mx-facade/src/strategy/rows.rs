//! Row by row: every lane draws its own tokens, alone or with drafts to verify.

use super::draft::Drafter;
use super::{Decoder, Round};
use crate::error::Error;
use crate::generation::Warning;
use crate::pipeline::Plan;
use crate::pipeline::lane::{Draft, Lane};
use crate::pipeline::target::{Ask, Branch, Target};
use crate::request::Drafts;
use mx_runtime::engine::{Engine, EngineError, RowHooks, Want};
use mx_runtime::session::{Cancel, DEFAULT_PREFILL_CHUNK, Session};
use mx_sampling::strategy::draft_length::{DraftLength, DraftLengthOptions};
use std::sync::Arc;
use std::time::Instant;

/// Tokens whose logits are computed at once when they are decided again.
const RETRACED: usize = 64;
/// First word of the random stream of a run that goes on behind drafts.
const AFTER_DRAFTS: u64 = 1 << 40;
/// More words than a round with drafts takes for a token: one to accept it or to reject a draft, one to draw anew.
const WORDS_A_TOKEN: u64 = 4;

/// The decoder that steps all lanes together, each in a row of its own.
pub(super) struct Rows {
    target: Target,
    prompt_len: usize,
    /// One a lane, once the prompt is computed.
    rows: Vec<RowState>,
    /// One a lane, where drafts are made.
    drafters: Vec<(Box<dyn Drafter>, DraftLength)>,
    /// What a caller's session held.
    resumed: Option<Branch>,
    /// What an earlier run gave.
    prefix: Vec<u32>,
}

struct RowState {
    branch: Branch,
    /// Tokens that were chosen and that the model has not seen.
    pending: Vec<u32>,
    drafts: Vec<Draft>,
}

impl Rows {
    pub(super) fn new(target: Target, plan: &Plan) -> Self {
        Rows {
            target,
            prompt_len: plan.prompt.len(),
            rows: Vec::new(),
            drafters: Vec::new(),
            resumed: None,
            prefix: Vec::new(),
        }
    }

    /// Gives the next lane a drafter.
    pub(super) fn add_drafter(
        &mut self,
        drafter: Box<dyn Drafter>,
        drafts: &Drafts,
    ) -> Result<(), Error> {
        let default = DraftLengthOptions::default();
        let length = DraftLength::new(DraftLengthOptions {
            start: drafts.steps,
            max: default.max.max(drafts.steps),
            cost: drafter.cost(),
            ..default
        })?;
        self.drafters.push((drafter, length));
        Ok(())
    }

    /// Computes the prompt once and lets every lane choose its first token from the same logits.
    fn start(&mut self, lanes: &mut [Lane], round: &Round<'_>) -> Result<usize, Error> {
        let mut branch = self
            .resumed
            .take()
            .unwrap_or_else(|| self.target.new_branch());
        let hooks = lanes.first().and_then(|lane| lane.hooks.clone());
        let hooks = hooks.as_deref().map(|plan| RowHooks {
            plan,
            prompt_len: self.prompt_len,
        });
        let prefilled = self
            .target
            .prefill(&mut branch, round.prompt, hooks, round.cancel);
        let cached = match prefilled {
            Ok(cached) => cached,
            Err(error) => {
                self.resumed = Some(branch);
                return Err(error);
            }
        };
        let full = self.target.room(&branch, 0, &[]) == 0;
        let mut copy = Vec::new();
        let count = lanes.len();
        for (index, lane) in lanes.iter_mut().enumerate() {
            let mask = lane.voting_mask()?;
            let line = self.target.line(0, 0, mask)?;
            // The chain changes the row; the last lane may have the original.
            let line = match index + 1 == count {
                true => line,
                false => {
                    copy.clear();
                    copy.extend_from_slice(line);
                    &mut copy
                }
            };
            let decision = lane.decide(line, None)?;
            if lane.is_traced() {
                lane.about = self.target.about(0, 0, decision.token);
            }
            lane.accept(&decision, full, 0)?;
            self.rows.push(RowState {
                branch: branch.fork(),
                pending: vec![decision.token],
                drafts: Vec::new(),
            });
        }
        if let Some(first) = self.rows.first_mut() {
            first.branch = branch;
        }
        for lane in lanes {
            lane.prepare_to_begin_again()?;
        }
        Ok(cached)
    }

    /// Takes the lane behind tokens that an earlier run gave: every state is as that run left it, and the model has seen
    /// all of them but the last.
    ///
    /// A chain with a memory of its laws, and a caller who wants log-probabilities, need the logits of every token; for
    /// the others it is enough to count.
    fn go_behind(&mut self, lane: &mut Lane, round: &Round<'_>) -> Result<usize, Error> {
        let prefix = std::mem::take(&mut self.prefix);
        let Some((last, before)) = prefix.split_last() else {
            return Ok(0);
        };
        let hooks = lane.hooks.clone();
        let hooks = hooks.as_deref().map(|plan| RowHooks {
            plan,
            prompt_len: self.prompt_len,
        });
        let mut branch = self
            .resumed
            .take()
            .unwrap_or_else(|| self.target.new_branch());
        let rows = lane.needs_rows();
        let whole: Vec<u32> = match rows {
            true => round.prompt.to_vec(),
            false => round.prompt.iter().chain(before).copied().collect(),
        };
        let prefilled = self
            .target
            .prefill(&mut branch, &whole, hooks, round.cancel);
        let cached = match prefilled {
            Ok(cached) => cached,
            Err(error) => {
                self.resumed = Some(branch);
                return Err(error);
            }
        };
        if rows {
            self.retrace(lane, &mut branch, &prefix, hooks, round.cancel)?;
        } else {
            for (index, token) in prefix.iter().enumerate() {
                goes_on(lane, index, &prefix)?;
                let full = self.target.room(&branch, before.len() - index, &[]) == 0;
                match index > 0 && !lane.forced()?.is_empty() {
                    true => lane.accept_forced(*token, full)?,
                    false => lane.accept_known(*token, full)?,
                }
            }
        }
        if !self.drafters.is_empty() {
            // Rounds with drafts take words of the stream as their drafts fall, which tokens alone do not tell: what
            // follows has words that no earlier decision can have used.
            let taken = WORDS_A_TOKEN * prefix.len() as u64;
            lane.sampler.stream_mut().seek(AFTER_DRAFTS + taken);
            for (drafter, _) in &mut self.drafters {
                drafter.begin_behind(prefix.len());
            }
        }
        lane.forget_chunks();
        self.rows.push(RowState {
            branch,
            pending: vec![*last],
            drafts: Vec::new(),
        });
        Ok(cached)
    }

    /// Decides every token of a prefix again by its logits and takes the known one.
    fn retrace(
        &mut self,
        lane: &mut Lane,
        branch: &mut Branch,
        prefix: &[u32],
        hooks: Option<RowHooks<'_>>,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        // The logits behind the prompt decide the first token, those behind each token the next one.
        let mut lines = 1;
        let mut chunks = prefix[..prefix.len().saturating_sub(1)].chunks(RETRACED);
        let mut known = prefix.iter().enumerate();
        loop {
            for (line, (index, token)) in (0..lines).zip(known.by_ref()) {
                goes_on(lane, index, prefix)?;
                let full = self.target.room(branch, lines - 1 - line, &[]) == 0;
                if index > 0 && !lane.forced()?.is_empty() {
                    let mask = lane.voting_mask()?;
                    let logits = self.target.line(0, line, mask)?;
                    lane.accept_forced_by(*token, logits, full)?;
                    continue;
                }
                let mask = lane.voting_mask()?;
                let logits = self.target.line(0, line, mask)?;
                let mut decision = lane.decide(logits, None)?;
                decision.replace(*token);
                if lane.is_traced() {
                    lane.about = self.target.about(0, lines - 1 - line, *token);
                }
                lane.accept(&decision, full, 0)?;
            }
            let Some(tokens) = chunks.next() else {
                return Ok(());
            };
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled.into());
            }
            let ask = Ask {
                branch: &mut *branch,
                tokens,
                want: Want::All,
                hooks,
            };
            self.target.step(&mut [ask])?;
            lines = tokens.len();
        }
    }

    /// One step of all lanes that go on.
    fn step(&mut self, lanes: &mut [Lane], round: &Round<'_>) -> Result<(), Error> {
        let started = Instant::now();
        let tokens: Vec<Vec<u32>> = self
            .rows
            .iter()
            .map(|row| {
                let drafted = row.drafts.iter().map(|draft| draft.token);
                row.pending.iter().copied().chain(drafted).collect()
            })
            .collect();
        let going: Vec<usize> = (0..lanes.len())
            .filter(|index| lanes[*index].output.goes_on())
            .collect();
        let mut asks: Vec<Ask<'_>> = Vec::with_capacity(going.len());
        for (index, row) in self.rows.iter_mut().enumerate() {
            if !lanes[index].output.goes_on() {
                continue;
            }
            asks.push(Ask {
                branch: &mut row.branch,
                tokens: &tokens[index],
                want: match row.drafts.is_empty() && lanes[index].owed() == 0 {
                    true => Want::Last,
                    false => Want::All,
                },
                hooks: lanes[index].hooks.as_deref().map(|plan| RowHooks {
                    plan,
                    prompt_len: self.prompt_len,
                }),
            });
        }
        let target = &mut self.target;
        // Drafts for likely outcomes are made on a second thread while the model verifies.
        let ahead = going.iter().any(|lane| {
            self.drafters
                .get(*lane)
                .is_some_and(|(drafter, _)| drafter.works_ahead())
        });
        if ahead {
            let drafters = &mut self.drafters;
            std::thread::scope(|scope| {
                let preparing = scope.spawn(|| -> Result<(), Error> {
                    for lane in &going {
                        if let Some((drafter, _)) = drafters.get_mut(*lane) {
                            drafter.prepare()?;
                        }
                    }
                    Ok(())
                });
                let stepped = target.step(&mut asks);
                let prepared = preparing.join().unwrap_or(Ok(()));
                stepped.and(prepared)
            })?;
        } else {
            target.step(&mut asks)?;
        }
        let micros = started.elapsed().as_micros() as u64;
        for (at, index) in going.into_iter().enumerate() {
            let lane = &mut lanes[index];
            match lane.watch(self.target.captured(), at)? {
                true => self.begin_again(index, lane, round)?,
                false => self.verify(at, index, lane, micros)?,
            }
        }
        Ok(())
    }

    /// Gives up what a lane has written: its next step computes the prompt's last token again, for the first token of
    /// another text.
    fn begin_again(
        &mut self,
        index: usize,
        lane: &mut Lane,
        round: &Round<'_>,
    ) -> Result<(), Error> {
        let row = &mut self.rows[index];
        row.branch.truncate(self.prompt_len.saturating_sub(1));
        row.drafts.clear();
        row.pending.clear();
        row.pending.extend(round.prompt.last());
        lane.begin_again(round.plan)
    }

    /// Decides the tokens of one lane by the logits of row `at` of the step.
    fn verify(
        &mut self,
        at: usize,
        index: usize,
        lane: &mut Lane,
        micros: u64,
    ) -> Result<(), Error> {
        let row = &mut self.rows[index];
        let drafts = std::mem::take(&mut row.drafts);
        // The logits after the last pending token come first; those of forced tokens before it are for their
        // log-probabilities only.
        let first_line = match drafts.is_empty() && lane.owed() == 0 {
            true => 0,
            false => row.pending.len() - 1,
        };
        pay(&mut self.target, at, lane, first_line)?;
        let base = row.branch.len() - drafts.len();
        let mut accepted = 0;
        let first_step = lane.output.steps.len();
        loop {
            let mask = lane.voting_mask()?;
            let line = self.target.line(at, first_line + accepted, mask)?;
            let decision = lane.decide(line, drafts.get(accepted))?;
            let full = self.target.room(&row.branch, drafts.len() - accepted, &[]) == 0;
            if lane.is_traced() {
                let behind = drafts.len() - accepted;
                lane.about = self.target.about(at, behind, decision.token);
            }
            lane.accept(&decision, full, if accepted == 0 { micros } else { 0 })?;
            if decision.accepted && lane.output.goes_on() {
                accepted += 1;
                continue;
            }
            row.branch.truncate(base + accepted);
            let stood = accepted + usize::from(decision.accepted);
            lane.note_drafts(first_step, &drafts, stood);
            row.pending.clear();
            row.pending.push(decision.token);
            if let Some((drafter, length)) = self.drafters.get_mut(index) {
                length.observe(drafts.len(), stood, None);
                drafter.observe(drafts.len(), stood);
            }
            return Ok(());
        }
    }

    /// Tokens that the constraint leaves no choice about, and drafts for what follows.
    fn look_ahead(&mut self, lanes: &mut [Lane]) -> Result<(), Error> {
        for (index, (row, lane)) in self.rows.iter_mut().zip(lanes).enumerate() {
            if !lane.output.goes_on() {
                continue;
            }
            for token in lane.forced()? {
                // The forced tokens are computed with the next step, which leaves room for one token more.
                let full = self.target.room(&row.branch, 0, &row.pending) == 0;
                lane.accept_forced(token, full)?;
                row.pending.push(token);
                if !lane.output.goes_on() {
                    break;
                }
            }
            // Behaviours look at every step's tokens together, in the step that follows.
            if lane.owed() > RETRACED && lane.watching.is_none() {
                compute_owed(&mut self.target, row, lane, self.prompt_len)?;
            }
            let Some((drafter, length)) = self.drafters.get_mut(index) else {
                continue;
            };
            let room = self.target.room(&row.branch, 0, &row.pending);
            let count = length
                .next()
                .min(room)
                .min(lane.output.tokens_left().saturating_sub(1));
            if count > 0 && lane.output.goes_on() {
                row.drafts = drafter.draft(lane, count, length)?;
                // Where an entry can be several tokens, fewer may fit than there are.
                while !row.drafts.is_empty() {
                    let drafted = row.drafts.iter().map(|draft| draft.token);
                    let ahead: Vec<u32> = row.pending.iter().copied().chain(drafted).collect();
                    if self.target.holds(&row.branch, &ahead) {
                        break;
                    }
                    row.drafts.pop();
                }
            }
        }
        Ok(())
    }
}

/// Gives a lane the logits of tokens that were forced: those of the first `count` lines of row `at` of the last step.
fn pay(target: &mut Target, at: usize, lane: &mut Lane, count: usize) -> Result<(), Error> {
    for line in 0..count.min(lane.owed()) {
        let Some(token) = lane.first_owed() else {
            return Ok(());
        };
        // Nothing else was allowed, so that models that vote have all voted for it.
        let mut only = vec![0; token as usize / u32::BITS as usize + 1];
        if let Some(word) = only.last_mut() {
            *word = 1 << (token % u32::BITS);
        }
        let logits = target.line(at, line, Some(&only))?;
        lane.pay(logits);
    }
    Ok(())
}

/// Computes the logits that a lane owes, with all that is pending but the last token.
fn compute_owed(
    target: &mut Target,
    row: &mut RowState,
    lane: &mut Lane,
    prompt_len: usize,
) -> Result<(), Error> {
    let last = row.pending.pop();
    let pending = std::mem::take(&mut row.pending);
    row.pending.extend(last);
    for tokens in pending.chunks(RETRACED) {
        let ask = Ask {
            branch: &mut row.branch,
            tokens,
            want: Want::All,
            hooks: lane
                .hooks
                .as_deref()
                .map(|plan| RowHooks { plan, prompt_len }),
        };
        target.step(&mut [ask])?;
        pay(target, 0, lane, tokens.len())?;
    }
    Ok(())
}

/// Refuses a prefix that is longer than the output.
fn goes_on(lane: &Lane, index: usize, prefix: &[u32]) -> Result<(), Error> {
    match lane.output.goes_on() {
        true => Ok(()),
        false => Err(Error::request(
            "tokens to go on behind",
            prefix.len(),
            format!("at most {index}: with these the output has ended"),
        )),
    }
}

impl Decoder for Rows {
    fn round(&mut self, lanes: &mut [Lane], round: &Round<'_>) -> Result<Option<usize>, Error> {
        let cached = match self.rows.is_empty() {
            true if !self.prefix.is_empty() => match lanes.first_mut() {
                Some(lane) => Some(self.go_behind(lane, round)?),
                None => None,
            },
            true => Some(self.start(lanes, round)?),
            false => {
                self.step(lanes, round)?;
                None
            }
        };
        self.look_ahead(lanes)?;
        self.settle(lanes)?;
        Ok(cached)
    }

    fn settle(&mut self, lanes: &mut [Lane]) -> Result<(), Error> {
        for (row, lane) in self.rows.iter_mut().zip(lanes) {
            if lane.owed() > 0 && !lane.output.goes_on() {
                compute_owed(&mut self.target, row, lane, self.prompt_len)?;
            }
        }
        Ok(())
    }

    fn resume(&mut self, session: Session) {
        let engine = Arc::clone(session.engine());
        self.target.set_main(engine, session.prefill_chunk());
        self.resumed = Some(self.target.resume(session.into_sequence()));
    }

    fn begin_behind(&mut self, tokens: Vec<u32>) -> Result<(), Error> {
        self.prefix = tokens;
        Ok(())
    }

    fn report(&self, warnings: &mut Vec<Warning>) {
        for (drafter, _) in &self.drafters {
            drafter.report(warnings);
        }
    }

    fn into_session(mut self: Box<Self>, engine: Arc<dyn Engine>) -> Session {
        let chunk = self.target.main_chunk().unwrap_or(DEFAULT_PREFILL_CHUNK);
        let engine = self.target.main().cloned().unwrap_or(engine);
        let branch = match self.rows.is_empty() {
            true => self.resumed.take(),
            false => Some(self.rows.swap_remove(0).branch),
        };
        let session = Session::new(engine).with_prefill_chunk(chunk);
        match branch.and_then(Branch::into_main) {
            Some(sequence) => session.with_sequence(sequence),
            None => session,
        }
    }
}
