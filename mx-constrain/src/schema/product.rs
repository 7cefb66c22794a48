//! Several patterns read side by side, over well-formed UTF-8.

use std::sync::Arc;

use super::engine::{Engine, Interner};
use super::node::PatternId;
use crate::hash::FastMap;
use crate::lexical::{Groups, utf8};
use crate::{ByteSet, ConstrainError, Limits};

/// A list of patterns.
pub(super) type ProductId = u32;
/// Where a text stands in a product: a number within it.
pub(super) type Spot = u32;

/// The spot of texts that are not well-formed.
pub(super) const NOWHERE: Spot = 0;
/// A table entry that was not looked up yet.
const UNKNOWN: Spot = u32::MAX;

/// All products of one schema.
#[derive(Debug)]
pub(super) struct Products {
    ids: Interner<Vec<PatternId>>,
    all: Vec<Product>,
}

#[derive(Debug)]
struct Product {
    patterns: Vec<PatternId>,
    spots: Interner<(utf8::Utf8State, Vec<u32>)>,
    rows: FastMap<Spot, Box<[Spot; 256]>>,
    start: Spot,
    classes: Option<Arc<ProductClasses>>,
}

/// Bytes that no pattern of a product tells apart.
#[derive(Debug)]
pub(super) struct ProductClasses {
    /// One byte of each class.
    pub(super) samples: Vec<u8>,
    /// The bytes that may come at each place in a character.
    pub(super) groups: Arc<Groups>,
}

impl Products {
    pub(super) fn new() -> Self {
        Self {
            ids: Interner::new(),
            all: Vec::new(),
        }
    }

    /// Memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.all
            .iter()
            .map(|p| p.spots.len() * 64 + p.rows.len() * 1_100)
            .sum()
    }
}

impl Engine {
    /// The product of some patterns (sorted).
    pub(super) fn product(&mut self, patterns: Vec<PatternId>) -> ProductId {
        let known = self.strings.products.all.len();
        let id = self.strings.products.ids.intern(patterns.clone());
        if id as usize == known {
            let mut spots = Interner::new();
            // Not well-formed: no spot of a text that can go on.
            spots.intern((utf8::Utf8State::MAX, Vec::new()));
            let starts = patterns
                .iter()
                .map(|&p| self.graph.patterns[p as usize].dfa.start())
                .collect();
            let start = spots.intern((utf8::START, starts));
            self.strings.products.all.push(Product {
                patterns,
                spots,
                rows: FastMap::default(),
                start,
                classes: None,
            });
        }
        id
    }

    /// The bytes that a product tells apart.
    pub(super) fn product_classes(&mut self, product: ProductId) -> Arc<ProductClasses> {
        let held = &mut self.strings.products.all[product as usize];
        if let Some(classes) = &held.classes {
            return Arc::clone(classes);
        }
        let mut known: Interner<Vec<u8>> = Interner::new();
        let starts = utf8::class_starts();
        let mut samples = Vec::new();
        let mut of = [0; 256];
        let mut form = 0;
        for byte in 0..=u8::MAX {
            form += u8::from(starts.contains(byte));
            // Which group of bytes that UTF-8 tells apart, and the class of each pattern.
            let mut key = vec![form];
            key.extend(
                held.patterns
                    .iter()
                    .map(|&pattern| self.graph.patterns[pattern as usize].dfa.class_of(byte)),
            );
            let class = known.intern(key);
            if class as usize == samples.len() {
                samples.push(byte);
            }
            of[usize::from(byte)] = class;
        }
        let groups = Groups::new(&ByteSet::ALL, |byte| of[usize::from(byte)]);
        let classes = Arc::new(ProductClasses {
            samples,
            groups: Arc::new(groups),
        });
        held.classes = Some(Arc::clone(&classes));
        classes
    }

    /// Where every text begins.
    pub(super) fn product_start(&self, product: ProductId) -> Spot {
        self.strings.products.all[product as usize].start
    }

    /// Where a text stands behind one more byte.
    pub(super) fn product_next(
        &mut self,
        product: ProductId,
        spot: Spot,
        byte: u8,
    ) -> Result<Spot, ConstrainError> {
        if spot == NOWHERE {
            return Ok(NOWHERE);
        }
        let held = &mut self.strings.products.all[product as usize];
        let row = held
            .rows
            .entry(spot)
            .or_insert_with(|| Box::new([UNKNOWN; 256]));
        let known = row[usize::from(byte)];
        if known != UNKNOWN {
            return Ok(known);
        }
        let (form, parts) = held.spots.get(spot).clone();
        let next = match utf8::step(form, byte) {
            None => NOWHERE,
            Some(form) => {
                let mut next = Vec::with_capacity(parts.len());
                for (&pattern, &state) in held.patterns.iter().zip(&parts) {
                    let dfa = &mut self.graph.patterns[pattern as usize].dfa;
                    next.push(if state == 0 {
                        0
                    } else {
                        dfa.next(state, byte)?
                    });
                }
                Limits::check(
                    "max_dfa_states",
                    held.spots.len(),
                    self.limits.max_dfa_states,
                )?;
                held.spots.intern((form, next))
            }
        };
        if let Some(row) = held.rows.get_mut(&spot) {
            row[usize::from(byte)] = next;
        }
        Ok(next)
    }

