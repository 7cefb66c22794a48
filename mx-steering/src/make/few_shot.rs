//! Vectors by gradient descent on a few examples (Dunefsky & Cohan 2025, arXiv 2502.18862), as Mechanex's `few-shot`.
//!
//! For every place on its own, v minimises
//!
//! > Σ over wanted answers Σₖ −ln(pₖ + ε)  +  Σ over unwanted answers Σₖ −ln(1 − pₖ + ε),   p = softmax(c · logits)
//!
//! over the answers' tokens, while the model runs with v added at every position. The loop, the loss and Adam are here;
//! the model is a [`SteeredModel`], commonly a closure over a forward pass that mixes `v` into the stream.

use super::{TokenPair, Watch, tell};
use crate::error::{ModelError, SteeringError};
use crate::linalg::{norm, unit};
use crate::point::Point;
use crate::vector::{Method, SteeringVector};
use burn::prelude::*;
use burn::tensor::activation::softmax;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// A text whose answer is to become likely or unlikely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Prompt and answer.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt, at least one.
    pub prompt_len: usize,
    /// Whether the answer is wanted.
    pub promote: bool,
}

impl Target {
    /// The answer's tokens.
    pub fn answer(&self) -> &[u32] {
        self.tokens.get(self.prompt_len..).unwrap_or_default()
    }

    /// The positions whose logits predict the answer's tokens.
    pub fn predicting(&self) -> Range<usize> {
        self.prompt_len.saturating_sub(1)..self.tokens.len().saturating_sub(1)
    }

    /// The targets of pairs: all positives, then all negatives there are.
    pub fn of_pairs(pairs: &[TokenPair]) -> Vec<Target> {
        let target = |pair: &TokenPair, tokens: &[u32], promote| Target {
            tokens: tokens.to_vec(),
            prompt_len: pair.prompt_len,
            promote,
        };
        let positives = pairs.iter().map(|pair| target(pair, &pair.positive, true));
        let negatives = pairs
            .iter()
            .filter_map(|pair| Some(target(pair, pair.negative.as_deref()?, false)));
        positives.chain(negatives).collect()
    }
}

/// A model that can be differentiated by a vector that is added to its stream.
///
/// Every closure `(place, targets, vector) → logits` is one. A model that keeps work between steps implements the trait
/// itself: what lies below the place does not depend on the vector and can be computed once, in
/// [`prepare`](SteeredModel::prepare); targets of one pair share their prompt.
pub trait SteeredModel {
    /// Called once before the steps at a place, with all its targets.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn prepare(&mut self, point: Point, targets: &[Target]) -> Result<(), ModelError> {
        let _ = (point, targets);
        Ok(())
    }

    /// For each of `targets[which]` the logits `[answer tokens, vocab]` at its [predicting](Target::predicting)
    /// positions, with `vector` (`[d_model]`, tracked) added at `point` of every position.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn answer_logits(
        &mut self,
        point: Point,
        targets: &[Target],
        which: Range<usize>,
        vector: &Tensor<1>,
    ) -> Result<Vec<Tensor<2>>, ModelError>;
}

impl<F> SteeredModel for F
where
    F: FnMut(Point, &[Target], &Tensor<1>) -> Result<Vec<Tensor<2>>, ModelError>,
{
    fn answer_logits(
        &mut self,
        point: Point,
        targets: &[Target],
        which: Range<usize>,
        vector: &Tensor<1>,
    ) -> Result<Vec<Tensor<2>>, ModelError> {
        self(point, targets.get(which).unwrap_or_default(), vector)
    }
}

/// Where the descent starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// A random direction of length 1. The seed and the place determine it.
    Seed(u64),
    /// This vector.
    Vector(Vec<f32>),
}

