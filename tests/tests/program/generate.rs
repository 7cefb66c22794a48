//! `mx generate`: where the prompt comes from, what is printed where.

use crate::{home_with, tiny};
use mx_tests::mx::Home;
use mx_tests::scripted::Script;

const MODEL: [&str; 3] = ["generate", "--model", "scripted.gguf"];

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    MODEL.iter().chain(more).copied().collect()
}

#[test]
fn a_prompt_is_answered_through_the_template_and_continued_under_raw() {
    let home = home_with(&Script::says("ab\n1.é€😀"));
    assert_eq!(home.run(arguments(&["x"])).ok().out, "1.é€😀\n");
    assert_eq!(home.run(arguments(&["--raw", "a"])).ok().out, "b\n1.é€😀\n");
}

#[test]
fn a_text_that_ends_a_line_gets_no_second_end() {
    let home = home_with(&Script::says("ab\n"));
    assert_eq!(home.run(arguments(&["--raw", "a"])).ok().out, "b\n");
    assert_eq!(
        home.run(arguments(&["--raw", "\n"])).ok().out,
        "\n",
        "nothing said is an empty line"
    );
}

#[test]
fn the_prompt_comes_from_everywhere() {
    let home = home_with(&Script::says("abc"));
    std::fs::write(home.path().join("prompt.txt"), "xa").unwrap();
    for (more, input) in [
        (&["--raw", "xa"][..], ""),
        (&["--raw"], "xa"),
        (&["--raw", "-"], "xa"),
        (&["--raw", "--prompt-file", "prompt.txt"], "not read"),
        (&["--raw", "--prompt-file", "-"], "xa"),
        (&["--raw", "--", "xa"], ""),
        (&["--raw", "--", "-a"], ""),
    ] {
        assert_eq!(
            home.feed(arguments(more), input).ok().out,
            "bc\n",
            "{more:?} {input:?}"
        );
    }
}

#[test]
fn stdin_is_taken_to_the_byte() {
    let home = home_with(&Script::says("\n!"));
    let ran = home.feed(arguments(&["--raw", "--json"]), " é\r\n\n").ok();
    assert_eq!(ran.json()["usage"]["prompt_tokens"], 6);
    assert_eq!(ran.json()["text"], "!");
}

#[test]
fn data_on_stdout_and_all_else_on_stderr() {
    let home = home_with(&Script::repeats("\nab"));
    let ran = home.run(arguments(&["x", "-n", "4"])).ok();
    assert_eq!(ran.out, "abab\n");
    assert!(
        ran.err.contains("local: scripted"),
        "the route is said: {}",
        ran.err
    );
    assert!(ran.err.contains("4 tokens"), "the cut is said: {}", ran.err);
    let quiet = home.run(arguments(&["x", "-n", "4", "--quiet"])).ok();
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("abab\n", ""));
}

#[test]
fn warnings_reach_stderr_and_json() {
    let home = home_with(&Script::says("ab").template(None));
    let ran = home.run(arguments(&["a"])).ok();
    assert_eq!(ran.out, "b\n");
    assert!(
        ran.err.contains("warning: the model has no chat template"),
        "{}",
        ran.err
    );
    let json = home.run(arguments(&["a", "--json"])).ok().json();
    assert_eq!(json["warnings"][0]["code"], "no_chat_template");
    let ran = home
        .run(arguments(&[
            "a", "--method", "greedy", "-t", "0.5", "--raw",
        ]))
        .ok();
    assert!(
        ran.err.contains("warning: temperature 0.5 has no effect"),
        "{}",
        ran.err
    );
    assert_eq!(home.run(arguments(&["a", "--quiet"])).ok().err, "");
}

#[test]
fn json_says_everything() {
    let home = home_with(&Script::says("abcd"));
    let ran = home
        .run(arguments(&[
            "--raw", "a", "--json", "--seed", "7", "--stop", "d",
        ]))
        .ok();
    let json = ran.json();
    assert_eq!(json["text"], "bc");
    assert_eq!(json["tokens"].as_array().map(Vec::len), Some(3));
    assert_eq!(json["finish_reason"], "stop");
    assert_eq!(json["stop_text"], "d");
    assert_eq!(json["seed"], 7);
    assert_eq!(json["method"], "top-k");
    assert_eq!(json["route"], "local");
    assert_eq!(json["engine"]["device"], "flex");
    assert_eq!(
        json["usage"],
        serde_json::json!({"prompt_tokens": 1, "completion_tokens": 3, "cached_tokens": 0})
    );
    let setting = |name: &str| {
        let settings = json["settings"].as_array().unwrap();
        settings
            .iter()
            .find(|s| s["name"] == name)
            .unwrap_or_else(|| panic!("{name} is missing"))
            .clone()
    };
    assert_eq!(setting("seed")["origin"], "request");
    assert_eq!(setting("temperature")["origin"], "built_in");
    assert_eq!(setting("stop")["value"], serde_json::json!(["d"]));
}

