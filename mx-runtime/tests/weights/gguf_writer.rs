//! Writes GGUF files, well-formed unless asked otherwise.

use mx_runtime::weights::{GgufArray, GgufValue};

/// A file to be written.
#[derive(Clone, Debug)]
pub(crate) struct GgufFile {
    pub(crate) version: u32,
    pub(crate) alignment: u64,
    pub(crate) pairs: Vec<(String, GgufValue)>,
    pub(crate) tensors: Vec<WrittenTensor>,
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub(crate) struct WrittenTensor {
    pub(crate) name: String,
    /// Outermost first.
    pub(crate) shape: Vec<usize>,
    pub(crate) ggml_id: u32,
    pub(crate) bytes: Vec<u8>,
    /// Where it is placed in the data section; after its predecessor if none.
    pub(crate) offset: Option<u64>,
}

impl GgufFile {
    pub(crate) fn new() -> Self {
        Self {
            version: 3,
            alignment: 32,
            pairs: Vec::new(),
            tensors: Vec::new(),
        }
    }

    pub(crate) fn pair(mut self, key: &str, value: GgufValue) -> Self {
        self.pairs.push((key.to_owned(), value));
        self
    }

    pub(crate) fn tensor(
        mut self,
        name: &str,
        shape: &[usize],
        ggml_id: u32,
        bytes: &[u8],
    ) -> Self {
        let (name, shape, bytes) = (name.to_owned(), shape.to_vec(), bytes.to_vec());
        self.tensors.push(WrittenTensor {
            name,
            shape,
            ggml_id,
            bytes,
            offset: None,
        });
        self
    }

    /// The bytes of the file. The last tensor is not padded.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        let own_alignment = self.alignment != 32;
        out.extend((self.pairs.len() as u64 + u64::from(own_alignment)).to_le_bytes());
        for (key, value) in &self.pairs {
            write_pair(&mut out, key, value);
        }
        if own_alignment {
            write_pair(
                &mut out,
                "general.alignment",
                &GgufValue::U32(self.alignment as u32),
            );
        }
        let mut data: Vec<u8> = Vec::new();
        for tensor in &self.tensors {
            let place = tensor
                .offset
                .unwrap_or((data.len() as u64).next_multiple_of(self.alignment));
            write_string(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for &dim in tensor.shape.iter().rev() {
                out.extend((dim as u64).to_le_bytes());
            }
            out.extend(tensor.ggml_id.to_le_bytes());
            out.extend(place.to_le_bytes());
            if tensor.offset.is_none() {
                data.resize(place as usize, 0);
                data.extend(&tensor.bytes);
            }
        }
        if !data.is_empty() {
            out.resize(
                (out.len() as u64).next_multiple_of(self.alignment) as usize,
                0,
            );
        }
        out.extend(data);
        out
    }
}

fn write_pair(out: &mut Vec<u8>, key: &str, value: &GgufValue) {
    write_string(out, key);
    out.extend(type_id(value).to_le_bytes());
    match value {
        GgufValue::U8(value) => out.push(*value),
        GgufValue::I8(value) => out.extend(value.to_le_bytes()),
        GgufValue::U16(value) => out.extend(value.to_le_bytes()),
        GgufValue::I16(value) => out.extend(value.to_le_bytes()),
        GgufValue::U32(value) => out.extend(value.to_le_bytes()),
        GgufValue::I32(value) => out.extend(value.to_le_bytes()),
        GgufValue::U64(value) => out.extend(value.to_le_bytes()),
        GgufValue::I64(value) => out.extend(value.to_le_bytes()),
        GgufValue::F32(value) => out.extend(value.to_le_bytes()),
        GgufValue::F64(value) => out.extend(value.to_le_bytes()),
        GgufValue::Bool(value) => out.push((*value).into()),
        GgufValue::String(value) => write_string(out, value),
        GgufValue::Array(array) => write_array(out, array),
        other => panic!("no writer for {}", other.type_name()),
    }
}

fn write_array(out: &mut Vec<u8>, array: &GgufArray) {
    out.extend(element_type_id(array).to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        GgufArray::U8(values) => out.extend(values),
        GgufArray::I8(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        GgufArray::U16(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        GgufArray::I16(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        GgufArray::U32(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        GgufArray::I32(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        GgufArray::U64(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        GgufArray::I64(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        GgufArray::F32(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        GgufArray::F64(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        GgufArray::Bool(values) => out.extend(values.iter().map(|&value| u8::from(value))),
        GgufArray::String(values) => values.iter().for_each(|value| write_string(out, value)),
        GgufArray::Array(arrays) => arrays.iter().for_each(|array| write_array(out, array)),
        other => panic!("no writer for {}", other.type_name()),
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn type_id(value: &GgufValue) -> u32 {
    match value {
        GgufValue::Array(_) => 9,
        other => id_of(other.type_name()),
    }
}

fn element_type_id(array: &GgufArray) -> u32 {
    match array {
        GgufArray::Array(_) => 9,
        other => id_of(other.type_name().strip_prefix("array of ").unwrap()),
    }
}

fn id_of(name: &str) -> u32 {
    const NAMES: [&str; 13] = [
        "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64",
        "f64",
    ];
    NAMES.iter().position(|&known| known == name).unwrap() as u32
}
