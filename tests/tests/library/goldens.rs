//! The golden files of this workspace, and the house rules.

use mx_runtime::device::DeviceId;
use std::path::Path;
use xtask::golden::{Models, Options};

#[test]
fn every_golden_passes() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data"));
    let options = Options {
        device: DeviceId::Flex,
        models: Models::on_this_machine(),
    };
    let tallies = xtask::golden::run(dir, &options).unwrap();
    let report = xtask::golden::report(&tallies, false);
    eprintln!("{report}");
    assert!(
        tallies.iter().all(|tally| tally.failed.is_empty()),
        "{report}"
    );
    // A walk that finds nothing must not look like success.
    let of_the_model: &[&str] = match options.models.smollm2() {
        Some(_) => &["smollm2", "caa", "few_shot"],
        None => &[],
    };
    let of_our_data = [
        "tiny_models",
        "gguf_models",
        "gguf_hostile",
        "safetensors_hostile",
        "top_k",
        "tiny_tokenizers",
        "steering_formats",
        "extraction",
    ];
    for kind in of_our_data.iter().chain(of_the_model) {
        assert!(
            tallies
                .iter()
                .any(|tally| tally.kind.starts_with(*kind) && tally.passed > 0),
            "{kind}: {report}"
        );
    }
}

#[test]
fn the_house_is_tidy() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let wrong = xtask::tidy::run(root).unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
