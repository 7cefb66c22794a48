//! The machine of a grammar: sets of items, interned, cut into frames.
//!
//! A state is the set of all places in the grammar where the text read so far can be, each with its set of return
//! stacks ([`stacks`](super::stacks)). Sets are interned, so that a state is one number and its bytes one table row.
//!
//! Where all stacks of a state end in the same returns, and at least one of these must read something before its rule
//! can end, the state is cut there: the common returns become the frame below, which waits, and what is above becomes
//! a frame of its own, whose states are the same wherever the rule is called. When the upper frame can be at its end,
//! it closes; what else it could still be (a number may go on after its last digit) is handed down in the verdict and
//! joined with where the frame below goes on.

use crate::{
    ByteSet, ConstrainError, Limits, Refusal,
    hash::FastMap,
    machine::{Machine, Plain, State, Step, Verdict},
};

use super::{
    automaton::{Automaton, FREE},
    explain, plain,
    settle::{Item, Settled, is_viable, settle, unite},
    stacks::{GROUND, StackTable, Stacks, cheapest_end},
};

/// A state of one frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Frame {
    /// Reads. `at_end` says whether the text may end here (only at the bottom).
    Open {
        items: Box<[Item]>,
        is_bottom: bool,
        at_end: bool,
    },
    /// Waits for the frame above, with these returns.
    Waiting { returns: Stacks },
}

/// The machine of one grammar.
#[derive(Debug)]
pub(super) struct Recogniser {
    automaton: Automaton,
    alphabet: ByteSet,
    stacks: StackTable,
    limits: Limits,
    frames: Vec<Frame>,
    frame_ids: FastMap<Frame, State>,
    verdicts: Vec<Settled>,
    verdict_ids: FastMap<Settled, Verdict>,
    pushes: Vec<(State, State)>,
    resumed: FastMap<(State, Verdict), Option<State>>,
    /// `classes` cells per state, see [`encode`].
    table: Vec<u32>,
    start: State,
    fixed_bytes: usize,
    frame_bytes: usize,
}

/// Bytes that go on with a character.
const CONTINUATION: ByteSet = ByteSet::range(0x80, 0xbf);
/// A cell that was not computed yet.
const UNKNOWN: u32 = 0;
/// A cell whose byte is refused.
const DEAD: u32 = 1;
/// Kinds of the other cells, in the two lowest bits; the rest is a number.
const STAY: u32 = 1;
const POP: u32 = 2;
const PUSH: u32 = 3;
/// Numbers begin here, so that no cell of a kind is [`DEAD`].
const FIRST: u32 = 1;

impl Recogniser {
    /// A machine at the start of the text.
    pub(super) fn new(
        automaton: Automaton,
        alphabet: &ByteSet,
        limits: &Limits,
    ) -> Result<Self, ConstrainError> {
        let stacks = StackTable::new(&automaton);
        let fixed_bytes = automaton.bytes();
        let mut machine = Self {
            automaton,
            alphabet: *alphabet,
            stacks,
            limits: limits.clone(),
            frames: Vec::new(),
            frame_ids: FastMap::default(),
            verdicts: Vec::new(),
            verdict_ids: FastMap::default(),
            pushes: Vec::new(),
            resumed: FastMap::default(),
            table: Vec::new(),
            start: 0,
            fixed_bytes,
            frame_bytes: 0,
        };
        let ground = machine.stacks.empty(&machine.automaton, GROUND);
        let entry = machine.automaton.start;
        let mut settled = settle(
            &machine.automaton,
            &mut machine.stacks,
            limits,
            vec![(entry, ground)],
        )?;
        if machine.automaton.nullable {
            settled.done.push(FREE);
        }
        let at_end = !settled.done.is_empty();
        machine.start = machine.frame(Frame::Open {
            items: settled.items.into(),
            is_bottom: true,
            at_end,
        })?;
        Ok(machine)
    }

