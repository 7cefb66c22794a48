//! The tokenizer itself, whatever file it came from.

use tokenizers::{
    NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Token, normalizer,
};

use super::decoder::LeadingSpace;
use super::error::TokenizerError;
use super::merges::Bpe;
use super::specials::{AddedTokens, Stage};
use super::vocabulary::Kind;
use super::{Segment, SpecialTokens, Specials, Tokenizer, TokenizerLimits};

/// Byte-level BPE or SentencePiece BPE.
///
/// Normalisers and pre-tokenizers are those of the `tokenizers` crate, so that a `tokenizer.json`
/// means here what it means there; vocabulary, merges and added tokens are our own, which keeps one
/// copy of each and makes every refusal a typed error.
///
/// # What differs from the `tokenizers` crate
///
/// - A text that the vocabulary cannot express is an error instead of being left out.
/// - Byte tokens that form no UTF-8 become U+FFFD by the usual rule (one per maximal invalid
///   sequence) instead of one per byte of the whole run.
/// - An added token stands for its own text, also where that text looks like the byte alphabet or
///   would be changed by the normaliser.
/// - With [`Specials::AsText`] a control token never hides another added token inside its text, and
///   no control token comes out, whatever the vocabulary holds.
#[derive(Debug)]
pub struct BpeTokenizer {
    pub(crate) model: Bpe,
    pub(crate) added: AddedTokens,
    pub(crate) pipeline: Pipeline,
    pub(crate) leading_space: LeadingSpace,
    pub(crate) special_tokens: SpecialTokens,
    pub(crate) chat_template: Option<String>,
    pub(crate) limits: TokenizerLimits,
}

/// What happens to a text before it is cut into tokens.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    pub(crate) normalizer: Option<NormalizerWrapper>,
    pub(crate) pre_tokenizer: Option<PreTokenizerWrapper>,
    /// Whether the pre-tokenizer treats the start of the whole text in its own way.
    pub(crate) start_matters: bool,
}

impl Pipeline {
    /// The text after normalisation.
    pub(crate) fn normalize(&self, text: &str) -> Result<String, TokenizerError> {
        let mut normalized = NormalizedString::from(text);
        self.normalize_in_place(&mut normalized)
            .map_err(|e| TokenizerError::component("normalizer", e))?;
        Ok(normalized.get().to_owned())
    }

    fn normalize_in_place(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        match &self.normalizer {
            Some(normalizer) => normalizer.normalize(text),
            None => Ok(()),
        }
    }
}

/// Stands before a text that is not the start of the whole, so that the pre-tokenizer knows.
const BEFORE: &str = "\0";
/// The id of that mark. No vocabulary reaches it.
const BEFORE_ID: u32 = u32::MAX;

impl BpeTokenizer {
    /// The chat template that came with the tokenizer, if any.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    fn encode_part(
        &self,
        text: &str,
        specials: Specials,
        is_start: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let limit = self.limits.text_bytes;
        if text.len() > limit {
            return Err(TokenizerError::limit(
                "text to encode",
                text.len(),
                "text_bytes",
                limit,
            ));
        }
        let (run, limit) = (longest_space(text), self.limits.space_run);
        if self.pipeline.pre_tokenizer.is_some() && run > limit {
            return Err(TokenizerError::limit(
                "run of white space",
                run,
                "space_run",
                limit,
            ));
        }
        let marked = self.pipeline.start_matters && !is_start;
        let mut pieces = match marked {
            true => PreTokenizedString::from(format!("{BEFORE}{text}")),
            false => PreTokenizedString::from(text),
        };
        let mark = if marked { BEFORE.len() } else { 0 };
        self.cut(&mut pieces, specials, mark)
            .map_err(|e| TokenizerError::component("pre-tokenizer", e))?;
        for (piece, _, tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
            match tokens {
                Some(tokens) => {
                    ids.extend(
                        tokens
                            .iter()
                            .map(|token| token.id)
                            .filter(|id| *id != BEFORE_ID),
                    );
                }
                None => self.model.encode_word(piece, ids)?,
            }
        }
        Ok(())
    }

    /// Added tokens of the raw text, then of the normalised text, then words.
    fn cut(
        &self,
        pieces: &mut PreTokenizedString,
        specials: Specials,
        mark: usize,
    ) -> tokenizers::Result<()> {
        pieces.split(|_, text| {
            let mut parts = Vec::new();
            if mark > 0 {
                parts.push(part(&text, 0..mark, Some(BEFORE_ID))?);
            }
            for stretch in self.added.cut(&text.get()[mark..], Stage::Raw, specials) {
                let range = stretch.range.start + mark..stretch.range.end + mark;
                parts.push(part(&text, range, stretch.token)?);
            }
            Ok(parts)
        })?;
        pieces.split(|_, mut text| {
            self.pipeline.normalize_in_place(&mut text)?;
            self.added
                .cut(text.get(), Stage::Normalized, specials)
                .into_iter()
                .map(|stretch| part(&text, stretch.range, stretch.token))
                .collect::<tokenizers::Result<Vec<_>>>()
        })?;
        match &self.pipeline.pre_tokenizer {
            Some(pre_tokenizer) => pre_tokenizer.pre_tokenize(pieces),
            None => Ok(()),
        }
    }
}

/// Length of the longest run of white space, in characters.
fn longest_space(text: &str) -> usize {
    let (mut longest, mut run) = (0, 0);
    for character in text.chars() {
        run = if character.is_whitespace() {
            run + 1
        } else {
            0
        };
        longest = longest.max(run);
    }
    longest
}

fn part(
    text: &NormalizedString,
    range: std::ops::Range<usize>,
    token: Option<u32>,
) -> tokenizers::Result<(NormalizedString, Option<Vec<Token>>)> {
    let slice = text
        .slice(normalizer::Range::Normalized(range))
        .ok_or("an added token ends inside a character")?;
    let token = token.map(|id| vec![Token::new(id, String::new(), (0, 0))]);
    Ok((slice, token))
}

impl Tokenizer for BpeTokenizer {
    fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        self.encode_part(text, specials, true, &mut ids)?;
        Ok(ids)
    }

    fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        for (at, segment) in segments.iter().enumerate() {
            match segment {
                Segment::Text(text) => {
                    self.encode_part(text, Specials::AsText, at == 0, &mut ids)?;
                }
                Segment::Special(id) => {
                    let vocab_size = self.vocab_size();
                    if *id as usize >= vocab_size {
                        return Err(TokenizerError::UnknownId {
                            id: *id,
                            vocab_size,
                        });
                    }
                    ids.push(*id);
                }
            }
        }
        Ok(ids)
    }

    fn vocab_size(&self) -> usize {
        self.model.vocabulary.len()
    }

    fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.model.vocabulary.bytes(id)
    }

    fn token_text(&self, id: u32) -> Option<&str> {
        self.model.vocabulary.text(id)
    }

    fn token_id(&self, piece: &str) -> Option<u32> {
        self.model.vocabulary.id(piece)
    }

    fn is_special(&self, id: u32) -> bool {
        self.model.vocabulary.kind(id) == Kind::Special
    }

    fn special_tokens(&self) -> &SpecialTokens {
        &self.special_tokens
    }

    fn added_tokens(&self) -> &AddedTokens {
        &self.added
    }

    fn leading_space(&self) -> LeadingSpace {
        self.leading_space
    }
}
