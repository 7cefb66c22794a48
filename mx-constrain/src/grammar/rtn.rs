//! The automaton of a grammar in the form that the recogniser reads: one automaton per rule with calls between them,
//! without empty edges, without left recursion, without states that lead nowhere.

use crate::{ConstrainError, hash::FastMap};

use super::{
    draft::{Draft, DraftRule, DraftState},
    ir::Context,
    left_recursion::{components, leading, unwind},
};

/// Where a call that ends its rule goes on: nowhere.
pub(super) const TAIL: u32 = u32::MAX;

/// Automata of all rules in one numbering.
#[derive(Debug)]
pub(super) struct Rtn {
    pub(super) states: Vec<RtnState>,
    pub(super) rules: Vec<RtnRule>,
    pub(super) start: u32,
    /// Whether the empty text is derived.
    pub(super) nullable: bool,
    /// Rules that the grammar uses and that derive no text.
    pub(super) barren: Vec<u32>,
}

/// A state. An entry never accepts: callers of a nullable rule may skip the call instead.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct RtnState {
    pub(super) rule: u32,
    pub(super) accept: bool,
    pub(super) longest: bool,
    pub(super) wins: bool,
    pub(super) bytes: Vec<(u8, u8, u32)>,
    /// Rule called and state to return to, or [`TAIL`].
    pub(super) calls: Vec<(u32, u32)>,
    /// One more than the index of a machine that reads here until the rule ends, or 0.
    pub(super) foreign: u32,
    /// What can follow here may follow any number of times, and nothing else may: returning here twice is returning
    /// here once.
    pub(super) is_star: bool,
}

/// A rule.
#[derive(Debug)]
pub(super) struct RtnRule {
    pub(super) name: String,
    pub(super) terminal: bool,
    pub(super) entry: u32,
    /// Rules that a rule may call before it reads have a higher rank.
    pub(super) rank: u32,
}

/// Brings a draft into this form. Rules that derive no text (with bytes of the alphabet) are emptied; if the start rule
/// is among them, the result has an entry without edges.
pub(super) fn build(draft: Draft, context: &mut Context<'_>) -> Result<Rtn, ConstrainError> {
    let nullable = draft.rules[draft.start as usize].nullable;
    let mut flat = flatten(&draft, true, context)?;
    let used = used(&flat, context)?;
    prune(&mut flat, context)?;
    let barren = (0..flat.rules.len()).filter(|&id| {
        let rule = &flat.rules[id];
        let entry = &flat.states[rule.entry as usize];
        let derives = rule.nullable
            || !entry.bytes.is_empty()
            || !entry.calls.is_empty()
            || entry.foreign != 0;
        used[id] && !derives
    });
    let barren = barren.map(|id| id as u32).collect();
    if let Some(unwound) = unwind(&flat, context)? {
        flat = flatten(&unwound, false, context)?;
        prune(&mut flat, context)?;
    }
    while merge_twins(&mut flat, context)? {}
    let ranks = ranks(&flat);
    let mut rtn = compact(flat, context)?;
    rtn.nullable = nullable;
    rtn.barren = barren;
    for (rule, rank) in rtn.rules.iter_mut().zip(ranks) {
        rule.rank = rank;
    }
    mark_tails(&mut rtn);
    mark_stars(&mut rtn, context)?;
    Ok(rtn)
}

