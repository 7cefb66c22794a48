//! Several vocabularies as one: what an ensemble of models with different tokenizers decides about.
//!
//! # The law
//!
//! An entry of the union is a byte string that at least one member has as a token; all tokens that end a text are one
//! entry more. A member's law over the entries is its softmax at the temperature over its tokens of text and those that
//! end it, added up where several have the same bytes; entries that it lacks have probability 0. Control tokens besides
//! are left out. The members' laws are then combined as those of one vocabulary (average, product or majority: GaC
//! 2024), and penalties, mask and truncations act on the result.
//!
//! The entry that was chosen is appended to the text, and every member goes on from that text in its own tokens: the main
//! model in the tokens that were chosen, where it has them; an entry that it lacks becomes its tokenizer's tokens of
//! these bytes alone. Every other member reads prompt and text as its own tokenizer encodes them together, anew after
//! every entry, and its keys and values are kept as far as these tokens are the same.
//!
//! Entries with ids below the main model's vocabulary are its own tokens under their own ids; those of the others
//! follow. So masks, penalties and biases of the main model mean here what they mean everywhere.

use super::Loaded;
use super::prompt::Words;
use crate::error::Error;
use mx_constrain::{Constraint, ConstraintSpec, Limits, Vocabulary};
use mx_runtime::tokenizer::{
    AddedTokens, LeadingSpace, Segment, SpecialTokens, Specials, Tokenizer, TokenizerError,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Stands for no entry.
const NOWHERE: u32 = u32::MAX;

/// The entries of several vocabularies, and how each member reads a text.
#[derive(Debug)]
pub(crate) struct Union {
    tokenizer: Arc<UnionTokenizer>,
    members: Vec<Reader>,
    longest: usize,
    /// What becomes of a space at the start of the text.
    first_space: LeadingSpace,
}

/// One member: where its tokens stand in the union, and how it writes the text so far.
#[derive(Debug)]
struct Reader {
    tokenizer: Arc<dyn Tokenizer>,
    /// The entry of each token.
    map: Vec<u32>,
    /// The prompt, to be followed by the text; `None` for the main model, whose prompt is known as tokens.
    words: Option<Words>,
    /// The token of each single byte, for bytes that are no text yet.
    bytes: Vec<Option<u32>>,
}

impl Union {
    /// The union of the main model's vocabulary with those of others, each with the prompt in its own words.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model without a tokenizer.
    pub(crate) fn new(
        main: &Loaded,
        others: Vec<(&Loaded, Words)>,
        continued: bool,
    ) -> Result<Self, Error> {
        let first = tokenizer_of(main)?;
        let vocab = main.config().vocab;
        let end = main.eos_tokens().first().copied();
        let mut index: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut extra: Vec<Vec<u8>> = Vec::new();
        let mut map_of = |model: &Loaded, tokenizer: &Arc<dyn Tokenizer>, own: bool| {
            let eos = model.eos_tokens();
            let mut place = |token: u32| {
                if eos.contains(&token) {
                    return end.unwrap_or(NOWHERE);
                }
                let text =
                    (token as usize) < tokenizer.vocab_size() && !tokenizer.is_special(token);
                let bytes = tokenizer.token_bytes(token).filter(|_| text);
                let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
                    return NOWHERE;
                };
                if let Some(entry) = index.get(bytes) {
                    return *entry;
                }
                let entry = match own {
                    true => token,
                    false => {
                        extra.push(bytes.to_vec());
                        (vocab + extra.len() - 1) as u32
                    }
                };
                index.insert(bytes.to_vec(), entry);
                entry
            };
            let tokens = 0..model.config().vocab as u32;
            // A piece before the token of a single byte with the same bytes: a tokenizer writes the first.
            let spelled = |token: &u32| {
                let text = tokenizer.token_text(*token);
                text.is_some_and(|text| text.starts_with("<0x") && text.ends_with('>'))
            };
            let mut map = vec![NOWHERE; tokens.len()];
            for pass in [false, true] {
                for token in tokens.clone().filter(|token| spelled(token) == pass) {
                    map[token as usize] = place(token);
                }
            }
            map
        };
        let mut members = vec![Reader {
            bytes: single_bytes(&**first),
            map: map_of(main, first, true),
            tokenizer: Arc::clone(first),
            words: None,
        }];
        for (model, words) in others {
            let tokenizer = tokenizer_of(model)?;
            members.push(Reader {
                bytes: single_bytes(&**tokenizer),
                map: map_of(model, tokenizer, false),
                tokenizer: Arc::clone(tokenizer),
                words: Some(words),
            });
        }
        let longest = index.keys().map(Vec::len).max().unwrap_or(0);
        Ok(Union {
            tokenizer: Arc::new(UnionTokenizer {
                main: Arc::clone(first),
                vocab,
                extra,
            }),
            members,
            longest,
            first_space: match continued {
                true => LeadingSpace::Keep,
                false => first.leading_space(),
            },
        })
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    /// A constraint over the entries.
    ///
    /// # Errors
    /// [`Error::Constrain`] for a constraint that cannot be compiled.
    pub(crate) fn constraint(
        &self,
        spec: &ConstraintSpec,
        eos: &[u32],
    ) -> Result<Constraint, Error> {
        let text = |entry: &u32| !self.tokenizer.is_special(*entry);
        let bytes = |entry: u32| self.tokenizer.token_bytes(entry).filter(|_| text(&entry));
        let vocabulary = Vocabulary::new((0..self.len() as u32).map(bytes), eos)?;
        Ok(Constraint::compile(&vocabulary, spec, &Limits::default())?)
    }

    /// Bytes of the longest entry: as many tokens more at most has a member's text after it.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The entries as a tokenizer whose text is encoded in the main model's tokens.
    pub(crate) fn tokenizer(&self) -> Arc<dyn Tokenizer> {
        Arc::clone(&self.tokenizer) as Arc<dyn Tokenizer>
    }

    /// The law of member `member` over the entries at a temperature, from its logits, among the entries of the mask.
    pub(crate) fn law(
        &self,
        member: usize,
        line: &[f32],
        temperature: f64,
        allowed: impl Fn(usize) -> bool,
    ) -> Vec<f64> {
        let mut law = vec![0.0; self.len()];
        let Some(reader) = self.members.get(member) else {
            return law;
        };
        let places = || {
            let pairs = line.iter().zip(&reader.map);
            let placed = pairs.filter(|(_, entry)| **entry != NOWHERE);
            placed.filter(|(_, entry)| allowed(**entry as usize))
        };
        let max = places().map(|(x, _)| *x).fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            return law;
        }
        let mut total = 0.0;
        for (x, entry) in places() {
            let weight = (f64::from(x - max) / temperature).exp();
            if let Some(slot) = law.get_mut(*entry as usize) {
                *slot += weight;
                total += weight;
            }
        }
        law.iter_mut().for_each(|p| *p /= total);
        law
    }

    /// Some entries as tokens of the main model.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for bytes that its tokenizer has no way to express.
    pub(crate) fn main_tokens(&self, entries: &[u32]) -> Result<Vec<u32>, Error> {
        let mut tokens = Vec::with_capacity(entries.len());
        for entry in entries {
            match (self.tokenizer.extra(*entry), self.members.first()) {
                (Some(bytes), Some(main)) => tokens.extend(main.alone(bytes)?),
                _ => tokens.push(*entry),
            }
        }
        Ok(tokens)
    }

    /// The text of the entries that follow the prompt, as bytes.
    pub(crate) fn text(&self, entries: &[u32]) -> Vec<u8> {
        let text = |entry: &&u32| !self.tokenizer.is_special(**entry);
        let bytes = |entry: &u32| self.tokenizer.token_bytes(*entry).unwrap_or_default();
        let mut written: Vec<u8> = entries
            .iter()
            .filter(text)
            .flat_map(bytes)
            .copied()
            .collect();
        let most = match self.first_space {
            LeadingSpace::Keep => 0,
            LeadingSpace::Drop(most) => most,
            LeadingSpace::DropInFirstToken => entries.first().map_or(0, |entry| bytes(entry).len()),
        };
        let spaces = written.iter().take(most).take_while(|byte| **byte == b' ');
        written.drain(..spaces.count());
        written
    }

    /// Prompt and text in the tokens of member `member`; `None` for the main model.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a text that its tokenizer has no way to express.
    pub(crate) fn read(&self, member: usize, text: &[u8]) -> Result<Option<Vec<u32>>, Error> {
        match self.members.get(member) {
            Some(reader) => reader.read(text),
            None => Ok(None),
        }
    }
}

