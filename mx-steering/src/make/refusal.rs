//! The refusal direction: difference of means at the template's last tokens, chosen by what it does.

use super::{Reader, Watch, read_checked, tell};
use crate::error::SteeringError;
use crate::linalg::Mean;
use crate::point::Point;
use crate::vector::{Method, SteeringVector};
use serde::{Deserialize, Serialize};

/// A direction at one place, read at one position from the end.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusalCandidate {
    /// Where.
    pub point: Point,
    /// Position from the end of the prompt: 1 is the last.
    pub from_end: usize,
    /// Mean of the harmful prompts minus mean of the harmless ones.
    pub direction: Vec<f32>,
}

/// What a candidate does, measured on validation prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RefusalScores {
    /// Refusal of harmful prompts when the direction is ablated everywhere; low is good.
    pub when_ablated: f64,
    /// Refusal of harmless prompts when it is added; high is good.
    pub when_added: f64,
    /// KL divergence on harmless prompts when it is ablated; low is good.
    pub kl: f64,
}

/// Share of the depth below which candidates may lie.
const DEPTH: f64 = 0.8;

/// Largest KL divergence on harmless prompts.
const MAX_KL: f64 = 0.1;

/// All candidates: every place and each of the last `positions` tokens of the prompts, which are those of the chat
/// template behind the instruction (Arditi 2024, arXiv 2406.11717).
///
/// # Errors
/// [`SteeringError`] where a list is empty, a prompt is shorter than `positions`, or the model fails.
pub fn refusal_candidates(
    harmful: &[Vec<u32>],
    harmless: &[Vec<u32>],
    positions: usize,
    points: &[Point],
    reader: &mut dyn Reader,
    watch: &mut Watch<'_>,
) -> Result<Vec<RefusalCandidate>, SteeringError> {
    if harmful.is_empty() || harmless.is_empty() || positions == 0 || points.is_empty() {
        return Err(SteeringError::Empty {
            what: "list of harmful prompts, harmless prompts, positions or places",
            wanted: "at least one of each",
        });
    }
    let total = harmful.len() + harmless.len();
    let mut means = vec![[Mean::default(), Mean::default()]; points.len() * positions];
    let all = harmful
        .iter()
        .map(|prompt| (0, prompt))
        .chain(harmless.iter().map(|prompt| (1, prompt)));
    for (index, (pole, prompt)) in all.enumerate() {
        tell(watch, index, total, None)?;
        if prompt.len() < positions {
            return Err(SteeringError::OutOfRange {
                name: "positions",
                given: positions as f64,
                range: "at most the length of the shortest prompt",
            });
        }
        let (rows, d_model) = read_checked(reader, prompt, points)?;
        for (rows, means) in rows.iter().zip(means.chunks_exact_mut(positions)) {
            let from_last = rows.chunks_exact(d_model).rev();
            from_last
                .zip(means)
                .for_each(|(row, mean)| mean[pole].add(row));
        }
    }
    tell(watch, total, total, None)?;
    let mut candidates = Vec::new();
    for (place, [harmful, harmless]) in means.iter().enumerate() {
        let (Some(harmful), Some(harmless)) = (harmful.get(), harmless.get()) else {
            continue;
        };
        candidates.push(RefusalCandidate {
            point: points[place / positions],
            from_end: place % positions + 1,
            direction: harmful
                .iter()
                .zip(harmless)
                .map(|(a, b)| (a - b) as f32)
                .collect(),
        });
    }
    Ok(candidates)
}

/// Chooses the candidate that suppresses refusal best when ablated, among those in the first 80 % of the layers that
/// raise refusal when added and disturb harmless prompts by a KL divergence below 0.1.
///
/// # Errors
/// [`SteeringError`] where no candidate qualifies, or scoring fails.
pub fn choose_refusal(
    candidates: &[RefusalCandidate],
    layers: usize,
    score: &mut dyn FnMut(&RefusalCandidate) -> Result<RefusalScores, SteeringError>,
) -> Result<(SteeringVector, RefusalScores), SteeringError> {
    let mut best: Option<(&RefusalCandidate, RefusalScores)> = None;
    for candidate in candidates {
        if candidate.point.layer as f64 >= DEPTH * layers as f64 {
            continue;
        }
        let scores = score(candidate)?;
        let qualifies = scores.kl < MAX_KL && scores.when_added > 0.0;
        let better = best.is_none_or(|(_, known)| scores.when_ablated < known.when_ablated);
        if qualifies && better {
            best = Some((candidate, scores));
        }
    }
    let (candidate, scores) = best.ok_or(SteeringError::Empty {
        what: "list of refusal candidates that qualify",
        wanted: "one below 80 % of the depth that raises refusal when added, with a KL below 0.1",
    })?;
    let directions = [(candidate.point, candidate.direction.clone())].into();
    let mut vector = SteeringVector::new(Method::Refusal, directions)?;
    vector.provenance.note = Some(format!(
        "read {} from the end of the prompt",
        candidate.from_end
    ));
    Ok((vector, scores))
}
