//! Truncations and other steps that act on the shape of the distribution.

mod sorted;
mod threshold;
mod xtc;

use crate::error::SamplingError;
use crate::processor::{Context, LogitsProcessor};
use crate::row::{Row, Scratch};
use crate::select::MassOrder;
use crate::simd::Backend;

pub use xtc::Xtc;

/// One truncation, with its parameter.
///
/// Inside a [`Sampler`](crate::Sampler) truncations share their passes. On its own a truncation is a
/// [`LogitsProcessor`] that sets what it removes to `-inf`:
///
/// ```
/// use mx_sampling::Truncation;
///
/// let mut logits = [1.0, 3.0, 2.0];
/// Truncation::TopK(2).apply(&mut logits)?;
/// assert_eq!(logits, [f32::NEG_INFINITY, 3.0, 2.0]);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Truncation {
    /// The first k tokens of the order, exactly k; `k >= 1` (Fan 2018).
    TopK(usize),
    /// The shortest prefix with mass at least p; `[0, 1]`, 0 keeps one token (Holtzman 2019 §3.1).
    TopP(f64),
    /// `l >= max + ln(min_p)`; `[0, 1]` (Nguyen 2024 §3).
    MinP(f64),
    /// Locally typical: the tokens whose surprise is nearest to the entropy; `(0, 1]` (Meister 2022 §4).
    Typical(f64),
    /// `p >= ε`; `[0, 1)` (Hewitt 2022 §4).
    Epsilon(f64),
    /// `p >= min(ε, √ε·e^−H)`; `[0, 1)` (Hewitt 2022 §4).
    Eta(f64),
    /// `l >= max − n·σ`, σ the population deviation of the live logits; `n > 0` (Tang 2024).
    TopNSigma(f64),
    /// Among the top 100: the prefix with `Σ −p ln p <= h·H`; `(0, 1]` (Top-H 2025, transformers 5).
    TopH(f64),
    /// Tail-free: cut where the normalised second differences of the sorted law exceed z; `(0, 1]` (2019).
    TailFree(f64),
}

impl Truncation {
    /// The name of the step.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::TopK(_) => "top_k",
            Self::TopP(_) => "top_p",
            Self::MinP(_) => "min_p",
            Self::Typical(_) => "typical_p",
            Self::Epsilon(_) => "epsilon_cutoff",
            Self::Eta(_) => "eta_cutoff",
            Self::TopNSigma(_) => "top_n_sigma",
            Self::TopH(_) => "top_h",
            Self::TailFree(_) => "tail_free",
        }
    }

    /// Checks the parameter.
    ///
    /// # Errors
    ///
    /// [`SamplingError::OutOfRange`].
    pub fn check(&self) -> Result<(), SamplingError> {
        let name = self.name();
        match *self {
            Self::TopK(k) => SamplingError::check(k >= 1, name, k as f64, ">= 1"),
            Self::TopP(x) | Self::MinP(x) => {
                SamplingError::check((0.0..=1.0).contains(&x), name, x, "in [0, 1]")
            }
            Self::Typical(x) | Self::TopH(x) | Self::TailFree(x) => {
                SamplingError::check(x > 0.0 && x <= 1.0, name, x, "in (0, 1]")
            }
            Self::Epsilon(x) | Self::Eta(x) => {
                SamplingError::check((0.0..1.0).contains(&x), name, x, "in [0, 1)")
            }
            Self::TopNSigma(n) => {
                SamplingError::check(n > 0.0 && n.is_finite(), name, n, "a finite number > 0")
            }
        }
    }

    /// Sets what the truncation removes to `-inf`, keeping at least one token.
    ///
    /// # Errors
    ///
    /// A parameter out of range, an invalid logit, or no live token at all.
    pub fn apply(&self, logits: &mut [f32]) -> Result<(), SamplingError> {
        self.check()?;
        let mut scratch = Scratch::default();
        let mut row = Row::new(logits, &mut scratch, Backend::detect());
        row.scan(None, "the model")?;
        self.cut(&mut row);
        row.write_back();
        Ok(())
    }

    /// Applies the truncation to a scanned row.
    pub(crate) fn cut(&self, row: &mut Row<'_>) {
        match *self {
            Self::TopK(k) => row.keep_top(k.max(row.min_keep)),
            Self::TopP(p) if p < 1.0 => row.keep_mass(p, MassOrder::Probability),
            Self::Typical(mass) if mass < 1.0 => {
                let sums = row.sums();
                // −ln p = ln Z − a and H = ln Z − az/Z, so their distance is |a − az/Z|.
                row.keep_mass(mass, MassOrder::Distance(sums.az / sums.z));
            }
            Self::TopP(_) | Self::Typical(_) => {}
            Self::MinP(p) => row.keep_min_p(p),
            Self::Epsilon(epsilon) => row.keep_probability(epsilon),
            Self::Eta(epsilon) => row.keep_eta(epsilon),
            Self::TopNSigma(n) => row.keep_sigma(n),
            Self::TopH(h) => row.keep_top_h(h),
            Self::TailFree(z) => row.keep_tail_free(z),
        }
    }
}

impl LogitsProcessor for Truncation {
    fn name(&self) -> &'static str {
        Truncation::name(self)
    }

    fn process(&mut self, _: Context<'_>, logits: &mut [f32]) -> Result<(), SamplingError> {
        self.apply(logits)
    }

    fn boxed_clone(&self) -> Box<dyn LogitsProcessor> {
        Box::new(*self)
    }
}