/// Takes out the edges that read nothing (and calls of nullable rules, as far as nothing is read by them, when
/// `skip_nullable`). Every rule gets a new entry that does not accept.
fn flatten(
    draft: &Draft,
    skip_nullable: bool,
    context: &mut Context<'_>,
) -> Result<Draft, ConstrainError> {
    let mut flat = Draft {
        start: draft.start,
        ..Draft::default()
    };
    let mut new_id = vec![u32::MAX; draft.states.len()];
    let mut work = Vec::new();
    let mut closure = Closure {
        seen: vec![0; draft.states.len()],
        round: 0,
        stack: Vec::new(),
    };
    for (id, rule) in draft.rules.iter().enumerate() {
        let mut entry = closure.of(draft, rule.entry, skip_nullable, context)?;
        entry.rule = id as u32;
        entry.accept = false;
        flat.rules.push(DraftRule {
            entry: flat.states.len() as u32,
            ..rule.clone()
        });
        flat.states.push(entry);
    }
    let mut at = 0;
    while at < flat.states.len() {
        let mut state = std::mem::take(&mut flat.states[at]);
        let targets = state
            .bytes
            .iter_mut()
            .map(|edge| &mut edge.2)
            .chain(state.calls.iter_mut().map(|call| &mut call.1));
        for target in targets {
            let known = &mut new_id[*target as usize];
            if *known == u32::MAX {
                *known = flat.states.len() as u32;
                flat.states.push(DraftState::default());
                work.push(*target);
            }
            *target = *known;
        }
        flat.states[at] = state;
        for old in work.drain(..) {
            flat.states[new_id[old as usize] as usize] =
                closure.of(draft, old, skip_nullable, context)?;
        }
        at += 1;
    }
    Ok(flat)
}

struct Closure {
    seen: Vec<u32>,
    round: u32,
    stack: Vec<u32>,
}

impl Closure {
    /// All that can be read first in `state`, and whether its rule may end there.
    fn of(
        &mut self,
        draft: &Draft,
        state: u32,
        skip_nullable: bool,
        context: &mut Context<'_>,
    ) -> Result<DraftState, ConstrainError> {
        let origin = &draft.states[state as usize];
        let mut all = DraftState {
            rule: origin.rule,
            longest: origin.longest,
            wins: origin.wins,
            ..DraftState::default()
        };
        self.round += 1;
        self.stack.push(state);
        while let Some(state) = self.stack.pop() {
            if std::mem::replace(&mut self.seen[state as usize], self.round) == self.round {
                continue;
            }
            let state = &draft.states[state as usize];
            context.spend(1 + state.bytes.len() + state.calls.len() + state.empty.len())?;
            all.accept |= state.accept;
            all.foreign = all.foreign.max(state.foreign);
            all.bytes.extend_from_slice(&state.bytes);
            all.calls.extend_from_slice(&state.calls);
            self.stack.extend_from_slice(&state.empty);
            if skip_nullable {
                let skipped = state
                    .calls
                    .iter()
                    .filter(|(callee, _)| draft.rules[*callee as usize].nullable);
                self.stack.extend(skipped.map(|&(_, to)| to));
            }
        }
        all.bytes.sort_unstable();
        all.bytes.dedup();
        all.calls.sort_unstable();
        all.calls.dedup();
        Ok(all)
    }
}

/// Takes out edges and calls from which the end of the rule cannot be reached.
fn prune(flat: &mut Draft, context: &mut Context<'_>) -> Result<(), ConstrainError> {
    // Who may become productive when a state or a rule's entry does.
    let mut readers = vec![Vec::new(); flat.states.len()];
    for (id, state) in flat.states.iter().enumerate() {
        context.spend(1 + state.bytes.len() + state.calls.len())?;
        for &(_, _, to) in &state.bytes {
            readers[to as usize].push(id as u32);
        }
        for &(callee, to) in &state.calls {
            readers[to as usize].push(id as u32);
            readers[flat.rules[callee as usize].entry as usize].push(id as u32);
        }
    }
    let mut productive: Vec<bool> = flat
        .states
        .iter()
        .map(|state| state.accept || state.foreign != 0)
        .collect();
    let mut work: Vec<u32> = (0..flat.states.len() as u32)
        .filter(|&id| productive[id as usize])
        .collect();
    while let Some(done) = work.pop() {
        for &id in &readers[done as usize] {
            if productive[id as usize] {
                continue;
            }
            let state = &flat.states[id as usize];
            context.spend(1 + state.calls.len())?;
            productive[id as usize] = state.bytes.iter().any(|edge| productive[edge.2 as usize])
                || state.calls.iter().any(|&(callee, to)| {
                    productive[to as usize]
                        && productive[flat.rules[callee as usize].entry as usize]
                });
            if productive[id as usize] {
                work.push(id);
            }
        }
    }
    let entries: Vec<u32> = flat.rules.iter().map(|rule| rule.entry).collect();
    for state in &mut flat.states {
        state.bytes.retain(|edge| productive[edge.2 as usize]);
        state.calls.retain(|&(callee, to)| {
            productive[to as usize] && productive[entries[callee as usize] as usize]
        });
    }
    Ok(())
}

