//! Small statistics.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// A mean with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Number of observations.
    pub n: usize,
}

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

impl Estimate {
    /// The mean of some values and its bootstrap interval (percentiles of 2000 seeded resamples); the same input gives
    /// the same interval. Without values everything is 0.
    pub fn of(values: &[f64], seed: u64) -> Self {
        let n = values.len();
        if n == 0 {
            let mean = 0.0;
            return Estimate {
                mean,
                low: mean,
                high: mean,
                n,
            };
        }
        let mean = mean(values);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut means: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let sum: f64 = (0..n).map(|_| values[below(&mut rng, n)]).sum();
                sum / n as f64
            })
            .collect();
        means.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
        Estimate {
            mean,
            low: at(0.025).min(mean),
            high: at(0.975).max(mean),
            n,
        }
    }

    /// The mean of `steered[i] − base[i]` and its interval: the effect of steering, each prompt being its own control.
    pub fn of_difference(base: &[f64], steered: &[f64], seed: u64) -> Self {
        let differences: Vec<f64> = base.iter().zip(steered).map(|(b, s)| s - b).collect();
        Estimate::of(&differences, seed)
    }

    /// Whether the interval includes 0: the effect is not shown.
    pub fn includes_zero(&self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }
}

/// A number below `n`, evenly drawn; the bias of 64 bits over a few thousand is far below any interval.
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The variance with divisor n − 1; 0 of fewer than two.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    squares / values.len().saturating_sub(1).max(1) as f64
}

/// d′: the distance of two means in pooled standard deviations; 0 where there is no spread to compare with and no
/// distance, a very large number where there is no spread but a distance.
pub fn d_prime(positive: &[f64], negative: &[f64]) -> f64 {
    let distance = mean(positive) - mean(negative);
    let pooled = ((variance(positive) + variance(negative)) / 2.0).sqrt();
    match (distance == 0.0, pooled > 0.0) {
        (true, _) => 0.0,
        (false, true) => distance / pooled,
        (false, false) => distance.signum() * f64::MAX,
    }
}

/// The chance that a positive value is larger than a negative one, ties counting half.
pub fn auc(positive: &[f64], negative: &[f64]) -> f64 {
    let wins: f64 = positive
        .iter()
        .flat_map(|p| negative.iter().map(move |n| (p, n)))
        .map(|(p, n)| match p.total_cmp(n) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
        .sum();
    wins / (positive.len() * negative.len()).max(1) as f64
}

/// Spearman's rank correlation; 0 where one side does not vary.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    let count = x.len().min(y.len());
    let (x, y) = (ranks(&x[..count]), ranks(&y[..count]));
    let (mx, my) = (mean(&x), mean(&y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(&y) {
        xy += (x - mx) * (y - my);
        xx += (x - mx) * (x - mx);
        yy += (y - my) * (y - my);
    }
    if xx > 0.0 && yy > 0.0 {
        xy / (xx * yy).sqrt()
    } else {
        0.0
    }
}

/// Ranks from 0, ties sharing their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let end = start
            + order[start..]
                .iter()
                .take_while(|&&i| values[i] == value)
                .count()
                .max(1);
        let rank = (start + end - 1) as f64 / 2.0;
        order[start..end].iter().for_each(|&i| ranks[i] = rank);
        start = end;
    }
    ranks
}

/// The slope of the least-squares line; 0 where x does not vary.
pub fn slope(x: &[f64], y: &[f64]) -> f64 {
    let (mx, my) = (mean(x), mean(y));
    let xy: f64 = x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum();
    let xx: f64 = x.iter().map(|x| (x - mx) * (x - mx)).sum();
    if xx > 0.0 { xy / xx } else { 0.0 }
}