impl Reader {
    fn read(&self, text: &[u8]) -> Result<Option<Vec<u32>>, Error> {
        let Some(words) = &self.words else {
            return Ok(None);
        };
        let mut segments = words.segments.clone();
        for chunk in text.utf8_chunks() {
            match segments.last_mut() {
                Some(Segment::Text(last)) => last.push_str(chunk.valid()),
                _ if chunk.valid().is_empty() => {}
                _ => segments.push(Segment::Text(chunk.valid().to_owned())),
            }
            // A byte that the member has no token for is left out until it is part of a character.
            let tokens = chunk
                .invalid()
                .iter()
                .filter_map(|byte| self.bytes[usize::from(*byte)]);
            segments.extend(tokens.map(Segment::Special));
        }
        let mut tokens: Vec<u32> = words.first.into_iter().collect();
        tokens.extend(self.tokenizer.encode_segments(&segments)?);
        Ok(Some(tokens))
    }

    /// Some bytes in the member's tokens, as if nothing stood before them.
    fn alone(&self, bytes: &[u8]) -> Result<Vec<u32>, Error> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            let tokens = self.tokenizer.encode(text, Specials::AsText)?;
            if self.spells(&tokens, bytes) {
                return Ok(tokens);
            }
        }
        // A tokenizer that puts a space before a text, or bytes that are no text: byte by byte.
        let single = bytes.iter().map(|byte| self.bytes[usize::from(*byte)]);
        single.collect::<Option<Vec<u32>>>().ok_or_else(|| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            Error::unsupported(
                format!("the entry {text:?} of an ensemble"),
                "the main model's tokenizer has no way to write it",
            )
        })
    }

    fn spells(&self, tokens: &[u32], bytes: &[u8]) -> bool {
        let written = tokens.iter().flat_map(|token| {
            let bytes = self.tokenizer.token_bytes(*token);
            bytes.unwrap_or_default()
        });
        written.eq(bytes)
    }
}

