//! A machine with its stacks and the masks found so far: what all matchers of a constraint share.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::build::BehindHome;
use super::cache::Cache;
use super::stack::{Below, Stacks};
use super::walk::{FactsMap, Scratch, Walk};
use crate::hash::FastMap;
use crate::machine::{Machine, Refusal, State, Step, Verdict};
use crate::vocabulary::NodeId;
use crate::{ByteSet, ConstrainError, Limits, Vocabulary};

/// A place in the text: the state of the top frame and the frames below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    pub(crate) state: State,
    pub(crate) below: Below,
}

/// A mask: the bits of `base`, if any, and the ids in `extras`.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) base: Option<Arc<[u32]>>,
    pub(crate) extras: Box<[u32]>,
    pub(crate) count: usize,
    /// Whether the bits of `base` are held here alone, not by the vocabulary.
    own_base: bool,
}

/// The mask of a state as far as the frames below do not matter.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tokens: Arc<Tokens>,
    /// Where tokens close the frame, with what they tell the one below.
    pub(super) crossings: Box<[(NodeId, Verdict)]>,
    /// Whether `crossings` are nodes of the trie of tokens that are not plain.
    pub(super) in_rest: bool,
}

/// A machine, its stacks and its masks.
pub(crate) struct Engine {
    pub(super) machine: Box<dyn Machine>,
    pub(super) stacks: Stacks,
    pub(super) vocabulary: Vocabulary,
    entries: Cache<State, Arc<Entry>>,
    masks: Cache<Position, Arc<Tokens>>,
    pub(super) homes: Cache<State, Arc<BehindHome>>,
    pub(super) facts: FactsMap,
    pub(super) scratch: Scratch,
    limits: Limits,
}

/// Longest completion that is looked for, in bytes.
const MAX_COMPLETION: usize = 1 << 16;
/// Bytes that closing a frame is worth in the search for a completion.
const BYTES_PER_FRAME: usize = 6;
/// Places looked at for each alternative of the limits when a completion is searched without the machine's help.
const PLACES_PER_ALTERNATIVE: usize = 8;

impl Engine {
    pub(crate) fn new(machine: Box<dyn Machine>, vocabulary: Vocabulary, limits: Limits) -> Self {
        Self {
            stacks: Stacks::new(&limits),
            machine,
            vocabulary,
            entries: Cache::new(limits.mask_cache_bytes / 2),
            masks: Cache::new(limits.mask_cache_bytes / 8 * 3),
            homes: Cache::new(limits.mask_cache_bytes / 8),
            facts: FactsMap::default(),
            scratch: Scratch::default(),
            limits,
        }
    }

    /// The place before any text.
    pub(crate) fn start(&self) -> Position {
        Position {
            state: self.machine.start(),
            below: Below::NOTHING,
        }
    }

    /// Whether so much has been built that new matchers had better begin with an empty machine.
    pub(crate) fn is_worn(&self) -> bool {
        let limits = &self.limits;
        self.machine.states() > limits.max_states / 2
            || self.machine.bytes() > limits.max_table_bytes / 2
            || self.stacks.len() > limits.max_states / 2
    }

    /// The place behind one more byte; `None` when it is refused.
    #[inline]
    pub(crate) fn step(
        &mut self,
        at: Position,
        byte: u8,
    ) -> Result<Option<Position>, ConstrainError> {
        let Position { state, below } = at;
        Ok(match self.machine.step(state, byte)? {
            Step::Dead => None,
            Step::Stay(state) => Some(Position { state, below }),
            Step::Push { parent, child } => Some(Position {
                state: child,
                below: self.stacks.push(parent, below)?,
            }),
            Step::Pop(verdict) => match self.stacks.pop(below) {
                None => None,
                Some((parent, below)) => self
                    .machine
                    .resume(parent, verdict)?
                    .map(|state| Position { state, below }),
            },
        })
    }

    /// The place behind some bytes, or how many of them were read and the place before the one that is refused.
    #[inline]
    pub(crate) fn feed(
        &mut self,
        mut at: Position,
        bytes: &[u8],
    ) -> Result<Result<Position, (usize, Position)>, ConstrainError> {
        for (read, &byte) in bytes.iter().enumerate() {
            match self.step(at, byte)? {
                Some(next) => at = next,
                None => return Ok(Err((read, at))),
            }
        }
        Ok(Ok(at))
    }

