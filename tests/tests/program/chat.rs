//! `mx chat` through a pipe.

use crate::home_with;
use mx_tests::mx::{Home, Ran};
use mx_tests::scripted::Script;

fn chat(home: &Home, more: &[&str], input: &str) -> Ran {
    let all: Vec<&str> = ["chat", "-m", "scripted.gguf"]
        .iter()
        .chain(more)
        .copied()
        .collect();
    home.feed(all, input)
}

#[test]
fn every_line_gets_an_answer() {
    let home = home_with(&Script::says("\nHelo!"));
    let ran = chat(&home, &[], "one\ntwo\n\n  \nthree").ok();
    assert_eq!(ran.out, "Helo!\nHelo!\nHelo!\n");
    assert_eq!(chat(&home, &["--quiet"], "one\n").ok().err, "");
    assert_eq!(chat(&home, &[], "").ok().out, "");
}

#[test]
fn commands_are_no_questions() {
    let home = home_with(&Script::says("\nok."));
    let ran = chat(
        &home,
        &[],
        "/help\n/system\n/system Be brief.\n/system\n/reset\n/nonsense x\nhello\n/exit\nnever\n",
    )
    .ok();
    assert_eq!(ran.out, "ok.\n", "only the one question is answered");
    for word in [
        "/reset",
        "/exit",
        "(none)",
        "Be brief.",
        "/nonsense is no command",
    ] {
        assert!(ran.err.contains(word), "{word:?} is not in {}", ran.err);
    }
    for leave in ["/exit", "/quit"] {
        assert_eq!(chat(&home, &[], &format!("{leave}\nhello\n")).ok().out, "");
    }
}

/// With a context of 100 tokens the prompt's length decides whether there is an answer: 14 tokens of markup and line
/// feeds a question, plus the question.
#[test]
fn turns_add_up_until_the_context_is_full_and_reset_empties_it() {
    let home = home_with(&Script::says("\nok.").context(100));
    let question = "x".repeat(16) + "\n";
    let ran = chat(&home, &["-n", "8"], &question.repeat(4)).ok();
    assert!(ran.out.starts_with("ok.\n"), "{}", ran.out);
    assert!(ran.out.matches("ok.").count() < 4, "the turns add up");
    assert!(ran.err.contains("error: prompt has"), "{}", ran.err);
    let reset = chat(
        &home,
        &["-n", "8"],
        &format!("{question}/reset\n").repeat(6),
    )
    .ok();
    assert_eq!(reset.out, "ok.\n".repeat(6));
    let system = chat(
        &home,
        &["-n", "8"],
        &format!("{question}/system S\n").repeat(6),
    )
    .ok();
    assert_eq!(
        system.out,
        "ok.\n".repeat(6),
        "a new system message begins anew"
    );
}

#[test]
fn a_refused_question_leaves_the_conversation_as_it_was() {
    let home = home_with(&Script::says("\nok.").context(100));
    let long = "x".repeat(200);
    let ran = chat(&home, &["-n", "8"], &format!("{long}\nhi\n{long}\nhi\n")).ok();
    assert_eq!(ran.out, "ok.\nok.\n");
    assert_eq!(
        ran.err.matches("error: prompt has").count(),
        2,
        "{}",
        ran.err
    );
}

#[test]
fn the_system_message_is_counted() {
    let home = home_with(&Script::says("\nok.").context(100));
    let system = "s".repeat(90);
    let ran = chat(&home, &["--system", &system], "hi\n/system short\nhi\n").ok();
    assert_eq!(ran.out, "ok.\n", "{}", ran.err);
}

#[test]
fn an_answer_that_was_cut_says_so() {
    let home = home_with(&Script::repeats("\nab"));
    let ran = chat(&home, &["-n", "6"], "x\n").ok();
    assert_eq!(ran.out, "ababab\n");
    assert!(ran.err.contains("6 tokens"), "{}", ran.err);
}

#[test]
fn a_model_without_template_is_reported_for_each_line_and_wrong_parameters_at_once() {
    let home = home_with(&Script::says("\nok.").template(None));
    let ran = chat(&home, &[], "hi\n").ok();
    assert_eq!(ran.out, "");
    assert!(ran.err.contains("no chat template"), "{}", ran.err);
    let home = home_with(&Script::says("\nok."));
    let ran = chat(&home, &["-t", "-1"], "hi\n").refused(2);
    assert!(ran.err.contains("temperature is -1"), "{}", ran.err);
}

#[test]
fn input_that_is_no_text_ends_the_chat_with_an_error() {
    let home = home_with(&Script::says("\nok."));
    let ran = home.feed(["chat", "-m", "scripted.gguf"], b"hi\n\xff\xfe\nhi\n");
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(1), "ok.\n"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("UTF-8"), "{}", ran.err);
}

#[test]
fn later_turns_are_answered_as_if_asked_afresh() {
    // What a turn reuses of the one before shows in its answer: the same as a chat of only that history would give.
    let model = crate::tiny();
    let home = Home::new();
    let run = |input: &str| {
        home.feed(["chat", "-m", &model, "-t", "0", "-n", "12", "-q"], input)
            .ok()
            .out
    };
    let twice = run("hello\n/reset\nhello\n");
    let once = run("hello\n");
    assert_eq!(twice, once.repeat(2));
}
