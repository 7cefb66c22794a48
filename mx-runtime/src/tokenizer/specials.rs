//! Tokens that are recognised in a text before anything else: control tokens and added pieces.
//!
//! One automaton finds all of them, a second one only those that are not control tokens: encoding
//! with special tokens as text then costs no second copy of the tokenizer.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::utils::SysRegex;

use super::error::TokenizerError;
use super::{Segment, Specials};

/// A token that is matched in the text as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// The text that stands for it.
    pub content: String,
    /// Whether it is a control token, which user text must not be able to write.
    pub special: bool,
    /// Whether it is matched only between characters that belong to no word.
    pub single_word: bool,
    /// Whether it swallows white space before it.
    pub lstrip: bool,
    /// Whether it swallows white space behind it.
    pub rstrip: bool,
    /// Whether it is looked for in the normalised text instead of the text as given.
    pub normalized: bool,
}

impl AddedToken {
    /// A token matched literally, wherever it stands.
    #[must_use]
    pub fn literal(id: u32, content: impl Into<String>, special: bool) -> Self {
        Self {
            id,
            content: content.into(),
            special,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
        }
    }
}

/// All added tokens of a tokenizer, ready to be found in a text.
///
/// Matching is leftmost-longest.
#[derive(Default)]
pub struct AddedTokens {
    tokens: Vec<AddedToken>,
    raw: Pair,
    normalized: Pair,
    /// Literal contents of everything, for text that a chat template wrote.
    written: Finder,
    /// Literal contents of control tokens only, for text that a user wrote.
    special: Finder,
    first_characters: BTreeSet<char>,
    /// Characters that make a longer control token of a shorter one.
    extensions: BTreeSet<char>,
    word: Option<SysRegex>,
}

impl std::fmt::Debug for AddedTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddedTokens")
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

/// Where in the pipeline tokens are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Raw,
    Normalized,
}

/// A stretch of text: an added token, or text between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) range: Range<usize>,
    pub(crate) token: Option<u32>,
}

impl AddedTokens {
    /// Builds the automata. `normalize` gives the normalised content of tokens that are looked for
    /// in normalised text.
    pub(crate) fn new(
        tokens: Vec<AddedToken>,
        mut normalize: impl FnMut(&str) -> Result<String, TokenizerError>,
    ) -> Result<Self, TokenizerError> {
        let mut raw = PairBuilder::default();
        let mut normalized = PairBuilder::default();
        let mut written = FinderBuilder::default();
        let mut special = FinderBuilder::default();
        let mut first_characters = BTreeSet::new();
        for (at, token) in tokens.iter().enumerate() {
            let Some(first) = token.content.chars().next() else {
                continue;
            };
            if token.normalized {
                normalized.add(at, normalize(&token.content)?, token.special);
            } else {
                raw.add(at, token.content.clone(), token.special);
            }
            // A control token of one character cannot be told apart from that character in a text.
            let is_written = !token.special || token.content.chars().nth(1).is_some();
            if is_written && (token.special || !token.normalized) {
                written.add(at, token.content.clone());
            }
            if is_written && token.special {
                special.add(at, token.content.clone());
                first_characters.insert(first);
            }
        }
        let extensions = extensions(&special.patterns);
        let word = match tokens.iter().any(|token| token.single_word) {
            true => Some(
                SysRegex::new(r"\w").map_err(|e| TokenizerError::component("word pattern", e))?,
            ),
            false => None,
        };
        Ok(Self {
            raw: raw.build()?,
            normalized: normalized.build()?,
            written: written.build()?,
            special: special.build()?,
            tokens,
            first_characters,
            extensions,
            word,
        })
    }

    /// The tokens, in the order of their definition.
    #[must_use]
    pub fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// Cuts a text at the control tokens in it. What stands between them is not encoded yet.
    ///
    /// This is meant for text that is trusted to write control tokens, such as the output of a chat
    /// template. Control tokens of a single character stay text.
    #[must_use]
    pub fn split_specials(&self, text: &str) -> Vec<Segment> {
        let mut segments = Vec::new();
        let push_text = |segments: &mut Vec<Segment>, range: Range<usize>| {
            if !range.is_empty() {
                segments.push(Segment::Text(text[range].to_owned()));
            }
        };
        let mut start = 0;
        for (range, at) in self.matches(&self.written, text) {
            let token = &self.tokens[at];
            if token.special {
                push_text(&mut segments, start..range.start);
                start = range.end;
                segments.push(Segment::Special(token.id));
            } else {
                // White space that a control token swallowed and that is a token all the same.
                start = start.min(range.start);
            }
        }
        push_text(&mut segments, start..text.len());
        segments
    }

