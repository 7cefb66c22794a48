//! The `model` object of `tokenizer.json`.

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::tokenizer::error::{TokenizerError, excerpt};
use crate::tokenizer::gguf::split_merge;

const BPE: &str = "BPE";

/// The object as written. Fields of other models than BPE may have any form.
#[derive(Deserialize)]
pub(super) struct ModelJson {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    dropout: Option<f32>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: Option<bool>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    ignore_merges: Option<bool>,
    #[serde(default)]
    vocab: Option<Vocab>,
    #[serde(default)]
    merges: Option<Vec<MergeJson>>,
}

/// A BPE model whose settings are all supported.
pub(super) struct Model {
    pub(super) unk_token: Option<String>,
    pub(super) fuse_unk: bool,
    pub(super) byte_fallback: bool,
    pub(super) ignore_merges: bool,
    pub(super) vocab: Vec<(String, u32)>,
    pub(super) merges: Vec<MergeJson>,
}

impl ModelJson {
    pub(super) fn checked(self) -> Result<Model, TokenizerError> {
        let kind = self.kind.as_deref().unwrap_or(BPE);
        if kind != BPE {
            return Err(TokenizerError::UnknownModel {
                field: "model.type",
                given: excerpt(kind),
                known: &[BPE],
            });
        }
        if let Some(dropout) = self.dropout.filter(|dropout| *dropout != 0.0) {
            return Err(TokenizerError::Unsupported {
                field: "model.dropout",
                given: dropout.to_string(),
                reason: "encoding would not be deterministic",
            });
        }
        let affixes = [
            (
                "model.continuing_subword_prefix",
                self.continuing_subword_prefix,
            ),
            ("model.end_of_word_suffix", self.end_of_word_suffix),
        ];
        for (field, affix) in affixes {
            if let Some(affix) = affix.filter(|affix| !affix.is_empty()) {
                return Err(TokenizerError::Unsupported {
                    field,
                    given: excerpt(&affix),
                    reason: "no model family here marks the parts of a word",
                });
            }
        }
        let vocab = match self.vocab {
            Some(Vocab::Map(pieces)) => pieces,
            Some(Vocab::Other) => {
                return Err(TokenizerError::WrongValue {
                    field: "model.vocab",
                    given: "a list".to_owned(),
                    wanted: "an object of ids by text",
                });
            }
            None => {
                return Err(TokenizerError::MissingField {
                    field: "model.vocab",
                });
            }
        };
        Ok(Model {
            unk_token: self.unk_token,
            fuse_unk: self.fuse_unk.unwrap_or(false),
            byte_fallback: self.byte_fallback.unwrap_or(false),
            ignore_merges: self.ignore_merges.unwrap_or(false),
            vocab,
            merges: self.merges.ok_or(TokenizerError::MissingField {
                field: "model.merges",
            })?,
        })
    }
}

/// A merge, in either of the two ways of writing it.
pub(super) enum MergeJson {
    Joined(String),
    Pair(String, String),
}

impl MergeJson {
    pub(super) fn sides(&self, index: usize) -> Result<(&str, &str), TokenizerError> {
        match self {
            Self::Pair(left, right) => Ok((left, right)),
            Self::Joined(merge) => split_merge(merge)
                .filter(|(_, right)| !right.contains(' '))
                .ok_or_else(|| TokenizerError::BadMerge {
                    index,
                    merge: excerpt(merge),
                    reason: "wanted two pieces with one space between them",
                }),
        }
    }
}

impl<'de> Deserialize<'de> for MergeJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergeVisitor;

        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = MergeJson;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a merge: \"left right\" or [\"left\", \"right\"]")
            }

            fn visit_str<E: serde::de::Error>(self, merge: &str) -> Result<MergeJson, E> {
                Ok(MergeJson::Joined(merge.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<MergeJson, A::Error> {
                use serde::de::Error;
                let left = sides.next_element()?;
                let right = sides.next_element()?;
                let more: Option<IgnoredAny> = sides.next_element()?;
                match (left, right, more) {
                    (Some(left), Some(right), None) => Ok(MergeJson::Pair(left, right)),
                    _ => Err(A::Error::custom("a merge has two sides")),
                }
            }
        }

        deserializer.deserialize_any(MergeVisitor)
    }
}

/// The vocabulary of a BPE model, or that of another model.
enum Vocab {
    Map(Vec<(String, u32)>),
    Other,
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VocabVisitor;

        impl<'de> Visitor<'de> for VocabVisitor {
            type Value = Vocab;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of ids by text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = map.next_entry()? {
                    pieces.push(piece);
                }
                Ok(Vocab::Map(pieces))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocab, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocab::Other)
            }
        }

        deserializer.deserialize_any(VocabVisitor)
    }
}