fn tokenizer_of(model: &Loaded) -> Result<&Arc<dyn Tokenizer>, Error> {
    model.tokenizer().ok_or_else(|| {
        Error::unsupported(
            "an ensemble of different vocabularies",
            format!("{} has no tokenizer", model.name()),
        )
    })
}

/// The token of every single byte.
fn single_bytes(tokenizer: &dyn Tokenizer) -> Vec<Option<u32>> {
    let mut found = vec![None; 256];
    for token in 0..tokenizer.vocab_size() as u32 {
        if let Some([byte]) = tokenizer.token_bytes(token)
            && !tokenizer.is_special(token)
        {
            found[usize::from(*byte)].get_or_insert(token);
        }
    }
    found
}

/// The main model's tokenizer with the entries of the others behind its own.
#[derive(Debug)]
struct UnionTokenizer {
    main: Arc<dyn Tokenizer>,
    vocab: usize,
    extra: Vec<Vec<u8>>,
}

impl UnionTokenizer {
    fn extra(&self, id: u32) -> Option<&[u8]> {
        let at = (id as usize).checked_sub(self.vocab)?;
        self.extra.get(at).map(Vec::as_slice)
    }

    fn is_own(&self, id: u32) -> bool {
        (id as usize) < self.main.vocab_size()
    }
}

impl Tokenizer for UnionTokenizer {
    fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TokenizerError> {
        self.main.encode(text, specials)
    }

    fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<u32>, TokenizerError> {
        self.main.encode_segments(segments)
    }

    fn vocab_size(&self) -> usize {
        self.vocab + self.extra.len()
    }

    fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        match self.is_own(id) {
            true => self.main.token_bytes(id),
            false => self.extra(id),
        }
    }

    fn token_text(&self, id: u32) -> Option<&str> {
        match self.is_own(id) {
            true => self.main.token_text(id),
            false => std::str::from_utf8(self.extra(id)?).ok(),
        }
    }

    fn token_id(&self, piece: &str) -> Option<u32> {
        self.main.token_id(piece)
    }

    fn is_special(&self, id: u32) -> bool {
        self.is_own(id) && self.main.is_special(id)
    }

    fn special_tokens(&self) -> &SpecialTokens {
        self.main.special_tokens()
    }

    fn added_tokens(&self) -> &AddedTokens {
        self.main.added_tokens()
    }

    fn leading_space(&self) -> LeadingSpace {
        self.main.leading_space()
    }
}
