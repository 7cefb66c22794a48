#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const BYTE_LEVEL: &str = "bytelevel_320";
const SENTENCE_PIECE: &str = "spbpe_384";

fn folder(name: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/tiny_tokenizers"
    ))
    .join(name)
}

fn file(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder(name).join("tokenizer.json")).unwrap()).unwrap()
}

fn load(name: &str) -> BpeTokenizer {
    BpeTokenizer::from_dir(&folder(name)).unwrap()
}

fn read(tokenizer: &Value) -> Result<BpeTokenizer, TokenizerError> {
    read_with(tokenizer, &json!({}))
}

fn read_with(tokenizer: &Value, config: &Value) -> Result<BpeTokenizer, TokenizerError> {
    let bytes = |value: &Value| serde_json::to_vec(value).unwrap();
    let limits = TokenizerLimits::default();
    BpeTokenizer::from_bytes(&bytes(tokenizer), Some(&bytes(config)), &limits)
}

fn ids(tokenizer: &dyn Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, Specials::Parse).unwrap()
}

#[test]
fn small_tokenizers_give_their_goldens() {
    for name in [BYTE_LEVEL, SENTENCE_PIECE] {
        let golden = std::fs::read(folder(name).join("golden.json")).unwrap();
        let golden: Value = serde_json::from_slice(&golden).unwrap();
        let tokenizer = load(name);
        assert_eq!(
            tokenizer.vocab_size() as u64,
            golden["vocab_size"].as_u64().unwrap()
        );
        for case in golden["strings"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let list = |field: &str| serde_json::from_value::<Vec<u32>>(case[field].clone());
            let parsed = list("ids").unwrap();
            assert_eq!(ids(&tokenizer, text), parsed, "{name}: {text:?}");
            let as_text = list("ids_specials_as_text").unwrap_or(parsed.clone());
            assert_eq!(
                tokenizer.encode(text, Specials::AsText).unwrap(),
                as_text,
                "{text:?}"
            );
            assert_eq!(
                tokenizer.decode(&parsed, false).unwrap(),
                case["decoded"],
                "{text:?}"
            );
        }
    }
}

#[test]
fn roles_of_tokens() {
    let tokenizer = load(SENTENCE_PIECE);
    let wanted = SpecialTokens {
        bos: Some(2),
        eos: vec![1],
        pad: Some(0),
        unk: Some(3),
        add_bos: true,
    };
    assert_eq!(*tokenizer.special_tokens(), wanted);
    assert!(tokenizer.is_special(2) && !tokenizer.is_special(5));
    assert_eq!(tokenizer.token_bytes(4), Some(&[0u8][..]));
    assert_eq!(tokenizer.token_bytes(2), Some(&b"<bos>"[..]));
    assert_eq!(tokenizer.token_bytes(384), None);
    assert_eq!(tokenizer.token_id("<eos>"), Some(1));
    let space = tokenizer.token_id("\u{2581}").unwrap();
    assert_eq!(tokenizer.token_bytes(space), Some(&b" "[..]));
    assert!(
        load(BYTE_LEVEL)
            .chat_template()
            .unwrap()
            .contains("<|im_start|>")
    );

    let object = json!({"bos_token": {"content": "<bos>"}, "pad_token": "<no>", "eos_token": null});
    let roles = read_with(&file(SENTENCE_PIECE), &object)
        .unwrap()
        .special_tokens()
        .clone();
    assert_eq!(
        roles,
        SpecialTokens {
            bos: Some(2),
            ..SpecialTokens::default()
        }
    );
    let error = read_with(&file(SENTENCE_PIECE), &json!({"eos_token": "<no>"})).unwrap_err();
    assert!(matches!(
        error,
        TokenizerError::UnknownSpecialToken {
            field: "eos_token",
            ..
        }
    ));
}

#[test]
fn a_post_processor_may_ask_for_bos() {
    let mut tokenizer = file(SENTENCE_PIECE);
    tokenizer["post_processor"] = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel"},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<bos>"}}, {"Sequence": {"id": "A"}}]},
    ]});
    let roles = read(&tokenizer).unwrap().special_tokens().clone();
    assert_eq!((roles.bos, roles.add_bos), (Some(2), true));
    let roles = read_with(&tokenizer, &json!({"add_bos_token": false})).unwrap();
    assert!(!roles.special_tokens().add_bos);
}

