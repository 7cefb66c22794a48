//! Strings: which texts a combination of facts about a string allows, character by character.

use std::sync::Arc;

use regex_syntax::utf8::Utf8Sequences;

use super::engine::{Atom, AtomId, Engine};
use super::expr::{Expr, ExprId, FALSE};
use super::node::{KeyId, PatternId};
use super::product::{NOWHERE, ProductId, Products, Spot};
use super::trie::{OFF, Trie, TrieNode};
use crate::ConstrainError;
use crate::hash::FastMap;
use crate::lexical::Chars;

/// A combination of facts about one string.
pub(super) type SpecId = u32;

/// What is asked of a string: its first fact must hold in the end, the others are reported.
#[derive(Debug)]
pub(super) struct StringSpec {
    pub(super) facts: Vec<ExprId>,
    /// Whether the string itself is reported.
    pub(super) track: bool,
    /// The strings that facts name one by one.
    pub(super) trie: Trie,
    /// All other strings, where any of them is allowed.
    pub(super) open: Option<Open>,
}

/// Strings that no fact names.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) product: ProductId,
    /// Facts, with "is one of" gone.
    pub(super) facts: Vec<ExprId>,
    /// Lengths from here on are all the same.
    pub(super) saturation: u32,
    pub(super) life: Life,
}

/// How it is found out whether a text can be completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    /// Always.
    Free,
    /// By the length alone: never too long for the greatest allowed length.
    UpTo(u32),
    /// Whenever this pattern can still match.
    Pattern(PatternId),
    /// By the length alone.
    Lengths,
    /// By search.
    Search,
}

/// All string specifications of a schema.
#[derive(Debug)]
pub(super) struct StringSpecs {
    pub(super) products: Products,
    pub(super) all: Vec<Arc<StringSpec>>,
    ids: FastMap<(Vec<ExprId>, bool), SpecId>,
    pub(super) finite: FastMap<PatternId, Option<Vec<String>>>,
    alive: FastMap<(SpecId, Spot, u32), bool>,
    /// Characters that may follow, by specification and length.
    pub(super) characters: FastMap<(SpecId, u32), FastMap<Spot, Arc<Chars>>>,
    /// Texts, as their last byte and the text before it.
    texts: Vec<(u32, u8)>,
    text_ids: FastMap<(u32, u8), u32>,
}

/// A text without any byte.
pub(super) const NO_TEXT: u32 = 0;
/// A text that is not told from others: see [`Reader::mask_state`](super::reader::Reader::mask_state).
pub(super) const ANY_TEXT: u32 = u32::MAX;

impl StringSpecs {
    pub(super) fn new() -> Self {
        Self {
            products: Products::new(),
            all: Vec::new(),
            ids: FastMap::default(),
            finite: FastMap::default(),
            alive: FastMap::default(),
            characters: FastMap::default(),
            texts: vec![(0, 0)],
            text_ids: FastMap::default(),
        }
    }

    /// The text with one more byte.
    pub(super) fn longer(&mut self, text: u32, byte: u8) -> u32 {
        if text == ANY_TEXT {
            return ANY_TEXT;
        }
        if let Some(&id) = self.text_ids.get(&(text, byte)) {
            return id;
        }
        let id = self.texts.len() as u32;
        self.texts.push((text, byte));
        self.text_ids.insert((text, byte), id);
        id
    }

    /// The bytes of a text.
    pub(super) fn text(&self, mut text: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        while text != NO_TEXT {
            let (before, byte) = self.texts[text as usize];
            bytes.push(byte);
            text = before;
        }
        bytes.reverse();
        bytes
    }

    /// Memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.products.bytes() + self.texts.len() * 32 + self.alive.len() * 32 + self.all.len() * 256
    }
}

/// Whether an expression holds for strings, given what is known about one.
pub(super) enum StringFact<'a> {
    /// This very string.
    Text(&'a str),
    /// A string behind a spot of a product, of a length.
    Open(ProductId, Spot, u32),
}

