//! Token bytes as a trie in depth-first order, laid flat.

use crate::{ByteSet, ConstrainError};

/// Index of a node. The children of a node follow it, each with everything below it before the next.
pub(crate) type NodeId = u32;

/// The node without bytes.
pub(crate) const ROOT: NodeId = 0;

/// Most nodes a trie may have: a node's end and byte share one word.
const MAX_NODES: usize = 1 << 24;
/// Tokens below a node from which on facts about all of them are kept.
const HEAVY_TOKENS: u32 = 12;

/// One node: 8 bytes.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// First node behind everything below this one, and the byte that leads here.
    end_byte: u32,
    /// Tokens that stand before this node's own in [`Trie::tokens`].
    first_token: u32,
}

/// What is true of everything strictly below a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Below {
    /// The bytes that occur.
    pub(crate) bytes: ByteSet,
    /// The longest way down, in bytes.
    pub(crate) height: u32,
    /// Whether every token at and below the node is plain.
    pub(crate) plain: bool,
    /// The bytes of the node's children.
    pub(crate) children: ByteSet,
    /// Where their nodes begin in the list of children.
    first_child: u32,
}

/// A token on its way into a trie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) token: u32,
    /// Number of characters of a plain token; 0 for others.
    pub(crate) chars: u32,
}

/// The trie. Node [`ROOT`] is always there.
#[derive(Debug, Clone)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    depths: Vec<u32>,
    /// Token ids in the order of their nodes; ids with the same bytes are neighbours.
    tokens: Vec<u32>,
    root_children: Box<[NodeId; 256]>,
    first_bytes: ByteSet,
    /// One bit a node: whether [`Below`] is kept for it, and how many are kept before each word.
    heavy: Vec<u64>,
    heavy_before: Vec<u32>,
    below: Vec<Below>,
    /// Children of the nodes that have a [`Below`], ascending by their bytes.
    children: Vec<NodeId>,
}

/// Facts that are gathered on the way up.
#[derive(Clone, Copy)]
struct Gather {
    node: NodeId,
    bytes: ByteSet,
    height: u32,
    plain: bool,
}

