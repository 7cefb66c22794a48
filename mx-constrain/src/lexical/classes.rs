//! What is true of all texts of a kind: classes of plain characters.

use std::sync::Arc;

use super::dfa::{DEAD, Dfa};
use super::utf8::{self, Utf8State};
use crate::hash::FastMap;
use crate::machine::Plain;
use crate::{ByteSet, ConstrainError};

/// Attempts at narrowing a class of characters.
const MAX_ATTEMPTS: usize = 12;
/// Places looked at to decide whether every character behind a first byte may follow.
const MAX_PLACES: usize = 64;
/// States behind characters of a class that are looked at.
const MAX_STATES: usize = 512;

/// The claims about states and what they are made of, each found once.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    plains: FastMap<u32, Plain>,
    tails: FastMap<u32, (Plain, u32)>,
    chars: FastMap<u32, Arc<Chars>>,
    groups: Option<Arc<Groups>>,
}

/// Bytes between which neither UTF-8 nor the automaton makes a difference at a place.
#[derive(Debug, Clone)]
struct Group {
    bytes: ByteSet,
    sample: u8,
    next: Utf8State,
    plain: bool,
}

/// The plain characters that are alive in a state.
#[derive(Debug)]
pub(crate) struct Chars {
    /// Their bytes: ASCII, first bytes behind which every character is alive, and with these all bytes that go on.
    class: ByteSet,
    /// All bytes that are alive.
    live: ByteSet,
    /// Where characters lead, by their first bytes.
    targets: Vec<(ByteSet, u32)>,
}

/// States between which characters lead.
pub(crate) trait Characters {
    /// The state behind a byte, 0 where it is refused.
    fn behind(&mut self, state: u32, byte: u8) -> Result<u32, ConstrainError>;

    /// Bytes between which there is no difference anywhere.
    fn groups(&mut self) -> Arc<Groups>;

    /// What was found out about a state.
    fn known(&mut self) -> &mut FastMap<u32, Arc<Chars>>;
}

/// Per place in a character: the bytes that may come, as groups of which none need be told apart.
#[derive(Debug)]
pub(crate) struct Groups([Vec<Group>; utf8::STATES]);

impl Groups {
    /// The groups of an alphabet, given the classes that an automaton tells apart.
    pub(crate) fn new(alphabet: &ByteSet, class: impl Fn(u8) -> u32) -> Self {
        let mut groups: [Vec<Group>; utf8::STATES] = Default::default();
        for (place, groups) in groups.iter_mut().enumerate() {
            for byte in alphabet {
                let Some(next) = utf8::step(place as Utf8State, byte) else {
                    continue;
                };
                let plain = byte >= 0x80 || Plain::ASCII.contains(byte);
                let same = |group: &&mut Group| {
                    (group.next, group.plain) == (next, plain)
                        && class(group.sample) == class(byte)
                        && (group.sample < 0x80) == (byte < 0x80)
                };
                match groups.iter_mut().find(same) {
                    Some(group) => group.bytes.insert(byte),
                    None => groups.push(Group {
                        bytes: ByteSet::of(byte),
                        sample: byte,
                        next,
                        plain,
                    }),
                }
            }
        }
        Self(groups)
    }
}

impl Dfa {
    /// Which plain characters keep `state` alive, and how many of them.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub(crate) fn plain(&mut self, state: u32) -> Result<Plain, ConstrainError> {
        if state == DEAD {
            return Ok(Plain::NONE);
        }
        if let Some(&plain) = self.claims().plains.get(&state) {
            return Ok(plain);
        }
        let (plain, _) = claim(self, state)?;
        self.claims().plains.insert(state, plain);
        Ok(plain)
    }

    /// The same, with the bytes in which a member can be completed from everywhere that the claim speaks of.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub(crate) fn plain_and_tail(&mut self, state: u32) -> Result<(Plain, u32), ConstrainError> {
        if state == DEAD {
            return Ok((Plain::NONE, 0));
        }
        if let Some(&known) = self.claims().tails.get(&state) {
            return Ok(known);
        }
        let (plain, seen) = claim(self, state)?;
        let mut tail = 0;
        for state in seen.into_keys() {
            tail = tail.max(self.bytes_to_end(state)?);
        }
        self.claims().tails.insert(state, (plain, tail));
        Ok((plain, tail))
    }

    /// Bytes of a shortest completion.
    fn bytes_to_end(&mut self, mut state: u32) -> Result<u32, ConstrainError> {
        let mut bytes = 0;
        while let Some(byte) = self.toward_end(state)? {
            state = self.next(state, byte)?;
            bytes += 1;
        }
        Ok(bytes)
    }
}