impl Engine {
    /// Whether a fact holds for a string.
    pub(super) fn string_fact(
        &mut self,
        facts: ExprId,
        about: &StringFact<'_>,
    ) -> Result<bool, ConstrainError> {
        let mut leaves = Vec::new();
        self.facts.leaves(facts, &mut |leaf| leaves.push(leaf));
        leaves.sort_unstable();
        leaves.dedup();
        let mut held = Vec::with_capacity(leaves.len());
        for &leaf in &leaves {
            held.push(self.string_atom(leaf, about)?);
        }
        let value = self.facts.evaluate(facts, &mut |leaf| {
            leaves.binary_search(&leaf).ok().map(|i| held[i])
        });
        Ok(value.unwrap_or(false))
    }

    /// Whether an atom holds for a string.
    pub(super) fn string_atom(
        &mut self,
        atom: AtomId,
        about: &StringFact<'_>,
    ) -> Result<bool, ConstrainError> {
        Ok(match (self.atom(atom), about) {
            (Atom::LengthGe(n), StringFact::Text(text)) => {
                text.chars().count() as u64 >= u64::from(n)
            }
            (Atom::LengthGe(n), StringFact::Open(_, _, len)) => *len >= n,
            (Atom::Pattern(p), StringFact::Text(text)) => self.pattern_holds(p, text)?,
            (Atom::Pattern(p), StringFact::Open(product, spot, _)) => {
                self.pattern_matches(*product, *spot, p)
            }
            (Atom::StringIn(set), StringFact::Text(text)) => self.graph.string_sets[set as usize]
                .binary_search_by(|s| s.as_ref().cmp(text))
                .is_ok(),
            _ => false,
        })
    }

    /// The specification for facts of which the first must hold.
    pub(super) fn string_spec(
        &mut self,
        facts: Vec<ExprId>,
        track: bool,
    ) -> Result<SpecId, ConstrainError> {
        if let Some(&id) = self.strings.ids.get(&(facts.clone(), track)) {
            return Ok(id);
        }
        let mut leaves = Vec::new();
        for &fact in &facts {
            self.facts.leaves(fact, &mut |leaf| leaves.push(leaf));
        }
        leaves.sort_unstable();
        leaves.dedup();
        let mut named: Vec<Box<str>> = Vec::new();
        for &leaf in &leaves {
            if let Atom::StringIn(set) = self.atom(leaf) {
                named.extend(self.graph.string_sets[set as usize].iter().cloned());
            }
        }
        named.sort_unstable();
        named.dedup();
        let mut allowed = Vec::with_capacity(named.len());
        for text in &named {
            allowed
                .push(self.writable(text) && self.string_fact(facts[0], &StringFact::Text(text))?);
        }
        let keys: Vec<KeyId> = named
            .iter()
            .map(|text| self.graph.keys.intern(text))
            .collect();
        let trie = Trie::new(named, keys, |i| allowed[i]);
        let open = self.open_strings(&facts)?;
        let id = self.strings.all.len() as SpecId;
        self.strings.all.push(Arc::new(StringSpec {
            facts: facts.clone(),
            track,
            trie,
            open,
        }));
        self.strings.ids.insert((facts, track), id);
        Ok(id)
    }

    /// Whether the vocabulary can spell a string without escapes of printable characters.
    pub(super) fn writable(&self, text: &str) -> bool {
        text.bytes()
            .all(|b| b < 0x20 || b == b'"' || b == b'\\' || self.alphabet.contains(b))
    }

    fn open_strings(&mut self, facts: &[ExprId]) -> Result<Option<Open>, ConstrainError> {
        let mut open = Vec::with_capacity(facts.len());
        for &fact in facts {
            let sets: Vec<AtomId> = {
                let mut sets = Vec::new();
                self.facts.leaves(fact, &mut |leaf| sets.push(leaf));
                sets.retain(|&leaf| matches!(self.atom(leaf), Atom::StringIn(_)));
                sets
            };
            open.push(
                self.facts
                    .substitute(fact, &mut |_, leaf| sets.contains(&leaf).then_some(FALSE)),
            );
        }
        if open[0] == FALSE {
            return Ok(None);
        }
        let mut leaves = Vec::new();
        for &fact in &open {
            self.facts.leaves(fact, &mut |leaf| leaves.push(leaf));
        }
        let (mut patterns, mut saturation) = (Vec::new(), 0);
        for &leaf in &leaves {
            match self.atom(leaf) {
                Atom::Pattern(p) => patterns.push(p),
                Atom::LengthGe(n) => saturation = saturation.max(n),
                _ => {}
            }
        }
        patterns.sort_unstable();
        patterns.dedup();
        let life = self.life(open[0]);
        let product = self.product(patterns);
        Ok(Some(Open {
            product,
            facts: open,
            saturation,
            life,
        }))
    }

