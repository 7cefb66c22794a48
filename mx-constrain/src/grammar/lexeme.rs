//! Terminals: regular expressions as deterministic automata that are small and end everywhere they can go.

use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton as _, StartKind, dense},
    nfa::thompson,
    util::{primitives::StateID, start},
};
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use crate::{
    ByteSet, ConstrainError, Limits, RegexMode, RegexSyntax,
    hash::FastMap,
    lexical::{DEAD, Dfa},
};

use super::ir::{Lexeme, LexemeState};

/// Which of several matches a terminal takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// The longest, or with lazy quantifiers the one that a backtracking engine prefers.
    Longest,
    /// The shortest.
    Shortest,
}

/// The automaton of a regular expression. `Ok(None)` when it wants to look around, which terminals cannot.
pub(super) fn lexeme(
    hir: &Hir,
    take: Take,
    limits: &Limits,
) -> Result<Option<Lexeme>, ConstrainError> {
    if !hir.properties().look_set().is_empty() {
        return Ok(None);
    }
    let nfa_limit = || ConstrainError::Limit {
        limit: "max_nfa_states",
        max: limits.max_nfa_states as u64,
    };
    let dfa_limit = || ConstrainError::Limit {
        limit: "max_dfa_states",
        max: limits.max_dfa_states as u64,
    };
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .nfa_size_limit(Some(limits.max_nfa_states.saturating_mul(NFA_STATE_BYTES)))
                .which_captures(thompson::WhichCaptures::None),
        )
        .build_from_hir(hir)
        .map_err(|_| nfa_limit())?;
    let prefers = has_lazy(hir) && take == Take::Longest;
    let kind = if prefers {
        MatchKind::LeftmostFirst
    } else {
        MatchKind::All
    };
    let bytes = limits
        .max_dfa_states
        .saturating_mul(DFA_STATE_BYTES)
        .min(limits.max_table_bytes);
    let dfa = dense::Builder::new()
        .configure(
            dense::Config::new()
                .match_kind(kind)
                .start_kind(StartKind::Anchored)
                .accelerate(false)
                .dfa_size_limit(Some(bytes))
                .determinize_size_limit(Some(bytes)),
        )
        .build_from_nfa(&nfa)
        .map_err(|_| dfa_limit())?;
    let mut lexeme = walk(&dfa, limits)?;
    if take == Take::Shortest {
        for state in lexeme.states.iter_mut().filter(|state| state.accept) {
            state.edges.clear();
        }
    }
    lexeme.longest = take == Take::Longest;
    lexeme.wins = take == Take::Shortest;
    Ok(Some(lexeme.pruned()))
}

/// The automaton of a regular expression as the lexical layer builds it, for complements and intersections.
pub(super) fn pattern_dfa(hir: &Hir, limits: &Limits) -> Result<Option<Dfa>, ConstrainError> {
    if !hir.properties().look_set().is_empty() {
        return Ok(None);
    }
    Dfa::from_regex(&hir.to_string(), RegexSyntax::Rust, RegexMode::Full, limits).map(Some)
}

/// Reads the states out of an automaton of the lexical layer.
pub(super) fn from_dfa(
    dfa: &mut Dfa,
    take: Take,
    limits: &Limits,
) -> Result<Lexeme, ConstrainError> {
    let mut ids: FastMap<u32, u32> = FastMap::default();
    let mut order = vec![dfa.start()];
    ids.insert(dfa.start(), 0);
    let (longest, wins) = (take == Take::Longest, take == Take::Shortest);
    let mut lexeme = Lexeme {
        states: Vec::new(),
        longest,
        wins,
    };
    while let Some(&at) = order.get(lexeme.states.len()) {
        let mut state = LexemeState {
            accept: dfa.accepting(at),
            edges: Vec::new(),
        };
        let live = if state.accept && take == Take::Shortest {
            ByteSet::EMPTY
        } else {
            dfa.live(at)?
        };
        for byte in &live {
            let next = dfa.next(at, byte)?;
            if next == DEAD {
                continue;
            }
            let fresh = ids.len() as u32;
            let to = *ids.entry(next).or_insert(fresh);
            if to == fresh {
                order.push(next);
            }
            state.push(byte, byte, to);
        }
        lexeme.states.push(state);
        Limits::check("max_dfa_states", order.len(), limits.max_dfa_states)?;
    }
    Ok(lexeme.pruned())
}

