//! Sets of automaton states as one state: the subset construction, done while text visits it.
//!
//! Besides plain sets, the construction carries conditions. Those that look at the next byte (the end of the text, word
//! boundaries) stay in the set until that byte is known. Look-ahead is followed beside the set, as an *obligation* of
//! the thread that asked for it: a set of states of its own that must (or must not) reach the end of its pattern.

use super::nfa::{MATCH, Nfa, NfaState, StateId};
use super::node::Look;
use super::reach::{ask_before, reach_end, reach_match};
use crate::hash::FastMap;
use crate::{ByteSet, ConstrainError, Limits};

/// Index of a list of obligations; 0 is the empty list.
type ObligationsId = u32;

/// One NFA state in a set, with what the text must still fulfil for it.
type Thread = (StateId, ObligationsId);

/// A set of threads, sorted, with what matters of the byte before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Subset {
    before: Before,
    threads: Box<[Thread]>,
}

impl Subset {
    /// The set without members.
    pub(super) fn dead() -> Self {
        Self {
            before: Before::Any,
            threads: [].into(),
        }
    }

    /// Whether nothing can follow or end behind this set.
    pub(super) fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }
}

/// What conditions may ask of the byte before a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Before {
    /// Nothing in the set asks.
    Any,
    Nothing,
    Word,
    LineFeed,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Obligation {
    negative: bool,
    states: Box<[StateId]>,
}

/// What a look-ahead has come to.
enum Outcome {
    Met,
    Broken,
    Open(Box<[StateId]>),
}

/// An automaton with what the subset construction needs.
#[derive(Debug, Clone)]
pub(super) struct Subsets {
    nfa: Nfa,
    /// Per NFA state: whether the end of the pattern can be reached from it behind the start of the text.
    reaches: Vec<bool>,
    /// Per NFA state: whether conditions on the byte before may be met from it without a byte.
    asks: Vec<bool>,
    obligations: Vec<Vec<Obligation>>,
    obligation_ids: FastMap<Vec<Obligation>, ObligationsId>,
    max_threads: usize,
    max_lists: usize,
    seen: Vec<u32>,
    stamp: u32,
    stack: Vec<StateId>,
}

impl Subsets {
    pub(super) fn new(nfa: Nfa, alphabet: &ByteSet, limits: &Limits) -> Self {
        let ends = reach_end(&nfa, false);
        let reaches = reach_match(&nfa, &ends, alphabet);
        let asks = ask_before(&nfa);
        let mut obligation_ids = FastMap::default();
        obligation_ids.insert(Vec::new(), 0);
        Self {
            seen: vec![0; nfa.states.len()],
            nfa,
            reaches,
            asks,
            obligations: vec![Vec::new()],
            obligation_ids,
            max_threads: limits
                .max_alternatives
                .saturating_mul(THREADS_PER_ALTERNATIVE),
            max_lists: limits.max_dfa_states,
            stamp: 0,
            stack: Vec::new(),
        }
    }

    /// Whether a set with members can always be completed, so that nothing needs to be searched.
    pub(super) fn is_simple(&self) -> bool {
        self.nfa.simple
    }

    pub(super) fn nfa(&self) -> &Nfa {
        &self.nfa
    }

    pub(super) fn bytes(&self) -> usize {
        let open: usize = self
            .obligations
            .iter()
            .flatten()
            .map(|o| 4 * o.states.len() + 64)
            .sum();
        self.nfa.bytes() + self.reaches.len() * 6 + 2 * open
    }

    /// The set before any byte.
    pub(super) fn start(&mut self) -> Result<Subset, ConstrainError> {
        let mut threads = Vec::new();
        self.close(self.nfa.start, 0, Before::Nothing, &mut threads)?;
        let ends_here = reach_end(&self.nfa, true);
        let waits = |state: StateId| matches!(self.nfa.states[state as usize], NfaState::Look(..));
        let may_go_on =
            |state: StateId| ends_here[state as usize] || (waits(state) && !self.nfa.simple);
        let kept: Vec<Thread> = threads
            .iter()
            .copied()
            .filter(|&(state, _)| may_go_on(state))
            .collect();
        let mut start = self.finish(threads, Before::Nothing)?;
        if kept.iter().any(|thread| !start.threads.contains(thread)) {
            // Only at the start of the text can conditions on the start be met behind others that wait.
            let mut threads = start.threads.to_vec();
            threads.extend(kept);
            threads.sort_unstable();
            threads.dedup();
            start = Subset {
                before: Before::Nothing,
                threads: threads.into_boxed_slice(),
            };
        }
        Ok(start)
    }

