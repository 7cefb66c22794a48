//! Phrases that a hypothesis must contain, as one automaton.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::error::SamplingError;

/// Largest number of reachable states.
const MAX_STATES: usize = 1 << 16;

/// Largest number of transitions: states times tokens that stand in phrases, and one for all others.
const MAX_TRANSITIONS: usize = 1 << 20;

/// Largest number of phrases.
const MAX_PHRASES: usize = 32;

/// A set of required phrases.
///
/// A state is the progress inside the phrases that are not there yet (an Aho–Corasick node) together with the
/// set of phrases that are. For every state the least number of tokens to the end is known exactly, also
/// when phrases overlap, so that a search never walks into a dead end.
///
/// ```
/// use mx_sampling::strategy::beam::Phrases;
///
/// let phrases = Phrases::new(&[vec![3, 0], vec![0, 7]])?;
/// let start = phrases.start();
/// assert_eq!(phrases.needed(start), 3); // 3 0 7 holds both
/// let state = [3, 0, 7].iter().fold(start, |state, token| phrases.next(state, *token));
/// assert!(phrases.is_done(state));
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Phrases {
    states: Vec<State>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct State {
    /// Successors; any other token leads to `other`.
    next: BTreeMap<u32, u32>,
    other: u32,
    needed: usize,
    /// Tokens that lead nearer to the end.
    advancing: Vec<u32>,
}

/// The trie with failure links.
#[derive(Default)]
struct Trie {
    children: Vec<BTreeMap<u32, usize>>,
    fail: Vec<usize>,
    /// Phrases that end at a node, by failure links too.
    ends: Vec<u64>,
    /// Phrases that a node is a proper prefix of.
    inside: Vec<u64>,
    /// The nodes by depth, the root left out.
    by_depth: Vec<usize>,
}

impl Phrases {
    /// Builds the automaton. No phrases at all give one state that is done.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Empty`] for an empty phrase, [`SamplingError::OutOfRange`] for more than 32 phrases, more
    /// than 65 536 states, or more than 2^20 transitions (states times different tokens in the phrases).
    pub fn new(phrases: &[Vec<u32>]) -> Result<Self, SamplingError> {
        let count = phrases.len();
        SamplingError::check(
            count <= MAX_PHRASES,
            "must_include",
            count as f64,
            "at most 32 phrases",
        )?;
        if phrases.iter().any(Vec::is_empty) {
            return Err(SamplingError::Empty {
                name: "must_include phrase",
            });
        }
        let alphabet: BTreeSet<u32> = phrases.iter().flatten().copied().collect();
        let alphabet: Vec<u32> = alphabet.into_iter().collect();
        let trie = Trie::new(phrases);
        check_transitions(trie.fail.len(), alphabet.len())?;
        let table = trie.table(&alphabet);
        let all = (1u64 << count) - 1;
        let mut index = BTreeMap::from([((0usize, 0u64), 0u32)]);
        let mut queue = VecDeque::from([(0usize, 0u64)]);
        let mut states: Vec<State> = Vec::new();
        let mut backwards: Vec<Vec<u32>> = vec![Vec::new()];
        let mut done = Vec::new();
        while let Some((node, mask)) = queue.pop_front() {
            let from = states.len() as u32;
            done.push(mask == all);
            let mut state = State {
                needed: usize::MAX,
                ..State::default()
            };
            let steps = alphabet
                .iter()
                .zip(&table[node * alphabet.len()..])
                .map(|(token, to)| (Some(*token), trie.settle(*to as usize, mask)));
            for (token, key) in steps.chain([(None, (0, mask))]) {
                let to = *index.entry(key).or_insert_with(|| {
                    queue.push_back(key);
                    backwards.push(Vec::new());
                    (backwards.len() - 1) as u32
                });
                backwards[to as usize].push(from);
                match token {
                    Some(token) => {
                        state.next.insert(token, to);
                    }
                    None => state.other = to,
                }
            }
            let reached = backwards.len();
            SamplingError::check(
                reached <= MAX_STATES,
                "must_include",
                reached as f64,
                "at most 65536 states",
            )?;
            check_transitions(reached, alphabet.len())?;
            states.push(state);
        }
        measure(&mut states, &backwards, &done);
        Ok(Self { states })
    }

    /// Whether there are no phrases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states[0].needed == 0
    }

    /// The state before the first token.
    #[must_use]
    pub fn start(&self) -> u32 {
        0
    }

    /// The state after a token.
    #[must_use]
    pub fn next(&self, state: u32, token: u32) -> u32 {
        let state = &self.states[state as usize];
        state.next.get(&token).copied().unwrap_or(state.other)
    }

    /// Whether every phrase is there.
    #[must_use]
    pub fn is_done(&self, state: u32) -> bool {
        self.states[state as usize].needed == 0
    }

    /// The least number of tokens until every phrase is there.
    #[must_use]
    pub fn needed(&self, state: u32) -> usize {
        self.states[state as usize].needed
    }

    /// Tokens that lead nearer to the end.
    #[must_use]
    pub fn advancing(&self, state: u32) -> &[u32] {
        &self.states[state as usize].advancing
    }

    /// Sets every token to −inf after which `left` tokens would not do; end tokens are left alone.
    pub(super) fn keep_feasible(&self, state: u32, left: usize, eos: &[u32], row: &mut [f64]) {
        // One token changes the distance by what it starts at least, so a wide margin needs no look.
        let own = &self.states[state as usize];
        let feasible = |to: u32| self.needed(to) <= left;
        if feasible(own.other) && own.next.values().all(|to| feasible(*to)) {
            return;
        }
        for (token, score) in row.iter_mut().enumerate() {
            let token = token as u32;
            if !feasible(self.next(state, token)) && !eos.contains(&token) {
                *score = f64::NEG_INFINITY;
            }
        }
    }
}

