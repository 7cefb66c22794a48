//! Drafts without a second model: the text so far often repeats itself.

use std::hash::Hasher;

use crate::penalties::{IdHasher, IdMap};

/// Which of several earlier occurrences is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Occurrence {
    /// The first one, as transformers does.
    Earliest,
    /// The last one, which is usually better.
    #[default]
    Latest,
}

/// A draft found in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup<'a> {
    /// Length of the suffix that was found again.
    pub ngram: usize,
    /// Where its other occurrence starts.
    pub start: usize,
    /// The tokens that followed it there.
    pub draft: &'a [u32],
}

/// Prompt lookup (Saxena 2023): finds the longest suffix of at most `max_ngram` tokens that occurs earlier
/// with something after it, and returns up to `count` tokens that followed.
///
/// ```
/// use mx_sampling::strategy::drafters::{Occurrence, prompt_lookup};
///
/// let found = prompt_lookup(&[1, 2, 3, 9, 1, 2], 3, 2, Occurrence::Earliest).unwrap();
/// assert_eq!((found.ngram, found.draft), (2, &[3, 9][..]));
/// assert_eq!(prompt_lookup(&[1, 2, 3], 3, 2, Occurrence::Latest), None);
/// ```
#[must_use]
pub fn prompt_lookup(
    tokens: &[u32],
    max_ngram: usize,
    count: usize,
    which: Occurrence,
) -> Option<Lookup<'_>> {
    for ngram in (1..=max_ngram.min(tokens.len().saturating_sub(1))).rev() {
        let suffix = &tokens[tokens.len() - ngram..];
        let mut starts = 0..tokens.len() - ngram;
        let matches = |start: &usize| tokens[*start..start + ngram] == *suffix;
        let found = match which {
            Occurrence::Earliest => starts.find(matches),
            Occurrence::Latest => starts.rfind(matches),
        };
        if let Some(start) = found {
            let after = start + ngram;
            let draft = &tokens[after..tokens.len().min(after.saturating_add(count))];
            return Some(Lookup {
                ngram,
                start,
                draft,
            });
        }
    }
    None
}

/// No earlier occurrence.
const NONE: u32 = u32::MAX;

/// A drafter that indexes the text as it grows: the latest earlier occurrence of the longest known suffix,
/// in O(`max_ngram`) per token instead of a search through the text.
///
/// ```
/// use mx_sampling::strategy::drafters::NgramDrafter;
///
/// let mut drafter = NgramDrafter::new(1, 3);
/// for token in [5, 6, 7, 8, 5, 6] {
///     drafter.push(token);
/// }
/// assert_eq!(drafter.draft(3), [7, 8, 5]);
/// drafter.truncate(5);
/// assert_eq!(drafter.draft(2), [6, 7]);
/// ```
#[derive(Debug, Clone)]
pub struct NgramDrafter {
    min: usize,
    max: usize,
    tokens: Vec<u32>,
    /// Hash of an n-gram to the position after its latest occurrence.
    latest: IdMap<u64, u32>,
    /// What `latest` held before, per token and length, for taking tokens back.
    before: Vec<u32>,
}

impl NgramDrafter {
    /// A drafter that looks for suffixes of `min..=max` tokens (at least 1).
    #[must_use]
    pub fn new(min: usize, max: usize) -> Self {
        let min = min.max(1);
        Self {
            min,
            max: max.max(min),
            tokens: Vec::new(),
            latest: IdMap::default(),
            before: Vec::new(),
        }
    }

    /// Takes in the next token.
    pub fn push(&mut self, token: u32) {
        // The n-grams that end before this token become known now, with it as their continuation.
        let end = self.tokens.len();
        for n in self.min..=self.max.min(end) {
            let previous = self
                .latest
                .insert(hash(&self.tokens[end - n..]), end as u32);
            self.before.push(previous.unwrap_or(NONE));
        }
        self.tokens.push(token);
    }

    /// Takes back all but the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        while self.tokens.len() > length {
            self.tokens.pop();
            let end = self.tokens.len();
            for n in (self.min..=self.max.min(end)).rev() {
                let previous = self.before.pop().unwrap_or(NONE);
                let key = hash(&self.tokens[end - n..]);
                if previous == NONE {
                    self.latest.remove(&key);
                } else {
                    self.latest.insert(key, previous);
                }
            }
        }
    }

    /// Up to `count` tokens that followed the latest earlier occurrence of the longest known suffix.
    #[must_use]
    pub fn draft(&self, count: usize) -> &[u32] {
        let end = self.tokens.len();
        for n in (self.min..=self.max.min(end)).rev() {
            let suffix = &self.tokens[end - n..];
            if let Some(&after) = self.latest.get(&hash(suffix)) {
                let after = after as usize;
                // Equal hashes need not be equal n-grams.
                if self.tokens[after - n..after] == *suffix {
                    return &self.tokens[after..end.min(after.saturating_add(count))];
                }
            }
        }
        &[]
    }

    /// The tokens so far.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

fn hash(tokens: &[u32]) -> u64 {
    let mut hasher = IdHasher::default();
    hasher.write_u64(tokens.len() as u64);
    for &token in tokens {
        hasher.write_u64(u64::from(token) + 1);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_agrees_with_the_search_while_growing_and_shrinking() {
        let tokens: Vec<u32> = (0..120u32).map(|i| (i * i * 5 + i / 4) % 5).collect();
        let mut drafter = NgramDrafter::new(1, 4);
        let check = |drafter: &NgramDrafter, len: usize| {
            let found = prompt_lookup(&tokens[..len], 4, 6, Occurrence::Latest);
            assert_eq!(
                drafter.draft(6),
                found.map_or(&[][..], |found| found.draft),
                "length {len}"
            );
        };
        for (at, &token) in tokens.iter().enumerate() {
            drafter.push(token);
            check(&drafter, at + 1);
        }
        for len in (1..tokens.len()).rev() {
            drafter.truncate(len);
            check(&drafter, len);
        }
    }
}