/// Which rules the start rule calls, directly or not.
fn used(flat: &Draft, context: &mut Context<'_>) -> Result<Vec<bool>, ConstrainError> {
    let mut callees = vec![Vec::new(); flat.rules.len()];
    for state in &flat.states {
        context.spend(state.calls.len())?;
        callees[state.rule as usize].extend(state.calls.iter().map(|call| call.0));
    }
    let mut used = vec![false; flat.rules.len()];
    used[flat.start as usize] = true;
    let mut work = vec![flat.start];
    while let Some(rule) = work.pop() {
        for callee in std::mem::take(&mut callees[rule as usize]) {
            if !std::mem::replace(&mut used[callee as usize], true) {
                work.push(callee);
            }
        }
    }
    Ok(used)
}

/// Makes one state of states of a rule with the same edges. Says whether there were any.
fn merge_twins(flat: &mut Draft, context: &mut Context<'_>) -> Result<bool, ConstrainError> {
    type Key<'a> = (
        (bool, bool, bool, u32),
        &'a [(u8, u8, u32)],
        &'a [(u32, u32)],
    );
    let mut first: FastMap<Key<'_>, u32> = FastMap::default();
    let mut twin: Vec<u32> = Vec::with_capacity(flat.states.len());
    for (id, state) in flat.states.iter().enumerate() {
        context.spend(1 + (state.bytes.len() + state.calls.len()) / 8)?;
        // Where a machine reads is the entry of its rule, of which there is one.
        let marks = (state.accept, state.longest, state.wins, state.rule);
        let key = (marks, state.bytes.as_slice(), state.calls.as_slice());
        twin.push(*first.entry(key).or_insert(id as u32));
    }
    drop(first);
    let mut changed = false;
    for state in &mut flat.states {
        for edge in &mut state.bytes {
            changed |= twin[edge.2 as usize] != edge.2;
            edge.2 = twin[edge.2 as usize];
        }
        for call in &mut state.calls {
            changed |= twin[call.1 as usize] != call.1;
            call.1 = twin[call.1 as usize];
        }
        state.bytes.dedup();
        state.calls.sort_unstable();
        state.calls.dedup();
    }
    Ok(changed)
}

/// Numbers under which a rule comes before every rule that it calls before reading.
fn ranks(flat: &Draft) -> Vec<u32> {
    let component = components(&leading(flat));
    let count = flat.rules.len() as u32;
    component.into_iter().map(|number| count - number).collect()
}

