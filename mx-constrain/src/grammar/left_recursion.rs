//! Takes left recursion out of the automata of a grammar, and tells in which order rules call each other.

use crate::{ConstrainError, hash::FastMap};

use super::{
    draft::{Draft, DraftState},
    ir::Context,
};

/// Rules that each rule calls before it reads anything.
pub(super) fn leading(flat: &Draft) -> Vec<Vec<u32>> {
    flat.rules
        .iter()
        .map(|rule| {
            let mut callees: Vec<u32> = flat.states[rule.entry as usize]
                .calls
                .iter()
                .map(|&(callee, _)| callee)
                .collect();
            callees.dedup();
            callees
        })
        .collect()
}

/// Strongly connected components of the rules under leading calls, as component numbers in topological order
/// (callees have lower numbers). Tarjan's algorithm with an explicit stack.
pub(super) fn components(leading: &[Vec<u32>]) -> Vec<u32> {
    const NONE: u32 = u32::MAX;
    let count = leading.len();
    let (mut index, mut low, mut component) =
        (vec![NONE; count], vec![0u32; count], vec![NONE; count]);
    let (mut open, mut next_index, mut next_component) = (Vec::new(), 0, 0);
    for root in 0..count {
        let mut calls = vec![(root, 0usize)];
        while let Some(&(rule, child)) = calls.last() {
            if child == 0 && index[rule] == NONE {
                index[rule] = next_index;
                low[rule] = next_index;
                next_index += 1;
                open.push(rule);
            } else if child == 0 {
                // Only a root can have been visited before.
                calls.pop();
                continue;
            }
            match leading[rule].get(child) {
                Some(&callee) => {
                    let callee = callee as usize;
                    if let Some(top) = calls.last_mut() {
                        top.1 += 1;
                    }
                    if index[callee] == NONE {
                        calls.push((callee, 0));
                    } else if component[callee] == NONE {
                        low[rule] = low[rule].min(index[callee]);
                    }
                }
                None => {
                    calls.pop();
                    if low[rule] == index[rule] {
                        while let Some(member) = open.pop() {
                            component[member] = next_component;
                            if member == rule {
                                break;
                            }
                        }
                        next_component += 1;
                    }
                    if let Some(&(caller, _)) = calls.last() {
                        low[caller] = low[caller].min(low[rule]);
                    }
                }
            }
        }
    }
    component
}

/// Takes out left recursion; `None` when there is none.
///
/// Say the rules of one component call each other before they read. A derivation of rule A then begins with some rule
/// B of the component that reads first, and goes up: whenever a rule has ended, one that began with it goes on behind
/// that call, until A itself ends. So the automaton of A becomes a copy of all automata of the component: it begins
/// where any of them reads first, and where one ends there is an empty edge to behind every leading call of it.
pub(super) fn unwind(
    flat: &Draft,
    context: &mut Context<'_>,
) -> Result<Option<Draft>, ConstrainError> {
    let leading = leading(flat);
    let component = components(&leading);
    let mut members: FastMap<u32, Vec<u32>> = FastMap::default();
    for (rule, &number) in component.iter().enumerate() {
        members.entry(number).or_default().push(rule as u32);
    }
    members.retain(|_, rules| rules.len() > 1 || leading[rules[0] as usize].contains(&rules[0]));
    if members.is_empty() {
        return Ok(None);
    }
    let mut draft = Draft {
        states: flat.states.clone(),
        rules: flat.rules.clone(),
        start: flat.start,
    };
    let mut own = vec![Vec::new(); flat.rules.len()];
    for (id, state) in flat.states.iter().enumerate() {
        own[state.rule as usize].push(id as u32);
    }
    // Calls from elsewhere than the beginnings of the own component need the whole automaton of the callee.
    let mut needed = vec![false; flat.rules.len()];
    needed[flat.start as usize] = true;
    for (id, state) in flat.states.iter().enumerate() {
        let is_entry = flat.rules[state.rule as usize].entry == id as u32;
        for &(callee, _) in &state.calls {
            needed[callee as usize] |=
                !is_entry || component[callee as usize] != component[state.rule as usize];
        }
    }
    let mut groups: Vec<&Vec<u32>> = members.values().collect();
    groups.sort();
    for group in groups {
        let inside = |rule: u32| component[rule as usize] == component[group[0] as usize];
        for &rule in group {
            let entry = draft.state(rule, context)?;
            if !needed[rule as usize] {
                draft.rules[rule as usize].entry = entry;
                continue;
            }
            let mut copy_of: FastMap<u32, u32> = FastMap::default();
            for &member in group {
                for &id in &own[member as usize] {
                    copy_of.insert(id, draft.state(rule, context)?);
                }
            }
            for &member in group {
                let head = &flat.states[flat.rules[member as usize].entry as usize];
                context.spend(head.bytes.len() + head.calls.len())?;
                for &(low, high, to) in &head.bytes {
                    draft.states[entry as usize]
                        .bytes
                        .push((low, high, copy_of[&to]));
                }
                for &(callee, to) in head.calls.iter().filter(|(callee, _)| !inside(*callee)) {
                    draft.states[entry as usize]
                        .calls
                        .push((callee, copy_of[&to]));
                }
                for &id in &own[member as usize] {
                    let state = &flat.states[id as usize];
                    context.spend(1 + state.bytes.len() + state.calls.len())?;
                    let mut copy = DraftState {
                        rule,
                        accept: state.accept && member == rule,
                        ..Default::default()
                    };
                    copy.bytes = state
                        .bytes
                        .iter()
                        .map(|&(low, high, to)| (low, high, copy_of[&to]))
                        .collect();
                    copy.calls = state
                        .calls
                        .iter()
                        .map(|&(callee, to)| (callee, copy_of[&to]))
                        .collect();
                    if state.accept {
                        for &above in group {
                            let head = &flat.states[flat.rules[above as usize].entry as usize];
                            context.spend(head.calls.len())?;
                            let behind = head.calls.iter().filter(|(callee, _)| *callee == member);
                            copy.empty.extend(behind.map(|(_, to)| copy_of[to]));
                        }
                    }
                    draft.states[copy_of[&id] as usize] = copy;
                }
            }
            draft.rules[rule as usize].entry = entry;
        }
    }
    Ok(Some(draft))
}
