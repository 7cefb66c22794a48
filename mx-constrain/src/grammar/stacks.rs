//! Sets of return stacks as shared, hash-consed graphs: equal sets are equal numbers.
//!
//! A stack is the list of states to return to, the innermost first; it ends at the bottom of its frame. A set of
//! stacks is kept as the smallest deterministic graph that reads them from the inside out, so that union, equality and
//! common ends need no list of stacks. Every operation walks with its own stack: depth costs memory, not recursion.

use crate::{ConstrainError, Limits, hash::FastMap};

use super::automaton::{Automaton, Debt};

/// A set of stacks.
pub(super) type Stacks = u32;

/// What the bottom of a frame takes: which debts the frames below can go on with, and how many bytes more than for the
/// best of them they then need. 0 is the bottom of the text, which takes every debt.
pub(super) type Floor = u32;

/// The floor under the text.
pub(super) const GROUND: Floor = 0;

#[derive(Debug)]
struct Node {
    /// State to return to, and the stacks below it. Sorted.
    edges: Box<[(u32, Stacks)]>,
    /// The floor plus one, when one of the stacks is empty.
    floor: u32,
    /// The longest list of returns in which all stacks end, as the set of just that stack.
    common: Stacks,
    /// When this is a set of one stack: its length. Else the length of the longest.
    depth: u32,
    /// When this is a set of one stack: whether some return on it must read before its rule can end.
    blocks: bool,
    /// Debts with which all can be brought to the floor, with the fewest bytes.
    ends: Box<[(Debt, u32)]>,
}

/// Edges and floor of a node.
type Key = (Box<[(u32, Stacks)]>, u32);

/// All sets so far.
#[derive(Debug, Default)]
pub(super) struct StackTable {
    nodes: Vec<Node>,
    ids: FastMap<Key, Stacks>,
    floors: Vec<Box<[(Debt, u32)]>>,
    floor_ids: FastMap<Box<[(Debt, u32)]>, Floor>,
    unions: FastMap<(Stacks, Stacks), Stacks>,
    bytes: usize,
}

impl StackTable {
    pub(super) fn new(automaton: &Automaton) -> Self {
        let all: Box<[(Debt, u32)]> = (0..automaton.debts as Debt).map(|debt| (debt, 0)).collect();
        // The ground is not in the map: a frame that takes every debt is still not the bottom of the text.
        Self {
            floors: vec![all],
            ..Self::default()
        }
    }

    /// Bytes that the tables take, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The floor that takes the debts with which `stacks` can go on.
    pub(super) fn floor_on(&mut self, stacks: Stacks) -> Floor {
        let ends = &self.nodes[stacks as usize].ends;
        let best = ends.iter().map(|end| end.1).min().unwrap_or(0);
        let debts: Box<[(Debt, u32)]> = ends
            .iter()
            .map(|&(debt, bytes)| (debt, bytes - best))
            .collect();
        if let Some(&floor) = self.floor_ids.get(&debts) {
            return floor;
        }
        let floor = self.floors.len() as Floor;
        self.bytes += debts.len() * 16 + 64;
        self.floors.push(debts.clone());
        self.floor_ids.insert(debts, floor);
        floor
    }

    /// Whether the frames below a floor can go on with a debt.
    pub(super) fn takes(&self, floor: Floor, debt: Debt) -> bool {
        self.floors[floor as usize]
            .binary_search_by_key(&debt, |end| end.0)
            .is_ok()
    }

    /// The set of the empty stack.
    pub(super) fn empty(&mut self, automaton: &Automaton, floor: Floor) -> Stacks {
        self.node(automaton, Vec::new(), floor + 1)
    }

    /// All stacks of `below` with one more return.
    pub(super) fn push(&mut self, automaton: &Automaton, state: u32, below: Stacks) -> Stacks {
        let mut under = below;
        if automaton.is_star(state)
            && let Ok(index) = self
                .edges(below)
                .binary_search_by_key(&state, |edge| edge.0)
        {
            // Stacks that return here already take no second return: this keeps loops through several rules flat.
            let mut others = self.edges(below).to_vec();
            let (_, again) = others.remove(index);
            let floor = self.nodes[below as usize].floor;
            under = again;
            if !others.is_empty() || floor != 0 {
                let others = self.node(automaton, others, floor);
                under = self.union(automaton, others, again);
            }
        }
        self.node(automaton, vec![(state, under)], 0)
    }

    /// What is returned to first, and the stacks below it.
    pub(super) fn edges(&self, stacks: Stacks) -> &[(u32, Stacks)] {
        &self.nodes[stacks as usize].edges
    }

    /// The floor, when one of the stacks is empty.
    pub(super) fn floor(&self, stacks: Stacks) -> Option<Floor> {
        self.nodes[stacks as usize].floor.checked_sub(1)
    }

    /// Whether a single stack ends at the bottom of the text.
    pub(super) fn is_grounded(&self, single: Stacks) -> bool {
        let mut at = single;
        while let Some(&(_, below)) = self.edges(at).first() {
            at = below;
        }
        self.floor(at) == Some(GROUND)
    }

