//! Walking a token trie with the machine: which tokens can be read from a state.

use crate::hash::FastMap;
use crate::machine::{Machine, Plain, State, Step, Verdict};
use crate::vocabulary::{NodeId, Trie};
use crate::{ByteSet, ConstrainError};

use super::stack::{Below, Stacks};

/// What is known of a state beyond its steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) live: ByteSet,
    pub(super) plain: Plain,
}

/// Facts of states, asked for once.
pub(super) type FactsMap = FastMap<State, Facts>;

/// Facts that are kept before all are forgotten: they are cheap to ask for again.
const MAX_FACTS: usize = 1 << 14;

/// The facts of a state.
pub(super) fn facts(
    known: &mut FactsMap,
    machine: &mut dyn Machine,
    state: State,
) -> Result<Facts, ConstrainError> {
    if let Some(facts) = known.get(&state) {
        return Ok(*facts);
    }
    let facts = Facts {
        live: machine.live(state)?,
        plain: machine.plain(state)?,
    };
    if known.len() >= MAX_FACTS {
        known.clear();
    }
    known.insert(state, facts);
    Ok(facts)
}

/// Where a walk stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    state: State,
    below: Below,
    /// Where plain characters lead without being read, or [`NO_HOME`].
    home: State,
    /// Index of the first bytes that are read all the same: 0 for none.
    turns: u32,
}

/// Stands for no home.
const NO_HOME: State = State::MAX;

/// Children of a node that are still to be tried.
#[derive(Debug, Clone, Copy)]
enum Children {
    /// All from this node to before that one.
    From(NodeId, NodeId),
    /// Those of the parent's children that these bytes lead to.
    Live(ByteSet, NodeId),
}

impl Children {
    #[inline]
    fn next(&mut self, trie: &Trie) -> Option<NodeId> {
        match self {
            Self::From(next, end) => {
                let node = *next;
                (node < *end).then(|| {
                    *next = trie.end(node);
                    node
                })
            }
            Self::Live(bytes, parent) => {
                let byte = bytes.iter().next()?;
                bytes.remove(byte);
                trie.below(*parent)
                    .map(|below| trie.child_below(below, byte))
            }
        }
    }
}

/// Buffers of walks, kept between them.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Places by depth, with the children still to try.
    path: Vec<(Place, Children)>,
    /// Bytes that are read although there is a home, by index less one.
    turns: Vec<ByteSet>,
    /// Tokens found.
    pub(super) tokens: Vec<u32>,
    /// Nodes whose byte closes the frame that the walk began in, where the frames below are not known.
    pub(super) crossings: Vec<(NodeId, Verdict)>,
}

/// A walk over (parts of) one trie.
pub(super) struct Walk<'a> {
    pub(super) machine: &'a mut dyn Machine,
    pub(super) stacks: &'a mut Stacks,
    pub(super) facts: &'a mut FactsMap,
    pub(super) trie: &'a Trie,
    pub(super) scratch: &'a mut Scratch,
}

