//! Training a small autoencoder on rows of a model: enough to watch behaviours of a model that nobody published one for.

use super::{Architecture, Sae, SaeParts};
use crate::error::SteeringError;
use crate::linalg::{mean_row, norm};
use crate::make::{Watch, tell};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// How an autoencoder is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainOptions {
    /// Number of features, 256 by default.
    pub features: usize,
    /// Features active in a row, 8 by default.
    pub k: usize,
    /// Passes over the rows, 20 by default.
    pub epochs: usize,
    /// Step size, 0.05 by default.
    pub learning_rate: f64,
    /// Seed of the start and of the order of rows.
    pub seed: u64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        TrainOptions {
            features: 256,
            k: 8,
            epochs: 20,
            learning_rate: 0.05,
            seed: 0,
        }
    }
}

/// Trains a top-k autoencoder on rows (`d_model` numbers each, one behind the other; leave the attention sink out) and
/// returns it with the share of variance about the mean that it does not explain, after each epoch.
///
/// Plain stochastic gradient descent on |x − x̃|², rows scaled to mean length 1 meanwhile; decoder rows are kept at
/// length 1 and start at rows of the data, the encoder as their transpose.
///
/// # Errors
/// [`SteeringError`] where there are no rows, an option is out of range, numbers overflow, or the watch stops it.
pub fn train(
    rows: &[f32],
    d_model: usize,
    options: &TrainOptions,
    watch: &mut Watch<'_>,
) -> Result<(Sae, Vec<f64>), SteeringError> {
    let count = check(rows, d_model, options)?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut below = |n: usize| ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize;
    let mean = mean_row(rows, d_model).unwrap_or_default();
    let centred: Vec<f32> = rows
        .iter()
        .zip(mean.iter().cycle())
        .map(|(x, m)| x - m)
        .collect();
    let lengths: f64 = centred.chunks_exact(d_model).map(norm).sum();
    let scale = if lengths > 0.0 {
        (lengths / count as f64) as f32
    } else {
        1.0
    };
    let data: Vec<f32> = centred.iter().map(|x| x / scale).collect();
    let variance: f64 = data.iter().map(|x| f64::from(*x).powi(2)).sum();

    let n = options.features;
    let mut net = Net {
        d_model,
        k: options.k,
        encoder: vec![0.0; n * d_model],
        encoder_bias: vec![0.0; n],
        decoder: vec![0.0; n * d_model],
    };
    for feature in net.decoder.chunks_exact_mut(d_model) {
        let start = below(count) * d_model;
        feature.copy_from_slice(&data[start..start + d_model]);
        unit_or_axis(feature, start);
    }
    net.encoder.clone_from(&net.decoder);

    let mut order: Vec<usize> = (0..count).collect();
    let mut unexplained = Vec::with_capacity(options.epochs);
    for epoch in 0..options.epochs {
        tell(watch, epoch, options.epochs, unexplained.last().copied())?;
        for i in (1..count).rev() {
            order.swap(i, below(i + 1));
        }
        let mut rest = 0.0;
        for &row in &order {
            let row = &data[row * d_model..(row + 1) * d_model];
            rest += net.step(row, options.learning_rate as f32);
        }
        unexplained.push(if variance > 0.0 { rest / variance } else { 0.0 });
    }
    let sae = net.into_sae(mean, scale)?;
    Ok((sae, unexplained))
}

fn check(rows: &[f32], d_model: usize, options: &TrainOptions) -> Result<usize, SteeringError> {
    if d_model == 0 || rows.is_empty() || !rows.len().is_multiple_of(d_model) {
        return Err(SteeringError::Width {
            what: "rows to train on".to_owned(),
            given: rows.len(),
            wanted: rows.len().next_multiple_of(d_model.max(1)).max(d_model),
        });
    }
    if let Some(&given) = rows.iter().find(|x| !x.is_finite()) {
        let what = "a number of the rows to train on".to_owned();
        return Err(SteeringError::NotFinite { what, given });
    }
    let range = |name, given, range| Err(SteeringError::OutOfRange { name, given, range });
    if options.features == 0 || options.features > 1 << 20 {
        return range("features", options.features as f64, "from 1 to 1048576");
    }
    if options.k == 0 || options.k > options.features {
        return range("k", options.k as f64, "from 1 to the number of features");
    }
    if !(options.learning_rate > 0.0 && options.learning_rate <= 1.0) {
        return range("learning_rate", options.learning_rate, "in (0, 1]");
    }
    Ok(rows.len() / d_model)
}

/// The weights in training; encoder and decoder both `[features, d_model]`.
struct Net {
    d_model: usize,
    k: usize,
    encoder: Vec<f32>,
    encoder_bias: Vec<f32>,
    decoder: Vec<f32>,
}

impl Net {
    /// One step of descent on one row; returns |x − x̃|² before it.
    fn step(&mut self, row: &[f32], rate: f32) -> f64 {
        let d = self.d_model;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let mut active: Vec<(usize, f32)> = self
            .encoder
            .chunks_exact(d)
            .zip(&self.encoder_bias)
            .map(|(weights, bias)| dot(weights, row) + bias)
            .enumerate()
            .filter(|(_, p)| *p > 0.0)
            .collect();
        if active.len() > self.k {
            active.select_nth_unstable_by(self.k - 1, |a, b| b.1.total_cmp(&a.1));
            active.truncate(self.k);
        }
        let mut error: Vec<f32> = row.to_vec();
        for &(feature, z) in &active {
            let weights = &self.decoder[feature * d..(feature + 1) * d];
            error.iter_mut().zip(weights).for_each(|(e, w)| *e -= z * w);
        }
        for &(feature, z) in &active {
            let run = feature * d..(feature + 1) * d;
            let decoder = &mut self.decoder[run.clone()];
            let by_code = dot(decoder, &error);
            decoder
                .iter_mut()
                .zip(&error)
                .for_each(|(w, e)| *w += rate * z * e);
            unit_or_axis(decoder, feature);
            let encoder = &mut self.encoder[run];
            encoder
                .iter_mut()
                .zip(row)
                .for_each(|(w, x)| *w += rate * by_code * x);
            self.encoder_bias[feature] += rate * by_code;
        }
        error.iter().map(|e| f64::from(*e).powi(2)).sum()
    }

    /// The autoencoder in the units of the rows.
    fn into_sae(self, mean: Vec<f32>, scale: f32) -> Result<Sae, SteeringError> {
        let (d, n) = (self.d_model, self.encoder_bias.len());
        let mut w_enc = vec![0.0; d * n];
        for (feature, weights) in self.encoder.chunks_exact(d).enumerate() {
            for (i, w) in weights.iter().enumerate() {
                w_enc[i * n + feature] = *w;
            }
        }
        let parts = SaeParts {
            w_enc,
            b_enc: self.encoder_bias.iter().map(|b| b * scale).collect(),
            w_dec: self.decoder,
            b_dec: mean,
            ..SaeParts::default()
        };
        Sae::new(Architecture::TopK { k: self.k }, d, n, parts)
    }
}

/// Scales to length 1; a row of zeros becomes an axis.
fn unit_or_axis(row: &mut [f32], axis: usize) {
    let length = norm(row) as f32;
    if length > 0.0 {
        row.iter_mut().for_each(|x| *x /= length);
    } else if !row.is_empty() {
        let axis = axis % row.len();
        row[axis] = 1.0;
    }
}