    /// Debts with which everything on the stacks can be ended, with the fewest bytes.
    pub(super) fn ends(&self, stacks: Stacks) -> &[(Debt, u32)] {
        &self.nodes[stacks as usize].ends
    }

    /// The longest list of returns in which every stack of both sets ends.
    pub(super) fn common(&self, a: Stacks, b: Stacks) -> Stacks {
        self.common_of_single(self.nodes[a as usize].common, self.nodes[b as usize].common)
    }

    /// The list of returns in which every stack of the set ends.
    pub(super) fn common_end(&self, stacks: Stacks) -> Stacks {
        self.nodes[stacks as usize].common
    }

    /// Whether a single stack has a return that must read before its rule can end.
    pub(super) fn blocks(&self, single: Stacks) -> bool {
        self.nodes[single as usize].blocks
    }

    /// The stacks of both sets.
    pub(super) fn union(&mut self, automaton: &Automaton, a: Stacks, b: Stacks) -> Stacks {
        let mut work = vec![ordered(a, b)];
        while let Some(&(a, b)) = work.last() {
            if a == b || self.unions.contains_key(&(a, b)) {
                work.pop();
                continue;
            }
            let mut missing = false;
            let (mut left, mut right) = (
                self.edges(a).iter().peekable(),
                self.edges(b).iter().peekable(),
            );
            let mut edges = Vec::with_capacity(left.len() + right.len());
            let mut wanted = Vec::new();
            loop {
                let edge = match (left.peek(), right.peek()) {
                    (None, None) => break,
                    (Some(l), None) => (l.0, l.1, true, false),
                    (None, Some(r)) => (r.0, r.1, false, true),
                    (Some(l), Some(r)) if l.0 < r.0 => (l.0, l.1, true, false),
                    (Some(l), Some(r)) if l.0 > r.0 => (r.0, r.1, false, true),
                    (Some(l), Some(r)) => {
                        let pair = ordered(l.1, r.1);
                        let below = match pair.0 == pair.1 {
                            true => Some(pair.0),
                            false => self.unions.get(&pair).copied(),
                        };
                        if below.is_none() {
                            missing = true;
                            wanted.push(pair);
                        }
                        (l.0, below.unwrap_or(0), true, true)
                    }
                };
                edges.push((edge.0, edge.1));
                if edge.2 {
                    left.next();
                }
                if edge.3 {
                    right.next();
                }
            }
            if missing {
                work.extend(wanted);
                continue;
            }
            let floor = self.nodes[a as usize]
                .floor
                .max(self.nodes[b as usize].floor);
            let union = self.node(automaton, edges, floor);
            self.bytes += 32;
            self.unions.insert((a, b), union);
            work.pop();
        }
        let key = ordered(a, b);
        if key.0 == key.1 { a } else { self.unions[&key] }
    }

    /// The stacks that end in the single stack `end`, without it, over another floor.
    pub(super) fn without_end(
        &mut self,
        automaton: &Automaton,
        stacks: &[Stacks],
        end: Stacks,
        floor: Floor,
    ) -> Vec<Stacks> {
        let cut = self.list(end);
        self.rebuild(automaton, stacks, |table, node| {
            let is_end = node == end || table.contains(node, &cut);
            (is_end.then_some(floor + 1), None)
        })
    }

    /// The stacks with the single stack `end` below them instead of their floor.
    pub(super) fn with_end(
        &mut self,
        automaton: &Automaton,
        stacks: &[Stacks],
        end: Stacks,
    ) -> Vec<Stacks> {
        self.rebuild(automaton, stacks, |table, node| {
            (None, table.floor(node).map(|_| end))
        })
    }

    /// Bounds what is kept.
    pub(super) fn check(&self, limits: &Limits, others: usize) -> Result<(), ConstrainError> {
        Limits::check(
            "max_table_bytes",
            self.bytes + others,
            limits.max_table_bytes,
        )
    }

    /// Rebuilds sets from the bottom up. `change` says which floor a node gets (plus one) and with which set it is
    /// united; a node that keeps neither edge nor floor vanishes, and with it the edges to it.
    fn rebuild(
        &mut self,
        automaton: &Automaton,
        stacks: &[Stacks],
        change: impl Fn(&Self, Stacks) -> (Option<u32>, Option<Stacks>),
    ) -> Vec<Stacks> {
        // Below a node there are only older nodes, so ascending order is bottom-up.
        let mut reachable: Vec<Stacks> = stacks.to_vec();
        let mut new: FastMap<Stacks, Option<Stacks>> =
            stacks.iter().map(|&node| (node, None)).collect();
        let mut at = 0;
        while at < reachable.len() {
            for &(_, below) in self.edges(reachable[at]) {
                if new.insert(below, None).is_none() {
                    reachable.push(below);
                }
            }
            at += 1;
        }
        reachable.sort_unstable();
        reachable.dedup();
        for node in reachable {
            let (floor, with) = change(self, node);
            let edges: Vec<_> = self
                .edges(node)
                .iter()
                .filter_map(|&(state, below)| {
                    new.get(&below)
                        .copied()
                        .flatten()
                        .map(|below| (state, below))
                })
                .collect();
            let mut made = None;
            if !edges.is_empty() || floor.is_some() {
                made = Some(self.node(automaton, edges, floor.unwrap_or(0)));
            }
            if let Some(with) = with {
                made = Some(made.map_or(with, |made| self.union(automaton, made, with)));
            }
            new.insert(node, made);
        }
        stacks
            .iter()
            .filter_map(|node| new.get(node).copied().flatten())
            .collect()
    }