    /// What another machine says about plain characters, when nothing else reads in `state`.
    pub(super) fn outside_plain(&mut self, state: State) -> Result<Option<Plain>, ConstrainError> {
        match self.items(state) {
            &[(only, _)] => match Automaton::configuration(only) {
                Some(configuration) => self.automaton.foreign.plain(configuration).map(Some),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// Whether a byte is in the alphabet.
    pub(super) fn has_byte(&self, byte: u8) -> bool {
        self.alphabet.contains(byte)
    }

    fn items(&self, state: State) -> &[Item] {
        match &self.frames[state as usize] {
            Frame::Open { items, .. } => items,
            Frame::Waiting { .. } => &[],
        }
    }

    fn frame(&mut self, frame: Frame) -> Result<State, ConstrainError> {
        if let Some(&state) = self.frame_ids.get(&frame) {
            return Ok(state);
        }
        Limits::check("max_states", self.frames.len() + 1, self.limits.max_states)?;
        let state = self.frames.len() as State;
        if let Frame::Open { items, .. } = &frame {
            self.frame_bytes += items.len() * size_of::<Item>() * 2;
        }
        self.frame_bytes += 2 * size_of::<Frame>() + 16 + self.automaton.classes * size_of::<u32>();
        self.frames.push(frame.clone());
        self.frame_ids.insert(frame, state);
        self.table
            .resize(self.table.len() + self.automaton.classes, UNKNOWN);
        Limits::check("max_table_bytes", self.bytes(), self.limits.max_table_bytes)?;
        Ok(state)
    }

    fn verdict(&mut self, settled: Settled) -> Verdict {
        if let Some(&verdict) = self.verdict_ids.get(&settled) {
            return verdict;
        }
        let verdict = self.verdicts.len() as Verdict;
        self.frame_bytes +=
            2 * (settled.items.len() * size_of::<Item>() + settled.done.len() * 4 + 64);
        self.verdicts.push(settled.clone());
        self.verdict_ids.insert(settled, verdict);
        verdict
    }

    /// Computes a cell of the table.
    fn follow(&mut self, state: State, class: u8) -> Result<u32, ConstrainError> {
        let Frame::Open {
            items, is_bottom, ..
        } = &self.frames[state as usize]
        else {
            return Ok(DEAD);
        };
        let is_bottom = *is_bottom;
        let mut reached: Vec<Item> = Vec::new();
        let mut outside: Vec<Item> = Vec::new();
        for &(at, below) in items {
            if Automaton::configuration(at).is_some() {
                outside.push((at, below));
            }
            let edges = self.automaton.edges(at).iter();
            reached.extend(
                edges
                    .filter(|edge| (edge.0..=edge.1).contains(&class))
                    .map(|&(_, _, to)| (to, below)),
            );
        }
        let byte = self.automaton.class_byte[class as usize];
        for (at, below) in outside {
            let Some(configuration) = Automaton::configuration(at) else {
                continue;
            };
            let next = self
                .automaton
                .foreign
                .step(configuration, byte, &self.limits)?;
            reached.extend(next.map(|next| (Automaton::outside(next), below)));
        }
        if reached.is_empty() {
            return Ok(DEAD);
        }
        let wins = |item: &Item| {
            self.automaton.wins(item.0) && is_viable(&self.automaton, &self.stacks, *item)
        };
        if reached.iter().any(wins) {
            reached.retain(wins);
        }
        let settled = settle(&self.automaton, &mut self.stacks, &self.limits, reached)?;
        if settled.items.is_empty() && settled.done.is_empty() {
            return Ok(DEAD);
        }
        if is_bottom {
            if !settled.done.is_empty() {
                let frame = Frame::Open {
                    items: settled.items.into(),
                    is_bottom,
                    at_end: true,
                };
                return Ok(encode(STAY, self.frame(frame)?));
            }
        } else if !settled.done.is_empty() {
            return Ok(encode(POP, self.verdict(settled)));
        }
        self.cut(settled.items, is_bottom)
    }

    /// Makes a state, or two where all stacks end alike.
    fn cut(&mut self, items: Vec<Item>, is_bottom: bool) -> Result<u32, ConstrainError> {
        let mut common = self.stacks.common_end(items[0].1);
        for item in &items[1..] {
            common = self.stacks.common(common, item.1);
        }
        // In the middle of a character the text is about to be back where it was, maybe at the end of the frame: frames
        // that open and close with every character would only be in the way of the masks.
        let live = items.iter().fold(ByteSet::EMPTY, |live, item| {
            live.union(&self.automaton.live(item.0))
        });
        if !self.stacks.blocks(common) || live.is_subset(&CONTINUATION) {
            let frame = Frame::Open {
                items: items.into(),
                is_bottom,
                at_end: false,
            };
            return Ok(encode(STAY, self.frame(frame)?));
        }
        let parent = self.frame(Frame::Waiting { returns: common })?;
        let floor = self.stacks.floor_on(common);
        let below: Vec<Stacks> = items.iter().map(|item| item.1).collect();
        let above = self
            .stacks
            .without_end(&self.automaton, &below, common, floor);
        let items = items
            .iter()
            .zip(above)
            .map(|(item, above)| (item.0, above))
            .collect();
        let child = self.frame(Frame::Open {
            items,
            is_bottom: false,
            at_end: false,
        })?;
        self.pushes.push((parent, child));
        self.frame_bytes += size_of::<(State, State)>();
        Ok(encode(PUSH, self.pushes.len() as u32 - 1))
    }

    fn join(&mut self, returns: Stacks, verdict: Verdict) -> Result<Option<State>, ConstrainError> {
        let Settled { items, done } = self.verdicts[verdict as usize].clone();
        let edges = self.stacks.edges(returns).to_vec();
        let reached = done
            .iter()
            .flat_map(|&debt| edges.iter().map(move |&(to, below)| (to, debt, below)))
            .filter_map(|(to, debt, below)| {
                self.automaton.resume(to, debt).map(|state| (state, below))
            })
            .collect();
        let settled = settle(&self.automaton, &mut self.stacks, &self.limits, reached)?;
        let above: Vec<Stacks> = items.iter().map(|item| item.1).collect();
        let joined = self.stacks.with_end(&self.automaton, &above, returns);
        let mut all = settled.items;
        all.extend(
            items
                .iter()
                .zip(joined)
                .map(|(item, stacks)| (item.0, stacks)),
        );
        all.retain(|&item| is_viable(&self.automaton, &self.stacks, item));
        unite(&self.automaton, &mut self.stacks, &mut all);
        Limits::check("max_alternatives", all.len(), self.limits.max_alternatives)?;
        if all.is_empty() {
            return Ok(None);
        }
        let is_bottom = self.stacks.is_grounded(returns);
        let at_end = !settled.done.is_empty();
        self.frame(Frame::Open {
            items: all.into(),
            is_bottom,
            at_end,
        })
        .map(Some)
    }
}

fn encode(kind: u32, number: u32) -> u32 {
    (number + FIRST) << 2 | kind
}

impl Machine for Recogniser {
    fn start(&self) -> State {
        self.start
    }

    #[inline]
    fn step(&mut self, state: State, byte: u8) -> Result<Step, ConstrainError> {
        let class = self.automaton.class_of[byte as usize];
        let at = state as usize * self.automaton.classes + class as usize;
        let mut cell = self.table[at];
        if cell == UNKNOWN {
            cell = self.follow(state, class)?;
            self.table[at] = cell;
        }
        if cell == DEAD {
            return Ok(Step::Dead);
        }
        let number = (cell >> 2) - FIRST;
        Ok(match cell & 3 {
            STAY => Step::Stay(number),
            POP => Step::Pop(number),
            _ => {
                let (parent, child) = self.pushes[number as usize];
                Step::Push { parent, child }
            }
        })
    }

    fn resume(&mut self, parent: State, verdict: Verdict) -> Result<Option<State>, ConstrainError> {
        if let Some(&known) = self.resumed.get(&(parent, verdict)) {
            return Ok(known);
        }
        let Frame::Waiting { returns } = self.frames[parent as usize] else {
            return Ok(None);
        };
        let next = self.join(returns, verdict)?;
        self.frame_bytes += 32;
        self.resumed.insert((parent, verdict), next);
        Ok(next)
    }

    fn accepting(&mut self, state: State) -> Result<bool, ConstrainError> {
        Ok(matches!(
            self.frames[state as usize],
            Frame::Open { at_end: true, .. }
        ))
    }

    fn live(&mut self, state: State) -> Result<ByteSet, ConstrainError> {
        let sets = self
            .items(state)
            .iter()
            .map(|item| self.automaton.live(item.0));
        let candidates = sets.fold(ByteSet::EMPTY, |all, live| all.union(&live));
        if self.automaton.debts == 1 {
            return Ok(candidates);
        }
        // What is owed may make all that an edge leads to unfinishable under the stacks of this state.
        let mut live = ByteSet::EMPTY;
        for byte in &candidates {
            if self.step(state, byte)? != Step::Dead {
                live.insert(byte);
            }
        }
        Ok(live)
    }

    fn plain(&mut self, state: State) -> Result<Plain, ConstrainError> {
        plain::plain(self, state)
    }

    fn toward_end(&mut self, state: State) -> Result<Option<u8>, ConstrainError> {
        if self.accepting(state)? {
            return Ok(None);
        }
        // A state that may end its rule has been returned from already: what counts is the way over an edge.
        let mut best: Option<(u32, u8)> = None;
        for &(at, below) in self.items(state) {
            let below = self.stacks.ends(below);
            let edges = self
                .automaton
                .edges(at)
                .iter()
                .filter_map(|&(class, _, to)| {
                    let byte = self.automaton.class_byte[class as usize];
                    cheapest_end(self.automaton.ends(to), below).map(|bytes| (bytes, byte))
                });
            let outside = Automaton::configuration(at)
                .and_then(|configuration| self.automaton.foreign.toward_end(configuration))
                .and_then(|(byte, left)| {
                    cheapest_end(&[(FREE, left)], below).map(|bytes| (bytes, byte))
                });
            best = best.into_iter().chain(edges).chain(outside).min();
        }
        Ok(best.map(|(_, byte)| byte))
    }

    fn explain(&mut self, state: State, byte: u8) -> Refusal {
        let outside = self
            .items(state)
            .iter()
            .find_map(|item| Automaton::configuration(item.0));
        match outside {
            Some(configuration) if self.items(state).len() == 1 => {
                self.automaton.foreign.explain(configuration, byte)
            }
            _ => explain::refusal(&self.automaton, self.items(state)),
        }
    }

    fn states(&self) -> usize {
        self.frames.len() + self.automaton.foreign.states()
    }

    fn bytes(&self) -> usize {
        self.fixed_bytes + self.automaton.foreign.bytes() + self.frame_bytes + self.stacks.bytes()
    }
}
