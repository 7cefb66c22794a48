//! `mx tokenize`.

use crate::tiny;
use mx_tests::mx::{Home, Ran};

fn tokenize(more: &[&str], input: &str) -> Ran {
    let model = tiny();
    let mut all = vec!["tokenize", "-m", &model];
    all.extend(more);
    Home::new().feed(all, input)
}

#[test]
fn tokens_with_their_bytes() {
    let ran = tokenize(&["hello"], "").ok();
    assert_eq!(ran.out, "260\t\"he\"\n289\t\"ll\"\n81\t\"o\"\n");
    assert!(ran.err.contains("3 tokens, 5 bytes"), "{}", ran.err);
    let ran = tokenize(&["é\t\"\\"], "").ok();
    let pieces: Vec<&str> = ran
        .out
        .lines()
        .filter_map(|line| line.split('\t').nth(1))
        .collect();
    assert_eq!(
        pieces,
        [r#""\xc3""#, r#""\xa9""#, r#""\t""#, r#""\"""#, r#""\\""#]
    );
}

#[test]
fn ids_and_back() {
    for text in [
        "hello",
        " the robot said hello.",
        "naïve café 日本語 🙂",
        "a\n\n  b\t",
        "",
    ] {
        let ids = tokenize(&["--ids"], text).ok().out;
        let again = tokenize(&["--decode", ids.trim()], "").ok().out;
        assert_eq!(again, format!("{text}\n"), "{ids}");
        assert_eq!(
            tokenize(&["--decode"], &ids).ok().out,
            again,
            "the same from stdin"
        );
    }
    assert_eq!(tokenize(&["--ids", "hello"], "").ok().out, "260 289 81\n");
    assert_eq!(tokenize(&["--ids", "-"], "hello").ok().out, "260 289 81\n");
    assert_eq!(
        tokenize(&["--decode", "[260, 289,81]"], "").ok().out,
        "hello\n"
    );
}

#[test]
fn special_tokens_are_text_unless_asked_for() {
    let spelled = tokenize(&["--ids", "<|im_end|>"], "").ok().out;
    assert!(spelled.split_whitespace().count() > 1, "{spelled}");
    assert!(!spelled.split_whitespace().any(|id| id == "2"), "{spelled}");
    assert_eq!(
        tokenize(&["--ids", "--specials", "<|im_end|>"], "")
            .ok()
            .out,
        "2\n"
    );
    assert_eq!(tokenize(&["--decode", "2"], "").ok().out, "<|im_end|>\n");
    assert_eq!(
        tokenize(&["--decode", spelled.trim()], "").ok().out,
        "<|im_end|>\n"
    );
}

#[test]
fn what_is_no_id_is_refused() {
    let ran = tokenize(&["--decode", "1 x"], "").refused(2);
    assert!(ran.err.contains("\"x\""), "{}", ran.err);
    let ran = tokenize(&["--decode", "320"], "").refused(2);
    assert!(ran.err.contains("320"), "{}", ran.err);
    tokenize(&["--decode", "-1"], "").refused(2);
    tokenize(&["--decode", "99999999999999"], "").refused(2);
    tokenize(&["--decode", "--ids", "1"], "").refused(2);
}

#[test]
fn a_model_without_tokenizer() {
    let folder = mx_tests::data::folder("llama_gqa_tied")
        .display()
        .to_string();
    let ran = Home::new()
        .run(["tokenize", "-m", &folder, "hello"])
        .refused(7);
    assert!(ran.err.contains("no tokenizer"), "{}", ran.err);
}
