//! Deterministic automata over UTF-8 bytes whose states and rows appear when text visits them.

use std::sync::Arc;

use super::classes::Claims;
use super::nfa::{ByteClasses, Nfa};
use super::node::Node;
use super::subset::{Subset, Subsets};
use super::utf8::{self, Utf8State};
use super::{RegexMode, RegexSyntax, ecma};
use crate::hash::FastMap;
use crate::{ByteSet, ConstrainError, Limits};

/// The state from which nothing can be completed.
pub(crate) const DEAD: u32 = 0;
/// An entry of a row that has not been computed.
const UNKNOWN: u32 = u32::MAX;
/// Marks an entry whose state may still prove dead.
const UNPROVEN: u32 = 1 << 31;

/// A set of texts (valid UTF-8) as a deterministic automaton.
///
/// State [`DEAD`] is 0; every other state can be completed to a member with bytes of the alphabet.
#[derive(Debug, Clone)]
pub(crate) struct Dfa {
    core: Core,
    alphabet: ByteSet,
    classes: Arc<ByteClasses>,
    start: u32,
    /// Rows of the states, one entry a byte class: the state reached, perhaps [`UNPROVEN`], or [`UNKNOWN`].
    rows: Vec<u32>,
    facts: Vec<Facts>,
    claims: Claims,
    limits: DfaLimits,
}

#[derive(Debug, Clone, Copy)]
struct DfaLimits {
    max_states: usize,
    max_bytes: usize,
}

#[derive(Debug, Clone)]
enum Core {
    /// A pattern: states are sets of NFA states.
    Pattern {
        subsets: Box<Subsets>,
        states: Vec<Arc<Subset>>,
        ids: FastMap<Arc<Subset>, u32>,
    },
    /// Texts in all parts: states are tuples. `Not` parts are complements.
    And {
        parts: Vec<Part>,
        states: Vec<Arc<[u32]>>,
        ids: FastMap<Arc<[u32]>, u32>,
    },
}

#[derive(Debug, Clone)]
struct Part {
    dfa: Dfa,
    negative: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    accepting: bool,
    /// Whether a member can still be completed: `None` until it was searched for.
    alive: Option<bool>,
    /// The next byte of a shortest completion, once it was searched for.
    exit: Option<u8>,
}

impl Dfa {
    /// The texts that a pattern matches.
    ///
    /// # Errors
    /// [`ConstrainError::Pattern`] for what cannot be read or is not regular; [`ConstrainError::Limit`].
    pub(crate) fn from_regex(
        pattern: &str,
        syntax: RegexSyntax,
        mode: RegexMode,
        limits: &Limits,
    ) -> Result<Self, ConstrainError> {
        Limits::check("max_input_bytes", pattern.len(), limits.max_input_bytes)?;
        let node = match syntax {
            RegexSyntax::Ecma262 => ecma::parse(pattern, limits.max_nesting)?,
            RegexSyntax::Rust => Node::from_rust(pattern, limits.max_nesting)?,
        };
        Self::from_node(&node, mode, limits)
    }

