//! Byte-pair encoding of one word: characters first, then merges in order of rank.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::error::TokenizerError;
use super::vocabulary::{Kind, Vocabulary};

/// One allowed merge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merge {
    pub(crate) left: u32,
    pub(crate) right: u32,
    pub(crate) id: u32,
}

/// Merges by pair: rows by left id, each sorted by right id. The order does not depend on a hash, so
/// no list of merges can make a lookup slow.
pub(crate) struct MergeTable {
    starts: Vec<u32>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    right: u32,
    rank: u32,
    id: u32,
}

impl MergeTable {
    /// Builds the table from merges in order of rank. Of a pair that occurs twice the later counts.
    pub(crate) fn new(vocab_size: usize, merges: &[Merge]) -> Self {
        let mut starts = vec![0u32; vocab_size + 1];
        for merge in merges {
            starts[merge.left as usize + 1] += 1;
        }
        for left in 1..starts.len() {
            starts[left] += starts[left - 1];
        }
        let mut next = starts.clone();
        let mut entries = vec![
            Entry {
                right: 0,
                rank: 0,
                id: 0
            };
            merges.len()
        ];
        for (rank, merge) in merges.iter().enumerate() {
            let slot = &mut next[merge.left as usize];
            entries[*slot as usize] = Entry {
                right: merge.right,
                rank: rank as u32,
                id: merge.id,
            };
            *slot += 1;
        }
        for left in 0..vocab_size {
            let row = &mut entries[starts[left] as usize..starts[left + 1] as usize];
            row.sort_unstable_by_key(|entry| (entry.right, entry.rank));
        }
        Self { starts, entries }
    }

    fn get(&self, left: u32, right: u32) -> Option<Entry> {
        let row = left as usize;
        let row = &self.entries[self.starts[row] as usize..self.starts[row + 1] as usize];
        let after = row.partition_point(|entry| entry.right <= right);
        let entry = *row.get(after.checked_sub(1)?)?;
        (entry.right == right).then_some(entry)
    }
}

impl std::fmt::Debug for Bpe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bpe")
            .field("tokens", &self.vocabulary.len())
            .field("merges", &self.merges.entries.len())
            .finish_non_exhaustive()
    }
}

/// A vocabulary with its merges.
pub(crate) struct Bpe {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) merges: MergeTable,
    /// Ids of the byte tokens, where characters outside the vocabulary become bytes.
    pub(crate) byte_tokens: Option<Box<[Option<u32>; 256]>>,
    /// The token for characters that nothing else expresses.
    pub(crate) unknown: Option<u32>,
    /// Whether neighbouring unknown characters share one token.
    pub(crate) fuse_unknown: bool,
    /// Whether a word that is a token as a whole is taken without merging.
    pub(crate) whole_words_first: bool,
}

impl Bpe {
    /// Appends the ids of one word. O(n log n) in its characters.
    pub(crate) fn encode_word(&self, word: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        if self.whole_words_first
            && let Some(id) = self.piece(word)
        {
            ids.push(id);
            return Ok(());
        }
        let mut symbols = self.characters(word)?;
        self.merge(&mut symbols);
        let mut at = 0;
        while let Some(symbol) = symbols.get(at) {
            ids.push(symbol.id);
            at = symbol.next as usize;
        }
        Ok(())
    }

    /// The id of a piece of text. Control tokens are none, whatever their text is.
    fn piece(&self, text: &str) -> Option<u32> {
        self.vocabulary
            .id(text)
            .filter(|id| self.vocabulary.kind(*id) != Kind::Special)
    }

    fn characters(&self, word: &str) -> Result<Vec<Symbol>, TokenizerError> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        let mut after_unknown = false;
        let mut utf8 = [0u8; 4];
        for piece in word.chars() {
            let text = &*piece.encode_utf8(&mut utf8);
            if let Some(id) = self.piece(text) {
                Symbol::append(&mut symbols, id);
                after_unknown = false;
            } else if let Some(bytes) = self.bytes(text) {
                for id in bytes {
                    Symbol::append(&mut symbols, id);
                }
                after_unknown = false;
            } else if let Some(id) = self.unknown {
                if !(after_unknown && self.fuse_unknown) {
                    Symbol::append(&mut symbols, id);
                }
                after_unknown = true;
            } else {
                return Err(TokenizerError::Unencodable { piece });
            }
        }
        Ok(symbols)
    }

    /// The byte tokens of a character, if there is one for each of its bytes.
    fn bytes(&self, character: &str) -> Option<impl Iterator<Item = u32>> {
        let tokens = self.byte_tokens.as_ref()?;
        let ids = |byte: u8| tokens[usize::from(byte)];
        let complete = character.bytes().all(|byte| ids(byte).is_some());
        complete.then(|| character.bytes().filter_map(ids))
    }

    /// Merges the pair of lowest rank, leftmost first, until no pair is left.
    fn merge(&self, symbols: &mut [Symbol]) {
        let mut queue = BinaryHeap::new();
        for at in 1..symbols.len() {
            self.offer(&mut queue, symbols, at - 1, at);
        }
        while let Some(Reverse(candidate)) = queue.pop() {
            let left = candidate.at as usize;
            let right = symbols[left].next as usize;
            // A symbol merged away or changed since the pair was queued makes the pair stale.
            if symbols[left].gone || right >= symbols.len() {
                continue;
            }
            match self.merges.get(symbols[left].id, symbols[right].id) {
                Some(entry) if entry.rank == candidate.rank => symbols[left].id = entry.id,
                _ => continue,
            }
            symbols[right].gone = true;
            let next = symbols[right].next as usize;
            symbols[left].next = next as u32;
            if next < symbols.len() {
                symbols[next].previous = left as u32;
                self.offer(&mut queue, symbols, left, next);
            }
            if symbols[left].previous != NONE {
                self.offer(&mut queue, symbols, symbols[left].previous as usize, left);
            }
        }
    }

    fn offer(
        &self,
        queue: &mut BinaryHeap<Reverse<Candidate>>,
        symbols: &[Symbol],
        left: usize,
        right: usize,
    ) {
        if let Some(entry) = self.merges.get(symbols[left].id, symbols[right].id) {
            queue.push(Reverse(Candidate {
                rank: entry.rank,
                at: left as u32,
            }));
        }
    }
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    previous: u32,
    next: u32,
    gone: bool,
}

impl Symbol {
    fn append(symbols: &mut Vec<Self>, id: u32) {
        let at = symbols.len() as u32;
        symbols.push(Self {
            id,
            previous: at.wrapping_sub(1),
            next: at + 1,
            gone: false,
        });
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    at: u32,
}
