//! Models that say what a test wants to hear.
//!
//! A scripted model is a real model file with one block of zeros. Embedding and head are written so that each token is
//! followed by one other token with near certainty; what has no successor ends the text. Tokens are bytes, and every
//! byte can have one successor only, so a script says no byte twice.

use crate::gguf::Writer;
use std::path::{Path, PathBuf};

/// Token that ends a text.
pub const END: u32 = 2;
/// Logit of the one successor; that of all others is 0.
const CERTAIN: f32 = 50.0;
const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const VOCAB: usize = SPECIALS.len() + 256;
const TEMPLATE: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// What a model says, to be written as a file.
#[derive(Debug, Clone)]
pub struct Script {
    next: Vec<u32>,
    context: u32,
    template: Option<String>,
}

impl Script {
    /// A model that goes through `bytes` and then ends the text. It begins where the prompt ends: a raw prompt `a` to
    /// the script `abc` is answered `bc`. The chat template ends in a line feed, so what answers in chat begins with
    /// one.
    pub fn says(bytes: impl AsRef<[u8]>) -> Self {
        let mut script = Script {
            next: vec![END; VOCAB],
            context: 1024,
            template: Some(TEMPLATE.to_owned()),
        };
        let bytes = bytes.as_ref();
        for (index, pair) in bytes.windows(2).enumerate() {
            assert!(
                !bytes[..index].contains(&pair[1]),
                "a script says byte {:#x} twice",
                pair[1]
            );
            script.next[token(pair[0]) as usize] = token(pair[1]);
        }
        script
    }

    /// As [`says`](Script::says), but after the last byte comes the second one again, without end.
    pub fn repeats(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let mut script = Script::says(bytes);
        script.next[token(bytes[bytes.len() - 1]) as usize] = token(bytes[1]);
        script
    }

    /// The model's context in tokens; 1024 unless set.
    pub fn context(mut self, tokens: u32) -> Self {
        self.context = tokens;
        self
    }

    /// Another chat template, or none.
    pub fn template(mut self, template: Option<&str>) -> Self {
        self.template = template.map(str::to_owned);
        self
    }

    /// Writes the model into a folder.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("scripted.gguf");
        self.write_to(&path);
        path
    }

    /// Writes the model as this file.
    pub fn write_to(&self, path: &Path) {
        let mut file = Writer::default();
        self.describe(&mut file);
        self.weigh(&mut file);
        file.write(path);
    }

    fn describe(&self, file: &mut Writer) {
        file.text("general.architecture", "llama")
            .u32("llama.block_count", 1)
            .u32("llama.context_length", self.context)
            .u32("llama.embedding_length", VOCAB as u32)
            .u32("llama.feed_forward_length", 1)
            .u32("llama.attention.head_count", 1)
            .u32("llama.attention.head_count_kv", 1)
            .u32("llama.attention.key_length", 2)
            .u32("llama.attention.value_length", 2)
            .u32("llama.rope.dimension_count", 2)
            .f32("llama.attention.layer_norm_rms_epsilon", 1e-6);
        let mut tokens: Vec<String> = SPECIALS.iter().map(|name| (*name).to_owned()).collect();
        tokens.extend(byte_alphabet().iter().map(char::to_string));
        let kinds: Vec<i32> = (0..VOCAB)
            .map(|id| if id < SPECIALS.len() { 3 } else { 1 })
            .collect();
        file.text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", "gpt-2")
            .texts("tokenizer.ggml.tokens", &tokens)
            .i32s("tokenizer.ggml.token_type", &kinds)
            .texts("tokenizer.ggml.merges", &[])
            .u32("tokenizer.ggml.bos_token_id", 1)
            .u32("tokenizer.ggml.eos_token_id", END)
            .bool("tokenizer.ggml.add_bos_token", false);
        if let Some(template) = &self.template {
            file.text("tokenizer.chat_template", template);
        }
    }

    /// The normalised row of token `t` is `sqrt(VOCAB)` in column `t` and 0 elsewhere; the head reads it there.
    fn weigh(&self, file: &mut Writer) {
        let mut embedding = vec![0.0; VOCAB * VOCAB];
        let mut head = vec![0.0; VOCAB * VOCAB];
        for (token, &next) in self.next.iter().enumerate() {
            embedding[token * VOCAB + token] = 1.0;
            head[next as usize * VOCAB + token] = CERTAIN / (VOCAB as f32).sqrt();
        }
        let (zeros, ones) = (vec![0.0; 2 * VOCAB], vec![1.0; VOCAB]);
        file.tensor("token_embd.weight", &[VOCAB, VOCAB], &embedding)
            .tensor("output.weight", &[VOCAB, VOCAB], &head)
            .tensor("output_norm.weight", &[VOCAB], &ones)
            .tensor("blk.0.attn_norm.weight", &[VOCAB], &ones)
            .tensor("blk.0.ffn_norm.weight", &[VOCAB], &ones);
        for name in ["attn_q", "attn_k", "attn_v"] {
            file.tensor(&format!("blk.0.{name}.weight"), &[2, VOCAB], &zeros);
        }
        file.tensor("blk.0.attn_output.weight", &[VOCAB, 2], &zeros);
        for name in ["ffn_gate", "ffn_up"] {
            file.tensor(
                &format!("blk.0.{name}.weight"),
                &[1, VOCAB],
                &zeros[..VOCAB],
            );
        }
        file.tensor("blk.0.ffn_down.weight", &[VOCAB, 1], &zeros[..VOCAB]);
    }
}

/// The token of a byte.
pub fn token(byte: u8) -> u32 {
    u32::from(byte) + SPECIALS.len() as u32
}

/// GPT-2's printable stand-ins of all bytes: printable ones stand for themselves, the others follow from U+0100 on.
fn byte_alphabet() -> Vec<char> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = ('\u{100}'..).take(256);
    (0..=255u8)
        .map(|b| {
            if printable(b) {
                char::from(b)
            } else {
                others.next().unwrap()
            }
        })
        .collect()
}
