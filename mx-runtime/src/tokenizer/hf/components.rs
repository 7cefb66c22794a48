//! Normaliser, pre-tokenizer and decoder of `tokenizer.json`.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::tokenizer::bpe::Pipeline;
use crate::tokenizer::decoder::{ByteAlphabet, LeadingSpace, byte_piece};
use crate::tokenizer::error::{TokenizerError, excerpt};
use crate::tokenizer::vocabulary::Kind;

const NORMALIZERS: [&str; 11] = [
    "Sequence",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Replace",
    "Prepend",
    "Strip",
    "StripAccents",
    "Lowercase",
    "ByteLevel",
];
const PRE_TOKENIZERS: [&str; 8] = [
    "Sequence",
    "Split",
    "ByteLevel",
    "Digits",
    "Metaspace",
    "Whitespace",
    "WhitespaceSplit",
    "Punctuation",
];

/// Sequences within sequences. Real files have one level.
const MAX_NESTING: usize = 8;

/// Builds what happens to a text before it is cut into tokens.
pub(super) fn pipeline(
    normalizer: Value,
    pre_tokenizer: Value,
) -> Result<Pipeline, TokenizerError> {
    let mut leaves = Vec::new();
    flatten(&normalizer, "normalizers", "normalizer", 0, &mut leaves)?;
    known(&leaves, "normalizer", &NORMALIZERS)?;

    let mut leaves = Vec::new();
    flatten(
        &pre_tokenizer,
        "pretokenizers",
        "pre_tokenizer",
        0,
        &mut leaves,
    )?;
    known(&leaves, "pre_tokenizer", &PRE_TOKENIZERS)?;
    let start_matters = leaves.iter().any(|part| {
        part["type"] == "Metaspace" && part["prepend_scheme"].as_str() == Some("first")
    });

    Ok(Pipeline {
        normalizer: build("normalizer", normalizer)?,
        pre_tokenizer: build("pre_tokenizer", pre_tokenizer)?,
        start_matters,
    })
}

fn build<T: DeserializeOwned>(
    part: &'static str,
    value: Value,
) -> Result<Option<T>, TokenizerError> {
    serde_json::from_value(value).map_err(|e| TokenizerError::component(part, e))
}

/// How pieces become bytes.
pub(super) struct Decoding {
    /// The byte alphabet, if the decoder uses it.
    alphabet: Option<ByteAlphabet>,
    /// Replacements within a piece, in order.
    replacements: Vec<(String, String)>,
    /// Whether `<0xNN>` is a byte.
    byte_fallback: bool,
    pub(super) leading_space: LeadingSpace,
}

impl Decoding {
    pub(super) fn read(decoder: &Value) -> Result<Self, TokenizerError> {
        if decoder.is_null() {
            return Err(TokenizerError::MissingField { field: "decoder" });
        }
        let mut steps = Vec::new();
        flatten(decoder, "decoders", "decoder", 0, &mut steps)?;
        let mut decoding = Self {
            alphabet: None,
            replacements: Vec::new(),
            byte_fallback: false,
            leading_space: LeadingSpace::Keep,
        };
        let mut fused = false;
        for step in steps {
            let kind = step["type"].as_str().unwrap_or_default();
            let supported = match kind {
                "ByteLevel" => {
                    decoding.alphabet = Some(ByteAlphabet::new());
                    fused = true;
                    true
                }
                "Fuse" => {
                    fused = true;
                    true
                }
                "ByteFallback" => {
                    decoding.byte_fallback = true;
                    !fused
                }
                "Replace" => !fused && decoding.read_replace(step),
                "Strip" => fused && decoding.read_strip(step),
                "Metaspace" => !fused && decoding.read_metaspace(step),
                _ => false,
            };
            if !supported {
                return Err(TokenizerError::Unsupported {
                    field: "decoder",
                    given: excerpt(&step.to_string()),
                    reason: "known are ByteLevel, Metaspace, Replace of a string, ByteFallback, Fuse \
                             and, behind Fuse, Strip of spaces at the start",
                });
            }
        }
        Ok(decoding)
    }

