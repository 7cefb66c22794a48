//! `mx steer`: vectors from pairs, by every method, and what becomes of wrong input.

use crate::tiny;
use mx_tests::mx::{Home, Ran};

const PAIRS: &str = r#"{"prompt": "I say", "positive_answer": " yes", "negative_answer": " no"}
{"prompt": "They say", "positive": " yes, all", "negative": " no, none"}

{"prompt": "We say", "positive_answer": " yes to it", "negative_answer": " no to it"}
{"prompt": "You say", "positive": " yes yes", "negative": " no no"}
"#;

fn home(pairs: &str) -> Home {
    let home = Home::new();
    std::fs::write(home.path().join("pairs.jsonl"), pairs).unwrap();
    home
}

fn make(home: &Home, more: &[&str]) -> Ran {
    let model = tiny();
    let mut arguments = vec!["steer", "make", "pairs.jsonl", "--model", &model];
    arguments.extend(more);
    home.run(arguments)
}

#[test]
fn a_vector_is_made_kept_used_and_deleted() {
    let home = home(PAIRS);
    let made = make(&home, &["--layers", "1", "--label", "kind"]).ok();
    let id = made.out.trim().to_owned();
    assert!(id.starts_with("sv_"), "{}", made.out);
    assert!(made.err.contains("resid_post.1: length"), "{}", made.err);
    let listed = home.run(["steer", "list", "--json"]).ok().json();
    assert_eq!(
        (&listed[0]["id"], &listed[0]["name"]),
        (&id.clone().into(), &"pairs".into())
    );
    let shown = home.run(["steer", "show", "pairs"]).ok().out;
    assert!(shown.contains("caa") && shown.contains("kind"), "{shown}");

    let model = tiny();
    let text = |steer: &str| {
        let steer = format!("pairs:{steer}");
        let base = [
            "generate", "--model", &model, "x", "-t", "0", "-n", "12", "--json",
        ];
        let ran = home.run(base.into_iter().chain(["--steer", &steer])).ok();
        ran.json()["tokens"].clone()
    };
    assert_ne!(text("0"), text("400"));
    assert_eq!(text("0"), text("0"));

    for file in ["v.safetensors", "v.json", "v.gguf"] {
        home.run(["steer", "export", &id, file]).ok();
        let again = home.run(["steer", "import", file, "--name", file]).ok();
        assert!(again.out.starts_with("sv_"), "{file}: {}", again.out);
        let shown = home.run(["steer", "show", file]).ok().out;
        assert!(shown.contains("norm "), "{file}: {shown}");
    }
    home.run(["steer", "rm", &id]).ok();
    home.run(["steer", "show", &id]).refused(2);
}

#[test]
fn every_method_makes_a_vector() {
    let home = home(PAIRS);
    for method in [
        "caa",
        "caa_mechanex",
        "mean_difference",
        "pca_diff",
        "pca_center",
        "repe",
        "few-shot",
        "few_shot",
    ] {
        let made = make(
            &home,
            &["--layers", "1", "--method", method, "--name", method],
        )
        .ok();
        assert!(made.out.starts_with("sv_"), "{method}: {}", made.out);
    }
    make(&home, &["--method", "magic"]).refused(2);
}

#[test]
fn few_shot_descends_visibly_and_repeatably() {
    let home = home(PAIRS);
    let run = |seed: &str, steps: &str| {
        let more = [
            "--method", "few-shot", "--layers", "1", "--seed", seed, "--steps", steps,
        ];
        make(
            &home,
            &[&more[..], &["--name", "few", "--max-norm", "0.5"]].concat(),
        )
        .ok()
    };
    let (first, second, other) = (run("3", "4"), run("3", "4"), run("4", "4"));
    assert_eq!(first.out, second.out);
    assert_ne!(first.out, other.out);
    assert!(first.err.contains("descending 0/4"), "{}", first.err);
    assert!(first.err.contains("loss"), "{}", first.err);
    assert!(
        first.err.contains("in 4 steps, all steps taken"),
        "{}",
        first.err
    );
    assert!(
        first.err.contains("resid_pre.1: length 0.500"),
        "{}",
        first.err
    );
    // a target that is met at once: no step is taken
    let met = make(&home, &["--method", "few-shot", "--target-loss", "1e9"]).ok();
    assert!(
        met.err.contains("in 0 steps, target loss reached"),
        "{}",
        met.err
    );
    make(&home, &["--method", "few-shot", "--learning-rate", "0"]).refused(2);
    make(&home, &["--steps", "4"]).refused(7);
}

#[test]
fn few_shot_does_without_negatives_and_the_others_do_not() {
    let home = home("{\"prompt\": \"I say\", \"positive_answer\": \" yes\"}\n");
    let few = ["--method", "few-shot", "--layers", "1", "--steps", "2"];
    make(&home, &few).ok();
    let refused = make(&home, &["--layers", "1"]).refused(2);
    assert!(refused.err.contains("line 1"), "{}", refused.err);
}

#[test]
fn the_layer_is_chosen_by_pairs_held_out() {
    let home = home(PAIRS);
    let made = make(&home, &["--layers", "auto"]).ok();
    assert!(made.err.contains("places: d'"), "{}", made.err);
    assert!(made.err.contains("right side"), "{}", made.err);
    let shown = home.run(["steer", "show", made.out.trim()]).ok().out;
    assert_eq!(
        shown.matches("resid_post.").count(),
        2,
        "one place, and its d': {shown}"
    );
    make(
        &home,
        &["--layers", "auto", "--method", "few-shot", "--steps", "2"],
    )
    .ok();
    make(&home, &["--layers", "auto", "--method", "caa_mechanex"]).refused(2);
    make(&home, &["--layers", "auto", "--held-out", "1"]).refused(2);
    make(&home, &["--layers", "99"]).refused(2);
}

#[test]
fn a_bad_line_is_named() {
    for (line, what) in [
        (
            "{\"prompt\": \"a\", \"positive_answer\": \"b\"}",
            "negative",
        ),
        ("no json", "JSON"),
        ("[1]", "object"),
        (
            "{\"prompt\": 3, \"positive\": \"a\", \"negative\": \"b\"}",
            "prompt",
        ),
    ] {
        let pairs = format!("{}\n{line}\n", PAIRS.lines().next().unwrap());
        let refused = make(&home(&pairs), &[]).refused(2);
        assert!(
            refused.err.contains("line 2") && refused.err.contains(what),
            "{line}: {}",
            refused.err
        );
    }
    make(&home(""), &[]).refused(2);
}

#[test]
fn presets_are_asked_for_sensibly() {
    let home = home(PAIRS);
    let model = tiny();
    let eval = |more: &[&str]| {
        let base = ["steer", "eval", "--model", &model];
        home.run(base.iter().chain(more))
    };
    eval(&["no_such_preset"]).refused(2);
    eval(&["tone_control.loud"]).refused(2);
    eval(&["domain_specific"]).refused(7);
    eval(&["brevity", "--terms", "a,b"]).refused(7);
    // bundled pairs of a tone, without a file
    let made = home
        .run([
            "steer",
            "make",
            "--preset",
            "tone_control.warm",
            "--layers",
            "1",
            "--model",
            &model,
        ])
        .ok();
    let shown = home.run(["steer", "show", made.out.trim()]).ok().out;
    assert!(shown.contains("tone_control.warm"), "{shown}");
}
