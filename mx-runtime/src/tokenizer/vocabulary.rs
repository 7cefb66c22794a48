//! The vocabulary: text, bytes and kind of every id, and the way back from text to id.
//!
//! Texts and bytes lie in one buffer each, the index holds ids only: a vocabulary of 262 144 tokens
//! costs three allocations instead of half a million.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::error::TokenizerError;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No token has this id.
    Absent,
    /// A piece of text.
    Normal,
    /// Control tokens and the token for unknown text: never part of a text.
    Special,
    /// A piece added to the vocabulary by hand, matched before anything else.
    User,
    /// A filler, which stands for nothing.
    Unused,
    /// One byte.
    Byte,
}

/// All tokens by id, and ids by text.
pub(crate) struct Vocabulary {
    texts: Arena,
    bytes: Arena,
    kinds: Vec<Kind>,
    index: Index,
}

impl Vocabulary {
    pub(crate) fn with_capacity(tokens: usize) -> Self {
        Self {
            texts: Arena::default(),
            bytes: Arena::default(),
            kinds: Vec::new(),
            index: Index::with_capacity(tokens),
        }
    }

    /// Gives the next id to a token that can be found by its text.
    ///
    /// `Ok(Some(first))` says that the text was already that of id `first`, which keeps it.
    pub(crate) fn push(
        &mut self,
        text: &str,
        bytes: &[u8],
        kind: Kind,
    ) -> Result<Option<u32>, TokenizerError> {
        let id = self.push_hidden(text, bytes, kind)?;
        Ok(self.index.insert(text, id, &self.texts))
    }

    /// Gives the next id to a token that cannot be found by its text.
    pub(crate) fn push_hidden(
        &mut self,
        text: &str,
        bytes: &[u8],
        kind: Kind,
    ) -> Result<u32, TokenizerError> {
        let id = self.kinds.len() as u32;
        self.texts.push(text.as_bytes())?;
        self.bytes.push(bytes)?;
        self.kinds.push(kind);
        Ok(id)
    }

    /// Number of ids, absent ones included.
    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.index.get(text, &self.texts)
    }

    pub(crate) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Absent)
    }

    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        match self.kind(id) {
            Kind::Absent => None,
            _ => std::str::from_utf8(self.texts.get(id)?).ok(),
        }
    }

    /// The bytes that a token contributes to a text; none for fillers and absent ids.
    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        match self.kind(id) {
            Kind::Absent | Kind::Unused => None,
            _ => self.bytes.get(id),
        }
    }
}

/// Byte strings one behind the other.
#[derive(Default)]
struct Arena {
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl Arena {
    fn push(&mut self, item: &[u8]) -> Result<(), TokenizerError> {
        let end = self.data.len() + item.len();
        let end = u32::try_from(end).map_err(|_| {
            TokenizerError::limit("bytes of all tokens", end, "u32::MAX", u32::MAX as usize)
        })?;
        self.data.extend_from_slice(item);
        self.ends.push(end);
        Ok(())
    }

    fn get(&self, id: u32) -> Option<&[u8]> {
        let end = *self.ends.get(id as usize)? as usize;
        let start = match id {
            0 => 0,
            _ => self.ends[id as usize - 1] as usize,
        };
        Some(&self.data[start..end])
    }
}

/// Open addressing over ids. The hash is keyed: the texts come from a file that may be hostile. A
/// slot holds the upper half of the hash too, so that texts are compared only where they are equal.
struct Index {
    slots: Vec<Slot>,
    used: usize,
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Slot {
    tag: u32,
    id: u32,
}

const EMPTY: Slot = Slot {
    tag: 0,
    id: u32::MAX,
};

impl Index {
    fn with_capacity(items: usize) -> Self {
        let slots = (items.max(8) * 2).next_power_of_two();
        Self {
            slots: vec![EMPTY; slots],
            used: 0,
            hasher: RandomState::new(),
        }
    }

    /// The id of `text`, or the place and tag that it would have.
    fn find(&self, text: &[u8], texts: &Arena) -> Result<u32, (usize, u32)> {
        let mask = self.slots.len() - 1;
        let hash = self.hasher.hash_one(text);
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.id == EMPTY.id {
                return Err((at, tag));
            }
            if slot.tag == tag && texts.get(slot.id) == Some(text) {
                return Ok(slot.id);
            }
            at = (at + 1) & mask;
        }
    }

    fn get(&self, text: &str, texts: &Arena) -> Option<u32> {
        self.find(text.as_bytes(), texts).ok()
    }

    fn insert(&mut self, text: &str, id: u32, texts: &Arena) -> Option<u32> {
        if self.used * 2 >= self.slots.len() {
            self.grow(texts);
        }
        match self.find(text.as_bytes(), texts) {
            Ok(first) => Some(first),
            Err((at, tag)) => {
                self.slots[at] = Slot { tag, id };
                self.used += 1;
                None
            }
        }
    }

    fn grow(&mut self, texts: &Arena) {
        let doubled = vec![EMPTY; self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, doubled) {
            if let Some(text) = texts.get(slot.id)
                && let Err((at, tag)) = self.find(text, texts)
            {
                self.slots[at] = Slot { tag, id: slot.id };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn finds_what_was_pushed_and_keeps_the_first_of_two() {
        let mut vocabulary = Vocabulary::with_capacity(0);
        for n in 0..1000 {
            let text = format!("t{n}");
            assert_eq!(
                vocabulary
                    .push(&text, text.as_bytes(), Kind::Normal)
                    .unwrap(),
                None
            );
        }
        assert_eq!(vocabulary.push("t7", b"t7", Kind::Normal).unwrap(), Some(7));
        assert_eq!(vocabulary.id("t999"), Some(999));
        assert_eq!(vocabulary.id("t1000"), None);
        assert_eq!(vocabulary.text(7), Some("t7"));
        assert_eq!(vocabulary.text(2000), None);
    }

    #[test]
    fn absent_and_unused_ids_have_no_bytes() {
        let mut vocabulary = Vocabulary::with_capacity(2);
        vocabulary.push_hidden("", b"", Kind::Absent).unwrap();
        vocabulary.push("[PAD1]", b"[PAD1]", Kind::Unused).unwrap();
        assert_eq!(vocabulary.bytes(0), None);
        assert_eq!(vocabulary.bytes(1), None);
        assert_eq!(vocabulary.text(1), Some("[PAD1]"));
    }
}
