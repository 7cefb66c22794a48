//! Which bytes may follow in well-formed UTF-8: an automaton of eight states.

use crate::ByteSet;

/// Where in a character a text stands.
pub(crate) type Utf8State = u8;

/// Number of places in a character.
pub(crate) const STATES: usize = 8;
/// The first bytes of characters beyond ASCII.
pub(crate) const FIRST: ByteSet = ByteSet::range(0xc2, 0xf4);
/// The bytes behind the first one of a character.
pub(crate) const CONTINUATION: ByteSet = ByteSet::range(0x80, 0xbf);
/// Between two characters.
pub(crate) const START: Utf8State = 0;
/// One, two or three more bytes of 80-BF.
const TAIL1: Utf8State = 1;
const TAIL2: Utf8State = 2;
const TAIL3: Utf8State = 3;
/// Behind E0, ED, F0 and F4, where the next byte is restricted.
const AFTER_E0: Utf8State = 4;
const AFTER_ED: Utf8State = 5;
const AFTER_F0: Utf8State = 6;
const AFTER_F4: Utf8State = 7;

/// The state behind one more byte; `None` where it is ill-formed.
pub(crate) const fn step(state: Utf8State, byte: u8) -> Option<Utf8State> {
    Some(match (state, byte) {
        (START, 0..=0x7f) => START,
        (START, 0xc2..=0xdf) => TAIL1,
        (START, 0xe0) => AFTER_E0,
        (START, 0xed) => AFTER_ED,
        (START, 0xe1..=0xef) => TAIL2,
        (START, 0xf0) => AFTER_F0,
        (START, 0xf1..=0xf3) => TAIL3,
        (START, 0xf4) => AFTER_F4,
        (TAIL1, 0x80..=0xbf) => START,
        (TAIL2, 0x80..=0xbf) | (AFTER_E0, 0xa0..=0xbf) | (AFTER_ED, 0x80..=0x9f) => TAIL1,
        (TAIL3, 0x80..=0xbf) | (AFTER_F0, 0x90..=0xbf) | (AFTER_F4, 0x80..=0x8f) => TAIL2,
        _ => return None,
    })
}

/// The bytes at which a new group of bytes begins that UTF-8 tells apart.
pub(crate) fn class_starts() -> ByteSet {
    [
        0, 0x80, 0x90, 0xa0, 0xc0, 0xc2, 0xe0, 0xe1, 0xed, 0xee, 0xf0, 0xf1, 0xf4, 0xf5,
    ]
    .into_iter()
    .collect()
}
