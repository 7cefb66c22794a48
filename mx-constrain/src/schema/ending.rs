//! The short way out of a value that has begun.
//!
//! Each value that is opened on the way is of a lower rank than the one around it, so that the way has an end.

use super::engine::{Engine, Type};
use super::expr::{ExprId, FALSE, TRUE};
use super::frames::{Class, CoreId, PlaceId};
use super::numbers::NumberState;
use super::options::Whitespace;
use super::reader::{DOCUMENT, Reader, Spot};
use super::steps::letters;
use super::strings::{Life, StringFact};
use super::text::Part;
use super::trie::OFF;
use crate::ConstrainError;
use crate::machine::State;

/// Levels of nesting down to which a way out is looked for.
const DEEPEST: u32 = 24;
/// Number states that are looked at.
const NUMBERS: usize = 400;

impl Reader {
    /// The next byte of a short way to the end of the frame; `None` where it has ended or none is known.
    pub(super) fn way_out(&mut self, state: State) -> Result<Option<u8>, ConstrainError> {
        self.engine.refuel();
        let spot = *self.spots.get(state);
        self.way_from(spot)
    }

    fn way_from(&mut self, spot: Spot) -> Result<Option<u8>, ConstrainError> {
        let spaced = self.engine.options.whitespace == Whitespace::PythonLike;
        match spot {
            Spot::Value { place, blanks } if spaced && blanks == 0 && place != DOCUMENT => {
                Ok(Some(b' '))
            }
            Spot::Value { place, .. } => self.way_of_value(place),
            Spot::Number { place, number } => match self.engine.number_verdict(number) {
                Some(_) if place == DOCUMENT => Ok(None),
                Some(_) => match self.number_ends(place, number)? {
                    Some(next) => self.way_from(next),
                    None => Ok(None),
                },
                None => self.way_of_number(number),
            },
            Spot::Word { kind, at, .. } => Ok(letters(kind).get(usize::from(at)).copied()),
            Spot::First { core, .. } => {
                let object = self.engine.frames.cores.get(core).object;
                if self.engine.close(core).is_some() {
                    return Ok(Some(if object { b'}' } else { b']' }));
                }
                match (object, self.engine.unfinished(core)?) {
                    (_, false) => Ok(None),
                    (true, true) => Ok(Some(b'"')),
                    (false, true) => match self.engine.item_place(core)? {
                        Some(place) => self.way_of_value(place),
                        None => Ok(None),
                    },
                }
            }
            Spot::After { core, .. } => {
                let object = self.engine.frames.cores.get(core).object;
                if self.engine.close(core).is_some() {
                    return Ok(Some(if object { b'}' } else { b']' }));
                }
                Ok(self.engine.unfinished(core)?.then_some(b','))
            }
            Spot::Comma { blanks, .. } if spaced && blanks & 1 == 0 => Ok(Some(b' ')),
            Spot::Comma { .. } => Ok(Some(b'"')),
            Spot::Key { core, part } => self.engine.way_of_name(core, part),
            Spot::Colon { .. } => Ok(Some(b':')),
            Spot::Text { spec, part } => self.engine.way_of_text(spec, part),
            Spot::Wait { .. } | Spot::Done { .. } => Ok(None),
        }
    }

    fn way_of_value(&mut self, place: PlaceId) -> Result<Option<u8>, ConstrainError> {
        let goal = self.engine.frames.places.get(place).goal;
        let must = self.engine.frames.goals.get(goal).must;
        let Some((_, kind)) = self.engine.rank(must, DEEPEST)? else {
            return Ok(None);
        };
        Ok(match kind {
            Type::Null => Some(b'n'),
            Type::No => Some(b'f'),
            Type::Yes => Some(b't'),
            Type::String => Some(b'"'),
            Type::Array => Some(b'['),
            Type::Object => Some(b'{'),
            Type::Number => {
                let spec = self.engine.goal_number(goal)?;
                let start = self.engine.number_start(spec);
                self.way_of_number(start)?
            }
        })
    }

    fn way_of_number(&mut self, number: NumberState) -> Result<Option<u8>, ConstrainError> {
        let mut queue = vec![(number, 0u8)];
        let mut at = 0;
        while let Some(&(state, first)) = queue.get(at) {
            at += 1;
            if first != 0 && self.engine.number_verdict(state).is_some() {
                return Ok(Some(first));
            }
            for byte in self.engine.number_bytes(state).iter() {
                let Some(next) = self.engine.number_next(state, byte)? else {
                    continue;
                };
                if queue.len() < NUMBERS && queue.iter().all(|&(known, _)| known != next) {
                    queue.push((next, if first == 0 { byte } else { first }));
                }
            }
        }
        Ok(None)
    }
}

impl Engine {
    /// The least rank of a value with some facts, and its type. Values without children have rank 0.
    fn rank(&mut self, must: ExprId, deepest: u32) -> Result<Option<(u32, Type)>, ConstrainError> {
        if let Some(&known) = self.frames.ranks.get(&(must, deepest)) {
            return Ok(known);
        }
        self.spend(1)?;
        let mut best = None;
        for kind in [Type::Null, Type::Yes, Type::No, Type::Number, Type::String] {
            if self.possible(must, kind)? {
                best = Some((0, kind));
                break;
            }
        }
        if best.is_none() && deepest > 0 {
            for kind in [Type::Array, Type::Object] {
                if self.possible(must, kind)?
                    && let Some(rank) = self.rank_of_frame(must, kind, deepest)?
                    && best.is_none_or(|(least, _)| rank < least)
                {
                    best = Some((rank, kind));
                }
            }
        }
        self.frames.ranks.insert((must, deepest), best);
        Ok(best)
    }