impl Characters for Dfa {
    fn behind(&mut self, state: u32, byte: u8) -> Result<u32, ConstrainError> {
        self.next(state, byte)
    }

    fn groups(&mut self) -> Arc<Groups> {
        if let Some(groups) = &self.claims().groups {
            return Arc::clone(groups);
        }
        let classes = self.classes();
        let groups = Groups::new(self.alphabet(), |byte| {
            u32::from(classes.of[usize::from(byte)])
        });
        let groups = Arc::new(groups);
        self.claims().groups = Some(Arc::clone(&groups));
        groups
    }

    fn known(&mut self) -> &mut FastMap<u32, Arc<Chars>> {
        &mut self.claims().chars
    }
}

/// Which plain characters keep a state alive, and the states that they lead to.
pub(crate) fn claim(
    of: &mut dyn Characters,
    state: u32,
) -> Result<(Plain, FastMap<u32, ByteSet>), ConstrainError> {
    let mut class = chars(of, state)?.class;
    for _ in 0..MAX_ATTEMPTS {
        if class.is_empty() {
            break;
        }
        match follow(of, state, class)? {
            Followed::Claim(plain, seen) => return Ok((plain, seen)),
            Followed::Narrow(narrower) => class = narrower,
        }
    }
    Ok((Plain::NONE, FastMap::default()))
}

/// The characters that are alive in a state.
fn chars(of: &mut dyn Characters, state: u32) -> Result<Arc<Chars>, ConstrainError> {
    if let Some(chars) = of.known().get(&state) {
        return Ok(Arc::clone(chars));
    }
    let mut chars = Chars {
        class: ByteSet::EMPTY,
        live: ByteSet::EMPTY,
        targets: Vec::new(),
    };
    let groups = of.groups();
    let mut firsts = ByteSet::EMPTY;
    let mut wide = ByteSet::EMPTY;
    for group in &groups.0[usize::from(utf8::START)] {
        firsts = firsts.union(&group.bytes);
        let target = of.behind(state, group.sample)?;
        if target == DEAD {
            continue;
        }
        chars.live = chars.live.union(&group.bytes);
        if group.next == utf8::START {
            if group.plain {
                chars.class = chars.class.union(&group.bytes);
                add(&mut chars.targets, group.bytes, target);
            }
        } else if let Some(targets) = unfinished(of, group.next, target, &groups)? {
            wide = wide.union(&group.bytes);
            for target in targets {
                add(&mut chars.targets, group.bytes, target);
            }
        }
    }
    if !wide.is_empty() {
        // Bytes that go on belong to it, and those that no character begins with do not matter.
        let others = ByteSet::WIDE.difference(&firsts);
        chars.class = chars.class.union(&wide).union(&others);
    }
    let chars = Arc::new(chars);
    of.known().insert(state, Arc::clone(&chars));
    Ok(chars)
}

/// Where the characters that have begun lead; `None` when not all of them are alive.
fn unfinished(
    of: &mut dyn Characters,
    text: Utf8State,
    state: u32,
    groups: &Groups,
) -> Result<Option<Vec<u32>>, ConstrainError> {
    let mut behind = Vec::new();
    let mut places: Vec<(Utf8State, u32)> = vec![(text, state)];
    let mut at = 0;
    while at < places.len() {
        let (text, here) = places[at];
        at += 1;
        for group in &groups.0[usize::from(text)] {
            let target = of.behind(here, group.sample)?;
            if target == DEAD {
                return Ok(None);
            }
            match group.next {
                utf8::START if !behind.contains(&target) => behind.push(target),
                utf8::START => {}
                next if places.contains(&(next, target)) => {}
                _ if places.len() == MAX_PLACES => return Ok(None),
                next => places.push((next, target)),
            }
        }
    }
    Ok(Some(behind))
}

