//! Reading values of a case and comparing numbers.

use std::fmt::{Debug, Display};

use serde_json::Value;

/// Why a case did not pass.
#[derive(Debug)]
pub(crate) enum Problem {
    /// A result differs.
    Failed(String),
    /// The kind is not known here.
    Unsupported(String),
}

impl<E: std::error::Error> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A failure with this text.
pub(crate) fn fail<T>(text: impl Display) -> Result<T, Problem> {
    Err(Problem::Failed(text.to_string()))
}

/// Relative tolerance of `f32` code on a probability, beside an absolute one of 1e-9.
const RELATIVE: f64 = 2e-5;

/// Fails unless the two are equal.
pub(crate) fn equal<T: PartialEq + Debug>(what: &str, got: &T, wanted: &T) -> Result<(), Problem> {
    if got == wanted {
        Ok(())
    } else {
        fail(format!("{what}: got {got:?}, wanted {wanted:?}"))
    }
}

/// Fails unless `got` is within `relative·|wanted| + absolute`.
pub(crate) fn near(
    what: &str,
    got: f64,
    wanted: f64,
    relative: f64,
    absolute: f64,
) -> Result<(), Problem> {
    if got == wanted || (got - wanted).abs() <= relative * wanted.abs() + absolute {
        Ok(())
    } else {
        fail(format!("{what}: got {got:e}, wanted {wanted:e}"))
    }
}

/// Fails unless the probability is within the tolerance of the format for `f32` code.
pub(crate) fn near_f32(what: &str, got: f64, wanted: f64) -> Result<(), Problem> {
    near(what, got, wanted, RELATIVE, 1e-9)
}

/// Fails unless the numbers are within the tolerance of the format for `f64` code.
pub(crate) fn near_f64(what: &str, got: f64, wanted: f64) -> Result<(), Problem> {
    near(what, got, wanted, 1e-9, 1e-12)
}

/// [`near_f64`] on two lists.
pub(crate) fn all_near_f64(what: &str, got: &[f64], wanted: &[f64]) -> Result<(), Problem> {
    equal(&format!("length of {what}"), &got.len(), &wanted.len())?;
    got.iter()
        .zip(wanted)
        .enumerate()
        .try_for_each(|(i, (g, w))| near_f64(&format!("{what}[{i}]"), *g, *w))
}

/// A number, with `null` as −inf and the strings `nan` and `+inf`.
pub(crate) fn number(value: &Value) -> Result<f64, Problem> {
    match value {
        Value::Null => Ok(f64::NEG_INFINITY),
        Value::String(name) if name == "nan" => Ok(f64::NAN),
        Value::String(name) if name == "+inf" => Ok(f64::INFINITY),
        other => other
            .as_f64()
            .map_or_else(|| fail(format!("not a number: {other}")), Ok),
    }
}

/// A whole number.
pub(crate) fn whole(value: &Value) -> Result<usize, Problem> {
    value.as_u64().map_or_else(
        || fail(format!("not a whole number: {value}")),
        |n| Ok(n as usize),
    )
}

/// A text.
pub(crate) fn text(value: &Value) -> Result<&str, Problem> {
    value
        .as_str()
        .map_or_else(|| fail(format!("not a text: {value}")), Ok)
}

/// A list.
pub(crate) fn list(value: &Value) -> Result<&[Value], Problem> {
    value.as_array().map_or_else(
        || fail(format!("not a list: {value}")),
        |list| Ok(&list[..]),
    )
}

/// A list of numbers.
pub(crate) fn numbers(value: &Value) -> Result<Vec<f64>, Problem> {
    list(value)?.iter().map(number).collect()
}

/// A list of lists of numbers.
pub(crate) fn rows_of_numbers(value: &Value) -> Result<Vec<Vec<f64>>, Problem> {
    list(value)?.iter().map(numbers).collect()
}

/// A list of numbers in single precision.
pub(crate) fn floats(value: &Value) -> Result<Vec<f32>, Problem> {
    Ok(numbers(value)?.into_iter().map(|x| x as f32).collect())
}

/// A list of token ids.
pub(crate) fn ids(value: &Value) -> Result<Vec<u32>, Problem> {
    list(value)?
        .iter()
        .map(|id| whole(id).map(|id| id as u32))
        .collect()
}

/// The logits of a case: listed, or made by its generator.
pub(crate) fn logits(case: &Value) -> Result<Vec<f32>, Problem> {
    if case["gen"].is_null() {
        floats(&case["logits"])
    } else {
        generated(&case["gen"])
    }
}

/// The generator `sum4u16`: one SplitMix64 word per id, the sum of its four 16-bit parts, scaled.
fn generated(spec: &Value) -> Result<Vec<f32>, Problem> {
    if text(&spec["kind"])? != "sum4u16" {
        return Err(Problem::Unsupported(format!("generator {}", spec["kind"])));
    }
    let mut state = spec["seed"].as_u64().unwrap_or_default();
    let mul = number(&spec["mul"])?;
    let mut logits = Vec::new();
    for _ in 0..whole(&spec["v"])? {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let s: u64 = (0..4).map(|part| (z >> (16 * part)) & 0xffff).sum();
        logits.push(((s as f64 - 131_070.0) / 16_384.0 * mul) as f32);
    }
    for pair in list(&spec["set"])? {
        let (id, value) = (whole(&pair[0])?, number(&pair[1])?);
        match logits.get_mut(id) {
            Some(logit) => *logit = value as f32,
            None => return fail(format!("generator sets id {id} beyond the vocabulary")),
        }
    }
    Ok(logits)
}
