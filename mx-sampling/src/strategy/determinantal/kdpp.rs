//! Determinantal point processes of fixed size.

use crate::error::SamplingError;
use crate::math;
use crate::strategy::eigen::{Eigen, decompose};

/// Eigenvalues below this share of the largest are 0: that is what the decomposition resolves.
const RANK: f64 = 1e-14;

/// A k-DPP: subsets of size k with probability `det(L_Y) / e_k(λ)`.
///
/// The elementary symmetric polynomials are computed as the probabilities that k of n independent coins
/// show heads, with odds `t·λ_m` and t such that k is the mean: all numbers stay in [0, 1], however far the
/// eigenvalues spread.
#[derive(Debug, Clone, PartialEq)]
pub struct KDpp {
    n: usize,
    k: usize,
    kernel: Vec<f64>,
    eigen: Eigen,
    coins: Coins,
}

impl KDpp {
    /// The k-DPP of a symmetric positive semidefinite `n × n` kernel, given by rows.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Length`] for a kernel of another size, [`SamplingError::OutOfRange`] when no subset of
    /// size k has a positive determinant.
    pub fn new(kernel: &[f64], n: usize, k: usize) -> Result<Self, SamplingError> {
        if kernel.len() != n.saturating_mul(n) {
            return Err(SamplingError::Length {
                name: "kernel",
                given: kernel.len(),
                wanted: n.saturating_mul(n),
            });
        }
        let mut eigen = decompose(kernel, n);
        let largest = eigen.values.iter().fold(0.0, |max: f64, &x| max.max(x));
        let resolved = largest * RANK * n as f64;
        eigen
            .values
            .iter_mut()
            .filter(|x| **x <= resolved)
            .for_each(|x| *x = 0.0);
        let rank = eigen.values.iter().filter(|x| **x > 0.0).count();
        SamplingError::check(k <= rank, "k", k as f64, "at most the rank of the kernel")?;
        let coins = Coins::new(&eigen.values, k);
        Ok(Self {
            n,
            k,
            kernel: kernel.to_vec(),
            eigen,
            coins,
        })
    }

    /// `e_k(λ)`, the sum of all principal minors of size k.
    #[must_use]
    pub fn normaliser(&self) -> f64 {
        self.coins.polynomial()
    }

    /// The chance of every item to be in the subset.
    #[must_use]
    pub fn inclusion(&self) -> Vec<f64> {
        let shares = self.coins.shares();
        (0..self.n)
            .map(|x| {
                shares
                    .iter()
                    .enumerate()
                    .map(|(m, share)| share * self.eigen.vectors[m * self.n + x].powi(2))
                    .sum()
            })
            .collect()
    }

    /// The probability of a subset; 0 unless it has k distinct items.
    #[must_use]
    pub fn probability(&self, subset: &[usize]) -> f64 {
        if subset.len() != self.k || subset.iter().any(|&i| i >= self.n) {
            return 0.0;
        }
        let minor: Vec<f64> = subset
            .iter()
            .flat_map(|&i| subset.iter().map(move |&j| (i, j)))
            .map(|(i, j)| self.kernel[i * self.n + j])
            .collect();
        determinant(minor, self.k).max(0.0) / self.normaliser()
    }

    /// Draws a subset, ascending: first k eigenvectors, then one item per vector. Takes at most `n + k`
    /// uniforms.
    pub fn sample(&self, mut uniform: impl FnMut() -> f64) -> Vec<usize> {
        let n = self.n;
        let chosen = self.coins.sample(&mut uniform);
        let mut basis: Vec<Vec<f64>> = chosen
            .iter()
            .map(|&m| self.eigen.vectors[m * n..(m + 1) * n].to_vec())
            .collect();
        let mut subset = Vec::with_capacity(self.k);
        while !basis.is_empty() {
            let mut weights: Vec<f64> = (0..n)
                .map(|x| basis.iter().map(|vector| vector[x] * vector[x]).sum())
                .collect();
            subset
                .iter()
                .for_each(|&taken: &usize| weights[taken] = 0.0);
            let total: f64 = weights.iter().sum();
            let item = crate::draw::inverse_cdf(&weights, uniform() * total);
            subset.push(item);
            project_out(&mut basis, item);
        }
        subset.sort_unstable();
        subset
    }
}

