//! Strings that are named one by one, as a tree of bytes that is never built: a node is a range of a sorted list.

use super::node::KeyId;

/// A node: the first string below it, and the number of bytes that lead to it.
pub(super) type TrieNode = u64;

/// The node of texts that no string of the tree begins with.
pub(super) const OFF: TrieNode = TrieNode::MAX;

/// A tree of strings.
#[derive(Debug, Clone, Default)]
pub(super) struct Trie {
    strings: Vec<Box<str>>,
    keys: Vec<KeyId>,
    /// Number of allowed strings before each one, and in all.
    allowed: Vec<u32>,
}

fn node(low: usize, depth: usize) -> TrieNode {
    (low as u64) << 32 | depth as u64
}

fn low(node: TrieNode) -> usize {
    (node >> 32) as usize
}

fn depth(node: TrieNode) -> usize {
    (node & 0xffff_ffff) as usize
}

impl Trie {
    /// A tree of sorted strings without repetition.
    pub(super) fn new(
        strings: Vec<Box<str>>,
        keys: Vec<KeyId>,
        is_allowed: impl Fn(usize) -> bool,
    ) -> Self {
        let mut allowed = Vec::with_capacity(strings.len() + 1);
        let mut count = 0;
        allowed.push(0);
        for i in 0..strings.len() {
            count += u32::from(is_allowed(i));
            allowed.push(count);
        }
        Self {
            strings,
            keys,
            allowed,
        }
    }

    /// The node of the empty text.
    pub(super) fn root(&self) -> TrieNode {
        if self.strings.is_empty() { OFF } else { 0 }
    }

    /// The strings that begin with the text of a node: a range of the sorted list.
    pub(super) fn range(&self, at: TrieNode) -> std::ops::Range<usize> {
        if at == OFF {
            return 0..0;
        }
        let (low, depth) = (low(at), depth(at));
        let prefix = &self.strings[low].as_bytes()[..depth];
        let more =
            self.strings[low..].partition_point(|s| s.as_bytes().get(..depth) == Some(prefix));
        low..low + more
    }

    /// The node one byte further.
    pub(super) fn child(&self, at: TrieNode, byte: u8) -> TrieNode {
        let range = self.range(at);
        if range.is_empty() {
            return OFF;
        }
        let depth = depth(at);
        let below = &self.strings[range.clone()];
        let first = range.start
            + below.partition_point(|s| s.as_bytes().get(depth).is_none_or(|&b| b < byte));
        match self.strings.get(first).filter(|_| first < range.end) {
            Some(s) if s.as_bytes().get(depth) == Some(&byte) => node(first, depth + 1),
            _ => OFF,
        }
    }

    /// The bytes that lead on.
    pub(super) fn bytes(&self, at: TrieNode) -> crate::ByteSet {
        let mut bytes = crate::ByteSet::EMPTY;
        let range = self.range(at);
        let mut from = range.start;
        while from < range.end {
            let next = self.strings[from].as_bytes().get(depth(at)).copied();
            if let Some(byte) = next {
                bytes.insert(byte);
            }
            from += self.strings[from..range.end]
                .partition_point(|s| s.as_bytes().get(depth(at)).copied() <= next);
        }
        bytes
    }

    /// The string that ends at a node.
    pub(super) fn end(&self, at: TrieNode) -> Option<usize> {
        (at != OFF && self.strings[low(at)].len() == depth(at)).then(|| low(at))
    }

    /// Whether any allowed string lies at or below a node.
    pub(super) fn alive(&self, at: TrieNode) -> bool {
        let range = self.range(at);
        self.allowed[range.end] > self.allowed[range.start]
    }

    /// Whether one of the strings is allowed.
    pub(super) fn is_allowed(&self, index: usize) -> bool {
        self.allowed[index + 1] > self.allowed[index]
    }

    /// Whether any string is allowed.
    pub(super) fn any(&self) -> bool {
        self.allowed.last() > Some(&0)
    }

    /// The bytes that lead to a node.
    /// What a string has behind the text of a node that it lies below.
    pub(super) fn rest(&self, at: TrieNode, index: usize) -> &[u8] {
        self.strings[index]
            .as_bytes()
            .get(depth(at)..)
            .unwrap_or_default()
    }

    /// The bytes that lead to a node.
    pub(super) fn prefix(&self, at: TrieNode) -> &[u8] {
        match at {
            OFF => &[],
            _ => &self.strings[low(at)].as_bytes()[..depth(at)],
        }
    }

    /// All strings.
    pub(super) fn strings(&self) -> &[Box<str>] {
        &self.strings
    }

    /// The number of a string as a key.
    pub(super) fn key(&self, index: usize) -> KeyId {
        self.keys[index]
    }

    /// All strings as keys.
    pub(super) fn keys(&self) -> &[KeyId] {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_nodes() {
        let strings: Vec<Box<str>> = ["a", "ab", "abc", "b", "ü"].map(Into::into).to_vec();
        let trie = Trie::new(strings, vec![0; 5], |i| i == 2);
        let a = trie.child(trie.root(), b'a');
        let ab = trie.child(a, b'b');
        assert_eq!(
            (trie.end(a), trie.end(ab), trie.range(ab)),
            (Some(0), Some(1), 1..3)
        );
        assert_eq!(trie.child(ab, b'd'), OFF);
        assert!(trie.alive(ab) && !trie.alive(trie.child(trie.root(), b'b')));
        assert_eq!(
            trie.bytes(trie.root()),
            [b'a', b'b', 0xc3].into_iter().collect()
        );
        assert_eq!(trie.bytes(a), [b'b'].into_iter().collect());
    }
}