/// How the descent goes; the defaults are those of Mechanex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FewShotOptions {
    /// The start; seed 0 by default.
    pub start: Start,
    /// Iterations, counted as Mechanex does: `iterations + 1` steps are taken. 20 by default.
    pub iterations: usize,
    /// Step size of Adam, 0.1 by default.
    pub learning_rate: f64,
    /// Factor c on the logits, 0.7 by default.
    pub coldness: f64,
    /// ε inside the logarithms, and the change of the loss below which it stops; 1e-6 by default.
    pub epsilon: f64,
    /// Longest vector; a longer one is scaled back after its step. None by default.
    pub max_norm: Option<f64>,
    /// Loss at which it stops. None by default.
    pub target_loss: Option<f64>,
    /// Aim at the target loss itself, by the squared distance to it, instead of stopping there. Off by default.
    pub satisfice: bool,
    /// Targets run at once; fewer take less memory, the result differs by rounding only. 16 by default.
    pub batch: usize,
}

impl Default for FewShotOptions {
    fn default() -> Self {
        FewShotOptions {
            start: Start::Seed(0),
            iterations: 20,
            learning_rate: 0.1,
            coldness: 0.7,
            epsilon: 1e-6,
            max_norm: None,
            target_loss: None,
            satisfice: false,
            batch: 16,
        }
    }
}

/// Why a descent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All steps were taken.
    Iterations,
    /// The loss no longer changed.
    Converged,
    /// The target loss was reached.
    TargetLoss,
}

/// The course of a descent at one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descent {
    /// Where.
    pub point: Point,
    /// The loss before each step, and at the end where it stopped early.
    pub losses: Vec<f64>,
    /// Length of the vector after each step.
    pub norms: Vec<f64>,
    /// The first gradient.
    pub first_gradient: Vec<f32>,
    /// Why it ended.
    pub ended: Ended,
}

/// Finds a vector for each place, one descent after the other. Strength 1 is what was optimised.
///
/// # Errors
/// [`SteeringError`] where targets are empty or have no prompt, an option is out of range, the model fails or gives
/// other shapes, a number overflows, or the watch stops it.
pub fn few_shot(
    points: &[Point],
    targets: &[Target],
    d_model: usize,
    device: &Device,
    options: &FewShotOptions,
    model: &mut dyn SteeredModel,
    watch: &mut Watch<'_>,
) -> Result<(SteeringVector, Vec<Descent>), SteeringError> {
    check(points, targets, d_model, options)?;
    let mut directions = BTreeMap::new();
    let mut descents = Vec::with_capacity(points.len());
    let steps = options.iterations.saturating_add(1);
    for (index, &point) in points.iter().enumerate() {
        model
            .prepare(point, targets)
            .map_err(SteeringError::Model)?;
        let mut descend = Descend {
            point,
            targets,
            device: device.clone().autodiff(),
            options,
            model: &mut *model,
        };
        let mut on_step = |step: usize, loss: Option<f64>| {
            let done = index.saturating_mul(steps).saturating_add(step);
            tell(watch, done, points.len().saturating_mul(steps), loss)
        };
        let (vector, descent) = descend.run(start(options, point, d_model), &mut on_step)?;
        directions.insert(point, vector);
        descents.push(descent);
    }
    let mut vector = SteeringVector::new(Method::FewShot, directions)?;
    vector.provenance.pairs = Some(targets.iter().filter(|target| target.promote).count());
    if let Start::Seed(seed) = options.start {
        vector.provenance.seed = Some(seed);
    }
    Ok((vector, descents))
}

