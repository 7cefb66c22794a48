//! How byte-level vocabularies cut a text into words, by the name that GGUF files give it.
//!
//! The patterns are those of the models' own tokenizers. Each pattern of an entry cuts every piece
//! that the one before it left; matches and what lies between them are pieces alike.

use tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::error::TokenizerError;

/// What the name of a pre-tokenizer implies.
pub(crate) struct Entry {
    names: &'static [&'static str],
    patterns: &'static [&'static str],
    /// Whether a word that is a token as a whole is taken without merging.
    pub(crate) whole_words_first: bool,
    /// Whether the model wants a BOS where the file does not say.
    pub(crate) add_bos: bool,
}

/// Name assumed where a file gives none.
pub(crate) const DEFAULT: &str = "default";

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const THREE_ASCII_DIGITS: &str = "[0-9][0-9][0-9]";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

const TABLE: &[Entry] = &[
    Entry {
        names: &[DEFAULT],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", THREE_ASCII_DIGITS],
        whole_words_first: false,
        add_bos: false,
    },
    Entry {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "exaone4",
            "roberta-bpe",
        ],
        patterns: &[GPT2],
        whole_words_first: false,
        add_bos: false,
    },
    Entry {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        patterns: &[DIGIT, GPT2],
        whole_words_first: false,
        add_bos: false,
    },
    Entry {
        names: &["falcon"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, THREE_ASCII_DIGITS],
        whole_words_first: false,
        add_bos: false,
    },
    Entry {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "lfm2",
            "midm-2.0",
        ],
        patterns: &[LLAMA3],
        whole_words_first: true,
        add_bos: true,
    },
    Entry {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        patterns: &[LLAMA3],
        whole_words_first: false,
        add_bos: false,
    },
    Entry {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        patterns: &[QWEN2],
        whole_words_first: false,
        add_bos: false,
    },
    Entry {
        names: &["qwen35"],
        patterns: &[QWEN35],
        whole_words_first: false,
        add_bos: false,
    },
    Entry {
        names: &["tekken"],
        patterns: &[TEKKEN],
        whole_words_first: true,
        add_bos: true,
    },
    Entry {
        names: &["gpt-4o", "llama4", "kanana2"],
        patterns: &[GPT4O],
        whole_words_first: false,
        add_bos: false,
    },
    Entry {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        patterns: &[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK3],
        whole_words_first: false,
        add_bos: false,
    },
    Entry {
        names: &["deepseek-coder"],
        patterns: &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            "[一-龥ࠀ-一가-\u{d7ff}]+",
            DIGIT,
        ],
        whole_words_first: false,
        add_bos: false,
    },
];

impl Entry {
    /// The entry of a name.
    pub(crate) fn find(name: &str) -> Result<&'static Self, TokenizerError> {
        TABLE
            .iter()
            .find(|entry| entry.names.contains(&name))
            .ok_or_else(|| TokenizerError::UnknownPreTokenizer {
                given: name.to_owned(),
                known: TABLE
                    .iter()
                    .flat_map(|entry| entry.names)
                    .copied()
                    .collect(),
            })
    }

    /// The pre-tokenizer: the cuts, then the byte alphabet.
    pub(crate) fn build(&self) -> Result<PreTokenizerWrapper, TokenizerError> {
        let mut steps = Vec::with_capacity(self.patterns.len() + 1);
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|e| TokenizerError::component("pre-tokenizer", e))?;
            steps.push(split.into());
        }
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(Sequence::new(steps).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    fn words(name: &str, text: &str) -> Vec<String> {
        let mut pieces = PreTokenizedString::from(text);
        Entry::find(name)
            .unwrap()
            .build()
            .unwrap()
            .pre_tokenize(&mut pieces)
            .unwrap();
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::None);
        splits
            .into_iter()
            .map(|(piece, _, _)| piece.replace('Ġ', " "))
            .collect()
    }

    #[test]
    fn every_entry_builds_and_no_name_occurs_twice() {
        let mut names: Vec<_> = TABLE.iter().flat_map(|entry| entry.names).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        for name in names {
            words(name, "a b");
        }
    }

    #[test]
    fn cuts() {
        assert_eq!(
            words("gpt-2", "I'll  go 1234"),
            ["I", "'ll", " ", " go", " 1234"]
        );
        assert_eq!(words("smollm", "x 12 3"), ["x", " ", "1", "2", " ", "3"]);
        assert_eq!(
            words("llama-bpe", "I'LL (go) 1234"),
            ["I", "'LL", " (", "go", ")", " ", "123", "4"]
        );
        assert_eq!(words("qwen2", "a 12"), ["a", " ", "1", "2"]);
        assert_eq!(
            words("default", "a<=b 1234"),
            ["a", "<=", "b", " ", "123", "4"]
        );
        assert_eq!(words("gpt-4o", "HelloWorld's"), ["Hello", "World's"]);
        assert_eq!(
            words("tekken", "HelloWorld 12"),
            ["Hello", "World", " ", "1", "2"]
        );
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = Entry::find("no-such").err().unwrap().to_string();
        assert!(
            error.contains("no-such") && error.contains("smollm"),
            "{error}"
        );
    }
}