/// Refuses automata that would take long to build.
fn check_transitions(states: usize, tokens: usize) -> Result<(), SamplingError> {
    let transitions = states.saturating_mul(tokens + 1);
    SamplingError::check(
        transitions <= MAX_TRANSITIONS,
        "must_include",
        transitions as f64,
        "at most 1048576 transitions (states times different tokens)",
    )
}

/// Distances to the end, by a search backwards, and the tokens that shorten them.
fn measure(states: &mut [State], backwards: &[Vec<u32>], done: &[bool]) {
    let mut queue: VecDeque<u32> = VecDeque::new();
    for (at, _) in done.iter().enumerate().filter(|(_, done)| **done) {
        states[at].needed = 0;
        queue.push_back(at as u32);
    }
    while let Some(at) = queue.pop_front() {
        let needed = states[at as usize].needed + 1;
        for &from in &backwards[at as usize] {
            if states[from as usize].needed > needed {
                states[from as usize].needed = needed;
                queue.push_back(from);
            }
        }
    }
    for at in 0..states.len() {
        let nearer = |to: &u32| states[*to as usize].needed < states[at].needed;
        let advancing = states[at]
            .next
            .iter()
            .filter(|(_, to)| nearer(to))
            .map(|(token, _)| *token)
            .collect();
        states[at].advancing = advancing;
    }
}

impl Trie {
    fn new(phrases: &[Vec<u32>]) -> Self {
        let mut trie = Self::default();
        trie.node();
        for (number, phrase) in phrases.iter().enumerate() {
            let mut node = 0;
            for &token in phrase {
                trie.inside[node] |= 1 << number;
                node = match trie.children[node].get(&token) {
                    Some(child) => *child,
                    None => {
                        let child = trie.node();
                        trie.children[node].insert(token, child);
                        child
                    }
                };
            }
            trie.ends[node] |= 1 << number;
        }
        let mut queue: VecDeque<usize> = trie.children[0].values().copied().collect();
        while let Some(node) = queue.pop_front() {
            trie.by_depth.push(node);
            trie.ends[node] |= trie.ends[trie.fail[node]];
            for (token, child) in trie.children[node].clone() {
                trie.fail[child] = trie.step(trie.fail[node], token);
                queue.push_back(child);
            }
        }
        trie
    }

    fn node(&mut self) -> usize {
        self.children.push(BTreeMap::new());
        self.fail.push(0);
        self.ends.push(0);
        self.inside.push(0);
        self.fail.len() - 1
    }

    fn step(&self, mut node: usize, token: u32) -> usize {
        loop {
            match self.children[node].get(&token) {
                Some(child) => return *child,
                None if node == 0 => return 0,
                None => node = self.fail[node],
            }
        }
    }

    /// Where every token of the sorted alphabet leads from every node, a row per node. A row is that of the
    /// failure link with the node's own children, so that nothing walks back along the links again.
    fn table(&self, alphabet: &[u32]) -> Vec<u32> {
        let width = alphabet.len();
        let mut table = vec![0u32; self.fail.len() * width];
        for &node in [0].iter().chain(&self.by_depth) {
            if node != 0 {
                let from = self.fail[node] * width;
                table.copy_within(from..from + width, node * width);
            }
            for (token, child) in &self.children[node] {
                if let Ok(at) = alphabet.binary_search(token) {
                    table[node * width + at] = *child as u32;
                }
            }
        }
        table
    }

    /// The state at a node that was just reached. Progress in phrases that are there already is forgotten,
    /// which keeps the number of states small.
    fn settle(&self, mut node: usize, mask: u64) -> (usize, u64) {
        let mask = mask | self.ends[node];
        while node != 0 && self.inside[node] & !mask == 0 {
            node = self.fail[node];
        }
        (node, mask)
    }
}
