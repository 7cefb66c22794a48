//! Readers that go away, and Ctrl-C.

use crate::home_with;
use mx_tests::mx::{Home, Running};
use mx_tests::scripted::Script;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

/// A model that never stops talking.
fn endless() -> Home {
    home_with(&Script::repeats("\nab").context(1_000_000))
}

const TALK: [&str; 6] = ["generate", "-m", "scripted.gguf", "x", "-n", "1000000"];

#[test]
fn a_reader_that_goes_away_is_success() {
    let home = endless();
    let mut child = home.command(TALK).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut some = [0; 5];
    out.read_exact(&mut some).unwrap();
    assert_eq!(&some, b"ababa");
    drop(out);
    let ran = Running::of(child).finish().ok();
    assert!(
        !ran.err.contains("panicked") && !ran.err.contains("error"),
        "{}",
        ran.err
    );
}

#[test]
fn a_reader_that_goes_away_is_success_for_every_command() {
    let home = home_with(&Script::says("\nab"));
    for all in [
        &["generate", "-m", "scripted.gguf", "x", "--json"][..],
        &["devices"],
        &["devices", "--json"],
        &["doctor"],
        &["show", "scripted.gguf"],
        &["tokenize", "-m", "scripted.gguf", "hello"],
        &["list", "--json"],
    ] {
        let mut child = home.command(all).spawn().unwrap();
        drop(child.stdout.take());
        let ran = Running::of(child).finish();
        assert_eq!(ran.code, Some(0), "{all:?}: {}", ran.err);
        assert!(!ran.err.contains("panicked"), "{all:?}: {}", ran.err);
    }
}

#[test]
fn a_stderr_that_goes_away_does_not_matter() {
    let home = home_with(&Script::says("\nab"));
    let mut child = home
        .command(["generate", "-m", "scripted.gguf", "x"])
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(Running::of(child).finish().ok().out, "ab\n");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_produced() {
    let home = endless();
    let mut child = home.command(TALK).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut text = vec![0; 5];
    out.read_exact(&mut text).unwrap();
    let running = Running::of(child);
    running.interrupt();
    out.read_to_end(&mut text).unwrap();
    let ran = running.finish();
    assert_eq!(ran.code, Some(130), "{}", ran.err);
    let text = String::from_utf8(text).unwrap();
    assert!(text.ends_with('\n'), "the line is ended");
    assert!(
        text.trim_end()
            .chars()
            .zip("ab".chars().cycle())
            .all(|(given, wanted)| given == wanted)
    );
    assert!(
        !ran.err.contains("panicked") && !ran.err.contains("error"),
        "{}",
        ran.err
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_under_json_prints_what_there_is() {
    let home = endless();
    let mut child = home
        .command(TALK.iter().chain(&["--json"]))
        .spawn()
        .unwrap();
    // The route is said when the model is loaded, so when Ctrl-C is taken over.
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert!(line.starts_with("local: "), "{line}");
    let running = Running::of(child);
    running.interrupt();
    let ran = running.finish();
    assert_eq!(ran.code, Some(130));
    assert_eq!(ran.json()["finish_reason"], "cancelled");
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_answer_and_not_the_chat() {
    let home = endless();
    let mut command = home.command(["chat", "-m", "scripted.gguf", "-n", "1000000"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut out = child.stdout.take().unwrap();
    let running = Running::of(child);
    for _ in 0..2 {
        stdin.write_all(b"talk\n").unwrap();
        let mut some = [0; 3];
        out.read_exact(&mut some).unwrap();
        running.interrupt();
        // The rest of this answer.
        let mut byte = [0];
        while byte != *b"\n" {
            out.read_exact(&mut byte).unwrap();
        }
    }
    stdin.write_all(b"/exit\n").unwrap();
    let ran = running.finish();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(ran.err.matches("(stopped)").count(), 2, "{}", ran.err);
}
