//! A writer of small GGUF files.

use std::path::Path;

const ALIGNMENT: usize = 32;

/// Collects metadata and f32 tensors, then writes them as GGUF version 3.
#[derive(Debug, Default)]
pub struct Writer {
    metadata: Vec<u8>,
    keys: u64,
    tensors: Vec<u8>,
    count: u64,
    data: Vec<u8>,
}

impl Writer {
    /// Adds a number.
    pub fn u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    /// Adds a floating-point number.
    pub fn f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    /// Adds a truth value.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.entry(key, 7, &[u8::from(value)])
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        let mut bytes = Vec::new();
        push_text(&mut bytes, value);
        self.entry(key, 8, &bytes)
    }

    /// Adds a list of texts.
    pub fn texts(&mut self, key: &str, values: &[String]) -> &mut Self {
        let mut bytes = array(8, values.len());
        values.iter().for_each(|value| push_text(&mut bytes, value));
        self.entry(key, 9, &bytes)
    }

    /// Adds a list of signed numbers.
    pub fn i32s(&mut self, key: &str, values: &[i32]) -> &mut Self {
        let mut bytes = array(5, values.len());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.entry(key, 9, &bytes)
    }

    /// Adds a tensor, its dimensions outermost first.
    pub fn tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) -> &mut Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        push_text(&mut self.tensors, name);
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        for size in shape.iter().rev() {
            self.tensors.extend((*size as u64).to_le_bytes());
        }
        self.tensors.extend(0u32.to_le_bytes());
        self.tensors.extend((self.data.len() as u64).to_le_bytes());
        self.data
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.data
            .resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        self.count += 1;
        self
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(self.count.to_le_bytes());
        file.extend(self.keys.to_le_bytes());
        file.extend(&self.metadata);
        file.extend(&self.tensors);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file.extend(&self.data);
        std::fs::write(path, file).unwrap();
    }

    fn entry(&mut self, key: &str, kind: u32, value: &[u8]) -> &mut Self {
        push_text(&mut self.metadata, key);
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(value);
        self.keys += 1;
        self
    }
}

fn array(kind: u32, length: usize) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((length as u64).to_le_bytes());
    bytes
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
