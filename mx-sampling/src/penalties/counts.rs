//! How often each token occurs in a window of the history.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A hasher for token ids and for values that are hashes already: one multiplication.
///
/// It is the same on every system and run. A caller cannot make it slow by more than the length of one
/// history, which bounds the number of keys.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, x: u32) {
        self.write_u64(u64::from(x));
    }

    fn write_u64(&mut self, x: u64) {
        let mixed = (self.0 ^ x).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Occurrence counts over the last `last_n` tokens, or over all of them.
#[derive(Debug, Clone)]
pub(crate) struct WindowCounts {
    last_n: Option<usize>,
    prompt: bool,
    counts: IdMap<u32, u32>,
}

impl WindowCounts {
    /// Counts over a window; `None` counts everything. Without `prompt` only generated tokens count.
    pub(crate) fn new(last_n: Option<usize>, prompt: bool) -> Self {
        Self {
            last_n,
            prompt,
            counts: IdMap::default(),
        }
    }

    /// Makes room for `additional` more distinct tokens.
    pub(crate) fn reserve(&mut self, additional: usize) {
        self.counts.reserve(
            self.last_n
                .map_or(additional, |n| n.saturating_add(1).min(additional)),
        );
    }

    /// Takes in the last of `tokens`, of which the first `prompt_len` are the prompt.
    pub(crate) fn push(&mut self, tokens: &[u32], prompt_len: usize) {
        let Some((&token, before)) = tokens.split_last() else {
            return;
        };
        if !self.counted(before.len(), prompt_len) {
            return;
        }
        *self.counts.entry(token).or_insert(0) += 1;
        if let Some(leaving) = self.leaving(before.len(), prompt_len) {
            self.decrement(tokens[leaving]);
        }
    }

    /// Takes the last of `tokens` out again.
    pub(crate) fn pop(&mut self, tokens: &[u32], prompt_len: usize) {
        let Some((&token, before)) = tokens.split_last() else {
            return;
        };
        if !self.counted(before.len(), prompt_len) {
            return;
        }
        if let Some(leaving) = self.leaving(before.len(), prompt_len) {
            *self.counts.entry(tokens[leaving]).or_insert(0) += 1;
        }
        self.decrement(token);
    }

    /// Every counted token with its count.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.counts.iter().map(|(&token, &count)| (token, count))
    }

    fn counted(&self, at: usize, prompt_len: usize) -> bool {
        self.last_n != Some(0) && (self.prompt || at >= prompt_len)
    }

    /// The position that leaves the window when position `at` enters.
    fn leaving(&self, at: usize, prompt_len: usize) -> Option<usize> {
        let first = if self.prompt { 0 } else { prompt_len };
        at.checked_sub(self.last_n?)
            .filter(|&leaving| leaving >= first)
    }

    fn decrement(&mut self, token: u32) {
        if let Some(count) = self.counts.get_mut(&token) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brute(
        tokens: &[u32],
        prompt_len: usize,
        last_n: Option<usize>,
        prompt: bool,
    ) -> Vec<(u32, u32)> {
        let first = tokens.len() - last_n.unwrap_or(usize::MAX).min(tokens.len());
        let first = if prompt { first } else { first.max(prompt_len) };
        let mut counts = std::collections::BTreeMap::new();
        for &token in &tokens[first.min(tokens.len())..] {
            *counts.entry(token).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    #[test]
    fn counts_follow_the_window_both_ways() {
        let tokens: Vec<u32> = (0..60u32).map(|i| (i * i + i / 7) % 9).collect();
        for last_n in [None, Some(0), Some(1), Some(5), Some(64)] {
            for prompt in [true, false] {
                for prompt_len in [0, 4, 30] {
                    let mut window = WindowCounts::new(last_n, prompt);
                    let check = |window: &WindowCounts, n: usize| {
                        let mut counts: Vec<_> = window.iter().collect();
                        counts.sort_unstable();
                        // The history is at least the prompt here.
                        let prompt_len = prompt_len.min(n);
                        assert_eq!(
                            counts,
                            brute(&tokens[..n], prompt_len, last_n, prompt),
                            "{last_n:?} {prompt}"
                        );
                    };
                    for n in 1..=tokens.len() {
                        window.push(&tokens[..n], prompt_len);
                        if n >= prompt_len {
                            check(&window, n);
                        }
                    }
                    for n in (prompt_len.max(1)..=tokens.len()).rev() {
                        check(&window, n);
                        window.pop(&tokens[..n], prompt_len);
                    }
                }
            }
        }
    }
}