/// Llama's way: a space in front of the text, and away again when decoding.
fn with_space_in_front(scheme: &str) -> BpeTokenizer {
    let mut tokenizer = file(SENTENCE_PIECE);
    tokenizer["normalizer"] = Value::Null;
    tokenizer["pre_tokenizer"] = json!(
        {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false});
    let decoders = tokenizer["decoder"]["decoders"].as_array_mut().unwrap();
    decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    read(&tokenizer).unwrap()
}

#[test]
fn a_space_in_front_of_the_first_word() {
    for scheme in ["first", "always"] {
        let tokenizer = with_space_in_front(scheme);
        let encoded = ids(&tokenizer, "said the robot");
        assert_eq!(tokenizer.decode(&encoded, false).unwrap(), "said the robot");
        assert_eq!(encoded, ids(&load(SENTENCE_PIECE), " said the robot"));
        let text = "said<eos>the";
        let parts = tokenizer.added_tokens().split_specials(text);
        assert_eq!(
            tokenizer.encode_segments(&parts).unwrap(),
            ids(&tokenizer, text),
            "{scheme}"
        );
    }
}

#[test]
fn a_stream_may_continue_a_text() {
    let tokenizer: Arc<dyn Tokenizer> = Arc::new(with_space_in_front("first"));
    let encoded = ids(&*tokenizer, "é said");
    let (context, rest) = encoded.split_at(2);
    let mut start = TextStream::new(tokenizer.clone());
    let text: String = encoded.iter().map(|id| start.push(*id).unwrap()).collect();
    assert_eq!(text, "é said");
    let mut stream = TextStream::new(tokenizer.clone())
        .with_context(context)
        .unwrap();
    assert!(stream.is_holding_back(), "the first byte of é");
    let text: String = rest.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(text, "é said");
    assert!(matches!(
        stream.push(9999),
        Err(TokenizerError::UnknownId { id: 9999, .. })
    ));
}

#[test]
fn a_stream_ends_with_what_it_held_back() {
    let tokenizer: Arc<dyn Tokenizer> = Arc::new(load(BYTE_LEVEL));
    let encoded = ids(&*tokenizer, "日");
    let mut stream = TextStream::new(tokenizer);
    assert_eq!(stream.push(encoded[0]).unwrap(), "");
    assert_eq!(stream.finish(), "\u{FFFD}");
    assert_eq!(stream.finish(), "");
}

#[test]
fn text_that_cannot_be_expressed_is_an_error() {
    let mut tokenizer = file(SENTENCE_PIECE);
    tokenizer["model"]["byte_fallback"] = json!(false);
    let unknown = ids(&read(&tokenizer).unwrap(), "日本");
    assert_eq!(unknown, [3], "one token for a run of unknown characters");
    tokenizer["model"]["unk_token"] = Value::Null;
    let error = read(&tokenizer)
        .unwrap()
        .encode("日本", Specials::Parse)
        .unwrap_err();
    assert!(matches!(error, TokenizerError::Unencodable { piece: '日' }));
}

#[test]
fn control_tokens_never_come_out_of_text() {
    let mut tokenizer = file(SENTENCE_PIECE);
    tokenizer["model"]["ignore_merges"] = json!(true);
    let tokenizer = read(&tokenizer).unwrap();
    let spelled = tokenizer.encode("<bos>", Specials::AsText).unwrap();
    assert!(spelled.len() > 1 && spelled.iter().all(|id| !tokenizer.is_special(*id)));
}

#[test]
fn texts_are_bounded() {
    let limits = TokenizerLimits {
        text_bytes: 10,
        space_run: 3,
        ..TokenizerLimits::default()
    };
    let bytes = std::fs::read(folder(BYTE_LEVEL).join("tokenizer.json")).unwrap();
    let tokenizer = BpeTokenizer::from_bytes(&bytes, None, &limits).unwrap();
    let name = |text: &str| match tokenizer.encode(text, Specials::AsText) {
        Err(TokenizerError::LimitExceeded { limit_name, .. }) => limit_name,
        other => panic!("{other:?}"),
    };
    assert_eq!(name("hello hello"), "text_bytes");
    assert_eq!(name("a \n\t b"), "space_run");
    let limits = TokenizerLimits {
        file_bytes: 10,
        ..limits
    };
    let error = BpeTokenizer::from_bytes(&bytes, None, &limits).unwrap_err();
    assert!(matches!(
        error,
        TokenizerError::LimitExceeded {
            limit_name: "file_bytes",
            ..
        }
    ));
}

