//! `mx trace`: a run that is recorded, shown, compared, repeated and questioned.

use mx_tests::data;
use mx_tests::mx::Home;

/// Records a run of a tiny model that the CPU engine takes.
fn record(home: &Home, file: &str, more: &[&str]) {
    let model = data::gguf("llama_q64_q8_0").display().to_string();
    let mut arguments = vec![
        "generate",
        "--raw",
        "one two three",
        "-n",
        "9",
        "--model",
        &model,
    ];
    arguments.extend(["-t", "1.1", "--trace", file]);
    arguments.extend(more);
    home.run(arguments).ok();
}

#[test]
fn a_recorded_run_is_shown_and_repeated() {
    let home = Home::new();
    record(&home, "a.json", &["--seed", "4"]);
    let shown = home.run(["trace", "show", "a.json"]).ok().out;
    for word in [
        "cpu engine",
        "top_k",
        "seed",
        "4 (request)",
        "sampled",
        "step",
        "9 tokens",
    ] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    let ran = home.run(["trace", "replay", "a.json"]).ok();
    assert!(
        ran.out
            .contains("the same text: 9 tokens, every law to the last bit"),
        "{}",
        ran.out
    );
    let ran = home
        .run(["trace", "replay", "a.json", "--threads", "1", "--json"])
        .ok();
    assert_eq!(ran.json()["same"], true);
    let ran = home.run(["trace", "why", "0@2", "a.json"]).ok();
    assert!(
        ran.out.contains("step 2: ") && ran.out.contains("rank"),
        "{}",
        ran.out
    );
    let ran = home.run(["trace", "why", "0@2", "a.json", "--json"]).ok();
    assert_eq!(ran.json()["asked"]["token"], 0);
}

#[test]
fn what_differs_is_said_with_exit_code_1() {
    let home = Home::new();
    record(&home, "a.json", &["--seed", "4"]);
    record(&home, "b.json", &["--seed", "5"]);
    home.run(["trace", "diff", "a.json", "a.json"]).ok();
    let ran = home.run(["trace", "diff", "a.json", "b.json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    for word in [
        "setting seed was 4, is 5",
        "first divergence: step",
        "drawn from",
        "the model",
    ] {
        assert!(ran.out.contains(word), "{word} in {}", ran.out);
    }
    // On the other engine the laws differ in their last bits at least, and what differs is named.
    let ran = home.run(["trace", "replay", "a.json", "--engine", "burn", "--json"]);
    let json = ran.json();
    let causes = json["diff"]["differences"].to_string();
    assert!(causes.contains("model's engine"), "{causes}");
    assert_eq!(json["diff"]["same_laws"], false);
}

#[test]
fn wrong_questions_and_files_are_refused() {
    let home = Home::new();
    record(&home, "a.json", &[]);
    std::fs::write(home.path().join("bad.json"), "{\"version\": 1}").unwrap();
    std::fs::write(home.path().join("none.json"), "[]").unwrap();
    home.run(["trace", "show", "missing.json"]).refused(2);
    let ran = home.run(["trace", "show", "bad.json"]).refused(2);
    assert!(ran.err.contains("version 1, wanted 3"), "{}", ran.err);
    home.run(["trace", "show", "none.json"]).refused(2);
    home.run(["trace", "why", "five", "a.json"]).refused(2);
    home.run(["trace", "why", "1@99", "a.json"]).refused(2);
    let ran = home.run([
        "generate",
        "x",
        "--model",
        &crate::tiny(),
        "--trace",
        "no/such/folder.json",
    ]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
}