fn check(
    points: &[Point],
    targets: &[Target],
    d_model: usize,
    options: &FewShotOptions,
) -> Result<(), SteeringError> {
    let empty = |what, wanted| Err(SteeringError::Empty { what, wanted });
    if points.is_empty() {
        return empty("list of layers", "at least one layer");
    }
    if targets.iter().all(|target| target.answer().is_empty()) {
        return empty("list of answers", "at least one answer with tokens");
    }
    let range = |name, given, range| Err(SteeringError::OutOfRange { name, given, range });
    if targets.iter().any(|target| target.prompt_len == 0) {
        return range(
            "prompt_len",
            0.0,
            "at least 1: the first token of an answer needs one that predicts it",
        );
    }
    if options.batch == 0 {
        return range("batch", 0.0, "at least 1");
    }
    for (name, given) in [
        ("learning_rate", options.learning_rate),
        ("coldness", options.coldness),
        ("epsilon", options.epsilon),
        ("max_norm", options.max_norm.unwrap_or(1.0)),
    ] {
        if !(given > 0.0 && given.is_finite()) {
            return range(name, given, "a finite number above 0");
        }
    }
    if options.satisfice && options.target_loss.is_none() {
        return empty("target_loss", "the loss to aim at, which satisfice needs");
    }
    match &options.start {
        Start::Vector(vector) if vector.len() != d_model => Err(SteeringError::Width {
            what: "start vector".to_owned(),
            given: vector.len(),
            wanted: d_model,
        }),
        _ => Ok(()),
    }
}

/// The start at a place. Two normal draws come from two uniform ones (Box–Muller); normal numbers have no preferred
/// direction.
fn start(options: &FewShotOptions, point: Point, d_model: usize) -> Vec<f32> {
    let seed = match &options.start {
        Start::Vector(vector) => return vector.clone(),
        Start::Seed(seed) => *seed,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(point.layer as u64 * 8 + point.site as u64);
    // in (0, 1]: its logarithm is finite
    let mut uniform = || ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let normal: Vec<f32> = (0..d_model)
        .map(|_| {
            let (u, v) = (uniform(), uniform());
            ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
        })
        .collect();
    unit(&normal).unwrap_or(normal)
}

/// One descent.
struct Descend<'a> {
    point: Point,
    targets: &'a [Target],
    device: Device,
    options: &'a FewShotOptions,
    model: &'a mut dyn SteeredModel,
}

