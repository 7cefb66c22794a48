//! Model files made to do harm.

use mx_runtime::device::DeviceId;
use mx_runtime::model::{LoadOptions, Model};
use mx_tests::data;
use std::path::Path;

fn load(path: &Path) -> Result<Model, String> {
    Model::load(path, &LoadOptions::on(DeviceId::Flex)).map_err(|error| error.to_string())
}

#[test]
fn every_hostile_gguf_is_refused_by_name_and_every_valid_one_read() {
    let index = data::json("gguf/hostile/index.json");
    let files = index["files"].as_array().unwrap();
    assert!(files.len() > 40);
    for entry in files {
        let name = entry["file"].as_str().unwrap();
        let path = data::path("gguf/hostile").join(name);
        let result = load(&path);
        match (entry["expect"].as_str().unwrap(), &result) {
            ("refuse", Ok(_)) => panic!("{name} loads: {}", entry["why"]),
            ("load", Err(message)) => panic!("{name} does not load: {message}"),
            _ => {}
        }
        if let Err(message) = result {
            assert!(
                message.contains(name),
                "{name}: the file is not named in {message}"
            );
        }
    }
}

#[test]
fn every_hostile_safetensors_file_is_refused_as_weights() {
    let config = data::folder("llama_gqa_tied").join("config.json");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(config, folder.path().join("config.json")).unwrap();
    for entry in std::fs::read_dir(data::path("safetensors_hostile")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            std::fs::copy(&path, folder.path().join("model.safetensors")).unwrap();
            let message = load(folder.path()).unwrap_err();
            assert!(
                message.contains("model.safetensors") || message.contains("embed_tokens"),
                "{}: {message}",
                path.display()
            );
        }
    }
}

#[test]
fn places_that_hold_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let message = load(here).unwrap_err();
    assert!(
        message.contains("no config.json and no .gguf file"),
        "{message}"
    );
    assert!(load(&here.join("nowhere")).unwrap_err().contains("nowhere"));
    for name in ["a.gguf", "b.gguf"] {
        std::fs::copy(data::gguf("llama_gqa_tied"), here.join(name)).unwrap();
    }
    assert!(load(here).unwrap_err().contains("2 .gguf files"));
    std::fs::remove_file(here.join("b.gguf")).unwrap();
    assert!(load(here).is_ok(), "a folder with one file is that file");
    std::fs::write(here.join("config.json"), "{}").unwrap();
    assert!(load(here).unwrap_err().contains("config.json"));
}

#[test]
fn indexes_of_shards_that_point_elsewhere() {
    let source = data::folder("llama_bf16_sharded");
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&source).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    assert!(load(folder.path()).is_ok());
    let index = folder.path().join("model.safetensors.index.json");
    let good = std::fs::read_to_string(&index).unwrap();
    let first = "model-00001-of-00002.safetensors";
    for (bad, why) in [
        (
            good.replace(first, "../../etc/passwd"),
            "a path that leaves the folder",
        ),
        (good.replace(first, "/etc/passwd"), "an absolute path"),
        (
            good.replace(first, "missing.safetensors"),
            "a missing shard",
        ),
        (
            good.replace(first, "model-00002-of-00002.safetensors"),
            "tensors in the wrong shard",
        ),
        (
            good.replace(first, "config.json"),
            "a shard that is no safetensors file",
        ),
        (good.replace(first, ""), "no name"),
        ("{\"weight_map\": 3}".to_owned(), "a map that is none"),
        ("{\"weight_map\": {}}".to_owned(), "an empty map"),
        ("[".repeat(100_000), "nesting"),
        (String::new(), "nothing"),
    ] {
        std::fs::write(&index, bad).unwrap();
        assert!(load(folder.path()).is_err(), "{why}");
    }
}

/// A copy of a tiny model's folder.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data::folder("llama_gqa_tied")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

#[test]
#[cfg(unix)]
fn pipes_and_devices_beside_the_weights_are_refused() {
    for name in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ] {
        let folder = copy();
        let path = folder.path().join(name);
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let message = load(folder.path()).map(|_| ()).unwrap_err();
        assert!(message.contains(name), "{name}: {message}");
    }
}

#[test]
fn shapes_beyond_all_numbers_are_refused_without_a_panic() {
    let folder = copy();
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (field, value) in [
        ("hidden_size", 1u64 << 20),
        ("num_attention_heads", 1 << 16),
        ("num_key_value_heads", 1 << 16),
        ("head_dim", 1 << 16),
        ("num_hidden_layers", 1 << 16),
        ("intermediate_size", 1 << 24),
        ("vocab_size", 1 << 24),
    ] {
        config[field] = value.into();
    }
    std::fs::write(&path, config.to_string()).unwrap();
    assert!(load(folder.path()).is_err());
    if let Ok(config) = mx_runtime::config::from_json(&config.to_string(), "c") {
        assert_eq!(config.parameters(), usize::MAX);
        assert!(config.kv_bytes_per_token(4) > 0);
    }
}
