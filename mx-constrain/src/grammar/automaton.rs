//! The automaton multiplied with what is owed to the longest-match rule, and what each state can still do.
//!
//! A terminal of Lark takes the longest match that the text offers from where the terminal began. When a match ends in
//! a state of the terminal that could go on, that state is *owed*: it reads on in the shadow of what follows, and the
//! text is refused as soon as it accepts, for then there was a longer match. Owed states die when they can read no
//! further, mostly with the next byte. Grammars without such terminals owe nothing, and every state here is a state of
//! the [`Rtn`].

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{ByteSet, ConstrainError, Limits, hash::FastMap};

use super::{
    foreign::Foreign,
    ir::Context,
    rtn::{Rtn, TAIL},
};

/// A set of owed states, interned; 0 is the empty set.
pub(super) type Debt = u32;

/// Nothing owed.
pub(super) const FREE: Debt = 0;

/// What the recogniser runs on.
#[derive(Debug)]
pub(super) struct Automaton {
    pub(super) states: Vec<AutomatonState>,
    pub(super) start: u32,
    /// Whether the empty text is derived.
    pub(super) nullable: bool,
    /// Number of distinct debts.
    pub(super) debts: usize,
    /// Class of each byte: bytes of one class are never told apart.
    pub(super) class_of: [u8; 256],
    pub(super) classes: usize,
    /// First byte of each class.
    pub(super) class_byte: Vec<u8>,
    pub(super) rules: Vec<RuleName>,
    /// Of each state of the [`Rtn`]: whether its rule may end there.
    returns: Vec<bool>,
    /// Machines of other languages inside the grammar.
    pub(super) foreign: Foreign,
    stars: Vec<bool>,
    state_of: FastMap<(u32, Debt), u32>,
    debts_of: FastMap<u32, Vec<Debt>>,
}

/// Name of a rule.
#[derive(Debug)]
pub(super) struct RuleName {
    pub(super) name: String,
    pub(super) terminal: bool,
}

/// A state of a rule with a debt.
#[derive(Debug)]
pub(super) struct AutomatonState {
    pub(super) rule: u32,
    /// Grows along calls that are made before anything is read.
    pub(super) rank: u32,
    /// Ranges of byte classes and where they lead.
    pub(super) edges: Box<[(u8, u8, u32)]>,
    /// States of entered rules, and the state of the [`Rtn`] to return to, or [`TAIL`].
    pub(super) calls: Box<[(u32, u32)]>,
    /// The debt with which the rule may end here.
    pub(super) accept: Option<Debt>,
    /// Whether a text that gets here gives up whatever else it could be.
    pub(super) wins: bool,
    /// Bytes on which an edge leads away.
    pub(super) live: ByteSet,
    /// Debts with which the rule can end from here, and the fewest bytes to each.
    pub(super) ends: Box<[(Debt, u32)]>,
    /// Where another machine reads: its configuration at the start.
    pub(super) foreign: Option<u32>,
}

/// Marks the number of a configuration of [`Foreign`] among states.
const FOREIGN: u32 = 1 << 31;

impl Automaton {
    /// The state where a rule goes on after a call that ended with a debt; `None` when it cannot.
    pub(super) fn resume(&self, state: u32, debt: Debt) -> Option<u32> {
        self.state_of
            .get(&(state, debt))
            .copied()
            .filter(|&id| !self.states[id as usize].ends.is_empty())
    }

    /// Whether a rule may end as soon as it is returned to.
    pub(super) fn may_end(&self, state: u32) -> bool {
        self.returns[state as usize]
    }

    /// Whether returning to a state twice is the same as returning to it once.
    pub(super) fn is_star(&self, state: u32) -> bool {
        self.stars[state as usize]
    }

    /// The debts with which a state of the [`Rtn`] may be returned to.
    pub(super) fn debts_at(&self, state: u32) -> &[Debt] {
        self.debts_of.get(&state).map_or(&[], Vec::as_slice)
    }

