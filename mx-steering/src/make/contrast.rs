//! Rows of both poles of many pairs: what the methods work on.

use super::{Reader, Reading, TokenPair, Watch, read_checked, tell};
use crate::error::SteeringError;
use crate::linalg::{Mean, norm};
use crate::point::Point;

/// For each pair one row of each pole, at each place.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrast {
    /// The places with their rows, in the order asked for.
    pub points: Vec<(Point, PointRows)>,
    /// Mean norm of the stream at each place over all texts, without position 0; 0 where no text has a second token.
    pub stream_norms: Vec<(Point, f32)>,
    /// Pairs left out because a pole had no position to read.
    pub skipped: usize,
    /// Width of a row.
    pub d_model: usize,
}

/// The rows of one place; both lists have one row a pair.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PointRows {
    /// Rows of the positive texts.
    pub positive: Vec<Vec<f32>>,
    /// Rows of the negative texts.
    pub negative: Vec<Vec<f32>>,
}

impl Contrast {
    /// Reads one mean row of each text, position 0 left out where other positions remain: in many models it is an
    /// attention sink whose norm drowns all others.
    ///
    /// # Errors
    /// [`SteeringError`] where the model fails, a pair has no negative text, or nothing is left to read.
    pub fn collect(
        pairs: &[TokenPair],
        points: &[Point],
        reading: Reading,
        reader: &mut dyn Reader,
        watch: &mut Watch<'_>,
    ) -> Result<Self, SteeringError> {
        let mut collected: Vec<(Point, PointRows)> =
            points.iter().map(|&p| (p, PointRows::default())).collect();
        let mut norms = vec![Mean::default(); points.len()];
        let mut skipped = 0;
        let mut width = None;
        for (index, pair) in pairs.iter().enumerate() {
            tell(watch, index, pairs.len(), None)?;
            let negative = pair.negative()?;
            let run = |text: &[u32]| without_sink(reading.positions(pair.prompt_len, text.len()));
            let (run_positive, run_negative) = (run(&pair.positive), run(negative));
            if run_positive.is_empty() || run_negative.is_empty() {
                skipped += 1;
                continue;
            }
            for (text, run, is_positive) in [
                (pair.positive.as_slice(), run_positive, true),
                (negative, run_negative, false),
            ] {
                let (rows, d_model) = read_checked(reader, text, points)?;
                let wanted = *width.get_or_insert(d_model);
                if wanted != d_model {
                    let what = "numbers a row";
                    return Err(SteeringError::Closure {
                        what,
                        given: d_model,
                        wanted,
                    });
                }
                for ((rows, (_, collected)), norms) in
                    rows.iter().zip(&mut collected).zip(&mut norms)
                {
                    let mean = mean_of(rows, d_model, run.clone());
                    match is_positive {
                        true => collected.positive.push(mean),
                        false => collected.negative.push(mean),
                    }
                    rows.chunks_exact(d_model)
                        .skip(1)
                        .for_each(|row| norms.add(&[norm(row) as f32]));
                }
            }
        }
        tell(watch, pairs.len(), pairs.len(), None)?;
        let d_model = width.ok_or(SteeringError::Empty {
            what: "list of pairs with answers",
            wanted: "at least one pair whose two answers have tokens",
        })?;
        let stream_norms = points
            .iter()
            .zip(norms)
            .map(|(&point, mean)| (point, mean.get().map_or(0.0, |mean| mean[0] as f32)))
            .collect();
        Ok(Contrast {
            points: collected,
            stream_norms,
            skipped,
            d_model,
        })
    }

    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.points
            .first()
            .map_or(0, |(_, rows)| rows.positive.len())
    }
}

/// Splits pairs into those to make a vector from and those held out to judge it: the last `share` of them, at least one
/// of each where there are two.
pub fn split_holdout<T>(pairs: &[T], share: f64) -> (&[T], &[T]) {
    let most = pairs.len().saturating_sub(1);
    let wanted = (pairs.len() as f64 * share.clamp(0.0, 1.0)).round() as usize;
    let held_out = wanted.clamp(usize::from(share > 0.0).min(most), most);
    pairs.split_at(pairs.len() - held_out)
}

/// The run without position 0, unless that is all there is.
fn without_sink(run: std::ops::Range<usize>) -> std::ops::Range<usize> {
    match run.start == 0 && run.end > 1 {
        true => 1..run.end,
        false => run,
    }
}

/// The mean of a run of rows.
pub(crate) fn mean_of(rows: &[f32], d_model: usize, run: std::ops::Range<usize>) -> Vec<f32> {
    let part = rows
        .get(run.start * d_model..run.end * d_model)
        .unwrap_or_default();
    crate::linalg::mean_row(part, d_model).unwrap_or_else(|| vec![0.0; d_model])
}