    fn rank_of_frame(
        &mut self,
        must: ExprId,
        kind: Type,
        deepest: u32,
    ) -> Result<Option<u32>, ConstrainError> {
        let facts = self.unfold(must, kind)?;
        match facts {
            TRUE => return Ok(Some(1)),
            FALSE => return Ok(None),
            _ => {}
        }
        let facts = if kind == Type::Object {
            self.exclusive(facts)?
        } else {
            facts
        };
        let (roots, watch) = self.watched(vec![facts]);
        let mut core = self.empty_core(roots, watch, kind == Type::Object);
        let mut rank = 1;
        // Child by child, as the way out goes.
        while self.close(core).is_none() {
            self.spend(4)?;
            if !self.unfinished(core)? {
                return Ok(None);
            }
            let place = match kind {
                Type::Object => match self.first_required(core)? {
                    Some(key) => {
                        let class = self.key_class(key);
                        self.property_place(core, class, key)?
                    }
                    None => None,
                },
                _ => self.item_place(core)?,
            };
            let Some(place) = place else { return Ok(None) };
            let held = self.frames.places.get(place).clone();
            let child = self.frames.goals.get(held.goal).must;
            let Some((below, _)) = self.rank(child, deepest - 1)? else {
                return Ok(None);
            };
            rank = rank.max(below + 1);
            let Some(after) = held.core else {
                return Ok(None);
            };
            if after == core {
                return Ok(None);
            }
            core = after;
        }
        Ok(Some(rank))
    }

    /// Whether another child is known to bring a frame nearer to its end.
    fn unfinished(&mut self, core: CoreId) -> Result<bool, ConstrainError> {
        let held = self.frames.cores.get(core).clone();
        if held.object {
            return Ok(self.first_required(core)?.is_some());
        }
        Ok(self.array_shape(held.roots).is_simple() && self.item_place(core)?.is_some())
    }

    /// The first property that is still required, where nothing else is to be thought of.
    fn first_required(&mut self, core: CoreId) -> Result<Option<u32>, ConstrainError> {
        let held = self.frames.cores.get(core).clone();
        let shape = self.object_shape(held.roots)?;
        let used = self.frames.lists.get(held.used);
        let missing: Vec<u32> = shape
            .required()
            .iter()
            .copied()
            .filter(|key| used.binary_search(key).is_err())
            .collect();
        for key in missing {
            let class = self.key_class(key);
            if self.allowed(core, class)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn way_of_name(&mut self, core: CoreId, part: Part) -> Result<Option<u8>, ConstrainError> {
        let held = self.frames.cores.get(core).clone();
        let shape = self.object_shape(held.roots)?;
        if !part.is_plain() || shape.simple.is_none() {
            return Ok(None);
        }
        let wanted = self.first_required(core)?;
        let mut target = None;
        for i in shape.trie.range(part.node) {
            let class = self.key_class(shape.trie.key(i));
            if !self.allowed(core, class)? {
                continue;
            }
            if Some(shape.trie.key(i)) == wanted {
                target = Some(i);
                break;
            }
            target = target.or(Some(i));
        }
        match target {
            Some(i) if shape.trie.end(part.node) == Some(i) => Ok(Some(b'"')),
            Some(i) => Ok(next_plain(
                shape.trie.strings()[i].as_bytes(),
                shape.trie.prefix(part.node).len(),
            )),
            None if part.node == OFF && self.between_characters(shape.product, part.spot) => {
                let class = self.open_class(&shape, part.spot, part.len)?;
                let fits = matches!(self.frames.classes.get(class), Class::Open(_))
                    && self.allowed(core, class)?;
                Ok(fits.then_some(b'"'))
            }
            None => Ok(None),
        }
    }

    fn way_of_text(&mut self, id: u32, part: Part) -> Result<Option<u8>, ConstrainError> {
        let spec = self.strings.all[id as usize].clone();
        if !part.is_plain() {
            return Ok(None);
        }
        if let Some(open) = spec
            .open
            .as_ref()
            .filter(|_| part.spot != super::product::NOWHERE)
        {
            let between = self.between_characters(open.product, part.spot);
            let about = StringFact::Open(open.product, part.spot, part.len);
            if between
                && spec.trie.end(part.node).is_none()
                && self.string_fact(open.facts[0], &about)?
            {
                return Ok(Some(b'"'));
            }
            if let Life::Pattern(pattern) = open.life {
                let state = self.pattern_state(open.product, part.spot, pattern);
                let byte = self.graph.patterns[pattern as usize]
                    .dfa
                    .toward_end(state)?;
                return Ok(byte.filter(|&b| {
                    b >= 0x20 && b != b'"' && b != b'\\' && self.alphabet.contains(b)
                }));
            }
            if between && matches!(open.life, Life::Free | Life::UpTo(_)) {
                // Too short: any letter will do.
                return Ok(Some(b'a'));
            }
        }
        let allowed = spec
            .trie
            .range(part.node)
            .filter(|&i| spec.trie.is_allowed(i));
        let Some(target) = allowed.min_by_key(|&i| spec.trie.strings()[i].len()) else {
            return Ok(None);
        };
        Ok(match spec.trie.end(part.node) == Some(target) {
            true => Some(b'"'),
            false => next_plain(
                spec.trie.strings()[target].as_bytes(),
                spec.trie.prefix(part.node).len(),
            ),
        })
    }
}

/// The byte at a place, where it stands for itself in JSON.
fn next_plain(text: &[u8], at: usize) -> Option<u8> {
    text.get(at)
        .copied()
        .filter(|&b| b >= 0x20 && b != b'"' && b != b'\\')
}
