//! Selections without sorting: the k-th token, and the prefix that holds a given mass.

use crate::row::{Row, Shape, order_key};
use crate::simd::{self, BLOCK, Bins};

/// Bins of a selection by mass.
pub(crate) const BINS: usize = 2048;

/// Bins per nat of the key; what lies beyond the last bin shares it.
const BINS_PER_NAT: f64 = 64.0;

/// Blocks that the estimate of a radius looks at.
const SAMPLED_BLOCKS: usize = 16;

/// Share of the unwanted mass that the estimate places beyond the radius.
const RESERVE: f64 = 0.7;

/// Smallest radius that is tried, in bins.
const LEAST_RADIUS: usize = 128;

/// Below this many entries a selection by mass sorts.
const SORTED: usize = 32;

/// Blocks per group of the selection among block maxima.
const GROUP: usize = 16;

/// What a prefix by mass is ordered by. Ties follow the total order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MassOrder {
    /// Probability descending.
    Probability,
    /// Distance of `a = (x − max)/t` from this centre, ascending.
    Distance(f64),
}

impl Row<'_> {
    /// Keeps the first `k` tokens of the total order.
    pub(crate) fn keep_top(&mut self, k: usize) {
        let n = match self.shape {
            Shape::List(n) => n,
            _ => {
                let bound = self.top_bound(k);
                self.gather(bound)
            }
        };
        if n <= k {
            return;
        }
        let cut = self.nth_key(n, k);
        self.retain(|at, value| order_key(value, at) <= cut);
    }

    /// A logit that at least `k` tokens reach: the k-th largest block maximum.
    fn top_bound(&mut self, k: usize) -> f32 {
        let s = &mut *self.s;
        if k > s.block_max.len() {
            return f32::NEG_INFINITY;
        }
        // Maxima of groups of blocks bound the k-th block maximum in turn, so that only few are selected from.
        let groups = s.block_max.chunks(GROUP);
        let bound = if k <= groups.len() {
            s.keys.clear();
            s.keys.extend(
                groups.map(|group| order_key(group.iter().fold(f32::NEG_INFINITY, larger), 0)),
            );
            crate::row::key_value(*s.keys.select_nth_unstable(k - 1).1)
        } else {
            f32::NEG_INFINITY
        };
        s.keys.clear();
        s.keys.extend(
            s.block_max
                .iter()
                .filter(|x| **x >= bound)
                .map(|&x| order_key(x, 0)),
        );
        crate::row::key_value(*s.keys.select_nth_unstable(k - 1).1)
    }

    /// The key of the `k`-th of the first `n` list entries, counted from 1.
    fn nth_key(&mut self, n: usize, k: usize) -> u64 {
        let s = &mut *self.s;
        s.keys.clear();
        s.keys.extend(
            s.values[..n]
                .iter()
                .enumerate()
                .map(|(at, &x)| order_key(x, at)),
        );
        *s.keys.select_nth_unstable(k - 1).1
    }

    /// Fills `keys` with the first `m` tokens of the total order, sorted, and returns how many there are.
    ///
    /// The positions in the keys are positions of the present shape.
    pub(crate) fn sort_top(&mut self, m: usize) -> usize {
        let bound = match self.shape {
            Shape::List(_) => f32::NEG_INFINITY,
            _ => self.top_bound(m),
        };
        let Self {
            logits, s, shape, ..
        } = self;
        let values = match *shape {
            Shape::List(n) => &s.values[..n],
            _ => &logits[..],
        };
        s.keys.clear();
        s.keys.extend(
            values
                .iter()
                .enumerate()
                .filter(|(_, x)| **x >= bound && **x > f32::NEG_INFINITY)
                .map(|(at, &x)| order_key(x, at)),
        );
        if s.keys.len() > m {
            s.keys.select_nth_unstable(m);
            s.keys.truncate(m);
        }
        s.keys.sort_unstable();
        s.keys.len()
    }

    /// Keeps every token whose logit is at least `threshold`, and at least `min_keep` tokens.
    pub(crate) fn keep_at_least(&mut self, threshold: f64) {
        let threshold = crate::math::round_up_to_f32(threshold);
        if threshold == f32::NEG_INFINITY {
            return;
        }
        let kept = match self.shape {
            Shape::List(n) => self.s.values[..n]
                .iter()
                .filter(|x| **x >= threshold)
                .count(),
            _ if self.max < threshold => 0,
            _ => {
                let n = self.gather(threshold);
                if n < self.min_keep {
                    self.shape = Shape::Dense;
                }
                n
            }
        };
        if kept < self.min_keep {
            self.keep_top(self.min_keep);
        } else if self.len() > kept {
            self.retain(|_, value| value >= threshold);
        }
    }

    /// Keeps the shortest prefix of `order` with at least `fraction` of the mass: a token stays iff the mass
    /// before it is below `fraction` of the whole.
    pub(crate) fn keep_mass(&mut self, fraction: f64, order: MassOrder) {
        let target = fraction * self.total();
        let keys = Bins {
            max: f64::from(self.max),
            inv_t: 1.0 / self.t,
            centre: if let MassOrder::Distance(centre) = order {
                centre
            } else {
                0.0
            },
            per_nat: BINS_PER_NAT,
            last: (BINS - 1) as f64,
        };
        let chosen = match self.shape {
            Shape::List(n) => self.fill_bins(n, target, keys),
            _ => self.gather_mass(target, keys),
        };
        let n = self.len();
        let surely =
            |numbers: &[u16], bin: usize| numbers.iter().filter(|x| usize::from(**x) < bin).count();
        match chosen {
            Some((bin, _))
                if self.min_keep > 1 && surely(&self.s.numbers[..n], bin) < self.min_keep =>
            {
                self.cut_sorted(target, keys);
            }
            Some((bin, before)) => self.cut_in_bin(bin, before, target, keys),
            None => self.forget_sums(),
        }
        if matches!(order, MassOrder::Distance(_)) {
            self.refresh_max();
        }
    }

    /// Makes a list of everything near enough to the front of the order to hold the target mass, and finds the
    /// bin in which the target is reached, with the mass before it.
    ///
    /// Only what lies within a radius is gathered. The radius starts at an estimate from a sample of the row
    /// and grows until the bins inside it hold the target, so the estimate decides the cost and never the
    /// result.
    fn gather_mass(&mut self, target: f64, keys: Bins) -> Option<(usize, f64)> {
        let centre = keys.centre;
        let z = self.total();
        for bins in self.radii(target, z, keys).into_iter().chain([BINS]) {
            let radius = if bins >= BINS {
                f64::INFINITY
            } else {
                bins as f64 / BINS_PER_NAT
            };
            // A little lower, so that rounding cannot lose what belongs to the last bin inside.
            let threshold = f64::from(self.max) + self.t * (centre - radius * (1.0 + 1e-9) - 1e-9);
            let n = self.gather((threshold as f32).next_down());
            let chosen = self.fill_bins(n, target, keys);
            let enough = || {
                let inside = self.s.numbers[..n]
                    .iter()
                    .filter(|x| usize::from(**x) < bins);
                self.min_keep == 1 || inside.take(self.min_keep).count() == self.min_keep
            };
            if bins >= BINS || (chosen.is_some_and(|(bin, _)| bin < bins) && enough()) {
                return chosen;
            }
            self.shape = Shape::Dense;
        }
        None
    }

    /// Radii to try, in bins: one from the sample, then a few wider ones.
    fn radii(&mut self, target: f64, z: f64, keys: Bins) -> [usize; 4] {
        let blocks = self.s.block_max.len();
        let step = blocks.div_ceil(SAMPLED_BLOCKS);
        let mut sampled = 0;
        let mut n = 0;
        let s = &mut *self.s;
        for block in self.logits.chunks(BLOCK).step_by(step) {
            s.values[n..n + block.len()].copy_from_slice(block);
            n += block.len();
            sampled += 1;
        }
        let used = self.count_in_bins(n, keys);
        // Beyond the radius may lie what is not wanted, with some reserve for the chance of the sample.
        let scale = blocks as f64 / f64::from(sampled.max(1u32));
        let allowed = (z - target) * RESERVE / scale;
        let mut beyond = 0.0;
        let mut bins = used;
        while bins > LEAST_RADIUS && beyond + self.s.bins[bins - 1] <= allowed {
            bins -= 1;
            beyond += self.s.bins[bins];
        }
        let bins = bins.max(LEAST_RADIUS);
        [
            bins,
            bins + bins / 8 + 8,
            bins + bins / 2 + 32,
            2 * bins + 256,
        ]
        .map(|bins| bins.min(BINS))
    }

    /// Fills weights and bins of the list and finds the bin in which the target is reached.
    fn fill_bins(&mut self, n: usize, target: f64, keys: Bins) -> Option<(usize, f64)> {
        let used = self.count_in_bins(n, keys);
        let mut before = 0.0;
        for (bin, mass) in self.s.bins[..used].iter().enumerate() {
            if *mass > 0.0 && before + mass >= target {
                return Some((bin, before));
            }
            before += mass;
        }
        None
    }

    /// Fills weights, bin numbers and bins of the first `n` entries; returns how many bins are in use.
    fn count_in_bins(&mut self, n: usize, keys: Bins) -> usize {
        let s = &mut *self.s;
        simd::exp_list(
            self.backend,
            &s.values[..n],
            self.max,
            keys.inv_t as f32,
            &mut s.weights[..n],
            &mut s.block_sum,
        );
        simd::bin_numbers(self.backend, &s.values[..n], &keys, &mut s.numbers[..n]);
        let used = s.numbers[..n]
            .iter()
            .copied()
            .max()
            .map_or(0, |last| usize::from(last) + 1);
        s.bins[..used].fill(0.0);
        for (&number, &weight) in s.numbers[..n].iter().zip(&s.weights[..n]) {
            s.bins[usize::from(number) % BINS] += f64::from(weight);
        }
        used
    }

    /// Cuts the list at the entry of `chosen` where the mass reaches the target.
    fn cut_in_bin(&mut self, chosen: usize, before: f64, target: f64, keys: Bins) {
        let n = self.len();
        let s = &mut *self.s;
        // What lies behind the bin goes at once; the positions of what lies in it are noted on the way.
        s.keys.clear();
        let kept = simd::compact(
            self.backend,
            &mut s.ids,
            &mut s.values,
            &s.numbers[..n],
            chosen as u16,
            &mut s.keys,
        );
        let values = &s.values;
        let (max, inv_t) = (self.max, keys.inv_t as f32);
        let compare = |a: &u64, b: &u64| compare(&keys, values, *a as usize, *b as usize);
        let mass = |at: u64| f64::from(simd::exp_one((values[at as usize] - max) * inv_t));
        let last = last_by_mass(&mut s.keys, before, target, mass, compare);
        let mut removed = std::mem::take(&mut s.keys);
        removed.retain(|at| last.is_some_and(|last| compare(at, &last).is_gt()));
        removed.sort_unstable();
        self.shape = Shape::List(kept);
        self.forget_sums();
        self.remove(&removed);
        self.s.keys = removed;
    }

    /// Removes the entries at these positions, ascending, from the list.
    fn remove(&mut self, positions: &[u64]) {
        let Some(&first) = positions.first() else {
            return;
        };
        let n = self.len();
        let mut to = first as usize;
        for (i, &position) in positions.iter().enumerate() {
            let from = position as usize + 1;
            let end = positions.get(i + 1).map_or(n, |next| *next as usize);
            self.s.ids.copy_within(from..end, to);
            self.s.values.copy_within(from..end, to);
            to += end - from;
        }
        self.shape = Shape::List(to);
        self.forget_sums();
    }

    /// Cuts the list where the mass reaches the target, but not before `min_keep` tokens, by sorting it: for
    /// the rare case that the least number decides.
    fn cut_sorted(&mut self, target: f64, keys: Bins) {
        let n = self.len();
        let s = &mut *self.s;
        let values = &s.values;
        s.keys.clear();
        s.keys.extend(0..n as u64);
        s.keys
            .sort_unstable_by(|a, b| compare(&keys, values, *a as usize, *b as usize));
        let mut before = 0.0;
        let reached = s.keys.iter().position(|at| {
            before += f64::from(s.weights[*at as usize]);
            before >= target
        });
        let kept = reached.map_or(n, |at| at + 1).max(self.min_keep).min(n);
        let mut removed = std::mem::take(&mut s.keys);
        removed.drain(..kept);
        removed.sort_unstable();
        self.remove(&removed);
        self.s.keys = removed;
    }
}