/// Keeps what the start rule reaches.
fn compact(mut flat: Draft, context: &mut Context<'_>) -> Result<Rtn, ConstrainError> {
    let mut new_id = vec![u32::MAX; flat.states.len()];
    let mut kept = Vec::new();
    let mut visit = |id: u32, kept: &mut Vec<u32>| -> u32 {
        let new = &mut new_id[id as usize];
        if *new == u32::MAX {
            *new = kept.len() as u32;
            kept.push(id);
        }
        *new
    };
    let mut rules: Vec<RtnRule> = flat
        .rules
        .iter()
        .map(|rule| RtnRule {
            name: rule.name.clone(),
            terminal: rule.terminal,
            entry: u32::MAX,
            rank: 0,
        })
        .collect();
    rules[flat.start as usize].entry = visit(flat.rules[flat.start as usize].entry, &mut kept);
    let mut states = Vec::new();
    let mut at = 0;
    while at < kept.len() {
        let state = std::mem::take(&mut flat.states[kept[at] as usize]);
        context.spend(1 + state.bytes.len() + state.calls.len())?;
        let (rule, accept, longest, wins) = (state.rule, state.accept, state.longest, state.wins);
        let foreign = state.foreign;
        let mut new = RtnState {
            rule,
            accept,
            longest,
            wins,
            foreign,
            ..Default::default()
        };
        for (low, high, to) in state.bytes {
            new.bytes.push((low, high, visit(to, &mut kept)));
        }
        for (callee, to) in state.calls {
            if rules[callee as usize].entry == u32::MAX {
                rules[callee as usize].entry = visit(flat.rules[callee as usize].entry, &mut kept);
            }
            new.calls.push((callee, visit(to, &mut kept)));
        }
        states.push(new);
        at += 1;
    }
    Ok(Rtn {
        states,
        rules,
        start: flat.start,
        nullable: false,
        barren: Vec::new(),
    })
}

/// A call behind which nothing follows needs no return: this keeps right recursion flat.
fn mark_tails(rtn: &mut Rtn) {
    let ends: Vec<bool> = rtn
        .states
        .iter()
        .map(|state| {
            state.accept && !state.longest && state.bytes.is_empty() && state.calls.is_empty()
        })
        .collect();
    for state in &mut rtn.states {
        for call in &mut state.calls {
            if ends[call.1 as usize] {
                call.1 = TAIL;
            }
        }
        state.calls.sort_unstable();
        state.calls.dedup();
    }
}

/// Most states of a loop that is recognised as one.
const LARGEST_LOOP: usize = 64;

/// Finds the states to which a rule comes back until it ends there.
fn mark_stars(rtn: &mut Rtn, context: &mut Context<'_>) -> Result<(), ConstrainError> {
    let mut loops = vec![false; rtn.states.len()];
    for (id, is_loop) in loops.iter_mut().enumerate() {
        *is_loop = is_only_end(rtn, id as u32, context)?;
    }
    // A state that only calls a rule which is such a loop, and may as well end, is one itself.
    let calls_loop = |state: &RtnState| match state.calls.as_slice() {
        &[(callee, TAIL)] if state.accept && state.bytes.is_empty() => {
            let entry = &rtn.states[rtn.rules[callee as usize].entry as usize];
            let mut targets = entry
                .bytes
                .iter()
                .map(|edge| edge.2)
                .chain(entry.calls.iter().map(|call| call.1));
            targets.any(|to| {
                to != TAIL
                    && loops[to as usize]
                    && rtn.states[to as usize].bytes == entry.bytes
                    && rtn.states[to as usize].calls == entry.calls
            })
        }
        _ => false,
    };
    let stars: Vec<bool> = rtn
        .states
        .iter()
        .zip(&loops)
        .map(|(state, is_loop)| *is_loop || calls_loop(state))
        .collect();
    for (state, is_star) in rtn.states.iter_mut().zip(stars) {
        state.is_star = is_star;
    }
    Ok(())
}

/// Whether a rule may end in a state, and wherever it goes from there, it can only end there again.
fn is_only_end(rtn: &Rtn, state: u32, context: &mut Context<'_>) -> Result<bool, ConstrainError> {
    if !rtn.states[state as usize].accept {
        return Ok(false);
    }
    let mut seen = vec![state];
    let mut at = 0;
    while let Some(&id) = seen.get(at) {
        at += 1;
        let from = &rtn.states[id as usize];
        context.spend(1 + from.bytes.len() + from.calls.len())?;
        if (id != state && from.accept) || from.longest {
            return Ok(false);
        }
        for to in from
            .bytes
            .iter()
            .map(|edge| edge.2)
            .chain(from.calls.iter().map(|call| call.1))
        {
            if to == TAIL || seen.len() > LARGEST_LOOP {
                return Ok(false);
            }
            if !seen.contains(&to) {
                seen.push(to);
            }
        }
    }
    Ok(true)
}