    /// A superset of the bytes with which a text can go on.
    pub(super) fn product_bytes(
        &mut self,
        product: ProductId,
        spot: Spot,
        needed: bool,
    ) -> Result<ByteSet, ConstrainError> {
        let held = &self.strings.products.all[product as usize];
        let (form, parts) = held.spots.get(spot);
        let mut bytes = if *form == utf8::START {
            ByteSet::range(0x20, 0x7f).union(&ByteSet::WIDE)
        } else {
            ByteSet::WIDE
        };
        if let (true, [pattern], &[state]) = (needed, held.patterns.as_slice(), parts.as_slice()) {
            let (pattern, state) = (*pattern, state);
            if state != 0 {
                bytes = bytes.intersection(&self.graph.patterns[pattern as usize].dfa.live(state)?);
            }
        }
        Ok(bytes)
    }

    /// Whether the text stands between two characters.
    pub(super) fn between_characters(&self, product: ProductId, spot: Spot) -> bool {
        self.strings.products.all[product as usize]
            .spots
            .get(spot)
            .0
            == utf8::START
    }

    /// Whether the product tells no strings apart.
    pub(super) fn product_is_free(&self, product: ProductId) -> bool {
        self.strings.products.all[product as usize]
            .patterns
            .is_empty()
    }

    /// Whether a pattern of the product can still match, or has.
    pub(super) fn pattern_alive(&self, product: ProductId, spot: Spot, pattern: PatternId) -> bool {
        self.pattern_state(product, spot, pattern) != 0
    }

    /// Whether a pattern of the product matches the text so far.
    pub(super) fn pattern_matches(
        &self,
        product: ProductId,
        spot: Spot,
        pattern: PatternId,
    ) -> bool {
        let state = self.pattern_state(product, spot, pattern);
        state != 0 && self.graph.patterns[pattern as usize].dfa.accepting(state)
    }

    pub(super) fn pattern_state(&self, product: ProductId, spot: Spot, pattern: PatternId) -> u32 {
        let held = &self.strings.products.all[product as usize];
        let at = held.patterns.iter().position(|&p| p == pattern);
        at.and_then(|at| held.spots.get(spot).1.get(at))
            .copied()
            .unwrap_or(0)
    }

    /// Whether a whole string matches a pattern.
    pub(super) fn pattern_holds(
        &mut self,
        pattern: PatternId,
        text: &str,
    ) -> Result<bool, ConstrainError> {
        let dfa = &mut self.graph.patterns[pattern as usize].dfa;
        let mut state = dfa.start();
        for &byte in text.as_bytes() {
            if state == 0 {
                return Ok(false);
            }
            state = dfa.next(state, byte)?;
        }
        Ok(state != 0 && dfa.accepting(state))
    }

    /// The strings of a pattern where they are few; `None` where they are many.
    pub(super) fn finite_pattern(
        &mut self,
        pattern: PatternId,
    ) -> Result<Option<Vec<String>>, ConstrainError> {
        const MOST: usize = 64;
        const LONGEST: usize = 64;
        if let Some(known) = self.strings.finite.get(&pattern) {
            return Ok(known.clone());
        }
        let mut found = Some(Vec::new());
        let start = self.graph.patterns[pattern as usize].dfa.start();
        let mut path = vec![(start, Vec::new())];
        let mut steps = 0;
        while let Some((state, text)) = path.pop() {
            steps += 1;
            let Some(list) = &mut found else { break };
            let dfa = &mut self.graph.patterns[pattern as usize].dfa;
            if state == 0 {
                continue;
            }
            if dfa.accepting(state) {
                match String::from_utf8(text.clone()) {
                    Ok(text) => list.push(text),
                    Err(_) => found = None,
                }
            }
            let live = dfa.live(state)?;
            let many = found.as_ref().is_none_or(|list| list.len() > MOST);
            if many
                || text.len() > LONGEST
                || live.len() > MOST
                || steps > 8 * MOST
                || path.len() > 2 * MOST
            {
                found = None;
                break;
            }
            for byte in live.iter() {
                let next = self.graph.patterns[pattern as usize]
                    .dfa
                    .next(state, byte)?;
                let mut longer = text.clone();
                longer.push(byte);
                path.push((next, longer));
            }
        }
        self.strings.finite.insert(pattern, found.clone());
        Ok(found)
    }
}
