//! Groups of tokens that are allowed or refused together: those made of characters of one class.

use std::sync::{Arc, Mutex, PoisonError};

use super::trie::{Entry, NodeId, ROOT, Trie};
use crate::ByteSet;
use crate::hash::FastMap;
use crate::lexical::utf8::{self, Utf8State};
use crate::machine::Plain;

/// Characters up to which tokens of a class are told apart by length.
pub(crate) const MAX_CHARS: usize = Plain::CHARS_TOLD_APART as usize;
/// Classes that are kept; the vocabulary forgets all when one more is wanted.
const MAX_CLASSES: usize = 64;

/// Number of characters of a plain token, an unfinished last one included; `None` when the token is not plain.
///
/// Plain tokens stand for themselves inside a JSON string and begin at a character.
pub(crate) fn plain_chars(bytes: &[u8]) -> Option<u32> {
    let mut state = utf8::START;
    let mut chars = 0;
    for &byte in bytes {
        if byte < 0x80 && !Plain::ASCII.contains(byte) {
            return None;
        }
        if state == utf8::START {
            chars += 1;
        }
        state = utf8::step(state, byte)?;
    }
    Some(chars)
}

/// The plain tokens of a vocabulary made of some characters, and the ways out of them.
#[derive(Debug)]
pub(crate) struct ClassSlice {
    /// Tokens by number of characters (more than [`MAX_CHARS`] count as one more), shortest first.
    tokens: Vec<u32>,
    /// Where in `tokens` those of more than `n` characters begin, for each `n`.
    longer: [u32; MAX_CHARS + 2],
    /// One bit a token of at most `n` characters, made when asked for; the last is for any length.
    bits: Mutex<Vec<Option<Arc<[u32]>>>>,
    /// Nodes whose parent (the root included) is of the class but whose own byte is not, by that byte.
    exits: Vec<NodeId>,
    exits_from: Box<[u32; 257]>,
    /// Those of the exits that have more than [`MAX_CHARS`] characters before them.
    long_exits: Vec<NodeId>,
    /// Characters of the longest token.
    longest: u32,
    words: usize,
}

impl ClassSlice {
    /// The slice of the plain ASCII characters in `ascii` and, with `wide`, all characters beyond.
    pub(crate) fn new(trie: &Trie, words: usize, ascii: &ByteSet, wide: bool) -> Self {
        let mut by_chars: Vec<Vec<u32>> = vec![Vec::new(); MAX_CHARS + 2];
        let mut leaving: Vec<NodeId> = Vec::new();
        let mut long_exits = Vec::new();
        let mut longest = 0;
        // Per depth: place in the character and number of characters so far.
        let mut path: Vec<(Utf8State, u32)> = vec![(utf8::START, 0)];
        let mut node = ROOT + 1;
        let end = trie.end(ROOT);
        while node < end {
            let byte = trie.byte(node);
            path.truncate(trie.depth(node));
            let (state, chars) = path.last().copied().unwrap_or((utf8::START, 0));
            let in_class = if byte < 0x80 { state == utf8::START && ascii.contains(byte) } else { wide };
            let next = if in_class { utf8::step(state, byte) } else { None };
            let Some(next) = next else {
                leaving.push(node);
                if chars as usize > MAX_CHARS {
                    long_exits.push(node);
                }
                node = trie.end(node);
                continue;
            };
            let chars = chars + u32::from(state == utf8::START);
            longest = longest.max(chars);
            by_chars[(chars as usize).min(MAX_CHARS + 1)].extend_from_slice(trie.tokens_at(node));
            path.push((next, chars));
            node += 1;
        }
        let mut tokens = Vec::with_capacity(by_chars.iter().map(Vec::len).sum());
        let mut longer = [0; MAX_CHARS + 2];
        for (chars, group) in by_chars.into_iter().enumerate() {
            tokens.extend(group);
            longer[chars] = tokens.len() as u32;
        }
        let (exits, exits_from) = group_by_byte(trie, &leaving);
        Self { tokens, longer, bits: Mutex::new(vec![None; MAX_CHARS + 2]), exits, exits_from, long_exits, longest, words }
    }

