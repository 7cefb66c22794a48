//! Characters of strings and property names: escapes, names spelled out, and everything else.

use super::engine::{Engine, Scalar};
use super::frames::{CoreId, ObjectShape, Verdict};
use super::options::Lexical;
use super::product::{NOWHERE, ProductId, Spot};
use super::strings::{ANY_TEXT, NO_TEXT, StringFact, StringSpec};
use super::trie::{OFF, Trie, TrieNode};
use crate::{ByteSet, ConstrainError};

/// Where a string stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Part {
    /// In the tree of strings that are spelled out.
    pub(super) node: TrieNode,
    /// In the product of patterns.
    pub(super) spot: Spot,
    /// Characters so far, up to where they matter.
    pub(super) len: u32,
    /// The text itself, where it matters.
    pub(super) text: u32,
    /// Inside an escape, see [`Escape`].
    pub(super) escape: Escape,
}

impl Part {
    /// The same place in a text that is not told from others.
    pub(super) fn anonymous(self) -> Self {
        Self {
            text: ANY_TEXT,
            ..self
        }
    }

    /// The same place in a string that none of those spelled out begins with.
    pub(super) fn unnamed(self, len: u32, anonymous: bool) -> Self {
        Self {
            node: OFF,
            len,
            text: if anonymous { ANY_TEXT } else { self.text },
            ..self
        }
    }

    /// Whether the string stands outside an escape.
    pub(super) fn is_plain(&self) -> bool {
        self.escape == Escape::None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Escape {
    None,
    /// Behind a backslash.
    Begun,
    /// Behind `\u` and so many digits.
    Hex(u8, u16),
    /// Behind a first half of a pair; a backslash, then `u`, must follow.
    Half(u16),
    HalfBegun(u16),
    /// Inside the second half of a pair.
    Pair(u16, u8, u16),
}

/// What a byte does inside a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StringStep {
    Dead,
    Stay(Part),
    /// The string ends, with this verdict (or, for names, at this place).
    Close(u32),
}

/// Which string is read.
#[derive(Clone, Copy)]
pub(super) enum In<'a> {
    Value(u32, &'a StringSpec),
    Name(CoreId, &'a ObjectShape),
}

impl In<'_> {
    pub(super) fn trie(&self) -> &Trie {
        match self {
            Self::Value(_, spec) => &spec.trie,
            Self::Name(_, shape) => &shape.trie,
        }
    }

    pub(super) fn product(&self) -> Option<(ProductId, u32)> {
        match self {
            Self::Value(_, spec) => spec
                .open
                .as_ref()
                .map(|open| (open.product, open.saturation)),
            Self::Name(_, shape) => Some((shape.product, shape.saturation)),
        }
    }
}

/// Escapes of one letter and what they stand for.
pub(super) const SHORT: [(u8, u8); 8] = [
    (b'"', b'"'),
    (b'\\', b'\\'),
    (b'/', b'/'),
    (b'b', 8),
    (b'f', 12),
    (b'n', b'\n'),
    (b'r', b'\r'),
    (b't', b'\t'),
];

impl Engine {
    /// Where a string value begins.
    pub(super) fn text_start(&mut self, spec: u32) -> Part {
        let spec = &self.strings.all[spec as usize];
        let spot = spec
            .open
            .as_ref()
            .map_or(NOWHERE, |open| self.product_start(open.product));
        Part {
            node: spec.trie.root(),
            spot,
            len: 0,
            text: NO_TEXT,
            escape: Escape::None,
        }
    }

    /// Where a property name begins; `None` when no property may come.
    pub(super) fn key_start(&mut self, core: CoreId) -> Result<Option<Part>, ConstrainError> {
        let shape = self.object_shape(self.frames.cores.get(core).roots)?;
        let spot = self.product_start(shape.product);
        let part = Part {
            node: shape.trie.root(),
            spot,
            len: 0,
            text: NO_TEXT,
            escape: Escape::None,
        };
        self.settle(&In::Name(core, &shape), part)
    }

    /// What a byte does inside a string value.
    pub(super) fn text_step(
        &mut self,
        id: u32,
        part: Part,
        byte: u8,
    ) -> Result<StringStep, ConstrainError> {
        let spec = self.strings.all[id as usize].clone();
        self.string_step(&In::Value(id, &spec), part, byte)
    }

    /// What a byte does inside a property name.
    pub(super) fn key_step(
        &mut self,
        core: CoreId,
        part: Part,
        byte: u8,
    ) -> Result<StringStep, ConstrainError> {
        let shape = self.object_shape(self.frames.cores.get(core).roots)?;
        self.string_step(&In::Name(core, &shape), part, byte)
    }

