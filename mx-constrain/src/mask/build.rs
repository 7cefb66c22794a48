//! Finding the mask of a state: slices of the vocabulary where a class of characters is claimed, walks where not.

use std::sync::Arc;

use super::engine::{Engine, Entry, Tokens};
use super::stack::Below;
use super::walk::{Walk, facts};
use crate::machine::{Home, Plain, SPELLED_END, State, Step, Verdict};
use crate::vocabulary::{BLANKS, Bits, MAX_CHARS, NodeId, ROOT, Trie};
use crate::{ByteSet, ConstrainError};

/// Most tokens beyond the length that a class is known to hold for that are tried one by one.
const MAX_SINGLE_TRIALS: usize = 1024;
/// Fewest tokens of a class for which its slice is worth making.
const MIN_CLASS_TOKENS: usize = 24;
/// Most ways out of a class that are followed one by one; beyond that a walk from the root costs less.
const MAX_EXITS: usize = 8192;

/// What follows plain characters that lead to one state, whatever they are.
#[derive(Debug)]
pub(super) struct BehindHome {
    tokens: Box<[u32]>,
    crossings: Box<[(NodeId, Verdict)]>,
    /// By the first byte of the plain characters: where its tokens and its crossings end.
    groups: Box<[(u8, u32, u32)]>,
}

impl BehindHome {
    /// The tokens and crossings by the first bytes of the plain characters.
    fn by_first(&self) -> impl Iterator<Item = (u8, &[u32], &[(NodeId, Verdict)])> {
        let mut from = (0, 0);
        self.groups.iter().map(move |&(first, tokens, crossings)| {
            let to = (tokens as usize, crossings as usize);
            let here = (
                first,
                &self.tokens[from.0..to.0],
                &self.crossings[from.1..to.1],
            );
            from = to;
            here
        })
    }

    fn memory(&self) -> usize {
        self.tokens.len() * 4 + self.crossings.len() * 8 + self.groups.len() * 12
    }
}

impl Engine {
    /// Finds the mask of a state, as far as the frames below do not matter.
    pub(super) fn build(&mut self, state: State) -> Result<Entry, ConstrainError> {
        let known = facts(&mut self.facts, &mut *self.machine, state)?;
        if let Some((other, bytes)) = self.machine.alike(state)? {
            return self.build_like(state, &known.live, other, &bytes);
        }
        if self.spell(state)? {
            return Ok(self.walked());
        }
        let vocabulary = self.vocabulary.clone();
        let words = vocabulary.mask_words();
        self.scratch.clear();
        let plain = known.plain;
        let mut base = None;
        let mut in_rest = false;
        if plain.chars > 0 && plain.class == Plain::ALL {
            base = self.take_class(state, &plain)?;
            match plain.home {
                _ if base.is_none() => {}
                Some(home) if plain.chars == u32::MAX => {
                    self.leave_home(state, &known.live, home)?
                }
                _ => {
                    in_rest = true;
                    self.walk(vocabulary.slices().rest()).all(
                        state,
                        Below::UNKNOWN,
                        &known.live,
                    )?;
                }
            }
        } else if plain.chars > 0 && plain.class.len() > 1 {
            let exits = plain.exits.difference(&plain.class);
            let ways: usize = exits
                .iter()
                .map(|byte| vocabulary.slices().nodes(byte).len())
                .sum();
            if ways <= MAX_EXITS {
                base = self.take_class(state, &plain)?;
                if base.is_some() {
                    self.leave_class(state, &plain, &exits)?;
                }
            }
        }
        if base.is_none() && self.loops_on_blanks(state, &known.live)? {
            self.scratch.clear();
            self.leave_blanks(state, &known.live)?;
        } else if base.is_none() {
            self.scratch.clear();
            self.walk(vocabulary.trie())
                .all(state, Below::UNKNOWN, &known.live)?;
        }
        self.stacks.clear_local();
        let (bits, count) = match base {
            Some(bits) => (Some(bits.words), bits.count),
            None => (None, 0),
        };
        let tokens = Arc::new(Tokens::new(bits, count, &self.scratch.tokens, words));
        Ok(Entry {
            tokens,
            crossings: self.scratch.crossings.as_slice().into(),
            in_rest,
        })
    }

    /// What walks alone have found.
    fn walked(&self) -> Entry {
        let words = self.vocabulary.mask_words();
        Entry {
            tokens: Arc::new(Tokens::new(None, 0, &self.scratch.tokens, words)),
            crossings: self.scratch.crossings.as_slice().into(),
            in_rest: false,
        }
    }

