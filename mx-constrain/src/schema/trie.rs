//! Strings that are named one by one, as a tree of bytes.

use super::node::KeyId;

/// The node of texts that no string of the tree begins with.
pub(super) const OFF: u32 = u32::MAX;

/// A tree of strings.
#[derive(Debug, Clone, Default)]
pub(super) struct Trie {
    nodes: Vec<TrieNode>,
    strings: Vec<Box<str>>,
    keys: Vec<KeyId>,
}

#[derive(Debug, Clone)]
struct TrieNode {
    children: Vec<(u8, u32)>,
    /// The strings below: a range of the sorted list.
    low: u32,
    high: u32,
    depth: u32,
    /// Whether any allowed string lies at or below.
    any: bool,
}

impl Trie {
    /// A tree of sorted strings without repetition.
    pub(super) fn new(strings: &[Box<str>], keys: &[KeyId], allowed: impl Fn(usize) -> bool) -> Self {
        let mut trie = Self { nodes: Vec::new(), strings: strings.to_vec(), keys: keys.to_vec() };
        if !strings.is_empty() {
            trie.nodes.push(TrieNode { children: Vec::new(), low: 0, high: strings.len() as u32, depth: 0, any: false });
            let mut at = 0;
            while at < trie.nodes.len() {
                trie.split(at);
                at += 1;
            }
            for node in &mut trie.nodes {
                node.any = (node.low..node.high).any(|i| allowed(i as usize));
            }
        }
        trie
    }

    /// Gives a node its children.
    fn split(&mut self, at: usize) {
        let TrieNode { low, high, depth, .. } = self.nodes[at];
        let mut from = low + u32::from(self.strings[low as usize].len() == depth as usize);
        while from < high {
            let byte = self.strings[from as usize].as_bytes()[depth as usize];
            let count = self.strings[from as usize..high as usize]
                .iter()
                .take_while(|s| s.as_bytes().get(depth as usize) == Some(&byte))
                .count() as u32;
            let child = self.nodes.len() as u32;
            self.nodes.push(TrieNode { children: Vec::new(), low: from, high: from + count, depth: depth + 1, any: false });
            self.nodes[at].children.push((byte, child));
            from += count;
        }
    }

    /// The node of the empty text.
    pub(super) fn root(&self) -> u32 {
        if self.nodes.is_empty() { OFF } else { 0 }
    }

    /// The node one byte further.
    pub(super) fn child(&self, node: u32, byte: u8) -> u32 {
        let Some(node) = self.nodes.get(node as usize) else { return OFF };
        node.children.iter().find(|(b, _)| *b == byte).map_or(OFF, |&(_, child)| child)
    }

    /// The bytes that lead on.
    pub(super) fn children(&self, node: u32) -> &[(u8, u32)] {
        self.nodes.get(node as usize).map_or(&[], |node| &node.children)
    }

    /// The strings that begin with the text of a node: a range of the sorted list.
    pub(super) fn range(&self, node: u32) -> std::ops::Range<usize> {
        self.nodes.get(node as usize).map_or(0..0, |node| node.low as usize..node.high as usize)
    }

    /// The string that ends at a node.
    pub(super) fn end(&self, node: u32) -> Option<usize> {
        let node = self.nodes.get(node as usize)?;
        let low = node.low as usize;
        (self.strings[low].len() == node.depth as usize).then_some(low)
    }

    /// Whether any allowed string lies at or below a node.
    pub(super) fn alive(&self, node: u32) -> bool {
        self.nodes.get(node as usize).is_some_and(|node| node.any)
    }

    /// Whether any string is allowed.
    pub(super) fn any(&self) -> bool {
        self.alive(0)
    }

    /// The bytes that lead to a node.
    pub(super) fn prefix(&self, node: u32) -> &[u8] {
        match self.nodes.get(node as usize) {
            Some(node) => &self.strings[node.low as usize].as_bytes()[..node.depth as usize],
            None => &[],
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