    /// How to find out whether strings can be completed so that a fact holds.
    fn life(&self, fact: ExprId) -> Life {
        let mut patterns = 0;
        let mut lengths = 0;
        self.facts.leaves(fact, &mut |leaf| match self.atom(leaf) {
            Atom::Pattern(_) => patterns += 1,
            _ => lengths += 1,
        });
        match self.facts.get(fact) {
            Expr::Const(_) => return Life::Free,
            Expr::Leaf(leaf, sign) => match (self.atom(*leaf), sign) {
                (Atom::LengthGe(_), true) => return Life::Free,
                (Atom::LengthGe(n), false) => return Life::UpTo(n.saturating_sub(1)),
                (Atom::Pattern(p), true) => return Life::Pattern(p),
                _ => {}
            },
            Expr::And(parts) if patterns == 0 => {
                let (mut min, mut max, mut plain) = (0, u32::MAX, true);
                for &part in parts {
                    match self.facts.get(part) {
                        Expr::Leaf(leaf, sign) => match (self.atom(*leaf), sign) {
                            (Atom::LengthGe(n), true) => min = min.max(n),
                            (Atom::LengthGe(n), false) => max = max.min(n.saturating_sub(1)),
                            _ => plain = false,
                        },
                        _ => plain = false,
                    }
                }
                if plain && min <= max {
                    return if max == u32::MAX {
                        Life::Free
                    } else {
                        Life::UpTo(max)
                    };
                }
            }
            _ => {}
        }
        if patterns == 0 && lengths > 0 {
            Life::Lengths
        } else {
            Life::Search
        }
    }

    /// Whether any string has these facts.
    pub(super) fn string_exists(&mut self, facts: ExprId) -> Result<bool, ConstrainError> {
        let id = self.string_spec(vec![facts], false)?;
        let spec = self.strings.all[id as usize].clone();
        if spec.trie.any() {
            return Ok(true);
        }
        match &spec.open {
            Some(open) => {
                let start = self.product_start(open.product);
                self.open_alive(id, open, start, 0)
            }
            None => Ok(false),
        }
    }

