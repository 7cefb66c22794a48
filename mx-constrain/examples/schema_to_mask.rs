//! A schema as token masks in somebody else's engine. `cargo run --example schema_to_mask -p mx-constrain`
#![allow(clippy::print_stdout)]

use mx_constrain::{ConstrainError, Constraint, Vocabulary};

/// Stands for an engine: a tokenizer's tokens as bytes, and a row of logits after some tokens.
struct Engine {
    tokens: Vec<Vec<u8>>,
    end: u32,
}

impl Engine {
    fn new() -> Self {
        let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        tokens.extend(["{\"", "\": ", "city", "Oslo", "\"}", "people"].map(Vec::from));
        let end = tokens.len() as u32;
        tokens.push(Vec::new());
        Self { tokens, end }
    }

    fn forward(&self, text: &[u32]) -> Vec<f32> {
        let last = text.last().copied().unwrap_or(0);
        let noise = |id: u32| (id.wrapping_mul(2_654_435_761).wrapping_add(last * 97) >> 20) % 101;
        (0..self.tokens.len() as u32)
            .map(|id| noise(id) as f32 + self.tokens[id as usize].len() as f32 * 40.0)
            .collect()
    }
}

fn main() -> Result<(), ConstrainError> {
    let engine = Engine::new();
    let schema = serde_json::json!({
        "type": "object",
        "properties": { "city": { "type": "string", "maxLength": 12 }, "people": { "type": "integer", "maximum": 999 } },
        "required": ["city", "people"],
        "additionalProperties": false,
    });

    // The ten lines: once per tokenizer, once per schema, once per text, and the loop.
    let vocabulary = Vocabulary::new(engine.tokens.iter().map(Some), &[engine.end])?;
    let constraint = Constraint::json_schema(&vocabulary, &schema)?;
    let mut matcher = constraint.matcher()?;
    let mut text = Vec::new();
    while !matcher.is_ended() && text.len() < 200 {
        let mut logits = engine.forward(&text);
        matcher.mask()?.apply(&mut logits)?;
        let token = best(&logits);
        matcher.commit(token)?;
        text.push(token);
    }

    let bytes: Vec<u8> = text
        .iter()
        .flat_map(|&token| engine.tokens[token as usize].clone())
        .collect();
    println!("{}", String::from_utf8_lossy(&bytes));
    for left_out in &constraint.exactness().restrictions {
        println!(
            "left out: {} at {}: {}",
            left_out.keyword, left_out.place, left_out.reason
        );
    }
    Ok(())
}

/// The most likely token.
fn best(logits: &[f32]) -> u32 {
    (0..logits.len() as u32)
        .max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]))
        .unwrap_or(0)
}
