//! Sparse autoencoders in SAELens' files: standard, top-k, jump-ReLU and gated.

use crate::apply::Edit;
use crate::error::SteeringError;
use crate::linalg::{difference, dot, norm};
use crate::point::Point;
use crate::vector::{Method, SteeringVector};

/// How features become active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// z = ReLU(p)
    Standard,
    /// The k largest of p, through ReLU; the first of equals.
    TopK {
        /// Number of features that may be active.
        k: usize,
    },
    /// z = p where p is above the feature's threshold (and above 0), else 0.
    JumpRelu,
    /// z = ReLU(magnitude) where the gate is above 0, else 0.
    Gated,
}

/// What is done to a row before it is encoded, and undone after decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Normalisation {
    /// Nothing.
    #[default]
    None,
    /// Scaled to length √d.
    ConstantNorm,
    /// Mean taken out, divided by the standard deviation.
    LayerNorm,
}

/// The weights of an autoencoder. `d` is the width of the stream, `n` the number of features.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SaeParts {
    /// Encoder, `[d, n]` row-major.
    pub w_enc: Vec<f32>,
    /// Encoder's bias, `[n]`; of the gate in gated ones.
    pub b_enc: Vec<f32>,
    /// Decoder, `[n, d]` row-major.
    pub w_dec: Vec<f32>,
    /// Decoder's bias, `[d]`.
    pub b_dec: Vec<f32>,
    /// Thresholds `[n]` of jump-ReLU.
    pub threshold: Vec<f32>,
    /// Logarithms `[n]` of the magnitude's scale, of gated ones.
    pub r_mag: Vec<f32>,
    /// The magnitude's bias `[n]`, of gated ones.
    pub b_mag: Vec<f32>,
}

/// A sparse autoencoder.
///
/// > p = (x̂ − b_dec)·W_enc + b_enc,   z = act(p),   x̃ = z·W_dec + b_dec
#[derive(Debug, Clone, PartialEq)]
pub struct Sae {
    /// How features become active.
    pub architecture: Architecture,
    /// What is done to a row before.
    pub normalisation: Normalisation,
    /// Whether the decoder's bias is taken off the row before encoding.
    pub subtract_decoder_bias: bool,
    /// The place whose rows it encodes, where its file says so.
    pub point: Option<Point>,
    pub(super) parts: SaeParts,
    /// Lengths of the decoder's rows, where codes are in their units.
    pub(super) decoder_norms: Option<Vec<f32>>,
    d_model: usize,
    features: usize,
}

/// What undoes the normalisation of a row: x = factor·x̂ + offset.
#[derive(Debug, Clone, Copy)]
struct Undo {
    factor: f32,
    offset: f32,
}

impl Sae {
    /// An autoencoder of given weights.
    ///
    /// # Errors
    /// [`SteeringError`] where the lengths do not fit each other or a number is not finite.
    pub fn new(
        architecture: Architecture,
        d_model: usize,
        features: usize,
        parts: SaeParts,
    ) -> Result<Self, SteeringError> {
        let used = |yes: bool| if yes { features } else { 0 };
        let gated = architecture == Architecture::Gated;
        let product = d_model.saturating_mul(features);
        let lengths = [
            ("W_enc", &parts.w_enc, product),
            ("W_dec", &parts.w_dec, product),
            ("b_enc", &parts.b_enc, features),
            ("b_dec", &parts.b_dec, d_model),
            (
                "threshold",
                &parts.threshold,
                used(architecture == Architecture::JumpRelu),
            ),
            ("r_mag", &parts.r_mag, used(gated)),
            ("b_mag", &parts.b_mag, used(gated)),
        ];
        for (name, values, wanted) in lengths {
            if values.len() != wanted || (wanted == 0 && name.starts_with("W_")) {
                return Err(SteeringError::Width {
                    what: format!("{name} of the autoencoder"),
                    given: values.len(),
                    wanted,
                });
            }
            if let Some(&given) = values.iter().find(|x| !x.is_finite()) {
                let what = format!("a number of {name}");
                return Err(SteeringError::NotFinite { what, given });
            }
        }
        if let Architecture::TopK { k } = architecture
            && (k == 0 || k > features)
        {
            return Err(SteeringError::OutOfRange {
                name: "k",
                given: k as f64,
                range: "from 1 to the number of features",
            });
        }
        Ok(Sae {
            architecture,
            normalisation: Normalisation::None,
            subtract_decoder_bias: true,
            point: None,
            parts,
            decoder_norms: None,
            d_model,
            features,
        })
    }

