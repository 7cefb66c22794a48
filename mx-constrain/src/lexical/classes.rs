//! What is true of all texts of a kind: classes of plain characters.

use super::dfa::{DEAD, Dfa};
use super::utf8::{self, Utf8State};
use crate::hash::FastMap;
use crate::machine::Plain;
use crate::{ByteSet, ConstrainError};

/// Attempts at narrowing a class of characters.
const MAX_ATTEMPTS: usize = 8;
/// Places looked at to decide whether every character may follow.
const MAX_PLACES: usize = 64;

impl Dfa {
    /// Which plain characters keep `state` alive, and how many of them.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub(crate) fn plain(&mut self, state: u32) -> Result<Plain, ConstrainError> {
        if state == DEAD {
            return Ok(Plain::NONE);
        }
        if let Some(&plain) = self.plains().get(&state) {
            return Ok(plain);
        }
        let mut class = (self.plain_ascii(state)?, self.wide(state, &mut Vec::new())?);
        let mut plain = Plain::NONE;
        for _ in 0..MAX_ATTEMPTS {
            if class.0.is_empty() && !class.1 {
                break;
            }
            match self.follow(state, class)? {
                Followed::Claim(claim) => {
                    plain = claim;
                    break;
                }
                Followed::Narrow(narrower) => class = narrower,
            }
        }
        self.plains().insert(state, plain);
        Ok(plain)
    }

    /// The plain ASCII characters that are alive in `state`.
    fn plain_ascii(&mut self, state: u32) -> Result<ByteSet, ConstrainError> {
        let mut ascii = ByteSet::EMPTY;
        let classes = self.classes();
        let mut last = (usize::MAX, false);
        for byte in &Plain::ASCII {
            let class = usize::from(classes.of[usize::from(byte)]);
            if last.0 != class {
                last = (class, self.next_class(state, class)? != DEAD);
            }
            if last.1 {
                ascii.insert(byte);
            }
        }
        Ok(ascii)
    }

    /// Whether all characters beyond ASCII are alive in `state`; if so, the states behind them are added to `behind`.
    fn wide(&mut self, state: u32, behind: &mut Vec<u32>) -> Result<bool, ConstrainError> {
        let classes = self.classes();
        let wide = self.alphabet().intersection(&ByteSet::WIDE);
        let mut places: Vec<(Utf8State, u32)> = vec![(utf8::START, state)];
        let mut at = 0;
        while at < places.len() {
            let (text, here) = places[at];
            at += 1;
            let mut last = None;
            for byte in &wide {
                let Some(next_text) = utf8::step(text, byte) else {
                    continue;
                };
                let key = (next_text, classes.of[usize::from(byte)]);
                if last == Some(key) {
                    continue;
                }
                last = Some(key);
                let target = self.next(here, byte)?;
                if target == DEAD {
                    return Ok(false);
                }
                match next_text {
                    utf8::START if !behind.contains(&target) => behind.push(target),
                    utf8::START => {}
                    _ if places.contains(&(next_text, target)) => {}
                    _ if places.len() == MAX_PLACES => return Ok(false),
                    _ => places.push((next_text, target)),
                }
            }
        }
        Ok(!wide.is_empty())
    }

    /// The bytes that are alive in `state` outside a class.
    fn leaving(
        &mut self,
        state: u32,
        ascii: ByteSet,
        wide: bool,
    ) -> Result<ByteSet, ConstrainError> {
        let class = match wide {
            true => ascii.union(&ByteSet::WIDE),
            false => ascii,
        };
        Ok(self.live(state)?.difference(&class))
    }

    /// Follows all strings over a class, one character at a time, as sets of states.
    fn follow(
        &mut self,
        state: u32,
        (ascii, wide): (ByteSet, bool),
    ) -> Result<Followed, ConstrainError> {
        let classes = self.classes();
        let mut samples: Vec<u8> = Vec::new();
        for byte in &ascii {
            let class = classes.of[usize::from(byte)];
            if samples
                .last()
                .is_none_or(|&last| classes.of[usize::from(last)] != class)
            {
                samples.push(byte);
            }
        }
        let mut seen: FastMap<u32, ()> = FastMap::default();
        seen.insert(state, ());
        let mut layer = vec![state];
        let mut met_again = false;
        let mut exits = self.leaving(state, ascii, wide)?;
        for chars in 0..Plain::CHARS_TOLD_APART {
            let mut next_layer = Vec::new();
            let mut narrower = (ascii, wide);
            let mut all_dead = true;
            let mut failed = false;
            for &here in &layer {
                let mut reached = Vec::new();
                let wide_here = wide && self.wide(here, &mut reached)?;
                let mut ascii_here = true;
                for &byte in &samples {
                    match self.next(here, byte)? {
                        DEAD => ascii_here = false,
                        target => reached.push(target),
                    }
                }
                failed |= !ascii_here || wide_here != wide;
                all_dead &= reached.is_empty();
                if !ascii_here {
                    narrower.0 = narrower.0.intersection(&self.plain_ascii(here)?);
                }
                narrower.1 &= wide_here;
                for target in reached {
                    match seen.insert(target, ()) {
                        None => {
                            exits = exits.union(&self.leaving(target, ascii, wide)?);
                            next_layer.push(target);
                        }
                        Some(()) => met_again = true,
                    }
                }
            }
            if failed {
                // A class that keeps most of its characters and holds for any length serves better than a short one.
                let worth =
                    narrower.0.len() * 2 >= ascii.len() && (narrower.1 == wide || chars == 1);
                return Ok(match worth && chars > 0 && !narrower.0.is_empty() {
                    true => Followed::Narrow(narrower),
                    false => {
                        let exact = all_dead && !met_again;
                        // Where the class does not say, tokens may leave it anywhere.
                        let exits = if exact { exits } else { ByteSet::ALL };
                        Followed::Claim(Plain {
                            ascii,
                            wide,
                            chars,
                            exact,
                            exits,
                            home: None,
                        })
                    }
                });
            }
            if next_layer.is_empty() {
                return Ok(Followed::Claim(Plain {
                    ascii,
                    wide,
                    chars: u32::MAX,
                    exact: false,
                    exits,
                    home: None,
                }));
            }
            layer = next_layer;
        }
        Ok(Followed::Claim(Plain {
            ascii,
            wide,
            chars: Plain::CHARS_TOLD_APART,
            exact: false,
            exits,
            home: None,
        }))
    }
}

enum Followed {
    Claim(Plain),
    Narrow((ByteSet, bool)),
}