    /// Whether the text may end here.
    #[inline]
    pub(crate) fn accepting(&mut self, at: Position) -> Result<bool, ConstrainError> {
        Ok(at.below.is_nothing() && self.machine.accepting(at.state)?)
    }

    /// The bytes that may follow.
    pub(crate) fn live(&mut self, at: Position) -> Result<ByteSet, ConstrainError> {
        let mut live = ByteSet::EMPTY;
        for byte in &self.candidates(at)? {
            if self.step(at, byte)?.is_some() {
                live.insert(byte);
            }
        }
        Ok(live)
    }

    /// The only byte that may follow, if there is just one.
    pub(crate) fn only_byte(
        &mut self,
        at: Position,
    ) -> Result<Option<(u8, Position)>, ConstrainError> {
        let mut only = None;
        for byte in &self.candidates(at)? {
            if let Some(next) = self.step(at, byte)? {
                if only.is_some() {
                    return Ok(None);
                }
                only = Some((byte, next));
            }
        }
        Ok(only)
    }

    fn candidates(&mut self, at: Position) -> Result<ByteSet, ConstrainError> {
        Ok(self
            .machine
            .live(at.state)?
            .intersection(self.vocabulary.alphabet()))
    }

    /// Why `byte` is refused at a place.
    pub(crate) fn explain(&mut self, at: Position, byte: u8) -> Result<Refusal, ConstrainError> {
        Ok(match self.machine.step(at.state, byte)? {
            Step::Pop(_) => match self.stacks.pop(at.below) {
                Some((parent, _)) => self.machine.explain(parent, byte),
                None => self.machine.explain(at.state, byte),
            },
            _ => self.machine.explain(at.state, byte),
        })
    }

    /// A short text with which the text could end.
    pub(crate) fn completion(&mut self, mut at: Position) -> Result<Vec<u8>, ConstrainError> {
        let mut bytes = Vec::new();
        while !self.accepting(at)? {
            Limits::check(
                "max_input_bytes",
                bytes.len(),
                self.limits.max_input_bytes.min(MAX_COMPLETION),
            )?;
            let byte = self.machine.toward_end(at.state)?;
            let next = match byte {
                Some(byte) => self.step(at, byte)?.map(|next| (byte, next)),
                None => None,
            };
            match next {
                Some((byte, next)) => {
                    bytes.push(byte);
                    at = next;
                }
                None => {
                    bytes.extend(self.search_completion(at)?);
                    return Ok(bytes);
                }
            }
        }
        Ok(bytes)
    }

    /// A short completion: shorter ones first, closing a frame counting for some bytes. States that may be taken for
    /// each other are looked at once.
    fn search_completion(&mut self, from: Position) -> Result<Vec<u8>, ConstrainError> {
        let max = self
            .limits
            .max_alternatives
            .saturating_mul(PLACES_PER_ALTERNATIVE);
        let mut seen: FastMap<Position, (Position, u8)> = FastMap::default();
        let mut places = vec![(from, 0)];
        let mut queue = BinaryHeap::from([Reverse((0, 0))]);
        while let Some(Reverse((_, at))) = queue.pop() {
            let (here, length) = places[at];
            if self.accepting(here)? {
                let mut bytes = Vec::new();
                let mut back = here;
                while let Some(&(before, byte)) = seen.get(&back).filter(|_| back != from) {
                    bytes.push(byte);
                    back = before;
                }
                bytes.reverse();
                return Ok(bytes);
            }
            for byte in &self.candidates(here)? {
                let Some(next) = self.step(here, byte)? else {
                    continue;
                };
                let next = self.shared(next)?;
                if next == from || seen.contains_key(&next) {
                    continue;
                }
                if seen.len() >= max {
                    let max = self.limits.max_alternatives as u64;
                    return Err(ConstrainError::Limit {
                        limit: "max_alternatives",
                        max,
                    });
                }
                seen.insert(next, (here, byte));
                let cost = length + 1 + BYTES_PER_FRAME * self.stacks.depth(next.below);
                queue.push(Reverse((cost, places.len())));
                places.push((next, length + 1));
            }
        }
        Err(ConstrainError::Unsatisfiable {
            place: String::new(),
            reason: "the text so far cannot be completed".to_owned(),
        })
    }

