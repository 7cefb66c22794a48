//! Stop texts in a stream.

use crate::error::Error;
use mx_sampling::StopMatcher;

/// Finds stop texts in text that arrives in pieces, and never lets a part of one through.
///
/// The match that ends first counts, and of those that end together the longest. Text that may still become a stop
/// text is held back. The matching is [`StopMatcher`]'s; here its bytes are text.
#[derive(Debug, Clone)]
pub struct StopDetector {
    stops: Vec<String>,
    matcher: StopMatcher,
}

/// What a piece of text led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopStep {
    /// Text that is certain not to belong to a stop text.
    pub text: String,
    /// The stop text met, by its index; nothing after it counts.
    pub stopped: Option<usize>,
}

impl StopDetector {
    /// A detector of these texts.
    ///
    /// # Errors
    /// [`Error::Sampling`] for an empty text.
    pub fn new(stops: Vec<String>) -> Result<Self, Error> {
        let matcher = StopMatcher::new(&stops)?;
        Ok(StopDetector { stops, matcher })
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.stops.is_empty()
    }

    /// The stop text of an index.
    pub fn stop(&self, index: usize) -> Option<&str> {
        self.stops.get(index).map(String::as_str)
    }

    /// Takes the next piece; none counts after a stop text was met.
    pub fn push(&mut self, piece: &str) -> StopStep {
        let (text, stopped) = self.matcher.push(piece.as_bytes());
        StopStep {
            text: as_text(text),
            stopped: stopped.map(|stopped| stopped.index),
        }
    }

    /// The text still held back, when nothing more will come.
    pub fn finish(&mut self) -> String {
        as_text(self.matcher.finish())
    }
}

/// Bytes of the matcher as text: it takes whole characters, and what it holds back or cuts begins where a stop text
/// begins, so it never parts a character.
fn as_text(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(broken) => String::from_utf8_lossy(broken.as_bytes()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Text given out and stop met when `text` arrives in the given pieces.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let stops = stops.iter().map(|s| s.to_string()).collect();
        let mut detector = StopDetector::new(stops).unwrap();
        let mut text = String::new();
        for piece in pieces {
            let step = detector.push(piece);
            text += &step.text;
            if step.stopped.is_some() {
                return (text, step.stopped);
            }
        }
        (text + &detector.finish(), None)
    }

    #[test]
    fn cuts_at_the_match_that_ends_first() {
        assert_eq!(run(&["bcd", "c"], &["abcd"]), ("ab".to_owned(), Some(1)));
        assert_eq!(run(&["d", "bcd"], &["abcd"]), ("a".to_owned(), Some(1)));
        assert_eq!(run(&["xyz"], &["xyxyz!"]), ("xy".to_owned(), Some(0)));
    }

    #[test]
    fn every_split_gives_the_same() {
        let text = "naïve 🙂🙂 aab END";
        let stops = ["aab E", "🙂!", "ïv3"];
        let chars: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
        for &first in &chars {
            for &second in chars.iter().filter(|&&i| i >= first) {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(run(&stops, &pieces), ("naïve 🙂🙂 ".to_owned(), Some(0)));
            }
        }
    }

    #[test]
    fn what_never_becomes_a_stop_comes_out_in_the_end() {
        assert_eq!(
            run(&["<end>"], &["a <en", "d"]),
            ("a <end".to_owned(), None)
        );
        assert_eq!(run(&[], &["a", "b"]), ("ab".to_owned(), None));
    }

    #[test]
    fn agrees_with_a_search_of_the_whole_text() {
        let alphabet = ["a", "b", "ab", "é"];
        let mut state = 1u64;
        let mut next = |n: usize| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        for _ in 0..2000 {
            let word = |next: &mut dyn FnMut(usize) -> usize, most: usize| -> String {
                (0..next(most) + 1).map(|_| alphabet[next(4)]).collect()
            };
            let stops = [word(&mut next, 3), word(&mut next, 3)];
            let pieces: Vec<String> = (0..6).map(|_| word(&mut next, 2)).collect();
            let text = pieces.concat();
            let first = (1..=text.len())
                .filter(|&end| text.is_char_boundary(end))
                .find_map(|end| {
                    let lengths = stops.iter().filter(|s| text[..end].ends_with(s.as_str()));
                    lengths
                        .map(String::len)
                        .max()
                        .map(|n| text[..end - n].to_owned())
                });
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert_eq!(
                run(&stops, &pieces).0,
                first.unwrap_or(text),
                "{stops:?} {pieces:?}"
            );
        }
    }
}
