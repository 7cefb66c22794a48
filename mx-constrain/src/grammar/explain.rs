//! Which rule a refused byte ran into, and what it wanted instead.

use crate::{ByteSet, Refusal};

use super::{automaton::Automaton, settle::Item};

/// Most wishes that a refusal lists.
const MOST: usize = 8;

/// What the items of a state read instead of the byte that was refused.
pub(super) fn refusal(automaton: &Automaton, items: &[Item]) -> Refusal {
    let mut wishes: Vec<(u32, ByteSet)> = Vec::new();
    for item in items
        .iter()
        .filter(|item| Automaton::configuration(item.0).is_none())
    {
        let state = &automaton.states[item.0 as usize];
        match wishes.iter_mut().find(|wish| wish.0 == state.rule) {
            Some(wish) => wish.1 = wish.1.union(&state.live),
            None => wishes.push((state.rule, state.live)),
        }
    }
    let name = |rule: u32| automaton.rules[rule as usize].name.as_str();
    let Some(&(first, _)) = wishes.first() else {
        return Refusal {
            expected: "the end of the text".to_owned(),
            ..Refusal::default()
        };
    };
    let mut expected: Vec<String> = wishes
        .iter()
        .take(MOST)
        .map(|(rule, live)| format!("{} of `{}`", bytes(live), name(*rule)))
        .collect();
    if wishes.len() > MOST {
        expected.push(format!("{} more", wishes.len() - MOST));
    }
    // A terminal is named beside the rule that is nearest to it only when both are known.
    let terminal = wishes
        .iter()
        .find(|wish| automaton.rules[wish.0 as usize].terminal);
    Refusal {
        place: name(first).to_owned(),
        keyword: terminal.map_or_else(String::new, |wish| name(wish.0).to_owned()),
        expected: expected.join(" or "),
    }
}

/// One byte in quotes, several as a class.
fn bytes(live: &ByteSet) -> String {
    match live.single() {
        Some(byte) => format!("`{}`", (byte as char).escape_default()),
        None => live.to_string(),
    }
}
