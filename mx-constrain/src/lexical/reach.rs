//! Which states of an automaton lead where.

use super::nfa::{MATCH, Nfa, NfaState, StateId};
use super::node::Look;
use crate::ByteSet;

/// Per state: whether the match can be reached without a byte, at the end of the text (which may be its start too).
pub(super) fn reach_end(nfa: &Nfa, at_start: bool) -> Vec<bool> {
    let backwards = edges_back(nfa, |state, edge| match state {
        NfaState::Split(targets) => targets.iter().for_each(|&target| edge(target)),
        NfaState::Look(look, target) if at_start || *look != Look::Start => edge(*target),
        NfaState::Ahead { next, .. } => edge(*next),
        _ => {}
    });
    spread(&backwards, [MATCH], nfa.states.len())
}

/// Per state: whether the match can be reached at all, not at the start of the text.
pub(super) fn reach_match(nfa: &Nfa, ends: &[bool], alphabet: &ByteSet) -> Vec<bool> {
    let backwards = edges_back(nfa, |state, edge| match state {
        NfaState::Bytes(ranges) => {
            for &(first, last, target) in ranges {
                if !ByteSet::range(first, last)
                    .intersection(alphabet)
                    .is_empty()
                {
                    edge(target);
                }
            }
        }
        NfaState::Split(targets) => targets.iter().for_each(|&target| edge(target)),
        NfaState::Look(look, target) if !matches!(look, Look::Start | Look::End) => edge(*target),
        NfaState::Ahead { next, .. } => edge(*next),
        _ => {}
    });
    let ended = (0..nfa.states.len() as StateId).filter(|&state| ends[state as usize]);
    spread(&backwards, ended, nfa.states.len())
}

/// Per state: whether a condition on the byte before can be met from it without a byte.
pub(super) fn ask_before(nfa: &Nfa) -> Vec<bool> {
    let backwards = edges_back(nfa, |state, edge| match state {
        NfaState::Split(targets) => targets.iter().for_each(|&target| edge(target)),
        NfaState::Look(_, target) => edge(*target),
        NfaState::Ahead { ahead, next, .. } => {
            edge(*ahead);
            edge(*next);
        }
        _ => {}
    });
    let asking = |state: &NfaState| matches!(state, NfaState::Look(look, _) if !matches!(look, Look::End | Look::LineEnd));
    let from = (0..nfa.states.len()).filter(|&state| asking(&nfa.states[state]));
    spread(
        &backwards,
        from.map(|state| state as StateId),
        nfa.states.len(),
    )
}

/// The edges turned round, as a compressed table: offsets and sources.
fn edges_back(
    nfa: &Nfa,
    each: impl Fn(&NfaState, &mut dyn FnMut(StateId)),
) -> (Vec<u32>, Vec<StateId>) {
    let count = nfa.states.len();
    let mut offsets = vec![0u32; count + 2];
    for state in &nfa.states {
        each(state, &mut |target| offsets[target as usize + 2] += 1);
    }
    for at in 2..offsets.len() {
        offsets[at] += offsets[at - 1];
    }
    let mut sources = vec![0; offsets.last().copied().unwrap_or(0) as usize];
    for (source, state) in nfa.states.iter().enumerate() {
        each(state, &mut |target| {
            let at = &mut offsets[target as usize + 1];
            sources[*at as usize] = source as StateId;
            *at += 1;
        });
    }
    (offsets, sources)
}

fn spread(
    (offsets, sources): &(Vec<u32>, Vec<StateId>),
    from: impl IntoIterator<Item = StateId>,
    count: usize,
) -> Vec<bool> {
    let mut reached = vec![false; count];
    let mut stack: Vec<StateId> = Vec::new();
    for state in from {
        reached[state as usize] = true;
        stack.push(state);
    }
    while let Some(state) = stack.pop() {
        let range = offsets[state as usize] as usize..offsets[state as usize + 1] as usize;
        for &source in &sources[range] {
            if !std::mem::replace(&mut reached[source as usize], true) {
                stack.push(source);
            }
        }
    }
    reached
}
