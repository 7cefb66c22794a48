//! The distribution of one step while a chain works on it.
//!
//! A row starts *dense*: the logits themselves plus the maximum of every block of 64. The first truncation
//! turns it into a *list* of ids (ascending) and logits. Temperature is kept aside as a factor, so no step
//! rewrites the vocabulary; weights and sums are computed when a step asks for them and dropped when
//! something changes.

use crate::error::SamplingError;
use crate::simd::{self, BLOCK, Backend, Sums};

/// Buffers of one sampler, sized for the vocabulary at the first row and reused after it.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) block_max: Vec<f32>,
    pub(crate) block_sum: Vec<f64>,
    pub(crate) ids: Vec<u32>,
    pub(crate) values: Vec<f32>,
    pub(crate) weights: Vec<f32>,
    /// Keys of the total order or positions in the list, for selections.
    pub(crate) keys: Vec<u64>,
    /// Mass per bin, for selections by mass.
    pub(crate) bins: Vec<f64>,
    /// Bin of every list entry.
    pub(crate) numbers: Vec<u16>,
}

impl Scratch {
    /// Sizes the buffers; nothing is allocated when they already fit.
    pub(crate) fn fit(&mut self, vocab: usize) {
        let blocks = vocab.div_ceil(BLOCK);
        self.block_max.resize(blocks, f32::NEG_INFINITY);
        self.block_sum.resize(blocks, 0.0);
        // A gather writes whole vectors, of which only the first entries may count.
        self.ids.resize(vocab + BLOCK, 0);
        self.values.resize(vocab + BLOCK, 0.0);
        self.weights.resize(vocab, 0.0);
        self.numbers.resize(vocab, 0);
        self.keys.reserve(vocab.saturating_sub(self.keys.len()));
        self.bins.resize(crate::select::BINS, 0.0);
    }
}

/// Temperature beyond which nothing changes any more; keeps thresholds finite.
const HOTTEST: f64 = 1e30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The logits, not scanned since they were last changed.
    Unscanned,
    /// The logits, with the maximum of every block.
    Dense,
    /// The first so many entries of `ids` and `values`.
    List(usize),
}

/// The distribution of one step.
pub(crate) struct Row<'a> {
    pub(crate) logits: &'a mut [f32],
    pub(crate) s: &'a mut Scratch,
    pub(crate) backend: Backend,
    pub(crate) shape: Shape,
    /// Largest live logit, valid unless unscanned.
    pub(crate) max: f32,
    /// Temperature so far; the law is `softmax(x / t)`.
    pub(crate) t: f64,
    /// Valid for the present shape and temperature; weights and block sums are filled when it is.
    pub(crate) sums: Option<Sums>,
    /// Like `sums`, for a row of which only `Σ e^a` was asked for.
    total: Option<f64>,
    /// Least number of tokens a truncation keeps.
    pub(crate) min_keep: usize,
    /// NaN counts as −inf.
    pub(crate) sanitize: bool,
    /// +inf is a logit like any other (greedy, when sanitising).
    pub(crate) infinite: bool,
}

impl<'a> Row<'a> {
    pub(crate) fn new(logits: &'a mut [f32], s: &'a mut Scratch, backend: Backend) -> Self {
        s.fit(logits.len());
        Self {
            logits,
            s,
            backend,
            shape: Shape::Unscanned,
            max: f32::NEG_INFINITY,
            t: 1.0,
            sums: None,
            total: None,
            min_keep: 1,
            sanitize: false,
            infinite: false,
        }
    }

    /// Finds the maxima, applying `mask` first; refuses NaN, +inf and an empty row.
    pub(crate) fn scan(
        &mut self,
        mask: Option<&[u32]>,
        after: &'static str,
    ) -> Result<(), SamplingError> {
        if self.shape != Shape::Unscanned && mask.is_none() {
            return Ok(());
        }
        let mut max = match mask {
            Some(mask) => simd::mask_scan(self.backend, self.logits, mask, &mut self.s.block_max),
            None => simd::scan(self.backend, self.logits, &mut self.s.block_max),
        };
        if max.is_nan() || max == f32::INFINITY {
            self.check_each()?;
            for (token, x) in self.logits.iter_mut().enumerate() {
                if mask.is_some_and(|mask| (mask[token / 32] >> (token % 32)) & 1 == 0) {
                    *x = f32::NEG_INFINITY;
                }
            }
            max = simd::scan(self.backend, self.logits, &mut self.s.block_max);
        }
        // Only the sum of a sanitised row can still overflow to NaN.
        if max.is_nan() {
            max = self
                .s
                .block_max
                .iter()
                .fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
        }
        if max == f32::NEG_INFINITY {
            return Err(SamplingError::NoCandidates {
                vocab: self.logits.len(),
                after,
            });
        }
        self.max = max;
        self.shape = Shape::Dense;
        self.forget_sums();
        Ok(())
    }

