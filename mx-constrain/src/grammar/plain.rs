//! Which plain characters leave a state as it is: masks take whole slices of the vocabulary for them.

use crate::{
    ByteSet, ConstrainError,
    machine::{Machine, Plain, State, Step},
};

use super::recogniser::Recogniser;

/// A class of plain characters of which every text keeps `state` alive: the characters that lead from `state` to some
/// state and from there back to it. Mostly this is `state` itself, or the one behind the first character of a word.
pub(super) fn plain(machine: &mut Recogniser, state: State) -> Result<Plain, ConstrainError> {
    if let Some(plain) = machine.outside_plain(state)? {
        return Ok(plain);
    }
    let Some(behind) = usual_target(machine, state)? else {
        return Ok(Plain::NONE);
    };
    let mut class = Plain {
        chars: u32::MAX,
        ..Plain::NONE
    };
    for byte in &Plain::ASCII {
        let loops = machine.step(behind, byte)? == Step::Stay(behind);
        if loops && machine.step(state, byte)? == Step::Stay(behind) {
            class.class.insert(byte);
        }
    }
    if wide(machine, state, behind)? && (state == behind || wide(machine, behind, behind)?) {
        class.class = class.class.union(&ByteSet::WIDE);
    }
    if class.class.is_empty() {
        return Ok(Plain::NONE);
    }
    // Behind a text of the class stands one of the two, or a character beyond ASCII is unfinished.
    let live = machine.live(state)?.union(&machine.live(behind)?);
    class.exits = live;
    Ok(class)
}

/// The state to which most plain characters lead.
fn usual_target(machine: &mut Recogniser, state: State) -> Result<Option<State>, ConstrainError> {
    let mut targets: Vec<(State, usize)> = Vec::new();
    let live = machine.live(state)?;
    for byte in &Plain::ASCII.intersection(&live) {
        count(&mut targets, machine.step(state, byte)?);
    }
    if targets.is_empty() && !live.intersection(&ByteSet::WIDE).is_empty() {
        // Without ASCII a character beyond it may show the way.
        for text in ["\u{e9}", "\u{4e00}"].map(str::as_bytes) {
            let mut at = Step::Stay(state);
            for &byte in text {
                let Step::Stay(from) = at else { break };
                at = machine.step(from, byte)?;
            }
            count(&mut targets, at);
        }
    }
    Ok(targets
        .into_iter()
        .max_by_key(|target| target.1)
        .map(|target| target.0))
}

fn count(targets: &mut Vec<(State, usize)>, step: Step) {
    let Step::Stay(to) = step else { return };
    match targets.iter_mut().find(|target| target.0 == to) {
        Some(target) => target.1 += 1,
        None => targets.push((to, 1)),
    }
}

/// Second bytes of a character by its first byte, and how many bytes follow those.
const LEADS: [(u8, u8, u8, u8, usize); 8] = [
    (0xc2, 0xdf, 0x80, 0xbf, 0),
    (0xe0, 0xe0, 0xa0, 0xbf, 1),
    (0xe1, 0xec, 0x80, 0xbf, 1),
    (0xed, 0xed, 0x80, 0x9f, 1),
    (0xee, 0xef, 0x80, 0xbf, 1),
    (0xf0, 0xf0, 0x90, 0xbf, 2),
    (0xf1, 0xf3, 0x80, 0xbf, 2),
    (0xf4, 0xf4, 0x80, 0x8f, 2),
];

/// Whether every character beyond ASCII leads from one state to another.
fn wide(machine: &mut Recogniser, state: State, to: State) -> Result<bool, ConstrainError> {
    for (first, last, low, high, more) in LEADS {
        for lead in first..=last {
            if !machine.has_byte(lead) {
                continue;
            }
            let Step::Stay(second) = machine.step(state, lead)? else {
                return Ok(false);
            };
            let mut level = vec![second];
            for round in 0..=more {
                let (low, high) = if round == 0 {
                    (low, high)
                } else {
                    (0x80, 0xbf)
                };
                let mut next = Vec::new();
                for &at in &level {
                    for byte in (low..=high)
                        .filter(|&byte| machine.has_byte(byte))
                        .collect::<Vec<_>>()
                    {
                        let Step::Stay(end) = machine.step(at, byte)? else {
                            return Ok(false);
                        };
                        next.push(end);
                    }
                }
                next.sort_unstable();
                next.dedup();
                level = next;
            }
            if level.iter().any(|&end| end != to) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
