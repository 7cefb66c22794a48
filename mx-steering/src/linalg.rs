//! Rows of f32 with sums in f64.

/// ⟨a, b⟩.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// |a|.
pub(crate) fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

/// The cosine of the angle between two rows; 0 where one has length 0.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let lengths = norm(a) * norm(b);
    if lengths > 0.0 {
        dot(a, b) / lengths
    } else {
        0.0
    }
}

/// `factor · a`.
pub(crate) fn scaled(a: &[f32], factor: f64) -> Vec<f32> {
    a.iter().map(|x| (f64::from(*x) * factor) as f32).collect()
}

/// `a / |a|`; `None` where |a| is 0 or not finite.
pub(crate) fn unit(a: &[f32]) -> Option<Vec<f32>> {
    let length = norm(a);
    (length > 0.0 && length.is_finite()).then(|| scaled(a, 1.0 / length))
}

/// `a − b`.
pub(crate) fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// `sum += row`, in f64.
pub(crate) fn accumulate(sum: &mut [f64], row: &[f32]) {
    sum.iter_mut()
        .zip(row)
        .for_each(|(sum, x)| *sum += f64::from(*x));
}

/// A running mean of rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mean {
    sum: Vec<f64>,
    count: usize,
}

impl Mean {
    pub(crate) fn add(&mut self, row: &[f32]) {
        self.sum.resize(row.len().max(self.sum.len()), 0.0);
        accumulate(&mut self.sum, row);
        self.count += 1;
    }

    /// The mean, in f64; `None` of nothing.
    pub(crate) fn get(&self) -> Option<Vec<f64>> {
        let count = self.count as f64;
        (self.count > 0).then(|| self.sum.iter().map(|sum| sum / count).collect())
    }
}

/// The mean of the rows of a matrix `[rows, width]`; `None` of no rows.
pub(crate) fn mean_row(rows: &[f32], width: usize) -> Option<Vec<f32>> {
    let mut mean = Mean::default();
    rows.chunks_exact(width.max(1))
        .for_each(|row| mean.add(row));
    Some(mean.get()?.iter().map(|x| *x as f32).collect())
}

/// Most rounds of the power iteration.
const ROUNDS: usize = 2000;

/// Cosine change per round at which the power iteration has arrived.
const ARRIVED: f64 = 1e-14;

/// The first right singular vector of `rows` (each of the same width), of length 1, without centring; its sign is
/// arbitrary but reproducible. Also the share of the sum of squares that it explains. `None` when all rows are 0.
///
/// Power iteration on the Gram matrix of the rows, started from its diagonal's largest entry: deterministic, and small
/// however wide the rows are.
pub(crate) fn first_component(rows: &[Vec<f32>]) -> Option<(Vec<f32>, f64)> {
    let n = rows.len();
    let mut gram = vec![0.0f64; n * n];
    for i in 0..n {
        for j in 0..=i {
            let value = dot(&rows[i], &rows[j]);
            gram[i * n + j] = value;
            gram[j * n + i] = value;
        }
    }
    let total: f64 = (0..n).map(|i| gram[i * n + i]).sum();
    if !(total > 0.0 && total.is_finite()) {
        return None;
    }
    // A start with a component along every eigenvector that the rows can have: the largest row, and a little of all.
    let largest = (0..n).max_by(|&a, &b| gram[a * n + a].total_cmp(&gram[b * n + b]))?;
    let mut weights: Vec<f64> = (0..n)
        .map(|i| gram[i * n + largest] / gram[largest * n + largest] + 1e-3 / (i + 1) as f64)
        .collect();
    normalise(&mut weights);
    let mut value = 0.0;
    for _ in 0..ROUNDS {
        let mut next: Vec<f64> = gram
            .chunks_exact(n)
            .map(|line| line.iter().zip(&weights).map(|(g, w)| g * w).sum())
            .collect();
        value = normalise(&mut next);
        let cosine: f64 = next.iter().zip(&weights).map(|(a, b)| a * b).sum();
        weights = next;
        if 1.0 - cosine.abs() < ARRIVED {
            break;
        }
    }
    let width = rows.first()?.len();
    let mut component = vec![0.0f64; width];
    for (row, weight) in rows.iter().zip(&weights) {
        component
            .iter_mut()
            .zip(row)
            .for_each(|(c, x)| *c += weight * f64::from(*x));
    }
    normalise(&mut component);
    Some((
        component.iter().map(|x| *x as f32).collect(),
        (value / total).clamp(0.0, 1.0),
    ))
}

/// Scales to length 1 and returns the old length.
fn normalise(row: &mut [f64]) -> f64 {
    let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|x| *x /= length);
    }
    length
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_component_is_the_long_axis() {
        let rows: Vec<Vec<f32>> = (0..20)
            .map(|i| {
                let t = i as f32 - 9.5;
                let small = 0.1 * ((i * 7 % 5) as f32 - 2.0);
                vec![0.6 * t - 0.8 * small, 0.8 * t + 0.6 * small, 0.0]
            })
            .collect();
        let (component, share) = first_component(&rows).unwrap();
        assert!(
            (f64::from(component[0]).abs() - 0.6).abs() < 0.02,
            "{component:?}"
        );
        assert!((f64::from(component[1]).abs() - 0.8).abs() < 0.02);
        assert!(share > 0.99);
        assert!(first_component(&[vec![0.0; 3]]).is_none());
        assert!(first_component(&[]).is_none());
    }

    #[test]
    fn one_row_is_its_own_component() {
        let (component, share) = first_component(&[vec![3.0, 4.0]]).unwrap();
        assert!((component[0] - 0.6).abs() < 1e-6 && (component[1] - 0.8).abs() < 1e-6);
        assert!((share - 1.0).abs() < 1e-9);
    }
}
