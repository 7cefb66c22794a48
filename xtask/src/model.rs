//! `cargo xtask model`: models made from models.
//!
//! [`truncate`] leaves the last blocks of a GGUF model out. What is left has the same vocabulary, so it drafts for the
//! whole one; it is the early exit of the drafter `self` as a file of its own.

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use mx_runtime::weights::{Gguf, GgufArray, GgufValue, TensorStore};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Version of the format that is written.
const VERSION: u32 = 3;
const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;

/// What `cargo xtask model` does.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Copy a GGUF model without its last blocks, to draft for the whole one
    Truncate {
        /// Blocks to keep
        #[arg(long, value_name = "K")]
        layers: usize,
        /// GGUF file of the model, where it is not the default one in the model folder
        #[arg(long, value_name = "FILE")]
        model: Option<PathBuf>,
        /// The file to write
        out: PathBuf,
    },
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncated {
    /// Blocks of the model, and of the copy.
    pub layers: [usize; 2],
    /// Tensors of the copy.
    pub tensors: usize,
    /// Bytes of the copy.
    pub bytes: u64,
}

/// Copies a GGUF model without the blocks from `layers` on. Tensors keep their bytes; of the metadata, the number of
/// blocks changes and lists with one entry a block become as short.
///
/// # Errors
/// For a file that is no GGUF model, fewer than one block or as many as the model has, and what writing meets.
pub fn truncate(model: &Path, layers: usize, out: &Path) -> anyhow::Result<Truncated> {
    let gguf = Gguf::open(model)?;
    let metadata = gguf.metadata();
    let architecture = metadata
        .str("general.architecture")?
        .context("the file names no architecture")?;
    let count_key = format!("{architecture}.block_count");
    let before = metadata
        .usize(&count_key)?
        .with_context(|| format!("the file has no {count_key}"))?;
    ensure!(
        (1..before).contains(&layers),
        "layers is {layers}, wanted 1 to {}: the model has {before} blocks",
        before.saturating_sub(1)
    );
    if let (Ok(a), Ok(b)) = (std::fs::canonicalize(model), std::fs::canonicalize(out)) {
        ensure!(a != b, "{} is the model itself", out.display());
    }
    let alignment = match metadata.get(ALIGNMENT_KEY) {
        Some(GgufValue::U32(alignment)) => u64::from(*alignment),
        _ => DEFAULT_ALIGNMENT,
    };
    let prefix = format!("{architecture}.");
    let mut pairs = Vec::new();
    for (key, value) in metadata.iter() {
        let changed = match value {
            _ if key == count_key => GgufValue::U32(u32::try_from(layers)?),
            GgufValue::Array(array) if key.starts_with(&prefix) && array.len() == before => {
                GgufValue::Array(shortened(array, layers)?)
            }
            value => value.clone(),
        };
        put_text(&mut pairs, key);
        put_value(&mut pairs, &changed)?;
    }
    let names: Vec<&str> = gguf
        .names()
        .into_iter()
        .filter(|name| block_of(name).is_none_or(|block| block < layers))
        .collect();
    let mut table = Vec::new();
    let mut offset = 0u64;
    for name in &names {
        let tensor = gguf.tensor(name)?.context("a tensor is missing")?;
        put_text(&mut table, name);
        table.extend(u32::try_from(tensor.shape.len())?.to_le_bytes());
        for size in tensor.shape.iter().rev() {
            table.extend((*size as u64).to_le_bytes());
        }
        table.extend(tensor.dtype.ggml_id().to_le_bytes());
        table.extend(offset.to_le_bytes());
        offset += (tensor.bytes.len() as u64).next_multiple_of(alignment);
    }
    let mut head = b"GGUF".to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((names.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    head.extend(pairs);
    head.extend(table);

    let mut file = BufWriter::new(
        File::create(out).with_context(|| format!("cannot write {}", out.display()))?,
    );
    let mut written = 0u64;
    let mut put = |bytes: &[u8]| -> anyhow::Result<()> {
        file.write_all(bytes)?;
        written += bytes.len() as u64;
        let gap = written.next_multiple_of(alignment) - written;
        file.write_all(&vec![0; usize::try_from(gap)?])?;
        written += gap;
        Ok(())
    };
    put(&head)?;
    for name in &names {
        let tensor = gguf.tensor(name)?.context("a tensor is missing")?;
        put(tensor.bytes)?;
        gguf.release(name);
    }
    file.flush()?;
    Ok(Truncated {
        layers: [before, layers],
        tensors: names.len(),
        bytes: written,
    })
}

/// The block that a tensor belongs to, by its name.
fn block_of(name: &str) -> Option<usize> {
    let (block, _) = name.strip_prefix("blk.")?.split_once('.')?;
    block.parse().ok()
}

fn shortened(array: &GgufArray, len: usize) -> anyhow::Result<GgufArray> {
    macro_rules! cut {
        ($($kind:ident),+) => {
            match array {
                $(GgufArray::$kind(values) => GgufArray::$kind(values[..len].to_vec()),)+
                other => bail!("a list with one {} a block cannot be shortened", other.type_name()),
            }
        };
    }
    Ok(cut!(U8, I8, U16, I16, U32, I32, U64, I64, F32, F64, Bool))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Writes the type of a value and the value.
fn put_value(out: &mut Vec<u8>, value: &GgufValue) -> anyhow::Result<()> {
    macro_rules! number {
        ($id:literal, $value:expr) => {{
            out.extend(u32::to_le_bytes($id));
            out.extend($value.to_le_bytes());
        }};
    }
    match value {
        GgufValue::U8(x) => number!(0, x),
        GgufValue::I8(x) => number!(1, x),
        GgufValue::U16(x) => number!(2, x),
        GgufValue::I16(x) => number!(3, x),
        GgufValue::U32(x) => number!(4, x),
        GgufValue::I32(x) => number!(5, x),
        GgufValue::F32(x) => number!(6, x),
        GgufValue::Bool(x) => number!(7, u8::from(*x)),
        GgufValue::U64(x) => number!(10, x),
        GgufValue::I64(x) => number!(11, x),
        GgufValue::F64(x) => number!(12, x),
        GgufValue::String(text) => {
            out.extend(8u32.to_le_bytes());
            put_text(out, text);
        }
        GgufValue::Array(array) => {
            out.extend(9u32.to_le_bytes());
            put_array(out, array)?;
        }
        other => bail!("no way to write a {}", other.type_name()),
    }
    Ok(())
}

/// Writes the type of an array's values, their number, and the values.
fn put_array(out: &mut Vec<u8>, array: &GgufArray) -> anyhow::Result<()> {
    macro_rules! numbers {
        ($id:literal, $values:expr) => {{
            out.extend(u32::to_le_bytes($id));
            out.extend(($values.len() as u64).to_le_bytes());
            $values.iter().for_each(|x| out.extend(x.to_le_bytes()));
        }};
    }
    match array {
        GgufArray::U8(values) => numbers!(0, values),
        GgufArray::I8(values) => numbers!(1, values),
        GgufArray::U16(values) => numbers!(2, values),
        GgufArray::I16(values) => numbers!(3, values),
        GgufArray::U32(values) => numbers!(4, values),
        GgufArray::I32(values) => numbers!(5, values),
        GgufArray::F32(values) => numbers!(6, values),
        GgufArray::Bool(values) => {
            let bytes: Vec<u8> = values.iter().map(|x| u8::from(*x)).collect();
            numbers!(7, bytes);
        }
        GgufArray::U64(values) => numbers!(10, values),
        GgufArray::I64(values) => numbers!(11, values),
        GgufArray::F64(values) => numbers!(12, values),
        GgufArray::String(texts) => {
            out.extend(8u32.to_le_bytes());
            out.extend((texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| put_text(out, text));
        }
        GgufArray::Array(arrays) => {
            out.extend(9u32.to_le_bytes());
            out.extend((arrays.len() as u64).to_le_bytes());
            for array in arrays {
                put_array(out, array)?;
            }
        }
        other => bail!("no way to write an {}", other.type_name()),
    }
    Ok(())
}
