//! `mx policy` and `mx generate --policy`.

use crate::{home_with, tiny};
use mx_tests::mx::Home;
use mx_tests::scripted::Script;
use serde_json::{Value, json};

fn write(home: &Home, name: &str, policy: &Value) {
    std::fs::write(home.path().join(name), policy.to_string()).unwrap();
}

#[test]
fn policies_are_made_saved_shown_listed_and_deleted() {
    let home = Home::new();
    let made = home
        .run(["policy", "new", "strict-json-extraction", "name: string"])
        .ok();
    let policy = made.json();
    assert_eq!(
        policy["constraints"]["json_schema"]["required"],
        json!(["name"])
    );
    let saved = home
        .feed(["policy", "save", "-", "--id", "people"], &made.out)
        .ok();
    assert_eq!(saved.out, "people\n");
    let shown = home.run(["policy", "show", "people"]).ok().json();
    assert_eq!(shown["sampling"], policy["sampling"]);
    assert!(
        home.run(["policy", "list"])
            .ok()
            .out
            .starts_with("people  strict_json_extraction")
    );
    let preset = home
        .run([
            "policy", "publish", "people", "--name", "P", "--tag", "json",
        ])
        .ok();
    assert_eq!(
        home.run(["policy", "presets", "--json"]).ok().json()[0]["tags"],
        json!(["json"])
    );
    let clone = home.run(["policy", "clone", preset.out.trim()]).ok();
    assert_eq!(
        home.run(["policy", "list", "--json"])
            .ok()
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
    home.run(["policy", "delete", clone.out.trim()]).ok();
    home.run(["policy", "delete", "people"]).ok();
    let missing = home.run(["policy", "show", "people"]).refused(2);
    assert!(
        missing.err.contains("no policy has the id \"people\""),
        "{}",
        missing.err
    );
    home.run(["policy", "show", "../../etc/passwd"]).refused(2);
    for which in ["fast-tool-router", "diverse-chatbot"] {
        assert!(home.run(["policy", "new", which]).ok().json()["sampling"].is_object());
    }
}

#[test]
fn a_policy_runs_and_its_verdict_is_the_exit_code() {
    let home = home_with(&Script::says("ab\n1.é"));
    write(
        &home,
        "good.json",
        &json!({"verifiers": {"enabled": ["forbidden_terms"]},
        "constraints": {"forbidden_terms": ["nowhere"]}}),
    );
    write(
        &home,
        "bad.json",
        &json!({"constraints": {"choices": [], "json_mode": false, "regex_pattern": "[xyz]"},
        "verifiers": {"enabled": ["syntax"]}}),
    );
    let model = ["--model", "scripted.gguf"];
    let run = |more: &[&str]| home.run(more.iter().chain(&model).copied());
    let good = run(&["policy", "run", "good.json", "x"]).ok();
    assert_eq!(good.out, "1.é\n");
    assert!(good.err.contains("accepted, score 1.00"), "{}", good.err);
    let json = run(&["policy", "run", "good.json", "x", "--json", "--seed", "5"])
        .ok()
        .json();
    assert_eq!(
        (&json["output"], &json["accepted"]),
        (&json!("1.é"), &json!(true))
    );
    assert_eq!(json["trace"]["seed"], 5);
    assert_eq!(json["trace"]["candidates"].as_array().unwrap().len(), 1);
    // The mask forces what the model would not say.
    let masked = run(&["policy", "run", "bad.json", "x"]);
    assert_eq!(masked.code, Some(0), "{}", masked.err);
    assert!(masked.err.contains("constraints.choices"), "{}", masked.err);
    let generated = run(&["generate", "x", "--policy", "good.json"]).ok();
    assert_eq!(generated.out, "1.é\n");
    let json = run(&["generate", "x", "--policy", "good.json", "--json"])
        .ok()
        .json();
    assert_eq!(json["policy"]["accepted"], true);
    let broken = home
        .feed(["policy", "save", "-"], "{\"sampling\": 3}")
        .refused(2);
    assert!(broken.err.contains("no policy"), "{}", broken.err);
}

#[test]
fn an_output_that_is_not_accepted_exits_with_1() {
    let home = home_with(&Script::says("ab\n1.é"));
    write(
        &home,
        "code.json",
        &json!({"verifiers": {"enabled": ["code_compile"], "repair_on_failure": false},
        "optimization": {"retry_on_failure": 0}}),
    );
    let model = ["--model", "scripted.gguf"];
    let run = |more: &[&str]| home.run(more.iter().chain(&model).copied());
    let refused = run(&["policy", "run", "code.json", "x"]).refused(7);
    assert!(refused.err.contains("not allowed"), "{}", refused.err);
    let ran = run(&["policy", "run", "code.json", "x", "--allow-code-execution"]);
    if ran.err.contains("can be started") {
        eprintln!(
            "SKIPPED an_output_that_is_not_accepted_exits_with_1: {}",
            ran.err
        );
        return;
    }
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(1), "1.é\n"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("SyntaxError"), "{}", ran.err);
    let ran = run(&[
        "generate",
        "x",
        "--policy",
        "code.json",
        "--allow-code-execution",
    ]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(1), "1.é\n"),
        "{}",
        ran.err
    );
}

#[test]
fn comparing_evaluating_and_tuning() {
    let home = Home::new();
    let model = tiny();
    write(
        &home,
        "a.json",
        &json!({"constraints": {"regex_pattern": "[0-9]{2}"}}),
    );
    write(&home, "b.json", &json!({}));
    std::fs::write(home.path().join("prompts.txt"), "one\n\ntwo\n").unwrap();
    let how = ["--model", &model, "--raw", "--seed", "1", "-n", "8"];
    let run = |more: &[&str]| home.run(more.iter().chain(&how).copied());
    let compared = run(&[
        "policy", "compare", "a.json", "b.json", "--prompt", "x", "--json",
    ])
    .ok()
    .json();
    let first = compared["results"][0]["output"].as_str().unwrap();
    assert!(first.len() == 2 && first.parse::<u32>().is_ok());
    let table = run(&["policy", "compare", "a.json", "b.json", "--prompt", "x"]).ok();
    assert!(table.out.contains("a.json  yes"), "{}", table.out);
    let found = run(&["policy", "evaluate", "a.json", "prompts.txt", "--json"])
        .ok()
        .json();
    assert_eq!(
        (&found["num_prompts"], &found["success_rate"]),
        (&json!(2), &json!(1.0))
    );
    let tuned = run(&[
        "policy",
        "tune",
        "a.json",
        "prompts.txt",
        "--over",
        "sampling.temperature=0.2,0.9",
        "--over",
        "sampling.method=top-k,top-p",
        "--json",
    ]);
    let tuned = tuned.ok().json();
    assert_eq!(tuned["trials"].as_array().unwrap().len(), 4);
    let methods: Vec<&Value> = (0..4)
        .map(|i| &tuned["trials"][i]["policy"]["sampling"]["method"])
        .collect();
    assert_eq!(methods, ["top-k", "top-k", "top-p", "top-p"]);
    let wrong = run(&[
        "policy",
        "tune",
        "a.json",
        "prompts.txt",
        "--over",
        "sampling.nonsense=1",
    ]);
    assert!(wrong.refused(2).err.contains("sampling.nonsense"));
}
