//! Property names: which can still come, and which were had.

use super::engine::Engine;
use super::frames::{ANY_KEY, ClassId, CoreId, ObjectShape};
use super::node::KeyId;
use super::product::{NOWHERE, Spot};
use super::strings::ANY_TEXT;
use super::text::{Escape, Part, StringStep};
use super::trie::OFF;
use crate::machine::Plain;
use crate::{ByteSet, ConstrainError};

impl Engine {
    /// The first bytes behind which a plain character does not lead to the common state of free strings.
    pub(super) fn turns_of_name(
        &mut self,
        core: CoreId,
        part: Part,
    ) -> Result<ByteSet, ConstrainError> {
        let held = self.frames.cores.get(core);
        let (roots, used) = (held.roots, held.used);
        let shape = self.object_shape(roots)?;
        let mut turns = shape.trie.bytes(part.node);
        if !self.frames.cores.get(core).open_names {
            return Ok(turns);
        }
        let text = match (part.node, part.text) {
            (_, ANY_TEXT) => return Ok(turns),
            (OFF, text) => self.strings.text(text),
            (node, _) => shape.trie.prefix(node).to_vec(),
        };
        for &key in self.frames.lists.get(used) {
            let name = self.graph.keys.get(key).as_bytes();
            if let (true, Some(&next)) = (name.starts_with(&text), name.get(text.len())) {
                turns.insert(next);
            }
        }
        Ok(turns)
    }

    /// Which characters keep a name alive that must satisfy patterns.
    pub(super) fn plain_pattern_name(
        &mut self,
        core: CoreId,
        shape: &ObjectShape,
        part: Part,
    ) -> Result<Plain, ConstrainError> {
        const MOST: usize = 48;
        let classes = self.open_classes(shape)?;
        let mut all = true;
        for &class in classes.iter() {
            all &= self.allowed(core, class)?;
        }
        if all {
            return Ok(Plain::FREE);
        }
        // All that plain characters can lead to: when nothing of it is dead, every plain string will do.
        let mut seen = vec![part.spot];
        let mut free = true;
        let mut at = 0;
        while at < seen.len() && free {
            let spot = seen[at];
            at += 1;
            for byte in Plain::ASCII.union(&ByteSet::WIDE).iter() {
                let next = self.product_next(shape.product, spot, byte)?;
                // Bytes that no character has there are refused everywhere.
                if next != NOWHERE && !seen.contains(&next) {
                    free &= seen.len() < MOST
                        && self.name_can_end(core, shape, next, part.len, true)?;
                    seen.push(next);
                }
                if !free {
                    break;
                }
            }
        }
        if free {
            return Ok(Plain::FREE);
        }
        // Otherwise the characters that lead to a place where they all stay.
        let mut best = (ByteSet::EMPTY, NOWHERE);
        let mut tried: Vec<Spot> = Vec::new();
        for byte in Plain::ASCII.iter() {
            let to = self.product_next(shape.product, part.spot, byte)?;
            if to == NOWHERE || tried.contains(&to) {
                continue;
            }
            tried.push(to);
            let mut class = ByteSet::EMPTY;
            for byte in Plain::ASCII.iter() {
                if self.product_next(shape.product, part.spot, byte)? == to
                    && self.product_next(shape.product, to, byte)? == to
                {
                    class.insert(byte);
                }
            }
            if class.len() > best.0.len() && self.name_can_end(core, shape, to, part.len, true)? {
                best = (class, to);
            }
        }
        Ok(match best.0.is_empty() {
            true => Plain::NONE,
            false => Plain {
                ascii: best.0,
                chars: u32::MAX,
                ..Plain::NONE
            },
        })
    }

    /// Where every free string without a name of its own stands.
    pub(super) fn home_of_name(&self, shape: &ObjectShape) -> Part {
        let spot = self.product_start(shape.product);
        Part {
            node: OFF,
            spot,
            len: 0,
            text: ANY_TEXT,
            escape: Escape::None,
        }
    }