mod gguf_vocabularies {
    use super::*;

    fn byte_level() -> GgufVocab {
        let tokens = ["<s>", "</s>", "a", "b", "ab", "Ġ", "Ġab", "[PAD7]", "user"];
        GgufVocab {
            model: "gpt2".to_owned(),
            pre: Some("smollm".to_owned()),
            tokens: tokens.map(str::to_owned).to_vec(),
            token_types: Some(vec![3, 3, 1, 1, 1, 1, 1, 5, 4]),
            merges: Some(vec!["a b".to_owned(), "Ġ ab".to_owned()]),
            bos: Some(0),
            eos: Some(1),
            eot: Some(1),
            ..GgufVocab::default()
        }
    }

    fn sentence_piece() -> GgufVocab {
        let tokens = ["<unk>", "<s>", "<0x41>", "▁", "a", "b", "ab", "▁ab", "  "];
        GgufVocab {
            model: "llama".to_owned(),
            tokens: tokens.map(str::to_owned).to_vec(),
            scores: Some(vec![0.0, 0.0, 0.0, -5.0, -6.0, -7.0, -1.0, -2.0, 0.0]),
            token_types: Some(vec![2, 3, 6, 1, 1, 1, 1, 1, 4]),
            unk: Some(0),
            bos: Some(1),
            ..GgufVocab::default()
        }
    }

    fn build(vocab: GgufVocab) -> Result<BpeTokenizer, TokenizerError> {
        BpeTokenizer::from_gguf(vocab, &TokenizerLimits::default())
    }

    #[test]
    fn byte_level_bpe() {
        let tokenizer = build(byte_level()).unwrap();
        assert_eq!(ids(&tokenizer, "ab ab<s>userab"), [4, 6, 0, 8, 4]);
        assert_eq!(tokenizer.decode(&[4, 6, 7, 8], false).unwrap(), "ab abuser");
        assert_eq!(tokenizer.vocab_size(), 9);
        assert_eq!(tokenizer.token_bytes(7), None, "fillers stand for nothing");
        assert_eq!(tokenizer.special_tokens().eos, [1]);
        assert!(!tokenizer.special_tokens().add_bos);
        let llama = GgufVocab {
            pre: Some("llama-bpe".to_owned()),
            ..byte_level()
        };
        assert!(build(llama).unwrap().special_tokens().add_bos);
    }

    #[test]
    fn sentence_piece_bpe() {
        let tokenizer = build(sentence_piece()).unwrap();
        assert_eq!(ids(&tokenizer, "ab  A"), [7, 8, 3, 2]);
        assert_eq!(ids(&tokenizer, "日本"), [3, 0]);
        assert_eq!(tokenizer.decode(&[7, 8, 2], false).unwrap(), "ab  A");
        assert!(tokenizer.special_tokens().add_bos);
        let plain = GgufVocab {
            add_space_prefix: Some(false),
            ..sentence_piece()
        };
        let tokenizer = build(plain).unwrap();
        assert_eq!(ids(&tokenizer, "ab ab"), [6, 7]);
        assert_eq!(tokenizer.decode(&[7, 7], false).unwrap(), " ab ab");
    }

    #[test]
    fn the_best_score_merges_first() {
        let mut vocab = sentence_piece();
        vocab.add_space_prefix = Some(false);
        vocab.tokens.extend(["ba", "aba"].map(str::to_owned));
        vocab.scores.as_mut().unwrap().extend([-0.5, -0.1]);
        vocab.token_types.as_mut().unwrap().extend([1, 1]);
        assert_eq!(ids(&build(vocab).unwrap(), "aba"), [10]);
    }