/// The order of two entries of a list; ties follow the total order.
fn compare(bins: &Bins, values: &[f32], a: usize, b: usize) -> std::cmp::Ordering {
    let (x, y) = (values[a], values[b]);
    bins.key(x)
        .total_cmp(&bins.key(y))
        .then_with(|| order_key(x, a).cmp(&order_key(y, b)))
}

fn larger(a: f32, b: &f32) -> f32 {
    if *b > a { *b } else { a }
}

/// The entry at which the mass, summed in the order of `compare` and starting from `before`, first reaches
/// `target`; `None` when there are no entries.
fn last_by_mass(
    entries: &mut [u64],
    mut before: f64,
    target: f64,
    mass: impl Fn(u64) -> f64,
    compare: impl Fn(&u64, &u64) -> std::cmp::Ordering,
) -> Option<u64> {
    let mut rest = entries;
    while rest.len() > SORTED {
        let middle = rest.len() / 2;
        rest.select_nth_unstable_by(middle, &compare);
        let (left, right) = rest.split_at_mut(middle);
        let left_mass: f64 = left.iter().map(|&entry| mass(entry)).sum();
        if before + left_mass >= target {
            rest = left;
        } else {
            before += left_mass;
            rest = right;
        }
    }
    rest.sort_unstable_by(&compare);
    for &entry in rest.iter() {
        before += mass(entry);
        if before >= target {
            return Some(entry);
        }
    }
    // Rounding may leave the sum just short of a target that the halves had reached.
    rest.last().copied()
}