    /// Whether a text that no fact names can be completed.
    pub(super) fn open_alive(
        &mut self,
        id: SpecId,
        open: &Open,
        spot: Spot,
        len: u32,
    ) -> Result<bool, ConstrainError> {
        if spot == NOWHERE {
            return Ok(false);
        }
        match open.life {
            Life::Free => Ok(true),
            Life::UpTo(max) => Ok(len <= max),
            Life::Pattern(pattern) => Ok(self.pattern_alive(open.product, spot, pattern)),
            Life::Lengths => {
                let mut thresholds = vec![len];
                self.facts.leaves(open.facts[0], &mut |leaf| {
                    if let Atom::LengthGe(n) = self.atom(leaf) {
                        thresholds.push(n);
                    }
                });
                for n in thresholds.into_iter().filter(|&n| n >= len) {
                    if self.string_fact(open.facts[0], &StringFact::Open(open.product, spot, n))? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Life::Search => {
                if let Some(&known) = self.strings.alive.get(&(id, spot, len)) {
                    return Ok(known);
                }
                let path =
                    self.search_string(open.product, open.facts[0], open.saturation, spot, len)?;
                match path {
                    Some(path) => {
                        for (spot, len) in path {
                            self.strings.alive.insert((id, spot, len), true);
                        }
                        Ok(true)
                    }
                    None => {
                        self.strings.alive.insert((id, spot, len), false);
                        Ok(false)
                    }
                }
            }
        }
    }

    /// Looks for a completion that makes a fact true; the spots on the way to one.
    fn search_string(
        &mut self,
        product: ProductId,
        fact: ExprId,
        saturation: u32,
        spot: Spot,
        len: u32,
    ) -> Result<Option<Vec<(Spot, u32)>>, ConstrainError> {
        let must = self.needed_patterns(fact);
        let classes = self.product_classes(product);
        let mut from: FastMap<(Spot, u32), (Spot, u32)> = FastMap::default();
        let mut queue = vec![(spot, len)];
        from.insert((spot, len), (NOWHERE, 0));
        let mut at = 0;
        while at < queue.len() {
            let here = queue[at];
            at += 1;
            self.spend(8)?;
            if self.between_characters(product, here.0)
                && self.string_fact(fact, &StringFact::Open(product, here.0, here.1))?
            {
                let mut path = Vec::new();
                let mut back = here;
                while back.0 != NOWHERE {
                    path.push(back);
                    back = from.get(&back).copied().unwrap_or((NOWHERE, 0));
                }
                return Ok(Some(path));
            }
            for &byte in &classes.samples {
                let next = self.product_next(product, here.0, byte)?;
                if next == NOWHERE || must.iter().any(|&p| !self.pattern_alive(product, next, p)) {
                    continue;
                }
                let longer = here.1 + u32::from(byte & 0xc0 != 0x80);
                let next = (next, longer.min(saturation));
                if let std::collections::hash_map::Entry::Vacant(free) = from.entry(next) {
                    free.insert(here);
                    queue.push(next);
                }
            }
        }
        Ok(None)
    }

    /// Patterns without which a fact cannot hold.
    fn needed_patterns(&self, fact: ExprId) -> Vec<PatternId> {
        let leaf_pattern = |part: ExprId| match self.facts.get(part) {
            Expr::Leaf(leaf, true) => match self.atom(*leaf) {
                Atom::Pattern(p) => Some(p),
                _ => None,
            },
            _ => None,
        };
        match self.facts.get(fact) {
            Expr::And(parts) => parts
                .iter()
                .filter_map(|&part| leaf_pattern(part))
                .collect(),
            _ => leaf_pattern(fact).into_iter().collect(),
        }
    }

    /// Whether a text can go on with some character of a range, over a trie and a product.
    pub(super) fn character_in(
        &mut self,
        low: u32,
        high: u32,
        trie: Option<(&Trie, TrieNode)>,
        product: Option<(ProductId, Spot)>,
        alive: &mut dyn FnMut(&mut Self, TrieNode, Spot) -> Result<bool, ConstrainError>,
    ) -> Result<bool, ConstrainError> {
        let (Some(low), Some(high)) = (char_from(low), char_until(high)) else {
            return Ok(false);
        };
        if low > high {
            return Ok(false);
        }
        for sequence in Utf8Sequences::new(low, high) {
            let mut front = vec![(
                trie.map_or(OFF, |(_, node)| node),
                product.map_or(NOWHERE, |(_, spot)| spot),
            )];
            for range in sequence.as_slice() {
                let mut next = Vec::new();
                for &(node, spot) in &front {
                    for byte in range.start..=range.end {
                        self.spend(1)?;
                        let node = trie.map_or(OFF, |(trie, _)| trie.child(node, byte));
                        let spot = match product {
                            Some((product, _)) => self.product_next(product, spot, byte)?,
                            None => NOWHERE,
                        };
                        if (node, spot) != (OFF, NOWHERE) && !next.contains(&(node, spot)) {
                            next.push((node, spot));
                        }
                    }
                }
                front = next;
            }
            for (node, spot) in front {
                if alive(self, node, spot)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn char_from(code: u32) -> Option<char> {
    char::from_u32(code).or((code < 0xe000).then_some('\u{e000}'))
}

fn char_until(code: u32) -> Option<char> {
    char::from_u32(code).or((code >= 0xd800).then_some('\u{d7ff}'))
}