impl Descend<'_> {
    fn run(
        &mut self,
        mut vector: Vec<f32>,
        on_step: &mut dyn FnMut(usize, Option<f64>) -> Result<(), SteeringError>,
    ) -> Result<(Vec<f32>, Descent), SteeringError> {
        let options = self.options;
        let mut adam = Adam::new(vector.len(), options.learning_rate);
        let mut descent = Descent {
            point: self.point,
            losses: Vec::new(),
            norms: Vec::new(),
            first_gradient: Vec::new(),
            ended: Ended::Iterations,
        };
        for step in 0..=options.iterations {
            on_step(step, descent.losses.last().copied())?;
            let (loss, mut gradient) = self.loss_and_gradient(&vector)?;
            let previous = descent.losses.last().copied();
            descent.losses.push(loss);
            if step == 0 {
                descent.first_gradient.clone_from(&gradient);
            }
            if previous.is_some_and(|previous| (loss - previous).abs() < options.epsilon) {
                descent.ended = Ended::Converged;
                break;
            }
            if let Some(target) = options.target_loss {
                if options.satisfice {
                    // d/dv (loss − target)²
                    let outer = (2.0 * (loss - target)) as f32;
                    gradient.iter_mut().for_each(|g| *g *= outer);
                } else if loss <= target {
                    descent.ended = Ended::TargetLoss;
                    break;
                }
            }
            adam.step(&mut vector, &gradient);
            if let Some(most) = options.max_norm {
                let length = norm(&vector);
                if length > most {
                    vector = crate::linalg::scaled(&vector, most / length);
                }
            }
            descent.norms.push(norm(&vector));
        }
        Ok((vector, descent))
    }

    /// The loss over all targets, and its gradient by the vector.
    fn loss_and_gradient(&mut self, vector: &[f32]) -> Result<(f64, Vec<f32>), SteeringError> {
        let (mut loss, mut gradient) = (0.0, vec![0.0f32; vector.len()]);
        for start in (0..self.targets.len()).step_by(self.options.batch) {
            let which = start
                ..self
                    .targets
                    .len()
                    .min(start.saturating_add(self.options.batch));
            let tracked = Tensor::<1>::from_floats(vector, &self.device).require_grad();
            let targets = self.targets;
            let logits = self
                .model
                .answer_logits(self.point, targets, which.clone(), &tracked)
                .map_err(SteeringError::Model)?;
            if logits.len() != which.len() {
                return Err(SteeringError::Closure {
                    what: "rows of logits",
                    given: logits.len(),
                    wanted: which.len(),
                });
            }
            let mut total: Option<Tensor<1>> = None;
            for (logits, target) in logits.into_iter().zip(&targets[which]) {
                if let Some(part) = self.loss(logits, target)? {
                    total = Some(match total {
                        Some(total) => total + part,
                        None => part,
                    });
                }
            }
            let Some(total) = total else {
                continue;
            };
            let gradients = total.backward();
            loss += f64::from(read(total)?[0]);
            if let Some(part) = tracked.grad(&gradients) {
                let part = read(part)?;
                gradient.iter_mut().zip(part).for_each(|(g, p)| *g += p);
            }
        }
        if let Some(&given) = gradient
            .iter()
            .chain([&(loss as f32)])
            .find(|x| !x.is_finite())
        {
            let what = format!("loss or gradient at {}", self.point);
            return Err(SteeringError::NotFinite { what, given });
        }
        Ok((loss, gradient))
    }

    /// The loss of one target, `[1]`; `None` where it has no answer. `logits` is `[answer tokens, vocab]`.
    fn loss(&self, logits: Tensor<2>, target: &Target) -> Result<Option<Tensor<1>>, SteeringError> {
        let answer = target.answer();
        if answer.is_empty() {
            return Ok(None);
        }
        let [rows, vocab] = logits.dims();
        if rows != answer.len() {
            return Err(SteeringError::Closure {
                what: "logits for an answer",
                given: rows,
                wanted: answer.len(),
            });
        }
        if let Some(&token) = answer.iter().find(|&&token| token as usize >= vocab) {
            return Err(SteeringError::OutOfRange {
                name: "token",
                given: f64::from(token),
                range: "below the vocabulary's size",
            });
        }
        let FewShotOptions {
            coldness, epsilon, ..
        } = self.options;
        let indices: Vec<i32> = answer.iter().map(|&token| token as i32).collect();
        let indices =
            Tensor::<2, Int>::from_data(TensorData::new(indices, [rows, 1]), &logits.device());
        let p = softmax(logits * *coldness, 1).gather(1, indices);
        let likelihood = match target.promote {
            true => p,
            false => -p + 1.0,
        };
        Ok(Some(-(likelihood + *epsilon).log().sum()))
    }
}

fn read(tensor: Tensor<1>) -> Result<Vec<f32>, SteeringError> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| SteeringError::Model(error.to_string().into()))
}

/// Adam (Kingma & Ba 2015, arXiv 1412.6980).
struct Adam {
    rate: f64,
    first: Vec<f64>,
    second: Vec<f64>,
    steps: i32,
}

impl Adam {
    const BETA_1: f64 = 0.9;
    const BETA_2: f64 = 0.999;
    const EPSILON: f64 = 1e-8;

    fn new(width: usize, rate: f64) -> Self {
        Adam {
            rate,
            first: vec![0.0; width],
            second: vec![0.0; width],
            steps: 0,
        }
    }

    fn step(&mut self, vector: &mut [f32], gradient: &[f32]) {
        self.steps = self.steps.saturating_add(1);
        let first_bias = 1.0 - Self::BETA_1.powi(self.steps);
        let second_bias = 1.0 - Self::BETA_2.powi(self.steps);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((x, g), (m, v)) in vector.iter_mut().zip(gradient).zip(moments) {
            let g = f64::from(*g);
            *m = Self::BETA_1 * *m + (1.0 - Self::BETA_1) * g;
            *v = Self::BETA_2 * *v + (1.0 - Self::BETA_2) * g * g;
            let change =
                self.rate * (*m / first_bias) / ((*v / second_bias).sqrt() + Self::EPSILON);
            *x = (f64::from(*x) - change) as f32;
        }
    }
}

#[cfg(test)]
#[path = "few_shot_tests.rs"]
mod tests;
