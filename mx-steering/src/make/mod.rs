//! Making vectors from contrastive texts.
//!
//! The model is a closure: a [`Reader`] takes tokens and gives the rows at some places. Everything else happens here.
//!
//! | function | method |
//! |---|---|
//! | [`make`] with [`Recipe::caa`] | contrastive activation addition (Rimsky 2023, arXiv 2312.06681), corrected or exactly as Mechanex |
//! | [`make`] with [`Recipe::mean_difference`] | difference of means of one row a text |
//! | [`make`] with [`Recipe::pca_difference`], [`Recipe::pca_center`] | principal component, as in repeng |
//! | [`make`] with [`Recipe::repe`] | principal component without centring (Zou 2023, arXiv 2310.01405) |
//! | [`make_at_best`] | any of these at the one layer that held-out pairs speak for |
//! | [`act_add`] | one pair of prompts, position by position (Turner 2023, arXiv 2308.10248) |
//! | [`refusal_candidates`], [`choose_refusal`] | the refusal direction (Arditi 2024, arXiv 2406.11717) |
//! | `few_shot::few_shot` | gradient optimisation (Dunefsky & Cohan 2025, arXiv 2502.18862) |

mod act_add;
mod best;
mod contrast;
#[cfg(feature = "burn")]
pub mod few_shot;
mod layers;
mod recipe;
mod refusal;
mod tokens;

pub use act_add::act_add;
pub use best::{Damage, Effects, Judges, LayerChoice, make_at_best};
pub use contrast::{Contrast, PointRows, split_holdout};
pub use layers::{LayerScore, choose_layer, rank_layers};
pub use recipe::{Recipe, Rule, make, make_from};
pub use refusal::{RefusalCandidate, RefusalScores, choose_refusal, refusal_candidates};
pub use tokens::{Reading, TokenPair};

use crate::error::{ModelError, SteeringError};
use crate::point::Point;
use std::ops::ControlFlow;

/// A model whose inner rows can be read; every closure of this form is one.
///
/// ```
/// use mx_steering::{ModelError, Point};
///
/// // a "model" of width 2 whose rows are its tokens
/// let mut reader = |tokens: &[u32], points: &[Point]| -> Result<Vec<Vec<f32>>, ModelError> {
///     let rows: Vec<f32> = tokens.iter().flat_map(|&token| [token as f32, 1.0]).collect();
///     Ok(vec![rows; points.len()])
/// };
/// # fn is_reader(_: &mut impl mx_steering::make::Reader) {}
/// # is_reader(&mut reader);
/// ```
pub trait Reader {
    /// The rows of all tokens at each of `points`, `[tokens, d_model]` each, row-major, of an unsteered run over
    /// `tokens` from position 0 on.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn read(&mut self, tokens: &[u32], points: &[Point]) -> Result<Vec<Vec<f32>>, ModelError>;
}

impl<F> Reader for F
where
    F: FnMut(&[u32], &[Point]) -> Result<Vec<Vec<f32>>, ModelError>,
{
    fn read(&mut self, tokens: &[u32], points: &[Point]) -> Result<Vec<Vec<f32>>, ModelError> {
        self(tokens, points)
    }
}

/// How far long work has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub done: usize,
    /// Steps in all; an upper bound where work may stop early.
    pub total: usize,
    /// The loss at this step, of optimisations.
    pub loss: Option<f64>,
}

/// Is told how far the work has come, and may stop it by [`ControlFlow::Break`].
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// A watch that lets everything run.
pub fn unwatched(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub(crate) fn tell(
    watch: &mut Watch<'_>,
    done: usize,
    total: usize,
    loss: Option<f64>,
) -> Result<(), SteeringError> {
    match watch(Progress { done, total, loss }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(SteeringError::Cancelled),
    }
}

/// Reads rows and checks that there are as many as asked for; also gives the width.
pub(crate) fn read_checked(
    reader: &mut dyn Reader,
    tokens: &[u32],
    points: &[Point],
) -> Result<(Vec<Vec<f32>>, usize), SteeringError> {
    let rows = reader.read(tokens, points).map_err(SteeringError::Model)?;
    let wrong = |what, given, wanted| SteeringError::Closure {
        what,
        given,
        wanted,
    };
    if rows.len() != points.len() {
        return Err(wrong("places", rows.len(), points.len()));
    }
    let first = rows.first().map_or(0, Vec::len);
    if tokens.is_empty() || first == 0 || !first.is_multiple_of(tokens.len()) {
        let wanted = first
            .next_multiple_of(tokens.len().max(1))
            .max(tokens.len());
        return Err(wrong("numbers at a place", first, wanted));
    }
    if let Some(odd) = rows.iter().find(|rows| rows.len() != first) {
        return Err(wrong("numbers at a place", odd.len(), first));
    }
    Ok((rows, first / tokens.len()))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
