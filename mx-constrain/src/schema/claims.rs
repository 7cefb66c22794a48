//! What can be said of a string as a whole: which characters keep it alive that patterns and lengths are asked of, and
//! the texts that are left where all are spelled out.

use std::sync::Arc;

use super::engine::{Atom, Engine};
use super::expr::Expr;
use super::frames::CoreId;
use super::node::PatternId;
use super::options::Lexical;
use super::product::{NOWHERE, Spot};
use super::strings::{Life, Open, SpecId};
use super::text::Part;
use super::trie::OFF;
use crate::ConstrainError;
use crate::hash::FastMap;
use crate::lexical::{Characters, Chars, Groups, claim};
use crate::machine::Plain;

/// One pattern that must match, and the lengths allowed.
#[derive(Debug, Clone, Copy)]
struct Measured {
    pattern: PatternId,
    min: u32,
    max: u32,
}

impl Engine {
    /// What is claimed of strings that no fact names.
    pub(super) fn plain_of_patterns(
        &mut self,
        id: SpecId,
        open: &Open,
        part: Part,
    ) -> Result<Plain, ConstrainError> {
        if let Life::Pattern(pattern) = open.life {
            let state = self.pattern_state(open.product, part.spot, pattern);
            return self.graph.patterns[pattern as usize].dfa.plain(state);
        }
        if let Some(measured) = self.measured(open) {
            return self.plain_measured(open, part, measured);
        }
        if part.len < open.saturation {
            return Ok(Plain::NONE);
        }
        let mut characters = TextCharacters {
            engine: self,
            id,
            open,
            len: part.len,
        };
        Ok(claim(&mut characters, part.spot)?.0)
    }

    /// The pattern and the lengths, when a string must only keep to these.
    fn measured(&self, open: &Open) -> Option<Measured> {
        let Expr::And(parts) = self.facts.get(open.facts[0]) else {
            return None;
        };
        let (mut pattern, mut min, mut max) = (None, 0, u32::MAX);
        for &part in parts {
            let Expr::Leaf(leaf, sign) = self.facts.get(part) else {
                return None;
            };
            match (self.atom(*leaf), sign) {
                (Atom::Pattern(p), true) if pattern.is_none() => pattern = Some(p),
                (Atom::LengthGe(n), true) => min = min.max(n),
                (Atom::LengthGe(n), false) => max = max.min(n.saturating_sub(1)),
                _ => return None,
            }
        }
        pattern.map(|pattern| Measured { pattern, min, max })
    }

    /// Where the pattern keeps a class of characters alive, the lengths do as long as there is room for the rest of a
    /// match.
    fn plain_measured(
        &mut self,
        open: &Open,
        part: Part,
        Measured { pattern, min, max }: Measured,
    ) -> Result<Plain, ConstrainError> {
        let state = self.pattern_state(open.product, part.spot, pattern);
        let dfa = &mut self.graph.patterns[pattern as usize].dfa;
        let (mut plain, tail) = dfa.plain_and_tail(state)?;
        // While a text is too short, it is made longer by characters of the class, if these never end.
        let long_enough = part.len.saturating_add(1) >= min
            || (plain.chars == u32::MAX && min.saturating_add(tail) <= max);
        if !long_enough {
            return Ok(Plain::NONE);
        }
        if max != u32::MAX {
            let room = max.saturating_sub(part.len);
            plain.chars = plain.chars.min(room.saturating_sub(tail));
            plain.most = plain.most.min(room);
        }
        Ok(if plain.chars > 0 { plain } else { Plain::NONE })
    }
}

impl Engine {
    /// The rests of the strings that a value may still be, when no others are allowed.
    pub(super) fn spelled_texts(
        &self,
        id: SpecId,
        part: Part,
        each: &mut dyn FnMut(&[u8]),
    ) -> bool {
        let spec = &self.strings.all[id as usize];
        if spec.open.is_some() || !self.is_spelled(part) {
            return false;
        }
        let rests = spec
            .trie
            .range(part.node)
            .filter(|&at| spec.trie.is_allowed(at))
            .map(|at| spec.trie.rest(part.node, at));
        if !rests.clone().all(needs_no_escape) {
            return false;
        }
        rests.for_each(each);
        true
    }

    /// The rests of the names that a property may still have, when no others are allowed.
    pub(super) fn spelled_names(
        &mut self,
        core: CoreId,
        part: Part,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, ConstrainError> {
        if !self.is_spelled(part) {
            return Ok(false);
        }
        let shape = self.object_shape(self.frames.cores.get(core).roots)?;
        let mut allowed = Vec::new();
        for at in shape.trie.range(part.node) {
            let class = self.key_class(shape.trie.key(at));
            if self.allowed(core, class)? {
                let rest = shape.trie.rest(part.node, at);
                if !needs_no_escape(rest) {
                    return Ok(false);
                }
                allowed.push(rest);
            }
        }
        allowed.into_iter().for_each(each);
        Ok(true)
    }

    fn is_spelled(&self, part: Part) -> bool {
        let canonical = self.options.lexical == Lexical::Canonical;
        canonical && part.spot == NOWHERE && part.node != OFF && part.is_plain()
    }
}

/// Whether a text has one spelling, that of its characters.
fn needs_no_escape(text: &[u8]) -> bool {
    text.iter()
        .all(|&byte| byte >= 0x80 || Plain::ASCII.contains(byte))
}

/// The characters of strings of a specification.
struct TextCharacters<'a> {
    engine: &'a mut Engine,
    id: SpecId,
    open: &'a Open,
    len: u32,
}

impl Characters for TextCharacters<'_> {
    fn behind(&mut self, spot: u32, byte: u8) -> Result<u32, ConstrainError> {
        let next = self.engine.product_next(self.open.product, spot, byte)?;
        let alive = self.engine.open_alive(self.id, self.open, next, self.len)?;
        Ok(if alive { next } else { NOWHERE })
    }

    fn groups(&mut self) -> Arc<Groups> {
        Arc::clone(&self.engine.product_classes(self.open.product).groups)
    }

    fn known(&mut self) -> &mut FastMap<Spot, Arc<Chars>> {
        let key = (self.id, self.len);
        self.engine.strings.characters.entry(key).or_default()
    }
}
