//! Adaptive determinantal sampling (`ads`) and the k-DPPs it is made of.
//!
//! **The definition is ours.** The name and its two parameters come from the Mechanex API, whose vendor
//! publishes no definition; what follows is a design of this project and not a reconstruction.
//!
//! Among the most likely tokens (the pool, at most 64) near-duplicates share their mass: a token loses weight
//! to the extent that the rest of the mass is on tokens with a similar embedding. With the probabilities `p`
//! renormalised on the pool, the cosine matrix `G` of the mean-centred input embeddings, and
//! `K = (1 − √β)·I + √β·G`, the kernel `L = D^{1/2} K D^{1/2}`, `D = diag(p)`, defines a k-DPP with
//! `k = min(subset_size, n, ⌈e^H⌉)`: as many alternatives as the model hesitates between. With `π` its inclusion
//! probabilities and `π⁰` those for `β = 0` the law is `P(x) ∝ p_x·π_x/π⁰_x`.
//!
//! `β = 0`, `k = 1`, `k = n`, and orthogonal embeddings give back `p`.

mod kdpp;

pub use kdpp::{KDpp, dpp_marginals};

use crate::draw::check_law;
use crate::error::SamplingError;
use crate::math;
use crate::strategy::speculative::normalise;

/// Largest pool.
pub const MAX_POOL: usize = 64;

/// Settings of `ads`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdsOptions {
    /// Largest subset; `1..=64`, the vendor's examples use 2 to 16.
    pub subset_size: usize,
    /// Share of the full repulsion; `[0, 1]`, off 0, the vendor's examples use 0.1 to 0.5.
    pub beta: f64,
    /// Whether the subset size follows the entropy.
    pub adaptive: bool,
}

impl Default for AdsOptions {
    fn default() -> Self {
        Self {
            subset_size: 8,
            beta: 0.3,
            adaptive: true,
        }
    }
}

impl AdsOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// [`SamplingError::OutOfRange`].
    pub fn check(&self) -> Result<(), SamplingError> {
        let size = self.subset_size;
        SamplingError::check(
            (1..=MAX_POOL).contains(&size),
            "ads_subset_size",
            size as f64,
            "in 1..=64",
        )?;
        SamplingError::check(
            (0.0..=1.0).contains(&self.beta),
            "ads_beta",
            self.beta,
            "in [0, 1]",
        )
    }
}

/// The law of `ads` on one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Ads {
    k: usize,
    p: Vec<f64>,
    kernel: Vec<f64>,
    law: Vec<f64>,
    inclusion: Vec<f64>,
    independent: Vec<f64>,
}

impl Ads {
    /// The law on a pool with these probabilities (renormalised here) and embedding rows, which are already
    /// centred by the vocabulary's mean.
    ///
    /// ```
    /// use mx_sampling::strategy::determinantal::{Ads, AdsOptions};
    ///
    /// // Tokens 0 and 1 mean the same, token 2 stands alone: it gains.
    /// let rows: [&[f32]; 3] = [&[1.0, 0.0], &[1.0, 0.0], &[0.0, 1.0]];
    /// let options = AdsOptions { subset_size: 2, beta: 0.5, adaptive: false };
    /// let ads = Ads::new(&[0.4, 0.3, 0.3], &rows, options)?;
    /// assert!(ads.law()[2] > 0.3 && ads.law()[0] < 0.4);
    /// # Ok::<(), mx_sampling::SamplingError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Options out of range, a pool that is empty or larger than [`MAX_POOL`], an invalid probability, or a
    /// different number of rows.
    pub fn new(pool: &[f64], rows: &[&[f32]], options: AdsOptions) -> Result<Self, SamplingError> {
        options.check()?;
        if pool.len() > MAX_POOL {
            return Err(SamplingError::Length {
                name: "pool",
                given: pool.len(),
                wanted: MAX_POOL,
            });
        }
        if rows.len() != pool.len() {
            return Err(SamplingError::Length {
                name: "rows",
                given: rows.len(),
                wanted: pool.len(),
            });
        }
        check_law("pool", pool)?;
        let n = pool.len();
        let mut p = pool.to_vec();
        normalise(&mut p);
        let k = subset_size(&p, options);
        let root = options.beta.sqrt();
        let mut kernel = gram(rows);
        for i in 0..n {
            for j in 0..n {
                let identity = if i == j { 1.0 - root } else { 0.0 };
                kernel[i * n + j] = (identity + root * kernel[i * n + j]) * (p[i] * p[j]).sqrt();
            }
        }
        let independent = kdpp::diagonal_inclusion(&p, k);
        // One token, or all of them: nothing to choose between. A kernel of too low a rank (β = 1 and
        // duplicates) leaves no subset of size k at all; the plain law stands then.
        let dpp = if k == 1 || k == n {
            None
        } else {
            KDpp::new(&kernel, n, k).ok()
        };
        let inclusion = dpp.map_or_else(|| independent.clone(), |dpp| dpp.inclusion());
        let mut law: Vec<f64> = (0..n)
            .map(|x| {
                if independent[x] > 0.0 {
                    p[x] * inclusion[x] / independent[x]
                } else {
                    0.0
                }
            })
            .collect();
        normalise(&mut law);
        Ok(Self {
            k,
            p,
            kernel,
            law,
            inclusion,
            independent,
        })
    }

