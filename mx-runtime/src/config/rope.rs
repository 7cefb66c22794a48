//! Rotary position embedding: frequencies and the scalings that stretch a context.

use super::ConfigError;
use serde::Serialize;
use std::f64::consts::PI;

/// Rotary position embedding (Su 2021, arXiv 2104.09864) over pairs `(i, i + head_dim / 2)`.
///
/// Weights stored for neighbouring pairs are put into this order when they are read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rope {
    /// Base of the geometric series of frequencies.
    pub theta: f64,
    /// Turned dimensions of a head, even.
    pub dims: usize,
    /// How the frequencies are stretched.
    pub scaling: RopeScaling,
}

/// Changes to the inverse frequencies that let a model see further than it was trained for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
#[non_exhaustive]
pub enum RopeScaling {
    /// The plain series.
    None,
    /// Every frequency divided by `factor` (Chen 2023, position interpolation).
    Linear {
        /// The divisor, above 0.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context the model was first trained with, in tokens.
        original_context: f64,
    },
    /// YaRN (Peng 2023, arXiv 2309.00071).
    Yarn {
        /// Divisor of the interpolated frequencies.
        factor: f64,
        /// Rotations over the original context above which a dimension is kept.
        beta_fast: f64,
        /// Rotations below which a dimension is divided.
        beta_slow: f64,
        /// Context the model was first trained with, in tokens.
        original_context: f64,
        /// Whether the ends of the ramp are rounded to whole dimensions.
        truncate: bool,
        /// Factor on cos and sin; `0.1 ln(factor) + 1` unless the file says otherwise.
        attention_factor: f64,
    },
    /// One divisor a pair, as GGUF stores Llama 3 scaling (`rope_freqs.weight`).
    Divisors {
        /// `dims / 2` numbers above 0.
        divisors: Vec<f32>,
    },
}