#[test]
fn a_seed_gives_the_same_text_and_none_gives_another() {
    let home = Home::new();
    let run = |more: &[&str]| {
        let model = tiny();
        let mut all = vec![
            "generate", "-m", &model, "--raw", "hello", "-n", "30", "--json", "-t", "1.5",
        ];
        all.extend(more);
        home.run(all).ok().json()
    };
    let (one, same, other) = (
        run(&["--seed", "1"]),
        run(&["--seed", "1"]),
        run(&["--seed", "2"]),
    );
    assert_eq!(one["tokens"], same["tokens"]);
    assert_ne!(one["tokens"], other["tokens"]);
    // A drawn seed is reported and reproduces the run.
    let drawn = run(&[]);
    let again = run(&["--seed", &drawn["seed"].to_string()]);
    assert_eq!(drawn["tokens"], again["tokens"]);
    assert_ne!(drawn["seed"], run(&[])["seed"]);
}

#[test]
fn temperature_zero_and_method_greedy_are_one() {
    let home = Home::new();
    let run = |more: &[&str]| {
        let model = tiny();
        let mut all = vec![
            "generate", "-m", &model, "--raw", "hello", "-n", "40", "--json",
        ];
        all.extend(more);
        home.run(all).ok().json()["tokens"].clone()
    };
    let greedy = run(&["--method", "greedy"]);
    assert_eq!(greedy, run(&["-t", "0"]));
    assert_eq!(greedy, run(&["-t", "0.000", "--seed", "99"]));
    assert_eq!(greedy, run(&["--top-k", "1", "--seed", "5"]));
    assert_ne!(greedy, run(&["-t", "2", "--seed", "5"]));
}

#[test]
fn a_stop_text_never_leaks() {
    let home = home_with(&Script::says("\n0123456789END."));
    for (stops, expected) in [
        (&["345"][..], "012\n"),
        (&["END"], "0123456789\n"),
        (&["0"], "\n"),
        (&["9E", "89"], "01234567\n"),
        (&["é", "zz"], "0123456789END.\n"),
        (&["END!"], "0123456789END.\n"),
    ] {
        let mut all = arguments(&["x"]);
        stops.iter().for_each(|stop| all.extend(["--stop", stop]));
        assert_eq!(home.run(all).ok().out, expected, "{stops:?}");
    }
}

#[test]
fn max_tokens_counts_tokens() {
    let home = home_with(&Script::repeats("\nab"));
    for count in ["1", "2", "17"] {
        let json = home
            .run(arguments(&["x", "--json", "--max-tokens", count]))
            .ok()
            .json();
        assert_eq!(json["usage"]["completion_tokens"].to_string(), count);
        assert_eq!(json["finish_reason"], "length");
        assert_eq!(
            json["text"]
                .as_str()
                .map(|text| text.len().to_string())
                .as_deref(),
            Some(count)
        );
    }
}

#[test]
fn a_cut_inside_a_character_gives_no_broken_text() {
    // The budget ends after one, two and three of the four bytes of a character.
    let home = home_with(&Script::says("\na😀b"));
    for count in ["2", "3", "4"] {
        let ran = home.run(arguments(&["x", "-n", count])).ok();
        assert_eq!(ran.out, "a\u{fffd}\n", "{count}");
    }
    assert_eq!(home.run(arguments(&["x", "-n", "5"])).ok().out, "a😀\n");
}

#[test]
fn an_empty_prompt_begins_a_text_and_says_so() {
    let home = home_with(&Script::says("ab"));
    let ran = home.run(arguments(&["--raw", ""])).ok();
    assert!(
        ran.err.contains("warning: the prompt is empty"),
        "{}",
        ran.err
    );
    let ran = home.feed(arguments(&["--raw", "--json"]), "").ok();
    assert_eq!(ran.json()["usage"]["prompt_tokens"], 1);
    // A template makes a prompt of nothing.
    assert!(!home.run(arguments(&[""])).ok().err.contains("empty"));
}

#[test]
fn special_tokens_in_a_prompt_are_text() {
    let home = home_with(&Script::says("ab"));
    let tokens = |prompt: &str| {
        home.run(arguments(&["--raw", "--json", prompt]))
            .ok()
            .json()["usage"]["prompt_tokens"]
            .clone()
    };
    assert_eq!(tokens("<|im_end|>"), 10, "spelled out byte by byte");
}

#[test]
fn a_system_message_goes_in_front() {
    let home = home_with(&Script::says("\n."));
    let usage = |more: &[&str]| {
        let mut all = arguments(&["--json", "x"]);
        all.extend(more);
        home.run(all).ok().json()["usage"]["prompt_tokens"]
            .as_u64()
            .unwrap()
    };
    // <|im_start|>system\nBe.<|im_end|>\n
    assert_eq!(usage(&["--system", "Be."]) - usage(&[]), 1 + 7 + 3 + 1 + 1);
}

