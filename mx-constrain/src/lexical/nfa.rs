//! Patterns as non-deterministic automata over UTF-8 bytes.

use regex_syntax::hir::ClassUnicode;
use regex_syntax::utf8::{Utf8Range, Utf8Sequences};

use super::node::{Look, Node};
use crate::hash::FastMap;
use crate::{ByteSet, ConstrainError, Limits};

/// Index of a state.
pub(super) type StateId = u32;

/// Ranges of bytes with the states they lead to: disjoint and ascending.
pub(super) type Ranges = Box<[(u8, u8, StateId)]>;

/// One state.
#[derive(Debug, Clone)]
pub(super) enum NfaState {
    /// One byte, to the state whose range holds it.
    Bytes(Ranges),
    /// Any of these, without a byte.
    Split(Vec<StateId>),
    /// On, if the place is right.
    Look(Look, StateId),
    /// On, if what follows does (or does not) begin with a match from `ahead`.
    Ahead {
        negative: bool,
        ahead: StateId,
        next: StateId,
    },
    /// The pattern matched.
    Match,
}

/// An automaton. Its start is [`Nfa::start`], its end the only [`NfaState::Match`], [`MATCH`].
#[derive(Debug, Clone)]
pub(super) struct Nfa {
    pub(super) states: Vec<NfaState>,
    pub(super) start: StateId,
    /// In an automaton that searches: the state from which every text matches.
    pub(super) sink: Option<StateId>,
    /// Whether the automaton asks only for the start and the end of the text, so that a set of states that can reach
    /// the end one by one can reach it together.
    pub(super) simple: bool,
}

/// The state in which the pattern has matched.
pub(super) const MATCH: StateId = 0;

impl Nfa {
    /// The automaton of a pattern; with `search` that of all texts that hold a match.
    pub(super) fn new(node: &Node, search: bool, limits: &Limits) -> Result<Self, ConstrainError> {
        let mut builder = Builder {
            states: vec![NfaState::Match],
            suffixes: FastMap::default(),
            work: 0,
            max_states: limits.max_nfa_states,
            simple: true,
        };
        let mut sink = None;
        let start = if search {
            let looped = builder.repeat(&Node::any(), 0, None, MATCH)?;
            sink = Some(looped);
            let body = builder.node(node, looped)?;
            builder.repeat(&Node::any(), 0, None, body)?
        } else {
            builder.node(node, MATCH)?
        };
        let Builder { states, simple, .. } = builder;
        Ok(Self {
            states,
            start,
            sink,
            simple,
        })
    }

    /// Rough size in memory.
    pub(super) fn bytes(&self) -> usize {
        let own = self.states.len() * size_of::<NfaState>();
        let held: usize = self
            .states
            .iter()
            .map(|state| match state {
                NfaState::Bytes(ranges) => size_of_val(&**ranges),
                NfaState::Split(targets) => size_of_val(&**targets),
                _ => 0,
            })
            .sum();
        own + held
    }
}

struct Builder {
    states: Vec<NfaState>,
    /// Byte states by content: the tails of UTF-8 sequences are shared.
    suffixes: FastMap<Ranges, StateId>,
    /// Nodes visited, copies counted: bounds repetitions that make no states.
    work: usize,
    max_states: usize,
    simple: bool,
}

/// Visits that one state may cost on average before the pattern counts as too large.
const WORK_PER_STATE: usize = 8;

impl Builder {
    fn add(&mut self, state: NfaState) -> Result<StateId, ConstrainError> {
        Limits::check("max_nfa_states", self.states.len() + 1, self.max_states)?;
        self.states.push(state);
        Ok((self.states.len() - 1) as StateId)
    }

    /// Adds the states of `node`, which go on to `next`, and gives the first.
    fn node(&mut self, node: &Node, next: StateId) -> Result<StateId, ConstrainError> {
        self.work += 1;
        Limits::check(
            "max_nfa_states",
            self.work / WORK_PER_STATE,
            self.max_states,
        )?;
        match node {
            Node::Empty => Ok(next),
            Node::Class(class) => self.class(class, next),
            Node::Concat(parts) => parts
                .iter()
                .rev()
                .try_fold(next, |next, part| self.node(part, next)),
            Node::Alternation(parts) => {
                let entries: Vec<_> = parts
                    .iter()
                    .map(|part| self.node(part, next))
                    .collect::<Result<_, _>>()?;
                self.add(NfaState::Split(entries))
            }
            Node::Repeat { min, max, of } => self.repeat(of, *min, *max, next),
            Node::Look(look) => {
                self.simple &= matches!(look, Look::Start | Look::End);
                self.add(NfaState::Look(*look, next))
            }
            Node::Ahead { negative, of } => {
                self.simple = false;
                let ahead = self.node(of, MATCH)?;
                self.add(NfaState::Ahead {
                    negative: *negative,
                    ahead,
                    next,
                })
            }
        }
    }

