//! The suite on every engine there is.

use crate::engine_suite::Subject;
use crate::load;
use mx_tests::data;
use std::path::Path;
use std::sync::Arc;

/// The burn engine on a model file or folder.
fn burn(path: &Path) -> Subject {
    let engine = || Arc::clone(load(path).engine());
    Subject {
        engine: engine(),
        stranger: engine(),
        tolerance: 1e-4,
    }
}

engine_suite!(
    burn_grouped_queries_tied_head,
    burn(&data::gguf("llama_gqa_tied"))
);
engine_suite!(burn_scaled_rope, burn(&data::folder("llama3_rope_untied")));
engine_suite!(burn_sliding_window, burn(&data::folder("mistral_swa")));
engine_suite!(burn_dequantised, burn(&data::gguf("llama_q64_q4_0")));
