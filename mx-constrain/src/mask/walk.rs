//! Walking a token trie with the machine: which tokens can be read from a state.

use crate::hash::FastMap;
use crate::machine::{Machine, Plain, State, Step, Verdict};
use crate::vocabulary::{NodeId, ROOT, Trie};
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
    let facts = Facts { live: machine.live(state)?, plain: machine.plain(state)? };
    if known.len() >= MAX_FACTS {
        known.clear();
    }
    known.insert(state, facts);
    Ok(facts)
}

/// Buffers of walks, kept between them.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// State and frames below per depth.
    path: Vec<(State, Below)>,
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
    pub(super) fn from_root(&mut self, state: State, below: Below, live: &ByteSet) -> Result<(), ConstrainError> {
        for byte in &live.intersection(self.trie.first_bytes()) {
            let node = self.trie.root_child(byte);
            self.span(node, self.trie.end(node), ROOT, state, below)?;
        }
        Ok(())
    }

    /// The tokens that end at `node` and below it, when the walk stands behind its byte in `state`.
    pub(super) fn from_node(&mut self, node: NodeId, state: State, below: Below) -> Result<(), ConstrainError> {
        let trie = self.trie;
        self.scratch.tokens.extend_from_slice(trie.tokens_at(node));
        let end = trie.end(node);
        if end == node + 1 || self.skip(node, state)? {
            return Ok(());
        }
        self.span(node + 1, end, node, state, below)
    }

    /// The tokens at `node` and below it, when the walk stands before its byte in `state`.
    pub(super) fn into_node(&mut self, node: NodeId, state: State, below: Below) -> Result<(), ConstrainError> {
        if let Some((state, below)) = self.step(node, state, below)? {
            self.from_node(node, state, below)?;
        }
        Ok(())
    }

    /// The nodes from `first` to before `end`, all below `parent`, at which the walk stands in `state`.
    fn span(
        &mut self,
        first: NodeId,
        end: NodeId,
        parent: NodeId,
        state: State,
        below: Below,
    ) -> Result<(), ConstrainError> {
        let trie = self.trie;
        let base = trie.depth(parent);
        self.scratch.path.clear();
        self.scratch.path.push((state, below));
        let mut node = first;
        while node < end {
            let depth = trie.depth(node) - base;
            self.scratch.path.truncate(depth);
            let Some(&(state, below)) = self.scratch.path.last() else { break };
            let Some((state, below)) = self.step(node, state, below)? else {
                node = trie.end(node);
                continue;
            };
            self.scratch.tokens.extend_from_slice(trie.tokens_at(node));
            if self.skip(node, state)? {
                node = trie.end(node);
                continue;
            }
            self.scratch.path.push((state, below));
            node += 1;
        }
        Ok(())
    }

    /// Reads the byte of `node`; `None` when it is refused or closes the frame in which the walk began.
    #[inline]
    fn step(
        &mut self,
        node: NodeId,
        state: State,
        below: Below,
    ) -> Result<Option<(State, Below)>, ConstrainError> {
        match self.machine.step(state, self.trie.byte(node))? {
            Step::Dead => Ok(None),
            // States that share their tokens share the rest of the walk too.
            Step::Stay(next) => Ok(Some((self.machine.mask_state(next)?, below))),
            Step::Push { parent, child } => Ok(Some((child, self.stacks.push_local(parent, below)))),
            Step::Pop(verdict) if below.is_unknown() => {
                self.scratch.crossings.push((node, verdict));
                Ok(None)
            }
            Step::Pop(verdict) => match self.stacks.pop(below) {
                None => Ok(None),
                Some((parent, below)) => Ok(self.machine.resume(parent, verdict)?.map(|state| (state, below))),
            },
        }
    }

    /// Whether everything below `node` is decided at once: refused, or allowed and taken.
    #[inline]
    fn skip(&mut self, node: NodeId, state: State) -> Result<bool, ConstrainError> {
        let Some(below) = self.trie.below(node) else { return Ok(false) };
        let facts = facts(self.facts, self.machine, state)?;
        if below.bytes.intersection(&facts.live).is_empty() {
            return Ok(true);
        }
        let plain = &facts.plain;
        let wide = plain.wide && below.plain;
        let class = if wide { plain.ascii.union(&ByteSet::WIDE) } else { plain.ascii };
        if below.height > plain.chars || !below.bytes.is_subset(&class) {
            return Ok(false);
        }
        let own = self.trie.tokens_at(node).len();
        self.scratch.tokens.extend_from_slice(&self.trie.tokens_from(node)[own..]);
        Ok(true)
    }
}