/// Bytes that a state of the non-deterministic automaton takes at most, on average.
const NFA_STATE_BYTES: usize = 64;
/// Bytes that a state of the deterministic automaton takes at most, on average.
const DFA_STATE_BYTES: usize = 128;

/// Reads the states out of a dense automaton.
fn walk(dfa: &dense::DFA<Vec<u32>>, limits: &Limits) -> Result<Lexeme, ConstrainError> {
    let config = start::Config::new().anchored(Anchored::Yes);
    // Fails only for unanchored searches and for look-behind, which there is none of.
    let Ok(start) = dfa.start_state(&config) else {
        return Ok(Lexeme::default());
    };
    let representatives: Vec<u8> = dfa
        .byte_classes()
        .representatives(0..=255)
        .filter_map(|unit| unit.as_u8())
        .collect();
    let mut ids: FastMap<StateID, u32> = FastMap::default();
    let mut order = vec![start];
    ids.insert(start, 0);
    let mut states = Vec::new();
    while let Some(&at) = order.get(states.len()) {
        let mut state = LexemeState {
            accept: dfa.is_match_state(dfa.next_eoi_state(at)),
            edges: Vec::new(),
        };
        for (index, &low) in representatives.iter().enumerate() {
            let high = representatives
                .get(index + 1)
                .map_or(u8::MAX, |next| next - 1);
            let next = dfa.next_state(at, low);
            if dfa.is_dead_state(next) || dfa.is_quit_state(next) {
                continue;
            }
            let fresh = ids.len() as u32;
            let to = *ids.entry(next).or_insert(fresh);
            if to == fresh {
                order.push(next);
            }
            state.push(low, high, to);
        }
        states.push(state);
        Limits::check("max_dfa_states", order.len(), limits.max_dfa_states)?;
    }
    Ok(Lexeme {
        states,
        ..Lexeme::default()
    })
}

impl LexemeState {
    /// Adds an edge behind all others, joined with the last where that leads to the same state.
    pub(super) fn push(&mut self, low: u8, high: u8, to: u32) {
        match self.edges.last_mut() {
            Some(last) if last.2 == to && last.1.checked_add(1) == Some(low) => last.1 = high,
            _ => self.edges.push((low, high, to)),
        }
    }
}

impl Lexeme {
    /// The text, when exactly one is matched.
    pub(super) fn only_text(&self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut state = self.states.first()?;
        while text.len() <= self.states.len() {
            match (state.accept, state.edges.as_slice()) {
                (true, []) => return Some(text),
                (false, &[(low, high, to)]) if low == high => {
                    text.push(low);
                    state = self.states.get(to as usize)?;
                }
                _ => return None,
            }
        }
        None
    }

    /// Whether some match can go on to a longer one.
    pub(super) fn goes_on(&self) -> bool {
        self.states
            .iter()
            .skip(1)
            .any(|state| state.accept && !state.edges.is_empty())
    }

    /// Without edges from which no match is reached. Without any match there are no states.
    pub(super) fn pruned(mut self) -> Self {
        let mut readers = vec![Vec::new(); self.states.len()];
        for (id, state) in self.states.iter().enumerate() {
            for edge in &state.edges {
                readers[edge.2 as usize].push(id);
            }
        }
        let mut live: Vec<bool> = self.states.iter().map(|state| state.accept).collect();
        let mut work: Vec<usize> = (0..live.len()).filter(|&id| live[id]).collect();
        while let Some(id) = work.pop() {
            for &reader in &readers[id] {
                if !std::mem::replace(&mut live[reader], true) {
                    work.push(reader);
                }
            }
        }
        if live.first() != Some(&true) {
            self.states.clear();
        }
        for state in &mut self.states {
            state.edges.retain(|edge| live[edge.2 as usize]);
        }
        self
    }
}

/// Whether a quantifier prefers fewer rounds, so that the preferred match need not be the longest.
fn has_lazy(hir: &Hir) -> bool {
    let mut work = vec![hir];
    while let Some(hir) = work.pop() {
        match hir.kind() {
            HirKind::Repetition(Repetition { greedy: false, .. }) => return true,
            HirKind::Repetition(repetition) => work.push(&repetition.sub),
            HirKind::Capture(capture) => work.push(&capture.sub),
            HirKind::Concat(parts) | HirKind::Alternation(parts) => work.extend(parts),
            HirKind::Empty
            | HirKind::Literal(_)
            | HirKind::Class(Class::Unicode(_) | Class::Bytes(_)) => {}
            HirKind::Look(_) => {}
        }
    }
    false
}