    /// The returns of a single stack.
    fn list(&self, single: Stacks) -> Vec<u32> {
        let mut list = Vec::new();
        let mut at = single;
        while let Some(&(state, below)) = self.edges(at).first() {
            list.push(state);
            at = below;
        }
        list
    }

    /// Whether the stack with these returns is in the set.
    fn contains(&self, stacks: Stacks, list: &[u32]) -> bool {
        let mut at = stacks;
        if (self.nodes[at as usize].depth as usize) < list.len() {
            return false;
        }
        for &state in list {
            let edges = self.edges(at);
            match edges.binary_search_by_key(&state, |edge| edge.0) {
                Ok(index) => at = edges[index].1,
                Err(_) => return false,
            }
        }
        self.nodes[at as usize].floor != 0
    }

    fn common_of_single(&self, mut a: Stacks, mut b: Stacks) -> Stacks {
        let below = |node: Stacks| self.edges(node).first().map_or(node, |edge| edge.1);
        while a != b {
            let (deep_a, deep_b) = (self.nodes[a as usize].depth, self.nodes[b as usize].depth);
            if deep_a >= deep_b {
                a = below(a);
            }
            if deep_b >= deep_a {
                b = below(b);
            }
        }
        a
    }

    fn node(&mut self, automaton: &Automaton, edges: Vec<(u32, Stacks)>, floor: u32) -> Stacks {
        let key = (edges.into_boxed_slice(), floor);
        if let Some(&id) = self.ids.get(&key) {
            return id;
        }
        let id = self.nodes.len() as Stacks;
        let edges = key.0.clone();
        let is_single = match edges.as_ref() {
            [] => true,
            [only] => floor == 0 && self.nodes[only.1 as usize].common == only.1,
            _ => false,
        };
        let common = match (floor, edges.as_ref()) {
            _ if is_single => id,
            (0, [first, rest @ ..]) => rest
                .iter()
                .fold(self.nodes[first.1 as usize].common, |common, edge| {
                    self.common_of_single(common, self.nodes[edge.1 as usize].common)
                }),
            _ => self.node(automaton, Vec::new(), floor),
        };
        // Making the empty stack first may have taken the number.
        let id = if is_single {
            id
        } else {
            self.nodes.len() as Stacks
        };
        let depth = edges
            .iter()
            .map(|edge| self.nodes[edge.1 as usize].depth + 1)
            .max()
            .unwrap_or(0);
        let blocks = edges
            .iter()
            .any(|&(state, below)| !automaton.may_end(state) || self.nodes[below as usize].blocks);
        let ends = self.cheapest(automaton, &edges, floor);
        self.bytes += 160 + edges.len() * 32 + ends.len() * 8;
        self.nodes.push(Node {
            edges,
            floor,
            common,
            depth,
            blocks,
            ends,
        });
        self.ids.insert(key, id);
        id
    }

    fn cheapest(
        &self,
        automaton: &Automaton,
        edges: &[(u32, Stacks)],
        floor: u32,
    ) -> Box<[(Debt, u32)]> {
        let mut ends: Vec<(Debt, u32)> = match floor.checked_sub(1) {
            Some(floor) => self.floors[floor as usize].to_vec(),
            None => Vec::new(),
        };
        for &(state, below) in edges {
            for &debt in automaton.debts_at(state) {
                let Some(id) = automaton.resume(state, debt) else {
                    continue;
                };
                let end = cheapest_end(&automaton.states[id as usize].ends, self.ends(below));
                if let Some(bytes) = end {
                    ends.push((debt, bytes));
                }
            }
        }
        ends.sort_unstable();
        ends.dedup_by_key(|end| end.0);
        ends.into_boxed_slice()
    }
}

/// The fewest bytes to end a rule and then what lies below it; `None` when no debt of the one suits the other.
pub(super) fn cheapest_end(rule: &[(Debt, u32)], below: &[(Debt, u32)]) -> Option<u32> {
    rule.iter()
        .filter_map(|&(debt, bytes)| {
            let at = below.binary_search_by_key(&debt, |end| end.0).ok()?;
            Some(bytes.saturating_add(below[at].1))
        })
        .min()
}

fn ordered(a: Stacks, b: Stacks) -> (Stacks, Stacks) {
    (a.min(b), a.max(b))
}