    pub(super) fn string_step(
        &mut self,
        of: &In<'_>,
        part: Part,
        byte: u8,
    ) -> Result<StringStep, ConstrainError> {
        let escape = match (part.escape, byte) {
            (Escape::None, b'"') => return self.close_string(of, part),
            (Escape::None, b'\\') => Escape::Begun,
            (Escape::None, 0..=0x1f) => return Ok(StringStep::Dead),
            (Escape::None, _) => return self.stay(of, part, &[byte]),
            (Escape::Begun, b'u') => Escape::Hex(0, 0),
            (Escape::Begun, _) => {
                let Some(&(_, decoded)) = SHORT.iter().find(|(letter, _)| *letter == byte) else {
                    return Ok(StringStep::Dead);
                };
                if decoded == b'/' && !self.free_escapes(of) {
                    return Ok(StringStep::Dead);
                }
                return self.stay(
                    of,
                    Part {
                        escape: Escape::None,
                        ..part
                    },
                    &[decoded],
                );
            }
            (Escape::Half(high), b'\\') => Escape::HalfBegun(high),
            (Escape::HalfBegun(high), b'u') => Escape::Pair(high, 0, 0),
            (Escape::Hex(n, value), _) => {
                let Some(digit) = (byte as char).to_digit(16) else {
                    return Ok(StringStep::Dead);
                };
                let value = value << 4 | digit as u16;
                match (n, value) {
                    (3, 0xd800..=0xdbff) => Escape::Half(value),
                    (3, _) => return self.decoded(of, part, u32::from(value)),
                    _ => Escape::Hex(n + 1, value),
                }
            }
            (Escape::Pair(high, n, value), _) => {
                let Some(digit) = (byte as char).to_digit(16) else {
                    return Ok(StringStep::Dead);
                };
                let value = value << 4 | digit as u16;
                match n {
                    3 if !(0xdc00..=0xdfff).contains(&value) => return Ok(StringStep::Dead),
                    3 => {
                        let code = 0x10000
                            + (u32::from(high) - 0xd800) * 0x400
                            + (u32::from(value) - 0xdc00);
                        return self.decoded(of, part, code);
                    }
                    _ => Escape::Pair(high, n + 1, value),
                }
            }
            _ => return Ok(StringStep::Dead),
        };
        let part = Part { escape, ..part };
        Ok(if self.escape_alive(of, part)? {
            StringStep::Stay(part)
        } else {
            StringStep::Dead
        })
    }

    /// Whether characters that need no escape may have one here.
    pub(super) fn free_escapes(&self, of: &In<'_>) -> bool {
        match (self.options.lexical, of) {
            (Lexical::Full, _) => true,
            (Lexical::Canonical, In::Value(_, spec)) => spec.open.is_some(),
            (Lexical::Canonical, In::Name(..)) => false,
        }
    }

    pub(super) fn decoded(
        &mut self,
        of: &In<'_>,
        part: Part,
        code: u32,
    ) -> Result<StringStep, ConstrainError> {
        match char::from_u32(code) {
            Some(c) if code < 0x20 || self.free_escapes(of) => {
                let mut buffer = [0; 4];
                let bytes = c.encode_utf8(&mut buffer).as_bytes();
                self.stay(
                    of,
                    Part {
                        escape: Escape::None,
                        ..part
                    },
                    bytes,
                )
            }
            _ => Ok(StringStep::Dead),
        }
    }

    pub(super) fn stay(
        &mut self,
        of: &In<'_>,
        mut part: Part,
        bytes: &[u8],
    ) -> Result<StringStep, ConstrainError> {
        for &byte in bytes {
            part = self.advance(of, part, byte)?;
        }
        Ok(self
            .settle(of, part)?
            .map_or(StringStep::Dead, StringStep::Stay))
    }

    /// One more byte of the decoded string.
    pub(super) fn advance(
        &mut self,
        of: &In<'_>,
        part: Part,
        byte: u8,
    ) -> Result<Part, ConstrainError> {
        let trie = of.trie();
        let node = trie.child(part.node, byte);
        let (mut spot, mut len) = (NOWHERE, part.len);
        if let Some((product, saturation)) = of.product() {
            spot = self.product_next(product, part.spot, byte)?;
            len = (len + u32::from(byte & 0xc0 != 0x80)).min(saturation);
        }
        let text = match of {
            In::Value(_, spec) if spec.track => self.strings.longer(part.text, byte),
            In::Name(..) if node == OFF && spot != NOWHERE => {
                let mut text = part.text;
                if part.node != OFF && text != ANY_TEXT {
                    for &byte in trie.prefix(part.node) {
                        text = self.strings.longer(text, byte);
                    }
                }
                self.strings.longer(text, byte)
            }
            In::Name(..) if part.text == ANY_TEXT => ANY_TEXT,
            _ => NO_TEXT,
        };
        Ok(Part {
            node,
            spot,
            len,
            text,
            escape: Escape::None,
        })
    }

