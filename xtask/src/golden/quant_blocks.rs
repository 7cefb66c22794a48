//! `mx-gguf-quant-blocks/1`: rows of every GGUF block type and their values, compared bit for bit.

use std::path::Path;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mx_runtime::weights::{TensorType, dequantize_into};
use serde::Deserialize;

use super::Tally;

const FORMAT: &str = "mx-gguf-quant-blocks/1";

#[derive(Deserialize)]
struct File {
    format: String,
    types: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct BlockType {
    ggml_type: u32,
    block_values: usize,
    block_bytes: usize,
    required: bool,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    row: String,
    n: usize,
    raw: String,
    f32: String,
}

/// Checks every row of the file at `path`. Block types that are not required and not supported are skipped.
///
/// # Errors
/// A file that is not of this format.
pub(super) fn run(path: &Path) -> anyhow::Result<Tally> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    let file: File = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    ensure!(
        file.format == FORMAT,
        "{}: format is {:?}, wanted {FORMAT:?}",
        path.display(),
        file.format
    );
    let mut tally = Tally::new("gguf_quant_blocks");
    for (name, facts) in file.types {
        let facts: BlockType = serde_json::from_value(facts).with_context(|| name.clone())?;
        match TensorType::from_ggml(facts.ggml_type) {
            Some(dtype) => check_type(&mut tally, &name, dtype, &facts),
            None if facts.required => {
                tally.check(&name, Err("a required block type is unknown".to_owned()));
            }
            None => tally.skip(
                &name,
                "a rare block type that is refused with a typed error",
            ),
        }
    }
    Ok(tally)
}

fn check_type(tally: &mut Tally, name: &str, dtype: TensorType, facts: &BlockType) {
    let ours = (dtype.block_values(), dtype.block_bytes());
    let wanted = (facts.block_values, facts.block_bytes);
    let layout = if ours == wanted {
        Ok(())
    } else {
        Err(format!(
            "a block is {ours:?} (values, bytes), wanted {wanted:?}"
        ))
    };
    tally.check(&format!("{name} layout"), layout);
    for (number, row) in facts.rows.iter().enumerate() {
        let result = check_row(dtype, row).map_err(|error| format!("{error:#}"));
        tally.check(&format!("{name} row {number} ({})", row.row), result);
    }
}

fn check_row(dtype: TensorType, row: &Row) -> anyhow::Result<()> {
    let wanted = decode(&row.f32).context("f32")?;
    ensure!(
        Some(wanted.len()) == row.n.checked_mul(4),
        "n is {}, f32 has {} bytes",
        row.n,
        wanted.len()
    );
    let mut values = vec![f32::NAN; row.n];
    dequantize_into(dtype, &decode(&row.raw).context("raw")?, &mut values)?;
    for (index, (given, wanted)) in values.iter().zip(wanted.as_chunks().0).enumerate() {
        let wanted = f32::from_le_bytes(*wanted);
        let same = given.to_bits() == wanted.to_bits() || (*given == 0.0 && wanted == 0.0);
        ensure!(same, "value {index} is {given:e}, wanted {wanted:e}");
    }
    Ok(())
}

fn decode(text: &str) -> anyhow::Result<Vec<u8>> {
    Ok(STANDARD.decode(text)?)
}
