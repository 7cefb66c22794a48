//! Comparison of rows of numbers within a tolerance.

use anyhow::Context;
use serde_json::Value;

/// `abs + rel · |expected|`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) abs: f32,
    pub(super) rel: f32,
}

impl Tolerance {
    /// Whether all numbers agree; says which one is worst.
    pub(super) fn check(self, got: &[f32], expected: &[f32]) -> Result<(), String> {
        if got.len() != expected.len() {
            return Err(format!(
                "{} numbers, expected {}",
                got.len(),
                expected.len()
            ));
        }
        let excess = |(got, expected): (&f32, &f32)| {
            let difference = (got - expected).abs() - self.abs - self.rel * expected.abs();
            if difference.is_nan() {
                f32::INFINITY
            } else {
                difference
            }
        };
        let worst = got
            .iter()
            .zip(expected)
            .map(excess)
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|(_, excess)| *excess > 0.0);
        match worst {
            None => Ok(()),
            Some((index, _)) => Err(format!(
                "number {index} is {}, expected {} within {} + {}·|x|",
                got[index], expected[index], self.abs, self.rel
            )),
        }
    }
}

/// First place where two token lists differ.
pub(super) fn same_tokens(got: &[u32], expected: &[u32]) -> Result<(), String> {
    if got == expected {
        return Ok(());
    }
    let at = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
    Err(format!(
        "token {at} is {:?}, expected {:?}",
        got.get(at),
        expected.get(at)
    ))
}

/// A list of numbers out of a golden.
pub(super) fn floats(value: &Value) -> anyhow::Result<Vec<f32>> {
    serde_json::from_value(value.clone()).context("a list of numbers")
}

/// A list of token ids out of a golden.
pub(super) fn ids(value: &Value) -> anyhow::Result<Vec<u32>> {
    serde_json::from_value(value.clone()).context("a list of token ids")
}

/// A list that must be there.
pub(super) fn list<'a>(value: &'a Value, field: &str) -> anyhow::Result<&'a Vec<Value>> {
    value[field]
        .as_array()
        .with_context(|| format!("{field} is no list"))
}

/// A count that must be there.
pub(super) fn count(value: &Value, field: &str) -> anyhow::Result<usize> {
    value[field]
        .as_u64()
        .map(|n| n as usize)
        .with_context(|| format!("{field} is no count"))
}

/// A number that must be there.
pub(super) fn number(value: &Value, field: &str) -> anyhow::Result<f32> {
    value[field]
        .as_f64()
        .map(|n| n as f32)
        .with_context(|| format!("{field} is no number"))
}

/// The arg-max, the first of equals.
pub(super) fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
    best as u32
}