    /// The texts that are members of every part.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub(crate) fn and(parts: Vec<Self>, limits: &Limits) -> Result<Self, ConstrainError> {
        Self::product(
            parts
                .into_iter()
                .map(|dfa| Part {
                    dfa,
                    negative: false,
                })
                .collect(),
            limits,
        )
    }

    /// The texts (valid UTF-8) that are no members.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub(crate) fn not(self, limits: &Limits) -> Result<Self, ConstrainError> {
        Self::product(
            vec![Part {
                dfa: self,
                negative: true,
            }],
            limits,
        )
    }

    fn from_node(node: &Node, mode: RegexMode, limits: &Limits) -> Result<Self, ConstrainError> {
        let nfa = Nfa::new(node, mode == RegexMode::Search, limits)?;
        Self::from_nfa(nfa, ByteSet::ALL, limits)
    }

    fn from_nfa(nfa: Nfa, alphabet: ByteSet, limits: &Limits) -> Result<Self, ConstrainError> {
        let classes = Arc::new(ByteClasses::new(&nfa, &alphabet));
        let subsets = Box::new(Subsets::new(nfa, &alphabet, limits));
        let core = Core::Pattern {
            subsets,
            states: Vec::new(),
            ids: FastMap::default(),
        };
        Self::begin(core, alphabet, classes, limits)
    }

    fn product(parts: Vec<Part>, limits: &Limits) -> Result<Self, ConstrainError> {
        let alphabet = parts.iter().fold(ByteSet::ALL, |all, part| {
            all.intersection(&part.dfa.alphabet)
        });
        let of: Vec<&ByteClasses> = parts.iter().map(|part| &*part.dfa.classes).collect();
        let classes = Arc::new(ByteClasses::refine(&of, &utf8::class_starts(), &alphabet));
        let core = Core::And {
            parts,
            states: Vec::new(),
            ids: FastMap::default(),
        };
        Self::begin(core, alphabet, classes, limits)
    }

    fn begin(
        core: Core,
        alphabet: ByteSet,
        classes: Arc<ByteClasses>,
        limits: &Limits,
    ) -> Result<Self, ConstrainError> {
        let limits = DfaLimits {
            max_states: limits.max_dfa_states,
            max_bytes: limits.max_table_bytes,
        };
        let mut dfa = Self {
            core,
            alphabet,
            rows: Vec::new(),
            facts: Vec::new(),
            classes,
            start: DEAD,
            claims: Claims::default(),
            limits,
        };
        dfa.push_dead();
        dfa.start = dfa.intern_start()?;
        if !dfa.is_alive(dfa.start)? {
            dfa.start = DEAD;
        }
        Ok(dfa)
    }

    /// The same texts as far as they can be written in `alphabet`. States already handed out lose their meaning.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub(crate) fn restrict(
        self,
        alphabet: &ByteSet,
        limits: &Limits,
    ) -> Result<Self, ConstrainError> {
        let alphabet = self.alphabet.intersection(alphabet);
        match self.core {
            _ if alphabet == self.alphabet => Ok(self),
            Core::Pattern { subsets, .. } => {
                Self::from_nfa(subsets.nfa().clone(), alphabet, limits)
            }
            Core::And { parts, .. } => {
                let restricted = parts.into_iter().map(|part| {
                    // What a complement excludes stays as it was: the alphabet cuts the product.
                    let dfa = if part.negative {
                        part.dfa
                    } else {
                        part.dfa.restrict(&alphabet, limits)?
                    };
                    Ok(Part {
                        dfa,
                        negative: part.negative,
                    })
                });
                let parts: Vec<Part> = restricted.collect::<Result<_, ConstrainError>>()?;
                let of: Vec<&ByteClasses> = parts.iter().map(|part| &*part.dfa.classes).collect();
                let classes = Arc::new(ByteClasses::refine(&of, &utf8::class_starts(), &alphabet));
                let core = Core::And {
                    parts,
                    states: Vec::new(),
                    ids: FastMap::default(),
                };
                Self::begin(core, alphabet, classes, limits)
            }
        }
    }

    /// The state before any byte; [`DEAD`] when there is no member.
    pub(crate) fn start(&self) -> u32 {
        self.start
    }

    /// The state behind one more byte; [`DEAD`] when no member begins so.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    #[inline]
    pub(crate) fn next(&mut self, state: u32, byte: u8) -> Result<u32, ConstrainError> {
        let class = usize::from(self.classes.of[usize::from(byte)]);
        self.next_class(state, class)
    }

    /// Whether the text so far is a member.
    #[inline]
    pub(crate) fn accepting(&self, state: u32) -> bool {
        self.facts
            .get(state as usize)
            .is_some_and(|facts| facts.accepting)
    }

    /// The bytes with which a member can go on.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub(crate) fn live(&mut self, state: u32) -> Result<ByteSet, ConstrainError> {
        let mut alive = [0u64; 4];
        for class in 0..self.classes.len() {
            if self.next_class(state, class)? != DEAD {
                alive[class / 64] |= 1 << (class % 64);
            }
        }
        let of = &self.classes.of;
        Ok((0..=u8::MAX)
            .filter(|&byte| {
                let class = usize::from(of[usize::from(byte)]);
                alive[class / 64] >> (class % 64) & 1 == 1
            })
            .collect())
    }

    /// The next byte of a shortest completion; `None` when the text is already a member (or the state is dead).
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    pub(crate) fn toward_end(&mut self, state: u32) -> Result<Option<u8>, ConstrainError> {
        if state == DEAD || self.accepting(state) {
            return Ok(None);
        }
        if let Some(exit) = self.facts[state as usize].exit {
            return Ok(Some(exit));
        }
        // Breadth first, so that the path found is a shortest one; it is noted for every state on it.
        let mut from: FastMap<u32, (u32, u8)> = FastMap::default();
        let mut queue = vec![state];
        let mut at = 0;
        while at < queue.len() {
            let here = queue[at];
            at += 1;
            for class in 0..self.classes.len() {
                let target = self.next_class(here, class)?;
                if target == DEAD || target == state || from.contains_key(&target) {
                    continue;
                }
                from.insert(target, (here, self.classes.samples[class]));
                queue.push(target);
                if self.accepting(target) {
                    let mut back = target;
                    while let Some(&(previous, byte)) = from.get(&back) {
                        self.facts[previous as usize].exit = Some(byte);
                        back = previous;
                    }
                    return Ok(self.facts[state as usize].exit);
                }
            }
        }
        Ok(None)
    }

    /// Number of states so far.
    pub(crate) fn states(&self) -> usize {
        self.facts.len()
    }

    /// Memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let own = self.rows.len() * 4 + self.facts.len() * (size_of::<Facts>() + STATE_OVERHEAD);
        own + match &self.core {
            Core::Pattern { subsets, .. } => subsets.bytes(),
            Core::And { parts, .. } => parts.iter().map(|part| part.dfa.bytes()).sum(),
        }
    }

    /// The class of a byte: bytes of one class are never told apart.
    pub(crate) fn class_of(&self, byte: u8) -> u8 {
        self.classes.of[usize::from(byte)]
    }

    pub(super) fn classes(&self) -> Arc<ByteClasses> {
        Arc::clone(&self.classes)
    }

    pub(super) fn alphabet(&self) -> &ByteSet {
        &self.alphabet
    }

    pub(super) fn claims(&mut self) -> &mut Claims {
        &mut self.claims
    }

    /// The state behind any byte of a class.
    #[inline]
    pub(super) fn next_class(&mut self, state: u32, class: usize) -> Result<u32, ConstrainError> {
        let at = state as usize * self.classes.len() + class;
        match self.rows.get(at) {
            Some(&target) if target < UNPROVEN => Ok(target),
            _ => self.compute(state, class),
        }
    }

    #[cold]
    fn compute(&mut self, state: u32, class: usize) -> Result<u32, ConstrainError> {
        if state as usize >= self.facts.len() {
            return Ok(DEAD);
        }
        let target = self.raw(state, class)?;
        let target = match self.is_alive(target)? {
            true => target,
            false => DEAD,
        };
        self.rows[state as usize * self.classes.len() + class] = target;
        Ok(target)
    }

    /// The state behind a class, which may prove dead.
    fn raw(&mut self, state: u32, class: usize) -> Result<u32, ConstrainError> {
        let at = state as usize * self.classes.len() + class;
        if self.rows[at] != UNKNOWN {
            return Ok(self.rows[at] & !UNPROVEN);
        }
        let byte = self.classes.samples[class];
        let target = match &mut self.core {
            _ if !self.alphabet.contains(byte) => DEAD,
            Core::Pattern {
                subsets, states, ..
            } => {
                let from = Arc::clone(&states[state as usize]);
                let next = subsets.step(&from, byte)?;
                self.intern_subset(next)?
            }
            Core::And { parts, states, .. } => {
                let from = Arc::clone(&states[state as usize]);
                let mut next = Vec::with_capacity(from.len());
                let mut dead = false;
                for (part, &at) in parts.iter_mut().zip(from.iter()) {
                    let target = part.dfa.next(at, byte)?;
                    dead |= target == DEAD && !part.negative;
                    next.push(target);
                }
                let text = utf8::step(from.last().copied().unwrap_or_default() as Utf8State, byte);
                match text {
                    Some(text) if !dead => {
                        next.push(u32::from(text));
                        self.intern_tuple(next)?
                    }
                    _ => DEAD,
                }
            }
        };
        self.rows[at] = target | UNPROVEN;
        Ok(target)
    }

    fn push_dead(&mut self) {
        match &mut self.core {
            Core::Pattern { states, .. } => states.push(Arc::new(Subset::dead())),
            Core::And { states, .. } => states.push(Arc::new([])),
        }
        self.facts.push(Facts {
            alive: Some(false),
            ..Facts::default()
        });
        self.rows.resize(self.classes.len(), DEAD);
    }

    fn intern_start(&mut self) -> Result<u32, ConstrainError> {
        match &mut self.core {
            Core::Pattern { subsets, .. } => {
                let start = subsets.start()?;
                self.intern_subset(start)
            }
            Core::And { parts, .. } => {
                if parts
                    .iter()
                    .any(|part| !part.negative && part.dfa.start == DEAD)
                {
                    return Ok(DEAD);
                }
                let mut start: Vec<u32> = parts.iter().map(|part| part.dfa.start).collect();
                start.push(u32::from(utf8::START));
                self.intern_tuple(start)
            }
        }
    }

    fn intern_subset(&mut self, subset: Subset) -> Result<u32, ConstrainError> {
        let Core::Pattern {
            subsets,
            states,
            ids,
        } = &mut self.core
        else {
            return Ok(DEAD);
        };
        if subset.is_empty() {
            return Ok(DEAD);
        }
        if let Some(&id) = ids.get(&subset) {
            return Ok(id);
        }
        let accepting = subsets.accepts(&subset)?;
        let alive = (accepting || subsets.is_simple()).then_some(true);
        let subset = Arc::new(subset);
        states.push(Arc::clone(&subset));
        let id = (states.len() - 1) as u32;
        ids.insert(subset, id);
        self.push_facts(Facts {
            accepting,
            alive,
            ..Facts::default()
        })?;
        Ok(id)
    }

    fn intern_tuple(&mut self, tuple: Vec<u32>) -> Result<u32, ConstrainError> {
        let Core::And { parts, states, ids } = &mut self.core else {
            return Ok(DEAD);
        };
        if let Some(&id) = ids.get(tuple.as_slice()) {
            return Ok(id);
        }
        let at_boundary = tuple.last() == Some(&u32::from(utf8::START));
        let accepting = at_boundary
            && parts
                .iter()
                .zip(&tuple)
                .all(|(part, &at)| part.dfa.accepting(at) != part.negative);
        let tuple: Arc<[u32]> = tuple.into();
        states.push(Arc::clone(&tuple));
        let id = (states.len() - 1) as u32;
        ids.insert(tuple, id);
        self.push_facts(Facts {
            accepting,
            alive: accepting.then_some(true),
            ..Facts::default()
        })?;
        Ok(id)
    }

    fn push_facts(&mut self, facts: Facts) -> Result<(), ConstrainError> {
        Limits::check("max_dfa_states", self.facts.len(), self.limits.max_states)?;
        self.facts.push(facts);
        self.rows
            .resize(self.facts.len() * self.classes.len(), UNKNOWN);
        Limits::check(
            "max_table_bytes",
            self.rows.len() * 4,
            self.limits.max_bytes,
        )
    }

    /// Whether a member can be completed from `state`, searching breadth first where it is not known.
    fn is_alive(&mut self, state: u32) -> Result<bool, ConstrainError> {
        if let Some(alive) = self.facts[state as usize].alive {
            return Ok(alive);
        }
        let mut from: FastMap<u32, u32> = FastMap::default();
        let mut queue = vec![state];
        from.insert(state, state);
        let mut at = 0;
        while at < queue.len() {
            let here = queue[at];
            at += 1;
            for class in 0..self.classes.len() {
                let target = self.raw(here, class)?;
                match self.facts[target as usize].alive {
                    Some(false) => {}
                    Some(true) => {
                        let mut back = here;
                        while self.facts[back as usize].alive.is_none() {
                            self.facts[back as usize].alive = Some(true);
                            back = from.get(&back).copied().unwrap_or(state);
                        }
                        return Ok(true);
                    }
                    None => {
                        if from.insert(target, here).is_none() {
                            queue.push(target);
                        }
                    }
                }
            }
        }
        for state in queue {
            self.facts[state as usize].alive = Some(false);
        }
        Ok(false)
    }
}

/// Memory that a state takes besides its row and facts, roughly: its key, twice a pointer to it, a table entry.
const STATE_OVERHEAD: usize = 128;
