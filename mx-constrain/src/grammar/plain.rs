//! Which plain characters leave a state as it is: masks take whole slices of the vocabulary for them.

use crate::{
    ByteSet, ConstrainError,
    machine::{Machine, Plain, State, Step},
};

use super::recogniser::Recogniser;

/// The class of plain characters each of which leads from `state` back to `state`.
pub(super) fn plain(machine: &mut Recogniser, state: State) -> Result<Plain, ConstrainError> {
    let mut class = Plain {
        chars: u32::MAX,
        ..Plain::NONE
    };
    for byte in &Plain::ASCII {
        if machine.step(state, byte)? == Step::Stay(state) {
            class.ascii.insert(byte);
        }
    }
    class.wide = wide(machine, state)?;
    if class.ascii.is_empty() && !class.wide {
        return Ok(Plain::NONE);
    }
    // Behind a string of the class stands `state` again, or a character beyond ASCII is unfinished.
    let live = machine.live(state)?;
    class.exits = if class.wide {
        live.union(&ByteSet::WIDE)
    } else {
        live
    };
    Ok(class)
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

/// Whether every character beyond ASCII leads back to `state`.
fn wide(machine: &mut Recogniser, state: State) -> Result<bool, ConstrainError> {
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
                        let Step::Stay(to) = machine.step(at, byte)? else {
                            return Ok(false);
                        };
                        next.push(to);
                    }
                }
                next.sort_unstable();
                next.dedup();
                level = next;
            }
            if level.iter().any(|&end| end != state) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