    fn repeat(
        &mut self,
        of: &Node,
        min: u32,
        max: Option<u32>,
        next: StateId,
    ) -> Result<StateId, ConstrainError> {
        let mut entry = match max {
            None => {
                let split = self.add(NfaState::Split(Vec::new()))?;
                let body = self.node(of, split)?;
                self.states[split as usize] = NfaState::Split(vec![body, next]);
                split
            }
            Some(max) => {
                let mut entry = next;
                for _ in min..max {
                    let body = self.node(of, entry)?;
                    entry = self.add(NfaState::Split(vec![body, next]))?;
                }
                entry
            }
        };
        for _ in 0..min {
            entry = self.node(of, entry)?;
        }
        Ok(entry)
    }

    fn class(&mut self, class: &ClassUnicode, next: StateId) -> Result<StateId, ConstrainError> {
        let mut sequences: Vec<Vec<Utf8Range>> = Vec::new();
        for range in class.ranges() {
            for sequence in Utf8Sequences::new(range.start(), range.end()) {
                sequences.push(sequence.as_slice().to_vec());
            }
        }
        let tails: Vec<&[Utf8Range]> = sequences.iter().map(Vec::as_slice).collect();
        self.sequences(&tails, next)
    }

    /// The state that reads any of the sequences. They ascend, so those with the same first range are neighbours, and
    /// first ranges that differ are disjoint.
    fn sequences(
        &mut self,
        tails: &[&[Utf8Range]],
        next: StateId,
    ) -> Result<StateId, ConstrainError> {
        let mut transitions: Vec<(u8, u8, StateId)> = Vec::new();
        let mut at = 0;
        while at < tails.len() {
            let Some(&first) = tails[at].first() else {
                break;
            };
            let same = tails[at..]
                .iter()
                .take_while(|tail| tail.first() == Some(&first))
                .count();
            let target = match tails[at].len() {
                1 => next,
                _ => {
                    let rest: Vec<&[Utf8Range]> =
                        tails[at..at + same].iter().map(|tail| &tail[1..]).collect();
                    self.sequences(&rest, next)?
                }
            };
            match transitions.last_mut() {
                Some(last) if last.2 == target && last.1.checked_add(1) == Some(first.start) => {
                    last.1 = first.end
                }
                _ => transitions.push((first.start, first.end, target)),
            }
            at += same;
        }
        let transitions = transitions.into_boxed_slice();
        if let Some(&id) = self.suffixes.get(&transitions) {
            return Ok(id);
        }
        let id = self.add(NfaState::Bytes(transitions.clone()))?;
        self.suffixes.insert(transitions, id);
        Ok(id)
    }
}

/// Groups of byte values that the automaton never tells apart.
#[derive(Debug, Clone)]
pub(super) struct ByteClasses {
    /// The class of each byte.
    pub(super) of: [u8; 256],
    /// One byte of each class.
    pub(super) samples: Vec<u8>,
}

impl ByteClasses {
    /// The classes of an automaton; bytes outside `alphabet` are told apart from those inside.
    pub(super) fn new(nfa: &Nfa, alphabet: &ByteSet) -> Self {
        let mut starts = ByteSet::of(0);
        let mut cut = |first: u8, last: u8| {
            starts.insert(first);
            if let Some(after) = last.checked_add(1) {
                starts.insert(after);
            }
        };
        for state in &nfa.states {
            if let NfaState::Bytes(ranges) = state {
                for &(first, last, _) in ranges {
                    cut(first, last);
                }
            }
        }
        if !nfa.simple {
            // Word characters and line feeds are looked at by conditions on the place.
            for (first, last) in [
                (b'0', b'9'),
                (b'A', b'Z'),
                (b'_', b'_'),
                (b'a', b'z'),
                (b'\n', b'\n'),
            ] {
                cut(first, last);
            }
        }
        Self::from_starts(&starts, alphabet)
    }

    /// The common refinement of several partitions.
    pub(super) fn refine(parts: &[&Self], starts: &ByteSet, alphabet: &ByteSet) -> Self {
        let mut starts = *starts;
        for part in parts {
            for byte in 1..=u8::MAX {
                if part.of[byte as usize] != part.of[byte as usize - 1] {
                    starts.insert(byte);
                }
            }
        }
        Self::from_starts(&starts, alphabet)
    }

    fn from_starts(starts: &ByteSet, alphabet: &ByteSet) -> Self {
        let mut of = [0; 256];
        let mut samples: Vec<u8> = Vec::new();
        // Neighbouring ranges are told apart; a byte outside the alphabet begins a class of its own.
        let mut previous = None;
        for byte in 0..=u8::MAX {
            let inside = alphabet.contains(byte);
            if previous != Some(inside) || starts.contains(byte) {
                samples.push(byte);
                previous = Some(inside);
            }
            of[byte as usize] = (samples.len() - 1) as u8;
        }
        Self { of, samples }
    }

    /// Number of classes.
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }
}