    /// Looks at every logit: NaN becomes −inf when sanitising and is refused otherwise, +inf is refused.
    fn check_each(&mut self) -> Result<(), SamplingError> {
        for (token, x) in self.logits.iter_mut().enumerate() {
            if x.is_nan() && self.sanitize {
                *x = f32::NEG_INFINITY;
            } else if x.is_nan() || (*x == f32::INFINITY && !self.infinite) {
                return Err(SamplingError::InvalidLogits {
                    token: token as u32,
                    value: *x,
                });
            }
        }
        Ok(())
    }

    /// The logits of the present shape.
    pub(crate) fn values(&self) -> &[f32] {
        match self.shape {
            Shape::List(n) => &self.s.values[..n],
            _ => self.logits,
        }
    }

    /// Number of entries of the present shape; dense rows count −inf too.
    pub(crate) fn len(&self) -> usize {
        self.values().len()
    }

    /// The token id at a position of the present shape.
    pub(crate) fn id(&self, at: usize) -> u32 {
        match self.shape {
            Shape::List(_) => self.s.ids[at],
            _ => at as u32,
        }
    }

    /// Number of live tokens.
    pub(crate) fn live(&self) -> usize {
        match self.shape {
            Shape::List(n) => n,
            _ => simd::count_live(self.backend, self.logits),
        }
    }

    /// The sums, with block sums (and weights, for a list) filled.
    pub(crate) fn sums(&mut self) -> Sums {
        if let Some(sums) = self.sums {
            return sums;
        }
        let inv_t = (1.0 / self.t) as f32;
        let sums = match self.shape {
            Shape::List(n) => {
                let s = &mut *self.s;
                simd::exp_list(
                    self.backend,
                    &s.values[..n],
                    self.max,
                    inv_t,
                    &mut s.weights[..n],
                    &mut s.block_sum,
                )
            }
            _ => {
                let s = &mut *self.s;
                simd::exp_sums(
                    self.backend,
                    self.logits,
                    &s.block_max,
                    self.max,
                    inv_t,
                    &mut s.block_sum,
                )
            }
        };
        self.sums = Some(sums);
        sums
    }

    /// `Σ e^a`, with block sums (and weights, for a list) filled.
    pub(crate) fn total(&mut self) -> f64 {
        if let Some(sums) = self.sums {
            return sums.z;
        }
        if let Some(total) = self.total {
            return total;
        }
        if matches!(self.shape, Shape::List(_)) {
            return self.sums().z;
        }
        let s = &mut *self.s;
        let inv_t = (1.0 / self.t) as f32;
        let total = simd::exp_total(
            self.backend,
            self.logits,
            &s.block_max,
            self.max,
            inv_t,
            &mut s.block_sum,
        );
        self.total = Some(total);
        total
    }

    /// Forgets the sums, after a change of the row.
    pub(crate) fn forget_sums(&mut self) {
        self.sums = None;
        self.total = None;
    }

    /// Entropy in nats: `ln Z − Σ a·e^a / Z`.
    pub(crate) fn entropy(&mut self) -> f64 {
        let Sums { z, az } = self.sums();
        (crate::math::ln(z) - az / z).max(0.0)
    }

    /// `e^a` of the entry at `at`; the sums must be filled.
    pub(crate) fn weight(&self, at: usize) -> f32 {
        match self.shape {
            Shape::List(_) => self.s.weights[at],
            _ => simd::exp_one((self.logits[at] - self.max) * (1.0 / self.t) as f32),
        }
    }

    /// Divides the logits by `t`.
    pub(crate) fn heat(&mut self, t: f64) {
        if t != 1.0 {
            self.t = (self.t * t).min(HOTTEST);
            self.forget_sums();
        }
    }

    /// Turns a dense row into the list of everything with a logit of at least `threshold`.
    pub(crate) fn gather(&mut self, threshold: f32) -> usize {
        let s = &mut *self.s;
        let n = simd::gather(
            self.backend,
            self.logits,
            &s.block_max,
            threshold,
            &mut s.ids,
            &mut s.values,
        );
        self.shape = Shape::List(n);
        self.forget_sums();
        n
    }

    /// Turns the row into the list of its live tokens.
    pub(crate) fn make_list(&mut self) -> usize {
        match self.shape {
            Shape::List(n) => n,
            _ => self.gather(f32::NEG_INFINITY),
        }
    }