    #[test]
    fn bad_metadata_is_refused() {
        use TokenizerError as E;
        type Change = fn(&mut GgufVocab);
        type Check = fn(&TokenizerError) -> bool;
        let byte_level_cases: &[(Change, Check)] = &[
            (
                |v| v.bos = Some(4000),
                |e| matches!(e, E::IdOutOfRange { given: 4000, .. }),
            ),
            (
                |v| v.pad = Some(9),
                |e| matches!(e, E::IdOutOfRange { vocab_size: 9, .. }),
            ),
            (
                |v| v.tokens.clear(),
                |e| matches!(e, E::MissingField { .. } | E::IdOutOfRange { .. }),
            ),
            (|v| v.merges = None, |e| matches!(e, E::MissingField { .. })),
            (
                |v| v.tokens[3] = "a".into(),
                |e| {
                    matches!(
                        e,
                        E::DuplicateToken {
                            first: 2,
                            second: 3,
                            ..
                        }
                    )
                },
            ),
            (
                |v| v.token_types = Some(vec![1]),
                |e| {
                    matches!(
                        e,
                        E::WrongLength {
                            given: 1,
                            wanted: 9,
                            ..
                        }
                    )
                },
            ),
            (
                |v| v.scores = Some(vec![]),
                |e| matches!(e, E::WrongLength { given: 0, .. }),
            ),
            (
                |v| v.token_types.as_mut().unwrap()[2] = 77,
                |e| matches!(e, E::WrongValue { .. }),
            ),
            (
                |v| v.pre = Some("none such".into()),
                |e| matches!(e, E::UnknownPreTokenizer { .. }),
            ),
            (
                |v| v.model = "t5".into(),
                |e| matches!(e, E::UnknownModel { .. }),
            ),
            (
                |v| v.model = "no_vocab".into(),
                |e| matches!(e, E::NoVocabulary { .. }),
            ),
            (
                |v| v.tokens[2] = "x".repeat(5000),
                |e| {
                    matches!(
                        e,
                        E::LimitExceeded {
                            limit_name: "token_bytes",
                            ..
                        }
                    )
                },
            ),
        ];
        for (at, (change, check)) in byte_level_cases.iter().enumerate() {
            let mut vocab = byte_level();
            change(&mut vocab);
            let error = build(vocab).unwrap_err();
            assert!(check(&error), "case {at}: {error}");
        }
        for merge in [
            "", " ", "a", "a ", "ab", "a  b", "a b c", "a z", "b a", "日",
        ] {
            let error = build(GgufVocab {
                merges: Some(vec![merge.to_owned()]),
                ..byte_level()
            });
            assert!(
                matches!(error, Err(E::BadMerge { index: 0, .. })),
                "{merge:?}"
            );
        }
        let sentence_piece_cases: &[(Change, Check)] = &[
            (|v| v.scores = None, |e| matches!(e, E::MissingField { .. })),
            (
                |v| v.token_types = None,
                |e| matches!(e, E::MissingField { .. }),
            ),
            (
                |v| v.tokens[2] = "<0xZZ>".into(),
                |e| matches!(e, E::WrongValue { .. }),
            ),
        ];
        for (at, (change, check)) in sentence_piece_cases.iter().enumerate() {
            let mut vocab = sentence_piece();
            change(&mut vocab);
            let error = build(vocab).unwrap_err();
            assert!(check(&error), "case {at}: {error}");
        }
        let mut odd = sentence_piece();
        odd.scores = Some(vec![f32::NAN; 9]);
        assert!(build(odd).is_ok(), "scores only order");
    }

    #[test]
    fn rebuilding_merges_is_bounded() {
        let mut vocab = sentence_piece();
        vocab.tokens.push("a".repeat(1000));
        vocab.scores.as_mut().unwrap().push(0.0);
        vocab.token_types.as_mut().unwrap().push(1);
        let limits = TokenizerLimits {
            rebuild_bytes: 1000,
            ..TokenizerLimits::default()
        };
        let error = BpeTokenizer::from_gguf(vocab, &limits).unwrap_err();
        assert!(matches!(
            error,
            TokenizerError::LimitExceeded {
                limit_name: "rebuild_bytes",
                ..
            }
        ));
    }
}