    /// The configuration of another machine that stands for a state.
    pub(super) fn configuration(state: u32) -> Option<u32> {
        (state & FOREIGN != 0).then_some(state & !FOREIGN)
    }

    /// The state of a configuration of another machine.
    pub(super) fn outside(configuration: u32) -> u32 {
        configuration | FOREIGN
    }

    /// What reads in a state, if anything does.
    pub(super) fn reader(&self, state: u32) -> Option<u32> {
        if let Some(configuration) = Self::configuration(state) {
            return (!self.foreign.live(configuration).is_empty()).then_some(state);
        }
        let inside = &self.states[state as usize];
        match inside.foreign {
            Some(configuration) => Some(Self::outside(configuration)),
            None => (!inside.edges.is_empty()).then_some(state),
        }
    }

    /// Debts with which the rule can end from a state, and the fewest bytes to each.
    pub(super) fn ends(&self, state: u32) -> &[(Debt, u32)] {
        match Self::configuration(state) {
            Some(configuration) => self.foreign.ends(configuration),
            None => &self.states[state as usize].ends,
        }
    }

    /// The debt with which the rule may end in a state.
    pub(super) fn accept(&self, state: u32) -> Option<Debt> {
        match Self::configuration(state) {
            Some(configuration) => self.foreign.accepts(configuration).then_some(FREE),
            None => self.states[state as usize].accept,
        }
    }

    /// States of rules entered in a state, and where to return.
    pub(super) fn calls(&self, state: u32) -> &[(u32, u32)] {
        match Self::configuration(state) {
            Some(_) => &[],
            None => &self.states[state as usize].calls,
        }
    }

    /// Ranges of byte classes and where they lead; none where another machine reads.
    pub(super) fn edges(&self, state: u32) -> &[(u8, u8, u32)] {
        match Self::configuration(state) {
            Some(_) => &[],
            None => &self.states[state as usize].edges,
        }
    }

    /// Whether a text that gets to a state gives up whatever else it could be.
    pub(super) fn wins(&self, state: u32) -> bool {
        Self::configuration(state).is_none() && self.states[state as usize].wins
    }

    /// Bytes on which something leads away from a state; more where another machine reads and knows no better.
    pub(super) fn live(&self, state: u32) -> ByteSet {
        match Self::configuration(state) {
            Some(configuration) => self.foreign.live(configuration),
            None => self.states[state as usize].live,
        }
    }

    /// Bytes that this takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let state = size_of::<AutomatonState>();
        self.states
            .iter()
            .map(|s| state + s.edges.len() * 8 + s.calls.len() * 8 + s.ends.len() * 8 + 24)
            .sum()
    }
}

/// Multiplies an [`Rtn`] with its debts.
pub(super) fn build(
    rtn: &Rtn,
    foreign: Foreign,
    context: &mut Context<'_>,
) -> Result<Automaton, ConstrainError> {
    let (class_of, class_byte) = classes(rtn);
    let mut builder = Builder {
        rtn,
        foreign,
        class_of,
        class_byte,
        states: Vec::new(),
        state_of: FastMap::default(),
        debts: vec![Vec::new()],
        debt_of: FastMap::default(),
        after: FastMap::default(),
        fresh: Vec::new(),
        links: Vec::new(),
        linked: FastMap::default(),
        heap: BinaryHeap::new(),
    };
    builder.debt_of.insert(Vec::new(), FREE);
    let start = builder.state(rtn.rules[rtn.start as usize].entry, FREE, context)?;
    builder.solve(context)?;
    Ok(builder.finish(start))
}

/// A coarsest partition of the bytes that no range of the automaton cuts.
fn classes(rtn: &Rtn) -> ([u8; 256], Vec<u8>) {
    // Another machine may tell any two bytes apart.
    let mut begins = [rtn.states.iter().any(|state| state.foreign != 0); 256];
    begins[0] = true;
    for &(low, high, _) in rtn.states.iter().flat_map(|state| &state.bytes) {
        begins[low as usize] = true;
        if high < u8::MAX {
            begins[high as usize + 1] = true;
        }
    }
    let (mut class_of, mut class_byte) = ([0; 256], Vec::new());
    for byte in 0..=u8::MAX {
        if begins[byte as usize] {
            class_byte.push(byte);
        }
        class_of[byte as usize] = (class_byte.len() - 1) as u8;
    }
    (class_of, class_byte)
}

