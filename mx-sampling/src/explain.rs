//! What each step of a chain did to a row.

use crate::math;
use crate::row::{Row, Shape};

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Name of the step, of the processor, or `mask`.
    pub name: &'static str,
    /// Live tokens before the step.
    pub tokens_before: usize,
    /// Live tokens after it.
    pub tokens_after: usize,
    /// Mass of the removed tokens under the law before the step.
    pub mass_removed: f64,
    /// Entropy before, in nats.
    pub entropy_before: f64,
    /// Entropy after, in nats.
    pub entropy_after: f64,
}

/// What the steps of a chain did to one row; see [`Sampler::set_explain`](crate::Sampler::set_explain).
///
/// ```
/// use mx_sampling::{Sampler, SamplingOptions};
///
/// let options = SamplingOptions { top_k: Some(3), top_p: Some(0.6), ..Default::default() };
/// let mut sampler = Sampler::new(&options, 5, 0, 0)?;
/// sampler.set_explain(true);
/// sampler.sample(&mut [3.0, 2.0, 1.0, 0.0, f32::NEG_INFINITY], None)?;
/// let explanation = sampler.explanation().expect("it was asked for");
/// assert_eq!(explanation.removed_by(3).map(|step| step.name), Some("top_k"));
/// assert_eq!(explanation.removed_by(1).map(|step| step.name), Some("top_p"));
/// assert_eq!(explanation.removed_by(0), None);
///
/// // A closer look at one token: where it stood before each step.
/// sampler.watch(Some(1));
/// sampler.sample(&mut [3.0, 2.0, 1.0, 0.0, f32::NEG_INFINITY], None)?;
/// let stood = sampler.explanation().expect("it was asked for").watched();
/// assert_eq!(stood.iter().map(|at| at.map(|at| at.rank)).collect::<Vec<_>>(), [Some(1), Some(1)]);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explanation {
    /// The steps that ran, in their order.
    pub steps: Vec<StepReport>,
    /// For every token the number of the step that removed it, from 1; 0 for none.
    removed: Vec<u16>,
    /// Scaled logits after the last step, −inf for what is out.
    before: Vec<f64>,
    entropy: f64,
    z: f64,
    live: usize,
    /// The token that is looked at closely.
    watch: Option<u32>,
    watched: Vec<Option<Standing>>,
}

/// Where a token stands in a law; see [`Explanation::watched`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Its rank, from 0 for the most likely; lower ids first on ties.
    pub rank: usize,
    /// Its probability.
    pub probability: f64,
}

/// Marks a token that the model itself gave −inf.
const BY_MODEL: u16 = u16::MAX;

impl Explanation {
    /// The step that removed a token; `None` when it is still in, or when the model itself gave it −inf.
    #[must_use]
    pub fn removed_by(&self, token: u32) -> Option<&StepReport> {
        let step = *self.removed.get(token as usize)?;
        if step == BY_MODEL {
            None
        } else {
            self.steps.get(usize::from(step).checked_sub(1)?)
        }
    }

    /// Where the [watched](crate::Sampler::watch) token stood before each step; `None` for the steps after it was
    /// removed. Empty when none is watched.
    #[must_use]
    pub fn watched(&self) -> &[Option<Standing>] {
        &self.watched
    }

    pub(crate) fn watch(&mut self, token: Option<u32>) {
        self.watch = token;
    }

    fn standing(&self, token: u32) -> Option<Standing> {
        let own = *self.before.get(token as usize)?;
        let ahead = |(id, x): (usize, &f64)| *x > own || (*x == own && id < token as usize);
        (own > f64::NEG_INFINITY).then(|| Standing {
            rank: self
                .before
                .iter()
                .enumerate()
                .filter(|at| ahead(*at))
                .count(),
            probability: math::exp(own - largest(&self.before)) / self.z,
        })
    }

    /// Starts with the logits as the model gave them.
    pub(crate) fn start(&mut self, logits: &[f32]) {
        self.steps.clear();
        self.watched.clear();
        self.before.clear();
        self.before.extend(logits.iter().map(|&x| f64::from(x)));
        self.removed.clear();
        let mark = |x: &f64| if *x == f64::NEG_INFINITY { BY_MODEL } else { 0 };
        self.removed.extend(self.before.iter().map(mark));
        self.measure();
    }

    /// Compares the row with what it was after the last step.
    pub(crate) fn note(&mut self, name: &'static str, row: &Row<'_>) {
        if let Some(token) = self.watch {
            let standing = self.standing(token);
            self.watched.push(standing);
        }
        let scaled = |x: f32| f64::from(x) / row.t;
        let number = (self.steps.len() + 1).min(usize::from(BY_MODEL) - 1) as u16;
        let (before, z, entropy_before, max) =
            (self.live, self.z, self.entropy, largest(&self.before));
        let mut mass_removed = 0.0;
        let mut update = |token: usize, after: f64| {
            let slot = &mut self.before[token];
            if *slot > f64::NEG_INFINITY && after == f64::NEG_INFINITY {
                mass_removed += math::exp(*slot - max) / z;
                self.removed[token] = number;
            }
            *slot = after;
        };
        match row.shape {
            Shape::List(n) => {
                let mut listed = row.s.ids[..n].iter().zip(&row.s.values[..n]).peekable();
                for token in 0..row.logits.len() {
                    let entry = listed.next_if(|(id, _)| **id as usize == token);
                    update(token, entry.map_or(f64::NEG_INFINITY, |(_, &x)| scaled(x)));
                }
            }
            _ => row
                .logits
                .iter()
                .enumerate()
                .for_each(|(token, &x)| update(token, scaled(x))),
        }
        self.measure();
        self.steps.push(StepReport {
            name,
            tokens_before: before,
            tokens_after: self.live,
            mass_removed,
            entropy_before,
            entropy_after: self.entropy,
        });
    }

    fn measure(&mut self) {
        let max = largest(&self.before);
        let (mut z, mut az) = (0.0, 0.0);
        self.live = 0;
        for &x in self.before.iter().filter(|x| **x > f64::NEG_INFINITY) {
            let a = x - max;
            let e = math::exp(a);
            z += e;
            az += if e > 0.0 { a * e } else { 0.0 };
            self.live += 1;
        }
        self.z = z;
        self.entropy = if z > 0.0 {
            (math::ln(z) - az / z).max(0.0)
        } else {
            0.0
        };
    }
}

fn largest(values: &[f64]) -> f64 {
    values
        .iter()
        .fold(f64::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}