    /// The first control token written in `text` at byte `from` or later.
    #[must_use]
    pub fn find_special(&self, text: &str, from: usize) -> Option<Range<usize>> {
        let found = self.special.automaton.as_ref()?.find(text.get(from..)?)?;
        Some(from + found.start()..from + found.end())
    }

    /// Whether the text of some control token starts with this character.
    #[must_use]
    pub fn starts_special(&self, character: char) -> bool {
        self.first_characters.contains(&character)
    }

    /// Whether this character behind some control token makes another one of it.
    #[must_use]
    pub fn extends_special(&self, character: char) -> bool {
        self.extensions.contains(&character)
    }

    /// Cuts a text into added tokens and the text between them, which together cover it.
    pub(crate) fn cut(&self, text: &str, stage: Stage, specials: Specials) -> Vec<Stretch> {
        let pair = match stage {
            Stage::Raw => &self.raw,
            Stage::Normalized => &self.normalized,
        };
        let finder = match specials {
            Specials::Parse => &pair.all,
            Specials::AsText => &pair.plain,
        };
        let mut stretches = Vec::new();
        let mut start = 0;
        for (range, at) in self.matches(finder, text) {
            if start < range.start {
                stretches.push(Stretch {
                    range: start..range.start,
                    token: None,
                });
            }
            start = range.end;
            stretches.push(Stretch {
                range,
                token: Some(self.tokens[at].id),
            });
        }
        if start < text.len() || stretches.is_empty() {
            stretches.push(Stretch {
                range: start..text.len(),
                token: None,
            });
        }
        stretches
    }

    /// Matches in order, with the white space that their tokens swallow. Like in the tokenizers that
    /// models were trained with, a token made of white space is found even where the one before it
    /// has swallowed it; only then do ranges overlap.
    fn matches(&self, finder: &Finder, text: &str) -> Vec<(Range<usize>, usize)> {
        let mut found = Vec::new();
        let Some(automaton) = &finder.automaton else {
            return found;
        };
        let mut end_before = 0;
        for hit in automaton.find_iter(text) {
            let at = finder.tokens[hit.pattern().as_usize()];
            let token = &self.tokens[at];
            let (mut start, mut end) = (hit.start(), hit.end());
            if token.single_word && self.touches_word(text, start..end) {
                continue;
            }
            if token.lstrip {
                start = text[..start].trim_end().len().max(end_before);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            found.push((start..end, at));
            end_before = end;
        }
        found
    }

    fn touches_word(&self, text: &str, range: Range<usize>) -> bool {
        let neighbours = [
            text[..range.start].chars().next_back(),
            text[range.end..].chars().next(),
        ];
        neighbours.into_iter().flatten().any(|character| {
            let mut utf8 = [0; 4];
            let character = &*character.encode_utf8(&mut utf8);
            self.word
                .as_ref()
                .is_some_and(|word| word.find_iter(character).next().is_some())
        })
    }
}

fn extensions(contents: &[String]) -> BTreeSet<char> {
    let known: HashSet<&str> = contents.iter().map(String::as_str).collect();
    let behind_known = |content: &'_ str| -> Vec<char> {
        let characters = content.char_indices().skip(1);
        characters
            .filter(|(at, _)| known.contains(&content[..*at]))
            .map(|(_, c)| c)
            .collect()
    };
    contents
        .iter()
        .flat_map(|content| behind_known(content))
        .collect()
}

/// The automaton over all tokens of a stage, and the one over those that are not control tokens.
#[derive(Default)]
struct Pair {
    all: Finder,
    plain: Finder,
}

/// An automaton with the token that each of its patterns stands for.
#[derive(Default)]
struct Finder {
    automaton: Option<AhoCorasick>,
    tokens: Vec<usize>,
}