    /// The subset size of this step.
    #[must_use]
    pub fn subset_size(&self) -> usize {
        self.k
    }

    /// The probability of every token of the pool.
    #[must_use]
    pub fn law(&self) -> &[f64] {
        &self.law
    }

    /// The chance `π` of every token to be in the subset.
    #[must_use]
    pub fn inclusion(&self) -> &[f64] {
        &self.inclusion
    }

    /// The same without repulsion, `π⁰`.
    #[must_use]
    pub fn independent_inclusion(&self) -> &[f64] {
        &self.independent
    }

    /// A subset for the trace, given the token that was drawn: `Y | x ∝ det(L_Y)·1[x ∈ Y]`, ascending.
    ///
    /// Takes at most `n + k` uniforms.
    ///
    /// # Errors
    ///
    /// [`SamplingError::TokenOutOfRange`] for a token outside the pool or without mass.
    pub fn subset_given(
        &self,
        token: usize,
        uniform: impl FnMut() -> f64,
    ) -> Result<Vec<usize>, SamplingError> {
        let n = self.p.len();
        if self.p.get(token).is_none_or(|p| *p <= 0.0) {
            return Err(SamplingError::TokenOutOfRange {
                name: "token",
                token: token as u32,
                vocab: n,
            });
        }
        let others: Vec<usize> = (0..n).filter(|i| *i != token).collect();
        let own = self.kernel[token * n + token];
        // The kernel given that the token is in: L − l·lᵀ/L_xx on the others.
        let mut rest = Vec::with_capacity(others.len() * others.len());
        for &i in &others {
            for &j in &others {
                let cross = self.kernel[i * n + token] * self.kernel[token * n + j];
                rest.push(self.kernel[i * n + j] - cross / own);
            }
        }
        let mut subset = match KDpp::new(&rest, others.len(), self.k - 1) {
            Ok(dpp) => dpp
                .sample(uniform)
                .into_iter()
                .map(|at| others[at])
                .collect(),
            Err(_) => Vec::new(),
        };
        subset.push(token);
        subset.sort_unstable();
        Ok(subset)
    }
}

/// `min(subset_size, n)`, and with `adaptive` at most `⌈e^H⌉`.
fn subset_size(p: &[f64], options: AdsOptions) -> usize {
    let live = p.iter().filter(|p| **p > 0.0).count();
    let largest = options.subset_size.min(live).max(1);
    if !options.adaptive {
        return largest;
    }
    let entropy: f64 = p
        .iter()
        .filter(|p| **p > 0.0)
        .map(|p| -p * math::ln(*p))
        .sum();
    largest.min((math::exp(entropy).ceil() as usize).max(1))
}

/// Cosines of the rows; a row of zeros is orthogonal to all others.
fn gram(rows: &[&[f32]]) -> Vec<f64> {
    let n = rows.len();
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum::<f64>()
    };
    let norms: Vec<f64> = rows.iter().map(|row| dot(row, row).sqrt()).collect();
    let mut gram = vec![0.0; n * n];
    for i in 0..n {
        gram[i * n + i] = 1.0;
        for j in 0..i {
            let product = norms[i] * norms[j];
            let cosine = if product > 0.0 {
                (dot(rows[i], rows[j]) / product).clamp(-1.0, 1.0)
            } else {
                0.0
            };
            gram[i * n + j] = cosine;
            gram[j * n + i] = cosine;
        }
    }
    gram
}