    /// Looks up the tokens of a state behind which only texts that are spelled out may follow; `false` for others.
    fn spell(&mut self, state: State) -> Result<bool, ConstrainError> {
        self.scratch.clear();
        let vocabulary = self.vocabulary.clone();
        let trie = vocabulary.trie();
        let tokens = &mut self.scratch.tokens;
        // The text before, and the nodes that lead along it as far as tokens reach.
        let mut last: Vec<u8> = Vec::new();
        let mut path = vec![ROOT];
        let mut ends: Vec<(NodeId, Box<[u8]>)> = Vec::new();
        let spelled = self.machine.spelled(state, &mut |text| {
            let shared = text.iter().zip(&last).take_while(|(a, b)| a == b).count();
            path.truncate(shared + 1);
            last.clear();
            last.extend_from_slice(text);
            if path.len() <= shared {
                return;
            }
            for &byte in &text[shared..] {
                let at = path.last().copied().unwrap_or(ROOT);
                let Some(node) = trie.child(at, byte) else {
                    return;
                };
                tokens.extend_from_slice(trie.tokens_at(node));
                path.push(node);
            }
            let at = path.last().copied().unwrap_or(ROOT);
            if let Some(end) = trie.child(at, SPELLED_END) {
                ends.push((end, text.into()));
            }
        })?;
        if !spelled {
            return Ok(false);
        }
        for (node, text) in ends {
            if let Some(at) = self.follow(state, &text)? {
                self.walk(trie).at(node, at, Below::UNKNOWN)?;
            }
        }
        self.stacks.clear_local();
        Ok(true)
    }

    /// The mask of a state that does the same as another one with some bytes.
    fn build_like(
        &mut self,
        state: State,
        live: &ByteSet,
        other: State,
        bytes: &ByteSet,
    ) -> Result<Entry, ConstrainError> {
        let vocabulary = self.vocabulary.clone();
        let other = self.machine.mask_state(other)?;
        let entry = match facts(&mut self.facts, &mut *self.machine, other)? {
            known if known.live.is_subset(bytes) => Some(self.entry(other)?),
            _ => None,
        };
        let entry = entry.filter(|entry| !entry.in_rest);
        self.scratch.clear();
        let own = match &entry {
            Some(_) => live.difference(bytes),
            None => *live,
        };
        self.walk(vocabulary.trie())
            .all(state, Below::UNKNOWN, &own)?;
        self.stacks.clear_local();
        let (mut base, mut count) = (None, 0);
        if let Some(entry) = entry {
            base.clone_from(&entry.tokens.base);
            count = entry.tokens.count - entry.tokens.extras.len();
            self.scratch.tokens.extend_from_slice(&entry.tokens.extras);
            self.scratch.crossings.extend_from_slice(&entry.crossings);
        }
        let words = vocabulary.mask_words();
        Ok(Entry {
            tokens: Arc::new(Tokens::new(base, count, &self.scratch.tokens, words)),
            crossings: self.scratch.crossings.as_slice().into(),
            in_rest: false,
        })
    }

    pub(super) fn walk<'a>(&'a mut self, trie: &'a Trie) -> Walk<'a> {
        Walk {
            machine: &mut *self.machine,
            stacks: &mut self.stacks,
            facts: &mut self.facts,
            trie,
            scratch: &mut self.scratch,
        }
    }

    /// The tokens of a class, after trying those that are too long for the class to say; `None` when the tokens are too
    /// few or those to try too many for this to be worth it.
    fn take_class(&mut self, state: State, plain: &Plain) -> Result<Option<Bits>, ConstrainError> {
        let vocabulary = self.vocabulary.clone();
        let slices = vocabulary.slices();
        let class = |chars: u32| slices.class(&plain.class, chars);
        if plain.chars >= slices.longest() {
            return Ok(Some(class(u32::MAX)).filter(|bits| bits.count >= MIN_CLASS_TOKENS));
        }
        let chars = plain.chars.min(MAX_CHARS);
        let bits = class(chars);
        if bits.count < MIN_CLASS_TOKENS {
            return Ok(None);
        }
        if plain.most == chars {
            return Ok(Some(bits));
        }
        let all = class(plain.most);
        if all.count - bits.count > MAX_SINGLE_TRIALS {
            return Ok(None);
        }
        for (at, (all, short)) in all.words.iter().zip(&*bits.words).enumerate() {
            let mut longer = all & !short;
            while longer != 0 {
                let token = at as u32 * 32 + longer.trailing_zeros();
                longer &= longer - 1;
                if self.follow(state, vocabulary.raw_bytes(token))?.is_some() {
                    self.scratch.tokens.push(token);
                }
            }
        }
        Ok(Some(bits))
    }