impl Rope {
    /// The inverse frequencies, `dims / 2` of them, in radians a position.
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        let half = self.dims / 2;
        let plain = |i: usize| self.theta.powf(-(2.0 * i as f64) / self.dims as f64);
        let scaled = |i: usize| -> f64 {
            let f = plain(i);
            match &self.scaling {
                RopeScaling::None => f,
                RopeScaling::Linear { factor } => f / factor,
                RopeScaling::Divisors { divisors } => f / f64::from(divisors[i]),
                &RopeScaling::Llama3 {
                    factor,
                    low_freq_factor: low,
                    high_freq_factor: high,
                    original_context,
                } => {
                    let wavelength = 2.0 * PI / f;
                    if wavelength < original_context / high {
                        f
                    } else if wavelength > original_context / low {
                        f / factor
                    } else {
                        let smooth = (original_context / wavelength - low) / (high - low);
                        f * ((1.0 - smooth) / factor + smooth)
                    }
                }
                &RopeScaling::Yarn {
                    factor,
                    beta_fast,
                    beta_slow,
                    original_context,
                    truncate,
                    ..
                } => {
                    let dim_of = |rotations: f64| {
                        self.dims as f64 * (original_context / (rotations * 2.0 * PI)).ln()
                            / (2.0 * self.theta.ln())
                    };
                    let (mut lo, mut hi) = (dim_of(beta_fast), dim_of(beta_slow));
                    if truncate {
                        (lo, hi) = (lo.floor(), hi.ceil());
                    }
                    let last = (self.dims - 1) as f64;
                    (lo, hi) = (lo.max(0.0), hi.min(last));
                    if hi == lo {
                        hi += 0.001; // the published code's guard against a division by zero
                    }
                    let ramp = ((i as f64 - lo) / (hi - lo)).clamp(0.0, 1.0);
                    let extrapolated = 1.0 - ramp;
                    f / factor * (1.0 - extrapolated) + f * extrapolated
                }
            }
        };
        (0..half).map(|i| scaled(i) as f32).collect()
    }

    /// Factor on cos and sin; 1 except under YaRN.
    pub fn attention_factor(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn {
                attention_factor, ..
            } => attention_factor as f32,
            _ => 1.0,
        }
    }

    /// Appends cos and sin of `positions` to `cos` and `sin`: `dims / 2` numbers a position.
    ///
    /// The angle is rounded to f32 before its cosine is taken, as the reference implementations do: at position
    /// 8000 that differs from the exact angle by up to 5e-4 radians, and the models were trained with it.
    pub fn table(
        inverse_frequencies: &[f32],
        factor: f32,
        position: usize,
        cos: &mut Vec<f32>,
        sin: &mut Vec<f32>,
    ) {
        for &frequency in inverse_frequencies {
            let angle = f64::from(position as f32 * frequency);
            cos.push((angle.cos() as f32) * factor);
            sin.push((angle.sin() as f32) * factor);
        }
    }

    /// Refuses numbers with which the frequencies would not be finite.
    pub(super) fn check(&self, file: &str) -> Result<(), ConfigError> {
        let positive = |field: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            Err(ConfigError::Value {
                file: file.to_owned(),
                field: field.to_owned(),
                given: value.to_string(),
                wanted: "a finite number above 0".to_owned(),
            })
        };
        positive("rope_theta", self.theta)?;
        match &self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => positive("rope_scaling.factor", *factor),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => {
                positive("rope_scaling.factor", *factor)?;
                positive("rope_scaling.low_freq_factor", *low_freq_factor)?;
                positive("rope_scaling.high_freq_factor", *high_freq_factor)?;
                positive(
                    "rope_scaling.original_max_position_embeddings",
                    *original_context,
                )
            }
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_context,
                attention_factor,
                ..
            } => {
                positive("rope_scaling.factor", *factor)?;
                positive("rope_scaling.beta_fast", *beta_fast)?;
                positive("rope_scaling.beta_slow", *beta_slow)?;
                positive("rope_scaling.attention_factor", *attention_factor)?;
                positive(
                    "rope_scaling.original_max_position_embeddings",
                    *original_context,
                )
            }
            RopeScaling::Divisors { divisors } => {
                if divisors.len() != self.dims / 2 {
                    return Err(ConfigError::Value {
                        file: file.to_owned(),
                        field: "rope_freqs.weight".to_owned(),
                        given: format!("{} values", divisors.len()),
                        wanted: format!("{}, half of the rope dimensions", self.dims / 2),
                    });
                }
                divisors
                    .iter()
                    .try_for_each(|&d| positive("rope_freqs.weight", f64::from(d)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rope(scaling: RopeScaling) -> Rope {
        Rope {
            theta: 10_000.0,
            dims: 8,
            scaling,
        }
    }

    #[test]
    fn plain_series() {
        let f = rope(RopeScaling::None).inverse_frequencies();
        let expected = [1.0, 0.1, 0.01, 0.001];
        assert!(
            f.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7),
            "{f:?}"
        );
    }

    #[test]
    fn llama3_keeps_high_and_divides_low_frequencies() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 64.0,
        };
        let f = rope(scaling).inverse_frequencies();
        // wavelengths 6.3, 62.8, 628, 6283 against 16 and 64: kept, ramp, divided, divided
        let smooth = (64.0 / (2.0 * PI / 0.1) - 1.0) / 3.0;
        let ramp = 0.1 * ((1.0 - smooth) / 8.0 + smooth);
        let expected = [1.0, ramp, 0.01 / 8.0, 0.001 / 8.0];
        assert!(
            f.iter()
                .zip(expected)
                .all(|(a, b)| (f64::from(*a) - b).abs() < 1e-8),
            "{f:?} {expected:?}"
        );
    }

    #[test]
    fn refuses_divisors_of_another_length() {
        let error = rope(RopeScaling::Divisors {
            divisors: vec![1.0; 3],
        })
        .check("f")
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "f: rope_freqs.weight is 3 values, wanted 4, half of the rope dimensions"
        );
    }
}