/// Replaces the basis by one of its subspace orthogonal to the unit vector of `item`.
fn project_out(basis: &mut Vec<Vec<f64>>, item: usize) {
    let largest =
        (0..basis.len()).max_by(|&a, &b| basis[a][item].abs().total_cmp(&basis[b][item].abs()));
    let Some(largest) = largest else { return };
    let pivot = basis.swap_remove(largest);
    for vector in basis.iter_mut() {
        let factor = vector[item] / pivot[item];
        if factor.is_finite() {
            vector
                .iter_mut()
                .zip(&pivot)
                .for_each(|(x, y)| *x -= factor * y);
        }
        vector[item] = 0.0;
    }
    // Gram–Schmidt, twice for accuracy.
    for i in 0..basis.len() {
        for _ in 0..2 {
            for j in 0..i {
                let (done, rest) = basis.split_at_mut(i);
                let dot: f64 = done[j].iter().zip(&rest[0]).map(|(x, y)| x * y).sum();
                rest[0]
                    .iter_mut()
                    .zip(&done[j])
                    .for_each(|(x, y)| *x -= dot * y);
            }
        }
        let norm = basis[i].iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 0.0 {
            basis[i].iter_mut().for_each(|x| *x /= norm);
        }
    }
}

/// The diagonal of `L(L + I)⁻¹`: the chance of every item in the unconstrained DPP.
///
/// # Errors
///
/// [`SamplingError::Length`] for a kernel that is not `n × n`.
pub fn dpp_marginals(kernel: &[f64], n: usize) -> Result<Vec<f64>, SamplingError> {
    if kernel.len() != n.saturating_mul(n) {
        return Err(SamplingError::Length {
            name: "kernel",
            given: kernel.len(),
            wanted: n.saturating_mul(n),
        });
    }
    let Eigen { values, vectors } = decompose(kernel, n);
    let share = |m: usize| values[m].max(0.0) / (1.0 + values[m].max(0.0));
    Ok((0..n)
        .map(|x| (0..n).map(|m| share(m) * vectors[m * n + x].powi(2)).sum())
        .collect())
}

/// Inclusion probabilities of the k-DPP with the kernel `diag(p)`.
pub(super) fn diagonal_inclusion(p: &[f64], k: usize) -> Vec<f64> {
    Coins::new(p, k).shares()
}

/// n independent coins with odds `t·λ_m`, given that k show heads.
#[derive(Debug, Clone, PartialEq)]
struct Coins {
    k: usize,
    tilt: f64,
    odds: Vec<f64>,
    heads: Vec<f64>,
    /// Chance that `j` of the first `i` coins show heads, at `i·(k + 1) + j`.
    prefix: Vec<f64>,
    /// The same for the coins from `i` on.
    suffix: Vec<f64>,
}

impl Coins {
    fn new(lambda: &[f64], k: usize) -> Self {
        let n = lambda.len();
        let tilt = tilt(lambda, k);
        let odds: Vec<f64> = lambda.iter().map(|x| x * tilt).collect();
        let heads: Vec<f64> = odds
            .iter()
            .map(|x| if x.is_finite() { x / (1.0 + x) } else { 1.0 })
            .collect();
        let width = k + 1;
        let mut prefix = vec![0.0; (n + 1) * width];
        let mut suffix = vec![0.0; (n + 1) * width];
        prefix[0] = 1.0;
        suffix[n * width] = 1.0;
        for i in 0..n {
            step(&mut prefix, i, i + 1, width, heads[i]);
            step(&mut suffix, n - i, n - i - 1, width, heads[n - 1 - i]);
        }
        Self {
            k,
            tilt,
            odds,
            heads,
            prefix,
            suffix,
        }
    }