/// Follows all strings over a class, one character at a time, as sets of states.
fn follow(of: &mut dyn Characters, state: u32, class: ByteSet) -> Result<Followed, ConstrainError> {
    // With each state met: the first bytes of the characters that lead to it.
    let mut seen: FastMap<u32, ByteSet> = FastMap::default();
    seen.insert(state, ByteSet::EMPTY);
    let mut layer = vec![state];
    let mut plain = Plain {
        class,
        ..Plain::NONE
    };
    let mut exits = ByteSet::EMPTY;
    // Characters that every string of the class may have, once it is known; and whether all was followed since.
    let mut held = None;
    let mut complete = true;
    for length in 0..Plain::CHARS_TOLD_APART {
        let mut next_layer: Vec<u32> = Vec::new();
        let (mut kept, mut dropped) = (class, ByteSet::EMPTY);
        let mut new = false;
        for &here in &layer {
            let known = chars(of, here)?;
            exits = exits.union(&known.live.difference(&class));
            if !class.is_subset(&known.class) {
                kept = kept.intersection(&known.class);
                dropped = dropped.union(seen.get(&here).unwrap_or(&ByteSet::EMPTY));
                complete &= class.intersection(&known.live).is_subset(&known.class);
            }
            for &(bytes, target) in &known.targets {
                let bytes = bytes.intersection(&class);
                if bytes.is_empty() {
                    continue;
                }
                let known = seen.len();
                let by = seen.entry(target).or_insert(ByteSet::EMPTY);
                *by = by.union(&bytes);
                new |= seen.len() > known;
                if !next_layer.contains(&target) {
                    next_layer.push(target);
                }
            }
        }
        if held.is_none() && kept != class {
            // A class that keeps most of its characters and holds for longer serves better than a short one.
            let narrower = match class.difference(&dropped) {
                fewer if fewer.len() > kept.len() => without_orphans(fewer),
                _ => without_orphans(kept),
            };
            let ascii = |set: &ByteSet| set.intersection(&Plain::ASCII).len();
            if length > 0 && !narrower.is_empty() && ascii(&narrower) * 2 >= ascii(&class) {
                return Ok(Followed::Narrow(narrower));
            }
            held = Some(length);
        }
        plain.chars = held.unwrap_or(length + 1);
        plain.exits = if complete { exits } else { ByteSet::ALL };
        if !complete || seen.len() > MAX_STATES {
            plain.exits = ByteSet::ALL;
            return Ok(Followed::Claim(plain, seen));
        }
        if next_layer.is_empty() {
            plain.most = length;
            return Ok(Followed::Claim(plain, seen));
        }
        if !new {
            // All that can be reached was looked at.
            plain.chars = held.unwrap_or(u32::MAX);
            return Ok(Followed::Claim(plain, seen));
        }
        layer = next_layer;
    }
    for here in layer {
        exits = exits.union(&chars(of, here)?.live.difference(&class));
    }
    plain.exits = exits;
    Ok(Followed::Claim(plain, seen))
}

fn add(targets: &mut Vec<(ByteSet, u32)>, bytes: ByteSet, target: u32) {
    match targets.iter_mut().find(|(_, to)| *to == target) {
        Some((from, _)) => *from = from.union(&bytes),
        None => targets.push((bytes, target)),
    }
}

/// A class without the bytes that go on in characters when it has no first byte of any.
fn without_orphans(class: ByteSet) -> ByteSet {
    match class.intersection(&utf8::FIRST).is_empty() {
        true => class.difference(&ByteSet::WIDE),
        false => class,
    }
}

enum Followed {
    /// A claim, and the states that it speaks of.
    Claim(Plain, FastMap<u32, ByteSet>),
    Narrow(ByteSet),
}