    /// The same place without what cannot matter any more; `None` when the string cannot be completed.
    pub(super) fn settle(
        &mut self,
        of: &In<'_>,
        mut part: Part,
    ) -> Result<Option<Part>, ConstrainError> {
        if part.spot != NOWHERE && !self.open_can_end(of, part)? {
            part.spot = NOWHERE;
            part.len = 0;
        }
        // While other strings are possible, one that is spelled out still tells what the text is not.
        if part.node != OFF && part.spot == NOWHERE && !self.named_can_end(of, part.node)? {
            part.node = OFF;
        }
        Ok((part.node != OFF || part.spot != NOWHERE).then_some(part))
    }

    pub(super) fn named_can_end(
        &mut self,
        of: &In<'_>,
        node: TrieNode,
    ) -> Result<bool, ConstrainError> {
        match of {
            In::Value(_, spec) => Ok(spec.trie.alive(node)),
            In::Name(core, shape) => {
                for i in shape.trie.range(node) {
                    let class = self.key_class(shape.trie.key(i));
                    if self.allowed(*core, class)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    pub(super) fn open_can_end(&mut self, of: &In<'_>, part: Part) -> Result<bool, ConstrainError> {
        match of {
            In::Value(id, spec) => match &spec.open {
                Some(open) => self.open_alive(*id, open, part.spot, part.len),
                None => Ok(false),
            },
            In::Name(core, shape) => {
                if shape.name_facts.is_empty() {
                    let class = self.open_class(shape, part.spot, 0)?;
                    return self.allowed(*core, class);
                }
                // A name that is spelled out ends as such, and one that was had does not end again.
                let here = shape.trie.end(part.node).is_none() && !self.is_had(*core, part);
                self.name_can_end(*core, shape, part.spot, part.len, here)
            }
        }
    }

    pub(super) fn close_string(
        &mut self,
        of: &In<'_>,
        part: Part,
    ) -> Result<StringStep, ConstrainError> {
        match of {
            In::Value(_, spec) => self.close_value(spec, part),
            In::Name(core, shape) => self.close_name(*core, shape, part),
        }
    }

    pub(super) fn close_value(
        &mut self,
        spec: &StringSpec,
        part: Part,
    ) -> Result<StringStep, ConstrainError> {
        let mut held = Vec::with_capacity(spec.facts.len());
        let named = spec
            .trie
            .end(part.node)
            .map(|i| spec.trie.strings()[i].clone());
        if let Some(text) = named {
            for &fact in &spec.facts {
                held.push(self.string_fact(fact, &StringFact::Text(&text))?);
            }
        } else if let Some(open) = spec.open.as_ref().filter(|_| part.spot != NOWHERE) {
            if !self.between_characters(open.product, part.spot) {
                return Ok(StringStep::Dead);
            }
            for &fact in &open.facts {
                held.push(
                    self.string_fact(fact, &StringFact::Open(open.product, part.spot, part.len))?,
                );
            }
        }
        if held.first() != Some(&true) {
            return Ok(StringStep::Dead);
        }
        let value = match spec.track {
            true if part.text == ANY_TEXT => Some(Scalar::AnyText),
            true => match String::from_utf8(self.strings.text(part.text)) {
                Ok(text) => Some(Scalar::Text(self.graph.keys.intern(&text))),
                Err(_) => return Ok(StringStep::Dead),
            },
            false => None,
        };
        let verdict = Verdict {
            reports: held[1..].to_vec(),
            value,
        };
        Ok(StringStep::Close(self.frames.verdicts.intern(verdict)))
    }

    pub(super) fn escape_alive(&mut self, of: &In<'_>, part: Part) -> Result<bool, ConstrainError> {
        let free = self.free_escapes(of);
        let range = match part.escape {
            Escape::None => return Ok(true),
            Escape::Begun => {
                for (letter, decoded) in SHORT {
                    if (decoded != b'/' || free)
                        && self.alphabet.contains(letter)
                        && self.follows(of, part, u32::from(decoded), u32::from(decoded))?
                    {
                        return Ok(true);
                    }
                }
                let hex = Part {
                    escape: Escape::Hex(0, 0),
                    ..part
                };
                return self.escape_alive(of, hex);
            }
            Escape::Hex(n, value) => {
                let shift = 4 * (4 - u32::from(n));
                let low = u32::from(value) << shift;
                let high = low + ((1 << shift) - 1);
                if free && low <= 0xdbff && high >= 0xd800 {
                    // Halves of pairs: characters beyond the basic plane.
                    let first = low.max(0xd800) - 0xd800;
                    let last = high.min(0xdbff) - 0xd800;
                    if self.follows(
                        of,
                        part,
                        0x10000 + first * 0x400,
                        0x10000 + last * 0x400 + 0x3ff,
                    )? {
                        return Ok(true);
                    }
                }
                (low, high)
            }
            Escape::Half(high) | Escape::HalfBegun(high) => {
                let first = 0x10000 + (u32::from(high) - 0xd800) * 0x400;
                (first, first + 0x3ff)
            }
            Escape::Pair(high, n, value) => {
                let shift = 4 * (4 - u32::from(n));
                let low = (u32::from(value) << shift).max(0xdc00);
                let top = ((u32::from(value) << shift) + ((1 << shift) - 1)).min(0xdfff);
                if low > top {
                    return Ok(false);
                }
                let first = 0x10000 + (u32::from(high) - 0xd800) * 0x400;
                (first + low - 0xdc00, first + top - 0xdc00)
            }
        };
        let top = if free { range.1 } else { range.1.min(0x1f) };
        if range.0 > top {
            return Ok(false);
        }
        self.follows(of, part, range.0, top)
    }

    /// Whether some character of a range may come next.
    pub(super) fn follows(
        &mut self,
        of: &In<'_>,
        part: Part,
        low: u32,
        high: u32,
    ) -> Result<bool, ConstrainError> {
        let Some((product, saturation)) = of.product() else {
            return self.character_in(
                low,
                high,
                Some((of.trie(), part.node)),
                None,
                &mut |engine, node, _| engine.named_can_end(of, node),
            );
        };
        if part.spot != NOWHERE && !self.between_characters(product, part.spot) {
            return Ok(false);
        }
        let len = (part.len + 1).min(saturation);
        let spot = (part.spot != NOWHERE).then_some((product, part.spot));
        self.character_in(
            low,
            high,
            Some((of.trie(), part.node)),
            spot,
            &mut |engine, node, spot| {
                let next = Part {
                    node,
                    spot,
                    len,
                    text: NO_TEXT,
                    escape: Escape::None,
                };
                Ok(engine.settle(of, next)?.is_some())
            },
        )
    }

    /// A superset of the bytes that may follow inside a string.
    pub(super) fn string_bytes(
        &mut self,
        state: StringAt,
        part: Part,
    ) -> Result<ByteSet, ConstrainError> {
        const HEX: ByteSet = ByteSet::range(b'0', b'9')
            .union(&ByteSet::range(b'a', b'f'))
            .union(&ByteSet::range(b'A', b'F'));
        match part.escape {
            Escape::None => {}
            Escape::Begun => {
                return Ok(SHORT
                    .iter()
                    .map(|(letter, _)| *letter)
                    .chain([b'u'])
                    .collect());
            }
            Escape::Half(_) => return Ok(ByteSet::of(b'\\')),
            Escape::HalfBegun(_) => return Ok(ByteSet::of(b'u')),
            Escape::Hex(..) | Escape::Pair(..) => return Ok(HEX),
        }
        let (trie_bytes, product, needed) = match state {
            StringAt::Value(id) => {
                let spec = &self.strings.all[id as usize];
                (
                    spec.trie.bytes(part.node),
                    spec.open.as_ref().map(|o| o.product),
                    spec.open
                        .as_ref()
                        .is_some_and(|o| matches!(o.life, super::strings::Life::Pattern(_))),
                )
            }
            StringAt::Name(core) => {
                let shape = self.object_shape(self.frames.cores.get(core).roots)?;
                (shape.trie.bytes(part.node), Some(shape.product), false)
            }
        };
        let mut bytes = trie_bytes
            .union(&ByteSet::of(b'"'))
            .union(&ByteSet::of(b'\\'));
        if let Some(product) = product.filter(|_| part.spot != NOWHERE) {
            bytes = bytes.union(&self.product_bytes(product, part.spot, needed)?);
        }
        Ok(bytes)
    }
}

/// Which string a state belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) enum StringAt {
    Value(u32),
    Name(CoreId),
}
