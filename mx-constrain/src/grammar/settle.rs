//! From states just reached to the states that can read next: ends of rules return, calls enter.

use std::collections::BTreeMap;

use crate::{ConstrainError, Limits, hash::FastMap};

use super::{
    automaton::{Automaton, Debt},
    rtn::TAIL,
    stacks::{StackTable, Stacks, cheapest_end},
};

/// A state with the stacks under it.
pub(super) type Item = (u32, Stacks);

/// Where a text can go on.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(super) struct Settled {
    /// States that read, each once, sorted, with the stacks under them.
    pub(super) items: Vec<Item>,
    /// Debts with which the frame can be at its end. Sorted.
    pub(super) done: Vec<Debt>,
}

/// Whether a state can be brought to the floor.
pub(super) fn is_viable(automaton: &Automaton, stacks: &StackTable, item: Item) -> bool {
    cheapest_end(automaton.ends(item.0), stacks.ends(item.1)).is_some()
}

/// Follows returns and calls from `reached` until only reading is left.
pub(super) fn settle(
    automaton: &Automaton,
    stacks: &mut StackTable,
    limits: &Limits,
    reached: Vec<Item>,
) -> Result<Settled, ConstrainError> {
    let mut done = Vec::new();
    let mut at: BTreeMap<u32, Stacks> = BTreeMap::new();
    returns(automaton, stacks, limits, reached, &mut done, &mut at)?;
    let mut entered: BTreeMap<(u32, u32), Stacks> = BTreeMap::new();
    let mut items = Vec::new();
    for (&state, &below) in &at {
        call(automaton, stacks, state, below, &mut entered);
        items.extend(automaton.reader(state).map(|reader| (reader, below)));
    }
    // Entries are taken in the order of their ranks: when one is taken, every call of it is known.
    while let Some(((_, state), below)) = entered.pop_first() {
        call(automaton, stacks, state, below, &mut entered);
        items.extend(automaton.reader(state).map(|reader| (reader, below)));
    }
    Limits::check("max_alternatives", items.len(), limits.max_alternatives)?;
    stacks.check(limits, 0)?;
    items.sort_unstable();
    done.sort_unstable();
    done.dedup();
    Ok(Settled { items, done })
}

/// Unites two lists of items.
pub(super) fn unite(automaton: &Automaton, stacks: &mut StackTable, items: &mut Vec<Item>) {
    items.sort_unstable();
    let mut united: Vec<Item> = Vec::with_capacity(items.len());
    for &(state, below) in items.iter() {
        match united.last_mut() {
            Some(last) if last.0 == state => last.1 = stacks.union(automaton, last.1, below),
            _ => united.push((state, below)),
        }
    }
    *items = united;
}

/// Adds what is returned to wherever a rule may have ended, and the debts with which the floor is reached.
fn returns(
    automaton: &Automaton,
    stacks: &mut StackTable,
    limits: &Limits,
    reached: Vec<Item>,
    done: &mut Vec<Debt>,
    at: &mut BTreeMap<u32, Stacks>,
) -> Result<(), ConstrainError> {
    let mut seen: FastMap<Item, ()> = FastMap::default();
    let mut work = reached;
    let mut all = Vec::new();
    while let Some(item) = work.pop() {
        if !is_viable(automaton, stacks, item) || seen.insert(item, ()).is_some() {
            continue;
        }
        Limits::check(
            "max_alternatives",
            seen.len() / RETURNS_PER_ALTERNATIVE,
            limits.max_alternatives,
        )?;
        all.push(item);
        let (state, below) = item;
        let Some(debt) = automaton.accept(state) else {
            continue;
        };
        if stacks
            .floor(below)
            .is_some_and(|floor| stacks.takes(floor, debt))
        {
            done.push(debt);
        }
        let edges = stacks.edges(below).iter();
        work.extend(
            edges.filter_map(|&(to, below)| automaton.resume(to, debt).map(|state| (state, below))),
        );
    }
    unite(automaton, stacks, &mut all);
    at.extend(all);
    Ok(())
}

/// Returns that may be followed for each alternative that may be kept: most of them meet again.
const RETURNS_PER_ALTERNATIVE: usize = 4;

fn call(
    automaton: &Automaton,
    stacks: &mut StackTable,
    state: u32,
    below: Stacks,
    entered: &mut BTreeMap<(u32, u32), Stacks>,
) {
    for &(entry, to) in automaton.calls(state) {
        let under = if to == TAIL {
            below
        } else {
            stacks.push(automaton, to, below)
        };
        if !is_viable(automaton, stacks, (entry, under)) {
            continue;
        }
        let key = (automaton.states[entry as usize].rank, entry);
        let under = match entered.get(&key) {
            Some(&known) => stacks.union(automaton, known, under),
            None => under,
        };
        entered.insert(key, under);
    }
}
