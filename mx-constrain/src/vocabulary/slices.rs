//! Groups of tokens that are allowed or refused together: those made of characters of one class.

use std::sync::{Arc, Mutex, PoisonError};

use super::trie::{Entry, NodeId, ROOT, Trie};
use crate::hash::FastMap;
use crate::lexical::utf8::{self, Utf8State};
use crate::machine::Plain;
use crate::{ByteSet, ConstrainError};

/// Characters up to which tokens of a class are told apart by length.
pub(crate) const MAX_CHARS: u32 = Plain::CHARS_TOLD_APART;
/// The blanks of JSON.
pub(crate) const BLANKS: ByteSet = ByteSet::of(b' ')
    .union(&ByteSet::of(b'\n'))
    .union(&ByteSet::of(b'\r'))
    .union(&ByteSet::of(b'\t'));
/// Bytes of bits of classes that are kept; all are forgotten when more is wanted, and made anew in microseconds.
const MAX_CLASS_BYTES: usize = 4 << 20;
/// Index of the group of tokens with a character beyond ASCII; the others are grouped by byte, first bytes of characters
/// beyond ASCII too.
const WIDE: usize = 128;
/// Number of groups.
const GROUPS: usize = 256;

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

/// One bit a token, and how many are set.
#[derive(Debug, Clone)]
pub(crate) struct Bits {
    pub(crate) words: Arc<[u32]>,
    pub(crate) count: usize,
}

/// Key of a class: its bytes and the length up to which tokens count.
type ClassKey = (ByteSet, u32);

/// The slices of a vocabulary.
///
/// All plain tokens are one slice; a class of characters is that slice without the tokens that have another character,
/// a few passes over bits.
#[derive(Debug)]
pub(crate) struct Slices {
    /// The plain tokens of at most `n` characters, for each `n` up to [`MAX_CHARS`], and of any number.
    by_chars: Vec<Bits>,
    /// The plain tokens that hold a byte, by that byte; [`WIDE`] is for any byte beyond ASCII. Empty where there is none.
    holding: Vec<Vec<u32>>,
    /// Characters of the longest plain token.
    longest: u32,
    /// The trie of the tokens that are not plain.
    rest: Trie,
    /// Nodes that are reached by plain characters only up to their own byte.
    nodes: NodesByByte,
    /// Those of the nodes whose own byte is not plain and that have some before it, by the first of these.
    leaving: NodesByByte,
    /// Those of the nodes that have more than [`MAX_CHARS`] characters before them.
    far_nodes: Vec<NodeId>,
    /// Tokens of blanks only, and nodes that are reached by blanks only up to their own byte, which is none.
    blank_tokens: Vec<u32>,
    blank_nodes: NodesByByte,
    classes: Mutex<FastMap<ClassKey, Bits>>,
}