impl Walk<'_> {
    /// All tokens from `state`; `live` are the bytes that it does not refuse.
    pub(super) fn all(
        &mut self,
        state: State,
        below: Below,
        live: &ByteSet,
    ) -> Result<(), ConstrainError> {
        for byte in &live.intersection(self.trie.first_bytes()) {
            self.at(self.trie.root_child(byte), state, below)?;
        }
        Ok(())
    }

    /// The tokens that end at `node` and below it, when the walk stands behind its byte in `state`.
    pub(super) fn behind(
        &mut self,
        node: NodeId,
        state: State,
        below: Below,
    ) -> Result<(), ConstrainError> {
        self.below(node, Place::new(state, below))
    }

    /// The tokens at `node` and below it, when the walk stands before its byte in `state`.
    pub(super) fn at(
        &mut self,
        node: NodeId,
        state: State,
        below: Below,
    ) -> Result<(), ConstrainError> {
        match self.step(node, Place::new(state, below))? {
            Some(place) => self.below(node, place),
            None => Ok(()),
        }
    }

    /// The tokens at and below `node`, behind whose byte the walk stands.
    fn below(&mut self, node: NodeId, at: Place) -> Result<(), ConstrainError> {
        let Some(first) = self.arrive(node, at)? else {
            return Ok(());
        };
        let trie = self.trie;
        let mut path = std::mem::take(&mut self.scratch.path);
        path.clear();
        path.push(first);
        while let Some((place, children)) = path.last_mut() {
            let place = *place;
            let Some(node) = children.next(trie) else {
                path.pop();
                continue;
            };
            if let Some(next) = self.step(node, place)?
                && let Some(next) = self.arrive(node, next)?
            {
                path.push(next);
            }
        }
        self.scratch.path = path;
        Ok(())
    }

    /// Takes the tokens at `node`, behind whose byte the walk stands. `None` when nothing below it is left to try.
    #[inline]
    fn arrive(
        &mut self,
        node: NodeId,
        mut place: Place,
    ) -> Result<Option<(Place, Children)>, ConstrainError> {
        let trie = self.trie;
        self.scratch.tokens.extend_from_slice(trie.tokens_at(node));
        let end = trie.end(node);
        if end == node + 1 {
            return Ok(None);
        }
        let Some(below) = trie.below(node) else {
            return Ok(Some((place, Children::From(node + 1, end))));
        };
        let Facts { live, plain } = facts(self.facts, self.machine, place.state)?;
        let children = below.children.intersection(&live);
        if children.is_empty() {
            return Ok(None);
        }
        // Where a token is not plain, its bytes beyond ASCII may be no characters.
        let class = match below.plain {
            true => plain.class,
            false => plain.class.intersection(&Plain::ASCII),
        };
        if below.height <= plain.chars && below.bytes.is_subset(&class) {
            // Everything below is allowed.
            let own = trie.tokens_at(node).len();
            self.scratch
                .tokens
                .extend_from_slice(&trie.tokens_from(node)[own..]);
            return Ok(None);
        }
        if let (Some(home), u32::MAX) = (plain.home, plain.chars) {
            place.home = home.state;
            place.turns = self.scratch.turns.len() as u32 + 1;
            self.scratch.turns.push(home.turns);
        }
        Ok(Some((place, Children::Live(children, node))))
    }

    /// Reads the byte of `node`; `None` when it is refused or closes the frame in which the walk began.
    #[inline]
    fn step(&mut self, node: NodeId, at: Place) -> Result<Option<Place>, ConstrainError> {
        let byte = self.trie.byte(node);
        if at.home != NO_HOME && Plain::ASCII.contains(byte) {
            let turns = (at.turns as usize)
                .checked_sub(1)
                .and_then(|at| self.scratch.turns.get(at));
            if turns.is_none_or(|turns| !turns.contains(byte)) {
                return Ok(Some(Place {
                    state: at.home,
                    below: at.below,
                    home: at.home,
                    turns: 0,
                }));
            }
        }
        let (state, below) = match self.machine.step(at.state, byte)? {
            Step::Dead => return Ok(None),
            // States that share their tokens share the rest of the walk too.
            Step::Stay(next) => (self.machine.mask_state(next)?, at.below),
            Step::Push { parent, child } => (child, self.stacks.push_local(parent, at.below)),
            Step::Pop(verdict) if at.below.is_unknown() => {
                self.scratch.crossings.push((node, verdict));
                return Ok(None);
            }
            Step::Pop(verdict) => {
                let Some((parent, below)) = self.stacks.pop(at.below) else {
                    return Ok(None);
                };
                match self.machine.resume(parent, verdict)? {
                    Some(state) => (state, below),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Place::new(state, below)))
    }
}

impl Scratch {
    /// Forgets what was found.
    pub(super) fn clear(&mut self) {
        self.tokens.clear();
        self.crossings.clear();
        self.turns.clear();
    }
}

impl Place {
    fn new(state: State, below: Below) -> Self {
        Self {
            state,
            below,
            home: NO_HOME,
            turns: 0,
        }
    }
}
