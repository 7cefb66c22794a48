//! Model files that were changed at random: whatever comes, no panic; and what loads also runs.

use mx_runtime::device::DeviceId;
use mx_runtime::engine::{Row, StepOutput, Want};
use mx_runtime::model::{LoadOptions, Model};
use mx_tests::data;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use std::path::Path;

/// Loads a model and takes two steps with it. Errors are fine, panics are not.
fn exercise(path: &Path) {
    let Ok(model) = Model::load(path, &LoadOptions::on(DeviceId::Flex)) else {
        return;
    };
    let mut sequence = model.engine().new_sequence();
    let mut output = StepOutput::new();
    for tokens in [&[1, 2, 3][..], &[0]] {
        let row = Row {
            sequence: &mut sequence,
            tokens,
            want: Want::All,
            hooks: None,
        };
        if model.engine().step(&mut [row], &mut output).is_ok() {
            assert_eq!(output.logits(0).len(), tokens.len());
        }
    }
    if let Some(tokenizer) = model.tokenizer() {
        let _ = tokenizer.encode("hello é 🙂", mx_runtime::tokenizer::Specials::AsText);
        let _ = tokenizer.decode(&[0, 1, 2, 100], false);
    }
}

/// Values that a field of a description should not have.
fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![
            0i64,
            1,
            2,
            3,
            7,
            -1,
            i64::MAX,
            i64::MIN,
            1 << 31,
            1 << 32,
            1_000_000
        ])
        .prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::sample::select(vec![0.0, -1.0, 0.5, 1e-300, 1e300, 1e38]).prop_map(Value::from),
        "[a-z_]{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!([1, 2, 3])),
        Just(json!({})),
        Just(
            json!({"rope_type": "llama3", "factor": 0, "low_freq_factor": 4, "high_freq_factor": 1, "original_max_position_embeddings": 0})
        ),
        Just(json!({"rope_type": "yarn", "factor": 1e300, "original_max_position_embeddings": 1})),
        Just(json!({"type": "linear", "factor": -2.0})),
    ]
}

/// A folder with the weights of a tiny model.
fn folder(model: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(data::folder(model).join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn config(model: &str, dialect: &str) -> Value {
    data::json(&format!("tiny_models/{model}/{dialect}"))
}

const MODELS: [&str; 3] = ["llama_gqa_tied", "llama3_rope_untied", "mistral_swa"];
const DIALECTS: [&str; 2] = ["config.json", "config_v5.json"];

/// The same cases in every run; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` ask for others and for more.
pub(crate) fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    let given = |name: &str| std::env::var_os(name).is_some();
    ProptestConfig {
        cases: if given("PROPTEST_CASES") {
            default.cases
        } else {
            200
        },
        rng_seed: if given("PROPTEST_RNG_SEED") {
            default.rng_seed
        } else {
            RngSeed::Fixed(20)
        },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_config_with_wrong_values_never_panics(
        model in 0..MODELS.len(),
        dialect in 0..DIALECTS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::option::weighted(0.85, values())), 1..4),
    ) {
        let folder = folder(MODELS[model]);
        let mut config = config(MODELS[model], DIALECTS[dialect]);
        let fields = config.as_object_mut().unwrap();
        for (index, value) in changes {
            let name = fields.keys().nth(index.index(fields.len())).unwrap().clone();
            match value {
                Some(value) => fields.insert(name, value),
                None => fields.remove(&name),
            };
        }
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        exercise(folder.path());
    }

    #[test]
    fn a_config_with_wrong_text_never_panics(
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..6),
        keep in any::<bool>(),
    ) {
        let folder = folder("llama_gqa_tied");
        let mut text = std::fs::read(folder.path().join("config.json")).unwrap();
        let at = cut.index(text.len());
        let end = if keep { (at + noise.len()).min(text.len()) } else { text.len() };
        text.splice(at..end, noise);
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        exercise(folder.path());
    }

    /// Bytes of the header, where every length and offset stands, and some of the weights.
    #[test]
    fn a_gguf_with_wrong_bytes_never_panics(
        changes in prop::collection::vec((0.0..1.0f64, any::<u8>(), any::<bool>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut file = std::fs::read(data::gguf("llama_q64_q4_0")).unwrap();
        let header = 16_000.min(file.len());
        for (place, byte, anywhere) in changes {
            let length = if anywhere { file.len() } else { header };
            let at = (place * place * length as f64) as usize;
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, file).unwrap();
        exercise(&path);
    }

    #[test]
    fn a_safetensors_file_with_wrong_bytes_never_panics(
        changes in prop::collection::vec((0..3000usize, any::<u8>()), 1..5),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let folder = folder("llama_gqa_tied");
        let path = folder.path().join("model.safetensors");
        let mut file = std::fs::read(&path).unwrap();
        for (at, byte) in changes {
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        std::fs::write(&path, file).unwrap();
        exercise(folder.path());
    }
}