/// Who learns when a state can end with a debt.
#[derive(Debug, Clone, Copy)]
enum Link {
    /// `state` has an edge here.
    Edge { state: u32 },
    /// `state` calls a rule here and returns to `to`.
    Call { state: u32, to: u32 },
    /// `state` called `entry`, which ended with `debt`, and goes on here.
    Return { state: u32, entry: u32, debt: Debt },
}

struct Draft {
    rtn: u32,
    debt: Debt,
    edges: Vec<(u8, u8, u32)>,
    calls: Vec<(u32, u32)>,
    accept: Option<Debt>,
    ends: Vec<(Debt, u32)>,
    foreign: Option<u32>,
}

struct Builder<'a> {
    rtn: &'a Rtn,
    foreign: Foreign,
    class_of: [u8; 256],
    class_byte: Vec<u8>,
    states: Vec<Draft>,
    state_of: FastMap<(u32, Debt), u32>,
    debts: Vec<Vec<u32>>,
    debt_of: FastMap<Vec<u32>, Debt>,
    after: FastMap<(Debt, u8), Option<Debt>>,
    /// States whose edges are not written yet.
    fresh: Vec<u32>,
    links: Vec<Vec<Link>>,
    linked: FastMap<(u32, u32, u32, Debt), ()>,
    /// (bytes, state, debt): the state can end with the debt after so many bytes.
    heap: BinaryHeap<Reverse<(u32, u32, Debt)>>,
}