    /// The place whose tokens may be taken for those of `at`.
    #[inline]
    fn shared(&mut self, at: Position) -> Result<Position, ConstrainError> {
        let state = self.machine.mask_state(at.state)?;
        Ok(Position { state, ..at })
    }

    /// The tokens that may follow at a place.
    #[inline]
    pub(crate) fn mask(&mut self, at: Position) -> Result<Arc<Tokens>, ConstrainError> {
        let at = self.shared(at)?;
        match self.masks.get(at) {
            Some(tokens) => Ok(tokens),
            None => self.resolve(at),
        }
    }

    /// The mask of a state as far as the frames below do not matter.
    pub(super) fn entry(&mut self, state: State) -> Result<Arc<Entry>, ConstrainError> {
        if let Some(entry) = self.entries.get(state) {
            return Ok(entry);
        }
        let entry = Arc::new(self.build(state)?);
        let bytes = entry.tokens.memory() + entry.crossings.len() * 8;
        self.entries.insert(state, Arc::clone(&entry), bytes);
        Ok(entry)
    }

    /// Completes the mask of the top state with what depends on the frames below and on the end of the text.
    fn resolve(&mut self, at: Position) -> Result<Arc<Tokens>, ConstrainError> {
        let entry = self.entry(at.state)?;
        let ends = self.accepting(at)?;
        if !ends && (entry.crossings.is_empty() || at.below.is_nothing()) {
            self.masks.insert(at, Arc::clone(&entry.tokens), 0);
            return Ok(Arc::clone(&entry.tokens));
        }
        self.scratch.clear();
        if !at.below.is_nothing() {
            self.cross(at.below, &entry)?;
        }
        if ends {
            self.scratch.tokens.extend_from_slice(self.vocabulary.eos());
        }
        let tokens = match self.scratch.tokens.is_empty() {
            true => Arc::clone(&entry.tokens),
            false => {
                let mut extras = std::mem::take(&mut self.scratch.tokens);
                extras.extend_from_slice(&entry.tokens.extras);
                let base = entry.tokens.base.clone();
                let base_count = entry.tokens.count - entry.tokens.extras.len();
                let tokens = Tokens::new(base, base_count, &extras, self.vocabulary.mask_words());
                self.scratch.tokens = extras;
                Arc::new(tokens)
            }
        };
        self.masks.insert(at, Arc::clone(&tokens), tokens.memory());
        Ok(tokens)
    }

    /// Follows the tokens that close the top frame into the frames below.
    fn cross(&mut self, below: Below, entry: &Entry) -> Result<(), ConstrainError> {
        let Some((parent, below)) = self.stacks.pop(below) else {
            return Ok(());
        };
        let mut last: Option<(Verdict, Option<State>)> = None;
        for &(node, verdict) in &entry.crossings {
            let resumed = match last {
                Some((known, resumed)) if known == verdict => resumed,
                _ => self.machine.resume(parent, verdict)?,
            };
            last = Some((verdict, resumed));
            let Some(state) = resumed else { continue };
            let trie = if entry.in_rest {
                self.vocabulary.slices().rest()
            } else {
                self.vocabulary.trie()
            };
            let mut walk = Walk {
                machine: &mut *self.machine,
                stacks: &mut self.stacks,
                facts: &mut self.facts,
                trie,
                scratch: &mut self.scratch,
            };
            walk.behind(node, state, below)?;
        }
        self.stacks.clear_local();
        Ok(())
    }
}

impl Tokens {
    pub(super) fn new(
        base: Option<Arc<[u32]>>,
        base_count: usize,
        extras: &[u32],
        words: usize,
    ) -> Self {
        let count = base_count + extras.len();
        if extras.len() <= words {
            return Self {
                base,
                extras: extras.into(),
                count,
                own_base: false,
            };
        }
        // As bits they take less room, and no time to hand out.
        let mut bits: Vec<u32> = match &base {
            Some(base) => base.to_vec(),
            None => vec![0; words],
        };
        for &token in extras {
            bits[token as usize / 32] |= 1 << (token % 32);
        }
        Self {
            base: Some(bits.into()),
            extras: [].into(),
            count,
            own_base: true,
        }
    }

    /// Bytes held, without slices that belong to the vocabulary.
    fn memory(&self) -> usize {
        let bits = self
            .base
            .as_ref()
            .filter(|_| self.own_base)
            .map_or(0, |bits| bits.len() * 4);
        size_of::<Self>() + self.extras.len() * 4 + bits
    }
}