    /// The tokens of at most `chars` characters, one bit each.
    pub(crate) fn bits(&self, chars: u32) -> Arc<[u32]> {
        let chars = match chars as usize {
            short @ 0..=MAX_CHARS => short,
            _ => MAX_CHARS + 1,
        };
        let mut made = self.bits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(bits)) = made.get(chars) {
            return Arc::clone(bits);
        }
        let mut bits = vec![0u32; self.words];
        for &token in &self.tokens[..self.longer[chars] as usize] {
            bits[token as usize / 32] |= 1 << (token % 32);
        }
        let bits: Arc<[u32]> = bits.into();
        made[chars] = Some(Arc::clone(&bits));
        bits
    }

    /// Characters of the longest token.
    pub(crate) fn longest(&self) -> u32 {
        self.longest
    }

    /// Number of tokens of at most `chars` characters.
    pub(crate) fn count(&self, chars: u32) -> usize {
        self.longer[(chars as usize).min(MAX_CHARS + 1)] as usize
    }

    /// The tokens of more than `chars` characters. For more than [`MAX_CHARS`] there are none to tell apart.
    pub(crate) fn longer_than(&self, chars: u32) -> &[u32] {
        &self.tokens[self.count(chars)..]
    }

    /// The nodes that leave the class behind more than [`MAX_CHARS`] characters.
    pub(crate) fn long_exits(&self) -> &[NodeId] {
        &self.long_exits
    }

    /// The nodes that leave the class by `byte`.
    pub(crate) fn exits(&self, byte: u8) -> &[NodeId] {
        let byte = usize::from(byte);
        &self.exits[self.exits_from[byte] as usize..self.exits_from[byte + 1] as usize]
    }
}

fn group_by_byte(trie: &Trie, nodes: &[NodeId]) -> (Vec<NodeId>, Box<[u32; 257]>) {
    let mut from = Box::new([0u32; 257]);
    for &node in nodes {
        from[usize::from(trie.byte(node)) + 1] += 1;
    }
    for byte in 0..256 {
        from[byte + 1] += from[byte];
    }
    let mut at = from.clone();
    let mut grouped = vec![0; nodes.len()];
    for &node in nodes {
        let slot = &mut at[usize::from(trie.byte(node))];
        grouped[*slot as usize] = node;
        *slot += 1;
    }
    (grouped, from)
}

/// The slices of a vocabulary: that of all plain tokens, with the trie of the others, and those asked for.
#[derive(Debug)]
pub(crate) struct Slices {
    /// All plain tokens.
    plain: ClassSlice,
    /// The trie of the tokens that are not plain.
    rest: Trie,
    classes: Mutex<FastMap<(ByteSet, bool), Arc<ClassSlice>>>,
    words: usize,
}

impl Slices {
    pub(crate) fn new<'a>(
        trie: &Trie,
        words: usize,
        entries: impl Iterator<Item = Entry<'a>>,
    ) -> Result<Self, crate::ConstrainError> {
        Ok(Self {
            plain: ClassSlice::new(trie, words, &Plain::ASCII, true),
            rest: Trie::new(entries.filter(|entry| !entry.plain))?,
            classes: Mutex::default(),
            words,
        })
    }

    /// The plain tokens.
    pub(crate) fn plain(&self) -> &ClassSlice {
        &self.plain
    }

    /// The trie of the tokens that are not plain.
    pub(crate) fn rest(&self) -> &Trie {
        &self.rest
    }

    /// The slice of a class, made the first time: one walk over the trie.
    pub(crate) fn class(&self, trie: &Trie, ascii: &ByteSet, wide: bool) -> Arc<ClassSlice> {
        let key = (*ascii, wide);
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slice) = classes.get(&key) {
            return Arc::clone(slice);
        }
        let slice = Arc::new(ClassSlice::new(trie, self.words, ascii, wide));
        if classes.len() == MAX_CLASSES {
            classes.clear();
        }
        classes.insert(key, Arc::clone(&slice));
        slice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_tokens_are_those_that_stand_for_themselves() {
        assert_eq!(plain_chars(b"abc def"), Some(7));
        assert_eq!(plain_chars("äö".as_bytes()), Some(2));
        assert_eq!(plain_chars(b"a\xc3"), Some(2), "an unfinished character counts");
        for other in [&b"a\"b"[..], b"\\", b"\n", b"\xa4b", b"\xff", b"\xc3\xc3"] {
            assert_eq!(plain_chars(other), None, "{other:?}");
        }
    }
}