#[derive(Default)]
struct PairBuilder {
    all: FinderBuilder,
    plain: FinderBuilder,
}

impl PairBuilder {
    fn add(&mut self, token: usize, pattern: String, special: bool) {
        if !special {
            self.plain.add(token, pattern.clone());
        }
        self.all.add(token, pattern);
    }

    fn build(self) -> Result<Pair, TokenizerError> {
        Ok(Pair {
            all: self.all.build()?,
            plain: self.plain.build()?,
        })
    }
}

#[derive(Default)]
struct FinderBuilder {
    patterns: Vec<String>,
    tokens: Vec<usize>,
}

impl FinderBuilder {
    fn add(&mut self, token: usize, pattern: String) {
        // An empty pattern matches everywhere and stands for nothing.
        if !pattern.is_empty() {
            self.patterns.push(pattern);
            self.tokens.push(token);
        }
    }

    fn build(self) -> Result<Finder, TokenizerError> {
        if self.patterns.is_empty() {
            return Ok(Finder::default());
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&self.patterns)
            .map_err(|e| TokenizerError::component("matcher of added tokens", e))?;
        Ok(Finder {
            automaton: Some(automaton),
            tokens: self.tokens,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tokens(list: Vec<AddedToken>) -> AddedTokens {
        AddedTokens::new(list, |text| Ok(text.to_owned())).unwrap()
    }

    fn ids(tokens: &AddedTokens, text: &str, specials: Specials) -> Vec<(String, Option<u32>)> {
        let cut = tokens.cut(text, Stage::Raw, specials);
        cut.into_iter()
            .map(|s| (text[s.range].to_owned(), s.token))
            .collect()
    }

    #[test]
    fn the_longest_token_wins_and_text_between_is_kept() {
        let found = tokens(vec![
            AddedToken::literal(1, "\n", false),
            AddedToken::literal(2, "\n\n", false),
            AddedToken::literal(3, "<s>", true),
        ]);
        let cut = ids(&found, "a\n\n\n<s>b", Specials::Parse);
        let wanted = [
            ("a", None),
            ("\n\n", Some(2)),
            ("\n", Some(1)),
            ("<s>", Some(3)),
            ("b", None),
        ];
        assert_eq!(cut, wanted.map(|(text, id)| (text.to_owned(), id)));
    }

    #[test]
    fn control_tokens_are_text_when_not_parsed() {
        let found = tokens(vec![
            AddedToken::literal(1, "<b>", false),
            AddedToken::literal(2, "<b><s>", true),
        ]);
        let cut = ids(&found, "<b><s>", Specials::AsText);
        assert_eq!(cut, [("<b>".to_owned(), Some(1)), ("<s>".to_owned(), None)]);
    }

    #[test]
    fn white_space_and_word_rules() {
        let mut strip = AddedToken::literal(1, "<x>", true);
        strip.lstrip = true;
        strip.rstrip = true;
        let mut word = AddedToken::literal(2, "ab", false);
        word.single_word = true;
        let found = tokens(vec![strip, word]);
        let cut = ids(&found, "a  <x> \n<x>b ab cab", Specials::Parse);
        let wanted = [
            ("a", None),
            ("  <x> \n", Some(1)),
            ("<x>", Some(1)),
            ("b ", None),
            ("ab", Some(2)),
            (" cab", None),
        ];
        assert_eq!(cut, wanted.map(|(text, id)| (text.to_owned(), id)));
    }

    #[test]
    fn written_text_is_cut_at_control_tokens_only() {
        let found = tokens(vec![
            AddedToken::literal(1, "<s>", true),
            AddedToken::literal(2, "\n", false),
            AddedToken::literal(3, "#", true),
        ]);
        assert_eq!(
            found.split_specials("<s>a\n#<s>"),
            [
                Segment::Special(1),
                Segment::Text("a\n#".to_owned()),
                Segment::Special(1)
            ]
        );
        assert_eq!(found.find_special("x<s>", 0), Some(1..4));
        assert_eq!(found.find_special("x<s>", 2), None);
        assert!(found.starts_special('<') && !found.starts_special('#'));
    }
}