impl Slices {
    pub(crate) fn new<'a>(
        trie: &Trie,
        words: usize,
        entries: impl Iterator<Item = Entry<'a>> + Clone,
    ) -> Result<Self, ConstrainError> {
        let mut lengths: Vec<Vec<u32>> = vec![Vec::new(); MAX_CHARS as usize + 2];
        let mut holding: Vec<Vec<u32>> = vec![Vec::new(); GROUPS];
        let mut longest = 0;
        for Entry {
            bytes,
            token,
            chars,
        } in entries.clone().filter(|entry| entry.chars > 0)
        {
            longest = longest.max(chars);
            lengths[chars.min(MAX_CHARS + 1) as usize].push(token);
            let (word, bit) = (token as usize / 32, 1 << (token % 32));
            for &byte in bytes {
                if utf8::CONTINUATION.contains(byte) {
                    continue;
                }
                let group = &mut holding[usize::from(byte)];
                if group.is_empty() {
                    group.resize(words, 0);
                }
                group[word] |= bit;
            }
        }
        let mut wide = vec![0u32; words];
        for group in &holding[WIDE + 1..] {
            for (all, word) in wide.iter_mut().zip(group) {
                *all |= word;
            }
        }
        holding[WIDE] = wide;
        let mut by_chars: Vec<Bits> = Vec::with_capacity(lengths.len());
        let mut so_far = vec![0u32; words];
        let mut count = 0;
        for tokens in lengths {
            count += tokens.len();
            for token in tokens {
                so_far[token as usize / 32] |= 1 << (token % 32);
            }
            by_chars.push(Bits {
                words: so_far.as_slice().into(),
                count,
            });
        }
        let (nodes, leaving, far_nodes) = plain_nodes(trie);
        let (blank_tokens, blank_nodes) = blank_nodes(trie);
        let rest = Trie::new(entries.filter(|entry| entry.chars == 0))?;
        Ok(Self {
            by_chars,
            holding,
            longest,
            rest,
            nodes,
            leaving,
            far_nodes,
            blank_tokens,
            blank_nodes,
            classes: Mutex::default(),
        })
    }

    /// The trie of the tokens that are not plain.
    pub(crate) fn rest(&self) -> &Trie {
        &self.rest
    }

    /// Characters of the longest plain token.
    pub(crate) fn longest(&self) -> u32 {
        self.longest
    }

    /// The tokens of at most `chars` characters, all of a class.
    pub(crate) fn class(&self, class: &ByteSet, chars: u32) -> Bits {
        let chars = chars.min(MAX_CHARS + 1);
        if *class == Plain::ALL {
            return self.by_chars[chars as usize].clone();
        }
        let key = (*class, chars);
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bits) = classes.get(&key) {
            return bits.clone();
        }
        let mut words = self.by_chars[chars as usize].words.to_vec();
        let wide = !class.intersection(&ByteSet::WIDE).is_empty();
        let foreign = match wide {
            true => Plain::ALL.difference(class),
            false => Plain::ASCII
                .difference(class)
                .union(&ByteSet::of(WIDE as u8)),
        };
        for group in foreign.iter().map(usize::from) {
            for (word, holding) in words.iter_mut().zip(&self.holding[group]) {
                *word &= !holding;
            }
        }
        let count = words.iter().map(|word| word.count_ones() as usize).sum();
        let bits = Bits {
            words: words.into(),
            count,
        };
        if classes.len() * size_of_val(&*bits.words) > MAX_CLASS_BYTES {
            classes.clear();
        }
        classes.insert(key, bits.clone());
        bits
    }

    /// The nodes whose own byte is `byte` and that are reached from the root by plain characters before it, where the
    /// byte is well-formed.
    pub(crate) fn nodes(&self, byte: u8) -> &[NodeId] {
        self.nodes.of(byte)
    }

    /// The nodes whose own byte is not plain and that are reached by plain characters, at least one, of which the first
    /// byte is `first`.
    pub(crate) fn leaving(&self, first: u8) -> &[NodeId] {
        self.leaving.of(first)
    }

    /// The tokens of blanks only, and the nodes that go on with something else behind blanks.
    pub(crate) fn blank(&self) -> (&[u32], &NodesByByte) {
        (&self.blank_tokens, &self.blank_nodes)
    }

    /// The nodes that are reached by more than [`MAX_CHARS`] plain characters before their own byte.
    pub(crate) fn far_nodes(&self) -> &[NodeId] {
        &self.far_nodes
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let bits: usize = self
            .by_chars
            .iter()
            .map(|bits| size_of_val(&*bits.words))
            .sum();
        let holding: usize = self.holding.iter().map(|group| 4 * group.len()).sum();
        bits + holding + 4 * (self.nodes.nodes.len() + self.leaving.nodes.len()) + self.rest.bytes()
    }
}

/// Nodes grouped by their own byte.
#[derive(Debug)]
pub(crate) struct NodesByByte {
    nodes: Vec<NodeId>,
    from: Box<[u32; 257]>,
}

impl NodesByByte {
    fn new(trie: &Trie, nodes: &[NodeId]) -> Self {
        Self::grouped(nodes, |node| trie.byte(node))
    }