    /// Keeps the entries of the list for which `keep(position, logit)` holds.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize, f32) -> bool) {
        let n = self.make_list();
        let mut kept = 0;
        for at in 0..n {
            let (id, value) = (self.s.ids[at], self.s.values[at]);
            self.s.ids[kept] = id;
            self.s.values[kept] = value;
            kept += usize::from(keep(at, value));
        }
        self.shape = Shape::List(kept);
        self.forget_sums();
    }

    /// Recomputes the maximum of a list after its largest entries may have gone.
    pub(crate) fn refresh_max(&mut self) {
        if let Shape::List(n) = self.shape {
            self.max = self.s.values[..n]
                .iter()
                .fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
            self.forget_sums();
        }
    }

    /// Writes the row back into the logits: removed tokens −inf, temperature divided out.
    ///
    /// A cold row whose maximum would leave the range of `f32` is written relative to it, which is the same law; what
    /// is below the range then stays finite, since it was not removed.
    pub(crate) fn write_back(&mut self) {
        let t = self.t;
        let max = f64::from(self.max);
        let shift = if t != 1.0 && (max / t).abs() > f64::from(f32::MAX) {
            max
        } else {
            0.0
        };
        let scale = |x: f32| {
            if t == 1.0 || x == f32::NEG_INFINITY {
                x
            } else {
                ((f64::from(x) - shift) / t).max(f64::from(f32::MIN)) as f32
            }
        };
        match self.shape {
            Shape::List(n) => {
                self.logits.fill(f32::NEG_INFINITY);
                for at in 0..n {
                    self.logits[self.s.ids[at] as usize] = scale(self.s.values[at]);
                }
            }
            _ if t != 1.0 => self.logits.iter_mut().for_each(|x| *x = scale(*x)),
            _ => {}
        }
        self.t = 1.0;
        self.shape = Shape::Unscanned;
        self.forget_sums();
    }

    /// The first token of the total order.
    pub(crate) fn argmax(&self) -> u32 {
        match self.shape {
            Shape::List(n) => {
                let at = self.s.values[..n]
                    .iter()
                    .position(|&x| x == self.max)
                    .unwrap_or(0);
                self.s.ids[at]
            }
            _ => {
                let block = self
                    .s
                    .block_max
                    .iter()
                    .position(|&x| x == self.max)
                    .unwrap_or(0);
                let first = block * BLOCK;
                let inside = self.logits[first..]
                    .iter()
                    .position(|&x| x == self.max)
                    .unwrap_or(0);
                (first + inside) as u32
            }
        }
    }

    /// The smallest id whose cumulative weight exceeds `u` times the total, and its weight.
    pub(crate) fn draw(&mut self, u: f64) -> (u32, f64) {
        let target = u * self.total();
        let len = self.len();
        let mut before = 0.0;
        let mut last = None;
        for block in 0..len.div_ceil(BLOCK) {
            let mass = self.s.block_sum[block];
            // A zero block can never hold the token, also for u = 0.
            if mass == 0.0 {
                continue;
            }
            last = Some(block);
            if before + mass > target {
                break;
            }
            before += mass;
        }
        let first = last.unwrap_or(0) * BLOCK;
        let mut chosen = (first, 0.0);
        for at in first..len.min(first + BLOCK) {
            let weight = f64::from(self.weight(at));
            if weight == 0.0 {
                continue;
            }
            chosen = (at, weight);
            before += weight;
            // Rounding of the block sum may leave the target just past the block's last token: that one
            // is taken then.
            if before > target {
                break;
            }
        }
        (self.id(chosen.0), chosen.1)
    }
}

/// Key of the total order: logit descending, then position ascending.
///
/// Positions of a row or a list ascend with the token id, so the key orders tokens too. Adding 0 makes
/// −0 equal to +0.
pub(crate) fn order_key(value: f32, at: usize) -> u64 {
    let bits = (value + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 {
        !bits
    } else {
        bits | 0x8000_0000
    };
    (u64::from(!ascending) << 32) | at as u64
}

/// The logit in a key of the total order.
pub(crate) fn key_value(key: u64) -> f32 {
    let ascending = !((key >> 32) as u32);
    f32::from_bits(if ascending >> 31 == 1 {
        ascending & 0x7fff_ffff
    } else {
        !ascending
    })
}

/// The position in a key of the total order.
pub(crate) fn key_position(key: u64) -> usize {
    (key & 0xffff_ffff) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_total_order() {
        let values = [f32::NEG_INFINITY, -3.0, -0.0, 0.0, 1e-30, 2.5];
        for (a, &x) in values.iter().enumerate() {
            assert_eq!(key_value(order_key(x, a)), x);
            assert_eq!(key_position(order_key(x, a)), a);
            for (b, &y) in values.iter().enumerate() {
                let wanted = y.partial_cmp(&x).map(|o| o.then(a.cmp(&b)));
                assert_eq!(
                    Some(order_key(x, a).cmp(&order_key(y, b))),
                    wanted,
                    "{x} {y}"
                );
            }
        }
    }
}
