//! Which tokens would complete an n-gram that already occurred.

use std::collections::hash_map::Entry;
use std::hash::Hasher;

use super::counts::{IdHasher, IdMap};

/// No earlier entry in a chain.
const NONE: u32 = u32::MAX;
/// The position is not in a chain, since its n-gram occurred before.
const SEEN: u32 = u32::MAX - 1;

/// An index of the n-grams of a history that grows and shrinks at the end in O(1).
///
/// Positions whose preceding `n − 1` tokens hash alike form a chain, newest first, in which each following
/// token stands once. The chain is walked to list the banned tokens only; whether an n-gram is known already says
/// a table of whole n-grams.
#[derive(Debug, Clone)]
pub(crate) struct NgramIndex {
    n: usize,
    newest: IdMap<u64, u32>,
    /// Hash of a whole n-gram to the position of its last token, for the first n-gram of that hash.
    known: IdMap<u64, u32>,
    older: Vec<u32>,
}

impl NgramIndex {
    /// An index of n-grams of `n >= 1` tokens.
    pub(crate) fn new(n: usize) -> Self {
        Self {
            n: n.max(1),
            newest: IdMap::default(),
            known: IdMap::default(),
            older: Vec::new(),
        }
    }

    /// Makes room for `additional` more tokens.
    pub(crate) fn reserve(&mut self, additional: usize) {
        self.older.reserve(additional);
        self.newest.reserve(additional);
        self.known.reserve(additional);
    }

    /// Takes in the last of `tokens`.
    pub(crate) fn push(&mut self, tokens: &[u32]) {
        let at = self.older.len();
        debug_assert_eq!(at + 1, tokens.len());
        let mut link = SEEN;
        if at + 1 >= self.n {
            let before = hash(&tokens[at + 1 - self.n..at]);
            if !self.is_known(tokens, at, before) {
                link = self.newest.insert(before, at as u32).unwrap_or(NONE);
            }
        }
        self.older.push(link);
    }

    /// Takes the last of `tokens` out again.
    pub(crate) fn pop(&mut self, tokens: &[u32]) {
        let Some(link) = self.older.pop() else { return };
        let at = self.older.len();
        if link == SEEN {
            return;
        }
        let before = hash(&tokens[at + 1 - self.n..at]);
        if link == NONE {
            self.newest.remove(&before);
        } else {
            self.newest.insert(before, link);
        }
        let whole = hash(&tokens[at + 1 - self.n..=at]);
        if self.known.get(&whole) == Some(&(at as u32)) {
            self.known.remove(&whole);
        }
    }

    /// Whether the n-gram that ends at `at`, whose first tokens hash to `before`, occurred earlier; notes it if not.
    fn is_known(&mut self, tokens: &[u32], at: usize, before: u64) -> bool {
        let own = at + 1 - self.n..at + 1;
        match self.known.entry(hash(&tokens[own.clone()])) {
            Entry::Vacant(entry) => {
                entry.insert(at as u32);
                return false;
            }
            Entry::Occupied(entry) => {
                let end = *entry.get() as usize + 1;
                if tokens[end - self.n..end] == tokens[own] {
                    return true;
                }
            }
        }
        // Two n-grams of one hash: the place is taken, so the chain decides.
        self.followers(tokens, at, before)
            .any(|position| tokens[position] == tokens[at])
    }

    /// Every token that would complete a known n-gram after `tokens`, once each.
    pub(crate) fn banned<'a>(&'a self, tokens: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let enough = tokens.len() + 1 >= self.n;
        let hash = if enough {
            hash(&tokens[tokens.len() + 1 - self.n..])
        } else {
            0
        };
        enough
            .then(|| {
                self.followers(tokens, tokens.len(), hash)
                    .map(|position| tokens[position])
            })
            .into_iter()
            .flatten()
    }

    /// Positions whose preceding `n − 1` tokens equal those before `at`.
    fn followers<'a>(
        &'a self,
        tokens: &'a [u32],
        at: usize,
        hash: u64,
    ) -> impl Iterator<Item = usize> + 'a {
        let wanted = &tokens[at + 1 - self.n..at];
        let first = self.newest.get(&hash).copied().unwrap_or(NONE);
        std::iter::successors(Some(first), |&position| {
            self.older.get(position as usize).copied()
        })
        .take_while(|&position| position != NONE)
        .map(|position| position as usize)
        .filter(move |&position| tokens[position + 1 - self.n..position] == *wanted)
    }
}

fn hash(tokens: &[u32]) -> u64 {
    let mut hasher = IdHasher::default();
    for &token in tokens {
        hasher.write_u64(u64::from(token) + 1);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brute(tokens: &[u32], n: usize) -> Vec<u32> {
        let mut banned = Vec::new();
        if tokens.len() + 1 >= n {
            let suffix = &tokens[tokens.len() + 1 - n..];
            for window in tokens.windows(n) {
                if &window[..n - 1] == suffix {
                    banned.push(window[n - 1]);
                }
            }
        }
        banned.sort_unstable();
        banned.dedup();
        banned
    }

    #[test]
    fn agrees_with_the_definition_while_growing_and_shrinking() {
        let tokens: Vec<u32> = (0..80u32).map(|i| (i * i * 7 + i / 3) % 4).collect();
        for n in 1..5 {
            let mut index = NgramIndex::new(n);
            let check = |index: &NgramIndex, len: usize| {
                let mut banned: Vec<u32> = index.banned(&tokens[..len]).collect();
                banned.sort_unstable();
                assert_eq!(banned, brute(&tokens[..len], n), "n {n} len {len}");
            };
            for len in 1..=tokens.len() {
                index.push(&tokens[..len]);
                check(&index, len);
            }
            for len in (1..=tokens.len()).rev() {
                index.pop(&tokens[..len]);
                check(&index, len - 1);
            }
        }
    }

    #[test]
    fn equal_hashes_of_different_ngrams_are_told_apart() {
        // Two contexts whose hashes differ in the lower half only, and followers that make up for the difference. The
        // factor of the hash is that of the golden ratio, so only a Fibonacci number apart can contexts be that near.
        const APART: u32 = 2_971_215_073;
        let near = |a: &u32| hash(&[*a]) >> 32 == hash(&[a + APART]) >> 32;
        let a = (0..1000).find(near).expect("every third context or so");
        let b = a + APART;
        let difference = (hash(&[a]) ^ hash(&[b])) as u32;
        let (x, y) = (1000, (1001 ^ difference).wrapping_sub(1));
        assert_eq!(hash(&[a, x]), hash(&[b, y]));
        assert_ne!((a, x), (b, y));
        let tokens = [a, x, b, y, b, 5, b, y, a, x, b, y, a, 6, a, x, a, b];
        let mut index = NgramIndex::new(2);
        let check = |index: &NgramIndex, len: usize| {
            let mut banned: Vec<u32> = index.banned(&tokens[..len]).collect();
            banned.sort_unstable();
            assert_eq!(banned, brute(&tokens[..len], 2), "{len}");
        };
        for _ in 0..2 {
            for len in 1..=tokens.len() {
                index.push(&tokens[..len]);
                check(&index, len);
            }
            for len in (1..=tokens.len()).rev() {
                index.pop(&tokens[..len]);
                check(&index, len - 1);
            }
            assert!(index.known.is_empty() && index.newest.is_empty());
        }
    }
}