    /// The chance of every coin to show heads, given k heads.
    fn shares(&self) -> Vec<f64> {
        let (n, width) = (self.heads.len(), self.k + 1);
        if self.k == 0 {
            return vec![0.0; n];
        }
        let total = self.prefix[n * width + self.k];
        let live = self.heads.iter().filter(|x| **x > 0.0).count();
        if live == self.k || total <= 0.0 {
            return self
                .heads
                .iter()
                .map(|x| f64::from(u8::from(*x > 0.0)))
                .collect();
        }
        (0..n)
            .map(|m| {
                let others: f64 = (0..self.k)
                    .map(|j| {
                        self.prefix[m * width + j] * self.suffix[(m + 1) * width + self.k - 1 - j]
                    })
                    .sum();
                self.heads[m] * others / total
            })
            .collect()
    }

    /// `e_k(λ)`.
    fn polynomial(&self) -> f64 {
        let n = self.heads.len();
        let total = self.prefix[n * (self.k + 1) + self.k];
        let log: f64 = self.odds.iter().map(|x| math::ln(1.0 + x)).sum();
        math::exp(math::ln(total) + log - self.k as f64 * math::ln(self.tilt))
    }

    /// Which coins show heads, given k heads; one uniform per coin until all heads are placed.
    fn sample(&self, mut uniform: impl FnMut() -> f64) -> Vec<usize> {
        let width = self.k + 1;
        let mut left = self.k;
        let mut chosen = Vec::with_capacity(left);
        for m in (0..self.heads.len()).rev() {
            if left == 0 {
                break;
            }
            let with = self.heads[m] * self.prefix[m * width + left - 1];
            if uniform() * self.prefix[(m + 1) * width + left] < with {
                chosen.push(m);
                left -= 1;
            }
        }
        chosen
    }
}

/// Adds a coin with the given chance of heads.
fn step(table: &mut [f64], from: usize, to: usize, width: usize, heads: f64) {
    for j in 0..width {
        let before = if j > 0 {
            table[from * width + j - 1]
        } else {
            0.0
        };
        table[to * width + j] = table[from * width + j] * (1.0 - heads) + before * heads;
    }
}

/// The factor t for which `Σ tλ/(1 + tλ) = k`.
fn tilt(lambda: &[f64], k: usize) -> f64 {
    let live = lambda.iter().filter(|x| **x > 0.0).count();
    let largest = lambda.iter().fold(0.0, |max: f64, &x| max.max(x));
    if k == 0 || largest <= 0.0 {
        return 1.0;
    }
    // With every coin needed no factor reaches the mean; any will do, and the middle one keeps the numbers
    // away from 0.
    let wanted = if k >= live {
        live as f64 - 0.5
    } else {
        k as f64
    };
    let mean = |log: f64| -> f64 {
        lambda
            .iter()
            .map(|x| {
                let odds = x * math::exp(log);
                odds / (1.0 + odds)
            })
            .sum()
    };
    let (mut low, mut high) = (-math::ln(largest) - 50.0, -math::ln(largest) + 500.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if mean(middle) < wanted {
            low = middle
        } else {
            high = middle
        }
    }
    math::exp(0.5 * (low + high))
}

/// Determinant by elimination with partial pivoting.
fn determinant(mut a: Vec<f64>, n: usize) -> f64 {
    let mut product = 1.0;
    for column in 0..n {
        let pivot = (column..n)
            .max_by(|&i, &j| a[i * n + column].abs().total_cmp(&a[j * n + column].abs()));
        let Some(pivot) = pivot.filter(|&row| a[row * n + column] != 0.0) else {
            return 0.0;
        };
        if pivot != column {
            (0..n).for_each(|j| a.swap(pivot * n + j, column * n + j));
            product = -product;
        }
        product *= a[column * n + column];
        for row in column + 1..n {
            let factor = a[row * n + column] / a[column * n + column];
            for j in column..n {
                a[row * n + j] -= factor * a[column * n + j];
            }
        }
    }
    product
}
