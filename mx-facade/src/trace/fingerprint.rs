//! Telling models and edits apart.

use super::{EngineRecord, ModelRecord, NamedModel};
use crate::pipeline::Loaded;
use mx_runtime::engine::cpu::KvFormat;
use mx_runtime::hooks::{Edit, HookPlan};
use mx_runtime::model::Model;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

impl ModelRecord {
    pub(crate) fn of(model: &Loaded) -> Self {
        let config = model.config();
        ModelRecord {
            name: model.name().to_owned(),
            path: model.path().display().to_string(),
            fingerprint: model.fingerprint().map(str::to_owned),
            layers: config.layers,
            d_model: config.d_model,
            vocab: config.vocab,
            engine: EngineRecord::of(model),
        }
    }
}

impl NamedModel {
    pub(crate) fn of(name: &str, model: &Loaded) -> Self {
        NamedModel {
            name: name.to_owned(),
            model: ModelRecord::of(model),
        }
    }
}

impl EngineRecord {
    fn of(model: &Model) -> Self {
        let info = model.engine().info();
        let cpu = &model.options().cpu;
        EngineRecord {
            engine: info.engine.to_owned(),
            device: info.device.clone(),
            weights: info.weights.clone(),
            exact: cpu.exact,
            kv: kv_name(cpu.kv).to_owned(),
            quantize: cpu.quantize.map(|format| format.name().to_lowercase()),
        }
    }
}

fn kv_name(format: KvFormat) -> &'static str {
    match format {
        KvFormat::F32 => "f32",
        KvFormat::F16 => "f16",
        KvFormat::Fixed16 => "fixed16",
        KvFormat::Fixed8 => "fixed8",
        _ => "unknown",
    }
}

/// Bytes of a sample.
const SAMPLE: usize = 4096;
/// Samples of a file, evenly spread, beside its beginning.
const SAMPLES: u64 = 256;
/// Bytes of a file's beginning, where names, shapes and tokenizer stand.
const BEGINNING: u64 = 1 << 20;
/// Files of a folder that belong to a model.
const EXTENSIONS: [&str; 3] = ["json", "safetensors", "gguf"];

/// A hash of a model's files.
pub(crate) fn fingerprint(path: &Path) -> Option<String> {
    let mut files = match path.is_dir() {
        false => vec![path.to_owned()],
        true => std::fs::read_dir(path)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| {
                let extension = file.extension().and_then(|e| e.to_str());
                extension.is_some_and(|e| EXTENSIONS.contains(&e))
            })
            .collect(),
    };
    files.sort();
    let mut hash = Fnv::default();
    for file in files {
        sample(&file, &mut hash)?;
    }
    Some(hash.text())
}

fn sample(path: &Path, hash: &mut Fnv) -> Option<()> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    hash.write(&length.to_le_bytes());
    let mut bytes = Vec::new();
    (&mut file).take(BEGINNING).read_to_end(&mut bytes).ok()?;
    hash.write(&bytes);
    for index in 0..SAMPLES {
        // 128 bits: no length of a file overflows.
        let at = u128::from(length) * u128::from(index) / u128::from(SAMPLES);
        file.seek(SeekFrom::Start(at as u64)).ok()?;
        bytes.clear();
        (&mut file)
            .take(SAMPLE as u64)
            .read_to_end(&mut bytes)
            .ok()?;
        hash.write(&bytes);
    }
    Some(())
}

/// A hash of the edits of a plan.
pub(crate) fn of_edits(plan: &HookPlan) -> String {
    let mut hash = Fnv::default();
    for edit in plan.all_edits() {
        of_edit(edit, &mut hash);
    }
    hash.text()
}

fn of_edit(edit: &Edit, hash: &mut Fnv) {
    hash.write(edit.point.to_string().as_bytes());
    hash.write(format!("{:?} {}", edit.tokens, edit.keep_norm).as_bytes());
    let mut numbers = |numbers: &[f32]| numbers.iter().for_each(|x| hash.write(&x.to_le_bytes()));
    for term in &edit.terms {
        numbers(&[term.a, term.b]);
        numbers(term.u.as_deref().unwrap_or_default());
        numbers(&term.w);
    }
    if let Some(gate) = &edit.gate {
        numbers(&[gate.threshold]);
        numbers(&gate.direction);
    }
}

/// FNV-1a with 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn text(&self) -> String {
        format!("fnv1a64:{:016x}", self.0)
    }
}