    fn grouped(nodes: &[NodeId], byte_of: impl Fn(NodeId) -> u8) -> Self {
        let mut from = Box::new([0u32; 257]);
        for &node in nodes {
            from[usize::from(byte_of(node)) + 1] += 1;
        }
        for byte in 0..256 {
            from[byte + 1] += from[byte];
        }
        let mut at = from.clone();
        let mut grouped = vec![0; nodes.len()];
        for &node in nodes {
            let slot = &mut at[usize::from(byte_of(node))];
            grouped[*slot as usize] = node;
            *slot += 1;
        }
        Self {
            nodes: grouped,
            from,
        }
    }

    /// The nodes of a byte.
    #[inline]
    pub(crate) fn of(&self, byte: u8) -> &[NodeId] {
        let byte = usize::from(byte);
        &self.nodes[self.from[byte] as usize..self.from[byte + 1] as usize]
    }
}

/// The nodes whose parent is reached by plain characters, as far as they are well-formed; those of them that are not
/// plain and have a byte before them, by the first one; and those that have
/// more than [`MAX_CHARS`] characters before them.
fn plain_nodes(trie: &Trie) -> (NodesByByte, NodesByByte, Vec<NodeId>) {
    let mut reached: Vec<NodeId> = Vec::with_capacity(trie.len());
    let mut leaving: Vec<NodeId> = Vec::new();
    let mut far: Vec<NodeId> = Vec::new();
    // Per depth: place in the character and number of characters so far.
    let mut path: Vec<(Utf8State, u32)> = vec![(utf8::START, 0)];
    let mut node = ROOT + 1;
    let end = trie.end(ROOT);
    while node < end {
        let byte = trie.byte(node);
        path.truncate(trie.depth(node));
        let (state, chars) = path.last().copied().unwrap_or((utf8::START, 0));
        let Some(next) = utf8::step(state, byte) else {
            // Ill-formed in every text.
            node = trie.end(node);
            continue;
        };
        reached.push(node);
        if chars > MAX_CHARS {
            far.push(node);
        }
        if byte >= 0x80 || Plain::ASCII.contains(byte) {
            path.push((next, chars + u32::from(state == utf8::START)));
            node += 1;
        } else {
            if trie.depth(node) > 1 {
                leaving.push(node);
            }
            node = trie.end(node);
        }
    }
    // Nodes stand in depth-first order: the root's child above one is the last that is not behind it.
    let firsts: Vec<NodeId> = trie
        .first_bytes()
        .iter()
        .map(|byte| trie.root_child(byte))
        .collect();
    let first_of = |node: NodeId| {
        let above = firsts.partition_point(|&first| first <= node);
        trie.byte(firsts[above.saturating_sub(1)])
    };
    let leaving = NodesByByte::grouped(&leaving, first_of);
    (NodesByByte::new(trie, &reached), leaving, far)
}

/// The tokens of blanks only, and the nodes behind blanks only that are none.
fn blank_nodes(trie: &Trie) -> (Vec<u32>, NodesByByte) {
    let mut tokens = Vec::new();
    let mut leaving = Vec::new();
    let mut node = ROOT + 1;
    let end = trie.end(ROOT);
    while node < end {
        if BLANKS.contains(trie.byte(node)) {
            tokens.extend_from_slice(trie.tokens_at(node));
            node += 1;
        } else {
            leaving.push(node);
            node = trie.end(node);
        }
    }
    (tokens, NodesByByte::new(trie, &leaving))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_tokens_are_those_that_stand_for_themselves() {
        assert_eq!(plain_chars(b"abc def"), Some(7));
        assert_eq!(plain_chars("äö".as_bytes()), Some(2));
        assert_eq!(
            plain_chars(b"a\xc3"),
            Some(2),
            "an unfinished character counts"
        );
        for other in [&b"a\"b"[..], b"\\", b"\n", b"\xa4b", b"\xff", b"\xc3\xc3"] {
            assert_eq!(plain_chars(other), None, "{other:?}");
        }
    }
}