    /// The set behind one more byte.
    pub(super) fn step(&mut self, subset: &Subset, byte: u8) -> Result<Subset, ConstrainError> {
        let threads = self.settle(subset, Some(byte))?;
        let after = Before::of(byte);
        let mut next = Vec::new();
        let mut moved: Vec<(ObligationsId, Option<ObligationsId>)> = Vec::new();
        self.begin();
        for (state, obligations) in threads {
            let Some(target) = self.target(state, byte) else {
                continue;
            };
            let obligations = match obligations {
                0 => 0,
                _ => {
                    let known = moved
                        .iter()
                        .find(|(from, _)| *from == obligations)
                        .map(|(_, to)| *to);
                    let to = match known {
                        Some(to) => to,
                        None => {
                            let to = self.step_obligations(obligations, subset.before, byte)?;
                            moved.push((obligations, to));
                            to
                        }
                    };
                    match to {
                        Some(to) => to,
                        None => continue,
                    }
                }
            };
            self.close_more(target, obligations, after, &mut next)?;
        }
        self.finish(next, after)
    }

    /// Whether the text may end behind this set.
    pub(super) fn accepts(&mut self, subset: &Subset) -> Result<bool, ConstrainError> {
        for (state, obligations) in self.settle(subset, None)? {
            if state == MATCH && self.ends_well(obligations, subset.before)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Resolves conditions that wait for the next byte.
    fn settle(&mut self, subset: &Subset, next: Option<u8>) -> Result<Vec<Thread>, ConstrainError> {
        let waits = |states: &[NfaState], state: StateId| {
            matches!(states[state as usize], NfaState::Look(..))
        };
        if !subset
            .threads
            .iter()
            .any(|&(state, _)| waits(&self.nfa.states, state))
        {
            return Ok(subset.threads.to_vec());
        }
        let mut settled = Vec::with_capacity(subset.threads.len());
        let mut queue: Vec<Thread> = subset.threads.to_vec();
        let mut done: FastMap<Thread, ()> = FastMap::default();
        self.begin();
        while let Some((state, obligations)) = queue.pop() {
            if done.insert((state, obligations), ()).is_some() {
                continue;
            }
            Limits::check("max_alternatives", done.len(), self.max_threads)?;
            match self.nfa.states[state as usize] {
                NfaState::Look(look, target) => {
                    if look.holds(subset.before, next) {
                        let mut more = Vec::new();
                        self.close_more(target, obligations, subset.before, &mut more)?;
                        queue.extend(more);
                    }
                }
                _ => settled.push((state, obligations)),
            }
        }
        Ok(settled)
    }

    fn waits_on_before(&self, state: StateId) -> bool {
        matches!(self.nfa.states[state as usize], NfaState::Look(..)) && self.asks[state as usize]
    }

    fn target(&self, state: StateId, byte: u8) -> Option<StateId> {
        let NfaState::Bytes(ranges) = &self.nfa.states[state as usize] else {
            return None;
        };
        let at = ranges.partition_point(|&(_, last, _)| last < byte);
        ranges
            .get(at)
            .filter(|range| range.0 <= byte)
            .map(|range| range.2)
    }

    fn begin(&mut self) {
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.seen.fill(0);
            self.stamp = 1;
        }
    }

    fn close(
        &mut self,
        state: StateId,
        obligations: ObligationsId,
        before: Before,
        out: &mut Vec<Thread>,
    ) -> Result<(), ConstrainError> {
        self.begin();
        self.close_more(state, obligations, before, out)
    }

    /// Adds what can be reached from `state` without a byte. States seen since [`begin`](Self::begin) without
    /// obligations are not added again.
    fn close_more(
        &mut self,
        state: StateId,
        obligations: ObligationsId,
        before: Before,
        out: &mut Vec<Thread>,
    ) -> Result<(), ConstrainError> {
        if obligations != 0 {
            return self.close_bound(state, obligations, before, out);
        }
        debug_assert!(self.stack.is_empty());
        self.stack.push(state);
        while let Some(state) = self.stack.pop() {
            if std::mem::replace(&mut self.seen[state as usize], self.stamp) == self.stamp {
                continue;
            }
            match &self.nfa.states[state as usize] {
                NfaState::Split(targets) => self.stack.extend(targets.iter().rev()),
                NfaState::Look(look, target) => match look.known(before) {
                    Some(true) => self.stack.push(*target),
                    Some(false) => {}
                    None => out.push((state, 0)),
                },
                NfaState::Ahead {
                    negative,
                    ahead,
                    next,
                } => {
                    let (negative, ahead, next) = (*negative, *ahead, *next);
                    let waiting = std::mem::take(&mut self.stack);
                    if let Some(bound) = self.bind(0, negative, ahead, before)? {
                        match bound {
                            0 => self.stack.push(next),
                            bound => self.close_bound(next, bound, before, out)?,
                        }
                    }
                    self.stack.extend(waiting);
                }
                NfaState::Bytes(_) | NfaState::Match => out.push((state, 0)),
            }
        }
        Limits::check("max_alternatives", out.len(), self.max_threads)
    }

    /// The same under obligations, where a state may be reached under several.
    fn close_bound(
        &mut self,
        state: StateId,
        obligations: ObligationsId,
        before: Before,
        out: &mut Vec<Thread>,
    ) -> Result<(), ConstrainError> {
        let mut seen: FastMap<Thread, ()> = FastMap::default();
        let mut stack = vec![(state, obligations)];
        while let Some((state, obligations)) = stack.pop() {
            if seen.insert((state, obligations), ()).is_some() {
                continue;
            }
            Limits::check("max_alternatives", seen.len(), self.max_threads)?;
            match &self.nfa.states[state as usize] {
                NfaState::Split(targets) => {
                    stack.extend(targets.iter().rev().map(|&target| (target, obligations)))
                }
                NfaState::Look(look, target) => match look.known(before) {
                    Some(true) => stack.push((*target, obligations)),
                    Some(false) => {}
                    None => out.push((state, obligations)),
                },
                NfaState::Ahead {
                    negative,
                    ahead,
                    next,
                } => {
                    let (negative, ahead, next) = (*negative, *ahead, *next);
                    if let Some(bound) = self.bind(obligations, negative, ahead, before)? {
                        stack.push((next, bound));
                    }
                }
                NfaState::Bytes(_) | NfaState::Match => out.push((state, obligations)),
            }
        }
        Limits::check("max_alternatives", out.len(), self.max_threads)
    }

    /// Adds a look-ahead that begins here; `None` when it fails here already.
    fn bind(
        &mut self,
        obligations: ObligationsId,
        negative: bool,
        ahead: StateId,
        before: Before,
    ) -> Result<Option<ObligationsId>, ConstrainError> {
        let states = self.ahead_closure(&[ahead], before)?;
        Ok(match Self::outcome(negative, states) {
            Outcome::Met => Some(obligations),
            Outcome::Broken => None,
            Outcome::Open(states) => {
                let mut list = self.obligations[obligations as usize].clone();
                list.push(Obligation { negative, states });
                Some(self.intern(list)?)
            }
        })
    }

    fn outcome(negative: bool, states: Box<[StateId]>) -> Outcome {
        let matched = states.first() == Some(&MATCH);
        match (matched, states.is_empty(), negative) {
            (true, _, false) | (false, true, true) => Outcome::Met,
            (true, _, true) | (false, true, false) => Outcome::Broken,
            (false, false, _) => Outcome::Open(states),
        }
    }

    fn intern(&mut self, mut list: Vec<Obligation>) -> Result<ObligationsId, ConstrainError> {
        list.sort_unstable_by(|a, b| (a.negative, &a.states).cmp(&(b.negative, &b.states)));
        list.dedup();
        if let Some(&id) = self.obligation_ids.get(&list) {
            return Ok(id);
        }
        Limits::check("max_dfa_states", self.obligations.len(), self.max_lists)?;
        let id = self.obligations.len() as ObligationsId;
        self.obligations.push(list.clone());
        self.obligation_ids.insert(list, id);
        Ok(id)
    }

    /// What look-ahead states reach without a byte, sorted ([`MATCH`] comes first). Look-ahead in look-ahead is refused
    /// when the pattern is compiled.
    fn ahead_closure(
        &self,
        from: &[StateId],
        before: Before,
    ) -> Result<Box<[StateId]>, ConstrainError> {
        let mut seen: FastMap<StateId, ()> = FastMap::default();
        let mut stack = from.to_vec();
        let mut out = Vec::new();
        while let Some(state) = stack.pop() {
            if seen.insert(state, ()).is_some() {
                continue;
            }
            Limits::check("max_alternatives", seen.len(), self.max_threads)?;
            match &self.nfa.states[state as usize] {
                NfaState::Split(targets) => stack.extend(targets),
                NfaState::Look(look, target) => match look.known(before) {
                    Some(true) => stack.push(*target),
                    Some(false) => {}
                    None => out.push(state),
                },
                NfaState::Ahead { .. } => {}
                NfaState::Bytes(_) => out.push(state),
                // Nothing that follows can change the outcome.
                NfaState::Match => return Ok([MATCH].into()),
            }
        }
        out.sort_unstable();
        Ok(out.into_boxed_slice())
    }

    /// Resolves the waiting conditions of a look-ahead.
    fn ahead_settled(
        &self,
        states: &[StateId],
        before: Before,
        next: Option<u8>,
    ) -> Result<Box<[StateId]>, ConstrainError> {
        let mut settled = Vec::new();
        let mut queue = states.to_vec();
        let mut seen: FastMap<StateId, ()> = FastMap::default();
        while let Some(state) = queue.pop() {
            if seen.insert(state, ()).is_some() {
                continue;
            }
            match self.nfa.states[state as usize] {
                NfaState::Look(look, target) if look.holds(before, next) => {
                    queue.extend(self.ahead_closure(&[target], before)?);
                }
                NfaState::Look(..) => {}
                _ => settled.push(state),
            }
        }
        settled.sort_unstable();
        settled.dedup();
        Ok(settled.into_boxed_slice())
    }

    fn step_obligations(
        &mut self,
        obligations: ObligationsId,
        before: Before,
        byte: u8,
    ) -> Result<Option<ObligationsId>, ConstrainError> {
        let list = self.obligations[obligations as usize].clone();
        let mut next = Vec::with_capacity(list.len());
        for Obligation { negative, states } in list {
            let settled = self.ahead_settled(&states, before, Some(byte))?;
            let states = match settled.first() {
                Some(&MATCH) => settled,
                _ => {
                    let targets: Vec<_> = settled
                        .iter()
                        .filter_map(|&state| self.target(state, byte))
                        .collect();
                    self.ahead_closure(&targets, Before::of(byte))?
                }
            };
            match Self::outcome(negative, states) {
                Outcome::Met => {}
                Outcome::Broken => return Ok(None),
                Outcome::Open(states) => next.push(Obligation { negative, states }),
            }
        }
        Ok(Some(self.intern(next)?))
    }

    fn ends_well(
        &self,
        obligations: ObligationsId,
        before: Before,
    ) -> Result<bool, ConstrainError> {
        for Obligation { negative, states } in &self.obligations[obligations as usize] {
            let matched = self.ahead_settled(states, before, None)?.first() == Some(&MATCH);
            if matched == *negative {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drops threads that cannot reach the end and what does not matter of the byte before.
    fn finish(
        &mut self,
        mut threads: Vec<Thread>,
        before: Before,
    ) -> Result<Subset, ConstrainError> {
        if let Some(sink) = self.nfa.sink {
            // The sink's own states all lead back to it, so that any of them without obligations would do; only the
            // sink itself says that the text so far is complete and everything may follow.
            if threads.contains(&(MATCH, 0)) && self.seen[sink as usize] == self.stamp {
                threads.clear();
                self.close(sink, 0, Before::Other, &mut threads)?;
            }
        }
        threads.retain(|&(state, _)| self.reaches[state as usize]);
        threads.sort_unstable();
        threads.dedup();
        let before_matters = threads.iter().any(|&(state, obligations)| {
            let open = &self.obligations[obligations as usize];
            self.waits_on_before(state)
                || open
                    .iter()
                    .flat_map(|o| &o.states)
                    .any(|&s| self.waits_on_before(s))
        });
        let before = match before_matters {
            true => before,
            false => Before::Any,
        };
        Ok(Subset {
            before,
            threads: threads.into_boxed_slice(),
        })
    }
}

/// Threads allowed for each alternative of [`Limits::max_alternatives`]: NFA states are small.
const THREADS_PER_ALTERNATIVE: usize = 8;

impl Before {
    fn of(byte: u8) -> Self {
        match byte {
            b'\n' => Self::LineFeed,
            byte if is_word(byte) => Self::Word,
            _ => Self::Other,
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Look {
    /// Whether the condition holds, when the next byte does not matter.
    fn known(self, before: Before) -> Option<bool> {
        match self {
            Self::Start => Some(before == Before::Nothing),
            Self::LineStart => Some(matches!(before, Before::Nothing | Before::LineFeed)),
            Self::End | Self::LineEnd | Self::Word | Self::NotWord => None,
        }
    }

    fn holds(self, before: Before, next: Option<u8>) -> bool {
        let boundary = (before == Before::Word) != next.is_some_and(is_word);
        match self {
            Self::Start => before == Before::Nothing,
            Self::LineStart => matches!(before, Before::Nothing | Before::LineFeed),
            Self::End => next.is_none(),
            Self::LineEnd => next.is_none_or(|byte| byte == b'\n'),
            Self::Word => boundary,
            Self::NotWord => !boundary,
        }
    }
}