impl Trie {
    /// The trie of entries that ascend by their bytes, none of which is empty.
    pub(crate) fn new<'a>(
        entries: impl IntoIterator<Item = Entry<'a>>,
    ) -> Result<Self, ConstrainError> {
        let mut trie = Self {
            nodes: vec![Node {
                end_byte: 0,
                first_token: 0,
            }],
            depths: vec![0],
            tokens: Vec::new(),
            root_children: Box::new([ROOT; 256]),
            first_bytes: ByteSet::EMPTY,
            heavy: Vec::new(),
            heavy_before: Vec::new(),
            below: Vec::new(),
            children: Vec::new(),
        };
        let mut heavy: Vec<(NodeId, Below)> = Vec::new();
        let mut path = vec![Gather {
            node: ROOT,
            bytes: ByteSet::EMPTY,
            height: 0,
            plain: true,
        }];
        let mut last: &[u8] = &[];
        for Entry {
            bytes,
            token,
            chars,
        } in entries
        {
            let shared = bytes.iter().zip(last).take_while(|(a, b)| a == b).count();
            while path.len() > shared + 1 {
                trie.leave(&mut path, &mut heavy);
            }
            for &byte in &bytes[shared..] {
                if trie.nodes.len() == MAX_NODES {
                    return Err(ConstrainError::Vocabulary {
                        reason: "the tokens have too many bytes together",
                        given: trie.nodes.len() as u64,
                    });
                }
                let node = trie.nodes.len() as NodeId;
                if path.len() == 1 {
                    trie.root_children[usize::from(byte)] = node;
                    trie.first_bytes.insert(byte);
                }
                trie.nodes.push(Node {
                    end_byte: u32::from(byte),
                    first_token: trie.tokens.len() as u32,
                });
                trie.depths.push(path.len() as u32);
                path.push(Gather {
                    node,
                    bytes: ByteSet::EMPTY,
                    height: 0,
                    plain: true,
                });
            }
            trie.tokens.push(token);
            if let Some(here) = path.last_mut() {
                here.plain &= chars > 0;
            }
            last = bytes;
        }
        while path.len() > 1 {
            trie.leave(&mut path, &mut heavy);
        }
        let end = trie.nodes.len() as u32;
        trie.nodes[0].end_byte = end << 8;
        // Behind the last node, so that every node has a successor that tells where its tokens end.
        trie.nodes.push(Node {
            end_byte: (end + 1) << 8,
            first_token: trie.tokens.len() as u32,
        });
        trie.index_heavy(heavy);
        Ok(trie)
    }

    fn leave(&mut self, path: &mut Vec<Gather>, heavy: &mut Vec<(NodeId, Below)>) {
        let Some(done) = path.pop() else { return };
        let end = self.nodes.len() as u32;
        let node = &mut self.nodes[done.node as usize];
        let byte = (node.end_byte & 0xff) as u8;
        node.end_byte = end << 8 | u32::from(byte);
        if self.tokens.len() as u32 - node.first_token >= HEAVY_TOKENS {
            let first_child = self.children.len() as u32;
            let mut children = ByteSet::EMPTY;
            let mut child = done.node + 1;
            while child < end {
                children.insert(self.byte(child));
                self.children.push(child);
                child = self.end(child);
            }
            let Gather {
                bytes,
                height,
                plain,
                ..
            } = done;
            heavy.push((
                done.node,
                Below {
                    bytes,
                    height,
                    plain,
                    children,
                    first_child,
                },
            ));
        }
        if let Some(parent) = path.last_mut() {
            parent.bytes = parent.bytes.union(&done.bytes);
            parent.bytes.insert(byte);
            parent.height = parent.height.max(done.height + 1);
            parent.plain &= done.plain;
        }
    }

    fn index_heavy(&mut self, mut heavy: Vec<(NodeId, Below)>) {
        heavy.sort_unstable_by_key(|&(node, _)| node);
        self.heavy = vec![0; self.nodes.len().div_ceil(64)];
        for &(node, _) in &heavy {
            self.heavy[node as usize / 64] |= 1 << (node % 64);
        }
        let mut before = 0;
        self.heavy_before = self
            .heavy
            .iter()
            .map(|word| {
                let here = before;
                before += word.count_ones();
                here
            })
            .collect();
        self.below = heavy.into_iter().map(|(_, below)| below).collect();
    }

    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// The first bytes of tokens.
    #[inline]
    pub(crate) fn first_bytes(&self) -> &ByteSet {
        &self.first_bytes
    }

    /// The child of the root for a byte; [`ROOT`] when there is none.
    #[inline]
    pub(crate) fn root_child(&self, byte: u8) -> NodeId {
        self.root_children[usize::from(byte)]
    }

    /// The first node behind everything below `node`.
    #[inline]
    pub(crate) fn end(&self, node: NodeId) -> NodeId {
        self.nodes[node as usize].end_byte >> 8
    }

    /// The byte that leads to `node`.
    #[inline]
    pub(crate) fn byte(&self, node: NodeId) -> u8 {
        (self.nodes[node as usize].end_byte & 0xff) as u8
    }

    /// Number of bytes that lead to `node`.
    #[inline]
    pub(crate) fn depth(&self, node: NodeId) -> usize {
        self.depths[node as usize] as usize
    }

    /// The tokens that end at `node`.
    #[inline]
    pub(crate) fn tokens_at(&self, node: NodeId) -> &[u32] {
        let node = node as usize;
        &self.tokens
            [self.nodes[node].first_token as usize..self.nodes[node + 1].first_token as usize]
    }

    /// The tokens that end at `node` or below it. Never empty but for an empty trie.
    #[inline]
    pub(crate) fn tokens_from(&self, node: NodeId) -> &[u32] {
        let end = self.end(node) as usize;
        &self.tokens
            [self.nodes[node as usize].first_token as usize..self.nodes[end].first_token as usize]
    }

    /// What is true of everything below `node`, where enough stands there to be worth knowing.
    #[inline]
    pub(crate) fn below(&self, node: NodeId) -> Option<&Below> {
        let (word, bit) = (node as usize / 64, node % 64);
        let bits = self.heavy[word];
        if bits >> bit & 1 == 0 {
            return None;
        }
        let rank = self.heavy_before[word] + (bits & ((1 << bit) - 1)).count_ones();
        self.below.get(rank as usize)
    }

    /// The child of the node that `below` belongs to, for one of its [`children`](Below::children).
    #[inline]
    pub(crate) fn child_below(&self, below: &Below, byte: u8) -> NodeId {
        self.children[below.first_child as usize + below.children.rank(byte)]
    }

    /// The child of `node` for a byte.
    pub(crate) fn child(&self, node: NodeId, byte: u8) -> Option<NodeId> {
        if node == ROOT {
            return Some(self.root_child(byte)).filter(|&child| child != ROOT);
        }
        if let Some(below) = self.below(node) {
            let known = below.children.contains(byte);
            return known.then(|| self.child_below(below, byte));
        }
        let end = self.end(node);
        let mut child = node + 1;
        while child < end {
            if self.byte(child) == byte {
                return Some(child);
            }
            child = self.end(child);
        }
        None
    }

    /// Some token whose bytes lead to or through `node`.
    #[inline]
    pub(crate) fn any_token(&self, node: NodeId) -> Option<u32> {
        self.tokens_from(node).first().copied()
    }

    /// The node that some bytes lead to.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<NodeId> {
        bytes
            .iter()
            .try_fold(ROOT, |node, &byte| self.child(node, byte))
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.len() * 12
            + self.tokens.len() * 4
            + self.heavy.len() * 12
            + self.below.len() * size_of::<Below>()
            + self.children.len() * 4
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entries(texts: &[&'static str]) -> Vec<Entry<'static>> {
        let mut sorted: Vec<_> = texts.iter().enumerate().collect();
        sorted.sort_by_key(|(_, text)| text.as_bytes());
        sorted
            .into_iter()
            .map(|(token, text)| Entry {
                bytes: text.as_bytes(),
                token: token as u32,
                chars: if text.contains('"') {
                    0
                } else {
                    text.len() as u32
                },
            })
            .collect()
    }

    #[test]
    fn nodes_stand_in_depth_first_order() {
        let trie = Trie::new(entries(&["ab", "a", "b", "abc", "ad", "a"])).unwrap();
        assert_eq!(trie.len(), 6);
        let a = trie.find(b"a").unwrap();
        assert_eq!(trie.tokens_at(a), [1, 5]);
        let mut below: Vec<u32> = trie.tokens_from(a).to_vec();
        below.sort_unstable();
        assert_eq!(below, [0, 1, 3, 4, 5]);
        assert_eq!(trie.tokens_from(ROOT).len(), 6);
        assert_eq!(trie.depth(trie.find(b"abc").unwrap()), 3);
        assert_eq!(trie.find(b"x"), None);
        assert_eq!(trie.find(b"abx"), None);
        assert_eq!(trie.first_bytes().to_string(), "[a-b]");
    }

    #[test]
    fn heavy_nodes_know_what_is_below() {
        let texts: Vec<String> = ('a'..='z').map(|c| format!("x{c}{c}")).collect();
        let leaked: Vec<&'static str> = texts.into_iter().map(|text| &*text.leak()).collect();
        let trie = Trie::new(entries(&leaked)).unwrap();
        let x = trie.find(b"x").unwrap();
        let below = trie.below(x).unwrap();
        assert_eq!(
            (below.bytes.to_string().as_str(), below.height, below.plain),
            ("[a-z]", 2, true)
        );
        assert!(trie.below(trie.find(b"xa").unwrap()).is_none());
        let empty = Trie::new([]).unwrap();
        assert_eq!(empty.len(), 1);
        assert!(empty.tokens_from(ROOT).is_empty());
    }
}
