//! A map that forgets what was not asked for lately once it holds too many bytes.

use std::hash::Hash;

use crate::hash::FastMap;

/// Values by key within a budget of bytes.
///
/// Two halves: what is used moves to the young one; when that is full the old one is dropped and the young becomes old.
/// So the values of the last half budget's worth of use are always there, at the cost of one look-up more.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    young: FastMap<K, (V, usize)>,
    old: FastMap<K, (V, usize)>,
    young_bytes: usize,
    budget: usize,
}

/// What an entry takes besides its value, roughly.
const ENTRY_BYTES: usize = 64;

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            young: FastMap::default(),
            old: FastMap::default(),
            young_bytes: 0,
            budget,
        }
    }

    /// The value of a key, if it is still there.
    #[inline]
    pub(crate) fn get(&mut self, key: K) -> Option<V> {
        if let Some((value, _)) = self.young.get(&key) {
            return Some(value.clone());
        }
        if self.old.is_empty() {
            return None;
        }
        let (value, bytes) = self.old.remove(&key)?;
        self.insert(key, value.clone(), bytes);
        Some(value)
    }

    /// Keeps a value that holds `bytes` of memory.
    pub(crate) fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.young_bytes += bytes + ENTRY_BYTES;
        if self.young_bytes > self.budget / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = bytes + ENTRY_BYTES;
        }
        self.young.insert(key, (value, bytes));
    }

    /// Number of values that are there.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds_and_use_keeps() {
        let mut cache: Cache<u32, u32> = Cache::new(20 * (100 + ENTRY_BYTES));
        for key in 0..1000 {
            cache.insert(key, key, 100);
            assert!(cache.len() <= 20, "{}", cache.len());
            assert!(
                cache.get(0).is_some(),
                "key 0 is used all the time, after {key}"
            );
        }
        assert_eq!(cache.get(999), Some(999));
        assert_eq!(cache.get(500), None);
    }
}