#[test]
fn bad_files_are_refused() {
    use TokenizerError as E;
    type Check = fn(&TokenizerError) -> bool;
    let json_error: Check = |e| matches!(e, E::Json { .. });
    let cases: &[(&str, Value, Check)] = &[
        ("/model", json!(3), json_error),
        ("/model", Value::Null, json_error),
        ("/model/type", json!("Unigram"), |e| {
            matches!(e, E::UnknownModel { .. })
        }),
        ("/model/vocab", json!([["a", 0.0]]), |e| {
            matches!(e, E::WrongValue { .. })
        }),
        ("/model/vocab", Value::Null, |e| {
            matches!(e, E::MissingField { .. })
        }),
        ("/model/vocab/e", json!(-1), json_error),
        ("/model/vocab/e", json!(1.5), json_error),
        ("/model/vocab/e", json!(4_000_000_000_u32), |e| {
            matches!(
                e,
                E::LimitExceeded {
                    limit_name: "tokens",
                    ..
                }
            )
        }),
        ("/model/vocab/e", json!(5), |e| {
            matches!(e, E::DuplicateId { id: 5, .. })
        }),
        ("/model/merges", Value::Null, |e| {
            matches!(e, E::MissingField { .. })
        }),
        ("/model/merges/0", json!(["t"]), json_error),
        ("/model/merges/0", json!(["t", "h", "e"]), json_error),
        ("/model/merges/0", json!(["t", "none such"]), |e| {
            matches!(e, E::BadMerge { index: 0, .. })
        }),
        ("/model/merges/1", json!("th"), |e| {
            matches!(e, E::BadMerge { index: 1, .. })
        }),
        ("/model/merges/1", json!("t  h"), |e| {
            matches!(e, E::BadMerge { index: 1, .. })
        }),
        ("/model/dropout", json!(0.1), |e| {
            matches!(
                e,
                E::Unsupported {
                    field: "model.dropout",
                    ..
                }
            )
        }),
        ("/model/continuing_subword_prefix", json!("##"), |e| {
            matches!(e, E::Unsupported { .. })
        }),
        ("/model/end_of_word_suffix", json!("</w>"), |e| {
            matches!(e, E::Unsupported { .. })
        }),
        ("/model/unk_token", json!("none such"), |e| {
            matches!(e, E::UnknownSpecialToken { .. })
        }),
        ("/model/unk_token", json!(3), json_error),
        ("/added_tokens", json!({}), json_error),
        ("/added_tokens/0/id", json!("x"), json_error),
        ("/added_tokens/0/content", json!(null), json_error),
        ("/normalizer", json!(7), |e| {
            matches!(
                e,
                E::WrongValue {
                    field: "normalizer",
                    ..
                }
            )
        }),
        (
            "/normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            |e| matches!(e, E::UnknownModel { .. }),
        ),
        ("/normalizer", json!({"type": "Replace"}), |e| {
            matches!(e, E::Component { .. })
        }),
        (
            "/normalizer",
            json!({"type": "Sequence", "normalizers": 1}),
            |e| matches!(e, E::WrongValue { .. }),
        ),
        (
            "/pre_tokenizer",
            json!({"type": "FixedLength", "length": 0}),
            |e| matches!(e, E::UnknownModel { .. }),
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
            |e| matches!(e, E::Component { .. }),
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "((a{99}){99}){99}"}, "behavior": "Isolated", "invert": false}),
            |e| matches!(e, E::Component { .. }),
        ),
        ("/decoder", Value::Null, |e| {
            matches!(e, E::MissingField { .. })
        }),
        ("/decoder", json!({"type": "WordPiece"}), |e| {
            matches!(e, E::Unsupported { .. })
        }),
        (
            "/decoder",
            json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}),
            |e| matches!(e, E::Unsupported { .. }),
        ),
    ];
    for (pointer, value, check) in cases {
        let mut tokenizer = file(SENTENCE_PIECE);
        *tokenizer.pointer_mut(pointer).unwrap() = value.clone();
        let error = read(&tokenizer)
            .err()
            .unwrap_or_else(|| panic!("{pointer} = {value}"));
        assert!(check(&error), "{pointer} = {value}: {error}");
    }
}

