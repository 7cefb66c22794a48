//! Stop strings on a stream of text.

use std::collections::VecDeque;

use crate::error::SamplingError;

/// Finds stop strings in text that arrives in pieces.
///
/// The earliest end wins, then the longest match; text from the match on is cut. Text that may be the
/// beginning of a stop string is held back until it is decided. Works on bytes, with an Aho–Corasick
/// automaton: each byte is looked at once.
///
/// ```
/// use mx_sampling::{StopMatcher, Stopped};
///
/// let mut stop = StopMatcher::new(&["END"])?;
/// assert_eq!(stop.push(b"the E"), (b"the ".to_vec(), None));
/// assert_eq!(stop.push(b"ND of it"), (vec![], Some(Stopped { index: 0 })));
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StopMatcher {
    nodes: Vec<Node>,
    at: usize,
    held: Vec<u8>,
    stopped: Option<Stopped>,
    lengths: Vec<usize>,
}

/// A stop string was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Index of the stop string, as given to [`StopMatcher::new`].
    pub index: usize,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Node {
    children: Vec<(u8, u32)>,
    fail: u32,
    depth: usize,
    /// The longest stop string that ends here, by failure links too.
    ends: Option<usize>,
}

impl StopMatcher {
    /// A matcher for these strings; the lower index wins between equal ones.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Empty`] for an empty stop string.
    pub fn new<S: AsRef<[u8]>>(stops: &[S]) -> Result<Self, SamplingError> {
        let mut nodes = vec![Node::default()];
        let mut lengths = Vec::with_capacity(stops.len());
        for (index, stop) in stops.iter().enumerate() {
            let stop = stop.as_ref();
            if stop.is_empty() {
                return Err(SamplingError::Empty {
                    name: "stop string",
                });
            }
            lengths.push(stop.len());
            let mut at = 0;
            for &byte in stop {
                at = match child(&nodes, at, byte) {
                    Some(next) => next,
                    None => {
                        let depth = nodes[at].depth + 1;
                        nodes.push(Node {
                            depth,
                            ..Node::default()
                        });
                        let next = nodes.len() - 1;
                        nodes[at].children.push((byte, next as u32));
                        next
                    }
                };
            }
            nodes[at].ends.get_or_insert(index);
        }
        let mut queue: VecDeque<usize> = nodes[0]
            .children
            .iter()
            .map(|(_, to)| *to as usize)
            .collect();
        while let Some(at) = queue.pop_front() {
            let fail = nodes[at].fail as usize;
            nodes[at].ends = nodes[at].ends.or(nodes[fail].ends);
            for (byte, to) in nodes[at].children.clone() {
                nodes[to as usize].fail = follow(&nodes, fail, byte) as u32;
                queue.push_back(to as usize);
            }
        }
        Ok(Self {
            nodes,
            at: 0,
            held: Vec::new(),
            stopped: None,
            lengths,
        })
    }

    /// Takes in a piece of text. Returns what may be shown now, and the stop string once one is found; after
    /// that nothing more is taken in.
    pub fn push(&mut self, piece: &[u8]) -> (Vec<u8>, Option<Stopped>) {
        if self.stopped.is_some() {
            return (Vec::new(), self.stopped);
        }
        let mut shown = std::mem::take(&mut self.held);
        for &byte in piece {
            shown.push(byte);
            self.at = follow(&self.nodes, self.at, byte);
            if let Some(index) = self.nodes[self.at].ends {
                shown.truncate(shown.len() - self.lengths[index]);
                self.stopped = Some(Stopped { index });
                return (shown, self.stopped);
            }
        }
        self.held = shown.split_off(shown.len() - self.nodes[self.at].depth);
        (shown, None)
    }

    /// The text that was held back, when the stream is over.
    pub fn finish(&mut self) -> Vec<u8> {
        self.at = 0;
        std::mem::take(&mut self.held)
    }
}

fn child(nodes: &[Node], at: usize, byte: u8) -> Option<usize> {
    nodes[at]
        .children
        .iter()
        .find(|(other, _)| *other == byte)
        .map(|(_, to)| *to as usize)
}

fn follow(nodes: &[Node], mut at: usize, byte: u8) -> usize {
    loop {
        match child(nodes, at, byte) {
            Some(next) => return next,
            None if at == 0 => return 0,
            None => at = nodes[at].fail as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn any_split_of_the_text_gives_the_same() {
        let stops = ["abcd", "bc!", "cdx", "\u{e9}"];
        for text in ["xxabcbc!zz", "ababcd", "cdcdx", "abc", "l\u{e9}", "nothing"] {
            let whole = {
                let mut stop = StopMatcher::new(&stops).unwrap();
                let (mut shown, stopped) = stop.push(text.as_bytes());
                shown.extend(stop.finish());
                (shown, stopped)
            };
            for cut in 0..=text.len() {
                let mut stop = StopMatcher::new(&stops).unwrap();
                let (mut shown, _) = stop.push(&text.as_bytes()[..cut]);
                let (more, stopped) = stop.push(&text.as_bytes()[cut..]);
                shown.extend(more);
                shown.extend(stop.finish());
                assert_eq!((shown, stopped), whole, "{text} cut at {cut}");
            }
        }
    }

    #[test]
    fn the_earliest_end_wins_then_the_longest() {
        let mut stop = StopMatcher::new(&["abcd", "bc", "zbc"]).unwrap();
        assert_eq!(
            stop.push(b"xabcd"),
            (b"xa".to_vec(), Some(Stopped { index: 1 }))
        );
        let mut stop = StopMatcher::new(&["abcd", "bc", "zbc"]).unwrap();
        assert_eq!(
            stop.push(b"xzbc"),
            (b"x".to_vec(), Some(Stopped { index: 2 }))
        );
        assert!(StopMatcher::new(&[""]).is_err());
    }
}
