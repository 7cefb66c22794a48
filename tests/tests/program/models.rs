//! `mx pull`, `list`, `show`, `rm`, `devices`, `doctor`.

use crate::{home_with, tiny};
use mx_tests::data;
use mx_tests::http::Hub;
use mx_tests::mx::{Home, Ran, finish};
use mx_tests::scripted::Script;
use std::path::Path;
use std::time::UNIX_EPOCH;

#[test]
fn show_describes_a_model() {
    let home = Home::new();
    let table = home.run(["show", &tiny()]).ok().out;
    for (name, value) in [
        ("architecture", "llama"),
        ("context", "256 tokens"),
        ("layers", "3 "),
        ("heads", "6 of 8 (kv 2)"),
        ("vocabulary", "320"),
        ("chat template", "yes"),
    ] {
        let line = table
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} is not in\n{table}"));
        assert!(line[name.len()..].trim_start().starts_with(value), "{line}");
    }
    let json = home.run(["show", "--json", &tiny()]).ok().json();
    assert_eq!(json["config"]["vocab"], 320);
    assert_eq!(json["config"]["max_context"], 256);
    assert_eq!(json["tokenizer"], 320);
    // 320*48 + 48 + 3 * (2*48 + 48*48*2 + 2*16*48 + 3*112*48)
    assert_eq!(
        json["parameters"],
        320 * 48 + 48 + 3 * (2 * 48 + 48 * 48 * 2 + 2 * 16 * 48 + 3 * 112 * 48)
    );
    let folder = data::folder("mistral_swa").display().to_string();
    let json = home.run(["show", "--json", &folder]).ok().json();
    assert_eq!(json["config"]["architecture"], "mistral");
    assert_eq!(json["tokenizer"], serde_json::Value::Null);
    assert!(
        home.run(["show", &folder])
            .ok()
            .out
            .contains("3 with a sliding window")
    );
}

#[test]
fn show_refuses_what_is_no_model() {
    let home = Home::new();
    home.run(["show", "nonsense"]).refused(3);
    let hostile = data::path("gguf/hostile/head_count_zero.gguf")
        .display()
        .to_string();
    home.run(["show", &hostile]).refused(5);
    home.run(["show"]).refused(4);
}

/// Puts a copy of the scripted model into the model folder, as an installation leaves it.
fn install(home: &Home, name: &str) {
    let folder = home.path().join("mx/models").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let file = Script::says("\nab").write(&folder);
    let metadata = std::fs::metadata(&file).unwrap();
    let modified = metadata
        .modified()
        .unwrap()
        .duration_since(UNIX_EPOCH)
        .unwrap();
    let manifest = serde_json::json!({
        "format": 1, "source": "a test", "installed": 1_700_000_000,
        "files": [{"name": "scripted.gguf", "bytes": metadata.len(), "sha256": "0".repeat(64),
            "modified": [modified.as_secs(), modified.subsec_nanos()]}],
    });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

#[test]
fn installed_models_are_listed_used_and_removed() {
    let home = Home::new();
    assert_eq!(home.run(["list"]).ok().out, "");
    assert_eq!(
        home.run(["list", "--json"]).ok().json(),
        serde_json::json!([])
    );
    install(&home, "mine");
    let table = home.run(["list"]).ok().out;
    assert!(
        table.starts_with("NAME")
            && table
                .lines()
                .nth(1)
                .is_some_and(|line| line.starts_with("mine ")),
        "{table}"
    );
    let json = home.run(["list", "--json"]).ok().json();
    assert_eq!(
        (json[0]["name"].as_str(), json[0]["usable"].as_bool()),
        (Some("mine"), Some(true))
    );
    assert_eq!(home.run(["generate", "-m", "mine", "x"]).ok().out, "ab\n");
    let removed = home.run(["rm", "mine"]).ok();
    assert!(removed.err.contains("removed mine"), "{}", removed.err);
    assert!(!home.path().join("mx/models/mine").exists());
    assert_eq!(
        home.run(["list", "--json"]).ok().json(),
        serde_json::json!([])
    );
    let ran = home.run(["rm", "mine"]).refused(3);
    assert!(ran.err.contains("mine"), "{}", ran.err);
}

#[test]
fn a_model_that_has_changed_is_reported_and_not_used() {
    let home = Home::new();
    install(&home, "mine");
    let file = home.path().join("mx/models/mine/scripted.gguf");
    std::fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(1000)
        .unwrap();
    let json = home.run(["list", "--json"]).ok().json();
    assert_eq!(json[0]["usable"], false);
    assert!(home.run(["list"]).ok().out.contains("changed"));
    let ran = home.run(["doctor"]);
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.out.contains("mx rm mine"), "{}", ran.out);
    assert!(ran.out.contains("1 problem"), "{}", ran.out);
    home.run(["generate", "-m", "mine", "x"]).refused(5);
}