#[test]
fn a_prompt_that_is_too_long_is_refused_or_cut_as_asked() {
    let home = home_with(&Script::says("abc").context(16));
    let long = "x".repeat(40) + "a";
    let ran = home.run(arguments(&["--raw", &long])).refused(6);
    assert!(
        ran.err.contains("41 tokens") && ran.err.contains("16"),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains("truncate_prompt"),
        "the way out is named: {}",
        ran.err
    );
    let cut = home
        .run(arguments(&[
            "--raw",
            &long,
            "--on-overflow",
            "truncate_prompt",
            "-n",
            "4",
        ]))
        .ok();
    assert_eq!(cut.out, "bc\n");
    assert!(
        cut.err.contains("dropped the first 29 of 41"),
        "{}",
        cut.err
    );
    let exact = "x".repeat(15);
    home.run(arguments(&["--raw", &exact])).ok();
    home.run(arguments(&["--raw", &(exact + "x")])).refused(6);
}

#[test]
fn a_full_context_ends_the_text_and_says_so() {
    let home = home_with(&Script::repeats("\nab").context(8));
    let ran = home.run(arguments(&["--raw", "xa", "--json"])).ok();
    assert_eq!(ran.json()["finish_reason"], "context_full");
    assert!(
        ran.err.contains("context of 8 tokens is full"),
        "{}",
        ran.err
    );
}

#[test]
fn every_kind_of_model_file_loads() {
    let home = Home::new();
    for model in [
        "llama_gqa_tied",
        "llama3_rope_untied",
        "llama_bf16_sharded",
        "mistral_swa",
        "llama_q64_q4_0",
        "llama_q64_q8_0",
    ] {
        let path = mx_tests::data::gguf(model).display().to_string();
        let json = home
            .run([
                "generate", "-m", &path, "--raw", "hello", "-n", "4", "--json",
            ])
            .ok()
            .json();
        assert!(
            json["usage"]["completion_tokens"].as_u64() >= Some(1),
            "{model}"
        );
    }
    // The folder of a .gguf file is that file; a bare name is a path when it exists.
    let folder = mx_tests::data::path("gguf/llama_gqa_tied")
        .display()
        .to_string();
    home.run(["generate", "-m", &folder, "--raw", "hello", "-n", "4"])
        .ok();
}

#[test]
fn no_colour_and_no_bars_where_nobody_looks() {
    let home = home_with(&Script::says("\nab"));
    for all in [
        arguments(&["x"]),
        arguments(&["x", "-t", "-1"]),
        vec!["generate", "--bad"],
        vec!["doctor"],
        vec!["--help"],
    ] {
        let ran = home.run(&all);
        assert!(
            !ran.out.contains('\x1b') && !ran.err.contains('\x1b'),
            "{all:?}: {:?}",
            ran.err
        );
        assert!(!ran.err.contains('\r'), "{:?}", ran.err);
    }
}

#[test]
fn engines_are_chosen_and_named() {
    let home = Home::new();
    let model = mx_tests::data::gguf("llama_q64_q4_0").display().to_string();
    let run = |more: &[&str]| {
        let mut all = vec![
            "generate", "-m", &model, "--raw", "hello", "-n", "20", "-t", "0", "--json",
        ];
        all.extend(more);
        let json = home.run(all).ok().json();
        (
            json["tokens"].clone(),
            json["engine"]["engine"].as_str().unwrap().to_owned(),
        )
    };
    let (burn, name) = run(&["--engine", "burn"]);
    assert_eq!(name, "burn");
    let (exact, name) = run(&["--engine", "cpu", "--exact"]);
    assert_eq!((&exact, name.as_str()), (&burn, "cpu"));
    let (fast, name) = run(&[]);
    assert_eq!(
        name, "cpu",
        "the one that is taken where it can hold the model"
    );
    for threads in ["1", "2", "3"] {
        assert_eq!(run(&["--threads", threads]).0, fast, "{threads} threads");
    }
}

#[test]
fn weights_are_quantised_while_loading() {
    let home = Home::new();
    // A folder of safetensors, with a tokenizer of the same size.
    let folder = tempfile::tempdir().unwrap();
    let parts = [
        ("tiny_models/llama3_rope_untied", "config.json"),
        ("tiny_models/llama3_rope_untied", "model.safetensors"),
        ("tiny_tokenizers/spbpe_384", "tokenizer.json"),
        ("tiny_tokenizers/spbpe_384", "tokenizer_config.json"),
    ];
    for (from, name) in parts {
        let from = mx_tests::data::path(from).join(name);
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    let model = folder.path().display().to_string();
    let run = |more: &[&str]| {
        let mut all = vec![
            "generate", "-m", &model, "--raw", "hello", "-n", "8", "-t", "0", "--json",
        ];
        all.extend(more);
        let json = home.run(all).ok().json();
        (json["engine"].to_string(), json["tokens"].clone())
    };
    for (format, name) in [("q8_0", "Q8_0"), ("q4_1", "Q4_1"), ("q4_0", "Q4_0")] {
        let (engine, tokens) = run(&["--quantize", format]);
        assert!(engine.contains(name), "{engine}");
        assert_eq!(tokens.as_array().unwrap().len(), 8);
    }
    let (plain, wanted) = run(&[]);
    assert!(!plain.contains("Q8_0"), "{plain}");
    assert_eq!(run(&["--kv", "f16"]).1, wanted, "the default");
    run(&["--kv", "fixed16"]);
    run(&["--kv", "fixed8"]);
}
