//! ActAdd: the difference of one pair of prompts, position by position.

use super::{Reader, read_checked};
use crate::error::SteeringError;
use crate::linalg::difference;
use crate::point::Point;
use crate::vector::{Method, SteeringVector};
use std::collections::BTreeMap;

/// A vector with one row for each of the first positions: `x[t] ← x[t] + s·(h⁺[t] − h⁻[t])` for the `t` of the longer
/// prompt (Turner 2023, arXiv 2308.10248). The shorter prompt is padded on its right with `pad`, commonly the token of
/// a space. The published form reads and acts at `resid_pre`.
///
/// # Errors
/// [`SteeringError`] where a prompt is empty or the model fails.
pub fn act_add(
    positive: &[u32],
    negative: &[u32],
    pad: u32,
    points: &[Point],
    reader: &mut dyn Reader,
) -> Result<SteeringVector, SteeringError> {
    if positive.is_empty() || negative.is_empty() {
        return Err(SteeringError::Empty {
            what: "prompt",
            wanted: "two prompts of at least one token",
        });
    }
    let rows = positive.len().max(negative.len());
    let mut read = |tokens: &[u32]| {
        let mut tokens = tokens.to_vec();
        tokens.resize(rows, pad);
        read_checked(reader, &tokens, points).map(|(rows, _)| rows)
    };
    let (plus, minus) = (read(positive)?, read(negative)?);
    let mut directions = BTreeMap::new();
    for ((point, plus), minus) in points.iter().zip(plus).zip(minus) {
        if plus.len() != minus.len() {
            return Err(SteeringError::Closure {
                what: "numbers at a place",
                given: minus.len(),
                wanted: plus.len(),
            });
        }
        directions.insert(*point, difference(&plus, &minus));
    }
    let mut vector = SteeringVector::with_rows(Method::ActAdd, rows, directions)?;
    vector.provenance.pairs = Some(1);
    Ok(vector)
}