#[test]
fn names_that_would_leave_the_folder_are_refused() {
    let home = home_with(&Script::says("ab"));
    for name in ["../scripted", "..", "/etc", "a/../b", "."] {
        let ran = home.run(["rm", name]);
        assert_eq!(ran.code, Some(2), "{name}: {}", ran.err);
        assert!(Path::new(home.path()).join("scripted.gguf").exists());
    }
}

fn with_hub(home: &Home, hub: &Hub, arguments: &[&str]) -> Ran {
    let mut command = home.command(arguments);
    command
        .env_remove("MX_OFFLINE")
        .env("HF_ENDPOINT", hub.url())
        .env("NO_PROXY", "127.0.0.1");
    finish(command, b"")
}

#[test]
fn a_hub_repository_is_fetched_once_and_then_needs_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let content = std::fs::read(Script::says("\nab").write(folder.path())).unwrap();
    let hub = Hub::start("tiny-f32.gguf", content.clone());
    let home = Home::new();
    let pulled = with_hub(&home, &hub, &["pull", "org/tiny"]).ok();
    let path = Path::new(pulled.out.trim_end());
    assert_eq!(
        std::fs::read(path).unwrap(),
        content,
        "the path is the only data"
    );
    assert!(pulled.err.contains("org/tiny"), "{}", pulled.err);
    let asked = hub.asked();
    assert!(asked >= 2);
    assert_eq!(
        with_hub(&home, &hub, &["generate", "-m", "org/tiny", "x"])
            .ok()
            .out,
        "ab\n"
    );
    assert_eq!(hub.asked(), asked, "what is here is not asked for again");
    assert_eq!(
        home.run(["generate", "-m", "org/tiny", "x"]).ok().out,
        "ab\n",
        "offline too"
    );
    let json = home.run(["list", "--json"]).ok().json();
    assert_eq!(
        (json[0]["name"].as_str(), json[0]["source"].as_str()),
        (Some("org/tiny"), Some("hub cache"))
    );
}

#[test]
fn pull_of_a_path_gives_the_path() {
    let home = home_with(&Script::says("ab"));
    let ran = home.run(["pull", "./scripted.gguf"]).ok();
    assert!(
        Path::new(ran.out.trim_end()).ends_with("scripted.gguf"),
        "{}",
        ran.out
    );
    home.run(["pull", "nonsense"]).refused(3);
}

#[test]
fn devices_lists_what_there_is() {
    let home = Home::new();
    let table = home.run(["devices"]).ok().out;
    assert!(
        table
            .lines()
            .any(|line| line.starts_with("flex ") && line.contains("ready")),
        "{table}"
    );
    let json = home.run(["devices", "--json"]).ok().json();
    let ids: Vec<&str> = json
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|d| d["id"].as_str())
        .collect();
    assert!(ids.contains(&"flex") && ids.contains(&"wgpu"), "{ids:?}");
}

#[test]
fn doctor_looks_around_without_the_network() {
    let home = Home::new();
    let ran = home.run(["doctor"]).ok();
    let models = home.path().join("mx/models").display().to_string();
    for word in ["flex", &models, "MX_OFFLINE", "no problems found"] {
        assert!(ran.out.contains(word), "{word:?} is not in {}", ran.out);
    }
}