    fn read_replace(&mut self, step: &Value) -> bool {
        match (step["pattern"]["String"].as_str(), step["content"].as_str()) {
            (Some(pattern), Some(content)) if !pattern.is_empty() => {
                self.replacements
                    .push((pattern.to_owned(), content.to_owned()));
                true
            }
            _ => false,
        }
    }

    fn read_strip(&mut self, step: &Value) -> bool {
        let count = |field: &str| step[field].as_u64();
        match (step["content"].as_str(), count("start"), count("stop")) {
            (Some(" "), Some(0), Some(0)) => true,
            (Some(" "), Some(start), Some(0)) => match usize::try_from(start) {
                Ok(start) => {
                    self.leading_space = LeadingSpace::Drop(start);
                    true
                }
                Err(_) => false,
            },
            _ => false,
        }
    }

    fn read_metaspace(&mut self, step: &Value) -> bool {
        let Some(mark) = step["replacement"].as_str().filter(|mark| !mark.is_empty()) else {
            return false;
        };
        self.replacements.push((mark.to_owned(), " ".to_owned()));
        let never = step["prepend_scheme"].as_str() == Some("never")
            || step["add_prefix_space"].as_bool() == Some(false);
        if !never {
            self.leading_space = LeadingSpace::DropInFirstToken;
        }
        true
    }

    /// The bytes of a piece of the model's vocabulary.
    pub(super) fn piece(&self, text: &str) -> Vec<u8> {
        match (&self.alphabet, self.byte(text)) {
            (Some(alphabet), _) => alphabet.decode(text),
            (None, Some(byte)) => vec![byte],
            (None, None) => self.replaced(text),
        }
    }

    /// The bytes of an added token. With a byte alphabet it is still written as plain text.
    pub(super) fn added(&self, text: &str) -> Vec<u8> {
        match (&self.alphabet, self.byte(text)) {
            (Some(_), _) => text.into(),
            (None, Some(byte)) => vec![byte],
            (None, None) => self.replaced(text),
        }
    }

    pub(super) fn kind(&self, text: &str) -> Kind {
        match self.byte(text) {
            Some(_) => Kind::Byte,
            None => Kind::Normal,
        }
    }

    fn byte(&self, text: &str) -> Option<u8> {
        byte_piece(text).filter(|_| self.byte_fallback)
    }

    fn replaced(&self, text: &str) -> Vec<u8> {
        let mut text = text.to_owned();
        for (pattern, content) in &self.replacements {
            if text.contains(pattern) {
                text = text.replace(pattern, content);
            }
        }
        text.into_bytes()
    }
}

/// The components below a tree of sequences, the sequences themselves left out.
fn flatten<'a>(
    value: &'a Value,
    list: &str,
    field: &'static str,
    depth: usize,
    leaves: &mut Vec<&'a Value>,
) -> Result<(), TokenizerError> {
    let wrong = |given: String, wanted| TokenizerError::WrongValue {
        field,
        given,
        wanted,
    };
    if value.is_null() && depth == 0 {
        return Ok(());
    }
    let Some(kind) = value["type"].as_str() else {
        return Err(wrong(excerpt(&value.to_string()), "an object with a type"));
    };
    if kind != "Sequence" {
        leaves.push(value);
        return Ok(());
    }
    if depth == MAX_NESTING {
        return Err(wrong(
            "sequences nested too deeply".to_owned(),
            "at most 8 levels",
        ));
    }
    let Some(parts) = value[list].as_array() else {
        return Err(wrong(
            excerpt(&value.to_string()),
            "a sequence with a list of parts",
        ));
    };
    parts
        .iter()
        .try_for_each(|part| flatten(part, list, field, depth + 1, leaves))
}

fn known(
    leaves: &[&Value],
    field: &'static str,
    known: &'static [&'static str],
) -> Result<(), TokenizerError> {
    for leaf in leaves {
        let kind = leaf["type"].as_str().unwrap_or_default();
        if !known.contains(&kind) {
            return Err(TokenizerError::UnknownModel {
                field,
                given: excerpt(kind),
                known,
            });
        }
    }
    Ok(())
}