    /// Width of the rows.
    pub fn d_model(&self) -> usize {
        self.d_model
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// The direction that a feature writes; `None` for one that does not exist.
    pub fn feature(&self, feature: usize) -> Option<&[f32]> {
        self.parts.w_dec.chunks_exact(self.d_model).nth(feature)
    }

    /// The code of a row: one value a feature, most of them 0.
    ///
    /// # Errors
    /// [`SteeringError::Width`] for a row of another width.
    pub fn encode(&self, row: &[f32]) -> Result<Vec<f32>, SteeringError> {
        let (mut row, _) = self.normalised(row)?;
        if self.subtract_decoder_bias {
            row = difference(&row, &self.parts.b_dec);
        }
        let mut products = vec![0.0f32; self.features];
        for (x, weights) in row.iter().zip(self.parts.w_enc.chunks_exact(self.features)) {
            products
                .iter_mut()
                .zip(weights)
                .for_each(|(sum, w)| *sum += x * w);
        }
        let SaeParts {
            b_enc,
            threshold,
            r_mag,
            b_mag,
            ..
        } = &self.parts;
        let mut code: Vec<f32> = products.iter().zip(b_enc).map(|(p, b)| p + b).collect();
        if let Some(norms) = &self.decoder_norms {
            code.iter_mut().zip(norms).for_each(|(p, norm)| *p *= norm);
        }
        match self.architecture {
            Architecture::Standard => code.iter_mut().for_each(|p| *p = p.max(0.0)),
            Architecture::JumpRelu => code.iter_mut().zip(threshold).for_each(|(p, threshold)| {
                if *p <= *threshold || *p <= 0.0 {
                    *p = 0.0;
                }
            }),
            Architecture::TopK { k } => keep_largest(&mut code, k),
            Architecture::Gated => {
                let magnitudes = products.iter().zip(r_mag).zip(b_mag);
                for (gate, ((product, r), b)) in code.iter_mut().zip(magnitudes) {
                    *gate = if *gate > 0.0 {
                        (product * r.exp() + b).max(0.0)
                    } else {
                        0.0
                    };
                }
            }
        }
        Ok(code)
    }

    /// The row that a code stands for, in the units of a row that was normalised like `like`.
    fn decode_like(&self, code: &[f32], undo: Undo) -> Vec<f32> {
        let mut row = self.parts.b_dec.clone();
        for (feature, weights) in self.parts.w_dec.chunks_exact(self.d_model).enumerate() {
            let mut z = code.get(feature).copied().unwrap_or(0.0);
            if z == 0.0 {
                continue;
            }
            if let Some(norm) = self
                .decoder_norms
                .as_ref()
                .map(|norms| norms[feature])
                .filter(|n| *n > 0.0)
            {
                z /= norm;
            }
            row.iter_mut().zip(weights).for_each(|(x, w)| *x += z * w);
        }
        row.iter_mut()
            .for_each(|x| *x = *x * undo.factor + undo.offset);
        row
    }

    /// The row that a code stands for. With a normalisation, codes say nothing of the row's length: it is then that of
    /// normalised rows.
    ///
    /// # Errors
    /// [`SteeringError::Width`] for a code of another length.
    pub fn decode(&self, code: &[f32]) -> Result<Vec<f32>, SteeringError> {
        self.check_code(code)?;
        Ok(self.decode_like(
            code,
            Undo {
                factor: 1.0,
                offset: 0.0,
            },
        ))
    }

    /// What the autoencoder makes of a row.
    ///
    /// # Errors
    /// [`SteeringError::Width`] for a row of another width.
    pub fn reconstruct(&self, row: &[f32]) -> Result<Vec<f32>, SteeringError> {
        let (_, undo) = self.normalised(row)?;
        Ok(self.decode_like(&self.encode(row)?, undo))
    }

    /// Changes a row by changing its code; what the autoencoder does not capture of the row stays as it was:
    /// x ← x + dec(changed) − dec(code).
    ///
    /// # Errors
    /// [`SteeringError::Width`] for a row of another width.
    pub fn steer(
        &self,
        row: &mut [f32],
        change: impl FnOnce(&mut [f32]),
    ) -> Result<(), SteeringError> {
        let (_, undo) = self.normalised(row)?;
        let code = self.encode(row)?;
        let mut changed = code.clone();
        change(&mut changed);
        let before = self.decode_like(&code, undo);
        let after = self.decode_like(&changed, undo);
        for ((x, after), before) in row.iter_mut().zip(after).zip(before) {
            *x += after - before;
        }
        Ok(())
    }

    /// Steering along a sparse direction of code space (SAS, Bayat 2025, arXiv 2503.00177):
    /// x ← x + dec(act(z + s·v)) − dec(z), where act keeps codes at or above 0.
    ///
    /// # Errors
    /// [`SteeringError::Width`] where a length does not fit.
    pub fn steer_code(
        &self,
        row: &mut [f32],
        direction: &[f32],
        strength: f32,
    ) -> Result<(), SteeringError> {
        self.check_code(direction)?;
        self.steer(row, |code| {
            code.iter_mut()
                .zip(direction)
                .for_each(|(z, v)| *z = (*z + strength * v).max(0.0));
        })
    }

    /// Sets one feature of a row to a value: x ← x + (value − z) d.
    ///
    /// # Errors
    /// [`SteeringError`] for a feature that does not exist or a row of another width.
    pub fn clamp(&self, row: &mut [f32], feature: usize, value: f32) -> Result<(), SteeringError> {
        self.check_feature(feature)?;
        self.steer(row, |code| code[feature] = value)
    }

    /// The direction of a feature as a steering vector, acting where the autoencoder reads.
    ///
    /// # Errors
    /// [`SteeringError`] for a feature that does not exist or an autoencoder whose place is not known.
    pub fn feature_vector(&self, feature: usize) -> Result<SteeringVector, SteeringError> {
        self.check_feature(feature)?;
        let point = self.point.ok_or(SteeringError::Empty {
            what: "place of the autoencoder",
            wanted: "a hook name in its file, or one set by the caller",
        })?;
        let direction = self.feature(feature).unwrap_or_default().to_vec();
        let mut vector = SteeringVector::new(Method::Sae, [(point, direction)].into())?;
        vector.name = format!("feature {feature}");
        Ok(vector)
    }

    /// x + s·d of a feature, as an edit for any engine.
    ///
    /// # Errors
    /// As [`feature_vector`](Sae::feature_vector).
    pub fn feature_edit(&self, feature: usize, strength: f32) -> Result<Edit, SteeringError> {
        let vector = self.feature_vector(feature)?;
        let (point, direction) = vector.directions().next().ok_or(SteeringError::Empty {
            what: "feature",
            wanted: "a direction",
        })?;
        Ok(Edit::add(point, direction.to_vec(), strength))
    }

    /// A row's share of variance that the autoencoder explains, 1 being all; below 0 where it makes it worse.
    ///
    /// # Errors
    /// [`SteeringError::Width`] for a row of another width.
    pub fn explained(&self, row: &[f32]) -> Result<f64, SteeringError> {
        let rest = difference(row, &self.reconstruct(row)?);
        let total = dot(row, row);
        Ok(if total > 0.0 {
            1.0 - dot(&rest, &rest) / total
        } else {
            0.0
        })
    }

    fn check_feature(&self, feature: usize) -> Result<(), SteeringError> {
        match feature < self.features {
            true => Ok(()),
            false => Err(SteeringError::OutOfRange {
                name: "feature",
                given: feature as f64,
                range: "below the number of features",
            }),
        }
    }

    fn check_code(&self, code: &[f32]) -> Result<(), SteeringError> {
        width("code of the autoencoder", code.len(), self.features)
    }

    fn normalised(&self, row: &[f32]) -> Result<(Vec<f32>, Undo), SteeringError> {
        width("row for the autoencoder", row.len(), self.d_model)?;
        // as in the file format's reference: added to the deviation, not under its root
        const EPSILON: f64 = 1e-5;
        let d = self.d_model as f64;
        match self.normalisation {
            Normalisation::None => Ok((
                row.to_vec(),
                Undo {
                    factor: 1.0,
                    offset: 0.0,
                },
            )),
            Normalisation::ConstantNorm => {
                let length = norm(row);
                let factor = if length > 0.0 { d.sqrt() / length } else { 1.0 };
                let undo = Undo {
                    factor: (1.0 / factor) as f32,
                    offset: 0.0,
                };
                Ok((crate::linalg::scaled(row, factor), undo))
            }
            Normalisation::LayerNorm => {
                let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / d;
                let squares: f64 = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum();
                let deviation = (squares / (d - 1.0).max(1.0)).sqrt();
                let undo = Undo {
                    factor: deviation as f32,
                    offset: mean as f32,
                };
                let scale = 1.0 / (deviation + EPSILON);
                Ok((
                    row.iter()
                        .map(|x| ((f64::from(*x) - mean) * scale) as f32)
                        .collect(),
                    undo,
                ))
            }
        }
    }
}

fn width(what: &str, given: usize, wanted: usize) -> Result<(), SteeringError> {
    match given == wanted {
        true => Ok(()),
        false => Err(SteeringError::Width {
            what: what.to_owned(),
            given,
            wanted,
        }),
    }
}

/// Keeps the `k` largest values, the first of equals, and of these the positive ones.
fn keep_largest(code: &mut [f32], k: usize) {
    let mut order: Vec<usize> = (0..code.len()).collect();
    order.sort_by(|&a, &b| code[b].total_cmp(&code[a]));
    for &index in order.iter().skip(k) {
        code[index] = 0.0;
    }
    code.iter_mut().for_each(|p| *p = p.max(0.0));
}