    /// Whether the text so far is itself an open name that the object had.
    pub(super) fn is_had(&self, core: CoreId, part: Part) -> bool {
        let held = self.frames.cores.get(core);
        if !held.open_names || part.node != OFF || part.text == ANY_TEXT {
            return false;
        }
        let text = self.strings.text(part.text);
        let used = self.frames.lists.get(held.used);
        used.iter()
            .any(|&key| self.graph.keys.get(key).as_bytes() == text)
    }

    /// Whether an open name that the object had begins with the text so far.
    pub(super) fn had_name(&mut self, core: CoreId, part: Part) -> Result<bool, ConstrainError> {
        let held = self.frames.cores.get(core);
        if !held.open_names {
            return Ok(false);
        }
        let (roots, used) = (held.roots, held.used);
        let shape = self.object_shape(roots)?;
        let text = match (part.node, part.text) {
            (_, ANY_TEXT) => return Ok(false),
            (OFF, text) => self.strings.text(text),
            (node, _) => shape.trie.prefix(node).to_vec(),
        };
        Ok(self.frames.lists.get(used).iter().any(|&key| {
            let name = self.graph.keys.get(key);
            name.as_bytes().starts_with(&text)
                && shape
                    .trie
                    .strings()
                    .binary_search_by(|s| s.as_ref().cmp(name))
                    .is_err()
        }))
    }

    /// Whether a name that is not spelled out can be completed to one that is allowed.
    pub(super) fn name_can_end(
        &mut self,
        core: CoreId,
        shape: &ObjectShape,
        spot: Spot,
        len: u32,
        here: bool,
    ) -> Result<bool, ConstrainError> {
        let key = (core, spot, len, here);
        if let Some(&known) = self.frames.name_alive.get(&key) {
            return Ok(known);
        }
        let classes: Vec<ClassId> = self.open_classes(shape)?.to_vec();
        let mut good = Vec::with_capacity(classes.len());
        for class in classes {
            if self.allowed(core, class)? {
                good.push(class);
            }
        }
        let mut seen = crate::hash::FastMap::default();
        let mut queue = vec![(spot, len)];
        if here {
            seen.insert((spot, len), ());
        }
        let mut at = 0;
        let mut alive = false;
        while at < queue.len() && !good.is_empty() && !alive {
            let (spot, len) = queue[at];
            at += 1;
            self.spend(8)?;
            if (here || at > 1) && self.between_characters(shape.product, spot) {
                let class = self.open_class(shape, spot, len)?;
                if good.contains(&class) {
                    alive = true;
                    break;
                }
            }
            for byte in 0..=u8::MAX {
                let next = self.product_next(shape.product, spot, byte)?;
                let longer = (len + u32::from(byte & 0xc0 != 0x80)).min(shape.saturation);
                if next != NOWHERE && seen.insert((next, longer), ()).is_none() {
                    queue.push((next, longer));
                }
            }
        }
        self.frames.name_alive.insert(key, alive);
        Ok(alive)
    }

    pub(super) fn close_name(
        &mut self,
        core: CoreId,
        shape: &ObjectShape,
        part: Part,
    ) -> Result<StringStep, ConstrainError> {
        let (class, key): (ClassId, KeyId) = match shape.trie.end(part.node) {
            Some(i) => (self.key_class(shape.trie.key(i)), shape.trie.key(i)),
            None => {
                if part.spot == NOWHERE || !self.between_characters(shape.product, part.spot) {
                    return Ok(StringStep::Dead);
                }
                let class = self.open_class(shape, part.spot, part.len)?;
                if part.text == ANY_TEXT {
                    let place = self.property_place(core, class, ANY_KEY)?;
                    return Ok(place.map_or(StringStep::Dead, StringStep::Close));
                }
                let bytes = match part.node {
                    OFF => self.strings.text(part.text),
                    node => shape.trie.prefix(node).to_vec(),
                };
                let Ok(text) = String::from_utf8(bytes) else {
                    return Ok(StringStep::Dead);
                };
                (class, self.graph.keys.intern(&text))
            }
        };
        Ok(self
            .property_place(core, class, key)?
            .map_or(StringStep::Dead, StringStep::Close))
    }
}