#[test]
fn nesting_bombs_are_refused() {
    let deep = |list: &str, levels: usize| {
        let open = format!("{{\"type\":\"Sequence\",\"{list}\":[");
        serde_json::from_str::<Value>(&(open.repeat(levels) + &"]}".repeat(levels))).unwrap()
    };
    for (field, list) in [
        ("normalizer", "normalizers"),
        ("pre_tokenizer", "pretokenizers"),
        ("decoder", "decoders"),
    ] {
        let mut tokenizer = file(BYTE_LEVEL);
        tokenizer[field] = deep(list, 40);
        assert!(
            matches!(read(&tokenizer), Err(TokenizerError::WrongValue { .. })),
            "{field}"
        );
    }
    let text = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let error = BpeTokenizer::from_bytes(text.as_bytes(), None, &TokenizerLimits::default());
    assert!(matches!(error, Err(TokenizerError::Json { .. })));
}

/// Every place in a JSON value, as pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn streams_give_what_decode_gives(
        list in prop::collection::vec(0u32..384, 0..40),
        skip in any::<bool>(),
        kind in 0usize..3,
    ) {
        let tokenizer: Arc<dyn Tokenizer> = match kind {
            0 => Arc::new(load(BYTE_LEVEL)),
            1 => Arc::new(load(SENTENCE_PIECE)),
            _ => Arc::new(with_space_in_front("always")),
        };
        let size = tokenizer.vocab_size() as u32;
        let list: Vec<u32> = list.into_iter().map(|id| id % size).collect();
        let mut stream = TextStream::new(tokenizer.clone()).with_skip_special(skip);
        let mut text = String::new();
        for &id in &list {
            let piece = stream.push(id).unwrap();
            let rest = stream.clone().finish();
            prop_assert_eq!(stream.is_holding_back(), rest == char::REPLACEMENT_CHARACTER.to_string());
            text += &piece;
        }
        text += &stream.finish();
        prop_assert_eq!(text, tokenizer.decode(&list, skip).unwrap());
    }

    #[test]
    fn texts_come_back(text in ".{0,60}", special in any::<bool>()) {
        let specials = if special { Specials::Parse } else { Specials::AsText };
        let byte_level = load(BYTE_LEVEL);
        let encoded = byte_level.encode(&text, specials).unwrap();
        prop_assert_eq!(byte_level.decode(&encoded, false).unwrap(), text.as_str());
        let sentence_piece = load(SENTENCE_PIECE);
        let encoded = sentence_piece.encode(&text, specials).unwrap();
        let decoded = sentence_piece.decode(&encoded, false).unwrap();
        prop_assert_eq!(decoded, text.replace('\u{2581}', " "));
    }

    #[test]
    fn pieces_encode_like_the_whole(
        text in "(<\\|im_start\\|>|<\\|im_end\\|>|<bos>|<eos>| |a|the|\n|<|é|\u{2581}){0,12}",
    ) {
        for tokenizer in [load(BYTE_LEVEL), load(SENTENCE_PIECE), with_space_in_front("first")] {
            let pieces = tokenizer.added_tokens().split_specials(&text);
            prop_assert_eq!(tokenizer.encode_segments(&pieces).unwrap(), ids(&tokenizer, &text));
        }
    }

    #[test]
    fn changed_files_never_panic(
        byte_level in any::<bool>(),
        place in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            Value::Null, json!(true), json!(0), json!(-1), json!(383), json!(1e300), json!(""), json!("<bos>"),
            json!("a b"), json!([]), json!({}), json!("\u{2581}"), json!({"type": "Sequence"}), json!(["a", "b"]),
        ]),
        text in ".{0,20}",
    ) {
        let mut tokenizer = file(if byte_level { BYTE_LEVEL } else { SENTENCE_PIECE });
        let mut found = Vec::new();
        places(&tokenizer, "", &mut found);
        // Most places are merges and pieces: let the few others have their turn.
        let (rare, common): (Vec<_>, Vec<_>) = found.into_iter().partition(|at| at.matches('/').count() < 3);
        let all: Vec<&String> = rare.iter().cycle().take(common.len()).chain(&common).collect();
        let at: &&String = place.get(&all);
        *tokenizer.pointer_mut(at).unwrap() = value;
        if let Ok(tokenizer) = read(&tokenizer) {
            if let Ok(encoded) = tokenizer.encode(&text, Specials::Parse) {
                tokenizer.decode(&encoded, true).unwrap();
            }
            let _ = tokenizer.added_tokens().split_specials(&text);
        }
    }
}
