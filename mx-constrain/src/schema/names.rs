//! Property names: which can still come, and which were had.

use std::sync::Arc;

use super::engine::Engine;
use super::frames::{ANY_KEY, ClassId, CoreId, ObjectShape};
use super::node::KeyId;
use super::product::{NOWHERE, Spot};
use super::strings::ANY_TEXT;
use super::text::{Escape, Part, StringStep};
use super::trie::OFF;
use crate::hash::FastMap;
use crate::lexical::{Characters, Chars, Groups, claim};
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
        let classes = self.open_classes(shape)?;
        let mut all = true;
        for &class in classes.iter() {
            all &= self.allowed(core, class)?;
        }
        if all {
            return Ok(Plain::FREE);
        }
        let good = self.good_names(core, shape)?;
        let mut characters = NameCharacters {
            roots: self.frames.cores.get(core).roots,
            shape,
            good,
            len: part.len,
            engine: self,
        };
        let (mut plain, _) = claim(&mut characters, part.spot)?;
        // A name that is spelled out, or was had, must go on, and does with one character more of the class.
        if plain.chars != u32::MAX {
            plain.chars -= 1.min(plain.chars);
        }
        plain.exits = plain
            .exits
            .union(&ByteSet::of(b'"'))
            .union(&ByteSet::of(b'\\'));
        plain.exits = plain.exits.union(&shape.trie.bytes(part.node));
        Ok(plain)
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
        let good = self.good_names(core, shape)?;
        let roots = self.frames.cores.get(core).roots;
        self.good_name_can_end((roots, good), shape, spot, len, here)
    }

    /// The classes of open names that are allowed next.
    fn good_names(&mut self, core: CoreId, shape: &ObjectShape) -> Result<u32, ConstrainError> {
        if let Some(&known) = self.frames.good_names.get(&core) {
            return Ok(known);
        }
        let mut good = Vec::new();
        for &class in self.open_classes(shape)?.iter() {
            if self.allowed(core, class)? {
                good.push(class);
            }
        }
        let good = self.frames.lists.intern(good);
        self.frames.good_names.insert(core, good);
        Ok(good)
    }

    /// The same for objects of which `of` tells the facts asked for and the classes allowed next.
    fn good_name_can_end(
        &mut self,
        of: (u32, u32),
        shape: &ObjectShape,
        spot: Spot,
        len: u32,
        here: bool,
    ) -> Result<bool, ConstrainError> {
        let known = self.frames.name_alive.entry(of).or_default();
        if let Some(&known) = known.get(&(spot, len, here)) {
            return Ok(known);
        }
        let good = self.frames.lists.get(of.1).clone();
        let classes = self.product_classes(shape.product);
        // Each place with the one before it.
        let mut from: FastMap<(Spot, u32), (Spot, u32)> = FastMap::default();
        let mut queue = vec![(spot, len)];
        if here {
            from.insert((spot, len), (NOWHERE, 0));
        }
        let mut at = 0;
        let mut end = None;
        while at < queue.len() && !good.is_empty() && end.is_none() {
            let (spot, len) = queue[at];
            at += 1;
            self.spend(8)?;
            if (here || at > 1) && self.between_characters(shape.product, spot) {
                let class = self.open_class(shape, spot, len)?;
                if good.contains(&class) {
                    end = Some((spot, len));
                    break;
                }
            }
            for &byte in &classes.samples {
                let next = self.product_next(shape.product, spot, byte)?;
                let longer = (len + u32::from(byte & 0xc0 != 0x80)).min(shape.saturation);
                if next != NOWHERE && !from.contains_key(&(next, longer)) {
                    from.insert((next, longer), (spot, len));
                    queue.push((next, longer));
                }
            }
        }
        let known = self.frames.name_alive.entry(of).or_default();
        known.insert((spot, len, here), end.is_some());
        // The whole way to the end is alive.
        while let Some(place) = end.filter(|&place| place != (spot, len)) {
            known.insert((place.0, place.1, true), true);
            end = from.get(&place).copied();
        }
        Ok(known[&(spot, len, here)])
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

/// The characters of names that are not spelled out.
struct NameCharacters<'a> {
    engine: &'a mut Engine,
    roots: u32,
    shape: &'a ObjectShape,
    good: u32,
    len: u32,
}

impl Characters for NameCharacters<'_> {
    fn behind(&mut self, spot: u32, byte: u8) -> Result<u32, ConstrainError> {
        let next = self.engine.product_next(self.shape.product, spot, byte)?;
        let of = (self.roots, self.good);
        let alive = next != NOWHERE
            && self
                .engine
                .good_name_can_end(of, self.shape, next, self.len, true)?;
        Ok(if alive { next } else { NOWHERE })
    }

    fn groups(&mut self) -> Arc<Groups> {
        Arc::clone(&self.engine.product_classes(self.shape.product).groups)
    }

    fn known(&mut self) -> &mut FastMap<Spot, Arc<Chars>> {
        let key = (self.roots, self.good, self.len);
        self.engine.frames.name_characters.entry(key).or_default()
    }
}