impl Builder<'_> {
    fn state(
        &mut self,
        rtn: u32,
        debt: Debt,
        context: &mut Context<'_>,
    ) -> Result<u32, ConstrainError> {
        if let Some(&id) = self.state_of.get(&(rtn, debt)) {
            return Ok(id);
        }
        Limits::check("max_nodes", self.states.len() + 1, context.limits.max_nodes)?;
        let id = self.states.len() as u32;
        let (edges, calls, ends) = (Vec::new(), Vec::new(), Vec::new());
        self.states.push(Draft {
            rtn,
            debt,
            edges,
            calls,
            accept: None,
            ends,
            foreign: None,
        });
        self.links.push(Vec::new());
        self.state_of.insert((rtn, debt), id);
        self.fresh.push(id);
        Ok(id)
    }

    fn debt(&mut self, owed: Vec<u32>, context: &mut Context<'_>) -> Result<Debt, ConstrainError> {
        if let Some(&id) = self.debt_of.get(&owed) {
            return Ok(id);
        }
        context.spend(1 + owed.len())?;
        let id = self.debts.len() as Debt;
        self.debt_of.insert(owed.clone(), id);
        self.debts.push(owed);
        Ok(id)
    }

    /// What is still owed after a byte of a class; `None` when a longer match showed.
    fn after(
        &mut self,
        debt: Debt,
        class: u8,
        context: &mut Context<'_>,
    ) -> Result<Option<Debt>, ConstrainError> {
        if debt == FREE {
            return Ok(Some(FREE));
        }
        if let Some(&known) = self.after.get(&(debt, class)) {
            return Ok(known);
        }
        let byte = self.class_byte[class as usize];
        let mut owed = Vec::new();
        let mut kept = true;
        for &state in &self.debts[debt as usize] {
            let edges = &self.rtn.states[state as usize].bytes;
            let Some(edge) = edges.iter().find(|edge| (edge.0..=edge.1).contains(&byte)) else {
                continue;
            };
            kept &= !self.rtn.states[edge.2 as usize].accept;
            owed.push(edge.2);
        }
        owed.sort_unstable();
        owed.dedup();
        let after = if kept {
            Some(self.debt(owed, context)?)
        } else {
            None
        };
        self.after.insert((debt, class), after);
        Ok(after)
    }

    /// Writes the edges of new states and finds the cheapest ways to end.
    fn solve(&mut self, context: &mut Context<'_>) -> Result<(), ConstrainError> {
        loop {
            while let Some(id) = self.fresh.pop() {
                self.expand(id, context)?;
            }
            let Some(Reverse((bytes, state, debt))) = self.heap.pop() else {
                return Ok(());
            };
            let ends = &mut self.states[state as usize].ends;
            match ends.iter_mut().find(|end| end.0 == debt) {
                Some(end) if end.1 <= bytes => continue,
                Some(end) => end.1 = bytes,
                None => ends.push((debt, bytes)),
            }
            context.spend(1 + self.links[state as usize].len())?;
            for at in 0..self.links[state as usize].len() {
                self.tell(self.links[state as usize][at], state, debt, bytes, context)?;
            }
        }
    }

    /// `state` can end with `debt` after `bytes` bytes: what the reader of that learns.
    fn tell(
        &mut self,
        link: Link,
        state: u32,
        debt: Debt,
        bytes: u32,
        context: &mut Context<'_>,
    ) -> Result<(), ConstrainError> {
        context.spend(1)?;
        match link {
            Link::Edge { state: from } => self.improve(bytes.saturating_add(1), from, debt),
            Link::Call {
                state: from,
                to: TAIL,
            } => self.improve(bytes, from, debt),
            Link::Call { state: from, to } => {
                let next = self.state(to, debt, context)?;
                if self.linked.insert((next, from, state, debt), ()).is_none() {
                    self.links[next as usize].push(Link::Return {
                        state: from,
                        entry: state,
                        debt,
                    });
                }
                for at in 0..self.states[next as usize].ends.len() {
                    let (end, more) = self.states[next as usize].ends[at];
                    self.improve(bytes.saturating_add(more), from, end);
                }
            }
            Link::Return {
                state: from,
                entry,
                debt: before,
            } => {
                let ends = &self.states[entry as usize].ends;
                if let Some(&(_, first)) = ends.iter().find(|end| end.0 == before) {
                    self.improve(bytes.saturating_add(first), from, debt);
                }
            }
        }
        Ok(())
    }

    /// Lets a reader know what is known already, and what will be.
    fn link(
        &mut self,
        state: u32,
        link: Link,
        context: &mut Context<'_>,
    ) -> Result<(), ConstrainError> {
        self.links[state as usize].push(link);
        for at in 0..self.states[state as usize].ends.len() {
            let (debt, bytes) = self.states[state as usize].ends[at];
            self.tell(link, state, debt, bytes, context)?;
        }
        Ok(())
    }

    fn improve(&mut self, bytes: u32, state: u32, debt: Debt) {
        let known = self.states[state as usize]
            .ends
            .iter()
            .find(|end| end.0 == debt);
        if known.is_none_or(|end| bytes < end.1) {
            self.heap.push(Reverse((bytes, state, debt)));
        }
    }

    fn expand(&mut self, id: u32, context: &mut Context<'_>) -> Result<(), ConstrainError> {
        let Draft { rtn: at, debt, .. } = self.states[id as usize];
        let rtn = self.rtn;
        let state = &rtn.states[at as usize];
        context.spend(1 + state.bytes.len() + state.calls.len())?;
        let mut edges: Vec<(u8, u8, u32)> = Vec::new();
        for &(low, high, to) in &state.bytes {
            let (low, high) = (self.class_of[low as usize], self.class_of[high as usize]);
            let first = edges.len();
            for class in low..=high {
                let Some(after) = self.after(debt, class, context)? else {
                    continue;
                };
                let to = self.state(to, after, context)?;
                match edges[first..].last_mut() {
                    Some(last) if last.2 == to && last.1 + 1 == class => last.1 = class,
                    _ => edges.push((class, class, to)),
                }
            }
        }
        let mut targets: Vec<u32> = edges.iter().map(|edge| edge.2).collect();
        targets.sort_unstable();
        targets.dedup();
        for target in targets {
            self.link(target, Link::Edge { state: id }, context)?;
        }
        self.states[id as usize].edges = edges;
        for &(callee, to) in &state.calls {
            let entry = self.state(rtn.rules[callee as usize].entry, debt, context)?;
            self.states[id as usize].calls.push((entry, to));
            self.link(entry, Link::Call { state: id, to }, context)?;
        }
        if let Some(machine) = state.foreign.checked_sub(1) {
            let mut allowed = ByteSet::EMPTY;
            for byte in 0..=u8::MAX {
                if self.after(debt, self.class_of[byte as usize], context)? == Some(FREE) {
                    allowed.insert(byte);
                }
            }
            let start = self.foreign.start(machine, allowed, context.limits)?;
            self.states[id as usize].foreign = start;
            if let Some(start) = start {
                self.improve(self.foreign.ends(start)[0].1, id, FREE);
            }
        }
        if state.accept {
            let mut owed = self.debts[debt as usize].clone();
            if state.longest && !state.bytes.is_empty() {
                owed.push(at);
                owed.sort_unstable();
                owed.dedup();
            }
            let end = self.debt(owed, context)?;
            self.states[id as usize].accept = Some(end);
            self.improve(0, id, end);
        }
        Ok(())
    }

    fn finish(self, start: u32) -> Automaton {
        let Self {
            rtn,
            foreign,
            class_of,
            class_byte,
            states: drafts,
            state_of,
            debts,
            ..
        } = self;
        let ends: Vec<bool> = drafts.iter().map(|draft| !draft.ends.is_empty()).collect();
        let returns_somewhere = |entry: u32, to: u32| {
            to == TAIL
                || drafts[entry as usize].ends.iter().any(|(debt, _)| {
                    state_of
                        .get(&(to, *debt))
                        .is_some_and(|&next| ends[next as usize])
                })
        };
        let states = drafts.iter().map(|draft| {
            let edges: Box<[_]> = draft
                .edges
                .iter()
                .copied()
                .filter(|edge| ends[edge.2 as usize])
                .collect();
            let calls = draft.calls.iter().copied();
            let calls = calls
                .filter(|&(entry, to)| ends[entry as usize] && returns_somewhere(entry, to))
                .collect();
            let mut live = ByteSet::EMPTY;
            for &(low, high, _) in &edges {
                let after = class_byte
                    .get(high as usize + 1)
                    .map_or(u8::MAX, |next| next - 1);
                live = live.union(&ByteSet::range(class_byte[low as usize], after));
            }
            let rule = rtn.states[draft.rtn as usize].rule;
            let mut ends: Box<[_]> = draft.ends.clone().into_boxed_slice();
            ends.sort_unstable();
            let rank = rtn.rules[rule as usize].rank;
            let wins = rtn.states[draft.rtn as usize].wins;
            AutomatonState {
                rule,
                rank,
                edges,
                calls,
                accept: draft.accept,
                wins,
                live,
                ends,
                foreign: draft.foreign,
            }
        });
        let states = states.collect();
        let mut debts_of: FastMap<u32, Vec<Debt>> = FastMap::default();
        for (draft, _) in drafts.iter().zip(&ends).filter(|(_, ends)| **ends) {
            debts_of.entry(draft.rtn).or_default().push(draft.debt);
        }
        Automaton {
            states,
            start,
            nullable: rtn.nullable,
            debts: debts.len(),
            classes: class_byte.len(),
            class_of,
            class_byte,
            rules: rtn
                .rules
                .iter()
                .map(|rule| RuleName {
                    name: rule.name.clone(),
                    terminal: rule.terminal,
                })
                .collect(),
            foreign,
            returns: rtn.states.iter().map(|state| state.accept).collect(),
            stars: rtn.states.iter().map(|state| state.is_star).collect(),
            state_of,
            debts_of,
        }
    }
}