    /// Tries every token that begins with characters of a class and leaves it by one of `exits`.
    fn leave_class(
        &mut self,
        state: State,
        plain: &Plain,
        exits: &ByteSet,
    ) -> Result<(), ConstrainError> {
        let vocabulary = self.vocabulary.clone();
        let trie = vocabulary.trie();
        let class = plain.class;
        let slices = vocabulary.slices();
        // Where the class is limited, `exits` says nothing of what stands behind very long strings.
        let unsaid = if plain.chars == u32::MAX {
            &[]
        } else {
            slices.far_nodes()
        };
        let unsaid = unsaid.iter().filter(|&&node| {
            let byte = trie.byte(node);
            !exits.contains(byte) && !class.contains(byte)
        });
        for &node in exits
            .iter()
            .flat_map(|byte| slices.nodes(byte))
            .chain(unsaid)
        {
            let Some(token) = trie.any_token(node) else {
                continue;
            };
            let path = &vocabulary.raw_bytes(token)[..trie.depth(node) - 1];
            if path.iter().all(|&byte| class.contains(byte))
                && let Some(state) = self.follow(state, path)?
            {
                self.walk(trie).at(node, state, Below::UNKNOWN)?;
            }
        }
        Ok(())
    }

    /// Takes the tokens that begin with plain characters, whose end is known, and go on with another one.
    fn leave_home(
        &mut self,
        state: State,
        live: &ByteSet,
        home: Home,
    ) -> Result<(), ConstrainError> {
        let vocabulary = self.vocabulary.clone();
        let (trie, slices) = (vocabulary.trie(), vocabulary.slices());
        let home_live = self.machine.live(home.state)?;
        let behind = self.behind_home(home.state, &home_live)?;
        for (first, tokens, crossings) in behind.by_first() {
            if !home.turns.contains(first) {
                self.scratch.tokens.extend_from_slice(tokens);
                self.scratch.crossings.extend_from_slice(crossings);
            }
        }
        let exits = live.union(&home_live).difference(&Plain::ALL);
        for byte in &exits.intersection(trie.first_bytes()) {
            self.walk(trie)
                .at(trie.root_child(byte), state, Below::UNKNOWN)?;
        }
        for &node in home.turns.iter().flat_map(|first| slices.leaving(first)) {
            let Some(token) = trie
                .any_token(node)
                .filter(|_| exits.contains(trie.byte(node)))
            else {
                continue;
            };
            let path = &vocabulary.raw_bytes(token)[..trie.depth(node) - 1];
            if let Some(at) = self.follow(state, path)? {
                self.walk(trie).at(node, at, Below::UNKNOWN)?;
            }
        }
        Ok(())
    }

    /// What can be read behind plain characters from the state that they all lead to.
    fn behind_home(
        &mut self,
        home: State,
        live: &ByteSet,
    ) -> Result<Arc<BehindHome>, ConstrainError> {
        if let Some(known) = self.homes.get(home) {
            return Ok(known);
        }
        let vocabulary = self.vocabulary.clone();
        let (trie, slices) = (vocabulary.trie(), vocabulary.slices());
        let mut groups = Vec::new();
        for first in trie.first_bytes() {
            for &node in slices.leaving(first) {
                if live.contains(trie.byte(node)) {
                    self.walk(trie).at(node, home, Below::UNKNOWN)?;
                }
            }
            let ends = (self.scratch.tokens.len(), self.scratch.crossings.len());
            groups.push((first, ends.0 as u32, ends.1 as u32));
        }
        let behind = Arc::new(BehindHome {
            tokens: self.scratch.tokens.as_slice().into(),
            crossings: self.scratch.crossings.as_slice().into(),
            groups: groups.into(),
        });
        self.scratch.clear();
        self.stacks.clear_local();
        self.homes
            .insert(home, Arc::clone(&behind), behind.memory());
        Ok(behind)
    }

    /// Whether blanks lead back to the state, as between the parts of a JSON text.
    fn loops_on_blanks(&mut self, state: State, live: &ByteSet) -> Result<bool, ConstrainError> {
        if !BLANKS.is_subset(live) {
            return Ok(false);
        }
        for byte in &BLANKS {
            if self.machine.step(state, byte)? != Step::Stay(state) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All tokens of blanks, and those that go on with something else behind some.
    fn leave_blanks(&mut self, state: State, live: &ByteSet) -> Result<(), ConstrainError> {
        let vocabulary = self.vocabulary.clone();
        let (tokens, nodes) = vocabulary.slices().blank();
        self.scratch.tokens.extend_from_slice(tokens);
        for byte in &live.difference(&BLANKS) {
            for &node in nodes.of(byte) {
                self.walk(vocabulary.trie())
                    .at(node, state, Below::UNKNOWN)?;
            }
        }
        Ok(())
    }

    /// The state behind bytes that stay in the frame.
    fn follow(&mut self, mut state: State, path: &[u8]) -> Result<Option<State>, ConstrainError> {
        for &byte in path {
            match self.machine.step(state, byte)? {
                Step::Stay(next) => state = next,
                _ => return Ok(None),
            }
        }
        Ok(Some(state))
    }
}
